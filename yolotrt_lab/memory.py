"""Host memory for frames: a pool of slots, made once, and leases that end when the GPU is done with the bytes.

Page-locked memory is what lets a copy run while the host goes on, and so it can be overwritten while the GPU
still reads it. A slot carries an event for that: it can be leased again once everything submitted with it has run.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from .device import Device, HostBuffer, Stream
from .errors import SettingsError, SlotInFlightError
from .types import HostMemory, TensorSpec


class SlotState(IntEnum):
    """Who may touch a slot: nobody yet, the host, or the GPU."""

    FREE = 0
    LEASED = 1
    IN_FLIGHT = 2


class Slot:
    """Host memory for one frame: `inputs` to write and upload, `outputs` to download and read, by tensor name.

    The host owns it from `lease` to `submitted`, the GPU from there to `wait`.
    """

    __slots__ = ("_event", "index", "inputs", "outputs", "state")

    def __init__(
        self, device: Device, index: int, inputs: dict[str, HostBuffer], outputs: dict[str, HostBuffer]
    ) -> None:
        self._event = device.event()
        self.index = index
        self.inputs = inputs
        self.outputs = outputs
        self.state = SlotState.FREE

    @property
    def input(self) -> HostBuffer:
        """The memory of the (first) input."""
        return next(iter(self.inputs.values()))

    @property
    def output(self) -> HostBuffer:
        """The memory of the (first) output."""
        return next(iter(self.outputs.values()))

    def submitted(self, stream: Stream) -> None:
        """Call after the last submission that uses this slot: from here on it is the GPU's."""
        stream.record(self._event)
        self.state = SlotState.IN_FLIGHT

    def wait(self) -> None:
        """Hold the host until the GPU is done with the slot; its outputs can be read then."""
        self._event.synchronize()
        self.release()

    def release(self) -> None:
        """Give the slot back without asking the event: the caller knows that the GPU is done (it synchronized)."""
        self.state = SlotState.FREE

    @property
    def in_flight(self) -> bool:
        """True while the GPU may still use the slot."""
        return self.state is SlotState.IN_FLIGHT and not self._event.done


class SlotPool:
    """`slots` slots with memory for the given tensors, all allocated here and never again.

    SettingsError for fewer than one slot, OutOfMemoryError where the memory can't be had.
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
        if slots < 1:
            raise SettingsError(
                f"slots must be at least 1, got {slots}", fix="use one slot for each frame in flight, at least 1"
            )
        self.slots = [
            Slot(device, index, _buffers(device, inputs, input_memory), _buffers(device, outputs, output_memory))
            for index in range(slots)
        ]
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
        slot = self.slots[self._next]
        if slot.state is SlotState.LEASED:
            raise SlotInFlightError(
                f"slot {slot.index} is leased already and was not submitted",
                fix="call slot.submitted(stream) or slot.release() for every lease, or make a pool with more slots",
            )
        if slot.state is SlotState.IN_FLIGHT:
            if not wait and slot.in_flight:
                raise SlotInFlightError(
                    f"the GPU still uses slot {slot.index}", fix="lease(wait=True), or make a pool with more slots"
                )
            slot.wait()
        slot.state = SlotState.LEASED
        self._next = (self._next + 1) % len(self.slots)
        return slot


def _buffers(device: Device, specs: Sequence[TensorSpec], memory: HostMemory) -> dict[str, HostBuffer]:
    return {spec.name: device.empty_host(spec.shape, spec.dtype, memory) for spec in specs}
