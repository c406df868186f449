"""Measurements made up for tests: a loop with given stages, in milliseconds, and 2 % noise unless told otherwise."""

from __future__ import annotations

import numpy as np

from yolotrt_lab.diagnose.measurements import Measurements

STAGES = {"preprocess": 0.7, "upload": 0.3, "infer": 0.006, "download": 0.006, "synchronize": 0.5, "postprocess": 0.0}
PINNED = STAGES | {"upload": 0.005}


def ramp(frames, low, high):
    return np.linspace(low, high, frames)


def step(frames, low, high, at=0.5):
    return np.where(np.arange(frames) < at * frames, low, high)


def loop(frames=1_000, *, period_ms=None, telemetry=None, noise=0.02, seed=0, **stages):
    """A loop in which each of `stages` (a number or a series) replaces that of STAGES; on a clock if asked."""
    generator = np.random.default_rng(seed)
    times = {}
    for name, value in (STAGES | stages).items():
        times[name] = np.broadcast_to(value, frames) * np.exp(noise * generator.standard_normal(frames)) * 1e6
    service = np.sum(list(times.values()), axis=0)
    start, done, due = np.zeros(frames), np.zeros(frames), np.zeros(frames)
    now = 0.0
    for index in range(frames):
        due[index] = now if period_ms is None else index * period_ms * 1e6
        start[index] = max(now, due[index])
        now = done[index] = start[index] + service[index]
    times |= {"latency": done - due, "frame": done - start, "wait": start - np.concatenate([[0.0], done[:-1]])}
    known = {name: np.broadcast_to(np.asarray(v, float), frames) for name, v in (telemetry or {}).items()}
    return Measurements(times, {"due": due, "start": start, "done": done}, known, {}, "made up for a test")


def only(measurements, *names):
    """The same with these times alone, and nothing else."""
    return Measurements({name: measurements.times_ns[name] for name in names}, origin=measurements.origin)
