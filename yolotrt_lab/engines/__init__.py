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
    batch: int = 1,
    compute: bool = False,
    backend: str = "auto",
    cache_dir: str | Path | None = None,
) -> Engine:
    """The engine for that device, of an ONNX `model` or of YOLOv8 with seeded weights (`variant`, `precision`).

    A batch dimension that a model leaves open becomes `batch`, how many frames go through at once; SettingsError where
    a `batch` is asked for and the model has another.

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
        engine = _simulated(device, model, variant, precision, batch, compute)
        return _of_batch(engine, batch)
    if model is None:
        model = _seeded(variant, precision, batch)
    if backend == "onnxruntime":
        from .onnxruntime import OnnxRuntimeEngine

        return _of_batch(OnnxRuntimeEngine(model, provider="cuda", batch=batch), batch)
    from .model import read_onnx, with_batch
    from .tensorrt import TensorRTEngine

    return _of_batch(TensorRTEngine.from_onnx(with_batch(read_onnx(model), batch), cache_dir=cache_dir), batch)


def _of_batch(engine: Engine, batch: int) -> Engine:
    if batch > 1 and (found := engine.inputs[0].shape[0]) != batch:
        raise SettingsError(
            f"the model takes {found} frames at once, not {batch}", fix="export it with an open batch dimension"
        )
    return engine


def _seeded(variant: str, precision: str, batch: int) -> bytes:
    from ..yolov8 import build_model

    return build_model(variant, precision=precision, batch=batch)


def _simulated(
    device: SimulatedDevice, model: bytes | str | Path | None, variant: str, precision: str, batch: int, compute: bool
) -> Engine:
    from .simulated import SimulatedEngine

    name = f"yolov8{variant}-{precision}"
    cost, label = device.preset.engine(name).for_batch(batch), f"simulated {name}"
    if batch > 1:
        label += f", batch {batch}"
    if model is None and not compute:
        return SimulatedEngine(label, cost, *_specs(batch))
    from .onnxruntime import OnnxRuntimeEngine

    runtime = OnnxRuntimeEngine(model if model is not None else _seeded(variant, precision, batch), batch=batch)
    return SimulatedEngine(f"{label}, outputs by {runtime.label}", cost, runtime.inputs, runtime.outputs, runtime.run)


def _specs(batch: int) -> tuple[list[TensorSpec], list[TensorSpec]]:
    shapes = (("images", (batch, 3, 640, 640)), ("output0", (batch, 84, 8400)))
    images, output = (TensorSpec(name, shape, np.dtype(np.float32)) for name, shape in shapes)
    return [images], [output]
