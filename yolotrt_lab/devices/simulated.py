"""A CUDA device in virtual time: it behaves as measured hardware does, on any machine, and the same every time.

What it models is what decides how long a call holds the host: streams in order, one copy engine a direction and one
compute engine, page-locked copies that the GPU makes by itself, pageable copies that the driver makes through staging
memory, and the launch queue. Its constants are a `Preset`, measured on a real GPU. What it shows is never a
measurement, and is stamped so.
"""

from __future__ import annotations

import random
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from math import exp, prod
from typing import Any

import numpy as np

from ..errors import CaptureError, DeviceError, HazardError
from ..types import TELEMETRY_COLUMNS, HostMemory, Source, SourceKind, Span
from .base import Device, DeviceBuffer, Event, HostBuffer, Kernel, Stream
from .conditions import Conditions, State
from .host_threads import VirtualQueue, VirtualThread, VirtualThreads
from .preset import EngineCost, PageableCopy, PinnedCopy, Preset, Registration
from .timeline import COMPUTE_ENGINE, DOWNLOAD_ENGINE, NO_ENGINE, PENDING, UPLOAD_ENGINE, Lane, Timeline, Work

_ROWS = {UPLOAD_ENGINE: "upload", COMPUTE_ENGINE: "kernel", DOWNLOAD_ENGINE: "download"}


class SimulatedBuffer:
    """Device memory. `data` holds its bytes where the device moves bytes at all."""

    _addresses = count(0x7F00_0000_0000, 1 << 32)

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.address = next(self._addresses)
        self._data: np.ndarray | None = None

    @property
    def data(self) -> np.ndarray:
        """The bytes, uint8 (nbytes,)."""
        if self._data is None:
            self._data = np.zeros(self.nbytes, np.uint8)
        return self._data


class SimulatedEvent:
    """An event; `work` is its latest mark."""

    def __init__(self, device: SimulatedDevice) -> None:
        self._device = device
        self.work: Work | None = None

    @property
    def done(self) -> bool:
        """True once everything in front of the mark has run; True if never recorded."""
        self._device._spend("cudaEventQuery", self._device.preset.query_ns)
        done = self.work is None or self._device._is_done(self.work)
        self._device._check_uploads()
        return done

    def synchronize(self) -> None:
        """Hold the host until `done`."""
        self._device._wait("cudaEventSynchronize", self.work)

    def elapsed_ns(self, earlier: Event) -> int:
        """Device time from `earlier` to this mark."""
        assert isinstance(earlier, SimulatedEvent)
        if self.work is None or earlier.work is None or PENDING in (self.work.end, earlier.work.end):
            raise DeviceError("elapsed_ns of events that have not been reached", fix="synchronize on both first")
        return self.work.end - earlier.work.end


class SimulatedStream:
    """A stream: one lane of the timeline."""

    handle = 0

    def __init__(self, device: SimulatedDevice, lane: Lane) -> None:
        self._device = device
        self.lane = lane

    def synchronize(self) -> None:
        """Hold the host until everything submitted so far has run."""
        self._device._wait("cudaStreamSynchronize", self.lane.last)

    def record(self, event: Event) -> None:
        """Put the event behind everything submitted so far."""
        assert isinstance(event, SimulatedEvent)
        device = self._device
        device._spend("cudaEventRecord", device.preset.record_ns)
        event.work = Work(NO_ENGINE, device.now_ns())
        device._submit(self.lane, event.work)

    def wait(self, event: Event) -> None:
        """What is submitted from here on starts after the event."""
        assert isinstance(event, SimulatedEvent)
        device = self._device
        device._spend("cudaStreamWaitEvent", device.preset.record_ns)
        device._submit(self.lane, Work(NO_ENGINE, device.now_ns(), after=event.work))


