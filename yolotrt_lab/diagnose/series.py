"""What a series does as its frames go by: its level early and late, its growth and shape, its stalls, its period.

Growth is looked for in medians of blocks, so that a rare slow frame can't make any and five million rows take a moment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from typing import Literal

import numpy as np

from . import thresholds as at
from .slope import autocovariance, block_edges, correlation_time, in_blocks, median, quantile, sign_autocorrelation

Form = Literal["ramp", "step", "plateau", "wave"]

_MOST_VALUES = 20_000
_SOME = 100_000
_THINNED = 500_000
_GOLDEN = 0.6180339887  # the golden ratio, whose multiples are spread evenly
_MOST_BLOCKS = 60
_BLOCK = 5
_WINDOW = 6  # a level has to last for a sixth of the run
_NEARLY = 0.98
_MOST_LAGS = 4_096
_HARMONIC = 0.8  # a period that is a whole number of shorter ones, which are nearly as alike
_AROUND = 31  # frames that a level around a frame is of
_AT_ONCE = 256  # of such blocks
_FLAT = 0.2  # share of the slope of the climb before
_KNEE = 1.05
_STAIR = 0.1  # share of a climb that is a stair, where it is level before and behind
_LEFT = 0.05  # share of a climb by which a value must be above the first level, to be no more of it
_END = 2.0  # how much likelier (in its logarithm) a climb that starts, or ends, inside must be: less is chance


@dataclass(frozen=True, slots=True)
class Window:
    """The frames from `first` up to, not with, `end`; of what repeats, those at one place of its period: every so
    many-th of them.
    """

    first: int
    end: int
    step: int = 1

    def __str__(self) -> str:
        return f"frames {self.first:,} to {max(self.end - 1, 0):,}"


@dataclass(frozen=True, slots=True)
class Change:
    """A level that became another one, in the unit of the series."""

    before: Window
    after: Window
    start: float
    to: float
    form: Form = "step"
    since: int = 0
    """The frame from which on it changes; 9 of 10 simulated steps and ramps are within 2 % of the run. 0: as far as can
    be told, from the start."""

    @property
    def size(self) -> float:
        """How far it went up, or down."""
        return abs(self.to - self.start)


@dataclass(frozen=True, slots=True)
class Stalls:
    """Frames far above the level around them."""

    frames: int
    median: float
    """Of their times."""
    longest: float
    share: float
    """Of all time, what they take beyond the level around them."""
    first: int
    """The first of them."""
    in_a_row: int
    """The most of them that follow each other."""
    second_half: int
    """How many of them are in the second half of the run."""
    every: int | None = None
    """After how many frames they come again, where they do so evenly."""


@dataclass(frozen=True, eq=False)
class Shape:
    """A series with one value a frame. `grew` and `fell` are None where no change stands out of the noise."""

    median: float
    early: float
    """The median of the first tenth of the frames, but at least 8, or a third of fewer than 24."""
    late: float
    grew: Change | None
    fell: Change | None
    change: Change
    """The largest rise, whether it stands out or not."""
    shows_ms: float
    """The smallest change of the level that this run could show."""
    stalls: Stalls | None
    settled: float
    """The median of the second half."""
    lowest: float
    """The lowest level anywhere: of 60 blocks of frames (of 5 or more), the first 8 and the last 8 frames, and of what
    repeats each place in its period."""
    highest: float
    """Likewise the highest. What excludes a cause holds for these, whenever the cause may have come or gone."""
    first_highest: float
    """The highest of the first 8 values."""

    @property
    def changed(self) -> Change | None:
        """Its rise, else its fall."""
        return self.grew or self.fell


_NAN = float("nan")
_NO_CHANGE = Change(Window(0, 0), Window(0, 0), _NAN, _NAN)
NO_SHAPE = Shape(_NAN, _NAN, _NAN, None, None, _NO_CHANGE, _NAN, None, _NAN, _NAN, _NAN, _NAN)
"""Of a series that was not measured: nothing changes, and no level is above or below another."""


def edge(frames: int) -> int:
    """How many frames at either end stand for 'early' and 'late'."""
    return max(1, min(frames // 3, max(at.EDGE_FRAMES, frames // 10)))


def shape_of(values: np.ndarray, least: float = 0.0, period: int | None = None) -> Shape:
    """The shape of a series of shape (n,), n >= 1, finite. A change below `least` is none.

    Fewer than 24 values are a start and an end. `period` is what `find_period` says of the series or the whole frame.
    """
    n, side = len(values), edge(len(values))
    early, late, settled = (float(median(some(part))) for part in (values[:side], values[-side:], values[n // 2 :]))
    usual, first = float(median(some(values))), values[: min(side, at.EDGE_FRAMES)]
    if 1 < n < at.FEWEST_FRAMES:
        grew, fell, change = _of_few(values, least)
        everywhere, shows = values, 0.0 if n == 2 else float("inf")
    else:
        levels = _Levels(values, period)
        grew, fell, change = _of_many(values, levels, max(least, at.OF_STAGE * abs(usual)))
        places = [some(values[place::period]) for place in range(period)] if period else []
        ends = [median(part) for part in (first, values[-at.EDGE_FRAMES :], *places)]
        everywhere, shows = np.append(levels.medians, ends), max(levels.noise, step_of(values))
        if period and not (grew or fell):
            grew, fell = _of_a_place(values, period, least)
            everywhere = np.append(
                everywhere, [level for each in (grew, fell) if each for level in (each.start, each.to)]
            )
        shows = shows if n > 1 else float("inf")
    lowest, highest = float(everywhere.min()), float(everywhere.max())
    stalls = find_stalls(values, period, lasting=not (grew or fell))
    return Shape(usual, early, late, grew, fell, change, shows, stalls, settled, lowest, highest, float(first.max()))


_Changes = tuple[Change | None, Change | None, Change]
"""The rise and the fall that stand out, and the largest rise."""


def _of_few(values: np.ndarray, least: float) -> _Changes:
    """Of two values, or of few, whose first and last third must be further apart than those of each, and half as far
    again from 0. No value may lie outside of both. Thirds of one value have no spread, and must be far apart.
    """
    n, side = len(values), edge(len(values))
    parts = values[:side], values[-side:]
    start, end = (float(median(part)) for part in parts)
    form, since = _climb(values, 1)
    change = Change(Window(0, side), Window(n - side, n), start, end, form, int(since + 0.5))
    low, high = sorted(parts, key=median)
    times = at.FAST_START if side > 1 else at.FEW_ROWS
    counts = n == 2 or max(start, end) > times * min(start, end)
    counts &= high.min() - low.max() > max(np.ptp(part) for part in parts)
    counts &= bool(low.min() <= values.min() and values.max() <= high.max())
    counts &= change.size > max(least, at.OF_STAGE * max(start, end))
    grew, fell = (change if counts and sign * (end - start) > 0 else None for sign in (1, -1))
    return grew, fell, change


def _of_many(values: np.ndarray, levels: _Levels, least: float) -> _Changes:
    def stands_out(change: Change) -> bool:
        clear = change.size > least and (change.size > levels.noise or _is_clear(values, change))
        return clear and _all_move(values, change)

    up, down = levels.furthest(1), levels.furthest(-1)
    grew, fell = (each if stands_out(each) else None for each in (up, down))
    if grew or fell:
        grew, fell = _one_of(up, down, grew, fell)
    filled = _from_the_start(values, max(least, levels.noise))
    soon = grew is not None and grew.form == "step" and grew.before.end < min(4 * at.EDGE_FRAMES + 1, len(values) // 20)
    if filled and (grew is None or soon or grew.size < at.COMES_BACK * filled.size):
        grew = filled
    return grew, fell, up


def _of_a_place(values: np.ndarray, period: int, least: float) -> tuple[Change | None, Change | None]:
    """The rise or the fall of one place of a period, such as every eighth frame: where the ends are furthest apart, and
    one is a quarter above the other.
    """
    rows = len(values) // period
    if rows < at.FEWEST_FRAMES:
        return None, None
    table, side = values[: rows * period].reshape(rows, period), edge(rows)
    place = int(np.argmax(np.abs(median(table[-side:].T) - median(table[:side].T))))
    part = table[:, place]
    found = _of_many(part, _Levels(part, None), max(period * least, at.OF_STAGE * float(median(part))))[:2]
    clear = (c if c and max(c.start, c.to) > at.STALL_TIMES * min(c.start, c.to) else None for c in found)
    grew, fell = (each and _in_every(each, period, place) for each in clear)
    return grew, fell


def _in_every(change: Change, period: int, place: int) -> Change:
    """A change of the values at one place of a period, in frames."""
    before, after = (
        Window(each.first * period + place, (each.end - 1) * period + place + 1, period)
        for each in (change.before, change.after)
    )
    return replace(change, before=before, after=after, since=change.since * period)


def _steps(values: np.ndarray) -> np.ndarray:
    """How far different values are apart, in their order; without `np.unique`, which imports numpy.ma for 15 ms."""
    steps = np.diff(np.sort(values))
    return steps[steps > 0]


def step_of(values: np.ndarray) -> float:
    """By how much values differ at least, as they were written: whole milliseconds hide what is less than one."""
    values = some(values)
    if len(steps := _steps(values)):
        return float(median(steps))
    return 10.0 ** -len(f"{values[0]:.6f}".rstrip("0").partition(".")[2])


def _is_clear(values: np.ndarray, change: Change) -> bool:
    """True where two levels are far apart, and what is between is more than three fifths of the frames of each span."""
    spans = [(window.first, window.end, (window.end - window.first) // 4) for window in (change.before, change.after)]
    low, high = sorted((values[first + cut : end - cut] for first, end, cut in spans), key=median)
    apart = max(change.start, change.to) > at.FAST_START * min(change.start, change.to)
    if len(values) < at.FEWEST_STEADY:  # too few to tell a wave from chance: it must last
        apart &= abs(float(median(values[-edge(len(values)) :])) - change.to) < change.size / 2
    ends = [[quantile(part, share) for share in (0.2, 0.8)] for part in (low, high)]
    return apart and ends[1][0] - ends[0][1] > max(most - least for least, most in ends)


def _all_move(values: np.ndarray, change: Change) -> bool:
    """True where the values of the two spans differ as their medians do. The median of two values jumps to and fro.

    Most pairs must be in that order, or the means differ by more than chance.
    """
    before, after = (some(values[each.first : each.end]) for each in (change.before, change.after))
    ordered = np.sort(before)
    below, above = (np.searchsorted(ordered, after, side) for side in ("left", "right"))
    if abs(float(np.mean(below + above - len(before)))) >= at.IN_ORDER * len(before):
        return True
    most = quantile(some(values), 0.99)
    before, after = np.minimum(before, most), np.minimum(after, most)
    chance = np.sqrt(before.var() / len(before) + after.var() / len(after))
    return bool(abs(after.mean() - before.mean()) > at.BY_CHANCE * chance)


def _one_of(up: Change, down: Change, grew: Change | None, fell: Change | None) -> tuple[Change | None, Change | None]:
    """What rises and comes back is a wave; of two that differ in size, the smaller one is the end of the other."""
    if down.size < at.COMES_BACK * up.size:
        return grew, None
    if up.size < at.COMES_BACK * down.size:
        return None, fell
    if grew:
        return replace(grew, form="wave"), None
    return None, fell and replace(fell, form="wave")


def _from_the_start(kept: np.ndarray, least: float) -> Change | None:
    """What is faster in the first 8 frames than later on, and soon no more: a queue that fills."""
    first, settled = float(median(kept[: at.EDGE_FRAMES])), float(median(some(kept[len(kept) // 2 :])))
    spread = _deviation(kept[len(kept) // 2 :]) * np.sqrt(np.pi / 2 / at.EDGE_FRAMES)
    if settled < at.FAST_START * first or settled - first <= max(least, at.NOISE * spread):
        return None
    after = Window(len(kept) // 2, len(kept))
    return Change(Window(0, at.EDGE_FRAMES), after, first, settled, "plateau")


class _Levels:
    """Levels of a series: medians of blocks, their best fit, and how far apart levels lie by noise alone."""

    def __init__(self, values: np.ndarray, period: int | None) -> None:
        self._n = n = len(values)
        scale = max(1, -(-n // _MOST_VALUES))
        coarse = in_blocks(some(values, _THINNED), n // scale)[1] if scale > 1 else values
        length = max(_BLOCK, -(-len(coarse) // _MOST_BLOCKS))
        if period and period > scale:
            cycle = period // scale
            length = cycle * -(-length // cycle)
        self._count = count = max(1, len(coarse) // length)
        centres, self.medians = in_blocks(coarse, count)
        self._reach = reach = max(1, round(count / _WINDOW / 2))
        self._levels = _running_median(self.medians, reach)
        fitted = _fit(self.medians)
        residuals = coarse - np.interp(np.arange(len(coarse)), centres, fitted)
        time = correlation_time(sign_autocorrelation(residuals))
        spread = max(_deviation(residuals), _deviation(self.medians - fitted) * np.sqrt(len(coarse) / count / time))
        few, frames = 1 + at.FEW * time / len(coarse), (2 * reach + 1) * len(coarse) / count
        self.noise = float(at.NOISE * np.sqrt(np.pi / 2 * few) * spread * np.sqrt(time / frames))

    def furthest(self, sign: int) -> Change:
        """The furthest that a level lies above an earlier one, or with `sign` -1 below one."""
        levels, n, count, reach = sign * self._levels, self._n, self._count, self._reach
        gains = levels - np.minimum.accumulate(levels)
        top = _middle(gains >= _NEARLY * gains.max())
        low = levels[: top + 1]
        bottom = _middle(low <= low.min() + (1 - _NEARLY) * gains[top])
        windows = [
            Window(int(max(0, i - reach) * n / count), int(min(count, i + reach + 1) * n / count))
            for i in (bottom, top)
        ]
        start, to = float(self._levels[bottom]), float(self._levels[top])
        form, since = _climb(self.medians[bottom : top + 1])
        if form == "step" and top > bottom:
            ends, begins = bottom + int(np.ceil(since)), bottom + int(since) + 1
            low = self.medians[max(0, bottom - reach) : min(ends, bottom + reach + 1)]
            high = self.medians[max(begins, top - reach) : top + reach + 1]
            if min(len(low), len(high)) > 1 and sign * (median(high) - median(low)) > sign * (to - start):
                start, to = float(median(low)), float(median(high))  # of each only what is on its own side
                windows[0] = Window(windows[0].first, min(windows[0].end, int(ends * n / count)))
                windows[1] = Window(max(windows[1].first, int(begins * n / count)), windows[1].end)
        since = int((bottom + since + 0.5) * n / count) if since or bottom > reach else 0
        return Change(windows[0], windows[1], start, to, form, since)


def _running_median(values: np.ndarray, reach: int) -> np.ndarray:
    """The median of each value and `reach` others on both sides; at the ends of those that there are."""
    medians = np.empty(len(values))
    inside = range(reach, len(values) - reach)
    if inside:
        windows = np.lib.stride_tricks.sliding_window_view(values, 2 * reach + 1)
        medians[reach : len(values) - reach] = median(windows)
    for i in set(range(len(values))).difference(inside):
        medians[i] = median(values[max(0, i - reach) : i + reach + 1])
    return medians


def some(values: np.ndarray, most: int = _SOME) -> np.ndarray:
    """All of a series, or of a long one about so many values: enough for medians. One is taken from each stretch of the
    same length, at no even distance, with which what repeats would fall into step.
    """
    return values if len(values) < 2 * most else values[_spread(len(values), most)]


@lru_cache(maxsize=8)
def _spread(count: int, most: int) -> np.ndarray:
    """So many places in a series of `count` values."""
    place = np.arange(most)
    return np.asarray(((place + place * _GOLDEN % 1) * (count / most)).astype(np.int64))


def _deviation(values: np.ndarray) -> float:
    """A standard deviation that outliers hardly move, and that values in few steps don't make 0."""
    values = some(values)
    off = np.abs(values - median(values))
    robust = 1.4826 * float(median(off))
    return robust if robust > 0 else 1.2533 * float(np.mean(np.minimum(off, quantile(off, 0.9))))


