from collections.abc import Callable
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import sampled

from yolotrt_lab.diagnose.slope import Slope, slope
from yolotrt_lab.errors import SettingsError

Noise = Callable[[np.random.Generator, int], np.ndarray]


def white(rng, n):
    return rng.standard_normal(n)


def heavy_tailed(rng, n):
    return rng.standard_t(2, n)


def autoregressive(rng, n):
    steps = np.sqrt(1 - 0.9**2) * rng.standard_normal(n + 500)
    return np.array(list(accumulate(steps, lambda last, now: now + 0.9 * last)))[500:]


def slopes(noise: Noise, n: int, ramp: float = 0.0, series: int = 150) -> list[Slope]:
    rng = np.random.default_rng(20)
    return [slope(noise(rng, n) + ramp * np.arange(n)) for _ in range(series)]


@pytest.mark.parametrize("noise", sampled([white, heavy_tailed, autoregressive], [autoregressive]))
def test_false_alarms_stay_near_one_per_cent(noise):
    # A binomial of 150 at 1 % exceeds 5 once in 250 times. Without the correction AR(1) noise raises 6 and more.
    assert sum(s.distinguishable for s in slopes(noise, 1_500)) <= 5


def test_correlated_noise_in_a_short_series_raises_few_alarms():
    # Without the correction these raise more than 20.
    assert sum(s.distinguishable for s in slopes(autoregressive, 300)) <= 5


def test_the_interval_is_no_wider_than_its_confidence():
    rng = np.random.default_rng(3)
    alarms = sum(slope(white(rng, 1_500), confidence=0.8).distinguishable for _ in range(150))
    assert 20 <= alarms <= 40


@pytest.mark.parametrize("noise", sampled([white, heavy_tailed], [heavy_tailed]))
def test_a_ramp_of_two_per_cent_in_a_thousand_frames_is_found_under_five_per_cent_noise(noise):
    found = slopes(noise, 1_500, ramp=0.02 / 0.05 / 1_000, series=50)
    assert sum(s.rises for s in found) >= 45


@pytest.mark.parametrize("noise", sampled([white, heavy_tailed, autoregressive], [autoregressive]))
def test_the_interval_covers_the_true_slope(noise):
    covered = [s.low <= 0.01 <= s.high for s in slopes(noise, 1_500, ramp=0.01, series=50)]
    assert sum(covered) >= 48


@given(st.integers(8, 3_000), st.floats(-1e6, 1e6), st.floats(-1e9, 1e9))
def test_a_straight_line_has_its_own_slope_at_every_length(n, ramp, offset):
    found = slope(offset + ramp * np.arange(n))
    assert found.value == pytest.approx(ramp, rel=1e-6, abs=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(8, 400), st.integers(-20, 20))
def test_scaling_the_series_scales_the_slope_and_mirroring_it_turns_it(seed, n, power):
    series = np.random.default_rng(seed).standard_normal(n)
    plain, scaled, mirrored = slope(series), slope(series * 2.0**power), slope(-series)
    assert (scaled.value, scaled.low, scaled.high) == pytest.approx(
        (plain.value * 2.0**power, plain.low * 2.0**power, plain.high * 2.0**power), rel=1e-9
    )
    assert mirrored.value == pytest.approx(-plain.value, rel=1e-9)
    assert mirrored.distinguishable == plain.distinguishable


def test_slow_frames_make_no_slope_and_hide_none():
    rng = np.random.default_rng(1)
    clean = rng.normal(100, 1, 1_500)
    late = np.arange(1_500) > 1_000
    slow = np.where(late & (rng.random(1_500) < 0.2), 10_000.0, 0.0)
    assert abs(slope(clean + slow).value) < 0.001
    assert slope(clean + slow + 0.01 * np.arange(1_500)).rises


@pytest.mark.parametrize("end", [slice(None, 40), slice(-40, None)])
def test_the_frames_at_both_ends_count(end):
    # 1,549 frames are 50 blocks of 30 and 49 frames more.
    series = np.random.default_rng(5).standard_normal(1_549)
    changed = series.copy()
    changed[end] += 1_000
    assert slope(changed) != slope(series)


def test_a_falling_series_is_distinguishable_and_does_not_rise():
    found = slope(100.0 - 0.1 * np.arange(200) + np.random.default_rng(0).standard_normal(200))
    assert found.distinguishable
    assert not found.rises
    assert found.low < -0.1 < found.high < 0


@pytest.mark.parametrize("value", [0.0, 3.0, -1e12])
@pytest.mark.parametrize("n", [8, 1_500])
def test_a_constant_series_has_a_slope_of_exactly_zero(value, n):
    found = slope(np.full(n, value))
    assert found == Slope(0.0, 0.0, 0.0, 0.99)
    assert not found.distinguishable


def test_integers_and_lists_are_series_too():
    assert slope(list(range(0, 40, 2))).value == pytest.approx(2.0)
    assert slope(np.arange(100, dtype=np.int64) * 1_000).value == pytest.approx(1_000.0)


@given(st.lists(st.integers(0, 3), min_size=8, max_size=60), st.sampled_from([0.6, 0.9, 0.99, 0.999_999]))
def test_coarse_timers_give_an_ordered_interval(values, confidence):
    found = slope(values, confidence=confidence)
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize(
    ("series", "message"),
    [
        ([1.0] * 7, "8 frames"),
        ([], "8 frames"),
        (np.ones((10, 2)), r"\(10, 2\)"),
        ([1.0] * 9 + [float("nan")], "1 of 10 values"),
        ([1.0] * 8 + [float("inf")] * 2, "2 of 10 values"),
    ],
)
def test_what_has_no_slope_is_refused(series, message):
    with pytest.raises(SettingsError, match=message):
        slope(series)


@pytest.mark.parametrize("confidence", [0.0, 0.5, 1.0, 99.0])
def test_a_confidence_is_a_probability(confidence):
    with pytest.raises(SettingsError, match="confidence"):
        slope(range(10), confidence=confidence)
