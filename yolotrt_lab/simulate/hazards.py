"""What a GPU would do silently wrong: memory that two use at once, or that is touched or freed too early.

Each stream counts its work. A stream knows how far others had come at the events that it waited for, and the host how
far each had come when it last waited or asked: vector clocks (Mattern, "Virtual Time and Global States", 1988). By them
a race shows whether or not it happens to go well this time (Flanagan and Freund, "FastTrack", PLDI 2009).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..device import HostBuffer
from ..errors import HazardError
from ..types import HostMemory
from .timeline import COMPUTE_ENGINE, DOWNLOAD_ENGINE, PENDING, StreamQueue, Work
from .virtual_time import Line, Trace, VirtualThreads, calling_line

READ, WRITE, TOUCH = "reads", "writes", "uses"
"""TOUCH is what a kernel does to an argument: it reads or writes it, and which is not known. Two of them don't race."""

Access = tuple[Work, str, int, int]
"""Work that touches bytes: what, how, and from which byte to which."""

_FIX = "wait for the event that follows the copy, or use another slot"


class Accesses:
    """What has touched a piece of memory, as far as it can still race with what comes. Of `device` memory it is known
    as well which bytes have a value.
    """

    __slots__ = ("_written", "device", "has_gaps", "lane", "latest", "memory", "place")

    def __init__(self, memory: str, device: Any = None) -> None:
        self.memory = memory
        """Its name in errors."""
        self.device: weakref.ref[Any] | None = None if device is None else weakref.ref(device)
        self.latest: list[Access] = []
        self.lane: StreamQueue | None = None
        """The lane of all that is in `latest`; None where there are several, or nothing is in it, or it has gaps."""
        self.place = 0
        """The place in it of the last of them."""
        self.has_gaps = device is not None
        """Some of its bytes may have no value."""
        self._written: set[tuple[int, int]] = set()

    def write(self, begin: int, end: int) -> None:
        """These bytes have a value now."""
        self._written.add((begin, end))
        device = None if self.device is None else self.device()
        self.has_gaps = device is not None and self.written(device.nbytes) < device.nbytes

    def written(self, nbytes: int) -> int:
        """How many of the first bytes have a value."""
        found = place = 0
        for begin, end in sorted(self._written):
            end = min(end, nbytes)
            found += max(end - max(begin, place), 0)
            place = max(place, end)
        return found


Touch = tuple[Accesses, str, int, int]
"""What work does to memory: to which, how, and from which byte to which."""


class WatchedBuffer(HostBuffer):
    """Host memory whose `array` can't be had while a download still writes it: a HazardError. `forget` makes it count
    as freed.
    """

    __slots__ = ("_hazards", "accesses", "copies", "forget")

    forget: Callable[[], object]

    def __init__(
        self, array: np.ndarray, memory: HostMemory, hazards: Hazards, accesses: Accesses | None = None
    ) -> None:
        super().__init__(array, memory)
        self._hazards = hazards
        self.accesses = accesses or Accesses(f"{memory} memory")
        self.copies: dict[tuple[int, int], Any] = {}
        """The copies from and to it, by their engine and the device's address."""

    @property
    def array(self) -> np.ndarray:
        """The memory, once no download writes it any more."""
        if self.accesses.latest:
            self._hazards.check_idle(self, "used", DOWNLOAD_ENGINE)
        return self._array

    def part(self, begin: int, nbytes: int) -> WatchedBuffer:
        """So many of its bytes; they are watched as the whole is."""
        return WatchedBuffer(self.raw[begin : begin + nbytes], self.memory, self._hazards, self.accesses)


class _Compared(NamedTuple):
    """A copy whose bytes on the host are compared with those that were submitted or downloaded."""

    work: Work
    raw: np.ndarray
    expected: np.ndarray


class _Freed(NamedTuple):
    """Memory that was given up before a copy of it was known to be over."""

    work: Work
    now: int
    what: str
    line: Line | None


