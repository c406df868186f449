"""What each synchronize call waited for: at every instant one of WAITS, as `attribute` defines them."""

from __future__ import annotations

import numpy as np

from .intervals import each
from .trace import CLOCK_SLACK_NS, DEVICE_WAITS, Columns
from .traced_frames import KINDS, Call, Joined

WAITS = ("kernels", "copies", "other_frames", "other_streams", "nothing", "wake_up")
"""What a synchronize call can wait for; `attribute` says when it is which."""


def waits(joined: Joined) -> Columns:
    """One row for each synchronize call, in order."""
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
