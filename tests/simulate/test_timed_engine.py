"""Which of the measured models a model is timed as on the simulated device, and what its label says."""

from dataclasses import replace

import pytest

from yolotrt_lab.detector.yolov8 import build_model
from yolotrt_lab.engine import open_engine
from yolotrt_lab.errors import SettingsError
from yolotrt_lab.model import OnnxModel
from yolotrt_lab.simulate.simulated import SimulatedDevice
from yolotrt_lab.simulate.timed_engine import nearest_measured

SIZES = "nsmlx"


@pytest.mark.parametrize(
    ("parameters", "precision", "measured"),
    [
        (2.6e6, "fp16", "yolov8n-fp16"),  # YOLO11n
        (7.2e6, "fp32", "yolov8s-fp16"),
        (25e6, "fp16", "yolov8m-fp16"),
        (58e6, "fp32", "yolov8x-fp32"),  # YOLOv9e
        (1e9, "fp16", "yolov8x-fp16"),
        (0, "", "yolov8n-fp16"),
    ],
)
def test_a_model_is_timed_as_the_measured_one_that_is_nearest_in_size(preset, parameters, precision, measured):
    cost = preset.engine("yolov8n-fp16")
    every = replace(preset, engines={f"yolov8{size}-{kind}": cost for size in SIZES for kind in ("fp16", "fp32")})
    every = replace(every, engines={k: v for k, v in every.engines.items() if k != "yolov8s-fp32"})
    model = OnnxModel(b"", "mine", {}, precision, int(parameters))
    assert nearest_measured(every, model) == measured
    assert nearest_measured(preset, model) == "yolov8n-fp16"
    assert nearest_measured(replace(preset, engines={"own-fp16": cost}), model) == "own-fp16"


def test_an_engine_costs_what_the_nearest_was_measured_to_and_says_so(preset, tmp_path):
    slow = replace(preset.engine("yolov8n-fp16"), graph_gpu_ns=7_000_000)
    device = SimulatedDevice(replace(preset, engines={**preset.engines, "yolov8n-fp32": slow}))
    (tmp_path / "mine.onnx").write_bytes(build_model("n", classes=2, image_size=64))
    engine = open_engine(device, tmp_path / "mine.onnx")
    assert engine.cost.graph_gpu_ns == 7_000_000
    assert engine.label.startswith("simulated mine, timed as yolov8n-fp32, outputs by ONNX Runtime ")
    assert open_engine(device, compute=True).label.startswith("simulated yolov8n-fp16, outputs by ")
    with pytest.raises(SettingsError, match="image_size must go with a model"):
        open_engine(device, image_size=320)
