"""The calls that put work on the simulated GPU: streams and events, graphs, copies, kernels."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..device import DeviceBuffer, Event, HostBuffer, Kernel, Stream
from ..errors import CaptureError, DeviceError, HazardError
from ..types import HostMemory
from .machine import STREAM_SYNCHRONIZE, Machine, SimulatedBuffer, Touch
from .preset import EngineCost, PageableCopy, PinnedCopy
from .races import READ, TOUCH, WRITE, join
from .timeline import COMPUTE_ENGINE, DOWNLOAD_ENGINE, DRIVER, NO_ENGINE, PENDING, UPLOAD_ENGINE, StreamQueue, Work
from .virtual_time import ROWS, VirtualThread


class SimulatedEvent:
    """An event; `work` is its latest mark."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.work: Work | None = None

    @property
    def done(self) -> bool:
        """True once everything in front of the mark has run; True if never recorded."""
        machine = self._machine
        machine.host.refuse_in_capture("cudaEventQuery")
        machine.host.spend("cudaEventQuery", machine.preset.query_ns)
        done = self.work is None or machine.gpu.is_done(self.work)
        if done and self.work is not None:
            machine.gpu.order.learn(self.work.clock)
        machine.hazards.check_copies()
        return done

    def synchronize(self) -> None:
        """Hold the host until `done`."""
        self._machine.wait("cudaEventSynchronize", self.work, None if self.work is None else self.work.clock)

    def elapsed_ns(self, earlier: Event) -> int:
        """Device time from `earlier` to this mark."""
        assert isinstance(earlier, SimulatedEvent)
        if self.work is None or earlier.work is None or PENDING in (self.work.end, earlier.work.end):
            raise DeviceError("elapsed_ns of events that have not been reached", fix="synchronize on both first")
        return self.work.end - earlier.work.end


class SimulatedStream:
    """A stream: one lane of the timeline, for as long as the stream is held and until its work has run."""

    handle = 0

    def __init__(self, machine: Machine, priority: int) -> None:
        self._machine = machine
        timeline = machine.gpu.timeline
        timeline.drop_closed(machine.host.threads.now)
        self.lane = timeline.lane(priority)
        weakref.finalize(self, setattr, self.lane, "closed", True).atexit = False

    def synchronize(self) -> None:
        """Hold the host until everything submitted so far has run."""
        machine = self._machine
        machine.wait(STREAM_SYNCHRONIZE, self.lane.last, machine.gpu.order.mark(self.lane))

    def record(self, event: Event) -> None:
        """Put the event behind everything submitted so far."""
        assert isinstance(event, SimulatedEvent)
        machine = self._machine
        machine.host.spend("cudaEventRecord", machine.preset.record_ns)
        # The mark stands before the submission, which other host threads may see while it waits for the launch queue.
        event.work = Work(NO_ENGINE, machine.host.threads.now)
        event.work.clock = machine.gpu.order.mark(self.lane)
        machine.gpu.submit(self.lane, event.work)

    def wait(self, event: Event) -> None:
        """What is submitted from here on starts after the event."""
        assert isinstance(event, SimulatedEvent)
        machine = self._machine
        machine.host.spend("cudaStreamWaitEvent", machine.preset.record_ns)
        machine.gpu.submit(self.lane, Work(NO_ENGINE, machine.host.threads.now, after=event.work))
        if event.work is not None:
            join(self.lane.clock, event.work.clock)


class Step(NamedTuple):
    """One piece of captured work: the arguments of its `Work`, the host's side where it is a copy, and the fields of
    each `Touch`, with a reference to the device memory that does not keep it.
    """

    work: dict[str, Any]
    host: HostBuffer | None
    touches: list[tuple[weakref.ref[SimulatedBuffer], str, int, int]]


