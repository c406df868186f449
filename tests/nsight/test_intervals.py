"""Covered time, against counting every instant."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolotrt_lab.nsight.intervals import Cover, GroupedCover, coded, find, look_up, sort_by_start, sums

INTERVALS = st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 40), st.integers(0, 15)), max_size=20)
WINDOWS = st.lists(st.tuples(st.integers(-1, 3), st.integers(-5, 45), st.integers(0, 30)), max_size=10)


def columns(rows):
    """Groups, starts and ends, sorted by start."""
    rows = sorted(rows, key=lambda row: row[1])
    group, start, length = np.array(rows, np.int64).reshape(-1, 3).T
    return group, start, start + length


def counted(intervals, group, start, end):
    """The instants of a window that lie in an interval of the group; any group, if None."""
    inside = {
        instant
        for member, begin, length in intervals
        if group in (None, member) and member >= (0 if group is not None else -1)
        for instant in range(begin, begin + length)
    }
    return len(inside & set(range(start, end)))


@given(INTERVALS, WINDOWS)
def test_the_covered_part_of_windows(intervals, windows):
    _, start, end = columns(intervals)
    _, begin, finish = columns(windows)
    measured = Cover(start, end).measure(begin, finish)
    assert measured.tolist() == [counted(intervals, None, a, b) for a, b in zip(begin, finish, strict=True)]


@given(INTERVALS, WINDOWS)
def test_the_covered_part_by_group(intervals, windows):
    cover = GroupedCover(*columns(intervals), groups=4)
    group, begin, finish = columns(windows)
    expected = [counted(intervals, g, a, b) for g, a, b in zip(group, begin, finish, strict=True)]
    assert cover.measure(group, begin, finish).tolist() == expected
    assert cover.totals().tolist() == [counted(intervals, g, 0, 100) for g in range(4)]


def test_groups_far_apart_do_not_overflow():
    start = np.array([0, 4 * 10**18])
    cover = GroupedCover(np.array([0, 1]), start, start + 10, groups=1_000)
    assert cover.totals()[:3].tolist() == [10, 10, 0]


def test_times_are_found_in_disjoint_intervals():
    found = find(np.array([0, 10, 20]), np.array([5, 20, 30]), np.array([-1, 0, 4, 5, 10, 19, 20, 30]))
    assert found.tolist() == [-1, 0, 0, -1, 1, 1, 2, -1]
    assert find(np.empty(0, np.int64), np.empty(0, np.int64), np.array([3])).tolist() == [-1]


@pytest.mark.parametrize("groups", [2, 4])
def test_sums_leave_out_negative_groups(groups):
    assert sums(np.array([0, -1, 1, 0]), np.array([1, 2, 4, 8]), groups).tolist() == [9, 4, 0, 0][:groups]


def test_a_sum_is_at_most_the_largest_that_an_integer_holds():
    largest = np.iinfo(np.int64).max
    assert sums(np.array([0, 0, 1]), np.array([largest, largest, 7]), 2).tolist() == [largest - 1023, 7]


@given(st.lists(st.integers(0, 30), max_size=40))
def test_rows_are_sorted_found_and_coded(starts):
    start, one_value = np.array(starts, np.int64), np.broadcast_to(np.int64(7), len(starts))
    table = {"start_ns": start.copy(), "row": np.arange(len(start)), "pid": one_value}
    sort_by_start(table)
    assert table["row"].tolist() == np.argsort(start, kind="stable").tolist()
    assert table["start_ns"].tolist() == sorted(starts)
    keys = range(-1, 32)
    expected = [starts.index(key) if key in starts else -1 for key in keys]
    assert look_up(start)(np.array(keys)).tolist() == expected
    assert look_up(start << 40)(np.array(keys) << 40).tolist() == expected
    for numbers in (start, start << 40):
        different, place_of = coded(numbers)
        assert different[place_of].tolist() == numbers.tolist()
        assert different.tolist() == sorted({*numbers.tolist()}) or not starts
