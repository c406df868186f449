"""Which shape a series has: flat, growing in one of three ways, falling, or coming and going."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from ...packages import load
from .blocks import Blocks, in_blocks
from .segments import Segment, find_segments
from .slope import Slope, checked, slope
from .trend import correlated, trend_probability
from .waves import find_period, find_spikes

_MAX_BLOCKS = 150
_BLOCK_FRAMES = 11
_SHORT_BLOCK = 3
_MAX_FRAMES = 20_000
_TREND_PART = 0.85
_LEAST_PART = 0.25
_PLATEAU_BLOCKS = 4
_PLATEAU_PART = 0.2
_FEWEST_SPIKES = 3


class Shape(StrEnum):
    """What a series does as its frames go by."""

    FLAT = "flat"
    RAMP = "ramp"
    PLATEAU = "plateau"
    """A ramp that ends, and the level that it ends at."""
    STEP = "step"
    """One or more sudden rises; the level may come down again."""
    SPIKES = "spikes"
    PERIODIC = "periodic"
    FALLING = "falling"

    @property
    def grows(self) -> bool:
        """True for a ramp, a plateau and a step."""
        return self in (Shape.RAMP, Shape.PLATEAU, Shape.STEP)


@dataclass(frozen=True, slots=True)
class Growth:
    """What `measure_growth` finds in a series of n frames.

    `slope` is that of the whole series, in its unit per frame. `change_points` are the positions where its level or
    slope changes, each the first frame of what is new, and `levels` the median of each piece between them. `rise` is
    how far the fitted level goes up from the first frame to the last, in the unit of the series; negative where it
    falls, and near 0 where it has come down again. `spikes` are the positions of frames far above their neighbourhood,
    `period` the frames from one repetition to the next, None where nothing repeats.
    """

    shape: Shape
    slope: Slope
    change_points: tuple[int, ...]
    levels: tuple[float, ...]
    rise: float
    spikes: tuple[int, ...]
    period: float | None


def measure_growth(series: ArrayLike, *, confidence: float = 0.99) -> Growth:
    """The shape of a series with one value a frame, shape (n,), n >= 8. No sample is dropped or clipped.

    A series that changes its level or slope is cut into levels and straight lines (`find_segments`), and these say
    whether it steps, ramps, or ramps to a plateau. One that needs no cut may still drift: a rank test asks whether it
    does (`trend_probability`), or, where neighbouring frames resemble each other, the interval of `slope`. Spikes and
    periods are looked for in every series, and name the shape of one that neither grows nor falls; where something
    repeats, blocks of whole periods are compared.

    `confidence` is that of a series without growth being called so: 0.99 allows about one false alarm in 100. In
    simulations of 300 to 1,000 frames 0 to 1.6 % of the series with white, heavy-tailed or AR(1) noise up to 0.9 get a
    growing shape; 5 % of those shorter than ten autocorrelation times, and up to 11 % where a slow wave hides under
    louder white noise. A ramp of 2 % of the median in 1,000 frames under Gaussian noise of 5 % lies 3.65 standard
    errors from none, so that a test with one false alarm in 100 finds at most 90.7 of 100: this finds 88, and at a
    `confidence` of 0.975 94.5 of at most 95.5 (`benchmarks/bench_growth.py`).

    Raises the SettingsErrors of `slope`.
    """
    values = checked(series, confidence)
    load("scipy", needed_for="the shape of a series")
    whole = slope(values, confidence=confidence)
    spikes = find_spikes(values)
    period = find_period(values, whole.value, spikes)
    segments = _segments(values, None)
    if period is not None and not _is_staircase(segments, len(values) / period):
        segments = _segments(values, period)
    elif period is not None:
        period = None
    bounds = [segment.start for segment in segments[1:]]
    shape = _shape_of_pieces(segments) if bounds else _shape_of_one(values, period, whole)
    if shape is Shape.FLAT and period is not None:
        shape = Shape.PERIODIC
    elif shape is Shape.FLAT and len(spikes) >= _FEWEST_SPIKES:
        shape = Shape.SPIKES
    return Growth(
        shape,
        whole,
        tuple(bounds),
        tuple(float(np.median(piece)) for piece in np.split(values, bounds)),
        segments[-1].last - segments[0].first if bounds else whole.value * (len(values) - 1),
        tuple(spikes.tolist()),
        period,
    )


def _segments(values: np.ndarray, period: float | None) -> list[Segment]:
    """The pieces of a series, cut to the frame; a long one is searched in the medians of 20,000 blocks."""
    coarse = in_blocks(values, min(len(values), _MAX_FRAMES))
    scale = len(values) / len(coarse)
    found = find_segments(coarse.medians, _blocks(coarse.medians, period and period / scale))
    in_frames = [replace(s, start=int(coarse.edges[s.start]), end=int(coarse.edges[s.end])) for s in found]
    reach = 2 * max(_BLOCK_FRAMES, len(values) // _MAX_BLOCKS, round(period or 0))
    return _cut_to_the_frame(values, in_frames, reach)


def _blocks(values: np.ndarray, period: float | None) -> Blocks:
    """The blocks to search: eleven frames or more, a tenth of a shorter series, whole periods where there are any."""
    count = max(1, min(_MAX_BLOCKS, len(values) // min(_BLOCK_FRAMES, max(_SHORT_BLOCK, len(values) // 10))))
    if period is None or period < 1:
        return in_blocks(values, count)
    length = period * np.ceil(len(values) / count / period)
    edges = np.round(np.arange(0, len(values) - length + 1, length)).astype(np.int64)
    edges = np.append(edges, len(values))
    return Blocks(edges, np.array([np.median(values[a:b]) for a, b in pairwise(edges)]))


def _cut_to_the_frame(values: np.ndarray, segments: list[Segment], reach: int) -> list[Segment]:
    """Move each change point by at most `reach` frames to where the absolute residuals on both sides are smallest."""
    cut = list(segments)
    for index, (left, right) in enumerate(pairwise(segments)):
        low, high = max(cut[index].start + 1, right.start - reach), min(right.end - 1, right.start + reach)
        frames = np.arange(low, high)
        change = np.abs(values[low:high] - left.line(frames)) - np.abs(values[low:high] - right.line(frames))
        at = low + int(np.argmin(np.concatenate([[0.0], np.cumsum(change)])))
        cut[index] = replace(cut[index], end=at, last=float(left.line(np.array(at - 1))))
        cut[index + 1] = replace(right, start=at, first=float(right.line(np.array(at))))
    return cut


def _shape_of_one(values: np.ndarray, period: float | None, whole: Slope) -> Shape:
    """Ramp, falling or flat, for a series without a change point."""
    drift = whole.value
    if period is not None or len(values) > _MAX_FRAMES:
        blocks = in_blocks(values, _MAX_FRAMES) if period is None else _blocks(values, period)
        values, drift = blocks.medians, drift * blocks.frames
    if correlated(values - drift * np.arange(len(values))):
        up, down = whole.low > 0, whole.high < 0
    else:
        probability, alpha = trend_probability(values), _TREND_PART * (1 - whole.confidence)
        up, down = probability < alpha, probability > 1 - alpha
    return Shape.RAMP if up else Shape.FALLING if down else Shape.FLAT


def _shape_of_pieces(segments: list[Segment]) -> Shape:
    """Step, ramp, plateau or falling, from the fitted lines; what rises by less than a quarter of a fall is no growth.

    The last piece is a plateau where it is flat beside what came before, and long enough to have had a slope.
    """
    up, down = _ups_and_downs(segments)
    if up <= _LEAST_PART * down:
        return Shape.FALLING
    jumps = sum(max(0.0, right.first - left.last) for left, right in pairwise(segments))
    ramps = sum(max(0.0, segment.rise) for segment in segments)
    if jumps > ramps:
        return Shape.STEP
    last, frames = segments[-1], segments[-1].end
    before = (last.first - segments[0].first) / last.start
    long_enough = last.end - last.start >= _PLATEAU_BLOCKS * max(_BLOCK_FRAMES, frames / _MAX_BLOCKS)
    flat = last.rise / (last.end - last.start) < _PLATEAU_PART * before
    return Shape.PLATEAU if flat and long_enough else Shape.RAMP


def _ups_and_downs(segments: list[Segment]) -> tuple[float, float]:
    """The furthest that the fitted lines rise above an earlier place, and fall below one; both >= 0.

    Each line is read at its quarters, so that a loose end is no rise.
    """
    path = np.array([s.first + part * s.rise for s in segments for part in (0.25, 0.75)])
    return float(np.max(path - np.minimum.accumulate(path))), float(np.max(np.maximum.accumulate(path) - path))


def _is_staircase(segments: list[Segment], cycles: float) -> bool:
    """True for as many steps in one direction as a wave has cycles: once a line is taken off, they look alike."""
    up, down = _ups_and_downs(segments)
    return len(segments) - 1 >= cycles / 2 and min(up, down) <= _LEAST_PART * max(up, down)
