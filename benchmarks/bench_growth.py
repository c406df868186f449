"""How often `slope` and `shape_of` raise a false alarm, what they find, and how long they take.

Run it with `python benchmarks/bench_growth.py [SERIES per rate] [FRAMES to time]`. Series are simulated, with fixed
seeds; the rates are those of a confidence of 99 %, so that false alarms should be near 1 %: up or down for `slope`, a
growth or a fall for `shape_of`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter

import numpy as np
from scipy.signal import lfilter

from yolotrt_lab.diagnose.series import find_period, shape_of
from yolotrt_lab.diagnose.slope import slope

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
    "Student t, 3 degrees": lambda rng, n: rng.standard_t(3, n),
    "Laplace": lambda rng, n: rng.laplace(size=n),
    "lognormal": lambda rng, n: rng.lognormal(size=n),
    "10 % ten times as wide": lambda rng, n: rng.standard_normal(n) * np.where(rng.random(n) < 0.1, 10.0, 1.0),
    "3 % slow frames": rare_slow_frames,
    "8 slow of every 100": bursts,
    "AR(1), 0.6": autoregressive(0.6),
    "AR(1), 0.9": autoregressive(0.9),
    "AR(1), 0.97": autoregressive(0.97),
    "AR(1), 0.9 + Student t": lambda rng, n: autoregressive(0.9)(rng, n) + 0.5 * rng.standard_t(2, n),
    "AR(1), 0.97 + 2 white": lambda rng, n: autoregressive(0.97)(rng, n) + 2.0 * rng.standard_normal(n),
}
LENGTHS = (100, 300, 1_000, 1_500, 10_000)


def staircase(frames: np.ndarray) -> np.ndarray:
    """Seven levels of other processes on a GPU, 200 frames each, and back to the first."""
    return np.repeat([0.06, 1.9, 4.6, 10.8, 14.8, 18.4, 23.1, 0.06], 200)[frames]


# The level at each frame, the shape that is right, and since which frame.
SERIES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str, int | None]] = {
    "flat": (np.ones_like, "", None),
    "ramp of 10 %": (lambda x: 1 + 0.1 * x, "ramp", 0),
    "ramp of 50 %": (lambda x: 1 + 0.5 * x, "ramp", 0),
    "ramp to a plateau": (lambda x: 1 + 0.5 * np.minimum(2 * x, 1), "plateau", 0),
    "ramp of 28 % between levels": (lambda x: 1 + 0.28 * np.clip((x - 0.4) / 0.2, 0, 1), "plateau", 400),
    "two steps of 14 %": (lambda x: 1 + 0.14 * np.floor(3 * x), "ramp", None),
    "step of 10 %": (lambda x: 1 + 0.1 * (x >= 0.5), "step", 500),
    "step of 30 %": (lambda x: 1 + 0.3 * (x >= 0.3), "step", 300),
    "staircase and down again": (lambda x: staircase((x * 1_600).astype(int)), "wave", None),
    "a spike every 100": (lambda x: 1 + 5.0 * (np.round(x * 1_000) % 100 == 7), "", None),
    "sine of 40 frames": (lambda x: 1 + 0.2 * np.sin(x * 1_000 * np.pi / 20), "", None),
    "warm-up over 50 frames": (lambda x: 1 + 4 * np.exp(-x * 20), "", None),
}


def rate(noise: Noise, n: int, repeats: int, ramp: float = 0.0) -> float:
    """Per cent of the series, noise plus `ramp` a frame, whose slope is distinguishable from zero."""
    rng = np.random.default_rng(1)
    return 100 * float(np.mean([slope(noise(rng, n) + ramp * np.arange(n)).distinguishable for _ in range(repeats)]))


def print_table(title: str, repeats: int, ramp: float = 0.0) -> None:
    """One row a kind of noise, one column a length."""
    print(f"\n{title}; {repeats} series each\n{'':24}" + "".join(f"{n:>9,}" for n in LENGTHS))
    for name, noise in NOISES.items():
        print(f"{name:24}" + "".join(f"{rate(noise, n, repeats, ramp):>8.1f}%" for n in LENGTHS), flush=True)


def growing(noise: Noise, n: int, repeats: int, ramp: float = 0.0) -> float:
    """Per cent of the series, noise about 20 plus `ramp` a frame, that `shape_of` lets grow or fall."""
    rng = np.random.default_rng(1)
    found = [shape_of(20 + noise(rng, n) + ramp * np.arange(n)) for _ in range(repeats)]
    return 100 * float(np.mean([each.grew is not None or each.fell is not None for each in found]))


def print_false_alarms(repeats: int) -> None:
    """One row a kind of noise: how often `shape_of` says that a series grew or fell."""
    print(f"\nshape_of, false alarms; {repeats} series each\n{'':24}" + "".join(f"{n:>9,}" for n in LENGTHS))
    for name, noise in NOISES.items():
        print(f"{name:24}" + "".join(f"{growing(noise, n, repeats):>8.1f}%" for n in LENGTHS), flush=True)


def print_shapes(repeats: int) -> None:
    """How often each series under noise of 5 % of its level gets its shape, and how far off its start is."""
    print(f"\nshape_of, shapes of 1,000 frames under 5 % noise; {repeats} series each")
    for name, (level, form, since) in SERIES.items():
        rng = np.random.default_rng(1)
        noisy = (level(np.arange(1_000) / 1_000) * (1 + 0.05 * rng.standard_normal(1_000)) for _ in range(repeats))
        found = [shape_of(each, period=find_period(each)) for each in noisy]
        right = [each for each in found if (each.grew.form if each.grew else "") == form]
        line = f"{name:28}{form or 'no growth':10}{100 * len(right) / repeats:>6.1f}%"
        if since is not None and right:
            line += f"  since a frame at most {max(abs(each.grew.since - since) for each in right if each.grew)} off"
        print(line, flush=True)


def print_times(count: int) -> None:
    """The best of three for so many frames."""
    rng, frames = np.random.default_rng(1), np.arange(count)
    series = {name: 20 + NOISES[name](rng, count) for name in ("white", "AR(1), 0.97", "Student t, 2 degrees")}
    series["ten steps"] = 20 + frames * 10 // count + rng.standard_normal(count)
    series["sine"] = 20 + np.sin(frames / 40) + rng.standard_normal(count)
    print(f"\n{count:,} frames: slope, shape_of")
    for name, values in series.items():
        best = []
        for measured in (slope, shape_of):
            times = []
            for _ in range(3):
                begin = perf_counter()
                measured(values)
                times.append(perf_counter() - begin)
            best.append(min(times))
        print(f"{name:24}{best[0]:.2f} s {best[1]:.2f} s")


def main(repeats: int = 1_000, timed: int = 1_000_000) -> None:
    """Print the tables and the times."""
    fewer = max(repeats // 5, 1)
    print_table("slope, false alarms", repeats)
    # 2 % of the median in 1,000 frames, under noise of 5 % of the median, in units of the noise.
    print_table(
        "slope, a ramp of 2 % of the median per 1,000 frames under 5 % noise, found", fewer, 0.02 / 0.05 / 1_000
    )
    print_false_alarms(repeats)
    print_shapes(fewer)
    print_times(timed)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
