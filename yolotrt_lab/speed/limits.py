"""What the hardware can do: the engine and the copies back to back, with nothing between them that waits for the host.

The limits are measured in the same run as the loops that are compared with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..device import Device, Stream
from ..engine import Engine, captured
from ..heads import decode
from ..recording import Recording
from ..types import HostMemory
from ..vision import Letterbox

FRAME_BYTES = 1080 * 1920 * 3
NV12_BYTES = FRAME_BYTES // 2
CHOICES = ((1, 4), (1, 6), (4, 2), (4, 4), (8, 2), (16, 2), (16, 3), (16, 4))
"""Batches and contexts among which the engine's best rate is looked for."""


def engine_us(device: Device, engine: Engine, contexts: int = 1, *, launches: int = 240, rounds: int = 9) -> float:
    """Microseconds a frame of the engine alone: graphs launched back to back, each context in a stream of its own."""
    graphs = engine_graphs(device, engine, [device.stream() for _ in range(contexts)])

    def submit() -> None:
        for number in range(launches):
            launch, stream = graphs[number % contexts]
            launch(stream)

    return median_us(device, submit, rounds) / (launches * engine.inputs[0].shape[0])


def engine_graphs(
    device: Device, engine: Engine, streams: Sequence[Stream]
) -> list[tuple[Callable[[Stream], None], Stream]]:
    """For each stream the launch of a CUDA graph, an inference of a context of its own."""
    submits = [engine.context(device).enqueue for _ in streams]
    return [(captured(device, engine, each, stream), stream) for each, stream in zip(submits, streams, strict=True)]


def copy_us(device: Device, direction: str, nbytes: int = FRAME_BYTES, *, copies: int = 100, rounds: int = 9) -> float:
    """Microseconds of a bare pinned copy ('upload' or 'download') of that size, back to back in one stream."""
    host, stream = device.empty_host((nbytes,), np.uint8, HostMemory.PINNED), device.stream()
    host.array[:] = 0
    buffer = device.empty_device(nbytes)

    def submit() -> None:
        for _ in range(copies):
            if direction == "upload":
                device.upload(host, buffer, stream)
            else:
                device.download(buffer, host, stream)

    return median_us(device, submit, rounds) / copies


def median_us(device: Device, submit: Callable[[], None], rounds: int) -> float:
    """The median over rounds of what `submit` takes, to the end of its work on the device; one is not counted."""
    times = []
    for _ in range(rounds + 1):
        device.synchronize()
        start = device.now_ns()
        submit()
        device.synchronize()
        times.append(device.now_ns() - start)
    return float(np.median(times[1:])) / 1e3


@dataclass(frozen=True, slots=True)
class Limits:
    """Microseconds a frame: the engine alone, and what bounds many frames.

    >>> limits = Limits(409.0, 116.0, 115.0, {"batch 1, contexts 1": 409.0, "batch 16, contexts 2": 79.0}, 59.0)
    >>> limits.many_us, limits.many_nv12_us
    (116.0, 79.0)
    """

    engine_us: float
    """Of the engine alone, one frame at a time."""
    upload_us: float
    """Of a bare pinned upload of a 1080p frame."""
    download_us: float
    rates_us: Mapping[str, float]
    """A frame's share of the engine by batch and contexts, such as 'batch 4, contexts 2'."""
    nv12_upload_us: float
    """Of a bare pinned upload of a 1080p frame in NV12."""

    @property
    def best_engine_us(self) -> float:
        """A frame's share of the engine at its best rate."""
        return min(self.rates_us.values())

    @property
    def many_us(self) -> float:
        """For many frames in BGR: the larger of the bare upload and the engine at its best rate."""
        return max(self.upload_us, self.best_engine_us)

    @property
    def many_nv12_us(self) -> float:
        """The same in NV12."""
        return max(self.nv12_upload_us, self.best_engine_us)


def measure_limits(device: Device, engines: Mapping[int, Engine]) -> Limits:
    """The limits on this device; `engines` by batch, of which 1 must be there.

    >>> from yolotrt_lab import open_device, open_engine
    >>> device = open_device("simulated")
    >>> limits = measure_limits(device, {1: open_engine(device)})
    >>> round(limits.engine_us, -2), round(limits.many_us, -2)
    (400.0, 200.0)
    """
    rates_us = {
        f"batch {batch}, contexts {contexts}": engine_us(device, engines[batch], contexts)
        for batch, contexts in ((1, 1), *CHOICES)
        if batch in engines
    }
    copies_us = (copy_us(device, "upload"), copy_us(device, "download"))
    return Limits(rates_us["batch 1, contexts 1"], *copies_us, rates_us, copy_us(device, "upload", NV12_BYTES))


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of a loop in steady state: microseconds a frame, and quantiles of its latency in us."""

    frame_us: float
    p50_us: float
    p99_us: float
    p999_us: float
    frames: int
    """How many frames were measured."""

    @property
    def frames_per_second(self) -> float:
        """What the loop sustains."""
        return 1e6 / self.frame_us


def figures(recording: Recording) -> Figures:
    """What a recording says, of its frames after the warm-up."""
    steady = recording.steady
    done = steady.columns["done_ns"]
    batch = int(recording.settings.get("batch", 1))  # whose results come together: blocks of batches are timed
    block = max(min(100, len(done) - 1) // batch * batch, 1)
    frame_us = float(np.median(np.diff(done[::block]))) / 1e3 / block
    p50_us, p99_us, p999_us = map(float, np.percentile(steady.latency_ns / 1e3, [50, 99, 99.9]))
    return Figures(frame_us, p50_us, p99_us, p999_us, len(done))


def confidence_for(device: Device, engine: Engine, images: Sequence[np.ndarray], boxes: int = 20) -> float:
    """A threshold above which a frame of `images` has about so many candidates, whatever the weights are.

    With seeded weights scores mean nothing; with this threshold there is work for the search for boxes all the same.
    It lies in the middle of a gap between two scores, so that rounding moves no candidate across it.
    """
    spec, letterbox, end2end = engine.inputs[0], Letterbox(), engine.describe().end2end
    batch = np.empty(spec.shape, spec.dtype)
    scores = []
    for image in images:
        for item in batch:
            letterbox(image, item)
        output = engine.infer(device, {spec.name: batch})[engine.outputs[0].name]
        scores.append(output[0, :, 4] if end2end else output[0, 4:].max(axis=0))
        decode(output[:1], end2end=end2end, classes=())  # refuses what is none of boxes
    ordered = np.sort(np.concatenate(scores).astype(np.float32))[::-1]
    wanted = boxes * len(images)
    near = ordered[wanted // 2 : 2 * wanted]
    widest = int(np.argmax(near[:-1] - near[1:]))
    return float((near[widest] + near[widest + 1]) / 2)
