"""Measurements made up for tests: a loop with given stages, in milliseconds, and 2 % noise unless told otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from yolotrt_lab.diagnose.measured import Measured

STAGES = {"preprocess": 0.7, "upload": 0.3, "infer": 0.006, "download": 0.006, "synchronize": 0.5, "postprocess": 0.0}
PROCESSES = "gpu_processes"
STEADY = {"sm_clock_mhz": 1980.0, PROCESSES: 0.0, "host_memory_bytes": 4e8, "temperature_c": 40.0}
PINNED = STAGES | {"upload": 0.005}


def ramp(frames, low, high):
    return np.linspace(low, high, frames)


def step(frames, low, high, at=0.5):
    return np.where(np.arange(frames) < at * frames, low, high)


def loop(frames=1_000, *, period_ms=None, telemetry=None, memory=None, noise=0.02, seed=0, **stages):
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
    instants = {"due": due, "start": start, "done": done}
    return Measured("frames", "a test", times, instants, known, memory or {}, origin="made up for a test")


def only(measured, *names):
    """The same with these times alone, and nothing else."""
    times = {name: measured.times_ns[name] for name in names}
    return replace(measured, times_ns=times, instants_ns={}, telemetry={}, memory={})


def start_and_end(memory=None, **times):
    """Two rows: the levels at the start and at the end, in ms."""
    series = {name: np.array(pair) * 1e6 for name, pair in times.items()}
    return Measured("frames", "a test", series, memory=memory or {}, origin="made up for a test")
