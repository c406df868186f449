"""Streams and the events that mark a place in them."""

from __future__ import annotations

import weakref

from ...errors import DeviceError
from ..base import Event
from ..timeline import NO_ENGINE, PENDING, Work
from .machine import Machine


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
        machine.hazards.check_uploads()
        return done

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
        timeline = machine.gpu.timeline
        timeline.drop_closed(machine.host.threads.now)
        self.lane = timeline.lane(priority)
        weakref.finalize(self, setattr, self.lane, "closed", True).atexit = False

    def synchronize(self) -> None:
        """Hold the host until everything submitted so far has run."""
        self._machine.wait("cudaStreamSynchronize", self.lane.last)

    def record(self, event: Event) -> None:
        """Put the event behind everything submitted so far."""
        assert isinstance(event, SimulatedEvent)
        machine = self._machine
        machine.host.spend("cudaEventRecord", machine.preset.record_ns)
        # The mark stands before the submission, which other host threads may see while it waits for the launch queue.
        event.work = Work(NO_ENGINE, machine.host.threads.now)
        machine.gpu.submit(self.lane, event.work)

    def wait(self, event: Event) -> None:
        """What is submitted from here on starts after the event."""
        assert isinstance(event, SimulatedEvent)
        machine = self._machine
        machine.host.spend("cudaStreamWaitEvent", machine.preset.record_ns)
        machine.gpu.submit(self.lane, Work(NO_ENGINE, machine.host.threads.now, after=event.work))
