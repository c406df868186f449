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
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import HazardError

if TYPE_CHECKING:
    from .hazards import Region, Touch

UPLOAD_ENGINE, COMPUTE_ENGINE, DOWNLOAD_ENGINE, NO_ENGINE, DRIVER = range(5)
"""DRIVER is the staging memory of the driver: the pageable uploads of a process take turns in it, and leave the copy
engine free for pinned ones in between."""

PENDING = -1


@dataclass(slots=True, eq=False)
class Task:
    """What work is, each time that it is submitted."""

    engine: int
    name: str = ""
    nbytes: int = 0
    touches: Sequence[Touch] = ()
    """What it does to memory."""
    sharing: Sequence[float] = ()
    """The total rate of 1, 2, ... works that share the compute engine (the last holds for more). Empty: the work has
    the engine to itself."""
    owner: object = None
    """Two works of one owner must not run at once."""
    entries: int = 1
    """Places of the launch queue that it takes."""
    free_before: int = 0
    """Its engine is free so long before its end."""
    after: Work | None = None
    """It starts no earlier than the end of this."""
    regions: frozenset[Region] = field(init=False)
    """The memory that it touches."""
    whole: bool = field(default=False, init=False)
    """All bytes of it have a value."""

    def __post_init__(self) -> None:
        self.regions = frozenset(touch[0] for touch in self.touches)


class Work:
    """A task that was submitted to a lane. It is created empty: a constructor would take four times as long."""

    __slots__ = (
        *("action", "clock", "correlation", "duration", "end", "end_from", "lane", "place", "ready", "start"),
        "task",
    )

    task: Task
    lane: StreamQueue
    place: int
    """Which of the works of its lane it is, from 1 on."""
    clock: Clock
    """How far other streams are once it is over."""
    ready: int
    """It starts no earlier."""
    duration: int
    end_from: int
    """It ends no earlier: the host still launches its kernels until then."""
    action: Callable[[], Any] | None
    """It runs when the work is placed, and goes then, with the memory that it holds."""
    correlation: int
    """The number of the call that submitted it, where a trace is kept."""
    start: int
    end: int
    """PENDING until the work is placed; both are final from then on."""

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
    waiting: list[Work] = field(default_factory=list)
    """What was not placed yet."""
    queue: deque[Work] = field(default_factory=deque)
    """What takes its `entries` of the launch queue, as far as is known."""
    entries: int = 0
    tail: int = 0
    """The last end that was placed."""
    last: Work | None = None
    count: int = 0
    """How many works were submitted to it."""
    unknown: list[Work] = field(default_factory=list)
    """Those that touch memory and that the host, by its waits, does not know to be over."""
    clock: Clock = field(default_factory=dict)
    """How far other streams were at the events that it waits for. Replaced where that changes: its works refer to it.
    """
    held: int = 0
    """So many of them wait for an event, and were not placed yet."""
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

    def __init__(self, on_placed: Callable[[Work], None] | None = None) -> None:
        self.lanes: list[StreamQueue] = []
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

    def next_start(self) -> tuple[StreamQueue, int] | None:
        """The lane in which work starts next, or ends that shares the GPU, and when; None if that is never."""
        best, best_start = self._next_end() if self._sharing else (None, 0)
        best_since = PENDING  # below every other: what ends goes before what starts
        free = self._free
        for lane in self.lanes:
            if not lane.waiting or lane.running is not None:
                continue
            work = lane.waiting[0]
            task, start = work.task, work.ready
            if lane.tail > start:
                start = lane.tail
            after = task.after
            if after is not None:
                if after.end == PENDING:
                    continue
                if after.end > start:
                    start = after.end
            if task.engine == COMPUTE_ENGINE and self._sharing and not task.sharing:
                continue
            since = start  # it waits for its engine alone from then on
            if free[task.engine] > start:
                start = free[task.engine]
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
        work = lane.waiting.pop(0)
        lane.held -= work.task.after is not None
        self._take_up(work, start)
        work.start = start
        if work.task.sharing:
            self._start_shared(lane, work)
        else:
            self._end(lane, work, start + work.duration)

    def place_alone(self, last: Work) -> None:
        """The same for all works of a lane up to `last`, where no other lane has any, nor will before that ends.

        It does nothing where another lane has work, or where some waits for an event, or shares the GPU already.
        """
        lane, free = last.lane, self._free
        for other in self.lanes:
            if other.running is not None or (other.waiting and other is not lane):
                return
        if lane.held:
            return
        works, lane.waiting = lane.waiting, []
        if last is not lane.last:
            behind = works.index(last) + 1
            works, lane.waiting = works[:behind], works[behind:]
        changes, on_placed, end = self.elapsed is not None, self._on_placed, lane.tail
        shared = max(free) > end  # other lanes keep an engine busy
        for work in works:
            task = work.task
            start = work.ready
            if end > start:
                start = end
            engine = task.engine
            if shared and free[engine] > start:
                start = free[engine]
            if changes or work.action is not None:
                self._take_up(work, start)
            end = start + (ceil(work.duration / task.sharing[0]) if task.sharing else work.duration)
            if end < work.end_from:
                end = work.end_from
            work.start = start
            work.end = end
            free[engine] = end - task.free_before
            if on_placed is not None:
                on_placed(work)
        lane.tail = end
        free[NO_ENGINE] = 0  # that is none: no other lane waits for it

    def _take_up(self, work: Work, start: int) -> None:
        if self.elapsed is not None:
            work.duration = self.elapsed(work.task.engine, start, work.duration)
        if work.action is not None:
            work.action()
            work.action = None

    def _end(self, lane: StreamQueue, work: Work, end: int) -> None:
        if end < work.end_from:
            end = work.end_from
        work.end = lane.tail = end
        task = work.task
        if task.sharing:
            self._free[task.engine] = max(self._free[task.engine], end)
        elif task.engine != NO_ENGINE:
            self._free[task.engine] = end - task.free_before
        if self._on_placed is not None:
            self._on_placed(work)

    def _start_shared(self, lane: StreamQueue, work: Work) -> None:
        owner = work.task.owner
        if owner is not None and any(each.running.task.owner is owner for each in self._sharing if each.running):
            raise HazardError(
                f"{work.task.name} must not start while the same context still runs, got {work.start} ns",
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
        running, rates = len(self._sharing), lane.running.task.sharing
        return rates[min(running, len(rates)) - 1] / running

    def _next_end(self) -> tuple[StreamQueue, int]:
        first, soonest = self._sharing[0], -1
        for lane in self._sharing:
            end = self._shared_until + max(ceil(lane.left / self._rate(lane)), 0)
            if soonest < 0 or end < soonest:
                first, soonest = lane, end
        return first, soonest
