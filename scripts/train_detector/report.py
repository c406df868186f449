"""The files that a training writes: the model as FP16 ONNX, and a JSON file that says how it was trained."""

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
from yolotrt_lab.files import write_file

from .network import Detector, fused_weights
from .settings import Settings

MODEL_NAME, REPORT_NAME = "lab-yolov8n.onnx", "training.json"


def write_model(detector: Detector, folder: Path, side: int) -> None:
    """The detector as FP16 ONNX in that folder, over an older one; ModelError if a weight does not fit."""
    weights, names = fused_weights(detector), SyntheticScene.names
    largest = max(float(np.abs(array).max()) for array in weights.values())
    if not largest < np.finfo(np.float16).max:
        raise ModelError(
            f"weights must fit into float16, got {largest}: the training diverged", fix="lower the learning rate"
        )
    model = build_model(
        "n",
        classes=len(names),
        image_size=side,
        precision="fp16",
        weights=weights,
        names=names,
    )
    write_file(folder / MODEL_NAME, model)


def write_report(folder: Path, settings: Settings, facts: dict[str, Any]) -> None:
    """The settings, the machine and the facts as JSON in that folder, in the place of an older one."""
    content = {"settings": asdict(settings), "machine": _machine(), **facts}
    write_file(folder / REPORT_NAME, json.dumps(content, indent=1) + "\n")


def _machine() -> dict[str, Any]:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return {"gpu": gpu, "python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
