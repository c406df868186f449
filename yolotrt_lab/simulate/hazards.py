"""What a GPU would do silently wrong: memory that two use at once, or that is touched or freed too early.

Each stream counts its work. A stream knows how far others had come at the events that it waited for, and the host how
far each had come when it last waited or asked: vector clocks (Mattern, "Virtual Time and Global States", 1988). By them
a race shows whether or not it happens to go well this time (Flanagan and Freund, "FastTrack", PLDI 2009).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from ..device import HostBuffer
from ..errors import HazardError
from ..types import HostMemory
from .timeline import COMPUTE_ENGINE, DOWNLOAD_ENGINE, PENDING, StreamQueue, Work
from .virtual_time import Line, Trace, VirtualThreads, calling_line

READ, WRITE, TOUCH = "reads", "writes", "uses"
"""TOUCH is what a kernel does to an argument: it reads or writes it, and which is not known. Two of them don't race."""

_FIX = "wait for the event that follows the copy, or use another slot"
_MANY = 1_000  # works that the host has not waited for


class Region:
    """A piece of memory that work touches. Of `device` memory it is known which bytes have a value."""

    __slots__ = ("_written", "device", "has_gaps", "memory")

    def __init__(self, memory: str, device: Any = None) -> None:
        self.memory = memory
        """Its name in errors."""
        self.device: weakref.ref[Any] | None = None if device is None else weakref.ref(device)
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


Touch = tuple[Region, str, int, int]
"""What work does to memory: to which, how, and from which byte to which."""

Access = tuple[Work, str, int, int]
"""Work that touches a region: what, how, and from which byte to which."""


class WatchedBuffer(HostBuffer):
    """Host memory whose `array` can't be had while a download still writes it: a HazardError. `forget` makes it count
    as freed.
    """

    __slots__ = ("_hazards", "copies", "forget", "region")

    forget: Callable[[], object]

    def __init__(self, array: np.ndarray, memory: HostMemory, hazards: Hazards, region: Region | None = None) -> None:
        super().__init__(array, memory)
        self._hazards = hazards
        self.region = region or Region(f"{memory} memory")
        self.copies: dict[tuple[int, int], Any] = {}
        """The copies from and to it, by their engine and the device's address."""

    @property
    def array(self) -> np.ndarray:
        """The memory, once no download writes it any more."""
        self._hazards.check_idle(self, "used", DOWNLOAD_ENGINE)
        return self._array

    def part(self, begin: int, nbytes: int) -> WatchedBuffer:
        """So many of its bytes; they are watched as the whole is."""
        return WatchedBuffer(self.raw[begin : begin + nbytes], self.memory, self._hazards, self.region)


_Compared = tuple[Work, np.ndarray, np.ndarray]
"""A copy, its bytes on the host, and those that were submitted or downloaded."""

_Freed = tuple[Work, int, str, Line | None]
"""A copy that was not known to be over when its memory was given up: at which time, what, and on which line."""


