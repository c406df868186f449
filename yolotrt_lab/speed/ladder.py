"""The rungs: each is one setting more than the one below it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..device import Device, open_device
from ..engine import Engine, LendingEngine, open_engine
from ..errors import SettingsError
from ..loop import LoopSettings, make_loop
from ..packages import shipped_file
from ..recording import Recording
from ..simulate.simulated import SimulatedDevice
from ..tables import Table
from ..types import HostMemory, Source, Span, Stage
from ..vision import Fill
from .kernels import RESULT_WORDS
from .limits import (
    CHOICES,
    FRAME_BYTES,
    Figures,
    Limits,
    confidence_for,
    figures,
    measure_limits,
)

NAIVE = LoopSettings(postprocess=True)
"""A fresh pageable array each frame, the engine enqueued call by call, a synchronize each frame, boxes on the host."""

_PINNED = replace(NAIVE, input_memory=HostMemory.PINNED, fill=Fill.IN_PLACE)
_GRAPH = replace(_PINNED, graph=True)
_OVERLAP = replace(_GRAPH, overlap=True, collect_after=1)
_LETTERBOX = replace(_OVERLAP, gpu_letterbox=True, fill=Fill.READY)
_DECODE = replace(_LETTERBOX, gpu_decode=True)
_CONTEXTS = replace(_DECODE, overlap=False, contexts=6, collect_after=5)
_BATCHES = replace(_DECODE, overlap=False, contexts=4, collect_after=3)
_CALLS = replace(_PINNED, fill=Fill.READY)


@dataclass(frozen=True, slots=True)
class Rung:
    """One step. `settings` has all the steps below it too, `alone` this step with no more of them than it needs."""

    number: int
    name: str
    adds: str
    settings: LoopSettings
    alone: LoopSettings
    batch: int = 1


RUNGS = (
    Rung(1, "naive", "fresh pageable arrays, a synchronize each frame", NAIVE, NAIVE),
    Rung(2, "pinned", "a pool of pinned memory, filled in place", _PINNED, _PINNED),
    Rung(3, "graph", "the engine as a CUDA graph", _GRAPH, replace(NAIVE, graph=True)),
    Rung(
        4,
        "overlap",
        "uploads and downloads in streams of their own, results by events",
        _OVERLAP,
        replace(_OVERLAP, graph=False),
    ),
    Rung(
        5, "letterbox", "preprocessing on the GPU, of the uint8 frame", _LETTERBOX, replace(_CALLS, gpu_letterbox=True)
    ),
    Rung(6, "decode", "boxes found on the GPU, nothing else downloaded", _DECODE, replace(_PINNED, gpu_decode=True)),
    Rung(
        7,
        "contexts",
        "several execution contexts at once",
        _CONTEXTS,
        replace(_PINNED, contexts=6, collect_after=5),
    ),
    Rung(8, "batches", "frames that are there anyway go together", _BATCHES, _PINNED, batch=4),
)


def checked_rungs(numbers: Sequence[int]) -> list[Rung]:
    """The rungs of those numbers, in order; SettingsError for one that there is not."""
    if missing := sorted(set(numbers) - {rung.number for rung in RUNGS}):
        raise SettingsError(f"no rung {missing[0]}", fix=f"use 1 to {len(RUNGS)}")
    return [rung for rung in RUNGS if rung.number in numbers]


# The ladder of one run: limits, steps and claims, as tables for reading and as JSON for keeping.


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

    @classmethod
    def load(cls, path: str | Path) -> Ladder:
        """From what `yolotrt-lab bench --json` wrote; SettingsError where a file is none of it.

        A ladder that was measured live is a recording then, and says so.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(
                Limits.from_dict(values["limits"]),
                tuple(_step(step) for step in values["rungs"]),
                Source.read_back(values["source"]),
                values["confidence"],
                values["peers"],
                tuple(_claim(claim) for claim in values["claims"]),
            )
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise SettingsError(
                f"{path} holds no ladder: {error}", fix="make one: yolotrt-lab bench --json FILE"
            ) from error

    @classmethod
    def shipped(cls) -> Ladder:
        """The one that comes with the lab, measured on a real GPU."""
        return cls.load(shipped_file("ladders", "bench.json"))

    def gains(self) -> dict[int, float]:
        """How many times faster each measured rung is than the measured one before it, by the rung's number."""
        return {
            step.rung.number: before.together.frame_us / step.together.frame_us for before, step in pairwise(self.steps)
        }

    def table(self) -> Table:
        """A row a rung, with its gain over the one before and the fraction of the limit that it reaches."""
        header = ["rung", "us a frame", "frames/s", "of limit", "gain", "alone us", "p50 us", "p99 us", "p99.9 us"]
        rows, gains = [], self.gains()
        for step in self.steps:
            made, rung = step.together, step.rung
            many = rung.settings.contexts > 1 or rung.batch > 1
            limit_us = self.limits.many_us if many else self.limits.engine_us
            row = [f"{rung.number} {rung.name}", f"{made.frame_us:,.1f}", f"{made.frames_per_second:,.0f}"]
            row += [f"{limit_us / made.frame_us:.0%}", f"x{gains[rung.number]:.2f}" if rung.number in gains else ""]
            row += [f"{step.alone.frame_us:,.0f}" if step.alone else ""]
            rows.append([*row, *(f"{each:,.0f}" for each in (made.p50_us, made.p99_us, made.p999_us)), step.bound])
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


