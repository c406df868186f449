"""A trace by frame: which part of it is a frame, one value a frame, and what the calls themselves show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from glob import escape

import numpy as np

from ..errors import TraceError
from ..nsight.attribution import Attribution, attribute, moved_wait_ns
from ..nsight.trace import DIRECTIONS, Columns, Trace, packed, rows_of
from ..nsight.trace_findings import TraceFinding, findings
from ..nsight.traced_frames import Call, frames_of, kind_of, outermost
from ..types import Stage
from . import thresholds as at
from .measured import Measured
from .series import shape_of

_FRAME = "frame"
_LONGEST_PATTERN = 4_096


@dataclass(frozen=True, eq=False)
class TracedFrames:
    """A trace with frames, or, where it holds no loop, as one whole."""

    trace: Trace
    pattern: str
    """The name of the ranges that are its frames, as a pattern."""
    has_frames: bool
    note: str
    """How the frames were found."""

    @property
    def complete(self) -> bool:
        """True where it has frames, and all that is told of them: calls, kernels and copies."""
        return self.has_frames and self.seen.shows_all

    @cached_property
    def seen(self) -> Attribution:
        """The trace, attributed to its frames."""
        return attribute(self.trace, self.pattern)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the trace leaves out, and how its frames were found."""
        return (*self.seen.notes, *filter(None, [self.note]))

    @cached_property
    def findings(self) -> tuple[TraceFinding, ...]:
        """What `trace show` says of it; without a loop, only what is true of the whole."""
        return findings(self.trace, self.pattern, self.seen) if self.has_frames else ()

    def finding(self, kind: str) -> TraceFinding | None:
        """The finding of that kind, if there is one."""
        return next((each for each in self.findings if each.kind == kind), None)

    def pinning_ms(self, direction: str) -> float:
        """What pinned memory takes off a frame at most, by the trace; 0 where all copies are from pinned memory."""
        code, directions = DIRECTIONS.index(direction), self.trace.copies["direction"]
        found = (each for each in self.findings if each.kind == "pageable_copies" and directions[each.rows[0]] == code)
        return sum(each.numbers.get("gain_ns", 0.0) for each in found) / 1e6

    @cached_property
    def took_ns(self) -> np.ndarray:
        """What each frame takes; of a trace without a loop, all of it."""
        return np.asarray(self.seen.frames["end_ns"] - self.seen.frames["start_ns"])

    def new_sizes(self) -> tuple[list[int], float, float] | None:
        """The sizes of an upload in bytes, and what frames take in ms whose size is new, and the others take; None
        where all are of one size. Only frames with as many uploads as most are asked: a second tile is no new shape.
        """
        uploads = self.seen.copied("count", "h2d")
        often = np.bincount(uploads[uploads > 0], minlength=1).argmax()
        alike = (uploads == often) & (uploads > 0)
        sizes = self.seen.copied("bytes", "h2d")[alike] // often
        new = np.diff(sizes, prepend=sizes[:1]) != 0
        if not self.has_frames or not new.any():
            return None
        new_ms, others_ms = (float(np.median(self.took_ns[alike][which])) / 1e6 for which in (new, ~new))
        return np.unique(sizes).tolist(), new_ms, others_ms

    @property
    def moved_ms(self) -> float:
        """How long copy calls of the median frame wait for other work than their copy, where that is worth telling."""
        found = self.finding("moved_wait")
        pageable = self.seen.copied("call_ns", "d2h", "pageable")
        waits = np.where(pageable > 0, moved_wait_ns(self.seen), 0)
        return float(np.median(waits)) / 1e6 if found else 0.0

    @property
    def waits_outside(self) -> int:
        """How many synchronize calls are in no frame, where most are."""
        outside = self.seen.synchronizes["frame"] < 0
        count = int(outside.sum())
        return count if 2 * count > len(outside) else 0

    @property
    def alone(self) -> bool:
        """True where every frame waits for its own work, and for no other's."""
        waited = self.seen.frames["in_synchronize_ns"] + self.seen.frames["in_copy_ns"]
        others = self.seen.waits_ns("other_frames") + self.seen.waits_ns("other_streams")
        return self.complete and bool(np.median(waited) > 0) and not self.waits_outside and np.median(others) == 0

    def kernels_stay(self) -> str:
        """How long the kernels of a frame take, where they take as long throughout; '' where they don't."""
        kernels = self.seen.frames["kernels_ns"] / 1e6
        if not self.complete or not kernels.any():
            return ""
        shape = shape_of(kernels)
        if shape.grew or shape.fell or len(kernels) < at.FEWEST_FRAMES:
            return ""
        return f"the kernels of a frame take {1e3 * shape.settled:,.0f} us throughout"


