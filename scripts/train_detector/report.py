"""What a training leaves behind: the model as FP16 ONNX, and a JSON file that says how it came about."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from yolotrt_lab.detector.scene import SyntheticScene
from yolotrt_lab.detector.yolov8 import build_model
from yolotrt_lab.errors import ModelError

from .network import Detector, fused_weights
from .settings import Settings

MODEL_NAME, REPORT_NAME = "lab-yolov8n.onnx", "training.json"


def write_model(detector: Detector, folder: Path, side: int) -> Path:
    """The detector as FP16 ONNX in that folder, over an older one; ModelError where a weight is no usable number."""
    weights, names = fused_weights(detector), SyntheticScene.names
    largest = max(float(np.abs(array).max()) for array in weights.values())
    if not largest < np.finfo(np.float16).max:
        raise ModelError(f"the largest weight is {largest}: the training diverged", fix="lower the learning rate")
    model = build_model(
        "n",
        classes=len(names),
        image_size=side,
        dynamic_batch=True,
        precision="fp16",
        weights=weights,
        names=names,
    )
    return _replace(folder / MODEL_NAME, model)


def write_report(folder: Path, settings: Settings, facts: dict[str, Any]) -> Path:
    """The settings, the machine and the facts as JSON in that folder, in the place of an older one."""
    content = {"settings": asdict(settings), "machine": _machine(), **facts}
    return _replace(folder / REPORT_NAME, (json.dumps(content, indent=1) + "\n").encode())


def _machine() -> dict[str, Any]:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return {"gpu": gpu, "python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}


def _replace(path: Path, content: bytes) -> Path:
    """Written beside and moved, so that a run that is cut leaves a whole file."""
    part = path.with_suffix(".part")
    part.write_bytes(content)
    part.replace(path)
    return path
