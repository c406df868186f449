"""A series as few pieces, each of which stays level or runs straight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .blocks import Blocks
from .slope import inflation, sign_autocorrelation

_ROUNDS = 8
_SHORTEST_LEVEL = 2
_SHORTEST_LINE = 4
_CHANGE = 28.0
"""What a change point must gain, in variances of a block median. By chance, the best of 150 places or of their pairs
gains more in some 2 of 1,000 series."""
_LINE = 10.0
_LEAST = 1e-5
_FEW = 40.0
"""How many independent frames it takes until the estimated variance needs no reserve."""


@dataclass(frozen=True, slots=True)
class Segment:
    """The frames `start` to `end` - 1, and the line through them: its values at both, in the unit of the series."""

    start: int
    end: int
    first: float
    last: float

    @property
    def rise(self) -> float:
        """How far the line goes up within the segment."""
        return self.last - self.first

    def line(self, frames: np.ndarray) -> np.ndarray:
        """Its values at these positions, inside or outside."""
        return self.first + self.rise * (frames - self.start) / max(self.end - 1 - self.start, 1)


def find_segments(values: np.ndarray, blocks: Blocks) -> list[Segment]:
    """Cut a series where its level or slope changes; `blocks` are its blocks, and no piece is shorter than two.

    Optimal partitioning (Jackson and others 2005, the search that PELT prunes: Killick, Fearnhead and Eckley 2012) with
    a choice between a level and a straight line in each piece. It sees medians of blocks, so that an outlier can't make
    a change point, the aim of the bounded loss of Fearnhead and Rigaill 2019.

    Correlated noise looks like changes to such a search. What a change must gain is therefore measured in the long-run
    variance of the residuals, beginning with that of white noise and repeated until the pieces stay the same: about
    too many pieces the residuals of correlated noise still are correlated, about the right ones a step leaves none.
    """
    noise = frame_noise(values)
    deviation = min(_local_deviation(blocks.medians), noise * np.sqrt(np.pi / 2 / blocks.frames))
    variance = deviation**2
    costs = _Costs(blocks)
    segments: list[Segment] = []
    for _ in range(_ROUNDS):
        found = costs.partition(variance)
        if found == segments:
            break
        segments = found
        about = blocks.medians - fitted(segments, blocks.centres)
        spread = max(deviation, 1.4826 * float(np.median(np.abs(about))))
        correlation = sign_autocorrelation(values - fitted(segments, np.arange(len(values))))
        few = 1 + _FEW * max(1.0, 2 * float(correlation.sum()) - 1) / len(values)
        variance = max(variance, spread**2 * inflation(correlation, blocks.frames) * few)
    return costs.merge(segments, lambda part: variance * max(1.0, frame_noise(values[part]) / (noise or np.inf)) ** 2)


def fitted(segments: list[Segment], frames: np.ndarray) -> np.ndarray:
    """The lines of the segments at the positions `frames`, which ascend."""
    bounds = np.searchsorted(frames, [segment.start for segment in segments[1:]])
    return np.concatenate([s.line(part) for s, part in zip(segments, np.split(frames, bounds), strict=True)])


def frame_noise(values: np.ndarray) -> float:
    """Standard deviation of the noise of single frames, from the differences of neighbours."""
    return 1.4826 * float(np.median(np.abs(np.diff(values)))) / np.sqrt(2) if len(values) > 1 else 0.0


def _local_deviation(medians: np.ndarray) -> float:
    """Standard deviation of a block median, from second differences, which neither a line nor a rare step moves."""
    if len(medians) < 3:
        return 0.0
    return 1.4826 * float(np.median(np.abs(np.diff(medians, 2)))) / np.sqrt(6)


def _without_lone_blocks(medians: np.ndarray) -> np.ndarray:
    """Running medians of three with Tukey's rule for the ends ("Exploratory Data Analysis", 1977).

    What lasts for one block is no level; an edge stays an edge and a line a line.
    """
    if len(medians) < 5:
        return medians
    smooth = medians.copy()
    smooth[1:-1] = np.median([medians[:-2], medians[1:-1], medians[2:]], axis=0)
    for end, second, third in ((0, 1, 2), (-1, -2, -3)):
        smooth[end] = np.median([medians[end], smooth[second], 3 * smooth[second] - 2 * smooth[third]])
    return smooth


class _Costs:
    """Sums of squared residuals of every piece of the block medians about its level and about its line."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        n = len(blocks)
        self._medians = _without_lone_blocks(blocks.medians)
        y = self._medians - np.median(self._medians)
        self._scale = float(np.max(np.abs(y))) or 1.0
        y = y / self._scale
        x = (blocks.centres - blocks.centres.mean()) / blocks.frames
        sums = [np.concatenate([[0.0], np.cumsum(v)]) for v in (np.ones(n), x, y, x * x, x * y, y * y)]
        # [start, end]: the sum over the blocks start to end - 1
        count, sx, sy, sxx, sxy, syy = (s[None, :] - s[:, None] for s in sums)
        with np.errstate(invalid="ignore", divide="ignore"):
            level = syy - sy**2 / count
            line = level - (sxy - sx * sy / count) ** 2 / (sxx - sx**2 / count)
        self._level = np.where(count >= _SHORTEST_LEVEL, np.maximum(level, 0), np.inf)
        self._line = np.where(count >= _SHORTEST_LINE, np.maximum(line, 0), np.inf)

    def partition(self, variance: float) -> list[Segment]:
        """The cheapest pieces where a change costs `_CHANGE` times the variance and a line's slope `_LINE` times."""
        unit = self._unit(variance)
        cost = np.minimum(self._level, self._line + _LINE * unit) + _CHANGE * unit
        n = len(self._blocks)
        best, previous = np.zeros(n + 1), np.zeros(n + 1, np.int64)
        for end in range(1, n + 1):
            totals = best[:end] + cost[:end, end]
            previous[end] = np.argmin(totals)
            best[end] = totals[previous[end]]
        bounds = [n]
        while bounds[-1] > 0:
            bounds.append(int(previous[bounds[-1]]))
        bounds.reverse()
        return [self._segment(a, b, unit) for a, b in pairwise(bounds)]

    def merge(self, segments: list[Segment], variance: Callable[[slice], float]) -> list[Segment]:
        """Join neighbours while a change between them gains less than the noise in their own frames asks for.

        `variance` is that of a block median in a part of the series: loud pieces need larger changes than quiet ones.
        """
        kept = list(segments)
        while len(kept) > 1:
            gains = [self._gain(left, right, variance(slice(left.start, right.end))) for left, right in pairwise(kept)]
            weakest = int(np.argmin(gains))
            if gains[weakest] >= 0:
                break
            first, end = np.searchsorted(self._blocks.edges, [kept[weakest].start, kept[weakest + 1].end])
            unit = self._unit(variance(slice(kept[weakest].start, kept[weakest + 1].end)))
            kept[weakest : weakest + 2] = [self._segment(int(first), int(end), unit)]
        return kept

    def _gain(self, left: Segment, right: Segment, variance: float) -> float:
        """What a change between two pieces gains beyond its cost, in units of the variance."""
        unit = self._unit(variance)
        first, middle, end = np.searchsorted(self._blocks.edges, [left.start, right.start, right.end])
        apart = self._cost(first, middle, unit) + self._cost(middle, end, unit) + _CHANGE * unit
        return float(self._cost(first, end, unit) - apart) / unit

    def _unit(self, variance: float) -> float:
        """A variance in the scale of the costs, above what rounding adds to them."""
        with np.errstate(over="ignore"):  # medians next to nothing beside loud frames: clipped like any large ratio
            return float(np.clip(np.sqrt(variance) / self._scale, _LEAST, 1 / _LEAST)) ** 2

    def _cost(self, first: int, end: int, unit: float) -> float:
        return min(self._level[first, end], self._line[first, end] + _LINE * unit)

    def _segment(self, first: int, end: int, unit: float) -> Segment:
        edges = self._blocks.edges
        y, x = self._medians[first:end], self._blocks.centres[first:end]
        start, stop = int(edges[first]), int(edges[end])
        if self._line[first, end] + _LINE * unit < self._level[first, end]:
            slope, offset = np.polyfit(x - x[0], y, 1)
            ends = offset + slope * (np.array([start, stop - 1]) - x[0])
            return Segment(start, stop, float(ends[0]), float(ends[1]))
        level = float(np.median(y))
        return Segment(start, stop, level, level)
