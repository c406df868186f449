"""The frames of a trace, joined to the CUDA calls made in them and to what the GPU did for these calls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from ..errors import TraceError
from .intervals import Cover, GroupedCover, distinct, each, find, in_turn, taken
from .trace import SCHEMA, Columns, Trace, calls_of, packed, queue_of, rows_of


class Call(StrEnum):
    """What a CUDA call is for, told by its name: the synchronization records of a report give some types wrongly."""

    COPY = "copy"
    LAUNCH = "launch"
    SYNCHRONIZE = "synchronize"
    ALLOCATE = "allocate"
    OTHER = "other"


KINDS = tuple(Call)
KERNEL, COPY, MEMSET = range(3)
"""What the GPU did. Filling memory counts as a kernel, except in the number of kernels."""

_WORDS = {
    Call.COPY: ("Memcpy",),
    Call.LAUNCH: ("Launch",),
    Call.ALLOCATE: ("Malloc", "MemAlloc", "HostAlloc", "Free", "HostRegister", "HostUnregister"),
}
_FIX = "name the range that holds one frame: frame_range=..."


def kind_of(name: str) -> Call:
    """The kind of the call of that name, of the runtime or of the driver; names of other things are OTHER."""
    if not name.startswith("cu"):
        return Call.OTHER
    if name.endswith("Synchronize"):
        return Call.SYNCHRONIZE
    return next((kind for kind, words in _WORDS.items() if any(word in name for word in words)), Call.OTHER)


@dataclass(frozen=True, eq=False)
class Frames:
    """The frames of a trace, sorted by their start: columns of shape (frames,), disjoint within a thread."""

    start: np.ndarray
    end: np.ndarray
    thread: np.ndarray
    """The process and the thread of the frame, as `packed` has them."""
    row: np.ndarray
    """The frame's row in `ranges`."""
    notes: tuple[str, ...] = ()
    """What was left out."""

    def __len__(self) -> int:
        return len(self.start)

    @property
    def processes(self) -> int:
        """How many processes have frames."""
        return len(distinct(self.thread >> 32))

    def of(self, table: Columns) -> np.ndarray:
        """For each row of `api` or `ranges` the frame of its own thread in which it begins, -1 for none."""
        frame, threads = np.full(len(table["start_ns"]), -1), packed(table)
        for thread, mine in each(self.thread):
            here = threads == thread
            rows = slice(None) if here.all() else np.flatnonzero(here)  # a long trace is not copied for nothing
            frame[rows] = taken(mine, find(self.start[mine], self.end[mine], table["start_ns"][rows]))
        return frame


def frames_of(trace: Trace, pattern: str) -> Frames:
    """The frames that `attribute` finds; TraceError where there is none."""
    chosen = np.flatnonzero(trace.named("ranges", lambda name: fnmatchcase(name, pattern)))
    if not len(chosen):
        codes, counts = np.unique(trace.ranges["name"], return_counts=True)
        names = ", ".join(trace.names[code] for code in codes[np.argsort(-counts, kind="stable")][:12])
        there = f"its most frequent ranges are {names}" if names else "it has no ranges at all"
        raise TraceError(f"the trace has no range {pattern!r}; {there}", fix=_FIX)
    kept = outermost(trace.ranges, chosen)
    inner = len(chosen) - len(kept)
    notes = [f"{inner} of {len(chosen)} ranges {pattern!r} begin inside another one and are no frames"] if inner else []
    return ranges_as_frames(trace, kept, *notes)


def ranges_as_frames(trace: Trace, rows: np.ndarray, *notes: str) -> Frames:
    """Some rows of `ranges`, which must be disjoint within a thread."""
    ranges = trace.ranges
    return Frames(ranges["start_ns"][rows], ranges["end_ns"][rows], packed(ranges)[rows], rows, notes)


def separable(trace: Trace, frames: Frames, several: int) -> list[int]:
    """The first of all frames, those after each `several` before which everything has ended, and how many there are."""
    places = np.arange(several, len(frames), several)
    whole = np.maximum.accumulate(frames.end)[places - 1] <= frames.start[places]
    for table in ("api", "copies", "kernels", "memsets"):
        starts, ends = trace.table(table)["start_ns"], trace.table(table)["end_ns"]
        edges = np.searchsorted(starts, frames.start[places])
        reach = [ends[begin:end].max(initial=0) for begin, end in pairwise([0, *edges])]
        whole &= np.maximum.accumulate(reach) <= frames.start[places] if len(places) else True
    return [0, *places[whole].tolist(), len(frames)]


def part(trace: Trace, frames: Frames, first: int, behind: int) -> tuple[Trace, Frames]:
    """Some of the frames, and of the trace what starts from the first of them up to the one behind."""
    begin = frames.start[first] if first else np.iinfo(np.int64).min
    end = frames.start[behind] if behind < len(frames) else np.iinfo(np.int64).max
    edges = {table: np.searchsorted(trace.table(table)["start_ns"], (begin, end)) for table in SCHEMA}
    tables: dict[str, Any] = {table: rows_of(trace.table(table), slice(*edges[table])) for table in SCHEMA}
    cut = replace(trace, **tables)
    return cut, ranges_as_frames(cut, frames.row[first:behind] - edges["ranges"][0])


def outermost(table: Columns, rows: np.ndarray) -> np.ndarray:
    """Those of the rows, given in rising order, that lie in no other one of the same thread."""
    starts, ends = table["start_ns"][rows], table["end_ns"][rows]
    if in_turn(starts, ends):
        return rows
    kept = [rows[:0]]
    for _, places in each(packed(table)[rows]):
        # Of ranges that start at once the longer one is the outer one; one of no length ends before the other begins.
        mine = places[np.lexsort((-ends[places], ends[places] > starts[places], starts[places]))]
        reach = np.maximum.accumulate(ends[mine])
        kept.append(rows[mine[np.append(True, starts[mine[1:]] >= reach[:-1])]])
    return np.sort(np.concatenate(kept))


