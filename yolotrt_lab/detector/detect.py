"""A detector: a frame in, boxes out. An engine with letterbox and decode around it, and the names of its classes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from ..cuda import has_gpu
from ..device import Device, open_device
from ..engine import Engine, open_engine
from ..errors import EngineError, ModelError, SettingsError
from ..frames import Camera, FrameSource, ImageFolder
from ..memory import SlotPool
from ..model import read_model_info
from ..onnxruntime import OnnxRuntimeEngine
from ..packages import import_cv2, shipped_model
from ..types import Detections
from ..vision import Letterbox, decode, draw
from .scene import SyntheticScene

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


# The boxes of a detector in any source of frames: drawn on each, and all of them as JSON.


BOXES_FILE = "boxes.json"
ENDLESS_LIMIT = 100
"""How many frames of a source that never ends are taken where no limit is given."""


def annotate(
    source: FrameSource,
    detector: Detector,
    folder: str | Path,
    *,
    limit: int | None = None,
    about: Mapping[str, str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[dict[str, Any]]:
    """Write each frame of `source` with its boxes drawn into `folder` as a JPEG, and the boxes as `boxes.json`.

    At most `limit` frames; without it all, and 100 of a camera or the synthetic scene. Returns what the JSON has under
    `frames`, one dict a frame: `index`, `file` (the drawn image), `source` (the image's own name; folders only),
    `width`, `height`, and `boxes`, best first: `class`, `name`, `score`, `left`, `top`, `right`, `bottom` in pixels of
    the frame. Above them stand the engine, the thresholds, the names of the classes, and what `about` adds, such as the
    model's name. After an error or Ctrl-C the JSON holds the frames that were drawn. SettingsError where the folder
    can't be written or is the one that is read; the errors of the source and the detector are passed on.
    """
    out = Path(folder)
    images = source if isinstance(source, ImageFolder) else None
    if images and any(path.parent.resolve() == out.resolve() for path in images.paths):
        raise SettingsError(f"{out} is where the images are read from", fix="write into another folder")
    limit = _checked_limit(limit, source)
    _guard(out, lambda: out.mkdir(parents=True, exist_ok=True))
    frames: list[dict[str, Any]] = []
    try:
        for index, frame in enumerate(islice(source, limit)):
            found = detector(frame)
            name = images.paths[images.index - 1].name if images else ""
            file = f"{index:06}-{Path(name).stem}.jpg" if name else f"{index:06}.jpg"
            _write_image(out / file, draw(frame, found, detector.names))
            height, width = frame.shape[:2]
            entry = {"index": index, "file": file, "width": width, "height": height}
            frames.append({**entry, **({"source": name} if name else {}), "boxes": _as_dicts(found, detector)})
            if progress is not None:
                progress(len(frames))
    finally:
        made_by = {**(about or {}), "engine": detector.engine.label, **detector.settings, "names": detector.names}
        content = {**made_by, "frames": frames}
        _guard(out, lambda: (out / BOXES_FILE).write_text(json.dumps(content, indent=1), encoding="utf-8"))
    return frames


def _checked_limit(limit: int | None, source: FrameSource) -> int | None:
    if limit is not None and limit < 1:
        raise SettingsError(f"a limit of {limit} frames", fix="use 1 or more, or leave it out")
    return ENDLESS_LIMIT if limit is None and isinstance(source, Camera | SyntheticScene) else limit


def _as_dicts(found: Detections, detector: Detector) -> list[dict[str, Any]]:
    sides = ("left", "top", "right", "bottom")
    return [
        {
            "class": kind,
            "name": detector.name_of(kind),
            "score": round(score, 4),
            **dict(zip(sides, (round(side, 2) for side in box), strict=True)),
        }
        for box, score, kind in zip(found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True)
    ]


def _write_image(path: Path, image: np.ndarray) -> None:
    """As JPEG. Not by `cv2.imwrite`, which fails on non-ASCII paths on Windows."""
    _, content = import_cv2().imencode(".jpg", image)
    _guard(path.parent, lambda: path.write_bytes(content.tobytes()))


def _guard(folder: Path, write: Callable[[], Any]) -> None:
    """Do it; SettingsError where the folder can't be written."""
    try:
        write()
    except OSError as error:
        raise SettingsError(
            f"{folder} cannot be written: {error}", fix="name a folder on a disk with space that you may write to"
        ) from error