def _middle(chosen: np.ndarray) -> int:
    positions = np.flatnonzero(chosen)
    return int(positions[len(positions) // 2])


def _climb(y: np.ndarray, at_once: int = 2) -> tuple[Form, float]:
    """How values get from one level to another, and from which of them on: the line between two levels that fits best.

    Each of its ends that lies inside must make the fit better, by `_END`. A step takes `at_once` values at most: in the
    middle of a block it takes two. Values that stay exactly as they are do not climb yet.
    """
    if len(y) < 2:
        return "step", 0.0
    first, last, shapes = _climbs(len(y))
    gains = shapes @ y / (shapes**2).sum(axis=1)
    off = np.abs(y - y.mean() - gains[:, None] * shapes).sum(axis=1)
    took = last - first
    ends = np.where(took <= at_once, 1, np.add(first > 0, last < len(y) - 1, dtype=np.int64))
    best = int(np.argmin(off * np.exp(_END * ends / len(y))))
    if took[best] <= at_once:
        return "step", float(first[best] + last[best]) / 2
    behind = y[last[best] :]
    ends_flat = len(behind) > 1 and abs(_line(behind)[0] * took[best]) <= _FLAT * abs(gains[best])
    still = int(np.argmax(y != y[0])) - 1
    left, by_stair = _left(y)
    starts = left + 0.5 if by_stair else min(first[best], left)
    return "plateau" if ends_flat else "ramp", float(max(starts, still, 0))


def _left(y: np.ndarray) -> tuple[float, bool]:
    """Behind which value all lie clearly above the first level, or below it, infinite where none does; and True where
    they get there by a stair: from one level to another at once.
    """
    up = y if y[-1] > y[0] else -y
    rising = _rising(up)
    clearly = max(at.NOISE * _deviation(up - rising), _LEFT * (rising[-1] - rising[0]))
    above = np.flatnonzero(rising > rising[0] + clearly)
    if not len(above):
        return np.inf, False
    around = np.clip(above[0] + np.array([-2, 1, 4]), 0, len(y) - 1)
    level, jump, more = np.diff(rising[around], prepend=rising[0])
    return float(above[0]) - 1, bool(jump > _STAIR * (rising[-1] - rising[0]) and max(level, more) < _FLAT * jump)


@lru_cache(maxsize=16)
def _climbs(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From where to where lines among `count` values climb, and each of them from 0 to 1, less its mean."""
    first, last = np.triu_indices(count, 1)
    shapes = np.clip((np.arange(count) - first[:, None]) / (last - first)[:, None], 0, 1)
    return first, last, shapes - shapes.mean(axis=1, keepdims=True)


def _fit(y: np.ndarray) -> np.ndarray:
    """The values of the best of a line, two with a knee, a step and a bump, or of what only rises, or only falls.

    Each must be better by `_KNEE` for every number more that it has. What only rises has as many numbers as levels: it
    must leave much less for each value that is not one of them.
    """
    straight, bends = _bends(len(y))
    fits = [(straight @ y, 0)]
    if len(bends):
        fitted = bends @ y
        fits.append((fitted[int(np.argmin(np.abs(y - fitted).sum(axis=1)))], 2))
    inside = _bumps(len(y))
    if len(inside):
        inner = inside.sum(axis=1)
        level = inside @ y / inner, ~inside @ y / (len(y) - inner)
        fitted = np.where(inside, level[0][:, None], level[1][:, None])
        is_bump = ~inside[:, -1]
        i = int(np.argmin(np.abs(y - fitted).sum(axis=1) * _KNEE**is_bump))
        fits.append((fitted[i], 1 + int(is_bump[i])))
    simple = min(fits, key=lambda each: float(np.abs(y - each[0]).sum()) * _KNEE ** each[1])[0]
    for one_way in (_rising(y), -_rising(-y)):
        free = 1 - (1 + len(_steps(one_way))) / len(y)
        if np.abs(y - one_way).sum() < at.ANY_SHAPE * free * np.abs(y - simple).sum():
            return one_way
    return np.asarray(simple)


def _rising(y: np.ndarray) -> np.ndarray:
    """The values that never fall and are closest to `y` (isotonic regression): at each place the highest, over where
    a mean may start, of the lowest mean from there to the place or beyond.
    """
    sums, place = np.append(0.0, np.cumsum(y)), np.arange(len(y))
    means = (sums[1:] - sums[:-1, None]) / np.maximum(place - place[:, None] + 1, 1)
    lowest = np.minimum.accumulate(means[:, ::-1], axis=1)[:, ::-1]
    return np.maximum.accumulate(lowest).diagonal()


@lru_cache(maxsize=64)
def _bends(count: int) -> tuple[np.ndarray, np.ndarray]:
    """What `count` values are multiplied with for their least-squares line, and for those of two lines with a knee at
    each inner value.
    """
    x = np.arange(count, dtype=np.float64)
    line = np.column_stack([np.ones(count), x])
    knees = [np.column_stack([line, np.maximum(x - knee, 0)]) for knee in range(2, count - 2)]
    designs = np.array(knees or np.empty((0, count, 3)))
    return line @ np.linalg.pinv(line), designs @ np.linalg.pinv(designs)


@lru_cache(maxsize=64)
def _bumps(count: int) -> np.ndarray:
    """Which of `count` values are in each step and bump; a bump has room on each side."""
    short = max(2, count // _WINDOW)
    pairs = [(i, count) for i in range(1, count)]
    pairs += [(i, j) for i, j in combinations(range(short, count - short + 1), 2) if j - i >= short]
    first, end = np.array(pairs or np.empty((0, 2)), dtype=np.int64).T
    place = np.arange(count)
    return np.asarray((place >= first[:, None]) & (place < end[:, None]))


def find_stalls(values: np.ndarray, period: int | None = None, *, lasting: bool = True) -> Stalls | None:
    """The frames far above the level around them, the median of some 31 frames; None without any.

    Where the level steps, the higher one counts: the frames behind a step are no stalls. Of what repeats, each frame is
    compared with those at the same place of their period. With `lasting` many in a row, which lift the level around
    them, are stalls as well, where they last for less than a level does.
    """
    if len(values) < at.EDGE_FRAMES * (period or 1):
        return None
    places, above = _far_above(values, period or 1)
    if lasting and period is None and len(values) >= at.FEWEST_STEADY:
        lifted, by = _in_a_row(values)
        places, above = np.append(places, lifted), np.append(above, by)
    if not len(places):
        return None
    order = np.argsort(places, kind="stable")
    order = order[np.diff(places[order], append=len(values)) > 0]  # of two findings of a frame the second
    places, above = places[order], above[order]
    stalled, total = values[places], float(values.sum())
    share = float(above.sum()) / total if total > 0 else 0.0
    rows = np.flatnonzero(np.diff(places, prepend=-2, append=len(values) + 1) > 1)
    in_a_row, usual, most = int(np.diff(rows).max()), float(median(stalled)), float(stalled.max())
    second_half = int((places >= len(values) / 2).sum())
    return Stalls(len(places), usual, most, share, int(places[0]), in_a_row, second_half, _spacing(places))


class _Around:
    """The level around each value of a series, of the medians of its blocks."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        thin, few = some(values, _THINNED), max(1, min(4, len(values) // at.EDGE_FRAMES))
        centres, self.medians = in_blocks(thin, max(few, len(thin) // _AROUND))
        self.centres, self.higher = centres * len(values) / len(thin), _highest(self.medians, 1)

    def above(self, places: np.ndarray) -> np.ndarray:
        """How far the values at these places lie above their level."""
        return np.asarray(self.values[places] - np.interp(places, self.centres, self.medians))

    def far_above(self, limit: float) -> tuple[np.ndarray, np.ndarray]:
        """The places of the values that lie further than `limit` above their level, and how far they do.

        Of many blocks at once only those values are looked at that lie so far above the lowest level there.
        """
        edges, chosen = block_edges(len(self.values), len(self.medians)), [np.empty(0, np.int64)]
        for first in range(0, len(self.medians), _AT_ONCE):
            near = slice(max(0, first - 2), first + _AT_ONCE + 2)
            start, end = edges[first], edges[min(first + _AT_ONCE, len(self.medians))]
            least = max(limit, (at.STALL_TIMES - 1) * float(np.abs(self.higher[near]).min()))
            low, rounding = self.medians[near].min(), 1e-9 * np.abs(self.medians[near]).max()
            chosen.append(start + np.flatnonzero(self.values[start:end] > low + least - rounding))
        places = np.concatenate(chosen)
        above, higher = self.above(places), self.higher[np.searchsorted(edges, places, "right") - 1]
        found = _stands_out(self.values[places], above, higher, limit)
        return places[found], above[found]


def _far_above(values: np.ndarray, period: int) -> tuple[np.ndarray, np.ndarray]:
    """The places of the values that stall, for the noise of the level around them, and how far they lie above it."""
    around = [_Around(values[place::period]) for place in range(period)]
    n = len(values)
    sample = np.arange(n) if n < 2 * _SOME else _spread(n, _SOME)
    above, of = np.empty(len(sample)), (sample % period).astype(np.uint16)
    order = np.argsort(of, kind="stable")
    for place, mine in enumerate(np.split(order, np.searchsorted(of[order], np.arange(1, period)))):
        above[mine] = around[place].above(sample[mine] // period)
    limit = at.STALL_DEVIATIONS * _deviation(above)
    found = [each.far_above(limit) for each in around]
    places = [place + period * each for place, (each, _) in enumerate(found)]
    return np.concatenate(places), np.concatenate([each for _, each in found])


def _stands_out(values: np.ndarray, above: np.ndarray, higher: np.ndarray, limit: float) -> np.ndarray:
    """Which values lie further above their level than the limit, and above the higher level around by a share of it."""
    clear = np.minimum(above, values - higher) > (at.STALL_TIMES - 1) * np.abs(higher)
    return np.asarray((above > limit) & clear)


def _in_a_row(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The frames in blocks of 8 or more that lie far above a level of a sixth of the run, and by how much they do."""
    thin = some(values, _THINNED)
    coarse = in_blocks(thin, min(_MOST_BLOCKS, len(values) // _BLOCK))[1]
    reach = max(1, round(len(coarse) / _WINDOW / 2))
    usual = _running_median(coarse, reach)
    medians = in_blocks(thin, len(thin) // at.EDGE_FRAMES)[1]
    level, higher = (_in_frames(each, len(medians)) for each in (usual, _highest(usual, reach)))
    found = _stands_out(medians, medians - level, higher, at.STALL_DEVIATIONS * _deviation(medians - level))
    edges = block_edges(len(values), len(found))
    spans = np.stack([edges[:-1], edges[1:]], axis=1)[found]
    places = np.concatenate([np.empty(0, np.int64), *(np.arange(*span) for span in spans)])
    level = usual[np.minimum(places * len(usual) // len(values), len(usual) - 1)]
    far = values[places] > at.STALL_TIMES * level
    return places[far], (values[places] - level)[far]


def _highest(levels: np.ndarray, reach: int) -> np.ndarray:
    """The highest of each level and of those up to `reach` places away."""
    padded = np.pad(levels, reach, mode="edge")
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).max(axis=1))


def _in_frames(blocks: np.ndarray, frames: int) -> np.ndarray:
    """A value for each frame, of one for each block."""
    return np.repeat(blocks, np.diff(block_edges(frames, len(blocks))))


def _spacing(places: np.ndarray) -> int | None:
    """After how many frames stalls come again, where four fifths of them do so, five times or more."""
    apart = np.diff(places)
    if len(apart) < at.PERIOD_CYCLES:
        return None
    usual = float(median(apart))
    return round(usual) if usual > 1 and np.mean(np.abs(apart - usual) <= at.OF_STAGE * usual) > _HARMONIC else None


def find_period(values: np.ndarray) -> int | None:
    """After how many frames a series repeats, five times or more and in every quarter of it; None where it does not.

    Levels of ever shorter blocks are taken off, since a long period needs long ones, and a drift short ones.
    """
    head = values[: 16 * _MOST_LAGS]
    n = len(head)
    if n < 4 * at.PERIOD_CYCLES or np.ptp(head) == 0:
        return None
    rounded_to, usual = float(median(_steps(head))), float(median(np.abs(head)))
    most, frames = max(1, n // (2 * _AROUND)), np.arange(n)
    for count in sorted({1, most, *(4**k for k in range(1, 6) if 4**k < most)}):
        centres, medians = in_blocks(head, count)
        inside = slice(int(centres[0]), int(centres[-1]) + 1) if count > 1 else slice(n)
        level = np.interp(frames, centres, medians) if count > 1 else np.polyval(_line(head), frames)
        around = (head - level)[inside]
        only_rounded = np.ptp(around) <= 2 * rounded_to < 2 * np.ptp(level)
        if np.std(around) < at.PERIOD_SIZE * usual or only_rounded:
            continue
        if (period := _repeats(around)) is not None:
            return period
    return None


def _line(values: np.ndarray) -> np.ndarray:
    return np.polyfit(np.arange(len(values)), values, 1)


def _repeats(around: np.ndarray) -> int | None:
    """The first peak of the autocorrelation, with outliers clipped, so that two of them make no period."""
    n, most = len(around), at.PERIOD_CLIP * _deviation(around)
    clipped = np.clip(around - median(around), -most, most)
    clipped -= clipped.mean()
    if not clipped.any():
        return None
    lags = min(n // at.PERIOD_CYCLES, _MOST_LAGS) + 2
    raw = autocovariance(clipped, lags)
    likeness = raw / raw[0] * n / (n - np.arange(lags))
    peak = _first_peak(likeness, max(at.PERIOD_LIKE, 4 / np.sqrt(n)), at.PERIOD_LIKE / 2)
    if peak < 2:
        return None
    parts = [peak // part for part in range(8, 1, -1) if peak % part == 0 and peak > part]
    period = next((each for each in parts if likeness[each] > _HARMONIC * likeness[peak]), peak)
    return period if all(_repeats_in(quarter, period) for quarter in np.array_split(clipped, 4)) else None


def _repeats_in(part: np.ndarray, period: int) -> bool:
    """True where a part of a series is much more like itself one period on than half of one."""
    whole, half = (
        float(part[:-lag] @ part[lag:] / np.sqrt((part[:-lag] @ part[:-lag]) * (part[lag:] @ part[lag:])))
        for lag in (period, period // 2)
    )
    return whole - half > at.PERIOD_LIKE / 2


def _first_peak(values: np.ndarray, height: float, prominence: float) -> int:
    """The first peak that is so high, and as far above the lowest value before it as above that behind; else 0."""
    rises = np.diff(values) > 0
    for peak in np.flatnonzero(rises[:-1] & ~rises[1:] & (values[1:-1] >= height)) + 1:
        higher = np.flatnonzero(values > values[peak])
        first, end = higher[higher < peak].max(initial=0), higher[higher > peak].min(initial=len(values))
        if values[peak] - max(values[first : peak + 1].min(), values[peak:end].min()) >= prominence:
            return int(peak)
    return 0
