"""Where each frame's time went, on the host and on the GPU, and what every synchronize call waited for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from ..types import Source
from .intervals import Cover, GroupedCover, each, in_threads, sums, taken
from .trace import CLOCK_SLACK_NS, DEVICE_WAITS, DIRECTIONS, MEMORIES, Columns, Trace, packed, rows_of
from .traced_frames import (
    COPY,
    KERNEL,
    KINDS,
    Call,
    Frames,
    Joined,
    frames_of,
    kind_of,
    outermost,
    part,
    ranges_as_frames,
    separable,
)

WAITS = ("kernels", "copies", "other_frames", "other_streams", "nothing", "wake_up")
"""What a synchronize call can wait for; `attribute` says when it is which."""

_FEW = 0.05  # of the calls in frames
_AT_A_TIME = 10_000  # frames: what is computed of them stays small
_WORK = {KERNEL: "kernels", COPY: "copies"}
_MOST_STAGES = 64  # a program may name each frame's ranges differently


@dataclass(frozen=True, eq=False)
class Attribution:
    """A trace's time, by frame: tables of int64 columns, times and durations in ns. `attribute` creates it."""

    frames: Columns
    """One row for each frame, sorted by start: `start_ns`, `end_ns`, `pid`, `tid`.

    For each of `stages` the host's time `<stage>_ns`, and `<stage>_gpu_ns`, what the GPU did for it. `gpu_ns`,
    `kernels_ns` and `copies_ns`: how long the GPU worked for this frame (what overlaps counts once); `kernels` and
    `copies`: how many there were (a graph that is shown as one block is one kernel). `in_<kind>_ns`: the host's time in
    each kind of `Call`. `idle_ns`: how long the trace shows nothing on the GPU between the frame's start and end, and,
    adding up to it, `idle_in_<kind>_ns` and `idle_outside_ns`: where the host was meanwhile.
    """
    copies: Columns
    """One row for each frame, direction and kind of memory that occur.

    `frame` (-1 for copies that belong to none), `direction` and `host_memory` (places in DIRECTIONS and MEMORIES),
    `count`, `bytes`, `gpu_ns`; `under_kernels_ns`, how much of that kernels of the same process ran on the same GPU,
    whichever frame's; `call_ns`, the host's time in the copy calls; `waited_ns`, how much of that the GPU worked for
    this loop, on something else than the copy.
    """
    synchronizes: Columns
    """One row for each synchronize call: `frame` (-1 outside), `row` in the trace's `api`, `start_ns`, `end_ns`, and
    `<wait>_ns` for each of WAITS, which add up to the call."""
    stages: tuple[str, ...]
    """The names of the ranges that lie directly in a frame, in the order in which they begin."""
    idle_calls: Mapping[str, int]
    """For each name of a call, how long the GPU was idle in frames while the host was in it."""
    source: Source
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    """What the trace lacks of "calls", "kernels" and "copies": without them idle times and waits mean nothing."""
    counts: Counter[str] = field(default_factory=Counter)
    """What `notes` are made of: how many rows there are, and how many of them are odd."""

    def __len__(self) -> int:
        return len(self.frames["start_ns"])

    def waits_ns(self, wait: str) -> np.ndarray:
        """For each frame, how long its synchronize calls waited for one of WAITS, int64 of shape (frames,)."""
        return sums(self.synchronizes["frame"], self.synchronizes[f"{wait}_ns"], len(self))

    def copied(self, column: str, direction: str, *memories: str) -> np.ndarray:
        """For each frame the sum of a column of `copies`, of one direction and, where named, these kinds of memory."""
        chosen = self.copies["direction"] == DIRECTIONS.index(direction)
        if memories:
            chosen &= np.isin(self.copies["host_memory"], [MEMORIES.index(memory) for memory in memories])
        return sums(np.where(chosen, self.copies["frame"], -1), self.copies[column], len(self))

    @property
    def shows_all(self) -> bool:
        """True where the trace lacks nothing, and at most a few of its launches and copy calls show no work."""
        return not self.missing and not any(_many(self.counts, kind, "idle") for kind in (Call.LAUNCH, Call.COPY))

    @property
    def batched(self) -> bool:
        """True where half of the frames or more submit no work: it goes in batches, each with its last frame."""
        submits = (self.frames["kernels"] > 0) | (self.frames["copies"] > 0)
        return 0 < 2 * int(submits.sum()) <= len(self)

    def overlap_share(self, direction: str) -> float:
        """The share of the copies' time, in one direction and over the whole trace, in which kernels ran beside them.

        From 0 to 1, and 0 without copies. Under node-level graph tracing this proves that a loop overlaps; a graph that
        is shown as one block is a kernel from its begin to its end.
        """
        chosen = self.copies["direction"] == DIRECTIONS.index(direction)
        total = int(self.copies["gpu_ns"][chosen].sum())
        return int(self.copies["under_kernels_ns"][chosen].sum()) / total if total else 0.0


