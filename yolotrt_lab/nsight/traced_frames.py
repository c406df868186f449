"""What a CUDA call is for, by its name: the synchronization records of a report give some types wrongly."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property

import numpy as np

from ..errors import TraceError
from .intervals import Cover, GroupedCover, distinct, find, sums
from .trace import Columns, Trace


class Call(StrEnum):
    """Kinds of CUDA calls, of the runtime and of the driver."""

    COPY = "copy"
    LAUNCH = "launch"
    SYNCHRONIZE = "synchronize"
    ALLOCATE = "allocate"
    OTHER = "other"


_PARTS = {
    Call.COPY: ("Memcpy",),
    Call.LAUNCH: ("Launch",),
    Call.ALLOCATE: ("Malloc", "MemAlloc", "HostAlloc", "Free", "HostRegister", "HostUnregister"),
}
_WHOLE_DEVICE = ("cudaDeviceSynchronize", "cudaThreadSynchronize", "cuCtxSynchronize")


def kind_of(name: str) -> Call:
    """The kind of the call of that name, such as 'cuMemcpyHtoDAsync'; names of other things are OTHER."""
    if not name.startswith("cu"):
        return Call.OTHER
    if name.endswith("Synchronize"):
        return Call.SYNCHRONIZE
    return next((kind for kind, parts in _PARTS.items() if any(part in name for part in parts)), Call.OTHER)


def waits_for_device(name: str) -> bool:
    """True for calls that wait for all streams."""
    return name in _WHOLE_DEVICE


# Where the frames of a trace begin and end, and which stage of which frame a call belongs to.


_SHOWN = 12


@dataclass(frozen=True, eq=False)
class Frames:
    """The frames of a trace, sorted by their start: columns of shape (frames,), disjoint within a thread.

    `row` is the frame's row in `ranges`, -1 where it was cut by synchronize calls; `notes` say what was left out.
    """

    start: np.ndarray
    end: np.ndarray
    pid: np.ndarray
    tid: np.ndarray
    row: np.ndarray
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.start)

    def of(self, table: Columns) -> np.ndarray:
        """For each row of `api` or `ranges` the frame of its own thread in which it begins, -1 for none."""
        frame = np.full(len(table["start_ns"]), -1)
        own, others = thread_keys(self.pid, self.tid), thread_keys(table["pid"], table["tid"])
        threads = distinct(own)
        if len(threads) == 1 and (others == threads[0]).all():
            return find(self.start, self.end, table["start_ns"])
        for thread in threads:
            rows, mine = np.flatnonzero(others == thread), np.flatnonzero(own == thread)
            found = find(self.start[mine], self.end[mine], table["start_ns"][rows])
            frame[rows] = np.where(found >= 0, mine[found], -1)
        return frame


def thread_keys(pid: np.ndarray, tid: np.ndarray) -> np.ndarray:
    """One number for a process and a thread."""
    return (pid.astype(np.int64) << 32) | tid


def frames_by_range(trace: Trace, pattern: str) -> Frames:
    """The ranges of that name, or whose name matches a pattern such as 'frame *'; of nested ones the outermost.

    TraceError where there is none; it names the ranges that there are.
    """
    chosen = np.flatnonzero(trace.named("ranges", lambda name: fnmatchcase(name, pattern)))
    if not len(chosen):
        raise TraceError(f"the trace has no range {pattern!r}; {_what_there_is(trace)}", fix=_FIX)
    keep = outermost(trace.ranges, chosen)
    columns = [trace.ranges[name][keep] for name in ("start_ns", "end_ns", "pid", "tid")]
    inner = len(chosen) - len(keep)
    notes = (
        (f"{inner} of {len(chosen)} ranges {pattern!r} begin inside another one and are no frames",) if inner else ()
    )
    return Frames(*columns, row=keep, notes=notes)


_FIX = "name the range that holds one frame (frame_range=...), or cut at synchronize calls (frame_range=None)"


def _what_there_is(trace: Trace) -> str:
    codes, counts = np.unique(trace.ranges["name"], return_counts=True)
    names = [trace.names[code] for code in codes[np.argsort(-counts, kind="stable")][:_SHOWN]]
    return f"its most frequent ranges are {', '.join(names)}" if names else "it has no ranges at all"


def outermost(table: Columns, rows: np.ndarray) -> np.ndarray:
    """Those of the rows, given in rising order, that lie in no other one of the same thread."""
    starts, ends = table["start_ns"][rows], table["end_ns"][rows]
    if (starts[1:] >= ends[:-1]).all() and (starts[1:] > starts[:-1]).all():
        return rows
    keys = thread_keys(table["pid"][rows], table["tid"][rows])
    kept = []
    for thread in np.unique(keys):
        mine = rows[keys == thread]
        starts, ends = table["start_ns"][mine], table["end_ns"][mine]
        if (starts[1:] == starts[:-1]).any():
            # The longer one is the outer one; one of no length ends before the other begins.
            order = np.lexsort((-ends, ends > starts, starts))
            mine, starts, ends = mine[order], starts[order], ends[order]
        reach = np.maximum.accumulate(ends)
        kept.append(mine[np.append(True, starts[1:] >= reach[:-1])])
    return np.sort(np.concatenate(kept), kind="stable") if kept else rows


def frames_by_synchronize(trace: Trace) -> Frames:
    """For programs without ranges: a frame ends with a synchronize call, and the next one begins there.

    A synchronize call before which nothing was copied or launched since the one before cuts nothing. What a thread does
    after its last synchronize call is in no frame. TraceError where no call cuts.
    """
    waits = trace.named("api", lambda name: kind_of(name) is Call.SYNCHRONIZE)
    works = trace.named("api", lambda name: kind_of(name) in (Call.COPY, Call.LAUNCH))
    keys = thread_keys(trace.api["pid"], trace.api["tid"])
    parts = []
    for thread in np.unique(keys[waits]):
        mine = np.flatnonzero(keys == thread)
        cuts = mine[waits[mine]]
        asked = np.cumsum(works[mine])[waits[mine]]
        cuts = cuts[np.diff(asked, prepend=0) > 0]
        if len(cuts):
            ends = trace.api["end_ns"][cuts]
            starts = np.append(trace.api["start_ns"][mine[0]], ends[:-1])
            parts.append(np.array([starts, ends, trace.api["pid"][cuts], trace.api["tid"][cuts]]))
    if not parts:
        raise TraceError(
            "no synchronize call in the trace follows a copy or launch: there is nothing to cut frames by",
            fix="mark each frame in the program with an NVTX range named 'frame', and take the trace again",
        )
    columns = np.concatenate(parts, axis=1)
    columns = columns[:, np.argsort(columns[0], kind="stable")]
    return Frames(*columns, row=np.full(columns.shape[1], -1))


def stages_of(trace: Trace, frames: Frames, frame_of_range: np.ndarray) -> np.ndarray:
    """Rows of `ranges` that lie in a frame directly, in no other range: the frame's stages, in rising order.

    `frame_of_range` is what `Frames.of` says of `ranges`.
    """
    inside = (frame_of_range >= 0) & (trace.ranges["end_ns"] <= frames.end[frame_of_range])
    inside[frames.row[frames.row >= 0]] = False
    return outermost(trace.ranges, np.flatnonzero(inside))


# Everything that the GPU did, in one table, joined to the calls that asked for it.


KERNEL, COPY = 0, 1
"""Kinds of work. Filling memory counts as a kernel but for the number of kernels."""


@dataclass(frozen=True, eq=False)
class Work:
    """Kernels, graphs, copies and memory fills, sorted by start; each column has shape (rows,).

    `kind` is KERNEL or COPY, `memset` true for memory fills, `row` the row in its own table, and `call` the row in
    `api` of the call that asked for it, -1 where that is not in the trace. `lane` numbers the streams: equal for equal
    pid, device and stream.
    """

    start: np.ndarray
    end: np.ndarray
    kind: np.ndarray
    memset: np.ndarray
    row: np.ndarray
    call: np.ndarray
    device: np.ndarray
    pid: np.ndarray
    lane: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    @classmethod
    def of(cls, trace: Trace) -> Work:
        """The work that a trace holds."""
        tables = (trace.kernels, trace.copies, trace.memsets)
        joined = {name: np.concatenate([table[name] for table in tables]) for name in trace.memsets if name != "bytes"}
        sizes = [len(table["start_ns"]) for table in tables]
        order = np.argsort(joined["start_ns"], kind="stable")
        table = np.repeat(np.arange(3, dtype=np.int8), sizes)[order]
        row = np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])[order]
        call = np.concatenate([_calls(trace, table["pid"], table["correlation"]) for table in tables])[order]
        joined = {name: values[order] for name, values in joined.items()}
        return cls(
            start=joined["start_ns"],
            end=joined["end_ns"],
            kind=np.where(table == 1, np.int8(COPY), np.int8(KERNEL)),
            memset=table == 2,
            row=row,
            call=call,
            device=joined["device"],
            pid=joined["pid"],
            lane=_lanes(joined["pid"], joined["device"], joined["stream"]),
        )


def _calls(trace: Trace, pid: np.ndarray, correlation: np.ndarray) -> np.ndarray:
    """Rows of `api`: correlations are counted from 1 in each process, so both must agree."""
    calls = np.full(len(pid), -1, np.int32)
    for process in distinct(pid):
        mine = pid == process
        rows = np.flatnonzero(trace.api["pid"] == process)
        calls[mine] = _look_up(trace.api["correlation"][rows], rows, correlation[mine])
    return calls


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value of each wanted key, -1 where there is none."""
    if not len(keys):
        return np.full(len(wanted), -1)
    low, high = int(keys.min()), int(keys.max())
    if high - low < 4 * len(keys) + 1_000:  # numbered almost without gaps: a table beats a search
        table = np.full(high - low + 1, -1, np.int32)
        table[keys - low] = values
        inside = (wanted >= low) & (wanted <= high)
        return np.where(inside, table[np.where(inside, wanted - low, 0)], -1)
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], values[order]
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], -1)


