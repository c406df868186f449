"""What work takes back to back, with nothing in between that waits for the host: the engine, copies, and any other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .devices.base import Device
from .engines.base import Engine
from .types import HostMemory

FRAME_BYTES = 1080 * 1920 * 3


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

    return median_us(device, submit, rounds) / (launches * engine.inputs[0].shape[0])


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
