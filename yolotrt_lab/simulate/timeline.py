"""When the GPU does what: a discrete-event model of streams in order and engines that do one piece of work at a time.

It has no clock of its own. Work is submitted with the time from which it may start. It is placed on its engine lazily,
earliest start first, once somebody asks for its end. That order is exact as long as nothing that is submitted later may
start earlier, which the simulated device ensures.

Kernels that share the GPU run at once, each slower than alone: processor sharing, with a total rate that depends on
how many run (Kleinrock, "Queueing Systems", volume 2, 1976). Their end is known once it is the next thing to happen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import ceil
from typing import Any, TypeAlias

from ..errors import HazardError

UPLOAD_ENGINE, COMPUTE_ENGINE, DOWNLOAD_ENGINE, NO_ENGINE, DRIVER = range(5)
"""DRIVER is the staging memory of the driver: the pageable uploads of a process take turns in it, and leave the copy
engine free for pinned ones in between."""

PENDING = -1


@dataclass(slots=True, eq=False)
class Work:
    """One piece of stream work."""

    engine: int
    ready: int = 0
    """It starts no earlier."""
    duration: int = 0
    name: str = ""
    nbytes: int = 0
    action: Callable[[], Any] | None = None
    """It runs when the work is placed, and goes then, with the memory that it holds."""
    sharing: Sequence[float] = ()
    """The total rate of 1, 2, ... works that share the compute engine (the last holds for more). Empty: the work has
    the engine to itself."""
    owner: object = None
    """Two works of one owner must not run at once."""
    after: Work | None = None
    """It starts no earlier than the end of this."""
    end_from: int = 0
    """It ends no earlier: the host still launches its kernels until then."""
    free_before: int = 0
    """Its engine is free so long before its end."""
    entries: int = 1
    """Places of the launch queue that it takes."""
    correlation: int = field(default=0, init=False)
    """The number of the call that submitted it."""
    lane: StreamQueue = field(init=False)
    place: int = field(init=False)
    """Which of the works of its lane it is, from 1 on."""
    clock: Clock = field(init=False)
    """How far other streams are once it is over."""
    start: int = field(default=PENDING, init=False)
    end: int = field(default=PENDING, init=False)
    """Both are PENDING until the work is placed, and final from then on."""

    def has_run(self, now: int) -> bool:
        """True where it is known to have run by then."""
        return 0 <= self.end <= now


@dataclass(slots=True, eq=False)
class StreamQueue:
    """The work of one stream, in order."""

    number: int
    priority: int
    closed: bool = False
    """Nobody can submit to it any more."""
    waiting: deque[Work] = field(default_factory=deque)
    in_flight: deque[Work] = field(default_factory=deque)
    in_flight_entries: int = 0
    tail: int = 0
    """The last end that was placed."""
    last: Work | None = None
    count: int = 0
    """How many works were submitted to it."""
    known: int = 0
    """So many of them are over, as the host knows from its waits."""
    clock: Clock = field(default_factory=dict)
    """How far other streams were at the events that it waits for. Replaced where that changes: its works refer to it.
    """
    running: Work | None = None
    """What shares the GPU now, with `left` of its duration still to run."""
    left: float = 0.0

    def wait_for(self, work: Work) -> None:
        """What is submitted from here on runs after that work."""
        clock = dict(self.clock)
        for lane, place in (*work.clock.items(), (work.lane, work.place)):
            clock[lane] = max(place, clock.get(lane, 0))
        self.clock = clock


Clock: TypeAlias = dict[StreamQueue, int]
"""How far each stream is at some place: how many of its works are over there."""


class Timeline:
    """Places the work of all lanes (the queues of the streams) on the engines."""

    def __init__(self, on_placed: Callable[[StreamQueue, Work], None] | None = None) -> None:
        self.lanes: list[StreamQueue] = []
        self.busy = 0
        """How many of them have work."""
        self._numbers = count()
        self._free = [0, 0, 0, 0, 0]
        self._sharing: list[StreamQueue] = []
        self._shared_until = 0
        self._on_placed = on_placed
        self.elapsed: Callable[[int, int, int], int] | None = None
        """How long work takes, given its engine, start and duration; None: its duration."""

    def lane(self, priority: int = 0) -> StreamQueue:
        """A new, empty lane.

        Of works that could start at the same time, that of the lowest priority number goes first, and among those the
        one that has waited for its engine longest.
        """
        lane = StreamQueue(next(self._numbers), priority)
        self.lanes.append(lane)
        self.lanes.sort(key=lambda each: each.priority)
        return lane

    def drop_closed(self, now: int) -> None:
        """Forget the closed lanes whose work has all run by then."""
        self.lanes = [lane for lane in self.lanes if not lane.closed or (lane.last and not lane.last.has_run(now))]

    def submit(self, lane: StreamQueue, work: Work) -> None:
        """Append work to the lane."""
        if not lane.waiting and lane.running is None:
            self.busy += 1
        lane.waiting.append(work)
        lane.in_flight.append(work)
        lane.in_flight_entries += work.entries
        lane.last = work
        lane.count += 1

    def next_start(self) -> tuple[StreamQueue, int] | None:
        """The lane in which work starts next, or ends that shares the GPU, and when; None if that is never."""
        best, best_start = self._next_end() if self._sharing else (None, 0)
        best_since = PENDING  # below every other: what ends goes before what starts
        free = self._free
        for lane in self.lanes:
            if not lane.waiting or lane.running is not None:
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
            if work.engine == COMPUTE_ENGINE and self._sharing and not work.sharing:
                continue
            since = start  # it waits for its engine alone from then on
            if free[work.engine] > start:
                start = free[work.engine]
            if (
                best is None
                or start < best_start
                or (start == best_start and since < best_since and lane.priority == best.priority)
            ):
                best, best_start, best_since = lane, start, since
        return None if best is None else (best, best_start)

    def place(self, lane: StreamQueue, start: int) -> None:
        """Let happen what `next_start` named: the lane's first work starts, or the one that runs there ends."""
        if lane.running is not None:
            self._end_shared(lane, start)
            return
        work = lane.waiting.popleft()
        self._take_up(work, start)
        work.start = start
        if work.sharing:
            self._start_shared(lane, work)
        else:
            self._end(lane, work, start + work.duration)

    def place_alone(self, last: Work) -> None:
        """The same for all works of a lane up to `last`, where no other lane has any, nor will before that ends.

        It leaves to `next_start` what waits for an event, or runs already.
        """
        lane, free, changes = last.lane, self._free, self.elapsed is not None
        waiting, end = lane.waiting, lane.tail
        while last.end == PENDING and waiting and lane.running is None and waiting[0].after is None:
            work = waiting.popleft()
            engine, start = work.engine, work.ready
            if end > start:
                start = end
            if free[engine] > start:
                start = free[engine]
            if changes or work.action is not None:
                self._take_up(work, start)
            end = start + (ceil(work.duration / work.sharing[0]) if work.sharing else work.duration)
            if end < work.end_from:
                end = work.end_from
            work.start, work.end = start, end
            lane.tail = end
            if engine != NO_ENGINE:
                free[engine] = end - work.free_before
            if not waiting:
                self.busy -= 1
            if self._on_placed is not None:
                self._on_placed(lane, work)

    def _take_up(self, work: Work, start: int) -> None:
        if self.elapsed is not None:
            work.duration = self.elapsed(work.engine, start, work.duration)
        if work.action is not None:
            work.action()
            work.action = None

    def _end(self, lane: StreamQueue, work: Work, end: int) -> None:
        if end < work.end_from:
            end = work.end_from
        work.end = lane.tail = end
        if not lane.waiting:
            self.busy -= 1
        engine = work.engine
        if work.sharing:
            self._free[engine] = max(self._free[engine], end)
        elif engine != NO_ENGINE:
            self._free[engine] = end - work.free_before
        if self._on_placed is not None:
            self._on_placed(lane, work)

    def _start_shared(self, lane: StreamQueue, work: Work) -> None:
        if work.owner is not None and any(each.running.owner is work.owner for each in self._sharing if each.running):
            raise HazardError(
                f"{work.name} must not start while the same context still runs, got {work.start} ns",
                fix="use a context for each frame in flight: engine.context(device)",
            )
        self._share_until(work.start)
        lane.running, lane.left = work, float(work.duration)
        self._sharing.append(lane)

    def _end_shared(self, lane: StreamQueue, end: int) -> None:
        self._share_until(end)
        self._sharing.remove(lane)
        work, lane.running = lane.running, None
        assert work is not None
        self._end(lane, work, end)

    def _share_until(self, time: int) -> None:
        """Let those that share the GPU run until then."""
        for lane in self._sharing:
            lane.left -= (time - self._shared_until) * self._rate(lane)
        self._shared_until = time

    def _rate(self, lane: StreamQueue) -> float:
        assert lane.running is not None
        running, rates = len(self._sharing), lane.running.sharing
        return rates[min(running, len(rates)) - 1] / running

    def _next_end(self) -> tuple[StreamQueue, int]:
        first, soonest = self._sharing[0], -1
        for lane in self._sharing:
            end = self._shared_until + max(ceil(lane.left / self._rate(lane)), 0)
            if soonest < 0 or end < soonest:
                first, soonest = lane, end
        return first, soonest
