"""What each synchronize call waited for."""

from __future__ import annotations

import numpy as np

from .calls import Call, waits_for_device
from .intervals import Cover, distinct
from .joined import KINDS, Joined
from .trace import Columns

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