def _work(trace: Trace) -> Columns:
    """Kernels, copies and memory fills in one table, sorted by start.

    `kind` is KERNEL, COPY or MEMSET; `call` the row in `api` of the call that asked for it, -1 where that is not in the
    trace; `queue` one number for a process, a GPU and a stream.
    """
    tables = (trace.kernels, trace.copies, trace.memsets)  # by KERNEL, COPY and MEMSET
    work = Columns(kind=np.repeat(np.arange(3, dtype=np.int8), [len(table["pid"]) for table in tables]))
    for name in ("start_ns", "end_ns", "device", "pid"):
        work[name] = np.concatenate([table[name] for table in tables])
    for name, column in {"queue": queue_of, "call": calls_of(trace.api)}.items():
        work[name] = np.concatenate([column(table) for table in tables])
    return rows_of(work, np.argsort(work["start_ns"], kind="stable"))


class Joined:
    """A trace with its frames, calls and GPU work joined to each other; most joins are made at their first use.

    A name that begins with `call_` holds one value for each row of the trace's `api`, one with `work_` for each row of
    `work`, one with `copy_` for each row of `copies`; -1 means none.
    """

    def __init__(self, trace: Trace, frames: Frames) -> None:
        self.trace = trace
        self.frames = frames
        self.work = _work(trace)
        self.call_frame = frames.of(trace.api)
        """The frame in which a call was made."""
        self.work_frame = taken(self.call_frame, self.work["call"])
        """The frame in which the work was asked for."""
        self.copy_call, self.copy_frame = (of[self.work["kind"] == COPY] for of in (self.work["call"], self.work_frame))

    @cached_property
    def call_kind(self) -> np.ndarray:
        """Places in KINDS."""
        kinds = np.array([*(KINDS.index(kind_of(name)) for name in self.trace.names), 0], np.int8)
        return np.take(kinds, self.trace.api["name"])

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """What the trace lacks of 'calls' (those of most of the work), 'kernels' (of launches) and 'copies'.

        When the GPU was idle, and what a wait was for, can't be told then.
        """
        lacking = ["calls"] if (self.work["call"] < 0).sum() > len(self.work["call"]) / 2 else []
        for kind, table in ((Call.LAUNCH, "kernels"), (Call.COPY, "copies")):
            if not self.trace.count(table) and (self.call_kind == KINDS.index(kind)).any():
                lacking.append(table)
        return tuple(lacking)

    @cached_property
    def call_thread(self) -> np.ndarray:
        """The process and the thread, as `packed` has them."""
        return packed(self.trace.api)

    @cached_property
    def copy_held(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The host's time in a copy's call; how much of it the GPU worked for this loop; and that up to the copy.

        The copy itself is no work here. 0 where the copy has no copy call of its own; a call of many copies counts for
        the first one.
        """
        trace, call = self.trace, self.copy_call
        start, end = taken(trace.api["start_ns"], call), taken(trace.api["end_ns"], call)
        ours = np.isin(np.arange(len(call)), np.unique(call, return_index=True)[1])
        ours &= (call >= 0) & (taken(self.call_kind, call) == KINDS.index(Call.COPY))
        begin = np.clip(trace.copies["start_ns"], start, end)
        finish = np.clip(trace.copies["end_ns"], begin, end)
        before, after = np.zeros(len(call), np.int64), np.zeros(len(call), np.int64)
        for thread, mine in each(np.where(ours, taken(self.call_thread, call), -1)):
            if thread >= 0:
                cover = self.union(self.loop_of(thread))
                before[mine] = cover.measure(start[mine], begin[mine])
                after[mine] = cover.measure(finish[mine], end[mine])
        return np.where(ours, end - start, 0), before + after, before

    @cached_property
    def own_kernels(self) -> GroupedCover:
        """The kernels of each frame."""
        return self.cover(np.where(self.work["kind"] != COPY, self.work_frame, -1), len(self.frames))

    @cached_property
    def own_work(self) -> GroupedCover:
        """All work of each frame."""
        return self.cover(self.work_frame, len(self.frames))

    def cover(self, group: np.ndarray, groups: int) -> GroupedCover:
        """The work of each group."""
        return GroupedCover(group, self.work["start_ns"], self.work["end_ns"], groups)

    @cached_property
    def _whole(self) -> Cover:
        return Cover(self.work["start_ns"], self.work["end_ns"])

    def union(self, of: np.ndarray) -> Cover:
        """Some of the work, by a mask."""
        return self._whole if of.all() else Cover(self.work["start_ns"][of], self.work["end_ns"][of])

    def devices_cover(self, of: np.ndarray) -> Cover:
        """All work on the GPUs that some of the work (a mask) runs on."""
        devices = self.work["device"]
        if len(distinct(devices)) < 2:
            return self._whole
        return self.union(np.isin(devices, distinct(devices[of])))

    def of_thread(self, thread: int) -> np.ndarray:
        """A mask of the work of the frames of one thread."""
        return np.take(np.append(self.frames.thread == thread, False), self.work_frame)

    def loop_of(self, thread: int) -> np.ndarray:
        """A mask of the work of the loop that one thread runs: that of its frames, and all on the streams they use.

        A thread without frames only waits: for the frames of its process, or, without any, for all of its work.
        """
        process = self.work["pid"] == thread >> 32
        loop = self.of_thread(thread)
        if not loop.any():
            loop = process & (self.work_frame >= 0)
        if not loop.any():
            loop = process
        return loop if loop.all() else loop | np.isin(self.work["queue"], distinct(self.work["queue"][loop]))