class SimulatedGraph:
    """Captured work, submitted again by each launch.

    Like a real one it knows device memory by address alone, so it keeps `submit`, and with that the memory.
    """

    def __init__(self, device: SimulatedDevice, submit: Callable[[], None]) -> None:
        self._device = device
        self._submit = submit
        self._memory: list[weakref.ref[SimulatedBuffer]] = []
        self.steps: list[dict[str, Any]] = []
        self.hosts: list[HostBuffer | None] = []
        self.launch_ns = (device.preset.launch_ns, device.preset.launch_ns)
        self.submit_ns = device.preset.submit_ns

    def uses(self, *values: object) -> None:
        """Note the device memory among `values`."""
        self._memory += [weakref.ref(value) for value in values if isinstance(value, SimulatedBuffer)]

    def launch(self, stream: Stream) -> None:
        """Submit all of it by one call; HazardError where memory of the capture was freed."""
        assert isinstance(stream, SimulatedStream)
        if any(buffer() is None for buffer in self._memory):
            raise HazardError("a graph is launched on device memory that was freed", fix="keep it as long as the graph")
        device = self._device
        begin = device._begin()
        device._advance(self.launch_ns[device._is_cold("cudaGraphLaunch")])
        for host, step in zip(self.hosts, self.steps, strict=True):
            work = Work(ready=begin + self.submit_ns, **step)
            device._submit(stream.lane, work)
            if host is not None:
                device._watch(host, work)
        device._log("api", "cudaGraphLaunch", begin)


class _Range:
    def __init__(self, device: SimulatedDevice, name: str) -> None:
        self._device = device
        self._name = name
        self.begins: dict[VirtualThread, int] = {}

    def __enter__(self) -> None:
        threads = self._device._threads
        self.begins[threads.running] = threads.now

    def __exit__(self, *_: object) -> None:
        device = self._device
        device._log("range", self._name, self.begins.pop(device._threads.running))
        device._threads.now += device.preset.range_ns


class _HostWork:
    def __init__(self, device: SimulatedDevice, duration_ns: int) -> None:
        self._device = device
        self._duration_ns = duration_ns

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        state = self._device._state
        self._device._advance(int(self._duration_ns * state.conditions.host_factor) if state else self._duration_ns)
        self._device._moved += 1


