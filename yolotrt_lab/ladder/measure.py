"""One rung, measured: what a frame takes in steady state, and how long it is on its way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ..devices.base import Device
from ..engines.base import Engine
from ..recording import Recording
from ..types import HostMemory

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


def confidence_for(device: Device, engine: Engine, images: Sequence[np.ndarray], boxes: int = 20) -> float:
    """A threshold above which a frame of `images` has about that many candidates, whatever the weights are.

    With seeded weights scores mean nothing; with this threshold there is work for the search for boxes all the same.
    It lies in the middle of a gap between two scores, so that rounding moves no candidate across it.
    """
    from ..vision import Letterbox

    spec, out, letterbox = engine.inputs[0], engine.outputs[0], Letterbox()
    context, stream = engine.context(device), device.stream()
    batch = device.empty_host(spec.shape, spec.dtype, HostMemory.PAGEABLE)
    output = device.empty_host(out.shape, out.dtype, HostMemory.PAGEABLE)
    scores = []
    for image in images:
        for item in batch.array:
            letterbox(image, item)
        device.upload(batch, context.buffers[spec.name], stream)
        context.enqueue(stream)
        device.download(context.buffers[out.name], output, stream)
        stream.synchronize()
        scores.append(output.array[0, 4:].astype(np.float32).max(axis=0))
    ordered = np.sort(np.concatenate(scores))[::-1]
    wanted = boxes * len(images)
    near = ordered[wanted // 2 : 2 * wanted]
    widest = int(np.argmax(near[:-1] - near[1:]))
    return float((near[widest] + near[widest + 1]) / 2)
