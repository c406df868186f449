from .kernels import Decoder, Letterboxer
from .ladder import RUNGS, Claim, Ladder, Rung, Step, checked_rungs, climb, open_engines, side_by_side, trace_rung
from .ladder_figures import BOUND_COLOURS, bounds, streams
from .limits import Figures, Limits, confidence_for, copy_us, engine_us, measure_limits
from .overlap import OverlappedLoop, OverlapSettings

__all__ = [
    "BOUND_COLOURS",
    "RUNGS",
    "Claim",
    "Decoder",
    "Figures",
    "Ladder",
    "Letterboxer",
    "Limits",
    "OverlapSettings",
    "OverlappedLoop",
    "Rung",
    "Step",
    "bounds",
    "checked_rungs",
    "climb",
    "confidence_for",
    "copy_us",
    "engine_us",
    "measure_limits",
    "open_engines",
    "side_by_side",
    "streams",
    "trace_rung",
]
