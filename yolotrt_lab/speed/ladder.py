"""The ladder: nine rungs from the naive one to the speed of the hardware, each one step faster than the one below it.

`climb` measures every rung in one run, with the limits of the hardware beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..device import Device
from ..engine import Engine, LendingEngine, open_engine
from ..errors import SettingsError
from ..files import write_file
from ..loop import LoopSettings
from ..packages import shipped_file
from ..recording import Recording
from ..tables import Table
from ..types import Fill, HostMemory, Pixels, Source, Stage
from .kernels import RESULT, bgr_to_nv12
from .limits import CHOICES, FRAME_BYTES, Figures, Limits, confidence_for, figures, measure_limits
from .overlap import OverlapSettings

LEAST_FRAMES = 10
"""Fewer frames are no steady state."""
_HOST = (Stage.PREPROCESS, Stage.UPLOAD, Stage.INFER, Stage.DOWNLOAD, Stage.POSTPROCESS)

_T = TypeVar("_T")
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of the ladder."""

    number: int
    name: str
    adds: str
    settings: LoopSettings
    """This step and all below it."""
    alone: LoopSettings
    """This step with no more of the others than it needs."""
    batch: int
    """How many frames the engine takes at once."""

    @property
    def label(self) -> str:
        """Its number and name."""
        return f"{self.number} {self.name}"

    def frames(self, images: Sequence[np.ndarray] | None) -> Sequence[np.ndarray] | None:
        """The BGR `images` as this rung gets its frames."""
        planar = isinstance(self.settings, OverlapSettings) and self.settings.pixels.planar
        return [bgr_to_nv12(image) for image in images] if images is not None and planar else images


_COPIED = {"input_memory": HostMemory.PINNED, "fill": Fill.COPY}
_PINNED = {"input_memory": HostMemory.PINNED, "fill": Fill.IN_PLACE}
_OVERLAP = {"overlap": True, "collect_after": 1}
_LETTERBOX = {"gpu_letterbox": True, "fill": Fill.READY}
_DECODE = {"gpu_decode": True}
_CONTEXTS = {"overlap": False, "contexts": 6, "collect_after": 5}
_PLANES = {"pixels": Pixels.NV12, "deadline_us": 2_000.0}  # in which a batch of sixteen comes together
_NV12 = {**_PLANES, "contexts": 3, "collect_after": 2}  # a fourth context brings no rate, and a third more latency
# Name, what the step adds, the settings that it changes, its settings alone, and the batch of its engine.
_STEPS: tuple[tuple[str, str, dict[str, Any], dict[str, Any], int], ...] = (
    ("naive", "fresh pageable arrays, a synchronize each frame", {}, {}, 1),
    ("pinned, in place", "a pool of pinned memory, filled in place", _PINNED, _PINNED, 1),
    ("graph", "the engine as a CUDA graph", {"graph": True}, {"graph": True}, 1),
    ("overlap", "uploads and downloads in streams of their own, results by events", _OVERLAP, _PINNED | _OVERLAP, 1),
    ("letterbox", "preprocessing on the GPU, of the uint8 frame", _LETTERBOX, _PINNED | _LETTERBOX, 1),
    ("decode", "boxes found on the GPU, nothing else downloaded", _DECODE, _PINNED | _DECODE, 1),
    ("contexts", "several execution contexts at once", _CONTEXTS, _PINNED | _CONTEXTS, 1),
    ("batches", "frames that are there anyway go together", {"contexts": 4, "collect_after": 3}, _PINNED, 4),
    ("nv12", "frames as decoders and cameras deliver them, by sixteen", _NV12, _PINNED | _LETTERBOX | _PLANES, 16),
)


def _rungs() -> Iterator[Rung]:
    settings: dict[str, Any] = {"postprocess": True}
    for number, (name, adds, changes, alone, batch) in enumerate(_STEPS, 1):
        kind = LoopSettings if number < 4 else OverlapSettings
        settings = settings | changes
        yield Rung(number, name, adds, kind(**settings), kind(postprocess=True, **alone), batch)