class SimulatedGraph:
    """Captured work. `launch_ns` is what a launch costs the host, warm and cold; the first work starts `submit_ns`
    after its begin.

    Like a real one it knows device memory by address alone, so it keeps `submit`, and with that the memory.
    """

    def __init__(self, machine: Machine, submit: Callable[[], None], lane: StreamQueue) -> None:
        self.launch_ns = (machine.preset.launch_ns, machine.preset.launch_ns)
        self.submit_ns = machine.preset.submit_ns
        self.lane = lane
        self._machine = machine
        self._submit = submit
        self._steps: list[Step] = []

    def add(
        self,
        step: dict[str, Any],
        duration: int,
        touches: Sequence[Touch] = (),
        host: HostBuffer | None = None,
    ) -> None:
        """One more piece of work, see `Step`."""
        known = [(weakref.ref(buffer), kind, begin, end) for buffer, kind, begin, end in touches]
        self._steps.append(Step({**step, "duration": duration}, host, known))

    def launch(self, stream: Stream) -> None:
        """Submit all of it by one call; HazardError where memory of the capture was freed."""
        assert isinstance(stream, SimulatedStream)
        machine, host = self._machine, self._machine.host
        begin = host.begin()
        if any(buffer() is None for step in self._steps for buffer, *_ in step.touches):
            raise HazardError(
                "a graph is launched on device memory that was freed",
                fix="keep it as long as the graph",
                lines=(machine.gpu.order.line_now(),),
            )
        host.advance(self.launch_ns[host.is_cold("cudaGraphLaunch")])
        for step in self._steps:
            work = Work(ready=begin + self.submit_ns, **step.work)
            held = [(buffer, kind, begin, end) for ref, kind, begin, end in step.touches if (buffer := ref())]
            if work.action is not None:
                work.action = partial(_with, held, work.action)
            check_touches(machine, stream.lane, work, held)
            if step.host is not None:
                machine.hazards.check_order(step.host, stream.lane, work)
                machine.hazards.watch(step.host, work, compare=machine.moves_bytes)
            machine.gpu.submit(stream.lane, work)
        host.end("cudaGraphLaunch", begin)


def _with(held: object, action: Callable[[], None]) -> None:
    """Do it while `held` lives."""
    action()


def check_touches(machine: Machine, lane: StreamQueue, work: Work, touches: Sequence[Touch]) -> None:
    """HazardError where work to be submitted races for device memory, or reads what was written in part alone."""
    order = machine.gpu.order
    for buffer, kind, begin, end in touches:
        order.check(buffer.accesses, lane, kind, begin, end, work, "device memory")
        if kind != READ:
            buffer.accesses.write(begin, end)
        elif work.engine == COMPUTE_ENGINE and (written := buffer.accesses.written_in_part(end)) is not None:
            raise HazardError(
                f"the input of {work.name} must be written whole, got {written:,} of {end:,} bytes",
                fix="upload an array of the input's dtype and shape, all of it to its place",
                lines=(order.line_now(),),
            )


