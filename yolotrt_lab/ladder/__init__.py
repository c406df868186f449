"""The ladder: from the naive loop to the speed of the hardware, rung by rung, measured beside the hardware's limits.

`climb` measures every rung, `measure_claims` and `result_claims` what is claimed of them.
"""

from __future__ import annotations

from ..threshold import confidence_for
from ..throughput import copy_us, engine_us
from .claims import Bench, measure_claims
from .climb import check_frames, climb, open_engines
from .ladder import Claim, Ladder, Step, side_by_side
from .limits import Limits, measure_limits
from .measure import Figures, figures, frame_us
from .peers import measure_peers
from .results import result_claims
from .rungs import RUNGS, Rung, checked_rungs
from .trace import trace_rung

__all__ = [
    "RUNGS",
    "Bench",
    "Claim",
    "Figures",
    "Ladder",
    "Limits",
    "Rung",
    "Step",
    "check_frames",
    "checked_rungs",
    "climb",
    "confidence_for",
    "copy_us",
    "engine_us",
    "figures",
    "frame_us",
    "measure_claims",
    "measure_limits",
    "measure_peers",
    "open_engines",
    "result_claims",
    "side_by_side",
    "trace_rung",
]
