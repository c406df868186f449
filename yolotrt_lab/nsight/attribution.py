"""What each synchronize call waited for."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np

from ..types import Source
from .intervals import Cover, GroupedCover, distinct, sums
from .trace import DIRECTIONS, MEMORIES, Columns, Trace
from .traced_frames import (
    COPY,
    KERNEL,
    KINDS,
    Call,
    Joined,
    frames_by_range,
    frames_by_synchronize,
    taken,
    thread_keys,
    waits_for_device,
)

WAITS = ("kernels", "copies", "other_frames", "other_streams", "nothing", "wake_up")
"""What a synchronize call can wait for; `attribute` says when it is which."""

CLOCK_SLACK_NS = 5_000
"""How much later than a call's return the work may seem to end that the call waited for."""


def split_waits(joined: Joined) -> Columns:
    """One row for each synchronize call, in order: `frame`, `row`, `start_ns`, `end_ns`, and `<wait>_ns` of WAITS."""
    rows = np.flatnonzero(joined.call_kind == KINDS.index(Call.SYNCHRONIZE))
    api = joined.trace.api
    columns = {"frame": joined.call_frame[rows], "row": rows}
    columns |= {"start_ns": api["start_ns"][rows], "end_ns": api["end_ns"][rows]}
    columns |= {f"{wait}_ns": np.zeros(len(rows), np.int64) for wait in WAITS}
    for thread in distinct(joined.call_thread[rows]):
        mine = np.flatnonzero(joined.call_thread[rows] == thread)
        for wait, values in _of_thread(joined, thread, rows[mine]).items():
            columns[f"{wait}_ns"][mine] = values
    return columns


def _of_thread(joined: Joined, thread: int, rows: np.ndarray) -> dict[str, np.ndarray]:
    work, api = joined.work, joined.trace.api
    process, loop = work.pid == thread >> 32, joined.loop_of(thread)
    start, end, frame = api["start_ns"][rows], api["end_ns"][rows], joined.call_frame[rows]
    whole = joined.trace.named("api", waits_for_device)[rows]
    last = np.where(whole, _last_end(work.end[process], end), _last_end(work.end[loop], end))
    unknown = last <= start
    until = np.where(unknown, start, np.minimum(last, end))
    kernels = joined.own_kernels.measure(frame, start, until)
    own = joined.own_work.measure(frame, start, until)
    with_loop = Cover(work.start[loop], work.end[loop]).measure(start, until)
    with_all = joined.devices_cover(loop | process if whole.any() else loop).measure(start, until)
    return {
        "kernels": kernels,
        "copies": own - kernels,
        "other_frames": with_loop - own,
        "other_streams": with_all - with_loop,
        "nothing": np.where(unknown, end - start, until - start - with_all),
        "wake_up": np.where(unknown, 0, end - until),
    }


def _last_end(ends: np.ndarray, before: np.ndarray) -> np.ndarray:
    """For each time the latest end up to it (and the clocks' slack); the earliest integer where there is none."""
    ends = np.sort(np.append(ends, np.iinfo(np.int64).min))
    return ends[np.searchsorted(ends, before + CLOCK_SLACK_NS, side="right") - 1]


# Where each frame's time went, on the host and on the GPU, and what every synchronize call waited for.


