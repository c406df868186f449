"""Climbing the ladder: every rung measured in one run, with the limits of the hardware beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from ..tables import Table
from ..types import Source, Stage
from .limits import CHOICES, FRAME_BYTES, Limits, measure_limits
from .measure import Figures, confidence_for, figures
from .rungs import RUNGS, Rung

Progress = Callable[[str], None]
_HOST = (Stage.PREPROCESS, Stage.UPLOAD, Stage.INFER, Stage.DOWNLOAD, Stage.POSTPROCESS)


@dataclass(frozen=True, slots=True)
class Step:
    """What was measured of a rung. `bounds_us` is what a frame asks of each resource, in microseconds.

    For the engine and the copies that is at their limits in this run; 'host' is what the host's calls and its work on
    pixels took in this loop, a call that waits for the GPU among them.
    """

    rung: Rung
    together: Figures
    alone: Figures | None
    bounds_us: Mapping[str, float]

    @property
    def bound(self) -> str:
        """The resource that a frame asks most of."""
        return max(self.bounds_us, key=lambda name: self.bounds_us[name])


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim and what was measured: it holds where `value` is at most `limit` (or at least, with `at_least`)."""

    name: str
    value: float
    limit: float
    at_least: bool = False
    detail: str = ""

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return bool(self.value >= self.limit if self.at_least else self.value <= self.limit)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "name": self.name,
            "value": self.value,
            "limit": self.limit,
            "relation": ">=" if self.at_least else "<=",
            "holds": self.holds,
            "detail": self.detail,
        }


@dataclass(frozen=True, slots=True)
class Ladder:
    """The ladder of one run. `peers` maps each to microseconds a frame, or to the reason why it took no part."""

    limits: Limits
    steps: tuple[Step, ...]
    source: Source
    confidence: float
    peers: Mapping[str, float | str] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "source": self.source.as_dict(),
            "confidence": self.confidence,
            "limits": self.limits.as_dict(),
            "rungs": [
                {
                    "rung": step.rung.number,
                    "name": step.rung.name,
                    "adds": step.rung.adds,
                    "together": step.together.as_dict(),
                    "alone": step.alone and step.alone.as_dict(),
                    "bounds_us": dict(step.bounds_us),
                    "bound": step.bound,
                }
                for step in self.steps
            ],
            "peers": dict(self.peers),
            "claims": [claim.as_dict() for claim in self.claims],
        }

    def table(self) -> Table:
        """A row a rung, with its gain over the one before and the fraction of the limit that it reaches."""
        header = ["rung", "us a frame", "frames/s", "of limit", "gain", "alone us", "p50 us", "p99 us", "p99.9 us"]
        rows, before = [], None
        for step in self.steps:
            made, rung = step.together, step.rung
            many = rung.settings.contexts > 1 or rung.batch > 1
            limit_us = self.limits.many_us if many else self.limits.engine_us
            row = [f"{rung.number} {rung.name}", f"{made.frame_us:,.1f}", f"{made.frames_per_second:,.0f}"]
            row += [f"{limit_us / made.frame_us:.0%}", f"x{before / made.frame_us:.2f}" if before else ""]
            row += [f"{step.alone.frame_us:,.0f}" if step.alone else ""]
            rows.append([*row, *(f"{each:,.0f}" for each in (made.p50_us, made.p99_us, made.p999_us)), step.bound])
            before = made.frame_us
        return Table([*header, "bound"], rows, self.source)

    def limits_table(self) -> Table:
        """The limits, and what the peers took."""
        limits = self.limits
        rows = [
            ["engine alone, one frame at a time", f"{limits.engine_us:,.1f}"],
            ["pinned upload of a 1080p frame", f"{limits.upload_us:,.1f}"],
            ["engine at its best rate", f"{limits.best_engine_us:,.1f}"],
            ["limit for many frames", f"{limits.many_us:,.1f}"],
        ]
        rows += [[f"peer: {name}", f"{us:,.0f}" if isinstance(us, float) else us] for name, us in self.peers.items()]
        return Table(["limit", "us a frame"], rows, self.source)

    def claims_table(self) -> Table:
        """What was claimed, what was measured, and whether it holds."""
        rows = []
        for each in self.claims:
            limit = f"{'>=' if each.at_least else '<='} {each.limit:.4g}"
            verdict = "holds" if each.holds else "FAILS"
            rows.append([each.name, f"{each.value:.4g}", limit, verdict, each.detail])
        return Table(["claim", "measured", "limit", "", ""], rows, self.source)


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
    breaks is a claim that fails, and the next is measured. SettingsError for a rung that there is not.
    """
    chosen = checked_rungs(rungs)
    confidence = 0.25 if images is None else confidence_for(device, engines[1], images)
    progress("measuring the limits")
    limits = measure_limits(device, engines)
    measure = partial(_measure, device, engines, images, confidence)
    steps, broken = [], []
    for rung in chosen:
        progress(f"rung {rung.number}: {rung.name}")
        try:
            recording = measure(rung, rung.settings, frames)
            by_itself = figures(measure(rung, rung.alone, max(frames // 5, 10))) if alone else None
        except Exception as error:
            detail = f"{type(error).__name__}: {error}"
            broken.append(Claim(f"rung {rung.number}: measured to the end", 0, 1, True, detail))
            continue
        bounds = _bounds_us(limits, engines[rung.batch], rung, recording)
        steps.append(Step(rung, figures(recording), by_itself, bounds))
    return Ladder(limits, tuple(steps), device.source, confidence, claims=tuple(broken))


def checked_rungs(numbers: Sequence[int]) -> list[Rung]:
    """The rungs of those numbers, in order; SettingsError for one that there is not."""
    if missing := sorted(set(numbers) - {rung.number for rung in RUNGS}):
        raise SettingsError(f"no rung {missing[0]}", fix=f"use 1 to {len(RUNGS)}")
    return [rung for rung in RUNGS if rung.number in numbers]


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
