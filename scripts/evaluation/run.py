"""A detector over held-out frames: its scores, and all that is needed to measure them again."""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from yolotrt_lab.detector.detect import Detector, open_detector
from yolotrt_lab.detector.scene import SyntheticScene
from yolotrt_lab.errors import LabError, SettingsError
from yolotrt_lab.packages import shipped_model
from yolotrt_lab.recording import machine_info
from yolotrt_lab.tables import Table

from .held_out import HELD_OUT_SEED, held_out_frames
from .scores import SIZES, load_scorer, score_boxes

CONFIDENCE = 0.001
"""The confidence above which a box counts in an evaluation: average precision needs the weak ones too."""
HEADER = ("", "objects", "mAP50", "mAP50-95")


def evaluate(
    detector: Detector,
    *,
    frames: int = 2_000,
    seed: int = HELD_OUT_SEED,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """The scores of `detector`, opened with the confidence 0.001, on held-out frames, as JSON takes them.

    They are `overall`, `by_size` and `by_class` (see `score_boxes`), below the conditions: `engine`, `runs_on`,
    `frames`, `seed`, `settings` (of `heads.decode`), `scorer`, `machine` and `date`. `progress` is called with the
    number of frames done. SettingsError if the detector does not know the parts of the scene, if its confidence is
    higher, or for no frames; MissingPackageError without faster-coco-eval.
    """
    names = SyntheticScene.names
    if detector.names != names or detector.settings["confidence"] > CONFIDENCE:
        raise SettingsError(
            f"the detector must know the classes {', '.join(names)}, with a confidence of {CONFIDENCE} at most, "
            f"got {', '.join(detector.names) or 'no names'} and {detector.settings['confidence']}",
            fix=f"use open_detector(model, confidence={CONFIDENCE}) with a model whose metadata name these classes",
        )
    load_scorer()  # fail before the work, not after it
    truth, found = [], []
    for frame, true in held_out_frames(frames, seed):
        truth.append(true)
        found.append(detector(frame))
        if progress is not None:
            progress(len(found))
    machine, device = machine_info(), detector.device
    return {
        "engine": detector.engine.label,
        "runs_on": machine["cpu"] if device is None else f"{device.source.gpu}, driver {device.source.driver}",
        "frames": frames,
        "seed": seed,
        "settings": detector.settings,
        "scorer": f"faster-coco-eval {version('faster-coco-eval')}",
        "machine": machine,
        "date": datetime.now(UTC).date().isoformat(),
        **score_boxes(truth, found, names),
    }


def rows(evaluation: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """A row of `HEADER` for all boxes, for those of each size and for those of each class."""
    yield "all", *cells(evaluation["overall"])
    for size, score in evaluation["by_size"].items():
        yield f"{size} ({SIZES[size]})", *cells(score)
    for name, score in evaluation["by_class"].items():
        yield name, *cells(score)


def cells(score: dict[str, Any]) -> tuple[str, ...]:
    """Objects, mAP50 and mAP50-95; a dash if there is no object."""
    precisions = (score["map50"], score["map50_95"])
    return f"{score['objects']:,}", *("-" if value is None else f"{value:.4f}" for value in precisions)


def main(words: Sequence[str]) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.evaluation", description=__doc__)
    parser.add_argument("model", nargs="?", type=Path, metavar="MODEL", help="an ONNX file (default: the lab's own)")
    parser.add_argument("--frames", type=int, default=2_000, help="default: 2000")
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED, help="of the first scene (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    parser.add_argument("--engine", choices=["auto", "tensorrt", "onnxruntime"], default="auto", help="default: auto")
    given = parser.parse_args(words)

    def progress(done: int) -> None:
        print(f"\r{done} of {given.frames} frames", end="", file=sys.stderr, flush=True)

    try:
        model = given.model or shipped_model()
        detector = open_detector(model, engine=given.engine, confidence=CONFIDENCE)
        shown = progress if sys.stderr.isatty() else None
        result = evaluate(detector, frames=given.frames, seed=given.seed, progress=shown)
    except LabError as error:
        print(error, file=sys.stderr)
        return 2
    if given.json:
        command = shlex.join(["python", "-m", "scripts.evaluation", *words])
        about = {"model": model.name, "sha256": hashlib.sha256(model.read_bytes()).hexdigest(), "command": command}
        print(json.dumps({**about, **result}, indent=2))
    else:
        print(f"{model}\n{Table(HEADER, list(rows(result)))}")
        print(f"{result['frames']} frames of the synthetic scene, seeds from {result['seed']} on")
        print(f"by {result['engine']} on {result['runs_on']}, {result['date']}")
    return 0
