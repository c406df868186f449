"""A detector: a frame in, boxes out. An engine with letterbox and decode around it, and the names of its classes."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

import numpy as np

from .devices import has_gpu, open_device
from .devices.base import Device
from .engines import open_engine
from .engines.base import Engine
from .engines.onnxruntime import OnnxRuntimeEngine
from .errors import EngineError, ModelError, SettingsError
from .memory import SlotPool
from .paths import shipped_model
from .types import Detections
from .vision import Letterbox, decode
from .yolov8 import read_model_info

ENGINES = ("auto", "tensorrt", "onnxruntime")


class Detector:
    """Finds the boxes of one frame at a time, and waits for them: simple, and not the way to run a loop.

    With a device the engine runs there, in a context and pinned memory made once; without one it has to be ONNX
    Runtime's on the CPU. `confidence`, `iou` and `max_detections` are those of `vision.decode`, `names` those of the
    classes, empty where the model has none. ModelError where the engine wants several frames at a time, EngineError
    where it computes nothing, or cannot run there. On the CPU threads take turns; on a device it belongs to the thread
    that calls it first (EngineError in another).
    """

    def __init__(
        self,
        engine: Engine,
        device: Device | None = None,
        *,
        names: tuple[str, ...] = (),
        confidence: float = 0.25,
        iou: float = 0.7,
        max_detections: int = 300,
    ) -> None:
        batch = engine.inputs[0].shape[0]
        if batch != 1:
            raise ModelError(
                f"the model takes {batch} frames at a time", fix="export it with batch=1, or with a dynamic batch"
            )
        if not engine.computes:
            raise EngineError(
                f"{engine.label} computes no boxes, only its time is simulated",
                fix="open_engine(device, compute=True), or open_detector()",
            )
        self.engine, self.device, self.names = engine, device, names
        self.settings = {"confidence": confidence, "iou": iou, "max_detections": max_detections}
        self._letterbox = Letterbox()
        self._turn = Lock()
        self._place = _on_cpu(engine) if device is None else _OnDevice(engine, device)

    def __call__(self, frame: np.ndarray) -> Detections:
        """The boxes in a uint8 BGR frame (height, width, 3) of any size, in its pixels, best first.

        ShapeError or DtypeError for another frame, SettingsError where the thresholds are not usable.
        """
        with self._turn:
            geometry = self._letterbox(frame, self._place.input)
            return decode(self._place.run(), geometry, **self.settings)

    def name_of(self, number: int) -> str:
        """The name of a class, 'class 7' for one without."""
        return self.names[number] if number < len(self.names) else f"class {number}"


def _on_cpu(engine: Engine) -> _OnCpu:
    if not isinstance(engine, OnnxRuntimeEngine):
        raise EngineError(f"{engine.label} runs on a device", fix="pass the device too: Detector(engine, device)")
    return _OnCpu(engine)


class _OnCpu:
    """`input` is to be filled before `run`, which gives the output."""

    def __init__(self, engine: OnnxRuntimeEngine) -> None:
        self._engine = engine
        self._spec = engine.inputs[0]
        self.input = np.empty(self._spec.shape, self._spec.dtype)

    def run(self) -> np.ndarray:
        return self._engine.run({self._spec.name: self.input})[self._engine.outputs[0].name]


class _OnDevice:
    """The same on a device; the output is overwritten by the next run."""

    def __init__(self, engine: Engine, device: Device) -> None:
        self._device, self._stream = device, device.stream()
        self._context = engine.context(device)
        slot = SlotPool(device, engine.inputs, engine.outputs, slots=1).lease()
        self._source, self._target = slot.inputs[engine.inputs[0].name], slot.outputs[engine.outputs[0].name]
        self._names = engine.inputs[0].name, engine.outputs[0].name
        self.input = self._source.array

    def run(self) -> np.ndarray:
        buffers, (first, last) = self._context.buffers, self._names
        self._device.upload(self._source, buffers[first], self._stream)
        self._context.enqueue(self._stream)
        self._device.download(buffers[last], self._target, self._stream)
        self._stream.synchronize()
        return self._target.array


def open_detector(
    model: bytes | str | Path | None = None,
    *,
    engine: str = "auto",
    confidence: float = 0.25,
    iou: float = 0.7,
    max_detections: int = 300,
) -> Detector:
    """A detector of a YOLOv8 model in ONNX, exported by anyone; without one, of the lab's own (`shipped_model`).

    `engine` is 'tensorrt' (on a GPU), 'onnxruntime' (on the CPU), or 'auto': TensorRT where there is a GPU. The names
    of the classes are those of the model's metadata. Nothing is simulated here: the boxes are the model's. Raises what
    `read_model_info`, `open_device` and `open_engine` raise, SettingsError for another engine.
    """
    if engine not in ENGINES:
        raise SettingsError(f"no engine {engine!r}", fix=f"use one of {', '.join(ENGINES)}")
    model = shipped_model() if model is None else model
    names = read_model_info(model).names
    device = open_device("cuda") if engine == "tensorrt" or (engine == "auto" and has_gpu()) else None
    loaded = OnnxRuntimeEngine(model) if device is None else open_engine(device, model)
    return Detector(loaded, device, names=names, confidence=confidence, iou=iou, max_detections=max_detections)
