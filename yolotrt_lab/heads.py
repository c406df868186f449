"""From the output of a detector to boxes: which layouts are read, how they are told, and what has another one.

A layout is told by the model's metadata and the shapes of its tensors before a frame runs (`describe`), and by the
values of each output (`decode`): a score of 40, or a box within the first pixel, proves that it is another one.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .errors import ModelError, SettingsError, ShapeError
from .model import ALL_STRIDES, printable
from .packages import import_cv2
from .types import Detections, TensorSpec
from .vision import Geometry, check_floats

_ROUNDING = 1e-3  # of a score in float16


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a detector finds, and how its output is read."""

    classes: int
    """How many; of an end-to-end head as many as there are names."""
    names: tuple[str, ...]
    """The names of the classes; empty if the file has none that can be read."""
    end2end: bool = False
    """The output is (batch, boxes, 6), suppressed already: left, top, right, bottom, score, class. Otherwise it is
    (batch, 4 + classes, cells): centre x, centre y, width, height, and a score for each class."""


_ANY = "export a detector with Ultralytics, format='onnx'; nms=None, False and True can all be read"
_NO_OPTION = (
    "export a detector of the ultralytics package in its place, such as {}: no option of the export changes this"
)
_DETECTOR = _NO_OPTION.format("yolo11n.pt")


def describe(
    name: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], metadata: Mapping[str, str]
) -> ModelInfo:
    """How the outputs of a model called `name` are read, from its tensors and from what its file says of itself;
    `boxes` there is the number of cells that `OnnxModel.read` kept.

    ModelError for what is no detector, or has an output of another layout: it names the layout and what to export.
    Without metadata an oriented or a pose model has the shape of a detector of more classes: `decode` refuses it
    by its values, where one is no score.

    >>> floats = np.dtype(np.float32)
    >>> images = [TensorSpec("images", (1, 3, 640, 640), floats)]
    >>> describe("mine", images, [TensorSpec("output0", (1, 84, 8400), floats)], {}).classes
    80
    >>> describe("mine", images, [TensorSpec("output0", (1, 300, 6), floats)], {}).end2end
    True
    """
    if (task := metadata.get("task", "detect")) != "detect":
        raise ModelError(f"{name} must be made for the task 'detect', got {task!r}", fix=_DETECTOR)
    if "rtdetr" in (metadata.get("head", "") + metadata.get("description", "")).lower():
        found = "an RT-DETR, whose boxes are fractions of a stretched image"  # in the shape of an end-to-end head
        raise ModelError(f"{name} must be a YOLO detector, got {found}", fix=_DETECTOR)
    taken, given = [spec.shape for spec in inputs], [spec.shape for spec in outputs]
    if wrong := _other_input(taken):
        raise ModelError(f"{name} must take images (batch, 3, height, width), got {taken}: {wrong}", fix=_ANY)
    if odd := [f"{spec.name} of {spec.dtype}" for spec in (*inputs, *outputs[:1]) if spec.dtype.char not in "ef"]:
        fix = f"{_ANY}, and so can weights in int8 between float32"
        raise ModelError(f"{name} must take and give float32 or float16, got {', '.join(odd)}", fix=fix)
    names, heads = _stated_names(metadata), _heads(*taken[0][2:])
    kept = metadata.get("boxes", "")
    match given:
        case [(_, boxes, 6)] if "task" in metadata or not heads & {boxes, boxes / 3}:
            return ModelInfo(len(names), names, True)
        case [(_, rows, _)] if names and rows == 4 + len(names):
            return ModelInfo(rows - 4, names)
        case [(_, rows, cells)] if (
            not names and rows > 4 and (str(cells) == kept or (cells in heads and cells >= rows))
        ):
            return ModelInfo(rows - 4, names)
    layout, fix = _other_output(given, taken[0][0], len(names), heads)
    raise ModelError(
        f"{name} must give (batch, 4 + classes, cells) or (batch, boxes, 6), got {given}: {layout}", fix=fix
    )