def _lanes(pid: np.ndarray, device: np.ndarray, stream: np.ndarray) -> np.ndarray:
    """A number for each stream of each process on each GPU, from 0."""
    lanes = np.zeros(len(pid), np.int64)
    for values in (pid, device, stream):
        different = distinct(values)
        if len(different) > 1:
            lanes = lanes * len(different) + np.searchsorted(different, values)
    different = distinct(lanes)
    return np.searchsorted(different, lanes) if len(different) > 1 else np.zeros(len(lanes), np.int64)


# A trace with its calls, the GPU's work and the frames joined to each other.


KINDS = tuple(Call)
_MOST_STAGES = 64


class Joined:
    """Every join is made once, most at their first use (and again where two threads ask for it at once).

    A name that begins with `call_` holds one value for each row of the trace's `api`, one with `work_` for each row of
    `work`; -1 means none.
    """

    def __init__(self, trace: Trace, frames: Frames) -> None:
        self.trace = trace
        self.frames = frames
        self.work = Work.of(trace)
        self.call_frame = frames.of(trace.api)
        """The frame in which a call was made."""
        self.work_frame = taken(self.call_frame, self.work.call)
        """The frame in which the work was asked for."""
        self._stage_rows, self._stage_of_row, self.stages = self._find_stages()

    def _find_stages(self) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """Which ranges are stages, the place of each in the stages' names, and these, in the order of their begin."""
        ranges = self.trace.ranges
        rows = stages_of(self.trace, self.frames, self.frames.of(ranges))
        codes, first, stage = np.unique(ranges["name"][rows], return_index=True, return_inverse=True)
        chosen = np.argsort(first)
        if len(codes) > _MOST_STAGES:
            lengths = sums(stage, ranges["end_ns"][rows] - ranges["start_ns"][rows], len(codes))
            chosen = np.argsort(-lengths, kind="stable")[:_MOST_STAGES]
        place = np.full(len(codes), -1)
        place[chosen] = np.arange(len(chosen))
        stage = place[stage]
        return rows[stage >= 0], stage[stage >= 0], tuple(self.trace.names[code] for code in codes[chosen])

    @cached_property
    def stage_ns(self) -> np.ndarray:
        """The host's time in each stage of each frame, int64 of shape (frames, stages)."""
        ranges, rows, count = self.trace.ranges, self._stage_rows, len(self.stages)
        frame = self.frames.of({name: ranges[name][rows] for name in ("start_ns", "pid", "tid")})
        lengths = ranges["end_ns"][rows] - ranges["start_ns"][rows]
        total = sums(frame * count + self._stage_of_row, lengths, len(self.frames) * count)
        return total.reshape(len(self.frames), count)

    @cached_property
    def stage_gpu_ns(self) -> np.ndarray:
        """What the GPU did for each stage of each frame, int64 of shape (frames, stages)."""
        count = len(self.stages)
        if not count:
            return np.zeros((len(self.frames), 0), np.int64)
        ranges, rows = self.trace.ranges, self._stage_rows
        stages = Frames(*(ranges[name][rows] for name in ("start_ns", "end_ns", "pid", "tid")), row=rows)
        call_stage = taken(self._stage_of_row, stages.of(self.trace.api))
        stage = taken(call_stage, self.work.call)
        group = np.where((stage >= 0) & (self.work_frame >= 0), self.work_frame * count + stage, -1)
        return self.cover(group, len(self.frames) * count).totals().reshape(len(self.frames), count)

    @cached_property
    def call_kind(self) -> np.ndarray:
        """Places in KINDS."""
        kinds = np.array([KINDS.index(kind_of(name)) for name in self.trace.names], np.int64)
        return kinds[self.trace.api["name"]] if len(kinds) else np.empty(0, np.int64)

    @cached_property
    def call_thread(self) -> np.ndarray:
        """See `thread_keys`."""
        return thread_keys(self.trace.api["pid"], self.trace.api["tid"])

    @cached_property
    def own_kernels(self) -> GroupedCover:
        """The kernels of each frame."""
        return self.cover(np.where(self.work.kind == KERNEL, self.work_frame, -1), len(self.frames))

    @cached_property
    def own_work(self) -> GroupedCover:
        """All work of each frame."""
        return self.cover(self.work_frame, len(self.frames))

    @cached_property
    def outer_calls(self) -> np.ndarray:
        """Rows of `api` that lie in no other call."""
        return outermost(self.trace.api, np.arange(self.trace.count("api")))

    @cached_property
    def copy_frame(self) -> np.ndarray:
        """For each row of the trace's `copies` the frame in which it was asked for."""
        return self._of_copies(self.work_frame)

    @cached_property
    def copy_call(self) -> np.ndarray:
        """For each row of the trace's `copies` the row in `api` of its call."""
        return self._of_copies(self.work.call)

    def _of_copies(self, values: np.ndarray) -> np.ndarray:
        copies = self.work.kind == COPY
        found = np.full(self.trace.count("copies"), -1)
        found[self.work.row[copies]] = values[copies]
        return found

    def cover(self, group: np.ndarray, groups: int) -> GroupedCover:
        """The work of each group."""
        return GroupedCover(group, self.work.start, self.work.end, groups)

    def devices_cover(self, of: np.ndarray) -> Cover:
        """All work on the GPUs that some of the work (a mask) runs on."""
        devices = distinct(self.work.device[of])
        if len(devices) == len(self._devices):
            return self._all_work
        there = np.isin(self.work.device, devices)
        return Cover(self.work.start[there], self.work.end[there])

    @cached_property
    def _devices(self) -> np.ndarray:
        return distinct(self.work.device)

    @cached_property
    def _all_work(self) -> Cover:
        return Cover(self.work.start, self.work.end)

    def of_thread(self, thread: int) -> np.ndarray:
        """A mask of the work of the frames of one thread."""
        mine = np.append(thread_keys(self.frames.pid, self.frames.tid) == thread, False)
        return mine[self.work_frame]

    def loop_of(self, thread: int) -> np.ndarray:
        """A mask of the work of the loop that one thread runs: that of its frames, and all on the streams they use.

        A thread without frames only waits: for the frames of its process, or, without any, for all of its work.
        """
        process = self.work.pid == thread >> 32
        loop = self.of_thread(thread)
        if not loop.any():
            loop = process & (self.work_frame >= 0)
        if not loop.any():
            loop = process
        return loop if loop.all() else loop | np.isin(self.work.lane, distinct(self.work.lane[loop]))


def taken(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """`values[places]`, and -1 where the place is negative."""
    return np.append(values, -1)[places]
