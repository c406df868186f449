"""The shape of a series: what is found, where, and how rarely in vain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from yolotrt_lab.diagnose.growth.shape import Growth, Shape, measure_growth
from yolotrt_lab.diagnose.growth.slope import slope
from yolotrt_lab.errors import SettingsError

FRAMES = np.arange(1_000)
STAIRS = [0.06, 1.9, 4.6, 10.8, 14.8, 18.4, 23.1, 0.06]


def measured(level: np.ndarray, seed: int = 0, noise: float = 0.05) -> Growth:
    """The growth of a level under Gaussian noise of that part of it."""
    rng = np.random.default_rng(seed)
    return measure_growth(level * (1 + noise * rng.standard_normal(len(level))))


def growing(series) -> int:
    return sum(measure_growth(each).shape.grows for each in series)


@pytest.mark.parametrize(
    "noise",
    [
        lambda rng: rng.standard_normal(1_000),
        lambda rng: rng.standard_t(2, 1_000),
        lambda rng: rng.standard_t(3, 1_000),
        lambda rng: rng.laplace(size=1_000),
        lambda rng: rng.lognormal(size=1_000),
        lambda rng: rng.standard_normal(1_000) * np.where(rng.random(1_000) < 0.1, 10, 1),
        lambda rng: rng.standard_normal(1_000) + 10.0 * (FRAMES % 100 < 8),
        lambda rng: lfilter([1], [1, -0.6], rng.standard_normal(1_500))[500:],
        lambda rng: lfilter([1], [1, -0.9], rng.standard_normal(1_500))[500:],
    ],
    ids=["gauss", "t2", "t3", "laplace", "lognormal", "contaminated", "bursts", "ar 0.6", "ar 0.9"],
)
def test_noise_alone_seldom_grows(noise):
    # A binomial of 100 at 1 % exceeds 4 once in 300 times.
    rng = np.random.default_rng(4)
    assert growing(20 + noise(rng) for _ in range(100)) <= 4


@pytest.mark.parametrize(("confidence", "least"), [(0.99, 83), (0.975, 89)])
def test_a_ramp_of_two_per_cent_under_five_per_cent_noise_is_found_about_as_often_as_can_be(confidence, least):
    # The best test of Gaussian noise finds 90.7 and 95.5 of 100; three standard deviations of such a count are 9 and 6.
    rng = np.random.default_rng(6)
    ramp = 1 + 0.02 * FRAMES / 1_000
    series = (ramp + 0.05 * rng.standard_normal(1_000) for _ in range(100))
    assert sum(measure_growth(each, confidence=confidence).shape.grows for each in series) >= least


@pytest.mark.parametrize("at", [50, 300, 500, 950])
@pytest.mark.parametrize("seed", range(3))
def test_a_step_is_found_with_its_frame(at, seed):
    found = measured(1 + 0.3 * (at <= FRAMES), seed)
    assert found.shape is Shape.STEP
    assert len(found.change_points) == 1
    assert abs(found.change_points[0] - at) <= 2
    assert found.levels == pytest.approx((1, 1.3), abs=0.03)
    assert found.rise == pytest.approx(0.3, abs=0.04)


def test_steps_up_and_down_again_are_a_staircase_that_comes_back():
    found = measured(np.repeat(STAIRS, 200))
    assert found.shape is Shape.STEP
    assert found.change_points == pytest.approx(range(200, 1_600, 200), abs=2)
    assert found.levels == pytest.approx(STAIRS, rel=0.02)
    assert found.rise == pytest.approx(0, abs=0.01)


def test_a_regular_staircase_is_no_wave():
    found = measured(1 + 0.3 * (np.arange(3_000) // 300))
    assert (found.shape, found.period) == (Shape.STEP, None)
    assert found.change_points == pytest.approx(range(300, 3_000, 300), abs=2)


@pytest.mark.parametrize("growth", [0.05, 0.5])
def test_a_ramp_has_no_change_point(growth):
    found = measured(1 + growth * FRAMES / 999)
    assert (found.shape, found.change_points) == (Shape.RAMP, ())
    assert found.rise == pytest.approx(growth, abs=0.02)
    assert found.slope.rises


@pytest.mark.parametrize("ends", [200, 500])
def test_a_ramp_to_a_plateau_ends_at_its_change_point(ends):
    found = measured(1 + 0.5 * np.minimum(FRAMES / ends, 1), seed=1)
    assert found.shape is Shape.PLATEAU
    assert len(found.change_points) == 1
    assert found.change_points[0] == pytest.approx(ends, abs=70)
    assert found.levels[1] == pytest.approx(1.5, abs=0.02)
    assert found.rise == pytest.approx(0.5, abs=0.03)


def test_growth_that_starts_late_and_stops_is_a_plateau_of_three_pieces():
    found = measured(1 + 0.5 * np.clip(np.arange(1_500) / 500 - 1, 0, 1))
    assert found.shape is Shape.PLATEAU
    assert found.change_points == pytest.approx((500, 1_000), abs=80)
    assert (found.levels[0], found.levels[2]) == pytest.approx((1, 1.5), abs=0.02)


@pytest.mark.parametrize("frames", [10, 50, 200])
def test_a_warm_up_falls(frames):
    found = measured(1 + 4 * np.exp(-FRAMES / frames))
    assert found.shape is Shape.FALLING
    assert not found.shape.grows
    assert found.rise < 0


def test_a_slow_decline_falls_without_a_change_point():
    found = measured(1 - 0.05 * FRAMES / 999)
    assert (found.shape, found.change_points) == (Shape.FALLING, ())


def test_spikes_are_found_one_by_one():
    at = [100, 377, 402, 801]
    found = measured(1 + 5.0 * np.isin(FRAMES, at))
    assert found == Growth(Shape.SPIKES, found.slope, (), found.levels, found.rise, tuple(at), None)
    assert found.levels == pytest.approx((1,), abs=0.01)


def test_two_hiccups_leave_a_series_flat():
    found = measured(1 + 5.0 * np.isin(FRAMES, [100, 900]), seed=1)
    assert (found.shape, found.spikes) == (Shape.FLAT, (100, 900))


def test_spikes_do_not_hide_a_step():
    found = measured(1 + 0.3 * (FRAMES >= 500) + 9.0 * (FRAMES % 97 == 5))
    assert found.shape is Shape.STEP
    assert found.change_points == pytest.approx((500,), abs=2)
    assert found.spikes == tuple(range(5, 1_000, 97))


@pytest.mark.parametrize(
    ("wave", "period"),
    [
        (5.0 * (FRAMES % 100 == 7), 100),
        (1.0 * (FRAMES % 100 < 5), 100),
        (0.2 * np.sin(FRAMES * 2 * np.pi / 40), 40),
        (0.2 * np.sin(FRAMES * 2 * np.pi / 3.7), 3.7),
        (0.3 * (FRAMES % 90 < 45), 90),
        (0.3 * (FRAMES % 2), 2),
    ],
    ids=["spikes", "bursts", "sine", "a few frames", "square", "every other frame"],
)
def test_what_repeats_is_periodic(wave, period):
    found = measured(1 + wave, seed=1)
    assert found.shape is Shape.PERIODIC
    assert found.period == pytest.approx(period, rel=0.01)
    assert found.change_points == ()


def test_a_wave_on_a_ramp_grows_and_has_a_period():
    found = measured(1 + 0.2 * np.sin(FRAMES * 2 * np.pi / 40) + 0.3 * FRAMES / 999)
    assert found.shape is Shape.RAMP
    assert found.period == pytest.approx(40, rel=0.01)


def test_spikes_at_random_have_no_period():
    at = np.random.default_rng(3).random(1_000) < 0.03
    found = measured(1 + 5.0 * at)
    assert (found.shape, found.period) == (Shape.SPIKES, None)
    assert found.spikes == tuple(np.flatnonzero(at))


def test_every_sample_counts_however_late_and_large():
    # A rule that drops what lies three deviations out would drop the step itself.
    level = np.where(FRAMES < 970, 1.0, 50.0)
    assert measured(level).shape is Shape.STEP
    assert measured(level).change_points == (970,)


def test_the_place_of_a_step_in_a_long_series_is_exact():
    rng = np.random.default_rng(2)
    found = measure_growth(1 + 0.3 * (np.arange(60_000) >= 41_234) + 0.05 * rng.standard_normal(60_000))
    assert found.shape is Shape.STEP
    assert found.change_points == pytest.approx((41_234,), abs=2)


@pytest.mark.parametrize("n", [8, 12, 100, 1_000])
@pytest.mark.parametrize("value", [0.0, -3.0, 1e9])
def test_a_constant_series_is_flat(n, value):
    found = measure_growth(np.full(n, value))
    assert found == Growth(Shape.FLAT, slope(np.full(n, value)), (), (value,), 0.0, (), None)


@pytest.mark.parametrize(("n", "at"), [(40, 20), (200, 77)])
def test_a_step_without_noise_is_exact(n, at):
    found = measure_growth(np.where(np.arange(n) < at, 10, 20))
    assert (found.shape, found.change_points, found.levels, found.rise) == (Shape.STEP, (at,), (10, 20), 10)


@pytest.mark.parametrize("n", [8, 30, 300])
def test_a_line_without_noise_is_a_ramp(n):
    found = measure_growth(np.arange(n) * 2.0)
    assert (found.shape, found.change_points) == (Shape.RAMP, ())
    assert found.rise == pytest.approx(2 * (n - 1))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(8, 400), st.integers(-20, 20))
def test_the_unit_of_a_series_changes_nothing_but_the_unit(seed, n, power):
    rng = np.random.default_rng(seed)
    series = rng.standard_normal(n) + 5 * (np.arange(n) > rng.integers(n))
    plain, scaled = measure_growth(series), measure_growth(series * 2.0**power)
    assert (scaled.shape, scaled.change_points, scaled.spikes) == (plain.shape, plain.change_points, plain.spikes)
    assert scaled.rise == pytest.approx(plain.rise * 2.0**power, rel=1e-6)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.floats(-1e12, 1e12) | st.sampled_from([0.0, 1.0, 2.0]), min_size=8, max_size=120))
def test_any_finite_series_has_a_shape(values):
    found = measure_growth(values)
    assert found.shape in Shape
    assert list(found.change_points) == sorted(set(found.change_points))
    assert len(found.levels) == len(found.change_points) + 1
    assert all(0 < at < len(values) for at in found.change_points)
    assert np.isfinite(found.rise)


def test_what_has_no_slope_has_no_shape():
    with pytest.raises(SettingsError, match="8 frames"):
        measure_growth([1.0] * 7)
    with pytest.raises(SettingsError, match="confidence"):
        measure_growth(range(10), confidence=2)