class SimulatedDevice(Device):
    """See the module. `jitter` is the standard deviation of the logarithm of every duration (0.05: about 5 %), drawn
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
        self.source = Source(SourceKind.SIMULATED, preset.gpu, preset.driver, preset.date, preset.name)
        self.moves_bytes = moves_bytes
        self.spans: list[Span] = []
        self._trace = trace
        self._jitter = jitter
        self._random = random.Random(seed)
        self._threads = VirtualThreads()
        self._timeline = Timeline(self._log_work if trace else None)
        self._ranges: dict[str, _Range] = {}
        self._host_work: dict[str, _HostWork] = {}
        self._copies: dict[int, Work] = {}
        self._captures: dict[VirtualThread, SimulatedGraph] = {}
        self._uploads: deque[tuple[Work, np.ndarray, np.ndarray]] = deque()
        self._moved = 0
        self._moved_at_call: dict[str, int] = {}
        self._state: State | None = None
        self._host_bytes = self._device_bytes = self._registered = 0
        self._registration = preset.registration or Registration(0, 0, "")
        self._calls = count(1)
        self._call_of: dict[VirtualThread, int] = {}

    def use(self, conditions: Conditions | None) -> None:
        """From now on run under these conditions; None: as the preset was measured, without telemetry."""
        self._state = state = conditions and State(
            conditions, self.preset.neighbours, self.now_ns(), lambda: (self._device_bytes, self._host_bytes)
        )
        self._timeline.elapsed = state.elapsed if state else None

    @property
    def conditions(self) -> Conditions | None:
        """The conditions in use."""
        return self._state and self._state.conditions

    def set_neighbours(self, count: int) -> None:
        """From now on so many neighbours; the device must run under conditions (`use`)."""
        assert self._state is not None
        self._state.tick_until(self.now_ns())
        self._state.conditions.neighbours = count

    def telemetry(self, times_ns: np.ndarray) -> dict[str, np.ndarray]:
        """`TELEMETRY_COLUMNS` as they were at these times, float64 (times,); NaN where no conditions are in use."""
        if self._state is None:
            return {name: np.full(len(times_ns), np.nan) for name in TELEMETRY_COLUMNS}
        return self._state.telemetry(times_ns)

    # The host's time

    def now_ns(self) -> int:
        """Virtual time of the host thread that asks."""
        return self._threads.now

    def wait_until_ns(self, time_ns: int) -> None:
        """Move this thread's clock on to `time_ns`."""
        if time_ns > self._threads.now:
            self._threads.now = time_ns
        self._begin()

    def range(self, name: str) -> _Range:
        """A range in `spans`; leaving it costs what the preset measured between two stages."""
        found = self._ranges.get(name)
        return found or self._ranges.setdefault(name, _Range(self, name))

    def host_work(self, name: str) -> _HostWork:
        """Adds the preset's cost of that work (0 if it has none) when it is left."""
        found = self._host_work.get(name)
        return found or self._host_work.setdefault(name, _HostWork(self, self.preset.host_work_ns.get(name, 0)))

    def start_thread(self, function: Callable[..., None], *arguments: Any) -> VirtualThread:
        """A host thread in virtual time."""
        return self._threads.start(function, *arguments)

    def queue(self) -> VirtualQueue:
        """A queue in virtual time."""
        return VirtualQueue(self._threads)

    def _begin(self) -> int:
        """The begin of every call: threads that are behind go first, so that calls happen in order of virtual time."""
        if self._threads.ready:
            self._threads.turn()
        if self._trace:
            self._call_of[self._threads.running] = next(self._calls)
        return self._threads.now

    def _advance(self, duration_ns: int) -> None:
        self._threads.now += self._spread(duration_ns)

    def _spread(self, duration_ns: int) -> int:
        return int(duration_ns * exp(self._random.gauss(0.0, self._jitter))) if self._jitter else duration_ns

    def _is_cold(self, call: str) -> bool:
        """True once for each kind of call after the host has moved megabytes."""
        cold = self._moved_at_call.get(call, 0) != self._moved
        self._moved_at_call[call] = self._moved
        return cold

    def _spend(self, name: str, duration_ns: int) -> None:
        begin = self._begin()
        self._advance(duration_ns)
        self._log("api", name, begin)

    # Memory

    def empty_host(self, shape: tuple[int, ...], dtype: Any, memory: HostMemory) -> HostBuffer:
        """NumPy memory that counts as `memory`. It is real: pages are not locked, only treated so."""
        nbytes = prod(shape) * np.dtype(dtype).itemsize
        begin = self._begin()
        self._advance(self.preset.host_work_ns.get(f"allocate_{memory}", 0))
        raw = np.empty(nbytes, np.uint8)
        self._host_bytes += nbytes
        registered = memory is HostMemory.REGISTERED
        if registered:
            self._advance(self._registration.call_ns)
            self._registered += 1
        if memory.page_locked and self._in_range():  # what is made before the loop is not part of its trace
            self._log("api", "cudaHostRegister" if registered else "cudaHostAlloc", begin)
        weakref.finalize(raw, self._freed, nbytes, registered).atexit = False
        return HostBuffer.over(raw.view(dtype).reshape(shape), memory)

    def _freed(self, nbytes: int, registered: bool) -> None:
        self._host_bytes -= nbytes
        self._registered -= registered

    def empty_device(self, nbytes: int) -> SimulatedBuffer:
        """Device memory; its bytes exist once they are touched."""
        self._device_bytes += nbytes
        self._advance(self.preset.host_work_ns.get("allocate_device", 0))
        return SimulatedBuffer(nbytes)

    def writes(self, buffer: HostBuffer) -> None:
        """HazardError if a copy may still use these bytes."""
        self._check_idle(buffer, "written")

    def reads(self, buffer: HostBuffer) -> None:
        """HazardError if a copy may still use these bytes."""
        self._check_idle(buffer, "read")

    def _check_idle(self, buffer: HostBuffer, verb: str) -> None:
        work = self._copies.get(buffer.address)
        if work is None:
            return
        if not self._is_done(work):
            raise HazardError(
                f"{buffer.nbytes} bytes of {buffer.memory} memory are {verb} at {self.now_ns()} ns while a copy "
                f"({work.name}) still uses them",
                fix="wait for the event that follows the copy, or use another slot",
            )
        del self._copies[buffer.address]

    # Streams

    def stream(self, *, priority: int = 0) -> SimulatedStream:
        """A new lane of the timeline."""
        return SimulatedStream(self, self._timeline.lane(priority))

    def event(self, *, timing: bool = False) -> SimulatedEvent:
        """A new event; all can be timed here."""
        return SimulatedEvent(self)

    def synchronize(self) -> None:
        """Hold the host until every lane is empty."""
        last = [lane.last for lane in self._timeline.lanes if lane.last is not None]
        for work in last:
            self._place(work)
        self._wait("cudaDeviceSynchronize", max(last, key=lambda work: work.end, default=None))

    def capture(self, submit: Callable[[], None], stream: Stream) -> SimulatedGraph:
        """Collect what `submit` submits."""
        graph = self._captures[self._threads.running] = SimulatedGraph(self, submit)
        try:
            submit()
        finally:
            del self._captures[self._threads.running]
        return graph

    def _submit(self, lane: Lane, work: Work) -> None:
        """Append work to the lane; with the launch queue full the host waits for its oldest entry."""
        if self._trace:
            work.correlation = self._call_of[self._threads.running]
        self._timeline.submit(lane, work)
        while lane.in_flight_entries > self.preset.launch_queue_depth:
            oldest = lane.in_flight.popleft()
            lane.in_flight_entries -= oldest.entries
            self._place(oldest)
            self._threads.now = max(self._threads.now, oldest.end)

    def _place(self, work: Work) -> None:
        """Let GPU time pass until the end of `work` is known; other host threads go first where they are behind."""
        timeline, threads = self._timeline, self._threads
        while work.end == PENDING:
            following = timeline.next_start()
            if following is None:
                raise DeviceError("the host waits for work that waits for an event nobody records")
            lane, start = following
            if threads.ready and threads.turn(until=start):
                continue
            timeline.place(lane, start)

    def _is_done(self, work: Work) -> bool:
        now = self._threads.now
        while work.end == PENDING and (following := self._timeline.next_start()) and following[1] <= now:
            self._timeline.place(*following)
        return work.end != PENDING and work.end <= now

    def _wait(self, name: str, work: Work | None) -> None:
        """A synchronize call: short where the work is done, else until the host has woken up after its end."""
        begin = self._begin()
        done_at = begin + self._spread(self.preset.synchronize_ns)
        if work is not None:
            self._place(work)
            if work.end > begin:
                wake_up_ns = self.preset.wake_up_ns + self._registration.kept_ns * self._registered
                done_at = max(done_at, work.end + self._spread(wake_up_ns))
        self._threads.now = max(self._threads.now, done_at)
        self._log("api", name, begin)
        self._check_uploads()

    # Copies and kernels

    def upload(self, source: HostBuffer, target: DeviceBuffer, stream: Stream) -> None:
        """`cudaMemcpyAsync` host to device, as the preset's hardware does it."""
        self._copy(UPLOAD_ENGINE, source, target, stream, self.preset.pinned_upload, self.preset.pageable_upload)

    def download(self, source: DeviceBuffer, target: HostBuffer, stream: Stream) -> None:
        """`cudaMemcpyAsync` device to host, as the preset's hardware does it."""
        self._copy(DOWNLOAD_ENGINE, target, source, stream, self.preset.pinned_download, self.preset.pageable_download)

    def _copy(
        self,
        engine: int,
        host: HostBuffer,
        device: DeviceBuffer,
        stream: Stream,
        pinned: PinnedCopy,
        pageable: PageableCopy,
    ) -> None:
        assert isinstance(stream, SimulatedStream) and isinstance(device, SimulatedBuffer)
        if host.nbytes > device.nbytes:
            raise DeviceError(f"a copy of {host.nbytes} bytes does not fit device memory of {device.nbytes}")
        step: dict[str, Any] = {"engine": engine, "name": f"{host.memory} {_ROWS[engine]}", "nbytes": host.nbytes}
        if self.moves_bytes:
            step["action"] = self._mover(engine, host, device)
        begin = self._begin()
        dma_ns = pinned.fixed_ns + int(host.nbytes / pinned.rate)
        if (graph := self._captures.get(self._threads.running)) is not None:
            if not host.memory.page_locked:
                raise CaptureError("a pageable copy cannot be captured into a graph", fix="use pinned memory")
            graph.steps.append({**step, "duration": dma_ns})
            graph.hosts.append(host)
            graph.uses(device)
            return
        if host.memory.page_locked:
            work = Work(ready=0, duration=self._spread(dma_ns), **step)
            self._copy_by_dma(stream.lane, pinned, work)
            self._watch(host, work)
        elif host.nbytes <= pageable.staging_bytes:
            self._advance(pageable.staged_call_ns + int(host.nbytes / pageable.staged_rate))
            self._submit(stream.lane, Work(ready=self._threads.now, duration=self._spread(dma_ns), **step))
        else:
            self._copy_by_driver(stream.lane, pageable, host.nbytes, step)
            self._moved += 1
        self._log("api", "cudaMemcpyAsync", begin)

    def _watch(self, host: HostBuffer, work: Work) -> None:
        """Keep an eye on the host's side of a copy by the GPU, which nothing may touch until it has run."""
        self._copies[host.address] = work
        if self.moves_bytes and work.engine == UPLOAD_ENGINE:
            raw = _bytes_of(host)
            self._uploads.append((work, raw, raw.copy()))

    def _copy_by_dma(self, lane: Lane, cost: PinnedCopy, work: Work) -> None:
        begin = self._threads.now
        work.ready = begin + self.preset.submit_ns
        busy = self._is_cold(work.name) or (lane.last is not None and not self._is_done(lane.last))
        self._advance((cost.busy_call_ns if busy else cost.call_ns) + (self._state.call_ns() if self._state else 0))
        self._submit(lane, work)

    def _copy_by_driver(self, lane: Lane, cost: PageableCopy, nbytes: int, step: dict[str, Any]) -> None:
        if lane.last is not None:
            self._place(lane.last)
            self._threads.now = max(self._threads.now, lane.last.end)
        hold_ns = self._spread(cost.call_ns + int(nbytes / cost.rate))
        work = Work(ready=self._threads.now, duration=hold_ns + cost.tail_ns, **step)
        self._submit(lane, work)
        self._place(work)
        self._threads.now = max(self._threads.now, work.end - cost.tail_ns)

    def _mover(self, engine: int, host: HostBuffer, device: SimulatedBuffer) -> Callable[[], None]:
        """What moves the bytes when the copy runs; a pageable upload's are taken now, into staging memory."""
        raw = _bytes_of(host)
        if engine == DOWNLOAD_ENGINE:
            return lambda: np.copyto(raw, device.data[: raw.size])
        source = raw if host.memory.page_locked else raw.copy()
        return lambda: np.copyto(device.data[: raw.size], source)

    def _check_uploads(self) -> None:
        """HazardError where the bytes of an upload that has run by now are no longer those that were submitted."""
        while self._uploads and PENDING != self._uploads[0][0].end <= self._threads.now:
            work, raw, submitted = self._uploads.popleft()
            if not np.array_equal(raw, submitted):
                raise HazardError(
                    f"{raw.size} bytes were written while they were in flight ({work.name})",
                    fix="wait for the event that follows the copy, or use another slot",
                )

    def spin(self, duration_ns: int, stream: Stream) -> None:
        """A kernel of that duration."""
        launch_ns = self.preset.launch_ns
        cost = EngineCost(
            enqueue_ns=launch_ns,
            cold_enqueue_ns=launch_ns,
            gpu_ns=duration_ns,
            tail_ns=0,
            graph_launch_ns=launch_ns,
            graph_submit_ns=self.preset.submit_ns,
            cold_graph_launch_ns=launch_ns,
            graph_gpu_ns=duration_ns,
            kernels=1,
        )
        self.run_kernels("spin", cost, stream)

    def launch(
        self, kernel: Kernel, grid: tuple[int, int, int], arguments: Sequence[DeviceBuffer | np.generic], stream: Stream
    ) -> None:
        """A kernel that takes the preset's time for each frame of its batch; it computes where bytes are moved."""
        assert isinstance(stream, SimulatedStream)
        duration = self.preset.kernel_ns.get(kernel.name, 0) * grid[2]
        step: dict[str, Any] = {"engine": COMPUTE_ENGINE, "name": kernel.name, "sharing": self.preset.kernel_sharing}
        if self.moves_bytes:
            step["action"] = lambda: kernel.reference(*map(_value_of, arguments))
        begin = self._begin()
        if (graph := self._captures.get(self._threads.running)) is not None:
            graph.steps.append({**step, "duration": duration})
            graph.hosts.append(None)
            graph.uses(*arguments)
            return
        self._advance(self.preset.launch_ns)
        ready = begin + self.preset.submit_ns
        self._submit(stream.lane, Work(ready=ready, duration=self._spread(duration), **step))
        self._log("api", "cudaLaunchKernel", begin)

    def run_kernels(
        self,
        name: str,
        cost: EngineCost,
        stream: Stream,
        action: Callable[[], Any] | None = None,
        owner: object = None,
    ) -> None:
        """Submit the kernels of an engine: the host launches for `enqueue_ns`, the GPU follows.

        HazardError where two inferences of one `owner`, a context, would run at once.
        """
        assert isinstance(stream, SimulatedStream)
        step: dict[str, Any] = {"engine": COMPUTE_ENGINE, "name": name, "action": action}
        step |= {"sharing": cost.sharing, "owner": owner}
        begin = self._begin()
        if (graph := self._captures.get(self._threads.running)) is not None:
            graph.steps.append({**step, "duration": cost.graph_gpu_ns})
            graph.hosts.append(None)
            graph.launch_ns = (cost.graph_launch_ns, cost.cold_graph_launch_ns)
            graph.submit_ns = cost.graph_submit_ns
            return
        self._advance(cost.cold_enqueue_ns if self._is_cold(name) else cost.enqueue_ns)
        launched_at = self._threads.now if cost.tail_ns else 0
        work = Work(
            ready=begin + self.preset.submit_ns,
            duration=self._spread(cost.gpu_ns),
            end_from=launched_at + cost.tail_ns,
            entries=cost.kernels,
            **step,
        )
        self._submit(stream.lane, work)
        self._log("api", "cudaLaunchKernel", begin)

    # The trace

    def _log(self, row: str, name: str, begin: int) -> None:
        if self._trace:
            thread = self._threads.running
            call = self._call_of[thread] if row == "api" else 0
            self.spans.append(Span(row, name, begin, self._threads.now, 0, 0, call, thread.number))

    def _in_range(self) -> bool:
        return any(self._threads.running in each.begins for each in self._ranges.values())

    def _log_work(self, lane: Lane, work: Work) -> None:
        if work.engine != NO_ENGINE:
            row = _ROWS[work.engine]
            self.spans.append(Span(row, work.name, work.start, work.end, lane.number, work.nbytes, work.correlation))


def _bytes_of(host: HostBuffer) -> np.ndarray:
    """The buffer's bytes, uint8: floats would not do, since NaN is not equal to itself."""
    return host.array.reshape(-1).view(np.uint8)


def _value_of(argument: DeviceBuffer | np.generic) -> Any:
    """What a kernel's reference gets for an argument."""
    return argument.data if isinstance(argument, SimulatedBuffer) else argument