class Captures:
    """The captures under way: each takes the work of its own host thread alone."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._graphs: dict[VirtualThread, SimulatedGraph] = {}

    def capture(self, submit: Callable[[], None], lane: StreamQueue) -> SimulatedGraph:
        """Collect what `submit` submits to the lane."""
        self.begin(submit, lane)
        try:
            submit()
        finally:
            graph = self.end()
        return graph

    def begin(self, submit: Callable[[], None], lane: StreamQueue) -> None:
        """Start a capture of that lane in the running thread; the graph keeps `submit`."""
        thread = self._machine.host.threads.running
        self._graphs[thread] = SimulatedGraph(self._machine, submit, lane)
        self._machine.host.capturing.add(thread)

    def end(self) -> SimulatedGraph:
        """End it; CaptureError where none is under way."""
        thread = self._machine.host.threads.running
        if thread not in self._graphs:
            raise CaptureError("a capture must be under way to end it, got none", fix="call begin_capture first")
        self._machine.host.capturing.remove(thread)
        return self._graphs.pop(thread)

    def current(self, lane: StreamQueue | None = None) -> SimulatedGraph | None:
        """The graph that takes what the running thread submits (to that lane); None outside a capture.

        HazardError for another lane than the captured one: a GPU runs that work at once, and the graph lacks it.
        """
        graph = self._graphs.get(self._machine.host.threads.running)
        if graph is not None and lane not in (None, graph.lane):
            raise HazardError(
                "work goes to another stream than the one under capture, and the graph will lack it",
                fix="submit to the captured stream",
                lines=(self._machine.gpu.order.line_now(),),
            )
        return graph


class Copies:
    """`cudaMemcpyAsync` in one direction, that of `engine`."""

    def __init__(
        self, machine: Machine, captures: Captures, engine: int, pinned: PinnedCopy, pageable: PageableCopy
    ) -> None:
        self._machine = machine
        self._host = machine.host
        self._gpu = machine.gpu
        self._captures = captures
        self._engine = engine
        self._pinned = pinned
        self._pageable = pageable
        self._turns: list[Work] = []
        self._names = {memory: f"{memory} {ROWS[engine]}" for memory in HostMemory}

    def __call__(self, buffer: HostBuffer, device: DeviceBuffer, stream: Stream, offset: int = 0) -> None:
        """Copy all of the host's `buffer` from or to `device`, from that byte on."""
        assert isinstance(stream, SimulatedStream) and isinstance(device, SimulatedBuffer)
        nbytes, page_locked, end = buffer.nbytes, buffer.memory.page_locked, offset + buffer.nbytes
        if end > device.nbytes:
            raise DeviceError(
                f"a copy must fit device memory of {device.nbytes} bytes, got {nbytes}", fix="create more of it"
            )
        step: dict[str, Any] = {"engine": self._engine, "name": self._names[buffer.memory], "nbytes": nbytes}
        if self._machine.moves_bytes:
            step["action"] = self._mover(buffer, weakref.ref(device), offset)
        touches: list[Touch] = [(device, WRITE if self._engine == UPLOAD_ENGINE else READ, offset, end)]
        host = self._host
        begin = host.begin()
        dma_ns = self._pinned.fixed_ns + int(nbytes / self._pinned.rate)
        if (graph := self._captures.current(stream.lane)) is not None:
            if not page_locked:
                raise CaptureError("a pageable copy cannot be captured into a graph", fix="use pinned memory")
            graph.add(step, dma_ns, touches, buffer)
            return
        if step.get("action"):
            step["action"] = partial(_with, device, step["action"])
        if page_locked:
            ready = begin + self._machine.preset.submit_ns
            work = Work(ready=ready, duration=host.spread(dma_ns), **step)
            check_touches(self._machine, stream.lane, work, touches)
            self._machine.hazards.check_order(buffer, stream.lane, work)
            self._machine.hazards.watch(buffer, work, compare=self._machine.moves_bytes)
            self._by_dma(stream.lane, work)
        elif nbytes <= self._pageable.staging_bytes:
            host.advance(self._pageable.staged_call_ns + int(nbytes / self._pageable.staged_rate))
            work = Work(ready=host.threads.now, duration=host.spread(dma_ns), **step)
            check_touches(self._machine, stream.lane, work, touches)
            self._gpu.submit(stream.lane, work)
        else:
            self._by_driver(stream.lane, nbytes, step, touches)
        host.end("cudaMemcpyAsync", begin)

    def _by_dma(self, lane: StreamQueue, work: Work) -> None:
        """The GPU makes the copy by itself: the call only submits it."""
        host, cost = self._host, self._pinned
        busy = host.is_cold(work.name) or (lane.last is not None and not self._gpu.is_done(lane.last))
        host.advance((cost.busy_call_ns if busy else cost.call_ns) + (host.state.call_ns() if host.state else 0))
        self._gpu.submit(lane, work)

    def _by_driver(
        self,
        lane: StreamQueue,
        nbytes: int,
        step: dict[str, Any],
        touches: Sequence[Touch],
    ) -> None:
        """The driver makes the copy through its staging memory, once the stream is empty: the call takes all of it.

        Uploads of all threads take turns in it (14 to 15 GB/s together from 1 to 8 threads on an H200, where plain host
        copies scale to 95). Of downloads that was not measured: they have the copy engine.
        """
        host, cost = self._host, self._pageable
        if self._engine == UPLOAD_ENGINE:
            step |= {"engine": DRIVER, "free_before": cost.tail_ns}  # the next may come when the call returns
        if lane.last is not None:
            self._gpu.hold_host(lane.last)
        hold_ns = host.spread(self._hold_ns(nbytes))
        work = Work(ready=host.threads.now, duration=hold_ns + cost.tail_ns, **step)
        check_touches(self._machine, lane, work, touches)
        self._turns.append(work)
        self._gpu.submit(lane, work)
        self._gpu.hold_host(work, cost.tail_ns)
        host.move_megabytes()
        if self._engine == DOWNLOAD_ENGINE:
            self._gpu.order.learn(self._gpu.order.mark(lane))
            self._machine.hazards.check_copies()
            host.is_cold(STREAM_SYNCHRONIZE)  # the call has waited in the driver: the next wait is warm

    def _hold_ns(self, nbytes: int) -> int:
        """How long the driver takes for a copy of pageable memory, by how many are in it."""
        cost = self._pageable
        hold_ns = cost.call_ns + int(nbytes / cost.rate)
        self._turns = [work for work in self._turns if not work.has_run(self._host.threads.now)]
        if self._engine == UPLOAD_ENGINE and self._turns:
            return int(hold_ns * self._machine.preset.upload_turn_factor(len(self._turns) + 1))
        return hold_ns

    def _mover(self, buffer: HostBuffer, device: weakref.ref[SimulatedBuffer], offset: int) -> Callable[[], None]:
        """What moves the bytes when the copy runs; a pageable upload's are taken now, into staging memory."""
        raw, upload = buffer.raw, self._engine == UPLOAD_ENGINE
        source = raw.copy() if upload and not buffer.memory.page_locked else raw

        def move() -> None:
            if (target := device()) is not None:
                there = target.data[offset : offset + raw.size]
                np.copyto(there, source) if upload else np.copyto(raw, there)

        return move


