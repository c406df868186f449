"""The card of the lab's own detector: all that it says comes from files, and those are of one model."""

import hashlib
import json
from pathlib import Path

import pytest

from scripts.make_card import card as card_of
from yolotrt_lab.detector.yolov8 import build_model
from yolotrt_lab.errors import SettingsError

ROOT = Path(__file__).parents[2]
MODEL = build_model("n", classes=2, precision="fp16", image_size=(64, 96), names=("nut", "bolt"))
SCORE = {"objects": 1234, "map50": 0.91234, "map50_95": 0.71}
EVALUATION = {
    "sha256": hashlib.sha256(MODEL).hexdigest(),
    "command": "python -m scripts.evaluation --json",
    "engine": "TensorRT-RTX 1, fp16",
    "runs_on": "GPU X",
    "frames": 2000,
    "seed": 77,
    "scorer": "scorer 2",
    "date": "2026-01-02",
    "overall": SCORE,
    "by_size": {"small": SCORE | {"map50": 0.5}, "medium": SCORE, "large": SCORE},
    "by_class": {"nut": SCORE, "bolt": {"objects": 0, "map50": None, "map50_95": None}},
}


def write(folder, evaluations):
    (folder / "lab-yolov8n.onnx").write_bytes(MODEL)
    training = {"minutes": 8.0, "loss": [3, 2, 1], "scenes": {"first_seed": 5, "rate": 0.00212346}}
    for part, content in (("training", training), ("evaluation", evaluations)):
        (folder / f"lab-yolov8n.{part}.json").write_text(json.dumps(content), encoding="utf-8")


def test_the_card_says_what_the_files_hold(tmp_path):
    write(tmp_path, [EVALUATION, EVALUATION | {"engine": "ONNX Runtime 3", "frames": 300}])
    card = card_of(tmp_path)
    for line in (
        "| all | 1,234 | 0.9123 | 0.7100 |",
        "| small (area up to 32 x 32 px) | 1,234 | 0.5000 | 0.7100 |",
        "| bolt | 0 | - | - |",
        "| TensorRT-RTX 1, fp16 | GPU X | 2,000 | 1,234 | 0.9123 | 0.7100 |",
        "| ONNX Runtime 3 | GPU X | 300 | 1,234 | 0.9123 | 0.7100 |",
        "| minutes | 8 |",
        "| scenes, first seed | 5 |",
        "| scenes, rate | 0.0021235 |",
        "| classes | nut, bolt |",
        "| input | `images` (batch, 3, 64, 96), RGB from 0 to 1, letterboxed |",
    ):
        assert line in card.splitlines()
    assert f"{len(MODEL):,} bytes, SHA-256 `{EVALUATION['sha256']}`" in card
    assert "On 2,000 held-out frames, of the scenes with the seeds from 77 on" in card
    assert "loss" not in card


def test_an_evaluation_of_another_model_is_refused(tmp_path):
    write(tmp_path, [EVALUATION, EVALUATION | {"sha256": "0" * 64}])
    with pytest.raises(SettingsError, match=r"must be of this lab-yolov8n\.onnx"):
        card_of(tmp_path)


def test_the_card_beside_the_model_is_what_the_script_makes():
    folder = ROOT / "data" / "models"
    assert (folder / "lab-yolov8n.md").read_text(encoding="utf-8") == card_of(folder)
