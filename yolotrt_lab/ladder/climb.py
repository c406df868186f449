"""Climbing the ladder: every rung measured in one run, with the limits of the hardware beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import prod

import numpy as np

from ..devices.base import Device
from ..engines import open_engine
from ..engines.base import Engine
from ..engines.lending import LendingEngine
from ..errors import SettingsError
from ..kernels import RESULT_WORDS
from ..loops import LoopSettings, make_loop
from ..recording import Recording
from ..threshold import confidence_for
from ..throughput import FRAME_BYTES
from ..types import Stage
from .ladder import Claim, Ladder, Step
from .limits import CHOICES, Limits, measure_limits
from .measure import figures
from .rungs import RUNGS, Rung, checked_rungs

LEAST_FRAMES = 10
"""Fewer frames are no steady state: those of a batch of four come at once."""

Progress = Callable[[str], None]
_HOST = (Stage.PREPROCESS, Stage.UPLOAD, Stage.INFER, Stage.DOWNLOAD, Stage.POSTPROCESS)


def climb(
    device: Device,
    engines: Mapping[int, Engine],
    images: Sequence[np.ndarray] | None,
    *,
    frames: int = 5_000,
    rungs: Sequence[int] = tuple(range(1, len(RUNGS) + 1)),
    alone: bool = True,
    progress: Progress = print,
) -> Ladder:
    """Measure the limits and then the chosen rungs, each with `frames` frames.

    `engines` are by batch (`open_engines`). `images` are 1080p frames, which the loops use in turn (None for an engine
    that computes nothing). `alone` also measures each rung's step by itself, with a fifth of the frames. A rung that
    breaks is a claim that fails, and the next is measured. SettingsError for a rung that there is not, and for fewer
    than `LEAST_FRAMES` frames.
    """
    chosen = checked_rungs(rungs)
    check_frames(frames)
    confidence = 0.25 if images is None else confidence_for(device, engines[1], images)
    progress("measuring the limits")
    limits = measure_limits(device, engines)
    measure = partial(_measure, device, engines, images, confidence)
    steps, broken = [], []
    for rung in chosen:
        progress(f"rung {rung.number}: {rung.name}")
        try:
            recording = measure(rung, rung.settings, frames)
            by_itself = figures(measure(rung, rung.alone, max(frames // 5, LEAST_FRAMES))) if alone else None
        except Exception as error:
            detail = f"{type(error).__name__}: {error}"
            broken.append(Claim(f"rung {rung.number}: measured to the end", 0, 1, True, detail))
            continue
        bounds = _bounds_us(limits, engines[rung.batch], rung, recording)
        steps.append(Step(rung, figures(recording), by_itself, bounds))
    return Ladder(limits, tuple(steps), device.source, confidence, claims=tuple(broken))


BATCHES = sorted({batch for batch, _ in CHOICES} | {rung.batch for rung in RUNGS})
"""Those that the ladder and its limits use."""


def open_engines(
    device: Device, progress: Progress, model: bytes | None = None, batches: Iterable[int] = BATCHES
) -> dict[int, Engine]:
    """An engine for each batch: of an ONNX `model` whose batch is open, or of YOLOv8n in FP16 with seeded weights."""
    engines: dict[int, Engine] = {}
    for batch in batches:
        progress(f"opening the engine, batch {batch}")
        engines[batch] = LendingEngine(open_engine(device, model, batch=batch))
    return engines


def check_frames(frames: int) -> None:
    """SettingsError for fewer frames than `climb` can make anything of."""
    if frames < LEAST_FRAMES:
        raise SettingsError(f"{frames} frames a rung", fix=f"use {LEAST_FRAMES} or more; figures to quote take 5,000")


def _measure(
    device: Device,
    engines: Mapping[int, Engine],
    images: Sequence[np.ndarray] | None,
    confidence: float,
    rung: Rung,
    settings: LoopSettings,
    frames: int,
) -> Recording:
    used = replace(settings, frames=frames, warmup=min(50, frames), confidence=confidence)
    return make_loop(device, engines[rung.batch], used, images).run(label=rung.name)


def _bounds_us(limits: Limits, engine: Engine, rung: Rung, recording: Recording) -> dict[str, float]:
    """What a frame asks of each resource."""
    settings, batch = rung.settings, engine.inputs[0].shape[0]
    uploaded = FRAME_BYTES if settings.gpu_letterbox else engine.inputs[0].nbytes // batch
    downloaded = 4 * RESULT_WORDS if settings.gpu_decode else prod(engine.outputs[0].shape[1:]) * 4
    steady = recording.steady
    return {
        "engine": limits.rates.get((rung.batch, settings.contexts), limits.engine_us),
        "upload": limits.upload_us * uploaded / FRAME_BYTES,
        "download": limits.download_us * downloaded / FRAME_BYTES,
        "host": float(np.mean([steady.stage_ns(stage) for stage in _HOST], axis=1).sum()) / 1e3,
    }