def uploads(machine: Machine, captures: Captures) -> Copies:
    """Copies to the device, as the preset's hardware makes them."""
    preset = machine.preset
    return Copies(machine, captures, UPLOAD_ENGINE, preset.pinned_upload, preset.pageable_upload)


def downloads(machine: Machine, captures: Captures) -> Copies:
    """Copies from the device, as the preset's hardware makes them."""
    preset = machine.preset
    return Copies(machine, captures, DOWNLOAD_ENGINE, preset.pinned_download, preset.pageable_download)


class Kernels:
    """Submits kernels (`cudaLaunchKernel`), or adds them to the graph whose capture is under way."""

    def __init__(self, machine: Machine, captures: Captures) -> None:
        self._machine = machine
        self._host = machine.host
        self._gpu = machine.gpu
        self._preset = machine.preset
        self._captures = captures

    def launch(
        self, kernel: Kernel, grid: tuple[int, int, int], arguments: Sequence[DeviceBuffer | np.generic], stream: Stream
    ) -> None:
        """A kernel: its own time or the preset's for each frame of its batch; it computes where bytes are moved."""
        assert isinstance(stream, SimulatedStream)
        preset, host = self._preset, self._host
        step: dict[str, Any] = {"engine": COMPUTE_ENGINE, "name": kernel.name}
        if kernel.duration_ns is not None:
            duration = kernel.duration_ns(*arguments)
        else:
            duration = preset.kernel_ns.get(kernel.name, 0) * grid[2]
            step["sharing"] = preset.kernel_sharing
        if self._machine.moves_bytes:
            step["action"] = lambda: kernel.reference(*map(_value_of, arguments))
        touches = [(each, TOUCH, 0, each.nbytes) for each in arguments if isinstance(each, SimulatedBuffer)]
        begin = host.begin()
        if (graph := self._captures.current(stream.lane)) is not None:
            graph.add(step, duration, touches)
            return
        host.advance(preset.launch_ns)
        work = Work(ready=begin + preset.submit_ns, duration=host.spread(duration), **step)
        check_touches(self._machine, stream.lane, work, touches)
        self._gpu.submit(stream.lane, work)
        host.end("cudaLaunchKernel", begin)

    def run(
        self,
        name: str,
        cost: EngineCost,
        stream: Stream,
        action: Callable[[], Any] | None,
        owner: object,
        touches: Sequence[Touch] = (),
    ) -> None:
        """The kernels of an engine: the host launches for `enqueue_ns`, the GPU follows."""
        assert isinstance(stream, SimulatedStream)
        host = self._host
        step: dict[str, Any] = {"engine": COMPUTE_ENGINE, "name": name, "action": action}
        step |= {"sharing": cost.sharing, "owner": owner}
        begin = host.begin()
        if (graph := self._captures.current(stream.lane)) is not None:
            graph.add(step, cost.graph_gpu_ns, touches)
            graph.launch_ns = (cost.graph_launch_ns, cost.cold_graph_launch_ns)
            graph.submit_ns = cost.graph_submit_ns
            return
        enqueue_ns = cost.cold_enqueue_ns if host.is_cold(name) else cost.enqueue_ns
        host.advance(host.state.enqueue_ns(enqueue_ns) if host.state else enqueue_ns)
        launched_at = host.threads.now if cost.tail_ns else 0
        work = Work(
            ready=begin + self._preset.submit_ns,
            duration=host.spread(cost.gpu_ns),
            end_from=launched_at + cost.tail_ns,
            entries=cost.kernels,
            **step,
        )
        check_touches(self._machine, stream.lane, work, touches)
        self._gpu.submit(stream.lane, work)
        host.end("cudaLaunchKernel", begin)


def _value_of(argument: DeviceBuffer | np.generic) -> Any:
    """What a kernel's reference gets for an argument."""
    return argument.data if isinstance(argument, SimulatedBuffer) else argument