def traced_frames(trace: Trace, named: str | None = None) -> TracedFrames:
    """The frames of a trace: the ranges `named`, or matching it as a pattern; else those named 'frame'; else a range
    that repeats; else a pattern of calls that repeats; else the whole. TraceError where no range is `named` so.
    """
    if named is not None:
        frames_of(trace, named)  # an error where there is none
        return TracedFrames(trace, named, True, f"a frame is a range {named!r}")
    name = _repeating_range(trace)
    if name is not None:
        note = "" if name == _FRAME else f"a frame is a range {name!r}, which repeats; --range names another one"
        return TracedFrames(trace, escape(name), True, note)
    if (starts := _repeating_calls(trace)) is not None:
        rows, length = starts
        note = f"no range repeats: a frame is a pattern of {length} calls that repeats {len(rows)} times"
        return TracedFrames(_with_ranges(trace, rows, length), _PATTERN, True, note)
    note = f"nothing repeats {at.FEWEST_TRACED} times: this is no loop, and the bill is one of the whole trace"
    return TracedFrames(_with_ranges(trace, np.zeros(1, np.int64), trace.count("api")), _PATTERN, False, note)


def trace_measured(measured: Measured, traced: TracedFrames) -> Measured:
    """One value a frame from a trace: its stages, or the calls that make them where it has no ranges for these.

    A loop with several frames in flight waits for nothing until its lanes are full: its first frames are left out.
    """
    seen, frames = traced.seen, traced.seen.frames
    named = [stage for stage in Stage if stage in seen.stages]
    times = {str(stage): frames[f"{stage}_ns"] for stage in named} if named and traced.has_frames else _calls(seen)
    whole = traced.took_ns
    if not traced.has_frames:
        facts = {name: float(v.sum()) / 1e6 for name, v in (times | _gpu(seen)).items() if v.sum()}
        return replace(measured, kind="events", facts=facts | {"whole": float(whole.sum()) / 1e6}, times_ns={})
    first = _lanes_full(times[Stage.SYNCHRONIZE]) if Stage.SYNCHRONIZE in times else 0
    return replace(
        measured,
        kind="frames",
        times_ns={name: v[first:].astype(np.float64) for name, v in ({"frame": whole} | times).items()},
        memory=measured.memory or _memory(seen),
    )


_PATTERN = "one frame of the loop"  # the name of the ranges that are put around what repeats


def _calls(seen: Attribution) -> dict[str, np.ndarray]:
    return {
        str(Stage.UPLOAD): seen.copied("call_ns", "h2d"),
        str(Stage.INFER): seen.frames["in_launch_ns"],
        str(Stage.DOWNLOAD): seen.copied("call_ns", "d2h"),
        str(Stage.SYNCHRONIZE): seen.frames["in_synchronize_ns"],
        "allocate": seen.frames["in_allocate_ns"],
    }


def _gpu(seen: Attribution) -> dict[str, np.ndarray]:
    return {f"GPU: {name}": seen.frames[f"{name}_ns"] for name in ("kernels", "copies")}


def _memory(seen: Attribution) -> dict[str, str]:
    """The kind of memory of each side, where its copies are all of one."""
    sides = {"input": "h2d", "output": "d2h"}
    kinds = {
        side: [kind for kind in ("pageable", "pinned") if seen.copied("count", way, kind).any()]
        for side, way in sides.items()
    }
    return {side: found[0] for side, found in kinds.items() if len(found) == 1}


def _lanes_full(synchronize_ns: np.ndarray) -> int:
    """How many frames at the start to leave out: up to the last that waits for nothing, and as many again."""
    waitless = np.flatnonzero(synchronize_ns == 0)
    return 2 * (int(waitless[-1]) + 1) if len(waitless) and waitless[-1] < len(synchronize_ns) // 4 else 0


