"""A frame in, boxes out: the detector on the CPU, on a device, and what it refuses."""

from threading import Thread

import numpy as np
import pytest
from tiny_detector import detector_model

from yolotrt_lab.detector import detect as detectors
from yolotrt_lab.detector.detect import Detector, open_detector
from yolotrt_lab.device import open_device
from yolotrt_lab.engine import open_engine
from yolotrt_lab.errors import EngineError, ModelError, NoGpuError, SettingsError, ShapeError
from yolotrt_lab.packages import shipped_model

# In a 64 x 64 input that letterboxes 128 x 64 (width x height) frames at scale 1/2, with 16 px of grey above
BOXES = ((32, 32, 20, 10, 1.0, 1), (10, 20, 8, 8, 0.5, 0))
IN_FRAME = [[44, 22, 84, 42], [12, 0, 28, 16]]
NAMES = ("nut", "bolt")


def frame(brightness=255):
    return np.full((64, 128, 3), brightness, np.uint8)


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(detectors, "has_gpu", lambda: False)


def mean_of_input(brightness):
    """Half of the input is the frame, half grey 114."""
    return (brightness + 114) / 2 / 255


def test_boxes_come_in_pixels_of_the_frame_best_first():
    detector = open_detector(detector_model(*BOXES, names=NAMES))
    found = detector(frame(200))
    np.testing.assert_allclose(found.boxes, IN_FRAME, atol=1e-4)
    assert found.classes.tolist() == [1, 0]
    assert found.scores == pytest.approx([mean_of_input(200), 0.5], abs=1e-4)
    assert detector.names == NAMES


@pytest.mark.parametrize("form", [{"batch": "batch"}, {"dtype": np.float16}, {"classes": 80}])
def test_every_form_of_an_export_gives_the_same_boxes(form):
    found = open_detector(detector_model(*BOXES, **form))(frame(200))
    np.testing.assert_allclose(found.boxes, IN_FRAME, atol=1e-4)
    assert found.classes.tolist() == [1, 0]
    assert found.scores == pytest.approx([mean_of_input(200), 0.5], abs=1e-3)


def test_each_frame_is_seen_anew():
    detector = open_detector(detector_model(*BOXES))
    scores = [detector(frame(brightness)).scores.max() for brightness in (255, 200, 255)]
    assert scores == pytest.approx([mean_of_input(value) for value in (255, 200, 255)], abs=1e-4)


def test_threads_that_share_a_detector_each_get_the_boxes_of_their_own_frame(monkeypatch):
    detector = open_detector(detector_model(*BOXES))
    scores, run = {}, detector._place.run

    def detect(brightness):
        scores[brightness] = detector(frame(brightness)).scores.max()

    other = Thread(target=detect, args=(40,))

    def run_while_another_calls():
        monkeypatch.setattr(detector._place, "run", run)
        other.start()
        other.join(0.2)  # would be over long before
        return run()

    monkeypatch.setattr(detector._place, "run", run_while_another_calls)
    detect(255)
    other.join()
    assert scores == {
        brightness: pytest.approx(max(mean_of_input(brightness), 0.5), abs=1e-4) for brightness in (255, 40)
    }


def test_detector_on_a_device_belongs_to_one_thread():
    device = open_device("simulated")
    detector = Detector(open_engine(device, detector_model(*BOXES)), device)
    detector(frame())
    with pytest.raises(EngineError, match="two threads"):
        device.start_thread(detector, frame()).join()


def test_a_device_gives_the_same_boxes():
    model = detector_model(*BOXES)
    device = open_device("simulated", preset="h200")
    on_device = Detector(open_engine(device, model), device)
    on_cpu = open_detector(model)
    for brightness in (255, 40, 130):
        first, second = on_cpu(frame(brightness)), on_device(frame(brightness))
        np.testing.assert_array_equal(first.boxes, second.boxes)
        np.testing.assert_array_equal(first.scores, second.scores)
        np.testing.assert_array_equal(first.classes, second.classes)


def test_engine_that_computes_nothing_or_runs_elsewhere_is_refused():
    device = open_device("simulated")
    with pytest.raises(EngineError, match="computes no boxes") as caught:
        Detector(open_engine(device), device)
    assert "compute=True" in caught.value.fix
    with pytest.raises(EngineError, match=r"Detector\(engine, device\)"):
        Detector(open_engine(device, detector_model(*BOXES)))


def test_thresholds_are_passed_on():
    model = detector_model(*BOXES)
    assert len(open_detector(model, confidence=0.6)(frame())) == 1
    assert len(open_detector(model, max_detections=1)(frame())) == 1
    with pytest.raises(SettingsError):
        open_detector(model, confidence=60)(frame())


def test_a_class_without_a_name_goes_by_its_number():
    detector = open_detector(detector_model(*BOXES, names=NAMES))
    assert [detector.name_of(kind) for kind in range(3)] == ["nut", "bolt", "class 2"]
    assert open_detector(detector_model(*BOXES)).name_of(1) == "class 1"


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (b"no model", ModelError, "no readable ONNX"),
        ("missing.onnx", ModelError, "missing.onnx"),
        (detector_model(*BOXES, task="segment"), ModelError, "segment"),
        (detector_model(*BOXES, names=("nut",)), ModelError, "metadata"),
        (detector_model(*BOXES, batch=2), ModelError, "2 frames at a time"),
    ],
)
def test_a_model_that_is_none_is_told(model, error, message):
    with pytest.raises(error, match=message) as caught:
        open_detector(model)
    assert caught.value.fix


def test_an_engine_is_what_was_asked_for_or_an_error(monkeypatch):
    def none(_):
        raise NoGpuError("no GPU", fix="plug one in")

    monkeypatch.setattr(detectors, "open_device", none)
    model = detector_model(*BOXES)
    assert open_detector(model, engine="auto").device is None
    assert "CPU" in open_detector(model, engine="onnxruntime").engine.label
    with pytest.raises(NoGpuError):
        open_detector(model, engine="tensorrt")
    monkeypatch.setattr(detectors, "has_gpu", lambda: True)
    with pytest.raises(NoGpuError):
        open_detector(model)
    assert open_detector(model, engine="onnxruntime").device is None
    with pytest.raises(SettingsError, match="no engine 'openvino'"):
        open_detector(model, engine="openvino")


def test_a_frame_that_is_none_is_told():
    with pytest.raises(ShapeError, match="GRAY2BGR"):
        open_detector(detector_model(*BOXES))(np.zeros((64, 64), np.uint8))


def test_the_shipped_model_is_a_file_or_an_error_that_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr("yolotrt_lab.paths._PACKAGE", tmp_path / "package")
    with pytest.raises(SettingsError, match=r"the lab has no data/models/lab-yolov8n\.onnx") as caught:
        open_detector()
    assert "of your own" in caught.value.fix
    (tmp_path / "data" / "models").mkdir(parents=True)
    (tmp_path / "data" / "models" / "lab-yolov8n.onnx").write_bytes(detector_model(*BOXES, names=NAMES))
    assert shipped_model() == tmp_path / "data" / "models" / "lab-yolov8n.onnx"
    assert open_detector().names == NAMES