def _heads(height: int, width: int) -> set[int]:
    """How many cells heads have: those of some grids, each of twice the stride of the one before, 16 among them."""
    grids = [(height // stride) * (width // stride) for stride in ALL_STRIDES]
    return {sum(grids[first:last]) for first in range(3) for last in range(3, len(grids) + 1)}


def _other_input(shapes: Sequence[tuple[int, ...]]) -> str:
    """What is wrong with the inputs, in words; '' where they are images."""
    match shapes:
        case [(_, 3, _, _)]:
            return ""
        case [(_, _, _, 3)]:
            return "channels last, as TensorFlow has them"
        case [(_, channels, _, _)]:
            return f"images of {channels} channels"
        case [_]:
            return "no image"
    return f"{len(shapes)} inputs"


def _other_output(shapes: Sequence[tuple[int, ...]], batch: int, names: int, heads: set[int]) -> tuple[str, str]:
    """What outputs that are not read look like, and what to do about it."""
    match shapes:
        case [(_, 1), (_, boxes, 4), (_, scores), (_, classes)] if boxes == scores == classes:
            return "NMS inside, by a plugin of TensorRT (EfficientNMS)", f"{_ANY}, without the plugin"
        case [(_, cells, _)] if cells in heads:
            return "cells first, as YOLOX, NanoDet and transposed exports have them", _ANY
        case [(_, anchors, columns), *_] if anchors / 3 in heads or (names and columns == 5 + names):
            what = "the layout of YOLOv5 and YOLOv7, with a score for the box beside those of its classes"
            return what, _NO_OPTION.format("yolov5nu.pt")
        case [(_, boxes, 6 | 7)] | [(boxes, 7)] if boxes != batch:
            return "boxes with the number of their image or an angle", _ANY
        case [(_, _, columns)] if names and columns == 4 + names:
            return "a transformer's queries, as RT-DETR has them", _DETECTOR
        case [(_, rows, _)] if names:
            return f"{names} class names do not fit {rows - 4} rows of scores", _DETECTOR
        case [(_, _)] | [(_, _, 1, 1)]:
            return "a classifier has this", _DETECTOR
        case [(_, _, _), (_, _, _, _)]:
            return "boxes with masks, as segmentation models have them", _DETECTOR
        case [(_, _, _, _)]:
            return "a map of the image, as segmentation and depth models have it", _DETECTOR
        case [(_, _, _, _) | (_, _, _, _, _), *_]:
            return "feature maps, before boxes are made of them", _ANY
        case [_, _, *_]:
            return "boxes and scores apart, as DETR, YOLO-NAS, RTMDet and torchvision have them", _DETECTOR
    return "no detector of Ultralytics has this", _DETECTOR


def _stated_names(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The class names in the metadata; none where they cannot be read."""
    try:
        names = ast.literal_eval(metadata.get("names", ""))
        numbered = {
            int(number): name for number, name in (names.items() if isinstance(names, dict) else enumerate(names))
        }
        return tuple(printable(str(numbered[number])) for number in range(len(numbered)))
    except (ValueError, SyntaxError, TypeError, LookupError, MemoryError, RecursionError):
        return ()


def decode(
    output: np.ndarray,
    geometry: Geometry | None = None,
    *,
    end2end: bool = False,
    confidence: float = 0.25,
    iou: float = 0.7,
    max_detections: int = 300,
    classes: Collection[int] | None = None,
) -> Detections:
    """The boxes in `output`, float32 or float16, best first: of `classes` alone where they are given.

    (1, 4 + classes, n) or (4 + classes, n): a box has the class of its best score. It is a candidate if that score is
    above `confidence` and it has an area. Of two candidates of one class that overlap by more than `iou`, the worse one
    is dropped (greedy non-maximum suppression). With `end2end` it is (1, n, 6) or (n, 6): left, top, right, bottom,
    score and class of boxes that the model has suppressed itself; `iou` is not used. `Engine.describe` says which of
    the two an engine gives.

    With a `geometry` boxes are in pixels of the frame and clipped to it, without one in pixels of the network input.
    The defaults are those of Ultralytics' predict. ShapeError or DtypeError for an output of another form, ModelError
    where values prove that it has another layout, SettingsError if a threshold is out of range.

    >>> output = np.array([[32, 33], [32, 32], [20, 20], [10, 10], [0.9, 0.8]], np.float32)
    >>> decode(output).boxes
    array([[22., 27., 42., 37.]], dtype=float32)
    >>> decode(np.array([[22, 27, 42, 37, 0.9, 3]], np.float32), end2end=True).classes
    array([3])
    """
    table = _checked_output(output, end2end)
    check_thresholds(confidence, iou, max_detections)
    best, sizes = (table[4], table[2:4] - table[:2]) if end2end else (table[4:].max(axis=0), table[2:4])
    check_scores(best)
    if not end2end:
        check_scores(table[-1])  # of an oriented or a pose model an angle or a key point, which can be negative
    candidates = np.flatnonzero((best > confidence) & (sizes[0] > 0) & (sizes[1] > 0))
    candidates = candidates[np.argsort(-best[candidates], kind="stable")]
    _check_values(table[:, candidates], end2end)
    kinds = table[5, candidates].astype(np.int64) if end2end else table[4:, candidates].argmax(axis=0)
    if classes is not None:
        wanted = np.isin(kinds, list(classes))
        candidates, kinds = candidates[wanted], kinds[wanted]
    if end2end:
        kept = np.arange(len(candidates))[:max_detections]
        boxes = np.ascontiguousarray(table[:4, candidates[kept]].T)
    else:
        centres, sizes = table[:2, candidates].T, table[2:4, candidates].T
        kept = _suppress(np.hstack([centres - sizes / 2, sizes]), best[candidates], kinds, iou)[:max_detections]
        boxes = np.hstack([centres[kept] - sizes[kept] / 2, centres[kept] + sizes[kept] / 2])
    if geometry is not None:
        corner = np.array([geometry.left, geometry.top] * 2, np.float32)
        limit = np.array([*geometry.frame_shape[::-1]] * 2, np.float32)
        boxes = ((boxes - corner) / np.array(geometry.scales * 2, np.float32)).clip(0, limit)
    return Detections(boxes, best[candidates[kept]], kinds[kept].astype(np.int64))


def check_thresholds(confidence: float, iou: float, max_detections: int) -> None:
    """SettingsError if one of them is out of range."""
    if not (0 <= confidence <= 1 and 0 <= iou <= 1 and max_detections > 0):
        raise SettingsError(
            "confidence and iou must be from 0 to 1 and max_detections 1 or more, "
            f"got {confidence}, {iou} and {max_detections}",
            fix="pass confidence=0.25, iou=0.7, max_detections=300, for example",
        )


def check_scores(scores: np.ndarray) -> None:
    """ModelError unless they are from 0 to 1: any other number proves that the output has another layout."""
    wrong = scores[(scores < -_ROUNDING) | (scores > 1 + _ROUNDING)]
    if len(wrong):
        raise _another_layout(f"scores must be from 0 to 1, got {wrong[0]:g}")


def _check_values(candidates: np.ndarray, end2end: bool) -> None:
    """ModelError for boxes in fractions of the image, or a column of classes that holds something else."""
    if candidates.size and candidates[:4].max() <= 1:
        raise _another_layout("boxes must be in pixels of the network input, got fractions of it")
    if end2end and (wrong := candidates[5, candidates[5] != np.rint(candidates[5])]).size:
        raise _another_layout(f"classes must be whole numbers, got {wrong[0]:g}")


def _another_layout(what: str) -> ModelError:
    fix = "export a detector with Ultralytics, format='onnx', and keep its metadata: they say what a model is"
    return ModelError(f"{what}: the output of this model has another layout", fix=fix)


def _suppress(rectangles: np.ndarray, scores: np.ndarray, classes: np.ndarray, iou: float) -> np.ndarray:
    """Which of the candidates (left, top, width, height; best first) greedy suppression within each class keeps.

    One call a class: OpenCV's NMSBoxesBatched compares boxes of all classes with each other, at offsets that are only
    right for positions from 0 on.
    """
    order = np.argsort(classes, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(classes[order])) + 1)
    nms = import_cv2().dnn.NMSBoxes
    found = [nms(rectangles[each].tolist(), scores[each].tolist(), 0.0, iou) for each in groups]
    kept = [each[np.asarray(places, np.intp)] for each, places in zip(groups, found, strict=True)]
    return np.sort(np.concatenate(kept))


def _checked_output(output: np.ndarray, end2end: bool) -> np.ndarray:
    """`output` as float32 with a column for each box; the same memory unless it is float16."""
    check_floats("network output", output.dtype)
    rows = output.shape[-1 if end2end else -2] if output.ndim > 1 else 0
    if output.shape[:-2] not in ((), (1,)) or (rows != 6 if end2end else rows < 5):
        form = "(1, n, 6)" if end2end else "(1, 4 + classes, n)"
        raise ShapeError(
            f"the network output must be {form}, got {output.shape}", fix="pass output[i : i + 1] of a batch"
        )
    table = output.reshape(output.shape[-2:]).astype(np.float32, copy=False)
    return table.T if end2end else table