def _repeating_range(trace: Trace) -> str | None:
    """'frame' where there is one that repeats; else the name that repeats and has most of the time in its ranges."""
    ranges = trace.ranges
    codes, counts = np.unique(ranges["name"], return_counts=True)
    often = [code for code, count in zip(codes, counts, strict=True) if count >= at.FEWEST_TRACED]
    if _FRAME in (names := {trace.names[code] for code in often}):
        return _FRAME
    if not names:
        return None
    rows = {code: outermost(ranges, np.flatnonzero(ranges["name"] == code)) for code in often}
    rows = {code: each for code, each in rows.items() if len(each) >= at.FEWEST_TRACED and _holds_calls(trace, each)}
    took = {code: int((ranges["end_ns"][each] - ranges["start_ns"][each]).sum()) for code, each in rows.items()}
    return trace.names[max(took, key=took.__getitem__)] if took else None


def _holds_calls(trace: Trace, rows: np.ndarray) -> bool:
    """True where in most of these ranges something is copied or launched."""
    works = trace.named("api", lambda name: kind_of(name) in (Call.COPY, Call.LAUNCH))
    starts = trace.api["start_ns"][works]
    before, until = (np.searchsorted(starts, trace.ranges[edge][rows]) for edge in ("start_ns", "end_ns"))
    return bool((until > before).mean() > 0.5)


def _busiest(trace: Trace) -> np.ndarray:
    """The rows of `api` of the thread that makes most calls, no call inside another one."""
    threads, counts = np.unique(packed(trace.api), return_counts=True)
    if not len(threads):
        return np.empty(0, np.int64)
    return outermost(trace.api, np.flatnonzero(packed(trace.api) == threads[np.argmax(counts)]))


def _repeating_calls(trace: Trace) -> tuple[np.ndarray, int] | None:
    """Where each repetition of the shortest pattern of calls starts, in the busiest thread, and its length.

    It must repeat eight times in a row, copy or launch something, and make two different calls.
    """
    rows = _busiest(trace)
    names = trace.api["name"][rows]
    for length in range(2, min(len(names) // at.FEWEST_TRACED, _LONGEST_PATTERN) + 1):
        alike = names[length:] == names[:-length]
        edges = np.flatnonzero(np.diff(np.concatenate([[False], alike, [False]])))
        if not len(edges):
            continue
        runs = edges[1::2] - edges[::2]
        first, count = int(edges[2 * np.argmax(runs)]), int(runs.max()) // length + 1
        if count < at.FEWEST_TRACED or count * length < len(names) / 2:
            continue
        kinds = [kind_of(trace.names[code]) for code in names[first : first + length]]
        if len(set(names[first : first + length].tolist())) < 2 or not {Call.COPY, Call.LAUNCH} & set(kinds):
            continue
        shift = next((i + 1 for i, kind in enumerate(kinds) if kind is Call.SYNCHRONIZE), 0) % length
        count -= bool(shift)  # a frame ends with a synchronize call
        return first + shift + length * np.arange(count), length
    return None


def _with_ranges(trace: Trace, starts: np.ndarray, length: int) -> Trace:
    """The trace with a range around each repetition of calls of the busiest thread; the last call ends it."""
    rows = _busiest(trace)
    if not len(rows):
        raise TraceError(
            "the trace must hold CUDA calls, got none", fix="trace the whole program: nsys profile -t cuda,nvtx"
        )
    api = rows_of(trace.api, rows)
    last = np.minimum(starts + length, len(rows)) - 1
    new = Columns(
        start_ns=api["start_ns"][starts],
        end_ns=np.maximum.reduceat(api["end_ns"], starts) if len(starts) == 1 else api["end_ns"][last],
        name=np.full(len(starts), len(trace.names)),
        pid=api["pid"][starts],
        tid=api["tid"][starts],
    )
    ranges = Columns({name: np.concatenate([trace.ranges[name], new[name]]) for name in new})
    return replace(trace, ranges=ranges, names=(*trace.names, _PATTERN))
