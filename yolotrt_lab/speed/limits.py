"""What work takes back to back, with nothing in between that waits for the host: the engine, copies, and any other."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from ..device import Device, Graph, Stream
from ..engine import Engine
from ..recording import Recording
from ..types import HostMemory
from ..vision import Letterbox

FRAME_BYTES = 1080 * 1920 * 3


def engine_us(device: Device, engine: Engine, contexts: int = 1, *, launches: int = 240, rounds: int = 9) -> float:
    """Microseconds a frame of the engine alone: graphs launched back to back, each context in a stream of its own."""
    graphs = engine_graphs(device, engine, [device.stream() for _ in range(contexts)])

    def submit() -> None:
        for number in range(launches):
            graph, stream = graphs[number % contexts]
            graph.launch(stream)

    return median_us(device, submit, rounds) / (launches * engine.inputs[0].shape[0])


def engine_graphs(device: Device, engine: Engine, streams: Sequence[Stream]) -> list[tuple[Graph, Stream]]:
    """For each stream an inference of a context of its own as a CUDA graph, which keeps the context."""
    graphs = []
    for context, stream in [(engine.context(device), stream) for stream in streams]:
        context.enqueue(stream)  # what an engine sets up at its first inference cannot be captured
        stream.synchronize()
        graphs.append((device.capture(partial(context.enqueue, stream), stream), stream))
    return graphs


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
        begin = device.now_ns()
        submit()
        device.synchronize()
        times.append(device.now_ns() - begin)
    return float(np.median(times[1:])) / 1e3


# A threshold that leaves work for the search for boxes, whatever the weights of the network are.


def confidence_for(device: Device, engine: Engine, images: Sequence[np.ndarray], boxes: int = 20) -> float:
    """A threshold above which a frame of `images` has about that many candidates, whatever the weights are.

    With seeded weights scores mean nothing; with this threshold there is work for the search for boxes all the same.
    It lies in the middle of a gap between two scores, so that rounding moves no candidate across it.
    """
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


# One rung, measured: what a frame takes in steady state, and how long it is on its way.


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


# The speed of the hardware, measured in the same run as what is held against it.


CHOICES = ((1, 4), (1, 6), (4, 2), (4, 4), (8, 2), (16, 2))
"""Batches and contexts among which the engine's best rate is looked for."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Microseconds a frame: the engine alone, and what bounds many frames. `rates` is by (batch, contexts)."""

    engine_us: float
    upload_us: float
    download_us: float
    rates: Mapping[tuple[int, int], float]

    @property
    def best_engine_us(self) -> float:
        """A frame's share of the engine at its best rate."""
        return min(self.rates.values())

    @property
    def many_us(self) -> float:
        """For many frames: the larger of the bare upload and the engine at its best rate."""
        return max(self.upload_us, self.best_engine_us)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        rates = {f"batch {batch}, contexts {contexts}": value for (batch, contexts), value in self.rates.items()}
        own = {"engine_us": self.engine_us, "upload_us": self.upload_us, "download_us": self.download_us}
        return {**own, "rates_us": rates, "best_engine_us": self.best_engine_us, "many_us": self.many_us}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Limits:
        """From what `as_dict` gave."""
        rates = {}
        for name, value in values["rates_us"].items():
            batch, contexts = map(int, re.findall(r"\d+", name))
            rates[batch, contexts] = value
        return cls(values["engine_us"], values["upload_us"], values["download_us"], rates)


def measure_limits(
    device: Device, engines: Mapping[int, Engine], choices: Sequence[tuple[int, int]] = CHOICES, *, rounds: int = 9
) -> Limits:
    """The limits on this device, medians of `rounds` rounds; `engines` by batch, of which 1 must be there."""
    rates = {
        (batch, contexts): engine_us(device, engines[batch], contexts, rounds=rounds)
        for batch, contexts in choices
        if batch in engines
    }
    alone = engine_us(device, engines[1], 1, rounds=rounds)
    return Limits(alone, copy_us(device, "upload"), copy_us(device, "download"), {(1, 1): alone, **rates})
