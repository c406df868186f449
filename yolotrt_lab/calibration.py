"""Measure a preset: the constants of the simulated device, on the GPU at hand, in under a minute.

Each constant comes from an experiment that isolates it; what belongs to a frame loop (engine, upload of its input,
host work) is measured inside a loop, because neighbours in time change it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from .copies import DIRECTIONS, CopyProbe, measure_copies
from .devices.base import Device, Stream
from .devices.preset import EngineCost, PageableCopy, PinnedCopy, Preset
from .engines.base import Engine
from .loops import FrameLoop, LoopSettings
from .pixels import Fill
from .recording import Recording, machine_info
from .types import HostMemory, Stage

_BACKLOG_NS = 5_000_000
_LONG_NS = 100_000_000
_SPIN_NS = 200_000
_STAGES = [stage for stage in Stage if stage is not Stage.WAIT]


def calibrate(
    device: Device,
    engines: dict[str, Engine],
    images: Sequence[np.ndarray],
    *,
    name: str,
    command: str = "",
    progress: Callable[[str], None] = lambda step: None,
) -> Preset:
    """Measure every constant of a `Preset`. `engines` are by the name the preset is to give them ('yolov8n-fp16').

    `images` are the frames that the loops preprocess. `progress` is told each step.
    """
    progress("host calls")
    calls = _host_calls(device)
    progress("copies")
    copies = measure_copies(device, repeats=9)
    progress("staging memory")
    staging_bytes = _staging_bytes(device)
    progress("launch queue")
    depth = 1 + _submissions_until_full(device, lambda stream: device.spin(1_000, stream))
    source = device.source
    preset = Preset(
        name=name,
        gpu=source.gpu,
        driver=source.driver,
        cpu=machine_info().get("cpu", ""),
        date=datetime.now(UTC).date().isoformat(),
        command=command,
        **_fit_copies(copies, staging_bytes, calls),
        **calls,
        range_ns=0,
        launch_queue_depth=depth,
    )
    for model, engine in engines.items():
        progress(f"loops with {model}")
        preset = _with_loops(preset, device, model, engine, images)
    return preset


def _mean_ns(device: Device, call: Callable[[], Any], repeats: int = 2_000) -> int:
    call()
    begin = device.now_ns()
    for _ in range(repeats):
        call()
    return (device.now_ns() - begin) // repeats


def _host_calls(device: Device) -> dict[str, int]:
    """What single calls cost on an idle stream, and the two delays around a kernel of known length."""
    stream, event = device.stream(), device.event()

    def spin_and_wait() -> int:
        begin = device.now_ns()
        device.spin(_SPIN_NS, stream)
        launched = device.now_ns()
        stream.synchronize()
        return_trips.append((launched - begin, device.now_ns() - begin - _SPIN_NS))
        return 0

    return_trips: list[tuple[int, int]] = []
    _mean_ns(device, spin_and_wait, 200)
    launch_ns, around_ns = (int(value) for value in np.median(return_trips, axis=0))
    stream.record(event)
    stream.synchronize()
    return {
        "launch_ns": launch_ns,
        "submit_ns": min(launch_ns, around_ns),
        "wake_up_ns": max(around_ns - launch_ns, 0),
        "synchronize_ns": _mean_ns(device, stream.synchronize),
        "record_ns": _mean_ns(device, lambda: stream.record(event)),
        "query_ns": _mean_ns(device, lambda: event.done),
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


def _fit_copies(copies: Recording, staging_bytes: int, calls: dict[str, int]) -> dict[str, Any]:
    """The four kinds of copy from the copy table."""
    delays_ns = calls["submit_ns"] + calls["wake_up_ns"]
    fits: dict[str, Any] = {}
    for direction, name in zip(DIRECTIONS, ("upload", "download"), strict=True):
        size, call, sync = _rows(copies, direction, HostMemory.PINNED, idle=True)
        _, busy_call, _ = _rows(copies, direction, HostMemory.PINNED, idle=False)
        offset, rate = _line(size, call + sync)
        fits[f"pinned_{name}"] = PinnedCopy(
            int(np.median(call)), int(np.median(busy_call)), max(int(offset) - delays_ns, 0), rate
        )
    size, call, sync = _rows(copies, "h2d", HostMemory.PAGEABLE, idle=True)
    staged = size <= staging_bytes
    offset, rate = _line(size[~staged], call[~staged])
    staged_offset, staged_rate = _line(size[staged], call[staged])
    tail = max(int(np.median(sync[~staged])) - calls["wake_up_ns"], 0)
    fits["pageable_upload"] = PageableCopy(int(offset), rate, tail, staging_bytes, int(staged_offset), staged_rate)
    size, call, _ = _rows(copies, "d2h", HostMemory.PAGEABLE, idle=True)
    offset, rate = _line(size, call)
    fits["pageable_download"] = PageableCopy(int(offset), rate, 0)
    return fits


def _rows(copies: Recording, direction: str, memory: HostMemory, *, idle: bool) -> tuple[np.ndarray, ...]:
    columns = copies.columns
    chosen = (columns["direction"] == direction) & (columns["host_memory"] == memory)
    chosen &= (columns["backlog_ns"] == 0) == idle
    return tuple(columns[name][chosen].astype(float) for name in ("bytes", "call_ns", "sync_ns"))


def _line(nbytes: np.ndarray, duration_ns: np.ndarray) -> tuple[float, float]:
    """Offset (ns, not negative) and rate (bytes/ns) of duration = offset + bytes / rate, by least relative squares."""
    slope, offset = np.polyfit(nbytes, duration_ns, 1, w=1 / duration_ns)
    if offset < 0:
        offset, slope = 0.0, np.median(duration_ns / nbytes)
    return float(offset), round(float(1 / slope), 3)


def _with_loops(preset: Preset, device: Device, model: str, engine: Engine, images: Sequence[np.ndarray]) -> Preset:
    """The preset with what loops of this engine measure: the engine, the upload of its input, the host's work."""

    def means(**settings: Any) -> dict[Stage | str, float]:
        values = LoopSettings(**{"frames": 400, "warmup": 100, **settings})
        recording = FrameLoop(device, engine, values, images).run().steady
        result: dict[Stage | str, float] = {s: float(recording.stage_ns(s).mean()) for s in _STAGES}
        busy = recording.columns["done_ns"] - recording.columns["start_ns"]
        result["between"] = (float(busy.mean()) - sum(result[s] for s in _STAGES)) / len(_STAGES)
        return result

    pinned = {"input_memory": HostMemory.PINNED, "fill": Fill.IN_PLACE}
    plain = means(**pinned, postprocess=True)
    graph = means(**pinned, graph=True)
    pageable = means(fill=Fill.IN_PLACE)
    fresh = means()
    copied = means(**{**pinned, "fill": Fill.COPY})
    allocated = means(**{**pinned, "fill": Fill.ALLOCATE, "frames": 100})
    download_ns = preset.pinned_download.fixed_ns + engine.outputs[0].nbytes / preset.pinned_download.rate
    upload_ns = preset.pinned_upload.fixed_ns + engine.inputs[0].nbytes / preset.pinned_upload.rate
    waited_ns = graph[Stage.INFER] + graph[Stage.DOWNLOAD] + graph[Stage.SYNCHRONIZE]
    graph_gpu_ns = int(waited_ns - upload_ns - download_ns - preset.wake_up_ns)
    cost = EngineCost(
        enqueue_ns=int(plain[Stage.INFER]),
        gpu_ns=graph_gpu_ns,
        tail_ns=max(int(plain[Stage.DOWNLOAD] + plain[Stage.SYNCHRONIZE] - download_ns - preset.wake_up_ns), 1),
        graph_launch_ns=int(graph[Stage.INFER]),
        graph_gpu_ns=graph_gpu_ns,
        kernels=preset.launch_queue_depth // max(_submissions_until_full(device, engine.context(device).enqueue), 1),
    )
    host_work = {
        "letterbox": int(plain[Stage.PREPROCESS]),
        "naive_letterbox": int(fresh[Stage.PREPROCESS]),
        "copy_to_slot": int(copied[Stage.PREPROCESS] - fresh[Stage.PREPROCESS]),
        "allocate_pinned": int(allocated[Stage.PREPROCESS] - plain[Stage.PREPROCESS]),
        "decode": int(plain[Stage.POSTPROCESS]),
    }
    upload = preset.pageable_upload
    rate = engine.inputs[0].nbytes / (pageable[Stage.UPLOAD] - upload.call_ns)
    return replace(
        preset,
        pageable_upload=replace(upload, rate=round(rate, 3)),
        range_ns=int(plain["between"]),
        engines={**preset.engines, model: cost},
        host_work_ns={**preset.host_work_ns, **host_work},
    )
