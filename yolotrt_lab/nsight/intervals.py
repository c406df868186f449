"""How long at least one of many intervals was open: sorted once, then asked for any window, never pair by pair."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


class Cover:
    """The union of half-open intervals.

    `start` and `end` are int64 of shape (intervals,), `start` in rising order. `starts` and `ends` are those of the
    union: disjoint, in rising order.
    """

    def __init__(self, start: np.ndarray, end: np.ndarray) -> None:
        reach = np.maximum.accumulate(end) if len(end) else end
        opens = np.ones(len(start), bool)
        opens[1:] = start[1:] > reach[:-1]
        first = np.flatnonzero(opens)
        self.starts = start[first]
        self.ends = reach[np.append(first[1:], len(start)) - 1] if len(start) else end
        lengths = self.ends - self.starts
        self._before = np.cumsum(lengths) - lengths

    def measure(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """How much of each window is covered, int64 of the windows' shape."""
        covered: np.ndarray = self._until(end) - self._until(start)
        return covered

    def _until(self, time: np.ndarray) -> np.ndarray:
        if not len(self.starts):
            return np.zeros(len(time), np.int64)
        place = np.maximum(np.searchsorted(self.starts, time, side="right") - 1, 0)
        start = self.starts[place]
        covered: np.ndarray = self._before[place] + np.clip(time - start, 0, self.ends[place] - start)
        return covered


class GroupedCover:
    """A `Cover` for each group of intervals.

    `group` holds the group of each interval, from 0 to `groups` - 1, or a negative number for none. `start` is in
    rising order; the groups are in any.
    """

    def __init__(self, group: np.ndarray, start: np.ndarray, end: np.ndarray, groups: int) -> None:
        rows = np.flatnonzero(group >= 0)
        if len(rows) < len(group):
            group, start, end = group[rows], start[rows], end[rows]
        if (group[1:] < group[:-1]).any():
            order = np.argsort(group, kind="stable")
            group, start, end = group[order], start[order], end[order]
        bounds = np.append(0, np.cumsum(np.bincount(group, minlength=groups)))
        filled = np.flatnonzero(bounds[1:] > bounds[:-1])
        self._low, self._high = np.zeros(groups, np.int64), np.zeros(groups, np.int64)
        self._low[filled] = start[bounds[filled]]
        self._high[filled] = np.maximum.reduceat(end, bounds[filled]) if len(filled) else 0
        # The groups laid one behind the other on one axis, 1 apart.
        lengths = self._high - self._low + 1
        self._offset = np.cumsum(lengths) - lengths - self._low
        self._cover = Cover(start + self._offset[group], end + self._offset[group])

    def measure(self, group: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """How much of each window its group covers; 0 for a negative group."""
        inside = np.maximum(group, 0)
        if not len(self._low):
            return np.zeros(len(group), np.int64)
        low, high, offset = self._low[inside], self._high[inside], self._offset[inside]
        covered = self._cover.measure(np.clip(start, low, high) + offset, np.clip(end, low, high) + offset)
        return np.where(group < 0, 0, covered)

    def under(self, cover: Cover) -> np.ndarray:
        """How much of what each group covers `cover` covers too, int64 of shape (groups,)."""
        starts, ends = self._cover.starts, self._cover.ends
        group = np.searchsorted(self._low + self._offset, starts, side="right") - 1
        shift = self._offset[group]
        return sums(group, cover.measure(starts - shift, ends - shift), len(self._low))

    def totals(self) -> np.ndarray:
        """How much each group covers, int64 of shape (groups,)."""
        return self.measure(np.arange(len(self._low)), self._low, self._high)


def each(keys: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each different key, in rising order, with the rows that have it."""
    for key in distinct(keys).tolist():
        yield key, np.flatnonzero(keys == key)


def taken(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """`values[places]`, and -1 where the place is negative."""
    return np.take(np.append(values, -1), places)


def look_up(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """For each wanted key its place in `keys`, which are in any order; -1 for none."""
    if not len(keys):
        return np.full(len(wanted), -1)
    order = np.argsort(keys, kind="stable")
    place = order[np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)]
    return np.where(keys[place] == wanted, place, -1)


def distinct(values: np.ndarray) -> np.ndarray:
    """The different values, in rising order; quick where there is but one, as of processes and GPUs."""
    return values[:1] if (values == values[:1]).all() else np.unique(values)


def find(starts: np.ndarray, ends: np.ndarray, time: np.ndarray) -> np.ndarray:
    """For each time the interval, of disjoint ones in rising order, that it lies in; -1 for none."""
    if not len(starts):
        return np.full(len(time), -1)
    place = np.searchsorted(starts, time, side="right") - 1
    return np.where((place >= 0) & (time < ends[place]), place, -1)


def sums(group: np.ndarray, values: np.ndarray, groups: int) -> np.ndarray:
    """The sum of each group's values, int64 of shape (groups,); negative groups are left out."""
    kept = group >= 0
    if not kept.all():
        group, values = group[kept], values[kept]
    return np.bincount(group, weights=values, minlength=groups).astype(np.int64)
