"""Where the frames of a trace begin and end, and which stage of which frame a call belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from ..errors import TraceError
from .calls import Call, kind_of
from .intervals import distinct, find
from .trace import Columns, Trace

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
