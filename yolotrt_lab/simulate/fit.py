"""From measurements to the constants of a preset: lines through the copy table, differences between loops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..loop import LoopSettings
from ..recording import Recording
from ..types import HostMemory, Source, Stage
from ..vision import Fill
from .concurrency import Concurrency
from .preset import EngineCost, PageableCopy, PinnedCopy, Preset

_PAGEABLE = LoopSettings(fill=Fill.READY)
_PINNED = LoopSettings(fill=Fill.READY, input_memory=HostMemory.PINNED)
_IN_PLACE = LoopSettings(fill=Fill.IN_PLACE, input_memory=HostMemory.PINNED)

LOOPS: dict[str, LoopSettings] = {
    "pageable": _PAGEABLE,
    "pinned": _PINNED,
    "pageable graph": LoopSettings(fill=Fill.READY, graph=True),
    "pinned graph": LoopSettings(fill=Fill.READY, input_memory=HostMemory.PINNED, graph=True),
    "fresh": LoopSettings(),
    "in place": _IN_PLACE,
    "copied": LoopSettings(fill=Fill.COPY, input_memory=HostMemory.PINNED),
    "allocated": LoopSettings(fill=Fill.ALLOCATE, input_memory=HostMemory.PINNED),
    "boxes": LoopSettings(fill=Fill.IN_PLACE, input_memory=HostMemory.PINNED, postprocess=True),
}
"""The loops that the constants of a frame come from, by the names that `Measurements.loops` has them under."""

_GAPS = len(Stage) - 1  # between the stages of a frame, from the end of wait to that of postprocess
_LAUNCH_BOUND_NS = 10_000


@dataclass(frozen=True, slots=True)
class Measurements:
    """What a preset is made of; nanoseconds, bytes, and the copy table and loops as recordings."""

    launch_ns: int
    wake_up_ns: int
    synchronize_ns: int
    record_ns: int
    query_ns: int
    copies: Recording
    staging_bytes: int
    launch_queue_depth: int
    kernels: int
    input_bytes: int
    output_bytes: int
    loops: Mapping[str, Recording]
    concurrency: Concurrency = field(default_factory=Concurrency)


def fit_preset(measured: Measurements, source: Source, *, name: str, model: str, cpu: str, command: str) -> Preset:
    """The preset that reproduces the measurements; `source` says on what they were made."""
    size, call, sync = _rows(measured.copies, "h2d", HostMemory.PINNED, idle=True)
    smallest = size.argmin()
    submit_ns = max(int(call[smallest] + sync[smallest]) - measured.wake_up_ns, 0)
    delays_ns = submit_ns + measured.wake_up_ns
    upload, download = (_pinned(measured.copies, direction, delays_ns) for direction in ("h2d", "d2h"))
    means = {loop: _Means(recording, measured.record_ns) for loop, recording in measured.loops.items()}
    pageable_upload = _pageable_upload(measured, means["pageable graph"].stage_ns[Stage.UPLOAD])
    upload_ns = submit_ns + upload.fixed_ns + measured.input_bytes / upload.rate
    download_ns = download.fixed_ns + measured.output_bytes / download.rate + measured.wake_up_ns
    cost = _engine_cost(means, upload_ns, download_ns, measured.kernels)
    at_once = measured.concurrency
    return Preset(
        name=name,
        gpu=source.gpu,
        driver=source.driver,
        cpu=cpu,
        date=source.date,
        command=command,
        pinned_upload=upload,
        pinned_download=download,
        pageable_upload=pageable_upload,
        pageable_download=_pageable_download(measured.copies),
        launch_ns=measured.launch_ns,
        submit_ns=submit_ns,
        wake_up_ns=measured.wake_up_ns,
        synchronize_ns=measured.synchronize_ns,
        record_ns=measured.record_ns,
        query_ns=measured.query_ns,
        range_ns=int((means["pageable"].between_ns + means["pinned"].between_ns) / 2),
        launch_queue_depth=measured.launch_queue_depth,
        engines={model: replace(cost, **at_once.of_engine)},
        host_work_ns=_host_work(means),
        kernel_ns=at_once.kernel_ns,
        kernel_sharing=at_once.kernel_sharing,
    )


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
        calls = (Stage.UPLOAD, Stage.INFER, Stage.DOWNLOAD, Stage.SYNCHRONIZE)
        return sum(self.stage_ns[stage] for stage in calls) + 3 * self.between_ns

    def after_enqueue_ns(self) -> float:
        """From the return of the enqueue to the end of the synchronize."""
        return self.stage_ns[Stage.DOWNLOAD] + self.stage_ns[Stage.SYNCHRONIZE] + 2 * self.between_ns


def _engine_cost(means: Mapping[str, _Means], upload_ns: float, download_ns: float, kernels: int) -> EngineCost:
    """What the engine costs, in loops whose uploads and downloads take `upload_ns` and `download_ns`.

    From the pinned loops what its kernels take: there they wait for the upload in front of them. From the pageable ones
    what is in front of the first kernel and behind the last: there the GPU is idle when the engine is submitted.
    """

    def kernels_ns(loop: str) -> int:
        return int(means[loop].on_gpu_ns() - upload_ns - download_ns)

    def enqueue_ns(*loops: str) -> int:
        return int(np.mean([means[loop].stage_ns[Stage.INFER] for loop in loops]))

    tail_ns = max(int(means["pageable"].after_enqueue_ns() - download_ns), 1)
    # Where the GPU is done as soon after the last launch as in the pageable loop, launching is the bound there too,
    # and the kernels' own time does not show.
    launch_bound = means["pinned"].after_enqueue_ns() - download_ns < tail_ns + _LAUNCH_BOUND_NS
    graph_gpu_ns = kernels_ns("pinned graph")
    from_launch_ns = means["pageable graph"].stage_ns[Stage.INFER] + means["pageable graph"].after_enqueue_ns()
    graph_submit_ns = from_launch_ns - graph_gpu_ns - download_ns
    return EngineCost(
        enqueue_ns=enqueue_ns("pinned"),
        cold_enqueue_ns=enqueue_ns("fresh", "in place"),
        gpu_ns=graph_gpu_ns if launch_bound else kernels_ns("pinned"),
        tail_ns=tail_ns,
        graph_launch_ns=enqueue_ns("pinned graph"),
        graph_submit_ns=max(int(graph_submit_ns), 0),
        cold_graph_launch_ns=enqueue_ns("pageable graph"),
        graph_gpu_ns=graph_gpu_ns,
        kernels=kernels,
    )


def _host_work(means: Mapping[str, _Means]) -> dict[str, int]:
    preprocess = {name: loop.stage_ns[Stage.PREPROCESS] for name, loop in means.items()}
    work = {
        "letterbox": preprocess["in place"],
        "naive_letterbox": preprocess["fresh"],
        "copy_to_slot": preprocess["copied"] - preprocess["fresh"],
        "allocate_pinned": preprocess["allocated"] - preprocess["in place"],
        "decode": means["boxes"].stage_ns[Stage.POSTPROCESS],
    }
    return {name: max(int(duration), 0) for name, duration in work.items()}


def _pinned(copies: Recording, direction: str, delays_ns: int) -> PinnedCopy:
    size, call, sync = _rows(copies, direction, HostMemory.PINNED, idle=True)
    _, busy_call, _ = _rows(copies, direction, HostMemory.PINNED, idle=False)
    offset, rate = _line(size, call + sync)
    return PinnedCopy(int(np.median(call)), int(np.median(busy_call)), max(int(offset) - delays_ns, 0), rate)


def _pageable_upload(measured: Measurements, in_loop_ns: float) -> PageableCopy:
    """From the copy table, but for the rate of large copies: a frame of a loop takes what it took in the loop."""
    size, call, sync = _rows(measured.copies, "h2d", HostMemory.PAGEABLE, idle=True)
    staged = size <= measured.staging_bytes
    staged_offset, staged_rate = _line(size[staged], call[staged])
    offset, _ = _line(size[~staged], call[~staged])
    return PageableCopy(
        call_ns=int(offset),
        rate=round(measured.input_bytes / (in_loop_ns - int(offset)), 3),
        tail_ns=max(int(np.median(sync[~staged])) - measured.wake_up_ns, 0),
        staging_bytes=measured.staging_bytes,
        staged_call_ns=int(staged_offset),
        staged_rate=staged_rate,
    )


def _pageable_download(copies: Recording) -> PageableCopy:
    size, call, _ = _rows(copies, "d2h", HostMemory.PAGEABLE, idle=True)
    offset, rate = _line(size, call)
    return PageableCopy(int(offset), rate, 0)


def _rows(copies: Recording, direction: str, memory: HostMemory, *, idle: bool) -> tuple[np.ndarray, ...]:
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