def attribute(trace: Trace, frame_range: str = "frame") -> Attribution:
    """Attribute a trace's time to its frames: the ranges named `frame_range`, or matching it as a pattern ('frame *').

    Of nested ones the outermost are the frames. What the GPU did belongs to the frame and the stage in which its call
    was made.

    Each synchronize call is split, at every instant to the first of these that holds:

    - `kernels`, `copies`: the GPU works for this frame;
    - `other_frames`: for another frame of this loop, or on a stream that this loop uses. With several frames in flight
      that is where the frame is that the call waits for: one whose range has ended;
    - `other_streams`: on any other stream of a GPU that this loop uses, whichever process of the trace asked for it;
    - `nothing`: on none that the trace shows. A process that was not traced may have the GPU, or the work may not have
      reached it yet.

    `wake_up` is the time from the end of the last work that the call can have waited for to the call's return. Where no
    such work ended during the call, all of it is `nothing`.

    TraceError where there is no frame.

    >>> from yolotrt_lab import nsight
    >>> seen = attribute(nsight.shipped_trace("graph-pinned"))
    >>> len(seen), seen.stages[2:4]
    (63, ('upload', 'infer'))
    """
    frames = frames_of(trace, frame_range)
    cuts = separable(trace, frames, _AT_A_TIME)
    whole = _part_by_part(trace, frames, cuts) if len(cuts) > 2 else None
    return whole or attribution_of(Joined(trace, frames))


def attribution_of(joined: Joined) -> Attribution:
    """What `attribute` says of a trace that is joined to its frames."""
    stages, times = _stages(joined)
    idle, idle_calls = _idle(joined)
    frames, copies, synchronizes = Columns(_frames(joined) | idle | times), _copies(joined), _synchronizes(joined)
    trace, missing, counts = joined.trace, joined.missing, _counts(joined)
    notes = (*trace.notes, *joined.frames.notes, *_notes(counts, missing, joined.frames.processes))
    return Attribution(frames, copies, synchronizes, stages, idle_calls, trace.source, notes, missing, counts)


class _Rows:
    """Tables one below the other, at most so many rows; where a table lacks a column, it is 0."""

    def __init__(self, most: int) -> None:
        self.most, self.count = most, 0
        self.columns = Columns()

    def add(self, table: Columns, **before: int) -> None:
        """Add a table, whose columns of places count from `before`; -1 stays."""
        behind = self.count + len(next(iter(table.values())))
        for name, values in table.items():
            if name not in self.columns:
                self.columns[name] = np.zeros(self.most, values.dtype)
            first = before.get(name, 0)
            self.columns[name][self.count : behind] = np.where(values < 0, -1, values + first) if first else values
        self.count = behind

    def table(self) -> Columns:
        return rows_of(self.columns, slice(self.count))


def _part_by_part(trace: Trace, frames: Frames, cuts: Sequence[int]) -> Attribution | None:
    """The same as of the whole, in less memory; None where something in one part belongs to another or to the whole."""
    waits = int(trace.named("api", lambda name: kind_of(name) is Call.SYNCHRONIZE).sum())
    by_frame, copies, synchronizes = map(_Rows, (len(frames), trace.count("copies"), waits))
    counts, idle_calls, stages = Counter[str](), Counter[str](), dict[str, None]()
    parts = in_threads(lambda cut: attribution_of(Joined(*part(trace, frames, *cut))), pairwise(cuts))
    for first, seen in zip(cuts, parts, strict=False):
        row = int(np.searchsorted(trace.api["start_ns"], frames.start[first])) if first else 0
        by_frame.add(seen.frames)
        copies.add(seen.copies, frame=first)
        synchronizes.add(seen.synchronizes, frame=first, row=row)
        counts, idle_calls, stages = (
            counts + seen.counts,
            idle_calls + Counter(seen.idle_calls),
            stages | dict.fromkeys(seen.stages),
        )
        if (
            seen.missing
            or counts["unasked"]
            or len(stages) >= _MOST_STAGES
            or (first and (seen.copies["frame"][:1] < 0).any())
        ):
            return None
    tables = by_frame.table(), copies.table(), synchronizes.table()
    notes = (*trace.notes, *frames.notes, *_notes(counts, (), frames.processes))
    return Attribution(*tables, tuple(stages), dict(idle_calls.most_common()), trace.source, notes, (), counts)


