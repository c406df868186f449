"""The same model and frame through TensorRT on the GPU and ONNX Runtime on the CPU: the same boxes."""

from __future__ import annotations

import numpy as np
import pytest

from yolotrt_lab.devices import has_gpu, open_device
from yolotrt_lab.engines import open_engine
from yolotrt_lab.engines.onnxruntime import OnnxRuntimeEngine
from yolotrt_lab.frames import read_images
from yolotrt_lab.vision import Letterbox
from yolotrt_lab.yolov8 import build_model


def network_input() -> np.ndarray:
    tensor = np.empty((1, 3, 640, 640), np.float32)
    Letterbox()(read_images("synthetic", 1)[0], tensor)
    return tensor


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu(), reason="no NVIDIA GPU")
def test_tensorrt_and_onnxruntime_agree_in_fp16():
    device, model = open_device("cuda"), build_model("n", precision="fp16")
    tensors = {"images": network_input()}
    live = open_engine(device, model).infer(device, tensors)["output0"][0]
    reference = OnnxRuntimeEngine(model).run(tensors)["output0"][0]
    print(f"boxes differ by {abs(live[:4] - reference[:4]).max():.3f} px at most", end=", ")
    print(f"scores by {abs(live[4:] - reference[4:]).max():.4f}")
    assert abs(live[:4] - reference[:4]).max() < 2
    assert abs(live[4:] - reference[4:]).max() < 0.02


def test_simulated_engine_computes_what_onnxruntime_does():
    device, model = open_device("simulated"), build_model("n", precision="fp16")
    tensors = {"images": network_input()}
    simulated = open_engine(device, model).infer(device, tensors)["output0"]
    assert np.array_equal(simulated, OnnxRuntimeEngine(model).run(tensors)["output0"])
