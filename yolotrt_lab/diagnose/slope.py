"""Does a series grow, and by how much a frame: an estimate with its uncertainty, from every sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import SettingsError

MIN_FRAMES = 8
"""The fewest frames that have a slope."""

_MAX_BLOCKS = 50
_MIN_BLOCKS = 10
_BLOCK_IN_CORRELATION_TIMES = 5
_MOST_DEVIATIONS = 37.0  # beyond it, the tail of a normal distribution rounds to 0


@dataclass(frozen=True, slots=True)
class Slope:
    """Growth of a series in its own unit per frame, with the bounds of a two-sided confidence interval."""

    value: float
    low: float
    high: float
    confidence: float

    @property
    def distinguishable(self) -> bool:
        """True where the interval excludes a slope of zero."""
        return self.low > 0 or self.high < 0

    @property
    def rises(self) -> bool:
        """True where the whole interval lies above zero."""
        return self.low > 0


def slope(series: ArrayLike, *, confidence: float = 0.99) -> Slope:
    """The slope of a series with one value a frame, shape (n,), n >= 8, in the unit of the series per frame.

    Theil-Sen (Sen 1968, "Estimates of the regression coefficient based on Kendall's tau") over the medians of up to
    50 consecutive blocks, the batch means of simulation analysis (Law and Kelton, "Simulation Modeling and Analysis")
    with a median instead of the mean: no sample is dropped or clipped, and a rare slow frame cannot make a slope.

    Neighbouring frames resemble each other, which makes a plain interval too narrow. A block median varies as the
    mean of the signs of its residuals (Bahadur 1966), so the autocorrelation time of those signs, summed up to the end
    of Geyer's initial positive sequence (1992), does two things: blocks are made at least five such times long as
    long as ten blocks remain, and the variance of Kendall's statistic is inflated by the correlation that is left
    between blocks (Hamed and Rao 1998).

    In simulations of 1,000 to 10,000 frames a 99 % interval raises a false alarm for 0 to 1.5 % of the series with
    white, heavy-tailed or AR(1) noise up to 0.97, and for 1 to 5 % where a slow wave hides under louder white noise. A
    series shorter than some ten autocorrelation times can't tell a wave from a slope: 2 to 10 %
    (`benchmarks/bench_growth.py`).

    Raises SettingsError for another shape, fewer than 8 frames, a value that is not finite, or a `confidence` outside
    0.5 to 1.

    >>> found = slope([5.0, 5.1, 5.2, 5.3, 5.4, 5.5, 5.6, 5.7])
    >>> round(found.value, 3), found.rises
    (0.1, True)
    """
    from statistics import NormalDist

    values = _checked(series, confidence)
    count = min(_MAX_BLOCKS, len(values))
    first, _, _ = _theil_sen(values, count, 0.0)
    correlation = sign_autocorrelation(values - first * np.arange(len(values)))
    count = min(
        count, max(_MIN_BLOCKS, int(len(values) / (_BLOCK_IN_CORRELATION_TIMES * correlation_time(correlation))))
    )
    deviations = NormalDist().inv_cdf((1 + confidence) / 2) * np.sqrt(inflation(correlation, len(values) / count))
    return Slope(*_theil_sen(values, count, min(deviations, _MOST_DEVIATIONS)), confidence)


def median(values: np.ndarray) -> Any:
    """NumPy's median along the last axis, of one value or more, none of them NaN. A bill asks for some hundred medians
    of few values, of which NumPy's own takes longer to look for masked arrays and NaN than to sort them.

    >>> float(median(np.array([3.0, 1.0, 2.0, 4.0])))
    2.5
    """
    half, is_odd = divmod(values.shape[-1], 2)
    parted = np.partition(values, half)
    return parted[..., half] if is_odd else (parted[..., :half].max(axis=-1) + parted[..., half]) / 2


def quantile(values: np.ndarray, share: float) -> float:
    """NumPy's quantile of shape (n,), n >= 1, none of them NaN. NumPy's own imports numpy.ma, which takes 15 ms.

    >>> quantile(np.array([3.0, 1.0, 2.0, 4.0]), 0.9)
    3.7
    """
    place, part = divmod(share * (len(values) - 1), 1)
    beside = int(place), min(int(place) + 1, len(values) - 1)
    low, high = np.partition(values, beside)[[*beside]]
    return float(high - (high - low) * (1 - part) if part >= 0.5 else low + (high - low) * part)


def block_edges(frames: int, count: int) -> np.ndarray:
    """Where each of `count` consecutive blocks of frames, of as equal a length as can be, starts, and the last ends."""
    return np.linspace(0, frames, count + 1).astype(np.int64)


def in_blocks(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The centres, in frames, and the medians of `count` blocks."""
    edges = block_edges(len(values), count)
    lengths, medians = np.diff(edges), np.empty(count)
    for length in {lengths.min(), lengths.max()}:
        chosen = lengths == length
        medians[chosen] = median(np.lib.stride_tricks.sliding_window_view(values, length)[edges[:-1][chosen]])
    return (edges[:-1] + edges[1:] - 1) / 2, medians


