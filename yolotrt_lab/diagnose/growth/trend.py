"""Does a series drift at all: a rank test that keeps its false alarms under any independent noise."""

from __future__ import annotations

import numpy as np

_APART = 2.6


def trend_probability(values: np.ndarray) -> float:
    """How likely independent noise alone drifts upward as far as `values`, 0 to 1; near 1 where they fall.

    The correlation of time with the normal scores of the ranks (van der Waerden 1952): its distribution is known
    whatever the noise is, and under Gaussian noise no test of a straight ramp finds more (Hajek and Sidak, "Theory of
    Rank Tests", 1967).
    """
    from scipy.special import ndtr, ndtri
    from scipy.stats import rankdata

    n = len(values)
    time = np.arange(n) - (n - 1) / 2
    scores = ndtri(rankdata(values) / (n + 1))
    size = float(np.sqrt((time @ time) * (scores @ scores)))
    return float(ndtr(-float(time @ scores) / size * np.sqrt(n - 1))) if size > 0 else 0.5


def correlated(residuals: np.ndarray) -> bool:
    """True where neighbouring frames resemble each other, or differ, more than all but 1 % of independent series do.

    Looked for in the signs about the median, at a distance of one frame and over the first ten together.
    """
    n = len(residuals)
    signs = np.sign(residuals - np.median(residuals))
    signs -= signs.mean()
    size = float(signs @ signs)
    if size == 0:
        return False
    lags = [float(signs[lag:] @ signs[:-lag]) / size for lag in range(1, min(10, n - 1) + 1)]
    return lags[0] > _APART / np.sqrt(n) or sum(lags) > _APART * np.sqrt(len(lags) / n)
