"""What the GPU does when: streams in order, engines one piece of work at a time.

A discrete-event model without a clock of its own. Work is submitted with the time from which it may start; it is
placed on its engine lazily, earliest start first, once somebody asks for its end. That order is exact as long as
nothing submitted later may start earlier, which the simulated device sees to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

UPLOAD_ENGINE, COMPUTE_ENGINE, DOWNLOAD_ENGINE, NO_ENGINE = range(4)

PENDING = -1


class Work:
    """One piece of stream work. `start` and `end` are PENDING until it is placed; `end` is final from then on.

    It starts no earlier than `ready` and than the end of `after`, and ends no earlier than `end_from` (a sequence of
    kernels that the host is still launching). `entries` is how many places of the launch queue it takes. `action`
    runs when the work is placed. `correlation` is the number of the call that submitted it.
    """

    __slots__ = (
        "action",
        "after",
        "correlation",
        "duration",
        "end",
        "end_from",
        "engine",
        "entries",
        "name",
        "nbytes",
        "ready",
        "start",
    )

    def __init__(
        self,
        engine: int,
        ready: int,
        duration: int = 0,
        *,
        end_from: int = 0,
        after: Work | None = None,
        name: str = "",
        nbytes: int = 0,
        entries: int = 1,
        action: Callable[[], Any] | None = None,
    ) -> None:
        self.engine = engine
        self.ready = ready
        self.duration = duration
        self.end_from = end_from
        self.after = after
        self.name = name
        self.nbytes = nbytes
        self.entries = entries
        self.action = action
        self.correlation = 0
        self.start = self.end = PENDING


class Lane:
    """The work of one stream, in order. `tail` is the end of what was placed last."""

    __slots__ = ("in_flight", "in_flight_entries", "last", "number", "priority", "tail", "waiting")

    def __init__(self, number: int, priority: int) -> None:
        self.number = number
        self.priority = priority
        self.waiting: deque[Work] = deque()
        self.in_flight: deque[Work] = deque()
        self.in_flight_entries = 0
        self.tail = 0
        self.last: Work | None = None


class Timeline:
    """Places the work of all lanes on the engines."""

    def __init__(self, on_placed: Callable[[Lane, Work], None] | None = None) -> None:
        self.lanes: list[Lane] = []
        self._free = [0, 0, 0, 0]
        self._on_placed = on_placed
        self.elapsed: Callable[[int, int, int], int] | None = None
        """How long work of that duration takes on that engine from that start; None: as long as it is."""

    def lane(self, priority: int = 0) -> Lane:
        """A new, empty lane; among works that could start at the same time, the lowest priority number goes first."""
        lane = Lane(len(self.lanes), priority)
        self.lanes.append(lane)
        self.lanes.sort(key=lambda each: each.priority)
        return lane

    def submit(self, lane: Lane, work: Work) -> None:
        """Append work to the lane."""
        lane.waiting.append(work)
        lane.in_flight.append(work)
        lane.in_flight_entries += work.entries
        lane.last = work

    def next_start(self) -> tuple[Lane, int] | None:
        """The lane whose first work starts next, and when; None when nothing waits or all waits for events."""
        best: Lane | None = None
        best_start = 0
        free = self._free
        for lane in self.lanes:
            if not lane.waiting:
                continue
            work = lane.waiting[0]
            start = work.ready
            if lane.tail > start:
                start = lane.tail
            after = work.after
            if after is not None:
                if after.end == PENDING:
                    continue
                if after.end > start:
                    start = after.end
            if free[work.engine] > start:
                start = free[work.engine]
            if best is None or start < best_start:
                best, best_start = lane, start
        return None if best is None else (best, best_start)

    def place(self, lane: Lane, start: int) -> None:
        """Let the first work of the lane start; it must be what `next_start` named."""
        work = lane.waiting.popleft()
        if self.elapsed is not None:
            work.duration = self.elapsed(work.engine, start, work.duration)
        end = start + work.duration
        if end < work.end_from:
            end = work.end_from
        work.start, work.end = start, end
        lane.tail = end
        if work.engine != NO_ENGINE:
            self._free[work.engine] = end
        if work.action is not None:
            work.action()
        if self._on_placed is not None:
            self._on_placed(lane, work)
