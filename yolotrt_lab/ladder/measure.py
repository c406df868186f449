"""One rung, measured: what a frame takes in steady state, and how long it is on its way."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from ..recording import Recording

BLOCK = 100
"""Frames of a block: a frame's time is the median over blocks, since the results of a batch come together."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Microseconds a frame in steady state, and quantiles of latency, from `frames` frames."""

    frame_us: float
    p50_us: float
    p99_us: float
    p999_us: float
    frames: int

    @property
    def frames_per_second(self) -> float:
        """What the loop sustains."""
        return 1e6 / self.frame_us

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return {**asdict(self), "frames_per_second": self.frames_per_second}


def figures(recording: Recording) -> Figures:
    """What a recording says, of its frames after the warm-up."""
    steady = recording.steady
    latency_us = steady.latency_ns / 1e3
    quantiles = np.percentile(latency_us, [50, 99, 99.9])
    return Figures(frame_us(steady), *map(float, quantiles), frames=len(steady))


def frame_us(recording: Recording) -> float:
    """The median over blocks of `BLOCK` frames of what a frame of the block takes, in microseconds."""
    done = recording.steady.columns["done_ns"]
    marks = done[:: min(BLOCK, max(len(done) - 1, 1))]
    return float(np.median(np.diff(marks))) / 1e3 / min(BLOCK, max(len(done) - 1, 1))
