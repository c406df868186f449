"""Measure a preset of the GPU at hand for the simulated device: experiments, and fits to what they recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..device import Device, HostBuffer, Stream
from ..engine import Engine
from ..loop import FrameLoop, LoopSettings, run_in_turns
from ..memory import Slot
from ..recording import Recording, machine_info
from ..types import Fill, HostMemory, SourceKind, Stage
from ..vision import HostWork
from .experiments import CopyProbe, measure_concurrency, measure_copies
from .preset import Allocation, EngineCost, PageableCopy, PinnedCopy, Preset
from .timed_engine import spin

_PINNED = LoopSettings(fill=Fill.READY, input_memory=HostMemory.PINNED)
_IN_PLACE = LoopSettings(fill=Fill.IN_PLACE, input_memory=HostMemory.PINNED)

LOOPS: dict[str, LoopSettings] = {
    "pageable": LoopSettings(fill=Fill.READY),
    "pinned": _PINNED,
    "pageable graph": LoopSettings(fill=Fill.READY, graph=True),
    "pinned graph": replace(_PINNED, graph=True),
    "fresh": LoopSettings(),
    "in place": _IN_PLACE,
    "copied": replace(_IN_PLACE, fill=Fill.COPY),
    "allocated": _IN_PLACE,
    "boxes": replace(_IN_PLACE, postprocess=True),
}
"""The loops that the constants of a frame are fitted to. 'allocated' letterboxes into new pinned memory each frame."""

_BACKLOG_NS = 5_000_000
_LONG_NS = 100_000_000
_SPIN_NS = 200_000
_GAPS = len(Stage) - 1  # between the stages of a frame, from the end of wait to that of postprocess
_LAUNCH_BOUND_NS = 10_000
_SMALL_BYTES, _SMALL_ALLOCATION_NS = 1 << 20, 3_000
_ALLOCATED = (
    "a frame's input, allocated in each frame of a loop. Small memory: an NVIDIA H200, 2026-11-30, where cudaHostAlloc "
    "took 1.6 to 3.2 us for 64 KiB to 1 MiB, and from 2.8 MB up 226 us per MB and 88 us to free it"
)


def calibrate(
    device: Device,
    model: str,
    engine: Engine,
    images: Sequence[np.ndarray] | None,
    *,
    name: str,
    command: str = "",
    batches: Mapping[int, Engine] | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Preset:
    """Measure every constant of a `Preset` on `device`; `model` is the engine's name in it, such as 'yolov8n-fp16'.

    `images` are the frames that the loops preprocess (None for an engine that reads no pixel). `batches` are engines of
    the same model by batch size, best for `BATCHES`; without them the simulated device runs a batch frame by frame.
    `progress` is called with the name of each step. What is measured on a simulated device says so in the preset's
    `derived_from`, which every figure names. It takes a minute or two on a GPU.

    >>> preset = calibrate(device, "yolov8n-fp16", engine, images, name="mine")  # doctest: +SKIP
    >>> preset.save("mine.json")  # doctest: +SKIP
    """
    progress("host calls")
    calls = _host_calls(device)
    progress("copies")
    copies = measure_copies(device, repeats=9)
    progress("staging memory and launch queue")
    staging_bytes = _staging_bytes(device)
    depth = 1 + _submissions_until_full(device, lambda stream: spin(device, 1_000, stream))
    enqueues_until_full = _submissions_until_full(device, engine.context(device).enqueue)
    progress("loops")
    fitted, cost = fit_fields(
        copies,
        run_loops(device, engine, images),
        wake_up_ns=calls["wake_up_ns"],
        record_ns=calls["record_ns"],
        staging_bytes=staging_bytes,
        input_bytes=engine.inputs[0].nbytes,
        output_bytes=sum(spec.nbytes for spec in engine.outputs),
    )
    of_engine, of_kernels = measure_concurrency(device, engine, batches or {}, images, progress)
    source, kernels = device.source, depth // max(enqueues_until_full, 1)
    simulated = source.kind is SourceKind.SIMULATED
    return Preset(
        name=name,
        gpu=source.gpu,
        driver=source.driver,
        cpu="" if simulated else machine_info().get("cpu", ""),
        date=source.date,
        command=command,
        derived_from=source.preset if simulated else "",
        launch_queue_depth=depth,
        engines={model: EngineCost(kernels=kernels, **cost, **of_engine)},
        **calls,
        **fitted,
        **of_kernels,
    )


def run_loops(
    device: Device, engine: Engine, images: Sequence[np.ndarray] | None, *, frames: int = 200, turns: int = 6
) -> dict[str, Recording]:
    """A recording of each of `LOOPS`, in `turns` of `frames` frames."""
    loops = {
        name: FrameLoop(
            device,
            engine,
            replace(settings, frames=frames, warmup=20),
            images,
            preprocess=partial(_into_new_memory, device) if name == "allocated" else None,
        )
        for name, settings in LOOPS.items()
    }
    return run_in_turns(loops, turns)


def _into_new_memory(device: Device, work: HostWork, index: int, slot: Slot) -> HostBuffer:
    array = slot.input.array
    buffer = device.empty_host(array.shape, array.dtype, HostMemory.PINNED)
    work.letterbox(index, buffer)
    return buffer


def _host_calls(device: Device) -> dict[str, Any]:
    """What single calls cost the host, and how long after a kernel's end a synchronize returns."""
    stream, event, times = device.stream(), device.event(), []
    for _ in range(220):
        begin = device.now_ns()
        spin(device, _SPIN_NS, stream)
        launched = device.now_ns()
        stream.synchronize()
        times.append((launched - begin, device.now_ns() - launched - _SPIN_NS))
    launch_ns, wake_up_ns = np.median(times[20:], axis=0)
    stream.record(event)
    stream.synchronize()

    def mean_ns(call: Callable[[], object], repeats: int = 2_000) -> int:
        call()
        begin = device.now_ns()
        for _ in range(repeats):
            call()
        return (device.now_ns() - begin) // repeats

    return {
        "launch_ns": int(launch_ns),
        "wake_up_ns": max(int(wake_up_ns), 0),
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
    spin(device, _LONG_NS, stream)
    submitted = 0
    while submitted < limit:
        begin = device.now_ns()
        submit(stream)
        if device.now_ns() - begin > _LONG_NS // 10:
            break
        submitted += 1
    stream.synchronize()
    return submitted


# From recordings to constants: lines through the copy table, differences between loops


def fit_fields(
    copies: Recording,
    loops: Mapping[str, Recording],
    *,
    wake_up_ns: int,
    record_ns: int,
    staging_bytes: int,
    input_bytes: int,
    output_bytes: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of `Preset` and those of `EngineCost` that reproduce the recordings.

    `copies` is a table of `measure_copies`; `loops` are recordings by the names in `LOOPS`, whose frames
    upload `input_bytes` and download `output_bytes`.
    """
    size, call, sync = _rows(copies, "h2d", HostMemory.PINNED, idle=True)
    smallest = size.argmin()
    submit_ns = max(int(call[smallest] + sync[smallest]) - wake_up_ns, 0)
    upload, download = (_pinned(copies, direction, submit_ns + wake_up_ns) for direction in ("h2d", "d2h"))
    means = {loop: _Means(recording, record_ns) for loop, recording in loops.items()}
    in_loop_ns = means["pageable graph"].stage_ns[Stage.UPLOAD]
    fields = {
        "pinned_upload": upload,
        "pinned_download": download,
        "pageable_upload": _pageable_upload(copies, wake_up_ns, staging_bytes, input_bytes, in_loop_ns),
        "pageable_download": _pageable_download(copies),
        "submit_ns": submit_ns,
        "range_ns": int((means["pageable"].between_ns + means["pinned"].between_ns) / 2),
        "host_work_ns": _host_work(means),
        "pinned_allocation": _allocation(means, input_bytes),
    }
    upload_ns = submit_ns + upload.fixed_ns + input_bytes / upload.rate
    download_ns = download.fixed_ns + output_bytes / download.rate + wake_up_ns
    return fields, _engine_cost(means, upload_ns, download_ns)


class _Means:
    """Mean host times of a loop's steady frames: each stage, and between two stages."""

    def __init__(self, recording: Recording, record_ns: int) -> None:
        steady = recording.steady
        self.stage_ns = {stage: float(steady.stage_ns(stage).mean()) for stage in Stage}
        frame_ns = steady.columns["done_ns"] - steady.columns["start_ns"]
        in_stages = sum(self.stage_ns.values()) - self.stage_ns[Stage.WAIT]
        self.between_ns = max((float(frame_ns.mean()) - in_stages - record_ns) / _GAPS, 0.0)

    def on_gpu_ns(self) -> float:
        """From the upload call to the end of the synchronize."""
        return self.stage_ns[Stage.UPLOAD] + self.stage_ns[Stage.INFER] + self.after_enqueue_ns() + self.between_ns

    def after_enqueue_ns(self) -> float:
        """From the return of the enqueue to the end of the synchronize."""
        return self.stage_ns[Stage.DOWNLOAD] + self.stage_ns[Stage.SYNCHRONIZE] + 2 * self.between_ns


def _engine_cost(means: Mapping[str, _Means], upload_ns: float, download_ns: float) -> dict[str, Any]:
    """The engine's cost, from loops whose pinned uploads and downloads take `upload_ns` and `download_ns`.

    What its kernels take comes from the pinned loops, where they wait for the upload in front of them. What is in front
    of the first kernel and behind the last comes from the pageable ones, where the engine meets an idle GPU.
    """
    infer_ns = {loop: mean.stage_ns[Stage.INFER] for loop, mean in means.items()}
    after_ns = {loop: mean.after_enqueue_ns() - download_ns for loop, mean in means.items()}
    gpu_ns, graph_gpu_ns = (
        int(means[loop].on_gpu_ns() - upload_ns - download_ns) for loop in ("pinned", "pinned graph")
    )
    tail_ns = max(int(after_ns["pageable"]), 1)
    # Where the GPU is done as soon after the last launch as in the pageable loop, launching is the bound there too,
    # and the kernels' own time does not show.
    launch_bound = after_ns["pinned"] < tail_ns + _LAUNCH_BOUND_NS
    return {
        "enqueue_ns": int(infer_ns["pinned"]),
        "cold_enqueue_ns": int((infer_ns["fresh"] + infer_ns["in place"]) / 2),
        "gpu_ns": graph_gpu_ns if launch_bound else gpu_ns,
        "tail_ns": tail_ns,
        "graph_launch_ns": int(infer_ns["pinned graph"]),
        "graph_submit_ns": max(int(infer_ns["pageable graph"] + after_ns["pageable graph"] - graph_gpu_ns), 0),
        "cold_graph_launch_ns": int(infer_ns["pageable graph"]),
        "graph_gpu_ns": graph_gpu_ns,
    }


def _host_work(means: Mapping[str, _Means]) -> dict[str, int]:
    preprocess = {name: loop.stage_ns[Stage.PREPROCESS] for name, loop in means.items()}
    work = {
        "letterbox": preprocess["in place"],
        "naive_letterbox": preprocess["fresh"],
        "copy_to_slot": preprocess["copied"] - preprocess["fresh"],
        "decode": means["boxes"].stage_ns[Stage.POSTPROCESS],
    }
    return {name: max(int(duration), 0) for name, duration in work.items()}


def _allocation(means: Mapping[str, _Means], nbytes: int) -> Allocation:
    """From what `nbytes` take in each frame; what small memory takes is that of an H200."""
    in_frame_ns = means["allocated"].stage_ns[Stage.PREPROCESS] - means["in place"].stage_ns[Stage.PREPROCESS]
    rate = round(nbytes / max(in_frame_ns - _SMALL_ALLOCATION_NS, 1.0), 3)
    return Allocation(_SMALL_ALLOCATION_NS, rate, _SMALL_BYTES, _ALLOCATED)


def _pinned(copies: Recording, direction: str, delays_ns: int) -> PinnedCopy:
    size, call, sync = _rows(copies, direction, HostMemory.PINNED, idle=True)
    _, busy_call, _ = _rows(copies, direction, HostMemory.PINNED, idle=False)
    offset, rate = _line(size, call + sync)
    return PinnedCopy(int(np.median(call)), int(np.median(busy_call)), max(int(offset) - delays_ns, 0), rate)


def _pageable_upload(
    copies: Recording, wake_up_ns: int, staging_bytes: int, frame_bytes: int, in_loop_ns: float
) -> PageableCopy:
    """From the copy table, but for the rate of large copies: the upload of a frame takes what it took in a loop."""
    size, call, sync = _rows(copies, "h2d", HostMemory.PAGEABLE, idle=True)
    staged = size <= staging_bytes
    staged_offset, staged_rate = _line(size[staged], call[staged])
    offset, _ = _line(size[~staged], call[~staged])
    return PageableCopy(
        call_ns=int(offset),
        rate=round(frame_bytes / (in_loop_ns - int(offset)), 3),
        tail_ns=max(int(np.median(sync[~staged])) - wake_up_ns, 0),
        staging_bytes=staging_bytes,
        staged_call_ns=int(staged_offset),
        staged_rate=staged_rate,
    )


def _pageable_download(copies: Recording) -> PageableCopy:
    size, call, _ = _rows(copies, "d2h", HostMemory.PAGEABLE, idle=True)
    offset, rate = _line(size, call)
    return PageableCopy(int(offset), rate, 0)


def _rows(copies: Recording, direction: str, memory: HostMemory, *, idle: bool) -> tuple[np.ndarray, ...]:
    """Bytes, call and synchronize (ns) of the copies behind no backlog, or of those behind one."""
    columns = copies.columns
    chosen = (columns["direction"] == direction) & (columns["host_memory"] == str(memory))
    chosen &= (columns["backlog_ns"] == 0) == idle
    return tuple(columns[name][chosen].astype(float) for name in ("bytes", "call_ns", "sync_ns"))


def _line(nbytes: np.ndarray, duration_ns: np.ndarray) -> tuple[float, float]:
    """Offset (ns, not negative) and rate (bytes/ns) of duration = offset + bytes / rate, by least relative squares."""
    slope, offset = np.polyfit(nbytes, duration_ns, 1, w=1 / duration_ns)
    if offset < 0:
        offset, slope = 0.0, np.median(duration_ns / nbytes)
    return float(offset), round(float(1 / slope), 3)
