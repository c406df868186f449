"""Measure a preset of the GPU at hand for the simulated device: each experiment isolates one constant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..device import Device, Stream
from ..engine import Engine
from ..loop import FrameLoop, run_in_turns
from ..recording import Recording, machine_info
from ..types import HostMemory
from .concurrency import measure_concurrency
from .copy_probe import CopyProbe, measure_copies
from .fit import LOOPS, Measurements, fit_preset
from .preset import Preset

# The experiments: each isolates one constant of a preset, but for those that only a whole frame loop shows.


_BACKLOG_NS = 5_000_000
_LONG_NS = 100_000_000
_SPIN_NS = 200_000


def calibrate(
    device: Device,
    model: str,
    engine: Engine,
    images: Sequence[np.ndarray] | None,
    *,
    name: str,
    command: str = "",
    batches: Mapping[int, Engine] | None = None,
    copies: Recording | None = None,
    loops: Mapping[str, Recording] | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Preset:
    """Measure every constant of a `Preset` on `device`; `model` is the engine's name in it, such as 'yolov8n-fp16'.

    `images` are the frames that the loops preprocess (None for an engine that computes nothing). `batches` are engines
    of the same model by batch, best for `BATCHES`; without any the simulated device runs batches frame by frame. A copy
    table and recordings of the loops (`LOOPS`) that were made before are used instead of new ones, if given. `progress`
    is told each step.
    """
    progress("host calls")
    launch_ns, wake_up_ns = _delays(device)
    single_calls = _single_calls(device)
    if copies is None:
        progress("copies")
        copies = measure_copies(device, repeats=9)
    progress("staging memory and launch queue")
    staging_bytes = _staging_bytes(device)
    depth = 1 + _submissions_until_full(device, lambda stream: device.spin(1_000, stream))
    enqueues_until_full = _submissions_until_full(device, engine.context(device).enqueue)
    if loops is None:
        progress("loops")
        loops = _run_loops(device, engine, images)
    concurrency = measure_concurrency(device, engine, batches or {}, images, progress)
    measured = Measurements(
        launch_ns=launch_ns,
        wake_up_ns=wake_up_ns,
        **single_calls,
        copies=copies,
        staging_bytes=staging_bytes,
        launch_queue_depth=depth,
        kernels=depth // max(enqueues_until_full, 1),
        input_bytes=engine.inputs[0].nbytes,
        output_bytes=sum(spec.nbytes for spec in engine.outputs),
        loops=loops,
        concurrency=concurrency,
    )
    cpu = machine_info().get("cpu", "")
    return fit_preset(measured, device.source, name=name, model=model, cpu=cpu, command=command)


def _delays(device: Device) -> tuple[int, int]:
    """How long a launch holds the host, and how long after the kernel's end a synchronize returns; medians of 200."""
    stream, times = device.stream(), []
    for _ in range(220):
        begin = device.now_ns()
        device.spin(_SPIN_NS, stream)
        launched = device.now_ns()
        stream.synchronize()
        times.append((launched - begin, device.now_ns() - launched - _SPIN_NS))
    launch_ns, wake_up_ns = np.median(times[20:], axis=0)
    return int(launch_ns), max(int(wake_up_ns), 0)


def _single_calls(device: Device) -> dict[str, int]:
    """What single calls cost when there is nothing to wait for."""
    stream, event = device.stream(), device.event()
    stream.record(event)
    stream.synchronize()

    def mean_ns(call: Callable[[], object], repeats: int = 2_000) -> int:
        call()
        begin = device.now_ns()
        for _ in range(repeats):
            call()
        return (device.now_ns() - begin) // repeats

    return {
        "synchronize_ns": mean_ns(stream.synchronize),
        "record_ns": mean_ns(lambda: stream.record(event)),
        "query_ns": mean_ns(lambda: event.done),
    }


def _staging_bytes(device: Device) -> int:
    """The largest pageable upload that returns although the stream is busy, by bisection to 16 KiB."""
    low, high = 65_536, 8 << 20
    while high - low > 16_384:
        middle = (low + high) // 2
        call_ns, _ = CopyProbe(device, HostMemory.PAGEABLE, middle).median("h2d", _BACKLOG_NS, repeats=3, discard=1)
        low, high = (middle, high) if call_ns < _BACKLOG_NS // 2 else (low, middle)
    return low


def _submissions_until_full(device: Device, submit: Callable[[Stream], None], limit: int = 5_000) -> int:
    """How often `submit` returns at once behind a kernel of 0.1 s; `limit` if it always does."""
    stream = device.stream()
    submit(stream)
    stream.synchronize()
    device.spin(_LONG_NS, stream)
    submitted = 0
    while submitted < limit:
        begin = device.now_ns()
        submit(stream)
        if device.now_ns() - begin > _LONG_NS // 10:
            break
        submitted += 1
    stream.synchronize()
    return submitted


def _run_loops(
    device: Device, engine: Engine, images: Sequence[np.ndarray] | None, *, turns: int = 6, frames: int = 200
) -> dict[str, Recording]:
    """A recording of each loop, as fast as served."""
    loops = {
        name: FrameLoop(device, engine, replace(settings, frames=frames, warmup=20), images)
        for name, settings in LOOPS.items()
    }
    return run_in_turns(loops, turns)


# Measure a preset of the GPU at hand for the simulated device. Start with `calibrate`.
