"""What comes and goes: single slow frames, and what repeats."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

_NEIGHBOURHOOD = 31
_SPIKE_DEVIATIONS = 8.0
_SPIKE_PART = 0.2
_FEWEST_CYCLES = 8
_BURST = 8
_PEAK_OVER_NOISE = 2.0
_PEAK_PART = 0.15
_REGULAR_PART = 0.8
_REGULAR_WITHIN = 0.1


def find_spikes(values: np.ndarray) -> np.ndarray:
    """Positions of the frames far above their neighbourhood, the running median of 31 frames.

    Far is more than eight robust standard deviations of the distances from it, and more than a fifth of its level. A
    slow stretch of 16 frames or more is its own neighbourhood.
    """
    from scipy.ndimage import median_filter

    size = min(_NEIGHBOURHOOD, len(values) - 1 + len(values) % 2)
    level = median_filter(values, size, mode="nearest")
    above = values - level
    deviation = 1.4826 * np.median(np.abs(above))
    return np.flatnonzero(above > np.maximum(_SPIKE_DEVIATIONS * deviation, _SPIKE_PART * np.abs(level)))


def find_period(values: np.ndarray, drift: float, spikes: np.ndarray) -> float | None:
    """Frames from one repetition to the next, for a train of spikes or a wave of eight cycles or more; else None."""
    for apart in (2, _BURST):
        period = _spike_period(spikes[np.diff(spikes, prepend=-_BURST) >= apart])
        if period is not None:
            return period
    return _wave_period(values - drift * np.arange(len(values)))


def _spike_period(first: np.ndarray) -> float | None:
    """The median distance between the positions `first` where four fifths of the distances are a multiple of it."""
    distances = np.diff(first)
    if len(distances) < _FEWEST_CYCLES:
        return None
    period = float(np.median(distances))
    cycles = np.round(distances / period)
    off = np.abs(distances - cycles * period)
    regular = (cycles >= 1) & (off <= _REGULAR_WITHIN * period)
    if regular.mean() < _REGULAR_PART:
        return None
    return float(distances[regular].sum() / cycles[regular].sum())


def _wave_period(residuals: np.ndarray) -> float | None:
    """The period of the strongest peak of the periodogram (Schuster 1898) that stands out of its surroundings.

    It is taken of the signs about the median, so that no outlier weighs more than another frame. Correlated noise has
    more power at long periods; a peak must therefore exceed the median of its own band of frequencies, by twice what
    the largest of so many exponentially distributed powers reaches once in a thousand series.
    """
    from scipy.fft import rfft

    signs = np.sign(residuals - np.median(residuals))
    power = np.abs(rfft(signs - signs.mean())) ** 2
    if len(power) <= 2 * _FEWEST_CYCLES or power.sum() == 0:
        return None
    high = power[_FEWEST_CYCLES:]
    peak = _FEWEST_CYCLES + int(np.argmax(high / _background(high)))
    stands_out = power[peak] / _background(high)[peak - _FEWEST_CYCLES]
    around = power[peak - 1 : peak + 2].sum() / power.sum()
    if stands_out < _PEAK_OVER_NOISE * np.log(1_000 * len(power)) or around < _PEAK_PART:
        return None
    return len(residuals) / (peak + _offset_of_peak(power, peak))


def _background(power: np.ndarray) -> np.ndarray:
    """The mean power of noise at each frequency, from the median of the band it lies in."""
    bands = [0]
    while bands[-1] < len(power):
        bands.append(bands[-1] + max(16, (bands[-1] + _FEWEST_CYCLES) // 3))
    level = np.empty(len(power))
    for low, end in pairwise(bands):
        start = max(0, min(low, len(power) - 16))
        level[low:end] = np.median(power[start:end]) / np.log(2)
    return np.maximum(level, 1e-9 * power.max())


def _offset_of_peak(power: np.ndarray, peak: int) -> float:
    """Where between its neighbours a peak lies, -0.5 to 0.5: the top of the parabola through their logarithms."""
    if not 0 < peak < len(power) - 1:
        return 0.0
    before, top, after = np.log(np.maximum(power[peak - 1 : peak + 2], 1e-12 * power[peak]))
    bend = before - 2 * top + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < 0 else 0.0