def side_by_side(*ladders: Ladder) -> Table:
    """For each rung what a frame takes in each of the ladders, and the rung's gain there over the one before it."""
    header, columns = ["rung"], [[f"{rung.number} {rung.name}" for rung in RUNGS]]
    for each in ladders:
        kind, found = each.source.kind, {step.rung.number: step.together.frame_us for step in each.steps}
        header += [f"{kind}, us a frame", "gain"]
        columns.append([f"{found[rung.number]:,.1f}" if rung.number in found else "" for rung in RUNGS])
        gains = each.gains()
        columns.append([f"x{gains[rung.number]:.2f}" if rung.number in gains else "" for rung in RUNGS])
    return Table(header, list(zip(*columns, strict=True)), *(each.source for each in ladders))


def _step(values: Mapping[str, Any]) -> Step:
    (rung,) = checked_rungs([values["rung"]])
    alone = values["alone"] and _figures(values["alone"])
    return Step(rung, _figures(values["together"]), alone, values["bounds_us"])


def _figures(values: Mapping[str, Any]) -> Figures:
    return Figures(**{field.name: values[field.name] for field in fields(Figures)})


def _claim(values: Mapping[str, Any]) -> Claim:
    return Claim(values["name"], values["value"], values["limit"], values["relation"] == ">=", values["detail"])


# Climbing the ladder: every rung measured in one run, with the limits of the hardware beside it.


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


# What the host and the GPU do in a rung, as the simulated device has it.


def trace_rung(number: int, *, preset: str | Path = "h200", frames: int = 4) -> tuple[list[Span], Source]:
    """The spans of `frames` frames in steady state, cut where the window begins and ends, and where they come from.

    SettingsError for a rung that there is not.
    """
    (rung,) = checked_rungs([number])
    device = open_device("simulated", preset=preset, trace=True)
    assert isinstance(device, SimulatedDevice)
    in_flight = (rung.settings.collect_after + 1) * rung.batch
    settled = 12 * in_flight
    engine = open_engine(device, batch=rung.batch)
    settings = replace(rung.settings, frames=settled + frames + 3 * in_flight, warmup=0)
    done = make_loop(device, engine, settings).run().columns["done_ns"]
    begin, end = int(done[settled]), int(done[settled + frames])
    cut = [
        span._replace(start_ns=max(span.start_ns, begin), end_ns=min(span.end_ns, end))
        for span in device.spans
        if span.end_ns > begin and span.start_ns < end
    ]
    return cut, device.source


# The ladder: from the naive loop to the speed of the hardware, rung by rung, measured beside the hardware's limits.
#
# `climb` measures every rung, `measure_claims` and `result_claims` what is claimed of them.
