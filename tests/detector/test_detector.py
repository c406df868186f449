"""A frame in, boxes out: the detector on the CPU, on a device, and what it refuses."""

from threading import Thread

import numpy as np
import pytest
from tiny_detector import detector_model

from yolotrt_lab import packages
from yolotrt_lab.detector import detect
from yolotrt_lab.detector.detect import Detector, open_detector
from yolotrt_lab.device import open_device
from yolotrt_lab.engine import open_engine
from yolotrt_lab.errors import EngineError, ModelError, NoGpuError, SettingsError, ShapeError

# In a 64 x 64 input that letterboxes 128 x 64 (width x height) frames at scale 1/2, with 16 px of grey above
BOXES = ((32, 32, 20, 10, 1.0, 1), (10, 20, 8, 8, 0.5, 0))
IN_FRAME = [[44, 22, 84, 42], [12, 0, 28, 16]]
MODEL = detector_model(*BOXES)


def frame(brightness=255):
    return np.full((64, 128, 3), brightness, np.uint8)


def score_of(brightness):
    """That of the best box, which follows the mean of the input: half of it is the frame, half grey 114."""
    return pytest.approx(max((brightness + 114) / 2 / 255, 0.5), abs=1e-3)


@pytest.mark.parametrize("form", [{}, {"batch": "batch"}, {"dtype": np.float16}, {"classes": 80}])
def test_every_form_of_an_export_gives_boxes_in_pixels_of_the_frame_best_first(form):
    found = open_detector(detector_model(*BOXES, **form))(frame(200))
    np.testing.assert_allclose(found.boxes, IN_FRAME, atol=1e-4)
    assert found.classes.tolist() == [1, 0]
    assert found.scores.tolist() == [score_of(200), pytest.approx(0.5, abs=1e-3)]


def test_each_frame_is_seen_anew_on_the_cpu_and_the_same_on_a_device():
    device = open_device("simulated", preset="h200")
    on_cpu, on_device = open_detector(MODEL), Detector(open_engine(device, MODEL), device)
    for brightness in (255, 40, 130, 255):
        first, second = on_cpu(frame(brightness)), on_device(frame(brightness))
        assert first.scores.max() == score_of(brightness)
        for name in ("boxes", "scores", "classes"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_threads_that_share_a_detector_each_get_the_boxes_of_their_own_frame(monkeypatch):
    detector, scores = open_detector(MODEL), {}
    run = detector._run

    def see(brightness):
        scores[brightness] = detector(frame(brightness)).scores.max()

    other = Thread(target=see, args=(40,))

    def run_while_another_calls():
        monkeypatch.setattr(detector, "_run", run)
        other.start()
        other.join(0.2)  # it would be over long before
        return run()

    monkeypatch.setattr(detector, "_run", run_while_another_calls)
    see(255)
    other.join()
    assert scores == {brightness: score_of(brightness) for brightness in (255, 40)}


def test_detector_on_a_device_belongs_to_one_thread():
    device = open_device("simulated")
    detector = Detector(open_engine(device, MODEL), device)
    detector(frame())
    with pytest.raises(EngineError, match="two threads"):
        device.start_thread(detector, frame()).join()


def test_engine_that_computes_nothing_or_runs_elsewhere_is_refused():
    device = open_device("simulated")
    with pytest.raises(EngineError, match="must compute boxes") as caught:
        Detector(open_engine(device), device)
    assert "compute=True" in caught.value.fix
    with pytest.raises(EngineError, match=r"Detector\(engine, device\)"):
        Detector(open_engine(device, MODEL))


def test_thresholds_are_passed_on():
    assert len(open_detector(MODEL, confidence=0.6)(frame())) == 1
    assert len(open_detector(MODEL, max_detections=1)(frame())) == 1
    with pytest.raises(SettingsError):
        open_detector(MODEL, confidence=60)(frame())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (b"no model", "must be an ONNX model"),
        ("missing.onnx", "missing.onnx cannot be read"),
        (detector_model(*BOXES, task="segment"), "segment"),
        (detector_model(*BOXES, names=("nut",)), "1 class names do not fit 2 rows"),
        (detector_model(*BOXES, batch=2), "must take 1 frame at a time, got one that takes 2"),
    ],
)
def test_a_model_that_is_none_is_refused(model, message):
    with pytest.raises(ModelError, match=message) as caught:
        open_detector(model)
    assert caught.value.fix


def test_a_frame_that_is_none_is_refused():
    with pytest.raises(ShapeError, match="GRAY2BGR"):
        open_detector(MODEL)(np.zeros((64, 64), np.uint8))


def test_an_engine_is_what_was_asked_for_or_an_error(monkeypatch):
    def none(_):
        raise NoGpuError("no GPU", fix="plug one in")

    monkeypatch.setattr(detect, "open_device", none)
    assert open_detector(MODEL, engine="auto").device is None
    with pytest.raises(NoGpuError):
        open_detector(MODEL, engine="tensorrt")
    monkeypatch.setattr(detect, "has_gpu", lambda: True)
    with pytest.raises(NoGpuError):
        open_detector(MODEL)
    assert "CPU" in open_detector(MODEL, engine="onnxruntime").engine.label
    with pytest.raises(SettingsError, match="got 'openvino'"):
        open_detector(MODEL, engine="openvino")


def test_without_a_model_it_is_the_one_that_ships_or_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(packages, "_PACKAGE", tmp_path / "package")
    with pytest.raises(SettingsError, match=r"data/models/lab-yolov8n\.onnx"):
        open_detector()
    (tmp_path / "data" / "models").mkdir(parents=True)
    (tmp_path / "data" / "models" / "lab-yolov8n.onnx").write_bytes(detector_model(*BOXES, names=("nut", "bolt")))
    assert open_detector().names == ("nut", "bolt")
