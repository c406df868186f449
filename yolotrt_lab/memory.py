"""Host memory for frames: a pool of slots, made once, and leases that end when the GPU is done with the bytes.

Page-locked memory is what lets a copy run while the host goes on, and so it can be overwritten while the GPU
still reads it. A slot carries an event for that: it can be leased again once everything submitted with it has run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from .device import Device, Event, HostBuffer, Stream
from .errors import SlotInFlightError, member, whole
from .types import HostMemory, TensorSpec


class SlotState(IntEnum):
    """Who may touch a slot: nobody yet, the host, or the GPU."""

    FREE = 0
    LEASED = 1
    IN_FLIGHT = 2


FREE, LEASED, IN_FLIGHT = SlotState


@dataclass(slots=True, eq=False)
class _Memory:
    """What the leases of one slot have in common."""

    index: int
    event: Event
    inputs: dict[str, HostBuffer]
    outputs: dict[str, HostBuffer]
    state: SlotState = FREE
    lease: int = 0

    def slot(self, lease: int | None = None) -> Slot:
        """The slot, for one lease or for good."""
        slot = Slot()
        slot.index, slot.inputs, slot.outputs = self.index, self.inputs, self.outputs
        slot._memory, slot._lease = self, lease
        return slot


class Slot:
    """Host memory for one frame: `inputs` to write and upload, `outputs` to download and read, by tensor name.

    The host owns it from `lease` to `submitted`, the GPU from there to `wait`. What `lease` returned is good for one
    lease: SlotInFlightError where it is used once the slot is leased again. Those of `SlotPool.slots` are always good.
    """

    __slots__ = ("_lease", "_memory", "index", "inputs", "outputs")  # a constructor would take longer than a lease

    index: int
    inputs: dict[str, HostBuffer]
    outputs: dict[str, HostBuffer]
    _memory: _Memory
    _lease: int | None

    @property
    def input(self) -> HostBuffer:
        """The memory of the (first) input."""
        return next(iter(self.inputs.values()))

    @property
    def output(self) -> HostBuffer:
        """The memory of the (first) output."""
        return next(iter(self.outputs.values()))

    @property
    def state(self) -> SlotState:
        """Who may touch it."""
        return self._memory.state

    def submitted(self, stream: Stream) -> None:
        """Call after the last submission that uses this slot: from here on it is the GPU's."""
        memory = self._mine()
        stream.record(memory.event)
        memory.state = IN_FLIGHT

    def wait(self) -> None:
        """Hold the host until the GPU is done with the slot; its outputs can be read then.

        SlotInFlightError for a slot that is leased and was not submitted: nothing says when the GPU is done with it.
        """
        memory = self._mine()
        if memory.state is LEASED:
            raise SlotInFlightError(
                f"slot {self.index} must be submitted before it is waited for, got one that is only leased",
                fix="call slot.submitted(stream) after the last copy, or slot.release() if there was none",
            )
        memory.event.synchronize()
        memory.state = FREE

    def release(self) -> None:
        """Give the slot back without asking the event: the caller knows that the GPU is done (it synchronized)."""
        self._mine().state = FREE

    @property
    def in_flight(self) -> bool:
        """True while the GPU may still use the slot."""
        return self.state is IN_FLIGHT and not self._memory.event.done

    def _mine(self) -> _Memory:
        if self._lease is not None and self._lease != self._memory.lease:
            raise SlotInFlightError(
                f"slot {self.index} must be used within its lease, got one that is over: the slot was leased again",
                fix="call wait or release once for each lease, and drop the slot then",
            )
        return self._memory


class SlotPool:
    """`slots` slots with memory for the given tensors, all allocated here and never again.

    SettingsError for less than one slot, or memory of no kind, OutOfMemoryError where the memory can't be had.
    """

    def __init__(
        self,
        device: Device,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        slots: int,
        input_memory: HostMemory = HostMemory.PINNED,
        output_memory: HostMemory = HostMemory.PINNED,
    ) -> None:
        slots = whole("slots", slots, 1)
        input_memory = member("input_memory", HostMemory, input_memory)
        output_memory = member("output_memory", HostMemory, output_memory)
        self._memory = [
            _Memory(
                index, device.event(), _buffers(device, inputs, input_memory), _buffers(device, outputs, output_memory)
            )
            for index in range(slots)
        ]
        self.slots = [memory.slot() for memory in self._memory]
        self._next = 0

    @property
    def nbytes(self) -> int:
        """Host memory of all slots."""
        return sum(b.nbytes for slot in self.slots for b in (*slot.inputs.values(), *slot.outputs.values()))

    def lease(self, *, wait: bool = True) -> Slot:
        """The slot that was leased longest ago, for the host to write.

        If the GPU still uses it this waits, or raises SlotInFlightError with `wait=False`. A slot that was leased and
        never submitted or released is always refused: waiting for it would take for ever.
        """
        memory = self._memory[self._next]
        if memory.state is not FREE:
            self._free(self.slots[self._next], wait)
        memory.state = LEASED
        memory.lease += 1
        self._next = (self._next + 1) % len(self.slots)
        return memory.slot(memory.lease)

    def _free(self, slot: Slot, wait: bool) -> None:
        if slot.state is LEASED:
            raise SlotInFlightError(
                f"slot {slot.index} is leased already and was not submitted",
                fix="call slot.submitted(stream) or slot.release() for every lease, or make a pool with more slots",
            )
        if not wait and slot.in_flight:
            raise SlotInFlightError(
                f"the GPU still uses slot {slot.index}", fix="lease(wait=True), or make a pool with more slots"
            )
        slot.wait()


def _buffers(device: Device, specs: Sequence[TensorSpec], memory: HostMemory) -> dict[str, HostBuffer]:
    return {spec.name: device.empty_host(spec.shape, spec.dtype, memory) for spec in specs}
