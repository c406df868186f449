"""What a trace adds to a diagnosis: the calls themselves, where host timers only see that something took long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..errors import TraceError
from ..nsight.attribution import Attribution, attribute
from ..nsight.trace import Trace
from ..types import Cause, Stage
from .findings import Evidence, Finding
from .measurements import Measurements
from .rules import gpu, settled, waits
from .rules.belief import PROVEN, shared_between

_LEAST_NS = 20_000
_LEAST_SHARE = 0.02
_LEAST_UNEXPLAINED = 0.1


def measurements_of(trace: Trace) -> Measurements:
    """One value a frame from a trace: its frames, and its stages, or the calls that make them where it has no ranges.

    A loop with several frames in flight waits for nothing until its lanes are full: its first frames are left out, so
    that they don't read as a loop that was fast and became slow. TraceError where the trace has no frames.
    """
    seen = attribution_of(trace)
    frames = seen.frames
    times = {"frame": frames["end_ns"] - frames["start_ns"]}
    named = [stage for stage in Stage if stage in seen.stages]
    times |= {str(stage): frames[f"{stage}_ns"] for stage in named} if named else _from_calls(seen)
    instants = {"start": frames["start_ns"], "done": frames["end_ns"]}
    full = _lanes_full(times[Stage.SYNCHRONIZE]) if Stage.SYNCHRONIZE in times else 0
    return Measurements(
        {name: values[full:].astype(np.float64) for name, values in times.items()},
        {name: values[full:].astype(np.float64) for name, values in instants.items()},
        origin=trace.source.stamp,
    )


def _lanes_full(synchronize_ns: np.ndarray) -> int:
    """How many frames at the begin to leave out: up to the last that waits for nothing, and as many again, until the
    queue in front of the GPU is as long as it stays. 0 where later frames wait for nothing too.
    """
    waitless = np.flatnonzero(synchronize_ns == 0)
    return 2 * (int(waitless[-1]) + 1) if len(waitless) and waitless[-1] < len(synchronize_ns) // 4 else 0


def attribution_of(trace: Trace) -> Attribution:
    """The trace by frame: by ranges named 'frame', or else by synchronize calls, which a note says. TraceError where
    there are neither.
    """
    try:
        return attribute(trace)
    except TraceError:
        cut = attribute(trace, None)
        note = "no range is named 'frame': a frame goes from one synchronize call to the next"
        return replace(cut, notes=(*cut.notes, note))


def _from_calls(seen: Attribution) -> dict[str, np.ndarray]:
    return {
        Stage.UPLOAD: seen.copied("call_ns", "h2d"),
        Stage.INFER: seen.frames["in_launch_ns"],
        Stage.DOWNLOAD: seen.copied("call_ns", "d2h"),
        Stage.SYNCHRONIZE: seen.frames["in_synchronize_ns"],
    }


def traced(trace: Trace) -> Iterator[Finding]:
    """The causes that calls and copies show, each a cost in the median frame of the trace.

    Memory that is allocated in frames, and a wait that copies to pageable memory hold, are proven. A wait in which the
    GPU does nothing for this process is a candidate for a shared GPU: the trace does not see who else has it.
    """
    seen = attribution_of(trace)
    frame = float(np.median(seen.frames["end_ns"] - seen.frames["start_ns"]))
    for cause, nanoseconds, what, advice in (
        (Cause.ALLOCATION, seen.frames["in_allocate_ns"], "calls that allocate or free memory", settled.ALLOCATION),
        (Cause.MOVED_WAIT, _pageable_wait(seen), "download calls, to pageable memory", waits.MOVED_WAIT),
    ):
        lost = float(np.median(nanoseconds))
        if lost > max(_LEAST_NS, _LEAST_SHARE * frame):
            evidence = (Evidence(f"{what}, in the trace", lost / 1e6, "ms", 0, len(seen) - 1),)
            yield Finding(cause, PROVEN, 0.0, lost / 1e6, evidence, *advice)
    idle = float(np.median(seen.waits_ns("nothing")))
    if idle > max(_LEAST_NS, _LEAST_UNEXPLAINED * frame):
        what = "synchronize calls while the GPU does nothing for this process, in the trace"
        evidence = (Evidence(what, idle / 1e6, "ms", 0, len(seen) - 1),)
        confidence = shared_between(2)[0]
        yield Finding(Cause.SHARED_GPU, confidence, 0.0, idle / 1e6, evidence, *gpu.ADVICE[Cause.SHARED_GPU])


def _pageable_wait(seen: Attribution) -> np.ndarray:
    """By frame, the calls of downloads to pageable memory where synchronize has less to wait for than they; else 0."""
    held = seen.copied("call_ns", "d2h", "pageable")
    return np.where(held > seen.frames["in_synchronize_ns"], held, 0)