class Hazards:
    """The watch over memory; a HazardError names the lines of the program where a trace is kept."""

    def __init__(self, threads: VirtualThreads, trace: Trace | None, is_done: Callable[[Work], bool]) -> None:
        self._threads, self._trace, self._is_done = threads, trace, is_done
        self._compared: list[_Compared] = []
        self._freed: list[_Freed] = []
        self.write: Callable[[np.ndarray, Callable[[], Any]], Any] = lambda array, action: action()
        """Does what the lab or a download writes into an array of the host; who watches the program's own writes puts
        another function here."""

    # Order

    def check(self, work: Work) -> None:
        """Note what `work` touches, which is submitted next.

        HazardError where other work that touches the same bytes may run at the same time, and one of the two writes;
        and where it computes on device memory that was written in part alone.
        """
        lane, place, known = work.lane, work.place, work.lane.known
        for accesses, kind, begin, end in work.task.touches:
            if accesses.lane is lane and accesses.place <= known:  # all of it is over
                accesses.latest = [(work, kind, begin, end)]
            elif (
                accesses.lane is lane and kind is READ and len(accesses.latest) == 1 and accesses.latest[0][1] is WRITE
            ):
                accesses.latest.append((work, kind, begin, end))
            else:
                self._check_races(accesses, kind, begin, end, work)
            accesses.place = place

    def _check_races(self, accesses: Accesses, kind: str, begin: int, end: int, work: Work) -> None:
        lane, kept = work.lane, []
        for access in accesses.latest:
            earlier, how, first, last = access
            other = earlier.lane
            if earlier.place <= other.known:
                continue
            if other is lane or earlier.place <= lane.clock.get(other, 0):
                if begin <= first and last <= end and kind in (WRITE, how):
                    continue  # what races with it races with `work` as well
            elif first < end and begin < last and (how != kind or kind == WRITE):
                raise HazardError(
                    f"{work.task.name} {kind} {min(last, end) - max(first, begin):,} bytes of {accesses.memory} that "
                    f"{earlier.task.name} {how} in another stream, and nothing orders the two",
                    fix="record an event behind the first, and let the other stream wait for it (wait_event)",
                    lines=(self.line_now(), self.line(earlier)),
                )
            kept.append(access)
        accesses.lane = lane if not kept or accesses.lane is lane else None
        kept.append((work, kind, begin, end))
        accesses.latest = kept
        if accesses.has_gaps:
            accesses.lane = None  # each access comes here
            self._check_gaps(accesses, kind, begin, end, work)

    def _check_gaps(self, accesses: Accesses, kind: str, begin: int, end: int, work: Work) -> None:
        if kind != READ:
            accesses.write(begin, end)
        elif work.task.engine == COMPUTE_ENGINE and 0 < (written := accesses.written(end)) < end:
            raise HazardError(
                f"the input of {work.task.name} must be written whole, got {written:,} of {end:,} bytes",
                fix="upload an array of the input's dtype and shape, all of it to its place",
                lines=(self.line_now(),),
            )

    def learn(self, work: Work | None) -> None:
        """The host has waited for that work, or was told that it is over; None: it learned of none.

        HazardError where the bytes of a copy that has run by now are not those that were submitted or downloaded, and
        where memory was freed while a copy still used it.
        """
        if work is not None:
            if work.lane.known < work.place:
                work.lane.known = work.place
            for lane, place in work.clock.items():
                if lane.known < place:
                    lane.known = place
        if self._compared or self._freed:
            self._check_copies()

    def line_now(self) -> Line | None:
        """The line of the program that is calling; None where no trace is kept."""
        return calling_line() if self._trace is not None else None

    def line(self, work: Work) -> Line | None:
        """The line of the program that submitted it."""
        return self._trace.lines.get(work.correlation) if self._trace is not None else None

    # The host's side

    def check_idle(self, buffer: HostBuffer, verb: str, engine: int | None = None) -> None:
        """HazardError if a copy (on that engine, on any without it) still uses these bytes, which are to be 'read',
        'written' or 'used'.
        """
        if not isinstance(buffer, WatchedBuffer):
            return
        for work, _, first, last in buffer.accesses.latest:
            if work.place <= work.lane.known:
                continue
            begin, end = buffer.address, buffer.address + buffer.nbytes
            if first < end and begin < last and engine in (None, work.task.engine) and not self._is_done(work):
                raise HazardError(
                    f"{buffer.nbytes:,} bytes of {buffer.memory} memory are {verb}{self._when()} while a copy "
                    f"({work.task.name}) still uses them",
                    fix=_FIX,
                    lines=(self.line_now(), self.line(work)),
                )

    def check_known(self, accesses: Accesses, begin: int, end: int, kind: str) -> None:
        """HazardError where the host reads or writes (`kind`) these bytes, and nothing that it waited for says that the
        copies of them are over: even if this time they are.
        """
        for work, how, first, last in accesses.latest:
            if first < end and begin < last and WRITE in (kind, how) and work.place > work.lane.known:
                copy = f"a copy ({work.task.name}) {how}"
                raise HazardError(
                    f"the host {kind} memory that {copy}, and no wait says that the copy is over",
                    fix=_FIX,
                    lines=(self.line_now(), self.line(work)),
                )

    def freed(self, buffer: WatchedBuffer) -> None:
        """That memory is given up; the next wait raises a HazardError if a copy turns out to have used it then.

        It may be called by the garbage collector, at any moment: it lets no GPU time pass.
        """
        now, touched = self._threads.now, buffer.accesses.latest
        buffer.accesses.latest, buffer.accesses.lane = [], None
        line = self.line_now() if touched else None
        for work, _, first, last in touched:
            if not work.has_run(now):
                what = f"{last - first:,} bytes of {buffer.memory} memory are freed{self._when()}"
                self._freed.append(_Freed(work, now, what, line))

    def compare(self, buffer: HostBuffer, work: Work) -> None:
        """Find it where the host writes these bytes during a copy that was just submitted."""
        raw = buffer.raw
        compared = _Compared(work, raw, raw.copy())
        self._compared.append(compared)
        if work.task.engine == DOWNLOAD_ENGINE and (download := work.action) is not None:

            def land() -> None:
                """What it is compared with from here on is what the download wrote."""
                untouched = _same(raw, compared.expected)
                self.write(raw, download)
                if untouched:
                    np.copyto(compared.expected, raw)

            work.action = land

    def _check_copies(self) -> None:
        now = self._threads.now
        ended = [each for each in self._compared if each.work.has_run(now)]
        self._compared = [each for each in self._compared if not each.work.has_run(now)]
        freed, self._freed = self._freed, [each for each in self._freed if each.work.end == PENDING]
        for work, freed_ns, what, line in freed:
            if work.end > freed_ns:
                raise HazardError(
                    f"{what} while a copy ({work.task.name}) still uses them",
                    fix="hold the memory until the copy is done",
                    lines=(line, self.line(work)),
                )
        for work, raw, expected in ended:
            if not _same(raw, expected):
                raise HazardError(
                    f"{raw.size:,} bytes were written while they were in flight ({work.task.name})",
                    fix=_FIX,
                    lines=(self.line(work),),
                )

    def _when(self) -> str:
        """The instant, where no line says where it was."""
        return f" at {self._threads.now / 1e6:.3f} ms" if self._trace is None else ""


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays of bytes are equal: eight at a time where that goes up."""
    words = np.uint8 if len(one) % 8 else np.uint64
    return np.array_equal(one.view(words), other.view(words))