def moved_wait_ns(attribution: Attribution) -> np.ndarray:
    """For each frame, how long its copy calls wait for the GPU where that is longer than in synchronize calls; else 0.

    int64 of shape (frames,). Such a frame waits in its copy calls: a short synchronize does not mean that there is
    nothing to wait for. A wait is the time in the call in which the GPU works for this loop on anything but the copy.

    >>> from yolotrt_lab import nsight
    >>> [bool(moved_wait_ns(attribute(nsight.shipped_trace(name))).all()) for name in ("moved-wait", "graph-pinned")]
    [True, False]
    """
    waited = sums(attribution.copies["frame"], attribution.copies["waited_ns"], len(attribution))
    return np.where(waited > attribution.frames["in_synchronize_ns"], waited, 0)


def _frames(joined: Joined) -> dict[str, np.ndarray]:
    frames, count, copies, copied = joined.frames, len(joined.frames), joined.trace.copies, joined.copy_frame
    kernels = np.where(joined.work["kind"] == KERNEL, joined.work_frame, -1)
    return {
        "start_ns": frames.start,
        "end_ns": frames.end,
        "pid": frames.thread >> 32,
        "tid": frames.thread & 0xFFFFFFFF,
        "gpu_ns": joined.own_work.totals(),
        "kernels_ns": joined.own_kernels.totals(),
        "copies_ns": GroupedCover(copied, copies["start_ns"], copies["end_ns"], count).totals(),
        "kernels": np.bincount(kernels[kernels >= 0], minlength=count),
        "copies": np.bincount(copied[copied >= 0], minlength=count),
    }


def _stages(joined: Joined) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """The stages' names, and for each the host's time in every frame and what the GPU did for it."""
    trace, frames, ranges, count = joined.trace, joined.frames, joined.trace.ranges, len(joined.frames)
    frame_of = frames.of(ranges)
    inside = (frame_of >= 0) & (ranges["end_ns"] <= taken(frames.end, frame_of))
    inside[frames.row] = False
    rows = outermost(ranges, np.flatnonzero(inside))
    names = ranges["name"][rows]
    lengths = ranges["end_ns"][rows] - ranges["start_ns"][rows]
    work_name = taken(taken(names, ranges_as_frames(trace, rows).of(trace.api)), joined.work["call"])
    codes, first = np.unique(names, return_index=True)
    stages, columns = [], {}
    for code in codes[np.argsort(first)][:_MOST_STAGES]:
        stages.append(trace.names[code])
        columns[f"{stages[-1]}_ns"] = sums(np.where(names == code, frame_of[rows], -1), lengths, count)
        works = np.where(work_name == code, joined.work_frame, -1)
        columns[f"{stages[-1]}_gpu_ns"] = joined.cover(works, count).totals()
    return tuple(stages), columns