@dataclass(frozen=True, eq=False)
class Attribution:
    """A trace's time, by frame. All columns are int64 of one length a table, times and durations in ns.

    `frames` has one row a frame, sorted by start: `start_ns`, `end_ns`, `pid`, `tid`; for each of `stages` the host's
    time `<stage>_ns` and what the GPU did for it, `<stage>_gpu_ns`; `gpu_ns`, `kernels_ns` and `copies_ns`, how long
    the GPU worked for this frame (what overlaps counts once); `kernels` and `copies`, how many there were (a graph that
    is shown as one block is one kernel); `in_<kind>_ns`, the host's time in each kind of `Call`; `idle_ns`, how long
    the trace shows nothing on the GPU between the frame's start and end, and, adding up to it, `idle_in_<kind>_ns` and
    `idle_outside_ns`: where the host was meanwhile.

    `copies` has one row for each frame, direction and kind of memory that occur: `frame`, `direction` and
    `host_memory` (places in DIRECTIONS and MEMORIES), `count`, `bytes`, `gpu_ns`, `under_kernels_ns`, how much of that
    kernels of the same process ran on the same GPU, whichever frame's, and `call_ns`, the host's time in the copy
    calls. Copies that belong to no frame have frame -1.

    `synchronizes` has one row for each synchronize call: `frame` (-1 outside), `row` in the trace's `api`, `start_ns`,
    `end_ns`, and `<wait>_ns` for each of WAITS, which add up to the call.

    `idle_calls` holds, for each name of a call, how long the GPU was idle in frames while the host was in it.
    """

    frames: Columns
    copies: Columns
    synchronizes: Columns
    stages: tuple[str, ...]
    idle_calls: Mapping[str, int]
    source: Source
    notes: tuple[str, ...] = ()

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


def attribute(trace: Trace, frame_range: str | None = "frame") -> Attribution:
    """Attribute a trace's time to its frames: the ranges named `frame_range`, or matching it as a pattern ('frame *').

    A stage is a range that lies directly in a frame, in the same thread. What the GPU did belongs to the frame and the
    stage in which its call was made. With `frame_range=None` frames end with synchronize calls, for programs that have
    no range for a frame (see `frames_by_synchronize`).

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
    """
    return attribution_of(joined(trace, frame_range))


def joined(trace: Trace, frame_range: str | None) -> Joined:
    """The trace joined to its frames, as `attribute` finds them."""
    frames = frames_by_synchronize(trace) if frame_range is None else frames_by_range(trace, frame_range)
    return Joined(trace, frames)


def attribution_of(joined: Joined) -> Attribution:
    """What `attribute` says of a trace."""
    trace = joined.trace
    with ThreadPoolExecutor(1) as pool:  # NumPy computes without the interpreter's lock
        beside = pool.submit(_idle, joined)
        frames, copies, synchronizes = _frame_columns(joined), _copy_columns(joined), split_waits(joined)
        idle, idle_calls = beside.result()
    return Attribution(
        frames=frames | idle,
        copies=copies,
        synchronizes=synchronizes,
        stages=joined.stages,
        idle_calls=idle_calls,
        source=trace.source,
        notes=(*trace.notes, *joined.frames.notes, *_notes(joined)),
    )


def _frame_columns(joined: Joined) -> dict[str, np.ndarray]:
    frames, count = joined.frames, len(joined.frames)
    columns = {"start_ns": frames.start, "end_ns": frames.end, "pid": frames.pid, "tid": frames.tid}
    for place, stage in enumerate(joined.stages):
        columns[f"{stage}_ns"] = joined.stage_ns[:, place]
        columns[f"{stage}_gpu_ns"] = joined.stage_gpu_ns[:, place]
    columns["gpu_ns"] = joined.own_work.totals()
    columns["kernels_ns"] = joined.own_kernels.totals()
    copies = np.where(joined.work.kind == COPY, joined.work_frame, -1)
    columns["copies_ns"] = joined.cover(copies, count).totals()
    launched = (joined.work_frame >= 0) & (joined.work.kind == KERNEL) & ~joined.work.memset
    columns["kernels"] = np.bincount(joined.work_frame[launched], minlength=count)
    columns["copies"] = np.bincount(copies[copies >= 0], minlength=count)
    return {name: values.astype(np.int64) for name, values in columns.items()}


