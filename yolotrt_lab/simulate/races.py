"""Which work is over before which, and what touches the same bytes without it.

Each stream counts its work. A stream knows how far others had come at the events that it waited for, and the host how
far each had come when it last waited or asked: vector clocks (Mattern, "Virtual Time and Global States", 1988). By them
a race shows whether or not it happens to go well this time (Flanagan and Freund, "FastTrack", PLDI 2009).
"""

from __future__ import annotations

from ..errors import HazardError
from .timeline import StreamQueue, Work
from .virtual_time import Trace, calling_line

READ, WRITE, TOUCH = "reads", "writes", "uses"
"""TOUCH is what a kernel does to an argument: it reads or writes it, and which is not known. Two of them don't race."""


Access = tuple[StreamQueue, int, str, int, int, Work]
"""Work that touches bytes: its lane and its place in it, how, from which byte to which, and what. A plain tuple, since
each copy makes two."""


class Accesses:
    """What has touched a piece of memory, as far as it can still race with what comes, and which bytes were written."""

    __slots__ = ("latest", "written")

    def __init__(self) -> None:
        self.latest: list[Access] = []
        self.written: list[tuple[int, int]] = []

    def write(self, begin: int, end: int) -> None:
        """These bytes have a value now."""
        if self.written and self.written[0][0] <= begin and end <= self.written[0][1]:
            return
        merged: list[tuple[int, int]] = []
        for start, stop in sorted([*self.written, (begin, end)]):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
            else:
                merged.append((start, stop))
        self.written = merged

    def written_in_part(self, nbytes: int) -> int | None:
        """How many of the first bytes were written, where it is some and not all; None otherwise."""
        written = sum(max(min(stop, nbytes) - start, 0) for start, stop in self.written)
        return written if 0 < written < nbytes else None


class Order:
    """The host's knowledge of the streams, and the check of each access against it."""

    def __init__(self, trace: Trace | None) -> None:
        self._trace = trace
        self._known: dict[int, int] = {}

    def mark(self, lane: StreamQueue) -> dict[int, int]:
        """The clock of an event behind everything submitted so far."""
        return {**lane.clock, lane.number: lane.count}

    def learn(self, clock: dict[int, int] | None) -> None:
        """The host has waited for a mark of that clock, or was told that it is reached."""
        join(self._known, clock)

    def is_known(self, access: Access) -> bool:
        """Whether the host knows that it is over."""
        return access[1] <= self._known.get(access[0].number, 0)

    def check(
        self, accesses: Accesses, lane: StreamQueue, kind: str, begin: int, end: int, work: Work, what: str
    ) -> None:
        """Note that `work`, which is submitted to the lane next, touches these bytes of `what`.

        HazardError where other work that touches them may run at the same time, and one of the two writes.
        """
        kept = [access for access in accesses.latest if not self.is_known(access)] if accesses.latest else []
        if kept:
            kept = self._kept(kept, lane, kind, begin, end, work, what)
        kept.append((lane, lane.count + 1, kind, begin, end, work))
        accesses.latest = kept

    def _kept(
        self, accesses: list[Access], lane: StreamQueue, kind: str, begin: int, end: int, work: Work, what: str
    ) -> list[Access]:
        """Those that can still race with what comes after `work`."""
        kept = []
        for access in accesses:
            other, place, how, first, last, earlier = access
            ordered = other is lane or place <= lane.clock.get(other.number, 0)
            if not ordered and first < end and begin < last and (how != kind or kind == WRITE):
                raise HazardError(
                    f"{work.name} {kind} {min(last, end) - max(first, begin):,} bytes of {what} that {earlier.name} "
                    f"{how} in another stream, and nothing orders the two",
                    fix="record an event behind the first, and let the other stream wait for it (wait_event)",
                    lines=(self.line_now(), self.line(earlier)),
                )
            if not (ordered and begin <= first and last <= end and kind in (WRITE, how)):
                kept.append(access)
        return kept

    def line_now(self) -> tuple[str, int] | None:
        """The line of the program that is calling; None where no trace is kept."""
        return calling_line() if self._trace is not None else None

    def line(self, work: Work) -> tuple[str, int] | None:
        """The line of the program that submitted it."""
        return self._trace.lines.get(work.correlation) if self._trace is not None else None


def join(clock: dict[int, int], other: dict[int, int] | None) -> None:
    """Bring the clock up to the other."""
    for lane, count in (other or {}).items():
        if clock.get(lane, 0) < count:
            clock[lane] = count