RUNGS = tuple(_rungs())
_ADDS = "a fresh array, copied into a pool of pinned memory"
_COPY = LoopSettings(postprocess=True, **_COPIED)  # type: ignore[arg-type]
LINES = (RUNGS[0], Rung(2, "pinned, copied", _ADDS, _COPY, _COPY, 1), *RUNGS[1:])
"""The rungs as they are measured: of rung 2 first pinned memory alone, then filled in place."""
BATCHES = sorted({batch for batch, _ in CHOICES} | {rung.batch for rung in RUNGS})
"""The batches of the engines that the ladder and its limits use."""


def checked_rungs(numbers: Sequence[int]) -> list[Rung]:
    """The lines of the rungs of those numbers, in order; SettingsError for a number that no rung has.

    >>> [rung.label for rung in checked_rungs([6, 2])]
    ['2 pinned, copied', '2 pinned, in place', '6 decode']
    """
    if missing := sorted(set(numbers) - {rung.number for rung in RUNGS}):
        raise SettingsError(f"a rung must be 1 to {len(RUNGS)}, got {missing[0]}", fix="name rungs that there are")
    return [rung for rung in LINES if rung.number in numbers]


def check_frames(frames: int) -> None:
    """SettingsError for fewer frames than `LEAST_FRAMES`."""
    if frames < LEAST_FRAMES:
        raise SettingsError(f"frames must be {LEAST_FRAMES} or more, got {frames}", fix="figures to quote take 5,000")


@dataclass(frozen=True, slots=True)
class Step:
    """What was measured of a rung."""

    rung: Rung
    together: Figures
    """With all the steps below it."""
    alone: Figures
    """Without them."""
    bounds_us: Mapping[str, float]
    """What a frame asks of each resource: of the engine and the copies at their limits in this run; 'host' is what its
    calls and its work on pixels took in this loop, a call that waits for the GPU among them."""

    @property
    def bound(self) -> str:
        """The resource that a frame asks most of."""
        return max(self.bounds_us, key=lambda name: self.bounds_us[name])

    @property
    def limit_us(self) -> float:
        """What a frame asks of that resource: the least that this rung can take."""
        return self.bounds_us[self.bound]

    def __str__(self) -> str:
        bound = f"{self.bound} {self.limit_us:,.0f} us"
        return f"{self.rung.label}: {self.together.frame_us:,.0f} us a frame, bound by the {bound}"

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        rung, measured = self.rung, {"together": _as_json(self.together), "alone": _as_json(self.alone)}
        named = {"rung": rung.number, "name": rung.name, "adds": rung.adds}
        return {**named, **measured, "bounds_us": dict(self.bounds_us), "bound": self.bound}


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim and what was measured of it."""

    name: str
    value: float
    limit: float
    relation: str = "<="
    """'<=' where the value must be the limit at most, '>=' where it must be the limit at least."""
    detail: str = ""

    @property
    def holds(self) -> bool:
        """Whether the value keeps the limit."""
        return bool(self.value >= self.limit if self.relation == ">=" else self.value <= self.limit)


@dataclass(frozen=True, slots=True)
class Ladder:
    """The ladder of one run: the limits, and what was measured of each rung.

    >>> ladder = Ladder.shipped()
    >>> first, *_, last = ladder.steps
    >>> first.together.frame_us > 20 * last.together.frame_us > 20 * ladder.limits.best_engine_us
    True
    >>> print(ladder.source.stamp)  # doctest: +ELLIPSIS
    recorded on NVIDIA H200, driver ...
    """

    limits: Limits
    steps: tuple[Step, ...]
    source: Source
    confidence: float
    """The threshold of the boxes."""
    peers: Mapping[str, float | str] = field(default_factory=dict)
    """Other packages: microseconds a frame of each, or the reason why it took no part."""
    claims: tuple[Claim, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "source": self.source.as_dict(),
            "confidence": self.confidence,
            "limits": _as_json(self.limits),
            "rungs": [step.as_dict() for step in self.steps],
            "peers": dict(self.peers),
            "claims": [_as_json(claim) for claim in self.claims],
        }

    def save(self, path: str | Path, *, command: str = "") -> None:
        """Write JSON for `load`, with the command that measured it. SettingsError where the file cannot be written."""
        write_file(path, json.dumps({**self.as_dict(), "command": command}, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Ladder:
        """From a file that `save` wrote; SettingsError for any other.

        A ladder that was measured live is a recording then, and says so.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(
                _read(Limits, values["limits"]),
                tuple(_step(step) for step in values["rungs"]),
                Source.read_back(values["source"]),
                values["confidence"],
                values["peers"],
                tuple(_read(Claim, claim) for claim in values["claims"]),
            )
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            fix = "write one: yolotrt-lab bench --json FILE"
            raise SettingsError(f"{path} holds no ladder: {error}", fix=fix) from error

    @classmethod
    def shipped(cls) -> Ladder:
        """The one that comes with the lab, measured on a real GPU."""
        return cls.load(shipped_file("ladders", "bench.json"))

    def gains(self) -> dict[str, float]:
        """How many times faster each measured line is than the measured one before it, by `Rung.label`."""
        frame_us = [(step.rung.label, step.together.frame_us) for step in self.steps]
        return {label: before_us / us for (_, before_us), (label, us) in pairwise(frame_us)}

    def table(self) -> Table:
        """A row a line, with its gain over the one before; its limit is what it asks of the resource that bounds it."""
        header = ["rung", "us a frame", "frames/s", "gain", "limit us", "bound", "alone us"]
        rows, gains = [], self.gains()
        for step in self.steps:
            found, label = step.together, step.rung.label
            row = [label, f"{found.frame_us:,.1f}", f"{found.frames_per_second:,.0f}"]
            row += [f"x{gains[label]:.2f}" if label in gains else "", f"{step.limit_us:,.1f}", step.bound]
            rows.append(
                [*row, *(f"{us:,.0f}" for us in (step.alone.frame_us, found.p50_us, found.p99_us, found.p999_us))]
            )
        return Table([*header, "p50 us", "p99 us", "p99.9 us"], rows, self.source)

    def limits_table(self) -> Table:
        """The limits, and what the peers took, those that could not be measured left out."""
        measured = {
            "engine alone, one frame at a time": self.limits.engine_us,
            "pinned upload of a 1080p frame": self.limits.upload_us,
            "the same in NV12": self.limits.nv12_upload_us,
            "engine at its best rate": self.limits.best_engine_us,
            **{f"peer: {name}": us for name, us in self.peers.items() if not isinstance(us, str)},
        }
        rows = [[name, f"{us:,.1f}"] for name, us in measured.items()]
        return Table(["limit", "us a frame"], rows, self.source)

    def claims_table(self) -> Table:
        """What was claimed, what was measured, and whether it holds."""
        rows = []
        for each in self.claims:
            verdict = "holds" if each.holds else "FAILS"
            rows.append([each.name, f"{each.value:.4g}", f"{each.relation} {each.limit:.4g}", verdict, each.detail])
        return Table(["claim", "measured", "limit", "", ""], rows, self.source)


