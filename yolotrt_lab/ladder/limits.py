"""The speed of the hardware, measured in the same run as what is held against it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..devices.base import Device
from ..engines.base import Engine
from ..types import HostMemory

FRAME_BYTES = 1080 * 1920 * 3
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


def engine_us(device: Device, engine: Engine, contexts: int = 1, *, launches: int = 240, rounds: int = 9) -> float:
    """Microseconds a frame of the engine alone: graphs launched back to back, each context in a stream of its own."""
    graphs, streams = [], [device.stream() for _ in range(contexts)]
    held = [engine.context(device) for _ in range(contexts)]
    for context, stream in zip(held, streams, strict=True):
        context.enqueue(stream)
        stream.synchronize()
        graphs.append(device.capture(lambda c=context, s=stream: c.enqueue(s), stream))  # type: ignore[misc]
    pairs = list(zip(graphs, streams, strict=True))

    def submit() -> None:
        for number in range(launches):
            graph, stream = pairs[number % contexts]
            graph.launch(stream)

    return _median_us(device, submit, rounds) / (launches * engine.inputs[0].shape[0])


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

    return _median_us(device, submit, rounds) / copies


def _median_us(device: Device, submit: Callable[[], None], rounds: int) -> float:
    """The median over rounds of what `submit` takes, to the end of its work on the device; one is not counted."""
    times = []
    for _ in range(rounds + 1):
        device.synchronize()
        begin = device.now_ns()
        submit()
        device.synchronize()
        times.append(device.now_ns() - begin)
    return float(np.median(times[1:])) / 1e3
