"""One reading of what a model is, whatever way it comes in: loops, the search on the GPU, the ladder, a detector."""

import json

import cv2
import numpy as np
import pytest
from tiny_detector import CELLS, constant_model

from yolotrt_lab.cli import main
from yolotrt_lab.detector import detect
from yolotrt_lab.detector.detect import open_detector
from yolotrt_lab.device import open_device
from yolotrt_lab.engine import LendingEngine, open_engine
from yolotrt_lab.errors import ModelError, ShapeError
from yolotrt_lab.loop import LoopSettings, run_loop
from yolotrt_lab.speed import ladder
from yolotrt_lab.speed.overlap import OverlapSettings

FRAME = np.full((32, 64, 3), 200, np.uint8)  # 16 px of grey above and below
NAMES = str(dict(enumerate(("nut", "bolt"))))


@pytest.fixture(autouse=True)
def no_gpu_and_no_limits(monkeypatch):
    """The ladder's limits, thousands of copies, are those that ship."""
    monkeypatch.setattr(detect, "has_gpu", lambda: False)
    monkeypatch.setattr(ladder, "measure_limits", lambda *_: ladder.Ladder.shipped().limits)


def zeros(*shape):
    return np.zeros(shape, np.float32)


def by_loop(model, settings):
    """The boxes of one frame: [left, top, right, bottom, score, class]."""
    found, device = [], open_device("simulated")
    engine = LendingEngine(open_engine(device, model))
    settings.loop(device, engine, [FRAME], on_boxes=lambda _, boxes: found.append(boxes)).run()
    return rows(found[0])


def rows(found):
    parts = (found.boxes, found.scores[:, None], found.classes[:, None])
    return np.concatenate(parts, axis=1).round(4).tolist()


def by_ladder(model, rung):
    device = open_device("simulated")
    return ladder.climb(
        device, {1: open_engine(device, model)}, [FRAME], frames=10, rungs=[rung], progress=lambda _: None
    )


ONE_FRAME = {"frames": 1, "warmup": 0, "postprocess": True}
BOXES = {
    "loop": lambda model: by_loop(model, LoopSettings(**ONE_FRAME)),
    "overlap": lambda model: by_loop(model, OverlapSettings(**ONE_FRAME)),
    "gpu_decode": lambda model: by_loop(model, OverlapSettings(**ONE_FRAME, gpu_decode=True)),
    "detector": lambda model: rows(open_detector(model)(FRAME)),
}
WAYS = BOXES | {"bench": lambda model: by_ladder(model, 1)}

UNREADABLE = {
    "pose": ((zeros(1, 56, CELLS),), {"task": "pose"}),
    "masks": ((zeros(1, 116, CELLS), zeros(1, 32, 16, 16)), {}),
    "yolov5": ((zeros(1, 252, 6),), {"names": "{0: 'nut'}"}),
    "transposed": ((zeros(1, CELLS, 9),), {}),
    "doubles": ((np.zeros((1, 6, CELLS)),), {"names": NAMES}),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_model_that_is_no_detector_is_refused_before_a_frame_with_the_export_that_helps(kind, way):
    tables, metadata = UNREADABLE[kind]
    with pytest.raises(ModelError, match="export a detect"):
        WAYS[way](constant_model(*tables, **metadata))


@pytest.mark.parametrize("way", WAYS)
def test_a_layout_that_its_shape_does_not_tell_is_told_by_its_scores(way):
    table = zeros(1, 56, CELLS)  # pose: the rows behind the first score are pixels
    table[0, :4, 0], table[0, 4:, 0] = 20, 40
    with pytest.raises(ModelError, match="scores must be from 0 to 1, got 40"):
        WAYS[way](constant_model(table))


@pytest.mark.parametrize("way", sorted(set(BOXES) - {"gpu_decode"}))
def test_an_angle_is_told_from_a_score_where_it_is_negative(way):
    table = zeros(1, 20, CELLS)
    table[0, :4, 0], table[0, 4, 0], table[0, -1, 1] = 20, 0.9, -0.3
    with pytest.raises(ModelError, match=r"scores must be from 0 to 1, got -0\.3"):
        BOXES[way](constant_model(table))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("way", BOXES)
def test_end_to_end_heads_are_read(way, dtype):
    table = np.zeros((1, 30, 6), dtype)
    table[0, :3] = (4, 20, 12, 40, 0.25, 0), (8, 16, 24, 48, 0.5, 1), (8, 16, 24, 48, 0.75, 0)
    expected = [[8, 0, 24, 32, 0.75, 0], [8, 0, 24, 32, 0.5, 1]]
    assert BOXES[way](constant_model(table, names=NAMES)) == expected


@pytest.mark.parametrize("grids", [(16, 8, 4, 2), (8, 4, 2, 1), (4, 2)])
@pytest.mark.parametrize("way", BOXES)
def test_heads_of_other_strides_are_read(way, grids):
    table = zeros(1, 6, sum(grid * grid for grid in grids))
    table[0, :, -1] = (32, 32, 16, 8, 0.1, 0.9)
    assert BOXES[way](constant_model(table)) == [[24, 12, 40, 20, pytest.approx(0.9, abs=1e-4), 1]]


def test_the_ladder_takes_an_end_to_end_head():
    table = np.random.default_rng(0).uniform(0.1, 0.9, (1, 30, 6)).astype(np.float32)
    table[0, :, 2:4] += 10
    table[0, :, 5] = 0
    [step] = by_ladder(constant_model(table), 6).steps
    assert step.rung.name == "decode"


def test_the_search_on_the_gpu_needs_no_more_rows_than_it_has_room_for():
    with pytest.raises(ShapeError, match=r"\(batch, 1024 boxes or fewer, 6\)(.|\n)*gpu_decode=False"):
        BOXES["gpu_decode"](constant_model(zeros(1, 1025, 6)))


def test_an_engine_says_what_its_model_is_and_a_recording_says_it_too(tmp_path):
    path = tmp_path / "mine.onnx"
    path.write_bytes(constant_model(zeros(1, 30, 6), names=NAMES))
    device = open_device("simulated")
    engine = LendingEngine(open_engine(device, path))
    assert (engine.model, engine.describe().names) == ("mine", ("nut", "bolt"))
    assert engine.label.startswith("simulated mine, timed as yolov8n-fp16, outputs by ONNX Runtime ")
    settings = run_loop(device, engine, LoopSettings(frames=1, warmup=0), [FRAME]).settings
    assert (settings["model"], settings["engine"]) == ("mine", engine.label)
    assert open_engine(device).model == "yolov8n-fp16"


@pytest.mark.parametrize("name", ["\udc80", "\x1b[2J\x07", "a\x00b", "\u202e", "n" * 10_000])
def test_class_names_of_any_text_crash_nothing_and_reach_no_terminal_raw(name, tmp_path, capsys):
    table = zeros(1, 30, 6)
    table[0, 0] = (8, 16, 24, 48, 0.9, 0)
    (tmp_path / "model.onnx").write_bytes(constant_model(table, names=ascii({0: name})))
    cv2.imwrite(str(tmp_path / "a.png"), FRAME)
    command = ["detect", str(tmp_path / "a.png"), "--model", str(tmp_path / "model.onnx"), "--out", str(tmp_path / "o")]
    assert main(command) == 0
    [box] = json.loads((tmp_path / "o" / "boxes.json").read_text())["frames"][0]["boxes"]
    assert box["name"].isprintable()
    assert len(box["name"]) <= 100
    assert main([*command, "--classes", "other"]) == 2
    assert "".join(capsys.readouterr()).replace("\n", "").isprintable()