def _checked(series: ArrayLike, confidence: float) -> np.ndarray:
    if not 0.5 < confidence < 1:
        raise SettingsError(f"a confidence of {confidence} is none", fix="pass a probability such as 0.99")
    values = np.asarray(series, dtype=np.float64)
    if values.ndim != 1 or len(values) < MIN_FRAMES:
        raise SettingsError(
            f"a slope needs one value for each of {MIN_FRAMES} frames or more, and got shape {values.shape}",
            fix="record more frames",
        )
    if bad := len(values) - int(np.isfinite(values).sum()):
        raise SettingsError(
            f"{bad} of {len(values)} values are NaN or infinite", fix="choose the frames that have a value"
        )
    return values


def _theil_sen(values: np.ndarray, count: int, deviations: float) -> tuple[float, float, float]:
    """Slope per frame and its bounds, so many standard deviations of Kendall's statistic away, over block medians."""
    centres, medians = in_blocks(values, count)
    first, second = np.triu_indices(count, 1)
    slopes = np.sort((medians[second] - medians[first]) / (centres[second] - centres[first]))
    ties = np.unique(medians, return_counts=True)[1]
    variance = (count * (count - 1) * (2 * count + 5) - (ties * (ties - 1) * (2 * ties + 5)).sum()) / 18
    reach = deviations * np.sqrt(variance)
    low = max(round((len(slopes) - reach) / 2) - 1, 0)
    high = min(round((len(slopes) + reach) / 2), len(slopes) - 1)
    return float(median(slopes)), float(slopes[low]), float(slopes[high])


def sign_autocorrelation(residuals: np.ndarray) -> np.ndarray:
    """Autocorrelation of the signs about the median, from lag 0 to where pairs of lags stop being positive."""
    n = len(residuals)
    signs = np.sign(residuals - median(residuals))
    signs -= signs.mean()
    covariance = autocovariance(signs, n // 2 * 2)
    if n < 2 or covariance[0] <= 0:
        return np.ones(1)
    pairs = covariance[::2] + covariance[1::2]
    ends = np.flatnonzero(pairs <= 0)
    return np.asarray(covariance[: 2 * ends[0] if len(ends) else n] / covariance[0])


def autocovariance(values: np.ndarray, lags: int) -> np.ndarray:
    """Sums of products of values so many frames apart, at the lags from 0 up to, not with, `lags`."""
    needed = len(values) + lags
    unit = 1 << max(0, needed.bit_length() - 4)
    size = -(-needed // unit) * unit  # of small factors, which a transform takes best
    spectrum = np.fft.rfft(values, size)
    return np.fft.irfft(spectrum.real**2 + spectrum.imag**2, size)[:lags]


def correlation_time(correlation: np.ndarray) -> float:
    """How many neighbouring frames count as one, 1 or more."""
    return max(1.0, 2 * float(correlation.sum()) - 1)


def inflation(correlation: np.ndarray, block: float) -> float:
    """How much wider the variance over many blocks is than blocks of this length would have if independent; >= 1."""
    lags = np.arange(1, len(correlation))
    beyond = 1 + 2 * correlation[1:].sum()
    within = 1 + 2 * (np.maximum(1 - lags / block, 0) * correlation[1:]).sum()
    return max(1.0, float(beyond / within)) if within > 0 else 1.0
