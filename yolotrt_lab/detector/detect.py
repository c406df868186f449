"""A detector: a frame in, boxes out. And its boxes in any source of frames: drawn on each, and all of them as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from ..cuda import has_gpu
from ..device import Device, open_device
from ..engine import Engine, LendingEngine, open_engine
from ..errors import EngineError, FrameSourceError, ModelError, SettingsError
from ..files import read_file, write_file
from ..frames import Camera, FrameSource, ImageFolder
from ..heads import check_thresholds, decode
from ..onnxruntime import OnnxRuntimeEngine
from ..packages import import_cv2, shipped_model
from ..types import Detections
from ..vision import Letterbox, class_name, draw
from .scene import SyntheticScene

_LARGEST_JPEG = 65_500  # px of a side
_ENDLESS_LIMIT = 100  # frames of a source that never ends


class Detector:
    """Finds the boxes of one frame at a time and waits for them: simple, and not the way to run a loop.

    With a device the engine runs there; without one it must be an ONNX Runtime engine on the CPU. `confidence`, `iou`
    and `max_detections` are those of `heads.decode`. `names` are the names of the classes, which the model knows;
    `classes` are those to look for, by number or name, all without it.
    ModelError if the engine takes several frames at a time or gives no boxes, EngineError if it computes nothing or
    cannot run there, SettingsError for a class that there is not, or a threshold out of range. On the CPU, threads take
    turns. On a device, the detector belongs to the thread that calls it first (EngineError in another).

    >>> import numpy as np
    >>> detector = open_detector(engine="onnxruntime")
    >>> len(detector(np.zeros((64, 64, 3), np.uint8)))
    0
    """

    def __init__(
        self,
        engine: Engine,
        device: Device | None = None,
        *,
        confidence: float = 0.25,
        iou: float = 0.7,
        max_detections: int = 300,
        classes: Sequence[int | str] | None = None,
    ) -> None:
        info = engine.describe()
        if (batch := engine.inputs[0].shape[0]) != 1:
            fix = "export it with batch=1, or with a dynamic batch"
            raise ModelError(f"the model must take 1 frame at a time, got one that takes {batch}", fix=fix)
        if getattr(engine, "compute", engine) is None:  # the simulated engine without a model
            fix = "open_engine(device, compute=True), or open_detector()"
            raise EngineError(f"the engine must compute boxes, got {engine.label}, which only takes time", fix=fix)
        self.engine, self.device, self.names = engine, device, info.names
        check_thresholds(confidence, iou, max_detections)
        self.settings: dict[str, Any] = {"confidence": confidence, "iou": iou, "max_detections": max_detections}
        if classes is not None:
            self.settings["classes"] = _numbers(classes, self.names, info.classes)
        self._end2end = info.end2end
        self._letterbox, self._turn = Letterbox(), Lock()
        if device is None and not isinstance(engine, OnnxRuntimeEngine):
            raise EngineError(f"{engine.label} runs on a device, got none", fix="pass it too: Detector(engine, device)")
        self._runner: Any = engine if device is None else LendingEngine(engine)
        self._input = np.empty(engine.inputs[0].shape, engine.inputs[0].dtype)

    def __call__(self, frame: np.ndarray) -> Detections:
        """The boxes in a uint8 BGR frame (height, width, 3) of any size, in its pixels, best first.

        ShapeError or DtypeError for another frame, SettingsError if a threshold is out of range.
        """
        with self._turn:
            geometry = self._letterbox(frame, self._input)
            return decode(self._run(), geometry, end2end=self._end2end, **self.settings)

    def _run(self) -> np.ndarray:
        outputs: dict[str, np.ndarray] = self._runner.infer(self.device, {self.engine.inputs[0].name: self._input})
        return outputs[self.engine.outputs[0].name]


def _numbers(classes: Sequence[int | str], names: Sequence[str], count: int) -> list[int]:
    """The numbers of classes that are given by number or name."""
    numbers = {name: number for number, name in reversed([*enumerate(names)])}
    words = [str(each) for each in classes]
    found = [numbers.get(word, int(word) if word.isdecimal() and len(word) < 10 else -1) for word in words]
    for each, number in zip(classes, found, strict=True):
        if number < 0 or number >= (count or number + 1):
            known = ", ".join(names[:20]) or f"0 to {count - 1}"
            what = f"a class must be one that the model knows, got {each!r:.100}"
            raise SettingsError(what, fix=f"use some of {known}")
    return found


def open_detector(
    model: bytes | str | Path | None = None,
    *,
    engine: str = "auto",
    image_size: int | tuple[int, int] | None = None,
    confidence: float = 0.25,
    iou: float = 0.7,
    max_detections: int = 300,
    classes: Sequence[int | str] | None = None,
) -> Detector:
    """A detector of a YOLO model, exported by Ultralytics as ONNX, or as a plan for this GPU (`format='engine'`);
    without one, of the lab's own (`shipped_model`).

    `image_size` is for a model exported with dynamic=True, as in `open_engine`. `engine` is 'tensorrt' (on a GPU),
    'onnxruntime' (on the CPU), or 'auto': TensorRT if there is a GPU. The other settings are those of `Detector`, and
    the names of the classes those of the model's metadata. The boxes are always computed, never simulated. Raises what
    `open_device`, `open_engine` and `Detector` raise, SettingsError for another engine.

    >>> open_detector(engine="onnxruntime").names[:3]
    ('gear', 'bolt', 'nut')
    """
    engines = ("auto", "tensorrt", "onnxruntime")
    if engine not in engines:
        raise SettingsError(f"engine must be one of {', '.join(engines)}, got {engine!r}", fix="use 'auto'")
    model = shipped_model() if model is None else model
    device = open_device("cuda") if engine == "tensorrt" or (engine == "auto" and has_gpu()) else None
    size: dict[str, Any] = {"image_size": image_size}
    loaded = OnnxRuntimeEngine(model, **size) if device is None else open_engine(device, model, **size)
    limits: dict[str, Any] = {"confidence": confidence, "iou": iou, "max_detections": max_detections}
    return Detector(loaded, device, classes=classes, **limits)


def annotate(
    source: FrameSource,
    detector: Detector,
    folder: str | Path,
    *,
    limit: int | None = None,
    labels: bool = False,
    about: Mapping[str, str] | None = None,
    progress: Callable[[int], None] | None = None,
    on_skip: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """Write each frame of `source` with its boxes drawn into `folder` as a JPEG, and the boxes as `boxes.json`.

    At most `limit` frames; without it all, and 100 of a camera or the synthetic scene. Returns what the JSON has under
    `frames`, one dict a frame: `index`, `file` (the drawn image), `width`, `height`, `source` (the image's own name;
    folders only), and `boxes`, best first: `class`, `name`, `score`, and `left`, `top`, `right`, `bottom` in pixels of
    the frame. Above them stand the engine, the thresholds, the names of the classes, and the entries of `about`, such
    as the model's name; under `skipped` what of a folder is not read, of which `on_skip` is told: hidden and unreadable
    files, and the folders in it.
    With `labels` each frame has a file in `labels/` as Ultralytics reads it: class, centre, width and height of each
    box, in fractions of the frame.

    What an earlier run wrote into `folder` goes. After an error or Ctrl-C the JSON holds the frames that were drawn.
    SettingsError if the folder cannot be written, is the one that is read, or holds files of these names that its
    `boxes.json` does not list; the errors of the source (of a folder where no file can be read) and of the detector are
    passed on.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     [frame] = annotate(SyntheticScene(size=(320, 240)), open_detector(engine="onnxruntime"), folder, limit=1)
    >>> frame["file"], frame["width"], frame["boxes"][0]["name"]
    ('000000.jpg', 320, 'washer')
    """
    out = Path(folder)
    if isinstance(source, ImageFolder) and any(path.parent.resolve() == out.resolve() for path in source.paths):
        raise SettingsError(f"the folder to write must not be the one to read, got {out}", fix="name another folder")
    if limit is None and isinstance(source, Camera | SyntheticScene):
        limit = _ENDLESS_LIMIT
    if limit is not None and limit < 1:
        raise SettingsError(f"limit must be 1 frame or more, got {limit}", fix="use 1 or more, or leave it out")
    skipped: list[str] = []

    def skip(what: str) -> None:
        skipped.append(what)
        if on_skip is not None:
            on_skip(what)

    try:
        results = _Results(out, labels)
        try:
            for frame, name in islice(_named_frames(source, skip), limit):
                results.add(frame, name, detector(frame), detector.names)
                if progress is not None:
                    progress(len(results.frames))
        except BaseException as error:
            if results.frames:
                error.add_note(f"{len(results.frames)} frames were done before: {out / 'boxes.json'}")
            raise
        finally:
            made_by = {**(about or {}), "engine": detector.engine.label, **detector.settings}
            results.finish({**made_by, "names": detector.names, "skipped": skipped})
    except OSError as error:
        fix = "name a folder on a disk with space that you may write to"
        refused = SettingsError(f"the folder {out} must be one that can be written, got: {error}", fix=fix)
        refused.__notes__ = getattr(error, "__notes__", [])
        raise refused from error
    return results.frames


class _Results:
    """The folder of one run: images, labels, and `boxes.json`, which says what lies there."""

    def __init__(self, out: Path, labels: bool) -> None:
        self._out, self._labels = out, labels
        self._earlier = _files_of(out)
        self.frames: list[dict[str, Any]] = []
        self._check_foreign()
        (out / "labels" if labels else out).mkdir(parents=True, exist_ok=True)

    def add(self, frame: np.ndarray, name: str, found: Detections, names: Sequence[str]) -> None:
        """Write the files of one frame; the first one takes the place of an earlier run."""
        stem = f"{len(self.frames):06}"
        if name:  # a name may be as long as the file system allows
            stem += "-" + Path(name).stem.encode("utf-8", "surrogateescape")[:200].decode("utf-8", "ignore")
        entry = {"index": len(self.frames), "file": f"{stem}.jpg", "width": frame.shape[1], "height": frame.shape[0]}
        _, content = import_cv2().imencode(".jpg", draw(frame, found, names))
        if not self.frames:
            for path in self._earlier:
                path.unlink(missing_ok=True)
        files = {self._out / f"{stem}.jpg": bytes(content)}  # cv2.imwrite fails on non-ASCII paths on Windows
        if self._labels:
            entry["labels"] = f"labels/{stem}.txt"
            files[self._out / "labels" / f"{stem}.txt"] = _as_label(found, frame.shape).encode()
        try:
            for path, data in files.items():
                path.write_bytes(data)
        except BaseException:  # half a file is none
            for path in files:
                path.unlink(missing_ok=True)
            raise
        self.frames.append(entry | ({"source": name} if name else {}) | {"boxes": _as_dicts(found, names)})

    def finish(self, about: Mapping[str, Any]) -> None:
        """Write `boxes.json`; an earlier one stays where there is no frame."""
        if self.frames or not self._earlier:
            write_file(self._out / "boxes.json", json.dumps({**about, "frames": self.frames}, indent=1))

    def _check_foreign(self) -> None:
        """SettingsError where something lies there under a name that is written, and is not of an earlier run."""
        numbered = ["[0-9]" * 6 + "*.jpg", *["labels/" + "[0-9]" * 6 + "*.txt"] * self._labels]
        there = {self._out / "boxes.json", *(path for pattern in numbered for path in self._out.glob(pattern))}
        if foreign := sorted(path for path in there - self._earlier if os.path.lexists(path)):
            what = f"{foreign[0]} is not what an earlier run wrote, and stays as it is"
            raise SettingsError(what, fix="name another folder, or move the file away")


def _named_frames(source: FrameSource, skip: Callable[[str], None]) -> Iterator[tuple[np.ndarray, str]]:
    """Each frame, with the name of its file where it comes from a folder. Files that cannot be read are left out."""
    if not isinstance(source, ImageFolder):
        yield from ((frame, "") for frame in source)
        return
    for what in source.left_out:
        skip(what)
    while source.index < len(source.paths):
        try:
            frame = source.read()
        except FrameSourceError as error:
            skip(error.message)
            continue
        path = source.paths[source.index - 1]
        if frame is not None and max(frame.shape) > _LARGEST_JPEG:
            skip(f"{path} has a side of {max(frame.shape):,} px, and a JPEG {_LARGEST_JPEG:,} at most")
        elif frame is not None:
            yield frame, path.name


def _files_of(out: Path) -> set[Path]:
    """What an earlier run wrote into the folder, by its `boxes.json`, which is one of them; none outside of it."""
    try:
        about = json.loads(read_file(out / "boxes.json"))
        if not {"engine", "confidence"} <= about.keys():
            return set()
        images = [Path(str(frame["file"])).stem for frame in about["frames"]]
        labels = [Path(str(frame["labels"])).stem for frame in about["frames"] if "labels" in frame]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return set()
    listed = [*(f"{stem}.jpg" for stem in images), *(f"labels/{stem}.txt" for stem in labels)]
    return {out / name for name in ("boxes.json", *listed)}


def _as_label(found: Detections, shape: tuple[int, ...]) -> str:
    centres, sizes = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2, found.boxes[:, 2:] - found.boxes[:, :2]
    rows = np.hstack([centres, sizes]) / np.array([shape[1], shape[0]] * 2)
    lines = zip(found.classes.tolist(), rows.tolist(), strict=True)
    return "".join(f"{kind} {' '.join(f'{value:.6f}' for value in row)}\n" for kind, row in lines)


def _as_dicts(found: Detections, names: Sequence[str]) -> list[dict[str, Any]]:
    rows = zip(found.classes.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)
    return [
        {"class": kind, "name": class_name(kind, names), "score": round(score, 4)}
        | {side: round(at, 2) for side, at in zip(("left", "top", "right", "bottom"), box, strict=True)}
        for kind, score, box in rows
    ]
