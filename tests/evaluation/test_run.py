"""A detector over held-out frames: which frames those are, and what comes out."""

import json
from functools import partial

import numpy as np
import pytest
from tiny_detector import detector_model

from scripts.evaluation import held_out
from scripts.evaluation.held_out import HELD_OUT_SEED, held_out_frames
from scripts.evaluation.run import evaluate, main
from scripts.evaluation.scores import score_boxes
from yolotrt_lab.detector import detect
from yolotrt_lab.detector.detect import open_detector
from yolotrt_lab.detector.scene import SyntheticScene
from yolotrt_lab.errors import SettingsError

NAMES = SyntheticScene.names
EVERYTHING = (32, 32, 64, 36, 0.9, 4)  # the whole frame is a part of kind 4
MODEL = detector_model(EVERYTHING, (20, 30, 10, 6, 0.4, 7), classes=len(NAMES), names=NAMES)


@pytest.fixture(autouse=True)
def small_scenes_without_a_gpu(monkeypatch):
    monkeypatch.setattr(held_out, "SyntheticScene", partial(SyntheticScene, size=(320, 180)))
    monkeypatch.setattr(detect, "has_gpu", lambda: False)


@pytest.mark.exhaustive
@pytest.mark.parametrize("threads", [1, 5])
def test_frames_come_from_one_scene_after_the_other(monkeypatch, threads):
    monkeypatch.setattr(held_out, "PER_SCENE", 2)
    frames = list(held_out_frames(5, seed=7, threads=threads))
    where = [(7, 0), (7, 25), (8, 0), (8, 25), (9, 0)]
    scenes = {seed: SyntheticScene(seed, (320, 180)) for seed in (7, 8, 9)}
    assert len(frames) == len(where)
    for (frame, truth), (seed, index) in zip(frames, where, strict=True):
        np.testing.assert_array_equal(frame, scenes[seed].render(index))
        np.testing.assert_array_equal(truth.boxes, scenes[seed].truth(index).boxes)
        np.testing.assert_array_equal(truth.classes, scenes[seed].truth(index).classes)


def test_frames_that_are_not_wanted_after_all_are_not_rendered(monkeypatch):
    rendered = []
    monkeypatch.setattr(held_out, "_look", lambda scene, index: rendered.append(index) or (None, None))
    frames = held_out_frames(100, threads=1)
    next(frames)
    frames.close()
    assert len(rendered) < 10


def test_no_frames_and_no_seed_are_refused():
    for frames, seed in ((0, 1), (3, -1)):
        with pytest.raises(SettingsError):
            next(held_out_frames(frames, seed))


@pytest.mark.exhaustive
def test_the_boxes_found_are_held_against_the_truth_of_their_frame():
    detector, done = open_detector(MODEL, confidence=0.001), []
    result = evaluate(detector, frames=4, seed=11, progress=done.append)
    frames = list(held_out_frames(4, seed=11))
    expected = score_boxes([truth for _, truth in frames], [detector(frame) for frame, _ in frames], NAMES)
    assert expected.items() <= result.items()
    assert result["overall"]["objects"] == sum(len(truth) for _, truth in frames) > 4
    assert done == [1, 2, 3, 4]
    assert (result["frames"], result["seed"], result["engine"]) == (4, 11, detector.engine.label)
    assert result["settings"] == {"confidence": 0.001, "iou": 0.7, "max_detections": 300}
    assert result["runs_on"] == result["machine"]["cpu"]


@pytest.mark.parametrize(
    ("model", "confidence"),
    [
        (MODEL, 0.25),
        (detector_model(EVERYTHING, classes=10), 0.001),
        (detector_model(EVERYTHING, classes=10, names=NAMES[::-1]), 0.001),
        (detector_model(EVERYTHING, classes=80, names=[f"class{i}" for i in range(80)]), 0.001),
    ],
)
def test_a_detector_that_was_made_for_something_else_is_refused(model, confidence):
    with pytest.raises(SettingsError, match="the detector must know the classes gear, bolt"):
        evaluate(open_detector(model, confidence=confidence), frames=1)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(MODEL)
    return path


def test_the_command_prints_json_that_says_what_was_measured(model, capsys):
    assert main([str(model), "--frames", "3", "--json", "--engine", "onnxruntime"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert err == ""
    assert result["model"] == "model.onnx"
    assert len(result["sha256"]) == 64
    assert result["command"].startswith("python -m scripts.evaluation ")
    assert (result["frames"], result["seed"]) == (3, HELD_OUT_SEED)
    assert result["engine"].startswith("ONNX Runtime ")
    assert set(result["overall"]) == {"objects", "map50", "map50_95"}
    assert list(result["by_size"]) == ["small", "medium", "large"]
    assert tuple(result["by_class"]) == NAMES


def test_the_command_prints_a_table_or_what_is_wrong(model, capsys):
    assert main([str(model), "--frames", "2"]) == 0
    first, header, _, *rows, seeds, engine = capsys.readouterr().out.splitlines()
    assert first == str(model)
    assert header.split() == ["objects", "mAP50", "mAP50-95"]
    sizes = ("all", "small (area up to 32 x 32 px)", "medium (up to 96 x 96 px)", "large (above 96 x 96 px)")
    assert [row.split("  ")[0] for row in rows] == [*sizes, *NAMES]
    assert seeds == f"2 frames of the synthetic scene, seeds from {HELD_OUT_SEED} on"
    assert engine.startswith("by ONNX Runtime ")
    assert main(["nowhere.onnx"]) == 2
    assert "nowhere.onnx cannot be read" in capsys.readouterr().err
