"""How often `slope` raises a false alarm, how often it finds a ramp, and how long it takes.

Run it with `python benchmarks/bench_growth.py [series per rate]`. Series are simulated, with fixed seeds; the rates are
those of a 99 % interval, so that false alarms should be near 1 %.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter

import numpy as np
from scipy.signal import lfilter

from yolotrt_lab.growth import slope

Noise = Callable[[np.random.Generator, int], np.ndarray]


def autoregressive(rho: float) -> Noise:
    """AR(1) noise of unit variance, begun long before its first value."""

    def noise(rng: np.random.Generator, n: int) -> np.ndarray:
        return lfilter([np.sqrt(1 - rho**2)], [1, -rho], rng.standard_normal(n + 2_000))[2_000:]

    return noise


def rare_slow_frames(rng: np.random.Generator, n: int) -> np.ndarray:
    """White noise where 3 % of the frames take 40 standard deviations longer."""
    return rng.standard_normal(n) + 40.0 * (rng.random(n) < 0.03)


def bursts(rng: np.random.Generator, n: int) -> np.ndarray:
    """White noise where 8 frames of every 100 take 10 standard deviations longer."""
    return rng.standard_normal(n) + 10.0 * (np.arange(n) % 100 < 8)


NOISES: dict[str, Noise] = {
    "white": lambda rng, n: rng.standard_normal(n),
    "Student t, 2 degrees": lambda rng, n: rng.standard_t(2, n),
    "3 % slow frames": rare_slow_frames,
    "8 slow of every 100": bursts,
    "AR(1), 0.6": autoregressive(0.6),
    "AR(1), 0.9": autoregressive(0.9),
    "AR(1), 0.97": autoregressive(0.97),
    "AR(1), 0.9 + Student t": lambda rng, n: autoregressive(0.9)(rng, n) + 0.5 * rng.standard_t(2, n),
    "AR(1), 0.97 + 2 white": lambda rng, n: autoregressive(0.97)(rng, n) + 2.0 * rng.standard_normal(n),
}
LENGTHS = (100, 300, 1_000, 1_500, 10_000)


def rate(noise: Noise, n: int, repeats: int, ramp: float = 0.0) -> float:
    """Per cent of the series, noise plus `ramp` a frame, whose slope is distinguishable from zero."""
    rng = np.random.default_rng(1)
    return 100 * float(np.mean([slope(noise(rng, n) + ramp * np.arange(n)).distinguishable for _ in range(repeats)]))


def print_table(title: str, repeats: int, ramp: float = 0.0) -> None:
    """One row a kind of noise, one column a length."""
    print(f"\n{title}; {repeats} series each\n{'':24}" + "".join(f"{n:>9,}" for n in LENGTHS))
    for name, noise in NOISES.items():
        print(f"{name:24}" + "".join(f"{rate(noise, n, repeats, ramp):>8.1f}%" for n in LENGTHS), flush=True)


def main() -> None:
    """Print the tables and the time for a million frames."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    print_table("False alarms", repeats)
    # 2 % of the median in 1,000 frames, under noise of 5 % of the median, in units of the noise.
    print_table(
        "A ramp of 2 % of the median per 1,000 frames under 5 % noise, found", repeats // 5, 0.02 / 0.05 / 1_000
    )
    for name in ("white", "AR(1), 0.97"):
        series = NOISES[name](np.random.default_rng(1), 1_000_000)
        times = []
        for _ in range(5):
            begin = perf_counter()
            slope(series)
            times.append(perf_counter() - begin)
        print(f"1,000,000 frames, {name}: {min(times):.2f} s")


if __name__ == "__main__":
    main()