def _as_json(value: Any) -> dict[str, Any]:
    """The fields and the properties of a dataclass."""
    properties = [name for name, each in vars(type(value)).items() if isinstance(each, property)]
    return {**asdict(value), **{name: getattr(value, name) for name in properties}}


def _read(kind: type[_T], values: Mapping[str, Any]) -> _T:
    """A dataclass from JSON, which may have more in it."""
    return kind(**{each.name: values[each.name] for each in fields(kind) if each.name in values})  # type: ignore[arg-type]


def _step(values: Mapping[str, Any]) -> Step:
    [rung] = [line for line in checked_rungs([values["rung"]]) if line.name == values["name"]]
    return Step(rung, _read(Figures, values["together"]), _read(Figures, values["alone"]), values["bounds_us"])


def side_by_side(*ladders: Ladder) -> Table:
    """For each line what a frame takes in each of the ladders, and the line's gain there over the one before it.

    >>> print(str(side_by_side(Ladder.shipped())).splitlines()[0])
    rung                recorded, us a frame  gain
    """
    header, columns = ["rung"], [[rung.label for rung in LINES]]
    for each in ladders:
        found, gains = {step.rung.label: step.together.frame_us for step in each.steps}, each.gains()
        header += [f"{each.source.kind}, us a frame", "gain"]
        columns.append([f"{found[rung.label]:,.1f}" if rung.label in found else "" for rung in LINES])
        columns.append([f"x{gains[rung.label]:.2f}" if rung.label in gains else "" for rung in LINES])
    return Table(header, list(zip(*columns, strict=True)), *(each.source for each in ladders))