class Hazards:
    """The watch over memory; a HazardError names the lines of the program where a trace is kept."""

    def __init__(self, threads: VirtualThreads, trace: Trace | None, is_done: Callable[[Work], bool]) -> None:
        self._threads, self._trace, self._is_done = threads, trace, is_done
        self._lanes: list[StreamQueue] = []
        """Those with work that touches memory and that the host does not know to be over."""
        self._compared: list[_Compared] = []
        self._freed: list[_Freed] = []
        self.write: Callable[[np.ndarray, Callable[[], Any]], Any] = lambda array, action: action()
        """Does what the lab or a download writes into an array of the host; who watches the program's own writes puts
        another function here."""

    # Order

    def check(self, work: Work) -> None:
        """Note that `work` is submitted next.

        HazardError where other work that touches the same bytes may run at the same time, and one of the two writes;
        and where it computes on device memory that was written in part alone.
        """
        task, lane = work.task, work.lane
        for other in self._lanes:
            if other is not lane:
                ordered = work.clock.get(other, 0)
                for earlier in other.unknown:
                    if earlier.place > ordered and not earlier.task.regions.isdisjoint(task.regions):
                        self._check_races(work, other, ordered)
                        break
        if not task.whole:
            self._check_gaps(work)
        if not lane.unknown:
            self._lanes.append(lane)
        lane.unknown.append(work)

    def _check_races(self, work: Work, other: StreamQueue, ordered: int) -> None:
        for region, kind, begin, end in work.task.touches:
            for earlier, how, first, last in _accesses(region, [other]):
                if earlier.place > ordered and first < end and begin < last and (how != kind or kind == WRITE):
                    raise HazardError(
                        f"{work.task.name} {kind} {min(last, end) - max(first, begin):,} bytes of {region.memory} that "
                        f"{earlier.task.name} {how} in another stream, and nothing orders the two",
                        fix="record an event behind the first, and let the other stream wait for it (wait_event)",
                        lines=(self.line_now(), self.line(earlier)),
                    )

    def _check_gaps(self, work: Work) -> None:
        task = work.task
        for region, kind, begin, end in task.touches:
            if region.has_gaps and kind != READ:
                region.write(begin, end)
            elif region.has_gaps and task.engine == COMPUTE_ENGINE and 0 < (written := region.written(end)) < end:
                raise HazardError(
                    f"the input of {task.name} must be written whole, got {written:,} of {end:,} bytes",
                    fix="upload an array of the input's dtype and shape, all of it to its place",
                    lines=(self.line_now(),),
                )
        task.whole = not any(region.has_gaps for region in task.regions)

    def learn(self, work: Work | None) -> None:
        """The host has waited for that work, or was told that it is over; None: it learned of none.

        HazardError where the bytes of a copy that has run by now are not those that were submitted or downloaded, and
        where memory was freed while a copy still used it.
        """
        if work is not None:
            self._know(work.lane, work.place)
            if work.clock:
                for lane, place in work.clock.items():
                    self._know(lane, place)
        if self._compared or self._freed:
            self._check_copies()

    def _know(self, lane: StreamQueue, place: int) -> None:
        """So many works of the lane are over."""
        unknown = lane.unknown
        if unknown and unknown[-1].place <= place:
            unknown.clear()
            self._lanes.remove(lane)
        while unknown and unknown[0].place <= place:
            del unknown[0]

    def thin_out(self, lane: StreamQueue) -> None:
        """Of many works forget those that a later one stands for: what races with them races with that as well."""
        if len(lane.unknown) > _MANY:
            latest = {touch: work for work in lane.unknown for touch in work.task.touches}
            lane.unknown = sorted(set(latest.values()), key=lambda work: work.place)

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
        if not self._lanes or not isinstance(buffer, WatchedBuffer):
            return
        begin, end = buffer.address, buffer.address + buffer.nbytes
        for work, _, first, last in _accesses(buffer.region, self._lanes):
            if first < end and begin < last and engine in (None, work.task.engine) and not self._is_done(work):
                raise HazardError(
                    f"{buffer.nbytes:,} bytes of {buffer.memory} memory are {verb}{self._when()} while a copy "
                    f"({work.task.name}) still uses them",
                    fix=_FIX,
                    lines=(self.line_now(), self.line(work)),
                )

    def check_known(self, region: Region, begin: int, end: int, kind: str) -> None:
        """HazardError where the host reads or writes (`kind`) these bytes, and nothing that it waited for says that the
        copies of them are over: even if this time they are.
        """
        for work, how, first, last in _accesses(region, self._lanes):
            if first < end and begin < last and WRITE in (kind, how):
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
        now, touched = self._threads.now, _accesses(buffer.region, self._lanes)
        buffer.region = Region(buffer.region.memory)  # whoever gets it next has nothing to do with them
        buffer.copies.clear()
        line = self.line_now() if touched else None
        for work, _, first, last in touched:
            if not work.has_run(now):
                what = f"{last - first:,} bytes of {buffer.memory} memory are freed{self._when()}"
                self._freed.append((work, now, what, line))

    def compare(self, buffer: HostBuffer, work: Work) -> None:
        """Find it where the host writes these bytes during a copy that was just submitted."""
        raw = buffer.raw
        expected = raw.copy()
        self._compared.append((work, raw, expected))
        if work.task.engine == DOWNLOAD_ENGINE and (download := work.action) is not None:

            def land() -> None:
                """What it is compared with from here on is what the download wrote."""
                untouched = _same(raw, expected)
                self.write(raw, download)
                if untouched:
                    np.copyto(expected, raw)

            work.action = land

    def _check_copies(self) -> None:
        now = self._threads.now
        ended = [each for each in self._compared if each[0].has_run(now)]
        self._compared = [each for each in self._compared if not each[0].has_run(now)]
        freed, self._freed = self._freed, [each for each in self._freed if each[0].end == PENDING]
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


def _accesses(region: Region, lanes: list[StreamQueue]) -> list[Access]:
    """Those that the host does not know to be over."""
    found: list[Access] = []
    for lane in lanes:
        for work in lane.unknown:
            if region in work.task.regions:
                found += [(work, *touch[1:]) for touch in work.task.touches if touch[0] is region]
    return found


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays of bytes are equal: eight at a time where that goes up."""
    words = np.uint8 if len(one) % 8 else np.uint64
    return np.array_equal(one.view(words), other.view(words))
