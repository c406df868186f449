"""What a series does: its shape, since when, its stalls, its period, and what it must not be said to do."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import sampled
from series import ramp, step

from yolotrt_lab.diagnose.series import (
    _Around,
    _deviation,
    _in_frames,
    _stands_out,
    find_period,
    find_stalls,
    shape_of,
    some,
)

N = 1_000


def noisy(values, share=0.02, seed=1):
    return values * (1 + share * np.random.default_rng(seed).standard_normal(len(values)))


def test_values_of_a_coarse_timer_deviate_although_most_are_the_same():
    assert _deviation(np.where(np.arange(100) % 3, 15.6, 31.2)) == pytest.approx(1.2533 * 34 * 15.6 / 100)
    assert _deviation(np.full(9, 7.0)) == 0


@pytest.mark.parametrize(
    ("values", "form", "since", "start", "to"),
    [
        (ramp(N, 10, 14), "ramp", 0, 10.3, 13.7),
        (step(N, 10, 14, 0.4), "step", 400, 10, 14),
        (np.minimum(ramp(N, 10, 30), 16), "plateau", 0, 10.8, 16),
        (np.maximum(ramp(N, 4, 20), 12), "ramp", 500, 12, 19),
        (np.where(abs(np.arange(N) - 500) < 150, 14.0, 10.0), "wave", None, 10, 14),
    ],
)
def test_growth_has_a_form_two_levels_and_a_start(values, form, since, start, to):
    grew = shape_of(noisy(values)).grew
    assert grew.form == form
    assert since is None or grew.since == pytest.approx(since, abs=40)
    assert (grew.start, grew.to) == pytest.approx((start, to), rel=0.05)


@pytest.mark.parametrize("noise", [0.005, 0.02])
@pytest.mark.parametrize(
    "rises",
    [
        lambda x: np.clip((x - 0.4) / 0.2, 0, 1),
        lambda x: 1 / (1 + np.exp(12 * (0.5 - x))),
        lambda x: np.floor(3 * x) / 2,
        lambda x: (np.clip(x / 0.3, 0, 1) + np.clip((x - 0.7) / 0.3, 0, 1)) / 2,
        lambda x: 0.5 * (x > 0.4) + 0.5 * x,
    ],
)
def test_what_rises_and_stays_grew_whatever_its_shape(rises, noise):
    grew = shape_of(noisy(8 * (1 + 0.28 * rises(np.arange(5_000) / 5_000)), noise)).grew
    assert (grew.start, grew.to) == (pytest.approx(8, rel=0.05), pytest.approx(10.24, rel=0.05))


def test_a_ramp_from_the_first_frame_on_is_hardly_ever_told_to_start_later():
    rng = np.random.default_rng(3)
    lengths = rng.integers(100, 3_000, 60)
    ramps = (8 * np.linspace(1, 1.6, n) * (1 + 0.03 * rng.standard_normal(n)) for n in lengths)
    assert sum(shape_of(each).grew.since > 0 for each in ramps) <= 2


def test_a_fall_is_a_fall_and_says_when_it_starts():
    shape = shape_of(noisy(step(N, 18.0, 6.0, 0.7)))
    assert shape.grew is None
    assert (shape.fell.form, shape.fell.start, shape.fell.to) == (
        "step",
        pytest.approx(18, rel=0.02),
        pytest.approx(6, rel=0.02),
    )
    assert shape.fell.since == pytest.approx(700, abs=20)


def test_what_fills_within_the_first_frames_grew():
    grew = shape_of(noisy(np.minimum(0.3 + 0.03 * np.arange(N), 1.2))).grew
    assert (grew.form, grew.to) == ("plateau", pytest.approx(1.2, rel=0.02))
    assert grew.start < 0.5


NOISES = {
    "white": lambda rng, n: rng.standard_normal(n),
    "heavy": lambda rng, n: rng.standard_t(1.5, n),
    "correlated": lambda rng, n: np.array(list(accumulate(rng.standard_normal(n), lambda last, now: now + last / 2))),
    "in steps": lambda rng, n: np.round(rng.standard_normal(n)),
}


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("n", sampled([40, 1_000], [40]))
def test_noise_alone_does_not_grow(noise, n):
    rng = np.random.default_rng(7)
    shapes = [shape_of(10 + 0.3 * NOISES[noise](rng, n)) for _ in range(30)]
    assert sum(shape.grew is not None or shape.fell is not None for shape in shapes) <= 1


def test_what_a_run_could_show_is_what_it_shows():
    quiet = shape_of(noisy(np.full(N, 10.0), 0.1)).shows_ms
    assert 0.1 < quiet < 1
    assert shape_of(noisy(ramp(N, 10, 10 + 3 * quiet), 0.1)).grew is not None
    assert shape_of(noisy(ramp(N, 10, 10 + quiet / 3), 0.1)).grew is None
    assert shape_of(noisy(np.full(40, 10.0), 0.1)).shows_ms > 2 * quiet


def test_stalls_are_counted_and_their_time_is_shared_out():
    values = noisy(np.full(N, 10.0))
    values[50::100] = 60.0
    stalls = find_stalls(values)
    assert (stalls.frames, stalls.median, stalls.longest) == (10, 60, 60)
    assert stalls.share == pytest.approx(10 * 50 / (990 * 10 + 10 * 60), rel=0.02)
    assert find_stalls(noisy(np.full(N, 10.0))) is None


@pytest.mark.parametrize("frames", [60, 600])
@pytest.mark.parametrize(("low", "high"), [(5.0, 9.0), (9.0, 5.0)])
def test_the_frames_behind_a_step_are_no_stalls(frames, low, high):
    assert find_stalls(noisy(step(frames, low, high))) is None


@pytest.mark.parametrize("period", [None, 7])
def test_each_stall_of_a_long_series_is_found(period):
    values = noisy(ramp(600_000, 5, 9) * np.where(np.arange(600_000) % 7, 1, 2 if period else 1))
    values[[3, 123_456, 599_999]] = 60
    found = find_stalls(values, period)
    assert (found.frames, found.first, found.second_half, found.median) == (3, 3, 1, 60)


@pytest.mark.parametrize("level", [-9.0, 0.0, 100.0])
def test_values_are_left_out_only_where_none_stalls(level):
    rng, n = np.random.default_rng(1), 30_000
    values = level + np.cumsum(rng.standard_normal(n)) + 5 * NOISES["heavy"](rng, n)
    around = _Around(values)
    above, higher = around.above(np.arange(n)), _in_frames(around.higher, n)
    for limit in (0.0, 10.0, 100.0):
        places, by = around.far_above(limit)
        assert len(places) and np.array_equal(places, np.flatnonzero(_stands_out(values, above, higher, limit)))
        assert np.array_equal(by, above[places])


def test_stalls_that_come_evenly_say_after_how_many_frames():
    rng = np.random.default_rng(3)
    assert find_stalls(noisy(np.where(np.arange(N) % 90 == 7, 40.0, 10.0))).every == 90
    assert find_stalls(noisy(np.where(rng.random(N) < 0.02, 40.0, 10.0))).every is None


@pytest.mark.parametrize("period", [2, 3, 8, 60, 75, 97, 150])
@pytest.mark.parametrize(
    "wave", [lambda x: np.sin(2 * np.pi * x + 1), lambda x: x % 1, lambda x: (x + 1e-6) % 1 < 1 / 3]
)
def test_what_repeats_has_a_period_and_no_stalls(period, wave):
    values = noisy(10 + 4 * wave(np.arange(N) / period) + ramp(N, 0, 5))
    assert find_period(values) == pytest.approx(period, abs=1)
    assert shape_of(values, period=find_period(values)).stalls is None


def test_what_repeats_in_a_part_of_the_run_alone_has_no_period():
    assert find_period(noisy(10 + (np.arange(N) > N / 2) * (np.arange(N) % 2))) is None
    assert find_period(np.where(np.random.default_rng(3).random(N) < 0.2, 40.0, 10.0)) is None


@pytest.mark.parametrize("last", [600, 3_000])
def test_rounded_numbers_are_no_period(last):
    assert find_period(np.arange(10, last) / 10) is None  # whose rounding to 64 bits repeats
    assert find_period(np.round(np.linspace(10, 20, last), 2)) is None
    assert find_period(np.round(np.linspace(0.1, 0.5, last), 2)) is None


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=80))
def test_any_series_has_a_shape(values):
    series = np.array(values)
    shape = shape_of(series)
    assert np.isfinite([shape.early, shape.late, shape.settled]).all()
    for change in filter(None, (shape.grew, shape.fell)):
        assert 0 <= change.since < len(series)
        assert change.size > 0


def test_millions_of_rows_are_read_in_blocks_and_lose_no_step():
    rng = np.random.default_rng(1)
    shape = shape_of(np.append(10 + rng.standard_normal(500_000), 11 + rng.standard_normal(500_000)))
    assert (shape.grew.form, shape.grew.since) == ("step", pytest.approx(500_000, rel=0.03))
    assert shape.shows_ms < 0.1


@pytest.mark.parametrize("noise", [0, 0.4])
@pytest.mark.parametrize(
    ("frames", "since", "climbs", "form"),
    [(900, 200, 400, "plateau"), (300, 50, 150, "plateau"), (3_000, 600, 300, "plateau"), (900, 0, 400, "plateau"),
     (900, 100, 800, "ramp"), (900, 300, 1, "step")],
)  # fmt: skip
def test_a_change_is_since_the_frame_that_leaves_the_first_level(frames, since, climbs, form, noise):
    frame, rng = np.arange(frames), np.random.default_rng(1)
    values = 0.004 + 24 * np.clip((frame - since) / climbs, 0, 1) + np.abs(noise * rng.normal(size=frames))
    found = shape_of(values).grew
    assert (found.form, found.since) == (form, pytest.approx(since, abs=frames / 60))


@pytest.mark.parametrize("stairs", [3, 4, 6])
def test_stairs_start_with_the_first_of_them(stairs):
    frame = np.arange(1_000)
    values = 8 + 6 * np.clip(1 + (frame - 200) // (800 / stairs), 0, stairs) / stairs
    noisy = values * (1 + 0.01 * np.random.default_rng(1).standard_normal(1_000))
    assert shape_of(noisy).grew.since == pytest.approx(200, abs=20)


@pytest.mark.parametrize(("period", "frames"), [(2, N), (4, N), (8, N), (8, 400)])
def test_what_grows_in_one_frame_of_a_period_grows(period, frames):
    slow = np.arange(frames) % period == period - 1
    values = noisy(np.where(slow, ramp(frames, 10, 16), 1.0))
    assert find_period(values) == period
    grew = shape_of(values, period=period).grew
    assert (grew.start, grew.to, grew.form) == (pytest.approx(10.5, abs=0.7), pytest.approx(15.5, abs=0.7), "ramp")
    assert grew.before.step == period and slow[grew.before.first] and slow[grew.after.first]
    assert shape_of(noisy(np.where(slow, 10.0, 1.0)), period=period).grew is None


@pytest.mark.parametrize("last", [14, 20, 60, 150])
def test_the_last_frames_are_as_long_as_they_are(last):
    values = noisy(step(400, 8, 16, 1 - last / 400))
    shape = shape_of(values)
    if shape.grew:
        assert (shape.grew.start, shape.grew.to) == (pytest.approx(8, rel=0.02), pytest.approx(16, rel=0.02))
        assert shape.grew.since == pytest.approx(400 - last, abs=8)
    else:  # too few for a level
        assert shape.stalls.in_a_row == pytest.approx(last, abs=3)
        assert shape.stalls.first == pytest.approx(400 - last, abs=3)


@pytest.mark.parametrize(("first", "end"), [(300, 330), (500, 560), (970, 1_000)])
def test_many_slow_frames_in_a_row_are_stalls(first, end):
    frames = np.arange(N)
    shape = shape_of(noisy(np.where((frames >= first) & (frames < end), 16.0, 8.0)))
    assert shape.grew is None and shape.stalls.frames == pytest.approx(end - first, abs=8)
    assert shape.stalls.in_a_row == pytest.approx(end - first, abs=8)
    assert shape_of(noisy(8.0 + 3 * np.sin(frames / 40))).stalls is None


def test_whole_milliseconds_can_not_show_less_than_one():
    assert shape_of(np.full(N, 8.0)).shows_ms == 1.0
    assert shape_of(np.round(noisy(np.full(N, 8.3)))).shows_ms >= 1.0
    assert shape_of(noisy(np.full(N, 8.3))).shows_ms < 0.2


@pytest.mark.parametrize("every", [3, 5, 10])
def test_what_repeats_in_a_long_series_is_not_sampled_in_step(every):
    values = np.where(np.arange(2_000_000) % every == 0, 9.0, 1.0)
    assert some(values).mean() == pytest.approx(values.mean(), rel=0.02)
    assert shape_of(values, period=every).median == pytest.approx(np.median(values))