def open_engines(
    device: Device, progress: Progress, model: bytes | None = None, batches: Iterable[int] = BATCHES
) -> dict[int, Engine]:
    """An engine for each batch: of an ONNX `model` whose batch is open, or of YOLOv8n in FP16 with seeded weights.

    >>> from yolotrt_lab import open_device
    >>> engines = open_engines(open_device("simulated"), print, batches=[1, 4])
    opening the engine, batch 1
    opening the engine, batch 4
    """
    engines: dict[int, Engine] = {}
    for batch in batches:
        progress(f"opening the engine, batch {batch}")
        engines[batch] = LendingEngine(open_engine(device, model, batch=batch))
    return engines


def climb(
    device: Device,
    engines: Mapping[int, Engine],
    images: Sequence[np.ndarray] | None,
    *,
    frames: int = 5_000,
    rungs: Sequence[int] = tuple(range(1, len(RUNGS) + 1)),
    progress: Progress = print,
) -> Ladder:
    """Measure the limits and then the chosen rungs, each with `frames` frames.

    `engines` are by batch (`open_engines`). `images` are 1080p frames, which the loops use in turn (None for an engine
    that computes nothing). Each rung's step is also measured alone, with a fifth of the frames. A rung that breaks is a
    claim that fails, and the next is measured. SettingsError for a rung that there is not, and for too few frames;
    ModelError for engines whose output is none of boxes.

    >>> from yolotrt_lab import open_device
    >>> device = open_device("simulated")
    >>> engines = open_engines(device, lambda _: None, batches=[1])
    >>> ladder = climb(device, engines, None, frames=20, rungs=[1, 2], progress=lambda _: None)
    >>> [step.bound for step in ladder.steps]
    ['host', 'host', 'host']
    """
    chosen = checked_rungs(rungs)
    check_frames(frames)
    for engine in engines.values():
        engine.describe()
    confidence = 0.25 if images is None else confidence_for(device, engines[1], images)
    progress("measuring the limits")
    limits = measure_limits(device, engines)

    def measure(rung: Rung, settings: LoopSettings, frames: int) -> Recording:
        frames = max(frames, 4 * rung.batch * (settings.collect_after + 1))  # fewer are no steady state
        used = replace(settings, frames=frames, warmup=min(50, frames), confidence=confidence)
        return used.loop(device, engines[rung.batch], rung.frames(images)).run(label=rung.name)

    steps, broken = [], []
    for rung in chosen:
        progress(f"rung {rung.label}")
        try:
            recording = measure(rung, rung.settings, frames)
            alone = figures(measure(rung, rung.alone, max(frames // 5, LEAST_FRAMES)))
        except Exception as error:
            detail = f"{type(error).__name__}: {error}"
            broken.append(Claim(f"rung {rung.label}: measured to the end", 0, 1, ">=", detail))
        else:
            bounds_us = _bounds_us(limits, engines[rung.batch], rung, recording)
            steps.append(Step(rung, figures(recording), alone, bounds_us))
    return Ladder(limits, tuple(steps), device.source, confidence, claims=tuple(broken))


def _bounds_us(limits: Limits, engine: Engine, rung: Rung, recording: Recording) -> dict[str, float]:
    """What a frame asks of each resource."""
    settings = asdict(rung.settings)
    frames_us = limits.upload_us
    if settings.get("pixels") is Pixels.NV12:
        frames_us = limits.nv12_upload_us
    elif not settings.get("gpu_letterbox"):
        frames_us *= engine.inputs[0].nbytes / rung.batch / FRAME_BYTES
    downloaded = RESULT.itemsize if settings.get("gpu_decode") else prod(engine.outputs[0].shape[1:]) * 4
    steady = recording.steady
    return {
        "engine": limits.rates_us.get(f"batch {rung.batch}, contexts {settings.get('contexts', 1)}", limits.engine_us),
        "upload": frames_us,
        "download": limits.download_us * downloaded / FRAME_BYTES,
        "host": float(np.mean([steady.stage_ns(stage) for stage in _HOST], axis=1).sum()) / 1e3,
    }
