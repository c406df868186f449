"""How long at least one of many intervals was open: sorted once, then asked for any window, never pair by pair."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

import numpy as np

Piece = TypeVar("Piece")
Done = TypeVar("Done")
_AT_A_TIME = 1 << 15  # rows: what is computed of them stays in the processor's cache


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
        self.before = np.append(0, np.cumsum(self.ends - self.starts))
        """What lies in front of each, and in the end the length of all."""

    def measure(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """How much of each window, which ends no earlier than it starts, is covered; int64 of the windows' shape."""
        covered = np.zeros(len(start), np.int64)
        for some in blocks(len(start) if len(self.starts) else 0):
            first = np.searchsorted(self.starts, start[some], side="right") - 1
            last = first.copy()  # most windows end before the next interval starts
            more = np.flatnonzero(end[some] >= np.take(self.starts, first + 1, mode="clip"))
            last[more] = np.searchsorted(self.starts, end[some][more], side="right") - 1
            covered[some] = self._until(end[some], last) - self._until(start[some], first)
        return covered

    def _until(self, time: np.ndarray, place: np.ndarray) -> np.ndarray:
        place = np.maximum(place, 0)
        start = np.take(self.starts, place)
        covered: np.ndarray = np.take(self.before, place) + np.clip(time - start, 0, np.take(self.ends, place) - start)
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
        first = np.searchsorted(self._cover.starts, self._low + self._offset)
        totals: np.ndarray = np.diff(self._cover.before[np.append(first, len(self._cover.starts))])
        return totals


def blocks(rows: int) -> Iterator[slice]:
    """Rows from 0 on, some at a time: a new long array takes longer to get from the system than to fill."""
    return (slice(begin, min(begin + _AT_A_TIME, rows)) for begin in range(0, rows, _AT_A_TIME))


def in_threads(work: Callable[[Piece], Done], pieces: Iterable[Piece]) -> Iterator[Done]:
    """What `work` returns for each piece, in order, several at a time: NumPy lets other threads compute meanwhile."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as pool:
        yield from pool.map(work, pieces)


def each(keys: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each different key, in rising order, with the rows that have it."""
    for key in distinct(keys).tolist():
        yield key, np.flatnonzero(keys == key)


def taken(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """`values[places]`, and -1 where the place is negative."""
    if not len(values):
        return np.full(len(places), -1)
    found: np.ndarray = np.take(values, places, mode="clip")
    found[places < 0] = -1
    return found


def look_up(keys: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function that finds for each wanted key its first place in `keys`, which are in any order; -1 for none."""
    low, high = (int(keys.min()), int(keys.max())) if len(keys) else (0, -1)
    if high - low <= 4 * len(keys):  # as correlation numbers of one process are
        places = np.full(high - low + 3, -1, np.int32)  # the last two are of no key
        places[keys[::-1] - low] = np.arange(len(keys) - 1, -1, -1)
        return lambda wanted: places[np.clip(wanted - low, -1, high - low + 1)].astype(np.int64)
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]

    def find(wanted: np.ndarray) -> np.ndarray:
        place = order[np.minimum(np.searchsorted(ordered, wanted), len(keys) - 1)]
        return np.where(keys[place] == wanted, place, -1)

    return find


def coded(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different numbers, in rising order, and for each number its place among them; quick for small numbers."""
    low, high = (int(numbers.min()), int(numbers.max())) if len(numbers) else (0, 0)
    if high - low > len(numbers) + 65_536:
        return np.unique(numbers, return_inverse=True)
    there = np.zeros(high - low + 1, bool)
    there[numbers - low] = True
    return np.flatnonzero(there) + low, (np.cumsum(there, dtype=np.int32) - 1)[numbers - low]


def in_turn(start: np.ndarray, end: np.ndarray) -> bool:
    """True where each interval begins after the one before it, and when that has ended."""
    return bool((start[1:] >= end[:-1]).all() and (start[1:] > start[:-1]).all())


def sort_by_start(table: Mapping[str, np.ndarray]) -> None:
    """Sort the rows of a table by `start_ns`, in place and stably."""
    start = table["start_ns"]
    if (start[1:] < start[:-1]).any():
        order = np.argsort(start, kind="stable")
        for values in table.values():
            if values.flags.writeable:  # or all are one
                values[:] = np.take(values, order)


def distinct(values: np.ndarray) -> np.ndarray:
    """The different values, in rising order; quick where there is but one, as of processes and GPUs."""
    return values[:1] if (values == values[:1]).all() else np.unique(values)


def find(starts: np.ndarray, ends: np.ndarray, times: np.ndarray) -> np.ndarray:
    """For each of some times in rising order the interval, of disjoint ones in rising order, that it lies in; or -1."""
    edges = np.searchsorted(times, np.stack([starts, ends], axis=1).ravel())
    place = np.full(2 * len(starts) + 1, -1)
    place[1::2] = np.arange(len(starts))
    return np.repeat(place, np.diff(edges, prepend=0, append=len(times)))


def sums(group: np.ndarray, values: np.ndarray, groups: int) -> np.ndarray:
    """The sum of each group's values, int64 of shape (groups,), at most its largest; negative groups are left out."""
    kept = group >= 0
    if not kept.all():
        group, values = group[kept], values[kept]
    summed = np.bincount(group, weights=values, minlength=groups)
    return np.minimum(summed, np.nextafter(2.0**63, 0)).astype(np.int64)  # damaged sizes add up to more
