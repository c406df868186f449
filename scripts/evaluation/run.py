"""A detector over held-out frames, and what came of it, with all that is needed to make it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from scripts.evaluation.held_out import HELD_OUT_SEED, held_out_frames
from scripts.evaluation.scores import SIZES, Score, Scores, load_scorer, score_boxes
from yolotrt_lab.detector.detect import Detector
from yolotrt_lab.detector.scene import SyntheticScene
from yolotrt_lab.errors import SettingsError
from yolotrt_lab.recording import machine_info
from yolotrt_lab.tables import Table

CONFIDENCE = 0.001
"""Above which a box counts in an evaluation: average precision wants the weak ones too."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The scores of a detector, and the `conditions` under which they were measured.

    Those are `engine`, `runs_on`, `frames`, `seed`, `settings` (of `vision.decode`), `machine`, `scorer` and `date`.
    """

    scores: Scores
    conditions: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the conditions, `overall`, `by_size` and `by_class`."""
        parts = {name: getattr(self.scores, name) for name in ("by_size", "by_class")}
        scores = {part: {name: score.as_dict() for name, score in each.items()} for part, each in parts.items()}
        return {**self.conditions, "overall": self.scores.overall.as_dict(), **scores}

    @property
    def table(self) -> Table:
        """A row for all, for each size and for each class."""
        scores = {"all": self.scores.overall}
        scores |= {f"{size}, {SIZES[size]}": score for size, score in self.scores.by_size.items()}
        scores |= self.scores.by_class
        return Table(["", "objects", "mAP50", "mAP50-95"], [_row(name, score) for name, score in scores.items()])

    def __str__(self) -> str:
        given = self.conditions
        line = f"{given['frames']} frames of the synthetic scene, seeds from {given['seed']} on"
        return f"{self.table}\n{line}\nby {given['engine']} on {given['runs_on']}, {given['date']}"


def evaluate(
    detector: Detector,
    *,
    frames: int = 2_000,
    seed: int = HELD_OUT_SEED,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Run `detector`, opened with the confidence 0.001, over held-out frames and score its boxes.

    `progress` is called with the number of frames done. SettingsError where the detector is not made for the parts of
    the scene, where its confidence is higher, or for no frames; MissingPackageError without faster-coco-eval.
    """
    names = SyntheticScene.names
    if detector.names != names or detector.settings["confidence"] > CONFIDENCE:
        raise SettingsError(
            f"a detector of {', '.join(detector.names) or 'classes without names'}, above a confidence of "
            f"{detector.settings['confidence']}, can't be evaluated on the synthetic scene",
            fix=f"use open_detector(model, confidence={CONFIDENCE}) with a model whose metadata name the classes "
            f"{', '.join(names)}",
        )
    load_scorer()  # a missing package is told before the work, not after it
    truth, found = [], []
    for frame, true in held_out_frames(frames, seed):
        truth.append(true)
        found.append(detector(frame))
        if progress is not None:
            progress(len(found))
    return Evaluation(score_boxes(truth, found, names), _conditions(detector, frames, seed))


def _row(name: str, score: Score) -> list[str]:
    return [name, f"{score.objects:,}", *(f"{value:.4f}" for value in (score.map50, score.map50_95))]


def _conditions(detector: Detector, frames: int, seed: int) -> dict[str, Any]:
    machine = machine_info()
    device = detector.device
    return {
        "engine": detector.engine.label,
        "runs_on": machine["cpu"] if device is None else f"{device.source.gpu}, driver {device.source.driver}",
        "frames": frames,
        "seed": seed,
        "settings": detector.settings,
        "scorer": f"faster-coco-eval {version('faster-coco-eval')}",
        "machine": machine,
        "date": datetime.now(UTC).date().isoformat(),
    }
