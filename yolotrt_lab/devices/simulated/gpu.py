"""The GPU as the host meets it: work goes in through the launch queue, and is asked for or waited for."""

from __future__ import annotations

from ...errors import DeviceError
from ..timeline import PENDING, Lane, Timeline, Work
from .host import Host


class Gpu:
    """The timeline of a GPU, tied to the clock of a host."""

    def __init__(self, host: Host, launch_queue_depth: int) -> None:
        self.timeline = Timeline(None if host.trace is None else host.trace.keep_work)
        self._host = host
        self._threads = host.threads
        self._launch_queue_depth = launch_queue_depth

    def submit(self, lane: Lane, work: Work) -> None:
        """Append work to the lane; with the launch queue full the host waits for its oldest entry."""
        if self._host.trace is not None:
            work.correlation = self._host.trace.number_of_call()
        self.timeline.submit(lane, work)
        while lane.in_flight_entries > self._launch_queue_depth:
            oldest = lane.in_flight.popleft()
            lane.in_flight_entries -= oldest.entries
            self.hold_host(oldest)

    def hold_host(self, work: Work, tail_ns: int = 0) -> None:
        """Keep the running thread in its call until `tail_ns` before the end of `work`."""
        self.settle(work)
        self._host.advance_to(work.end - tail_ns)

    def settle(self, work: Work) -> None:
        """Let GPU time pass until the end of `work` is known; other host threads go first where they are behind.

        DeviceError where it never ends.
        """
        timeline, threads = self.timeline, self._threads
        while work.end == PENDING:
            following = timeline.next_start()
            if following is None:
                raise DeviceError("the host waits for work that waits for an event nobody records")
            lane, start = following
            if threads.ready and threads.turn(until=start):
                continue
            timeline.place(lane, start)

    def is_done(self, work: Work) -> bool:
        """Whether `work` has run by now."""
        timeline, now = self.timeline, self._threads.now
        while work.end == PENDING and (following := timeline.next_start()) and following[1] <= now:
            timeline.place(*following)
        return work.has_run(now)
