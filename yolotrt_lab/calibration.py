"""Measure a preset: the constants of the simulated device, on the GPU at hand, in under a minute.

Each constant comes from an experiment that isolates it; what belongs to a frame loop (engine, upload of its input,
host work) is measured inside a loop, because neighbours in time change it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
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
_LAUNCH_BOUND_NS = 10_000
_STAGES = tuple(Stage)
_RANGES = len(Stage) + 1  # those of the stages, and the one around the frame


def calibrate(
    device: Device,
    engines: dict[str, Engine],
    images: Sequence[np.ndarray] | None,
    *,
    name: str,
    command: str = "",
    progress: Callable[[str], None] = lambda step: None,
) -> Preset:
    """Measure every constant of a `Preset`. `engines` are by the name the preset is to give them ('yolov8n-fp16').

    `images` are the frames that the loops preprocess (None for engines that compute nothing). `progress` is told each
    step.
    """
    progress("host calls")
    calls: dict[str, Any] = _host_calls(device)
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
        **calls,
        **_fit_copies(copies, staging_bytes, calls),
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


def _with_loops(
    preset: Preset, device: Device, model: str, engine: Engine, images: Sequence[np.ndarray] | None
) -> Preset:
    """The preset with what loops of this engine measure: the engine, the upload of its input, the host's work."""
    means = _loop_means(device, engine, images, preset.record_ns)
    return replace(
        preset,
        pageable_upload=_anchored(preset.pageable_upload, engine.inputs[0].nbytes, means["pageable"][Stage.UPLOAD]),
        range_ns=int((means["pageable"]["between"] + means["pinned"]["between"]) / 2),
        engines={**preset.engines, model: _engine_cost(preset, device, engine, means)},
        host_work_ns={**preset.host_work_ns, **_host_work(means)},
    )


_LOOPS: dict[str, dict[str, Any]] = {
    "pageable": {"fill": Fill.READY},
    "pinned": {"fill": Fill.READY, "input_memory": HostMemory.PINNED},
    "pageable graph": {"fill": Fill.READY, "graph": True},
    "pinned graph": {"fill": Fill.READY, "input_memory": HostMemory.PINNED, "graph": True},
    "in place": {"fill": Fill.IN_PLACE, "input_memory": HostMemory.PINNED, "postprocess": True},
    "fresh": {"fill": Fill.FRESH},
    "copied": {"fill": Fill.COPY, "input_memory": HostMemory.PINNED},
    "allocated": {"fill": Fill.ALLOCATE, "input_memory": HostMemory.PINNED},
}


def _loop_means(
    device: Device,
    engine: Engine,
    images: Sequence[np.ndarray] | None,
    record_ns: int,
    *,
    rounds: int = 3,
    frames: int = 400,
) -> dict[str, dict[str, float]]:
    """Mean nanoseconds of each stage, and of the time between two stages, in every loop.

    The loops take turns for some rounds, so that a machine whose speed drifts does not favour one of them.
    """
    rows: dict[str, list[list[float]]] = {name: [] for name in _LOOPS}
    for _, (name, settings) in product(range(rounds), _LOOPS.items()):
        loop = FrameLoop(device, engine, LoopSettings(frames=frames, **settings), images)
        recording = loop.run().steady
        stages = [float(recording.stage_ns(stage).mean()) for stage in _STAGES]
        frame_ns = float(np.diff(recording.columns["done_ns"]).mean())
        rows[name].append([*stages, (frame_ns - sum(stages) - record_ns) / _RANGES])
    names = [*_STAGES, "between"]
    return {name: dict(zip(names, np.mean(values, axis=0), strict=True)) for name, values in rows.items()}


def _anchored(upload: PageableCopy, nbytes: int, measured_ns: float) -> PageableCopy:
    """The pageable upload at the rate that takes `measured_ns` for the bytes of a frame, as it does in a loop."""
    return replace(upload, rate=round(float(nbytes / (measured_ns - upload.call_ns)), 3))


def _engine_cost(
    preset: Preset, device: Device, engine: Engine, means: Mapping[str, Mapping[str, float]]
) -> EngineCost:
    """From the pinned loops what the GPU needs, from the pageable ones how long it runs on after the last launch."""
    upload_ns = preset.submit_ns + preset.pinned_upload.fixed_ns + engine.inputs[0].nbytes / preset.pinned_upload.rate
    output_bytes = sum(spec.nbytes for spec in engine.outputs)
    download_ns = preset.pinned_download.fixed_ns + output_bytes / preset.pinned_download.rate + preset.wake_up_ns

    def on_gpu_ns(name: str) -> int:
        loop = means[name]
        calls = (Stage.UPLOAD, Stage.INFER, Stage.DOWNLOAD, Stage.SYNCHRONIZE)
        return int(sum(loop[stage] for stage in calls) + 3 * loop["between"] - upload_ns - download_ns)

    def after_enqueue_ns(name: str) -> int:
        loop = means[name]
        return int(loop["between"] * 2 + loop[Stage.DOWNLOAD] + loop[Stage.SYNCHRONIZE] - download_ns)

    graph_gpu_ns, tail_ns = on_gpu_ns("pinned graph"), max(after_enqueue_ns("pageable"), 1)
    # Where the GPU is done as soon after the last launch as in the pageable loop, launching is the bound there too,
    # and the kernels' own time does not show.
    launch_bound = after_enqueue_ns("pinned") < tail_ns + _LAUNCH_BOUND_NS
    full_after = _submissions_until_full(device, engine.context(device).enqueue)
    return EngineCost(
        enqueue_ns=int(means["pinned"][Stage.INFER]),
        cold_enqueue_ns=int(means["pageable"][Stage.INFER]),
        gpu_ns=graph_gpu_ns if launch_bound else on_gpu_ns("pinned"),
        tail_ns=tail_ns,
        graph_launch_ns=int(means["pinned graph"][Stage.INFER]),
        cold_graph_launch_ns=int(means["pageable graph"][Stage.INFER]),
        graph_gpu_ns=graph_gpu_ns,
        kernels=preset.launch_queue_depth // max(full_after, 1),
    )


def _host_work(means: Mapping[str, Mapping[str, float]]) -> dict[str, int]:
    preprocess = {name: loop[Stage.PREPROCESS] for name, loop in means.items()}
    work = {
        "letterbox": preprocess["in place"],
        "naive_letterbox": preprocess["fresh"],
        "copy_to_slot": preprocess["copied"] - preprocess["fresh"],
        "allocate_pinned": preprocess["allocated"] - preprocess["in place"],
        "decode": means["in place"][Stage.POSTPROCESS],
    }
    return {name: max(int(duration), 0) for name, duration in work.items()}
