"""Inference engines: TensorRT (10, 11 and RTX), ONNX Runtime, and the simulated one. Start with `open_engine`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..devices.base import Device
from ..devices.simulated import SimulatedDevice
from ..errors import SettingsError
from ..types import TensorSpec
from .base import Context, Engine

__all__ = ["Context", "Engine", "open_engine"]

PRECISIONS = ("fp16", "fp32")


def open_engine(
    device: Device,
    model: bytes | str | Path | None = None,
    *,
    variant: str = "n",
    precision: str = "fp16",
    compute: bool = False,
    backend: str = "auto",
    cache_dir: str | Path | None = None,
) -> Engine:
    """The engine for that device, of an ONNX `model` or of YOLOv8 with seeded weights (`variant`, `precision`).

    A batch dimension that a model leaves open becomes 1.

    On a GPU, `backend` is 'tensorrt' (also 'auto': TensorRT or TensorRT-RTX, whichever is installed, built on first use
    and cached in `cache_dir`) or 'onnxruntime'. On the simulated device the engine takes the time that the preset
    measured for `yolov8<variant>-<precision>`; with `compute` (or a `model`) it also computes its outputs, by ONNX
    Runtime on the CPU, which takes real time but no virtual time.
    """
    if backend not in ("auto", "tensorrt", "onnxruntime"):
        raise SettingsError(f"no backend {backend!r}", fix="use 'auto', 'tensorrt' or 'onnxruntime'")
    if precision not in PRECISIONS:
        raise SettingsError(f"no precision {precision!r}", fix=f"use one of {', '.join(PRECISIONS)}")
    if isinstance(device, SimulatedDevice):
        return _simulated(device, model, variant, precision, compute)
    if model is None:
        model = _seeded(variant, precision)
    if backend == "onnxruntime":
        from .onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(model, provider="cuda")
    from .model import read_onnx, with_batch
    from .tensorrt import TensorRTEngine

    return TensorRTEngine.from_onnx(with_batch(read_onnx(model), 1), cache_dir=cache_dir)


def _seeded(variant: str, precision: str) -> bytes:
    from ..yolov8 import build_model

    return build_model(variant, precision=precision)


def _simulated(
    device: SimulatedDevice, model: bytes | str | Path | None, variant: str, precision: str, compute: bool
) -> Engine:
    from .simulated import SimulatedEngine

    name = f"yolov8{variant}-{precision}"
    cost, label = device.preset.engine(name), f"simulated {name}"
    if model is None and not compute:
        return SimulatedEngine(label, cost, [_IMAGES], [_OUTPUT])
    from .onnxruntime import OnnxRuntimeEngine

    runtime = OnnxRuntimeEngine(model if model is not None else _seeded(variant, precision))
    return SimulatedEngine(f"{label}, outputs by {runtime.label}", cost, runtime.inputs, runtime.outputs, runtime.run)


_IMAGES = TensorSpec("images", (1, 3, 640, 640), np.dtype(np.float32))
_OUTPUT = TensorSpec("output0", (1, 84, 8400), np.dtype(np.float32))
