from .kernels import Decoder, Letterboxer, bgr_to_nv12
from .ladder import RUNGS, Ladder, checked_rungs, climb, open_engines, side_by_side
from .ladder_figures import BOUND_COLOURS, bounds, explore_bounds, streams, trace_rung
from .limits import Limits, measure_limits
from .overlap import OverlappedLoop, OverlapSettings

__all__ = [
    "BOUND_COLOURS",
    "RUNGS",
    "Decoder",
    "Ladder",
    "Letterboxer",
    "Limits",
    "OverlapSettings",
    "OverlappedLoop",
    "bgr_to_nv12",
    "bounds",
    "checked_rungs",
    "climb",
    "explore_bounds",
    "measure_limits",
    "open_engines",
    "side_by_side",
    "streams",
    "trace_rung",
]
