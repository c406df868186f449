"""The shape of a series with one value a frame, and how much it grows: from every sample, none dropped or clipped."""

from __future__ import annotations

from .shape import Growth, Shape, measure_growth
from .slope import MIN_FRAMES, Slope, slope

__all__ = ["MIN_FRAMES", "Growth", "Shape", "Slope", "measure_growth", "slope"]
