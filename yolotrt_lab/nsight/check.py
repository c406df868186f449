"""A capture that looks well and is not: nsys exits with 0 although ranges or kernels are missing."""

from __future__ import annotations

import numpy as np

from ..errors import TraceError
from .trace import DIRECTIONS, Graph, Trace

_NO_FRAMES = (
    "mark each frame with an NVTX range called 'frame' (the lab's loops do); under an nsys of 2023 nvtx 0.2.17 loses "
    "every range: python -m pip install nvtx==0.2.10; with ranges, put `with nsight.profiled():` around the loop"
)
_NO_GPU_WORK = (
    "some clouds, virtual GPUs and WSL give nsys no usable GPU times: write the line CuptiUseRawGpuTimestamps=false "
    "into the file that `nsys -z` names, and capture again"
)
_GRAPHS_HIDE_COPIES = (
    "a CUDA graph is shown as one block, and the copies in it are not: capture with graphs='node' (--graphs node)"
)
_TOO_FEW = "capture again with fewer frames: nsys drops what it cannot write in time"


def check_trace(
    trace: Trace, *, frames: int | None = None, batches: int | None = None, uploads: int = 1, downloads: int = 1
) -> None:
    """See that frames, GPU work, copies and synchronizes are there; TraceError says what is missing and what helps.

    With `frames`, the number in the loop's own recording, the last so many frames of the trace are counted: each has
    that many uploads and downloads, at least one synchronize, and as many kernels as any other. Where frames go in
    batches that is said of each of `batches`; frames of one batch are recorded with one and the same `done_ns`. What
    happens between the first frame's begin and the end of the trace counts, in the process that marked them.
    """
    starts = _frame_starts(trace)
    if not len(starts):
        raise TraceError("the trace holds no frames", fix=_NO_FRAMES)
    if not trace.count("kernels") or not trace.count("copies"):
        missing = (
            "kernels" if trace.count("copies") else "copies" if trace.count("kernels") else "kernels and no copies"
        )
        hidden = missing == "copies" and (trace.kernels["graph"] == Graph.WHOLE).any()
        fix = _GRAPHS_HIDE_COPIES if hidden else _NO_GPU_WORK
        raise TraceError(f"the trace holds {len(starts)} frames and no {missing}", fix=fix)
    if not trace.named("api", _waits).any():
        raise TraceError(f"the trace holds {len(starts)} frames and no synchronize call", fix=_NO_FRAMES)
    if frames is not None:
        begin, pid = _first_of_last(trace, starts, frames)
        what = f"{frames} frames" if batches is None else f"{batches} batches"
        _check_counts(trace, begin, pid, frames if batches is None else batches, what, uploads, downloads)


def _frame_starts(trace: Trace) -> np.ndarray:
    return trace.ranges["start_ns"][trace.named("ranges", "frame".__eq__)]


def _first_of_last(trace: Trace, starts: np.ndarray, frames: int) -> tuple[int, int]:
    """When the first of the last so many frames begins, and the process that marked it."""
    if len(starts) < frames:
        raise TraceError(f"the trace holds {len(starts)} of {frames} frames", fix=_TOO_FEW)
    begin = int(starts[len(starts) - frames])
    return begin, int(trace.ranges["pid"][np.flatnonzero(trace.ranges["start_ns"] == begin)[0]])


def _check_counts(trace: Trace, begin: int, pid: int, count: int, what: str, uploads: int, downloads: int) -> None:
    """`count` times so many copies, a synchronize and kernels; `what` says of what."""
    counted = {
        name: (trace.table(name)["start_ns"] >= begin) & (trace.table(name)["pid"] == pid)
        for name in ("copies", "kernels", "api")
    }
    ways = trace.copies["direction"][counted["copies"]]
    found = {way: int((ways == DIRECTIONS.index(way)).sum()) for way in ("h2d", "d2h")}
    if found != {"h2d": uploads * count, "d2h": downloads * count}:
        hidden = (trace.kernels["graph"][counted["kernels"]] == Graph.WHOLE).any()
        raise TraceError(
            f"{what} with {uploads} uploads and {downloads} downloads each, and the trace holds "
            f"{found['h2d']} and {found['d2h']}",
            fix=f"{_TOO_FEW}; {_GRAPHS_HIDE_COPIES}" if hidden else _TOO_FEW,
        )
    waits = int((trace.named("api", _waits) & counted["api"]).sum())
    if waits < count:
        raise TraceError(f"{what}, and the trace holds {waits} synchronize calls", fix=_TOO_FEW)
    kernels = int(counted["kernels"].sum())
    if not kernels or kernels % count:
        raise TraceError(f"{kernels} kernels for {what}: not as many for each", fix=_TOO_FEW)


def _waits(name: str) -> bool:
    return "Synchronize" in name
