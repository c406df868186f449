"""The simulated device as a loop sees it: the calls of `Device`, on a simulated machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..device import Device, DeviceBuffer, HostBuffer, Kernel, Stream
from ..errors import SettingsError
from ..types import TELEMETRY_COLUMNS, HostMemory, Source, SourceKind, Span
from .calls import Captures, Kernels, SimulatedEvent, SimulatedGraph, SimulatedStream, downloads, uploads
from .conditions import Conditions, State
from .machine import Host, Machine, Range, SimulatedBuffer, Touch, WorkTime
from .preset import EngineCost, Preset
from .virtual_time import VirtualQueue, VirtualThread

if TYPE_CHECKING:
    from .namespace import Namespace


class SimulatedDevice(Device):
    """See the package. `jitter` is the standard deviation of the logarithm of every duration (0.05: about 5 %), drawn
    from `seed`. With `trace` every call and everything the GPU does is kept in `spans`. With `moves_bytes` copies
    really copy, which an engine needs that computes real outputs; without it only time passes.
    """

    kind = "simulated"

    def __init__(
        self,
        preset: Preset,
        *,
        jitter: float = 0.0,
        seed: int = 0,
        trace: bool = False,
        moves_bytes: bool = False,
    ) -> None:
        self.preset = preset
        self.source = Source(SourceKind.SIMULATED, preset.gpu, preset.driver, preset.date, preset.label)
        self._host = host = Host(preset, jitter=jitter, seed=seed, trace=trace)
        self.spans: list[Span] = [] if host.trace is None else host.trace.spans
        self._machine = machine = Machine(preset, host, moves_bytes)
        self._captures = Captures(machine)
        self._upload = uploads(machine, self._captures)
        self._download = downloads(machine, self._captures)
        self._kernels = Kernels(machine, self._captures)

    @property
    def moves_bytes(self) -> bool:
        """Whether copies copy and kernels compute; it may be turned on later."""
        return self._machine.moves_bytes

    @moves_bytes.setter
    def moves_bytes(self, moves: bool) -> None:
        self._machine.moves_bytes = moves

    @cached_property
    def namespace(self) -> Namespace:
        """CuPy's, TensorRT's and nvtx's names on this device."""
        from .namespace import Namespace

        return Namespace(self, self._machine, self._captures)

    # Conditions

    def use(self, conditions: Conditions | None) -> None:
        """From now on run under these conditions; None: as the preset was measured, without telemetry."""
        memory = self._machine.memory
        state = None
        if conditions is not None:
            held = lambda: (memory.device_bytes, memory.host_bytes)  # noqa: E731
            state = State(conditions, self.preset.other_processes, self.now_ns(), held)
        self._host.state = state
        self._machine.gpu.timeline.elapsed = state.elapsed if state else None

    @property
    def conditions(self) -> Conditions | None:
        """The conditions in use."""
        return self._host.state.conditions if self._host.state else None

    def set_other_processes(self, count: int) -> None:
        """From now on so many other processes use the GPU.

        SettingsError for a negative number, where no conditions are in use, and where the preset does not say what
        other processes cost.
        """
        state = self._host.state
        if state is None or count < 0:
            raise SettingsError(
                f"the number of other processes must be 0 or more, on a device under conditions, got {count}"
                + (" without conditions" if state is None else ""),
                fix="call device.use(Conditions()) before, and give 0 or more",
            )
        state.tick_until(self.now_ns())
        state.set_other_processes(count)

    def telemetry(self, times_ns: np.ndarray) -> dict[str, np.ndarray]:
        """`TELEMETRY_COLUMNS` as they were at these times, float64 (times,); NaN where no conditions are in use."""
        if self._host.state is None:
            return {name: np.full(len(times_ns), np.nan) for name in TELEMETRY_COLUMNS}
        return self._host.state.telemetry(times_ns)

    # The host's time

    def now_ns(self) -> int:
        """Virtual time of the host thread that asks."""
        return self._host.threads.now

    def wait_until_ns(self, time_ns: int) -> None:
        """Move this thread's clock on to `time_ns`."""
        self._host.advance_to(time_ns)
        self._host.begin()

    def range(self, name: str) -> Range:
        """A range in `spans`; leaving it costs what the preset measured between two stages."""
        return self._host.range(name)

    def host_work(self, name: str) -> WorkTime:
        """Adds the preset's cost of that work (0 if it has none) when it is left."""
        return self._host.work(name)

    def start_thread(self, function: Callable[..., None], *arguments: Any) -> VirtualThread:
        """A host thread in virtual time."""
        return self._host.threads.start(function, *arguments)

    def queue(self) -> VirtualQueue:
        """A queue in virtual time."""
        return VirtualQueue(self._host.threads)

    # Memory

    def empty_host(self, shape: tuple[int, ...], dtype: Any, memory: HostMemory) -> HostBuffer:
        """NumPy memory that counts as `memory`. It is real: pages are not locked, only treated so."""
        return self._machine.memory.empty_host(shape, dtype, memory)

    def empty_device(self, nbytes: int) -> SimulatedBuffer:
        """Device memory; its bytes exist once they are touched."""
        return self._machine.memory.empty_device(nbytes)

    def check_idle(self, buffer: HostBuffer, verb: str) -> None:
        """HazardError if a copy may still use these bytes, which are to be 'read' or 'written'."""
        self._machine.hazards.check_idle(buffer, verb)

    # Streams

    def stream(self, *, priority: int = 0) -> SimulatedStream:
        """A new lane of the timeline."""
        return SimulatedStream(self._machine, priority)

    def event(self, *, timing: bool = False) -> SimulatedEvent:
        """A new event; all can be timed here."""
        return SimulatedEvent(self._machine)

    def synchronize(self) -> None:
        """Block the host until every lane is empty."""
        gpu = self._machine.gpu
        lanes = [lane for lane in gpu.timeline.lanes if lane.last is not None]
        last = [lane.last for lane in lanes if lane.last is not None]
        for work in last:
            gpu.settle(work)
        clock = {lane.number: lane.count for lane in lanes}
        self._machine.wait("cudaDeviceSynchronize", max(last, key=lambda work: work.end, default=None), clock)

    def capture(self, submit: Callable[[], None], stream: Stream) -> SimulatedGraph:
        """Collect what `submit` submits."""
        assert isinstance(stream, SimulatedStream)
        return self._captures.capture(submit, stream.lane)

    # Copies and kernels

    def upload(self, source: HostBuffer, target: DeviceBuffer, stream: Stream, offset: int = 0) -> None:
        """`cudaMemcpyAsync` host to device (from byte `offset` of it on), as the preset's hardware does it."""
        self._upload(source, target, stream, offset)

    def download(self, source: DeviceBuffer, target: HostBuffer, stream: Stream, offset: int = 0) -> None:
        """`cudaMemcpyAsync` device (from byte `offset` of it on) to host, as the preset's hardware does it."""
        self._download(target, source, stream, offset)

    def launch(
        self, kernel: Kernel, grid: tuple[int, int, int], arguments: Sequence[DeviceBuffer | np.generic], stream: Stream
    ) -> None:
        """A kernel that takes the preset's time for each frame of its batch; it computes where bytes are moved."""
        self._kernels.launch(kernel, grid, arguments, stream)

    def run_kernels(
        self,
        name: str,
        cost: EngineCost,
        stream: Stream,
        action: Callable[[], Any] | None = None,
        owner: object = None,
        touches: Sequence[Touch] = (),
    ) -> None:
        """Submit the kernels of an engine: the host launches for `enqueue_ns`, the GPU follows. They read and write
        `touches`.

        HazardError where two inferences of one `owner`, a context, would run at once, and where memory races.
        """
        self._kernels.run(name, cost, stream, action, owner, touches)
