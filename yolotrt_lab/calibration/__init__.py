"""Measure a preset of the GPU at hand for the simulated device. Start with `calibrate`."""

from __future__ import annotations

from .concurrency import BATCHES, Concurrency
from .fit import LOOPS, Measurements, fit_preset
from .measure import calibrate

__all__ = ["BATCHES", "LOOPS", "Concurrency", "Measurements", "calibrate", "fit_preset"]
