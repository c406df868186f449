"""Streams, events and graphs of the simulated device."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from ..device import Event, HostBuffer
from ..errors import CaptureError, DeviceError, HazardError
from .machine import STREAM_SYNCHRONIZE, Machine, SimulatedBuffer
from .timeline import NO_ENGINE, PENDING, StreamQueue, Task, Work

MARK = Task(NO_ENGINE)
"""What an event leaves in a stream."""


class SimulatedEvent:
    """An event; `work` is its latest mark."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.work: Work | None = None

    @property
    def done(self) -> bool:
        """True once everything in front of the mark has run; True if never recorded."""
        return self._machine.query("cudaEventQuery", self.work)

    def synchronize(self) -> None:
        """Hold the host until `done`."""
        self._machine.wait("cudaEventSynchronize", self.work)

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
        machine.timeline.drop_closed(machine.threads.now)
        self.lane = machine.timeline.lane(priority)
        weakref.finalize(self, setattr, self.lane, "closed", True).atexit = False

    @property
    def done(self) -> bool:
        """True once everything submitted so far has run."""
        return self._machine.query("cudaStreamQuery", self.lane.last)

    def synchronize(self) -> None:
        """Hold the host until everything submitted so far has run."""
        self._machine.wait(STREAM_SYNCHRONIZE, self.lane.last)

    def record(self, event: Any) -> None:
        """Put the event behind everything submitted so far."""
        machine = self._machine
        machine.spend("cudaEventRecord", machine.preset.record_ns)
        machine.submit(self.lane, MARK, machine.threads.now, event=event)

    def wait(self, event: Any) -> None:
        """What is submitted from here on starts after the event."""
        machine = self._machine
        machine.spend("cudaStreamWaitEvent", machine.preset.record_ns)
        if event.work is not None:
            self.lane.wait_for(event.work)
        self.lane.held += event.work is not None
        machine.submit(self.lane, Task(NO_ENGINE, after=event.work), machine.threads.now)

    def begin_capture(self, keeps: object = None) -> None:
        """From here on the work that the running thread submits goes into a graph, which keeps that object."""
        self._machine.captures[self._machine.threads.running] = SimulatedGraph(self._machine, self.lane, keeps)

    def end_capture(self) -> SimulatedGraph:
        """The graph, at the cost of the whole capture; CaptureError where none is under way."""
        machine = self._machine
        graph = machine.captures.pop(machine.threads.running, None)
        if graph is None:
            raise CaptureError("a capture must be under way to end it, got none", fix="call begin_capture first")
        begin = machine.begin()
        machine.threads.now = begin + graph.capture_ns
        machine.keep_in_range("cudaGraphInstantiate", begin)
        return graph


class SimulatedGraph:
    """Captured work. `capture_ns` is what it took the host to capture and to instantiate it. `launch_ns` is what a
    launch costs the host, warm and cold; the first work starts `submit_ns` after its begin.

    Like a real one it knows device memory by address alone, so it `keeps` what submitted the work, and with that the
    memory.
    """

    def __init__(self, machine: Machine, lane: StreamQueue, keeps: object) -> None:
        self.capture_ns = 0
        self.launch_ns = (machine.preset.launch_ns, machine.preset.launch_ns)
        self.submit_ns = machine.preset.submit_ns
        self.lane = lane
        self._machine = machine
        self._keeps = keeps
        self._steps: list[tuple[Task, int, Callable[[], None] | None, HostBuffer | None]] = []
        self._memory: list[weakref.ref[SimulatedBuffer]] = []

    def add(
        self, task: Task, duration: int, action: Callable[[], None] | None = None, host: HostBuffer | None = None
    ) -> None:
        """One more piece of work, see `Machine.submit`."""
        self._steps.append((task, duration, action, host))
        self._memory += [region.device for region in task.regions if region.device is not None]

    def launch(self, stream: Any) -> None:
        """Submit all of it by one call; HazardError where memory of the capture was freed."""
        machine, lane = self._machine, stream.lane
        begin = machine.begin()
        memory = [buffer() for buffer in self._memory]
        if None in memory:
            raise HazardError(
                "a graph is launched on device memory that was freed",
                fix="keep it as long as the graph",
                lines=(machine.hazards.line_now(),),
            )
        machine.advance(self.launch_ns[machine.is_cold("cudaGraphLaunch")])
        for task, duration, action, host in self._steps:
            held = action and partial(while_held, memory, action)
            machine.submit(lane, task, begin + self.submit_ns, duration, 0, held, host)
        if machine.trace is not None:
            machine.trace.keep("api", "cudaGraphLaunch", begin)


def while_held(memory: object, action: Callable[[], None]) -> None:
    """Do it while the memory is held."""
    action()
