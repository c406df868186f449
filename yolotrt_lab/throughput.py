"""What work takes back to back, with nothing in between that waits for the host: the engine, copies, and any other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from .devices.base import Device, Graph, Stream
from .engines.base import Engine
from .types import HostMemory

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
