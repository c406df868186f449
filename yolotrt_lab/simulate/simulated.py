"""The simulated device as a loop sees it: the calls of `Device`, on a simulated machine."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..device import Device, DeviceBuffer, Graph, HostBuffer, Kernel, Stream
from ..errors import CaptureError, DeviceError, SettingsError
from ..types import TELEMETRY_COLUMNS, HostMemory, Source, SourceKind, Span
from .conditions import Conditions, State
from .hazards import READ, TOUCH, WRITE, Touch, WatchedBuffer
from .machine import STREAM_SYNCHRONIZE, Machine, Range, SimulatedBuffer, TracedRange
from .preset import EngineCost, Preset, by_count
from .streams import SimulatedEvent, SimulatedStream, while_held
from .timeline import COMPUTE_ENGINE, DOWNLOAD_ENGINE, DRIVER, UPLOAD_ENGINE, StreamQueue, Task, Work
from .virtual_time import ROWS, VirtualQueue, VirtualThread

if TYPE_CHECKING:
    from .namespace import Namespace


_MOST_COPIES = 64  # that a piece of host memory remembers


@dataclass(slots=True, eq=False)
class _Copy:
    """What is the same each time that a copy is made from one place to another."""

    task: Task
    by_gpu: bool
    """From or to page-locked memory."""
    staged: bool
    """All of it fits the driver's staging memory."""
    duration_ns: int
    call_ns: int
    """The call blocks the host for this; one `by_gpu` for `busy_call_ns` where that is slow."""
    busy_call_ns: int
    tail_ns: int


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
        self.machine = Machine(preset, jitter=jitter, seed=seed, trace=trace, moves_bytes=moves_bytes)
        """What the simulation knows of itself; a GPU has none."""
        self._threads = self.machine.threads
        self.spans: list[Span] = self.machine.trace.spans if self.machine.trace else []
        self._turns: list[Work] = []
        """The pageable uploads that are in the driver, or wait for it."""

    @cached_property
    def namespace(self) -> Namespace:
        """CuPy's, TensorRT's and nvtx's names on this device."""
        from .namespace import Namespace

        return Namespace(self)

    # Conditions

    def use(self, conditions: Conditions | None) -> None:
        """From now on run under these conditions; None: as the preset was measured, without telemetry."""
        machine, state = self.machine, None
        if conditions is not None:
            held = lambda: (machine.memory.device_bytes, machine.memory.host_bytes)  # noqa: E731
            state = State(conditions, self.preset.other_processes, self.now_ns(), held)
        machine.state = state
        machine.timeline.elapsed = state.elapsed if state else None

    @property
    def conditions(self) -> Conditions | None:
        """The conditions in use."""
        return self.machine.state.conditions if self.machine.state else None

    def set_other_processes(self, count: int) -> None:
        """From now on so many other processes use the GPU.

        SettingsError for a negative number, where no conditions are in use, and where the preset does not say what
        other processes cost.
        """
        state = self.machine.state
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
        if self.machine.state is None:
            return {name: np.full(len(times_ns), np.nan) for name in TELEMETRY_COLUMNS}
        return self.machine.state.telemetry(times_ns)

    # The host's time

    def now_ns(self) -> int:
        """Virtual time of the host thread that asks."""
        return self._threads.now

    def wait_until_ns(self, time_ns: int) -> None:
        """Move this thread's clock on to `time_ns`."""
        if time_ns > self._threads.now:
            self._threads.now = time_ns
        self.machine.begin()

    def range(self, name: str) -> Range:
        """A range in `spans`; leaving it costs what the preset measured between two stages."""
        machine, cost_ns = self.machine, self.preset.range_ns
        if machine.trace is None:
            return Range(machine.threads, cost_ns)
        return TracedRange(machine.threads, cost_ns, machine.trace, name)

    def host_work(self, name: str) -> None:
        """The host moves megabytes for as long as the preset says of that work (0 if it has none)."""
        machine, duration_ns = self.machine, self.preset.host_work_ns.get(name, 0)
        if machine.state is not None:
            duration_ns = machine.state.host_work_ns(duration_ns)
        machine.threads.now += machine.spread(duration_ns)
        machine.warm = set()

    def start_thread(self, function: Callable[..., None], *arguments: Any) -> VirtualThread:
        """A host thread in virtual time."""
        return self.machine.threads.start(function, *arguments)

    def queue(self) -> VirtualQueue:
        """A queue in virtual time."""
        return VirtualQueue(self.machine.threads)

    # Memory

    def empty_host(self, shape: tuple[int, ...], dtype: Any, memory: HostMemory) -> WatchedBuffer:
        """NumPy memory that counts as `memory`. It is real: pages are not locked, only treated so."""
        return self.machine.memory.empty_host(shape, dtype, memory)

    def empty_device(self, nbytes: int) -> SimulatedBuffer:
        """Device memory; its bytes exist once they are touched."""
        return self.machine.memory.empty_device(nbytes)

    def check_idle(self, buffer: HostBuffer, verb: str) -> None:
        """HazardError if a copy may still use these bytes, which are to be 'read' or 'written'."""
        self.machine.hazards.check_idle(buffer, verb)

    # Streams

    def stream(self, *, priority: int = 0) -> SimulatedStream:
        """A new lane of the timeline."""
        return SimulatedStream(self.machine, priority)

    def event(self, *, timing: bool = False) -> SimulatedEvent:
        """A new event; all can be timed here."""
        return SimulatedEvent(self.machine)

    def synchronize(self) -> None:
        """Block the host until every lane is empty."""
        last = [lane.last for lane in self.machine.timeline.lanes if lane.last is not None]
        for work in last:
            self.machine.settle(work)
        self.machine.wait("cudaDeviceSynchronize", max(last, key=lambda work: work.end, default=None))
        for work in last:
            self.machine.hazards.learn(work)

    def capture(self, submit: Callable[[], None], stream: Any) -> Graph:
        """Collect what `submit` submits."""
        stream.begin_capture(submit)
        try:
            submit()
        finally:
            graph: Graph = stream.end_capture()
        return graph

    # Copies

    def upload(self, source: HostBuffer, target: DeviceBuffer, stream: Stream, offset: int = 0) -> None:
        """`cudaMemcpyAsync` host to device (from byte `offset` of it on), as the preset's hardware does it."""
        self._copy(UPLOAD_ENGINE, source, target, stream, offset)

    def download(self, source: DeviceBuffer, target: HostBuffer, stream: Stream, offset: int = 0) -> None:
        """`cudaMemcpyAsync` device (from byte `offset` of it on) to host, as the preset's hardware does it."""
        self._copy(DOWNLOAD_ENGINE, target, source, stream, offset)

    def _copy(self, engine: int, host: Any, device: Any, stream: Any, offset: int) -> None:
        try:
            copy: _Copy = host.copies[engine, device.address + offset]
        except (AttributeError, KeyError):
            copy = self._new_copy(engine, host, device, offset)
        machine, lane, task = self.machine, stream.lane, copy.task
        begin, action = machine.begin(), None
        if machine.moves_bytes:
            action = _mover(engine, host, weakref.ref(device), offset)
        if machine.captures and (graph := machine.capture_of(lane)) is not None:
            if not copy.by_gpu:
                raise CaptureError("a pageable copy cannot be captured into a graph", fix="use pinned memory")
            graph.add(task, copy.duration_ns, action, host)
            return
        if action is not None:
            action = partial(while_held, device, action)
        if copy.by_gpu:  # the call only submits it
            duration_ns, last = machine.spread(copy.duration_ns), lane.last
            busy = machine.is_cold(task.name) or (last is not None and not machine.is_done(last))
            call_ns = copy.busy_call_ns if busy else copy.call_ns
            if machine.state is not None:
                call_ns += machine.state.call_ns()
            machine.threads.now += machine.spread(call_ns)
            machine.submit(lane, task, begin + self.preset.submit_ns, duration_ns, 0, action, host)
        elif copy.staged:
            machine.threads.now += machine.spread(copy.call_ns)
            machine.submit(lane, task, machine.threads.now, machine.spread(copy.duration_ns), 0, action)
        else:
            self._copy_by_driver(copy, lane, action)
        if machine.trace is not None:
            machine.trace.keep("api", "cudaMemcpyAsync", begin)

    def _new_copy(self, engine: int, host: HostBuffer, device: SimulatedBuffer, offset: int) -> _Copy:
        """What the host memory remembers of it, if it is the device's own."""
        nbytes, by_gpu, preset = host.nbytes, host.memory.page_locked, self.preset
        if offset + nbytes > device.nbytes:
            raise DeviceError(
                f"a copy must fit device memory of {device.nbytes} bytes, got {nbytes}", fix="create more of it"
            )
        pinned, pageable, of_host, of_device = preset.pinned_download, preset.pageable_download, WRITE, READ
        if engine == UPLOAD_ENGINE:
            pinned, pageable, of_host, of_device = preset.pinned_upload, preset.pageable_upload, READ, WRITE
        touches: list[Touch] = [(device.region, of_device, offset, offset + nbytes)]
        if by_gpu and isinstance(host, WatchedBuffer):
            touches.append((host.region, of_host, host.address, host.address + nbytes))
        task = Task(engine, f"{host.memory} {ROWS[engine]}", nbytes, touches)
        staged = not by_gpu and nbytes <= pageable.staging_bytes
        call_ns = pinned.call_ns if by_gpu else pageable.call_ns + int(nbytes / pageable.rate)
        if staged:
            call_ns = pageable.staged_call_ns + int(nbytes / pageable.staged_rate)
        elif not by_gpu and engine == UPLOAD_ENGINE:
            task.engine, task.free_before = DRIVER, pageable.tail_ns  # the next may come when the call returns
        duration_ns = pinned.fixed_ns + int(nbytes / pinned.rate)
        copy = _Copy(task, by_gpu, staged, duration_ns, call_ns, pinned.busy_call_ns, pageable.tail_ns)
        if isinstance(host, WatchedBuffer) and len(host.copies) < _MOST_COPIES:
            host.copies[engine, device.address + offset] = copy
        return copy

    def _copy_by_driver(self, copy: _Copy, lane: StreamQueue, action: Callable[[], None] | None) -> None:
        """The driver makes the copy through its staging memory, once the stream is empty: the call takes all of it.

        Uploads of all threads take turns in it (14 to 15 GB/s together from 1 to 8 threads on an H200, where plain host
        copies scale to 95). Of downloads that was not measured: they have the copy engine.
        """
        machine, hold_ns, uploads, last = self.machine, copy.call_ns, copy.task.engine == DRIVER, lane.last
        if last is not None and not last.has_run(machine.threads.now):
            machine.hold_host(last)
        if uploads:
            self._turns = [each for each in self._turns if not each.has_run(machine.threads.now)]
            if self._turns:
                hold_ns = int(hold_ns * by_count(self.preset.upload_turn_times, len(self._turns) + 1))
        ready, duration_ns = machine.threads.now, machine.spread(hold_ns) + copy.tail_ns
        work = machine.submit(lane, copy.task, ready, duration_ns, 0, action)
        if uploads:
            self._turns.append(work)
        machine.hold_host(work, copy.tail_ns)
        machine.warm = set()
        if not uploads:
            machine.hazards.learn(work)
            machine.is_cold(STREAM_SYNCHRONIZE)  # the call has waited in the driver: the next wait is warm

    # Kernels

    def launch(
        self, kernel: Kernel, grid: tuple[int, int, int], arguments: Sequence[DeviceBuffer | np.generic], stream: Any
    ) -> None:
        """A kernel: its own time or the preset's for each frame of its batch; it computes where bytes are moved."""
        machine = self.machine
        begin = machine.begin()
        touches = [(each.region, TOUCH, 0, each.nbytes) for each in arguments if isinstance(each, SimulatedBuffer)]
        task = Task(COMPUTE_ENGINE, kernel.name, 0, touches)
        if kernel.duration_ns is not None:
            duration_ns = kernel.duration_ns(*arguments)
        else:
            duration_ns = self.preset.kernel_ns.get(kernel.name, 0) * grid[2]
            task.sharing = self.preset.kernel_sharing
        action = (lambda: kernel.reference(*map(_value_of, arguments))) if machine.moves_bytes else None
        if (graph := machine.capture_of(stream.lane)) is not None:
            graph.add(task, duration_ns, action)
            return
        machine.advance(self.preset.launch_ns)
        machine.submit(stream.lane, task, begin + self.preset.submit_ns, machine.spread(duration_ns), action=action)
        if machine.trace is not None:
            machine.trace.keep("api", "cudaLaunchKernel", begin)

    def run_kernels(self, task: Task, cost: EngineCost, stream: Any, action: Callable[[], Any] | None = None) -> None:
        """Submit the kernels of an engine, which are that task: the host launches for `enqueue_ns`, the GPU follows.

        HazardError where two inferences of one owner, a context, would run at once, and where memory races.
        """
        machine, lane = self.machine, stream.lane
        begin = machine.begin()
        if machine.captures and (graph := machine.capture_of(lane)) is not None:
            graph.add(replace(task, entries=1), cost.graph_gpu_ns, action)
            graph.capture_ns += round(self.preset.capture_times * cost.enqueue_ns)
            graph.launch_ns = (cost.graph_launch_ns, cost.cold_graph_launch_ns)
            graph.submit_ns = cost.graph_submit_ns
            return
        enqueue_ns = cost.cold_enqueue_ns if machine.is_cold(task.name) else cost.enqueue_ns
        if machine.state is not None:
            enqueue_ns = machine.state.enqueue_ns(enqueue_ns)
        machine.threads.now += machine.spread(enqueue_ns)
        end_from = machine.threads.now + cost.tail_ns if cost.tail_ns else 0
        machine.submit(lane, task, begin + self.preset.submit_ns, machine.spread(cost.gpu_ns), end_from, action)
        if machine.trace is not None:
            machine.trace.keep("api", "cudaLaunchKernel", begin)


def _mover(engine: int, host: HostBuffer, device: weakref.ref[SimulatedBuffer], offset: int) -> Callable[[], None]:
    """What moves the bytes when the copy runs; a pageable upload's are taken now, into staging memory."""
    raw, upload = host.raw, engine == UPLOAD_ENGINE
    source = raw.copy() if upload and not host.memory.page_locked else raw

    def move() -> None:
        if (target := device()) is not None:
            there = target.data[offset : offset + raw.size]
            np.copyto(there, source) if upload else np.copyto(raw, there)

    return move


def _value_of(argument: DeviceBuffer | np.generic) -> Any:
    """What a kernel's reference gets for an argument."""
    return argument.data if isinstance(argument, SimulatedBuffer) else argument