def _idle(joined: Joined) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The host's time in calls, and where it was while the GPU was idle; by frame, and by the name of the call."""
    trace, frames, count = joined.trace, joined.frames, len(joined.frames)
    rows = outermost(trace.api, np.arange(trace.count("api")))
    rows = rows[joined.call_frame[rows] >= 0]
    frame, start = joined.call_frame[rows], trace.api["start_ns"][rows]
    end = np.minimum(trace.api["end_ns"][rows], frames.end[frame])
    idle, idle_in_call = frames.end - frames.start, end - start
    for thread, mine in each(frames.thread):
        cover, calls = joined.devices_cover(joined.of_thread(thread)), np.flatnonzero(frames.thread[frame] == thread)
        idle[mine] -= cover.measure(frames.start[mine], frames.end[mine])
        idle_in_call[calls] -= cover.measure(start[calls], end[calls])
    group, groups = frame * len(KINDS) + joined.call_kind[rows], (count, len(KINDS))
    in_kind, idle_in_kind = (
        sums(group, each, count * len(KINDS)).reshape(groups) for each in (end - start, idle_in_call)
    )
    columns = {"idle_ns": idle, "idle_outside_ns": idle - idle_in_kind.sum(axis=1)}
    for place, kind in enumerate(KINDS):
        columns |= {f"in_{kind}_ns": in_kind[:, place].copy(), f"idle_in_{kind}_ns": idle_in_kind[:, place].copy()}
    by_name = sums(trace.api["name"][rows], idle_in_call, len(trace.names))
    longest_first = np.argsort(-by_name, kind="stable")
    return columns, {trace.names[code]: int(by_name[code]) for code in longest_first if by_name[code]}


def _synchronizes(joined: Joined) -> Columns:
    """What each synchronize call waited for: at every instant one of WAITS, as `attribute` defines them."""
    rows = np.flatnonzero(joined.call_kind == KINDS.index(Call.SYNCHRONIZE))
    api = joined.trace.api
    columns = Columns(frame=joined.call_frame[rows], row=rows, start_ns=api["start_ns"][rows])
    columns |= {"end_ns": api["end_ns"][rows]} | {f"{wait}_ns": np.zeros(len(rows), np.int64) for wait in WAITS}
    for thread, mine in each(joined.call_thread[rows]):
        for wait, values in zip(WAITS, _waits_of_thread(joined, thread, rows[mine]), strict=True):
            columns[f"{wait}_ns"][mine] = values
    return columns


def _waits_of_thread(joined: Joined, thread: int, rows: np.ndarray) -> tuple[np.ndarray, ...]:
    """For each of WAITS how long each of these synchronize calls of the thread waited for it."""
    work, api = joined.work, joined.trace.api
    process, loop = work["pid"] == thread >> 32, joined.loop_of(thread)
    start, end, frame = api["start_ns"][rows], api["end_ns"][rows], joined.call_frame[rows]
    whole = joined.trace.named("api", DEVICE_WAITS.__contains__)[rows]
    last = np.where(whole, _last_end(work["end_ns"][process], end), _last_end(work["end_ns"][loop], end))
    unknown = last <= start
    until = np.where(unknown, start, np.minimum(last, end))
    kernels = joined.own_kernels.measure(frame, start, until)
    own = joined.own_work.measure(frame, start, until)
    of_loop, of_all = joined.union(loop), joined.devices_cover(loop | process if whole.any() else loop)
    with_loop = of_loop.measure(start, until)
    with_all = with_loop if of_all is of_loop else of_all.measure(start, until)
    nothing = np.where(unknown, end - start, until - start - with_all)
    return kernels, own - kernels, with_loop - own, with_all - with_loop, nothing, np.where(unknown, 0, end - until)


def _last_end(ends: np.ndarray, before: np.ndarray) -> np.ndarray:
    """For each time the latest end up to it (and the clocks' slack); the earliest integer where there is none."""
    ends = np.sort(np.append(ends, np.iinfo(np.int64).min))
    return ends[np.searchsorted(ends, before + CLOCK_SLACK_NS, side="right") - 1]


def _copies(joined: Joined) -> Columns:
    copies = joined.trace.copies
    group = (joined.copy_frame + 1) * len(DIRECTIONS) + copies["direction"]
    keys, place = np.unique(group * len(MEMORIES) + copies["host_memory"], return_inverse=True)
    frame, kind = np.divmod(keys, len(DIRECTIONS) * len(MEMORIES))
    direction, memory = np.divmod(kind, len(MEMORIES))
    held, waited, _ = joined.copy_held
    return Columns(
        frame=frame - 1,
        direction=direction,
        host_memory=memory,
        count=np.bincount(place, minlength=len(keys)),
        bytes=sums(place, copies["bytes"], len(keys)),
        gpu_ns=GroupedCover(place, copies["start_ns"], copies["end_ns"], len(keys)).totals(),
        under_kernels_ns=_under_kernels(joined.trace, place, len(keys)),
        call_ns=sums(place, held, len(keys)),
        waited_ns=sums(place, waited, len(keys)),
    )


