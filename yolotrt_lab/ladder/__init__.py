"""The ladder: from the naive loop to the speed of the hardware, rung by rung, measured beside the hardware's limits."""

from __future__ import annotations

from .limits import Limits, copy_us, engine_us, measure_limits
from .measure import Figures, confidence_for, figures, frame_us
from .rungs import RUNGS, Rung

__all__ = [
    "RUNGS",
    "Figures",
    "Limits",
    "Rung",
    "confidence_for",
    "copy_us",
    "engine_us",
    "figures",
    "frame_us",
    "measure_limits",
]