def _idle(joined: Joined) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The host's time in calls, and where it was while the GPU was idle; by frame, and by the name of the call."""
    trace, frames = joined.trace, joined.frames
    rows = joined.outer_calls
    rows = rows[joined.call_frame[rows] >= 0]
    start, end, name, frame, kind = (
        values if len(rows) == len(values) else values[rows]
        for values in (
            *(trace.api[column] for column in ("start_ns", "end_ns", "name")),
            joined.call_frame,
            joined.call_kind,
        )
    )
    end = np.minimum(end, frames.end[frame])
    idle, idle_in_call = frames.end - frames.start, end - start
    threads = thread_keys(frames.pid, frames.tid)
    for thread in distinct(threads):
        cover = joined.devices_cover(joined.of_thread(thread))
        mine, calls = (np.flatnonzero(of == thread) for of in (threads, threads[frame]))
        idle[mine] -= cover.measure(frames.start[mine], frames.end[mine])
        idle_in_call[calls] -= cover.measure(start[calls], end[calls])
    group = frame * len(KINDS) + kind
    in_calls = sums(group, end - start, len(frames) * len(KINDS)).reshape(-1, len(KINDS))
    idle_in = sums(group, idle_in_call, len(frames) * len(KINDS)).reshape(-1, len(KINDS))
    columns = {f"in_{kind}_ns": in_calls[:, place] for place, kind in enumerate(KINDS)} | {"idle_ns": idle}
    columns |= {f"idle_in_{kind}_ns": idle_in[:, place] for place, kind in enumerate(KINDS)}
    by_name = sums(name, idle_in_call, len(trace.names))
    names = {trace.names[code]: int(by_name[code]) for code in np.argsort(-by_name, kind="stable") if by_name[code]}
    return columns | {"idle_outside_ns": idle - idle_in.sum(axis=1)}, names


def _copy_columns(joined: Joined) -> dict[str, np.ndarray]:
    copies = joined.trace.copies
    group = (joined.copy_frame + 1) * len(DIRECTIONS) + copies["direction"]
    group = group * len(MEMORIES) + copies["host_memory"]
    keys, place = np.unique(group, return_inverse=True)
    frame, kind = np.divmod(keys, len(DIRECTIONS) * len(MEMORIES))
    direction, memory = np.divmod(kind, len(MEMORIES))
    return {
        "frame": frame - 1,
        "direction": direction,
        "host_memory": memory,
        "count": np.bincount(place, minlength=len(keys)),
        "bytes": sums(place, copies["bytes"], len(keys)),
        "gpu_ns": GroupedCover(place, copies["start_ns"], copies["end_ns"], len(keys)).totals(),
        "under_kernels_ns": _under_kernels(joined.trace, place, len(keys)),
        "call_ns": _time_in_copy_calls(joined, place, len(keys)),
    }


def _under_kernels(trace: Trace, group: np.ndarray, groups: int) -> np.ndarray:
    """How long each group's copies run beside kernels of their process on their GPU."""
    copies, kernels = trace.copies, trace.kernels
    total = np.zeros(groups, np.int64)
    for pid, device in product(distinct(copies["pid"]), distinct(copies["device"])):
        here = np.where((copies["pid"] == pid) & (copies["device"] == device), group, -1)
        there = (kernels["pid"] == pid) & (kernels["device"] == device)
        cover = Cover(kernels["start_ns"][there], kernels["end_ns"][there])
        total += GroupedCover(here, copies["start_ns"], copies["end_ns"], groups).under(cover)
    return total


def _time_in_copy_calls(joined: Joined, group: np.ndarray, groups: int) -> np.ndarray:
    """The host's time in the calls of each group's copies; a call of many copies counts for the first one."""
    calls, first = np.unique(joined.copy_call, return_index=True)
    chosen = (calls >= 0) & (taken(joined.call_kind, calls) == KINDS.index(Call.COPY))
    calls, first = calls[chosen], first[chosen]
    api = joined.trace.api
    return sums(group[first], api["end_ns"][calls] - api["start_ns"][calls], groups)


def _notes(joined: Joined) -> list[str]:
    work = joined.work
    if not len(work):
        return ["the trace shows no work of the GPU: what synchronize calls waited for can't be told"]
    notes = []
    unasked = int((work.call < 0).sum())
    if unasked:
        notes.append(f"{unasked} of {len(work)} kernels and copies have no call in the trace, and belong to no frame")
    frame_of = joined.call_frame[joined.call_kind == KINDS.index(Call.SYNCHRONIZE)]
    outside = int((frame_of < 0).sum())
    if outside > len(frame_of) / 2:
        notes.append(
            f"{outside} of {len(frame_of)} synchronize calls are in no frame: what they wait for is no part of what a "
            "frame takes here"
        )
    return notes