def _under_kernels(trace: Trace, group: np.ndarray, groups: int) -> np.ndarray:
    """How long each group's copies run beside kernels of their process on their GPU."""
    copies, kernels = trace.copies, trace.kernels
    total = np.zeros(groups, np.int64)
    for key, rows in each(packed(copies, "device")):
        here, there = np.full(len(group), -1), packed(kernels, "device") == key
        here[rows] = group[rows]
        cover = Cover(kernels["start_ns"][there], kernels["end_ns"][there])
        total += GroupedCover(here, copies["start_ns"], copies["end_ns"], groups).under(cover)
    return total


def _counts(joined: Joined) -> Counter[str]:
    """How much there is of what a note may tell, and how much of it is odd."""
    frames, api, frame, work = joined.frames, joined.trace.api, joined.call_frame, joined.work
    counts = Counter[str](work=len(work["call"]), unasked=int((work["call"] < 0).sum()), calls=len(frame))
    counts["outside"] = int((frame < 0).sum())
    last_ns = api["end_ns"].max(initial=0) + CLOCK_SLACK_NS
    for code, what in _WORK.items():
        starts = work["start_ns"][work["kind"] == code]
        counts |= {what: len(starts), f"{what} behind": int((starts > last_ns).sum())}
    counts["over"] = int(((frame >= 0) & (api["end_ns"] > taken(frames.end, frame))).sum())
    worked = np.zeros(len(frame) + 1, bool)
    worked[work["call"]] = True
    between = (api["start_ns"] >= frames.start[0]) & (api["start_ns"] < frames.end.max())
    between &= ~joined.trace.named("api", lambda name: "HostFunc" in name)
    for kind in (Call.SYNCHRONIZE, Call.LAUNCH, Call.COPY):
        of_kind = joined.call_kind == KINDS.index(kind)
        if kind is not Call.SYNCHRONIZE:
            of_kind &= between
        counts[kind] = int(of_kind.sum())
        counts[f"{kind} outside"] = int((of_kind & (frame < 0)).sum())
        counts[f"{kind} idle"] = int((of_kind & ~worked[:-1]).sum())
    return counts


def _many(counts: Counter[str], kind: Call, odd: str) -> int:
    """How many calls of a kind are odd; 0 where these are few."""
    count = counts[f"{kind} {odd}"]
    return count if count > _FEW * counts[kind] else 0


def _notes(counts: Counter[str], missing: Sequence[str], processes: int) -> Iterator[str]:
    if not counts["work"]:
        yield "the trace shows no work of the GPU: what synchronize calls waited for can't be told"
        return
    if missing:
        untold = "when the GPU was idle, and what synchronize calls waited for, can't be told"
        yield f"the trace lacks {' and '.join(missing)}: {untold}"
    if unasked := counts["unasked"]:
        yield f"{unasked} of {counts['work']} kernels and copies have no call in the trace, and belong to no frame"
    waits, outside = counts[Call.SYNCHRONIZE], counts[f"{Call.SYNCHRONIZE} outside"]
    if outside > waits / 2:
        yield (
            f"{outside} of {waits} synchronize calls are in no frame: what they wait for is no part of what a frame "
            "takes here"
        )
    if over := counts["over"]:
        yield f"{over} calls begin in a frame and end after it: its range, or they, have a wrong time or thread"
    if counts["outside"] == counts["calls"] > 0:
        yield "no CUDA call is in a frame: the ranges have another thread or clock than the calls"
    for what in _WORK.values():
        if counts["calls"] and (behind := counts[f"{what} behind"]) > _FEW * counts[what]:
            yield f"{behind} of {counts[what]} {what} start after the last call: clocks may differ"
    for kind, what in ((Call.LAUNCH, "launches"), (Call.COPY, "copy calls")):
        if loose := _many(counts, kind, "outside"):
            yield f"{loose} of {counts[kind]} {what} between the first and the last frame are in none"
        if idle := _many(counts, kind, "idle"):
            yield f"{idle} of {counts[kind]} {what} show no work on the GPU: some of it may be missing"
    if processes > 1:
        yield f"frames are of {processes} processes, and medians over them together"
