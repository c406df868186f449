"""How often `slope` and `measure_growth` raise a false alarm, what they find, and how long they take.

Run it with `python benchmarks/bench_growth.py [SERIES per rate] [FRAMES to time]`. Series are simulated, with fixed
seeds; the rates are those of a confidence of 99 %, so that false alarms should be near 1 %: up or down for `slope`, a
growing shape for `measure_growth`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter

import numpy as np
from scipy.signal import lfilter
from scipy.stats import norm

from yolotrt_lab.diagnose.growth.shape import Shape, measure_growth
from yolotrt_lab.diagnose.growth.slope import slope

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
    """Seven levels of neighbours on a GPU, 200 frames each, and back to the first."""
    return np.repeat([0.06, 1.9, 4.6, 10.8, 14.8, 18.4, 23.1, 0.06], 200)[frames]


# The level at each frame, how many frames, the shape that is right and where its change points are, if they are sharp.
SERIES: dict[str, tuple[Noise, int, Shape, tuple[int, ...]]] = {
    "flat": (lambda rng, n: np.ones(n), 1_000, Shape.FLAT, ()),
    "ramp of 5 %": (lambda rng, n: 1 + 0.05 * np.arange(n) / n, 1_000, Shape.RAMP, ()),
    "ramp of 50 %": (lambda rng, n: 1 + 0.5 * np.arange(n) / n, 1_000, Shape.RAMP, ()),
    "ramp to a plateau": (lambda rng, n: 1 + 0.5 * np.minimum(np.arange(n) / 500, 1), 1_000, Shape.PLATEAU, ()),
    "flat, ramp, plateau": (
        lambda rng, n: 1 + 0.5 * np.clip(np.arange(n) / 500 - 1, 0, 1),
        1_500,
        Shape.PLATEAU,
        (),
    ),
    "step of 10 %": (lambda rng, n: 1 + 0.1 * (np.arange(n) >= 500), 1_000, Shape.STEP, (500,)),
    "step of 30 %": (lambda rng, n: 1 + 0.3 * (np.arange(n) >= 300), 1_000, Shape.STEP, (300,)),
    "step of 30 % near the end": (lambda rng, n: 1 + 0.3 * (np.arange(n) >= 950), 1_000, Shape.STEP, (950,)),
    "staircase and down again": (
        lambda rng, n: staircase(np.arange(n)),
        1_600,
        Shape.STEP,
        tuple(range(200, 1_600, 200)),
    ),
    "four spikes": (lambda rng, n: 1 + 5.0 * np.isin(np.arange(n), [100, 377, 402, 801]), 1_000, Shape.SPIKES, ()),
    "a spike every 100": (lambda rng, n: 1 + 5.0 * (np.arange(n) % 100 == 7), 1_000, Shape.PERIODIC, ()),
    "sine of 40 frames": (lambda rng, n: 1 + 0.2 * np.sin(np.arange(n) * np.pi / 20), 1_000, Shape.PERIODIC, ()),
    "warm-up over 50 frames": (lambda rng, n: 1 + 4 * np.exp(-np.arange(n) / 50), 1_000, Shape.FALLING, ()),
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


def growing(noise: Noise, n: int, repeats: int, ramp: float = 0.0, confidence: float = 0.99) -> float:
    """Per cent of the series, noise about 20 plus `ramp` a frame, to which `measure_growth` gives a growing shape."""
    rng = np.random.default_rng(1)
    series = (20 + noise(rng, n) + ramp * np.arange(n) for _ in range(repeats))
    return 100 * float(np.mean([measure_growth(each, confidence=confidence).shape.grows for each in series]))


def print_false_alarms(repeats: int) -> None:
    """One row a kind of noise: how often `measure_growth` says ramp, plateau or step."""
    print(f"\nmeasure_growth, false alarms; {repeats} series each\n{'':24}" + "".join(f"{n:>9,}" for n in LENGTHS))
    for name, noise in NOISES.items():
        print(f"{name:24}" + "".join(f"{growing(noise, n, repeats):>8.1f}%" for n in LENGTHS), flush=True)


def print_ramps(repeats: int) -> None:
    """What of the ramp of 2 % in 1,000 frames is found, beside what the best one-sided test of Gaussian noise finds."""
    print(f"\nmeasure_growth, a ramp of 2 % of the median in 1,000 frames under 5 % noise, found; {repeats} series")
    ramp, z = 0.02 / 0.05 / 1_000, 0.02 / 0.05 * np.sqrt(1_000 / 12)
    for confidence in (0.99, 0.98, 0.975):
        bound = 100 * norm.cdf(z - norm.isf(1 - confidence))
        print(f"confidence {confidence}: best possible under white noise {bound:.1f} %", end="")
        for name, scale in (("white", 1.0), ("Laplace", 2**-0.5), ("Student t, 3 degrees", 3**-0.5)):
            noise = NOISES[name]
            found = growing(lambda rng, n, f=noise, s=scale: s * f(rng, n), 1_000, repeats, ramp, confidence)
            print(f"; {name} {found:.1f} %", end="")
        print(flush=True)


def print_shapes(repeats: int) -> None:
    """How often each series under noise of 5 % of its level gets its shape, and how far off its change points are."""
    print(f"\nmeasure_growth, shapes under 5 % noise; {repeats} series each")
    for name, (level, n, shape, changes) in SERIES.items():
        rng = np.random.default_rng(1)
        found = [measure_growth(level(rng, n) * (1 + 0.05 * rng.standard_normal(n))) for _ in range(repeats)]
        line = f"{name:28}{shape:10}{100 * np.mean([each.shape is shape for each in found]):>6.1f}%"
        if changes:
            exact = [each.change_points for each in found if len(each.change_points) == len(changes)]
            worst = max((np.abs(np.subtract(each, changes)).max() for each in exact), default="no")
            line += f"  all change points in {100 * len(exact) / repeats:.1f}%, at most {worst} frames off"
        print(line, flush=True)


def print_times(count: int) -> None:
    """The best of three for so many frames."""
    rng, frames = np.random.default_rng(1), np.arange(count)
    series = {name: 20 + NOISES[name](rng, count) for name in ("white", "AR(1), 0.97", "Student t, 2 degrees")}
    series["ten steps"] = 20 + frames * 10 // count + rng.standard_normal(count)
    series["sine"] = 20 + np.sin(frames / 40) + rng.standard_normal(count)
    print(f"\n{count:,} frames: slope, measure_growth")
    for name, values in series.items():
        best = []
        for measured in (slope, measure_growth):
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
    print_ramps(repeats)
    print_shapes(fewer)
    print_times(timed)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
