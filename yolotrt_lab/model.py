"""ONNX models: their bytes, their sizes, and what an exported detector says of itself."""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ModelError, SettingsError
from .packages import load

STRIDES = (8, 16, 32)
"""Pixels of the network input per cell of each of the three output grids."""

_ALL_STRIDES = (4, 8, 16, 32, 64, 128)  # of heads for smaller things (P2) and larger ones (P6)
_PRECISIONS = {"FLOAT": "fp32", "FLOAT16": "fp16", "BFLOAT16": "bf16", "INT8": "int8", "FLOAT8E4M3FN": "fp8"}
_USABLE = "export a detector with Ultralytics, format='onnx'; nms=None, False and True can all be read"
_OF_YOLOV5 = "the layout of YOLOv5 and YOLOv7, with a score for the box beside those of its classes"
_LONGEST_NAME = 100
_UNREADABLE = (ValueError, SyntaxError, TypeError, LookupError, MemoryError, RecursionError)


def cell_count(height: int, width: int) -> int:
    """How many cells the three grids over an input of that size have: 8,400 for 640 x 640."""
    return sum((height // stride) * (width // stride) for stride in STRIDES)


def printable(text: str) -> str:
    """The text in one short line, with '?' for what could move a terminal or is no character.

    >>> printable("nut\\x1b[2J"), printable("\\udc80")
    ('nut?[2J', '?')
    """
    return "".join(each if each.isprintable() else "?" for each in text[:_LONGEST_NAME])


def read_onnx(model: bytes | str | Path) -> bytes:
    """The bytes of a model given as bytes or as a path, with the weights that lie in files beside it.

    ModelError if one of the files cannot be read, and for bytes whose weights lie in another file.
    """
    if isinstance(model, bytes):
        content = model
    else:
        try:
            content = Path(model).read_bytes()
        except OSError as error:
            raise ModelError(f"the ONNX file {model} cannot be read: {error}", fix="check the path") from error
    return _with_weights(model, content) if b"location" in content else content


def _with_weights(model: bytes | str | Path, content: bytes) -> bytes:
    """The model with all tensors in it. Runtimes would look for those outside in the working directory."""
    onnx = load("onnx", needed_for="reading ONNX models")
    parsed = _parsed(model, content)
    outside = [each for each in _tensors(parsed) if each.data_location == onnx.TensorProto.EXTERNAL]
    if not outside:
        return content
    [file, *_] = [entry.value for entry in outside[0].external_data if entry.key == "location"] or [""]
    if isinstance(model, bytes):
        raise ModelError(
            f"the model must have its weights in it, got some in the file {file!r}",
            fix="pass the path of the ONNX file: its weights are looked for beside it",
        )
    try:
        for tensor in outside:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(Path(model).absolute().parent))
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]
        whole: bytes = parsed.SerializeToString()
    except Exception as error:  # of the file system, of onnx and of protobuf, which ends at 2 GB
        raise ModelError(
            f"the weights of {model}, in {file!r} beside it, cannot be read: {printable(str(error))}",
            fix="put that file beside the model, or export it again into one file",
        ) from error
    return whole


def _tensors(parsed: Any) -> Iterator[Any]:
    """The weights and constants of a model."""
    holders = [parsed.graph, *parsed.functions]
    while holders:
        holder = holders.pop()
        yield from getattr(holder, "initializer", ())
        for attribute in (each for node in holder.node for each in node.attribute):
            yield from ([attribute.t] if attribute.HasField("t") else attribute.tensors)
            holders += [attribute.g] if attribute.HasField("g") else attribute.graphs


def parse_onnx(model: bytes | str | Path) -> Any:
    """The `onnx.ModelProto` of a model.

    ModelError if its files cannot be read or it is not an ONNX model.
    """
    return _parsed(model, read_onnx(model))


def _parsed(model: bytes | str | Path, content: bytes) -> Any:
    onnx = load("onnx", needed_for="reading ONNX models")
    message = load("google.protobuf.message", needed_for="reading ONNX models", install="python -m pip install onnx")
    try:
        return onnx.load_model_from_string(content)
    except message.DecodeError as error:
        name = "the model" if isinstance(model, bytes) else model
        found = f"{len(content)} bytes that cannot be parsed ({error})"
        raise ModelError(f"{name} must be an ONNX model, got {found}", fix="export it again as ONNX") from error


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """A model that a runtime can take: all weights in it, and its sizes fixed."""

    content: bytes
    name: str
    """Of its file, or what it calls itself."""
    metadata: Mapping[str, str]
    precision: str
    parameters: int
    """How many numbers its weights are."""

    @classmethod
    def read(
        cls,
        model: bytes | str | Path | OnnxModel,
        *,
        batch: int = 1,
        image_size: int | tuple[int, int] | None = None,
        boxes: int | None = None,
    ) -> OnnxModel:
        """The model for so many frames at once, of `image_size`: one number or (height, width).

        Both are for sizes that the model leaves open (Ultralytics: dynamic=True); without an `image_size` it is that of
        the metadata. `boxes` shrinks the output (`with_best_boxes`). ModelError if the model cannot be read, or leaves
        open what nothing says; SettingsError for an `image_size` or a `batch` that it cannot have.
        """
        if isinstance(model, OnnxModel):
            if (batch, image_size, boxes) == (1, None, None):
                return model
            return replace(cls.read(model.content, batch=batch, image_size=image_size, boxes=boxes), name=model.name)
        content = read_onnx(model)
        parsed = _parsed(model, content)
        if _fix_sizes(parsed, _name(model, parsed), batch, image_size):
            content = parsed.SerializeToString()
        if boxes is not None:
            content = with_best_boxes(content, boxes)
            parsed = _parsed(content, content)
        parameters = sum(math.prod(tensor.dims) for tensor in _tensors(parsed))
        return cls(content, _name(model, parsed), _metadata(parsed), precision_of(parsed), parameters)


def _name(model: bytes | str | Path, parsed: Any) -> str:
    if not isinstance(model, bytes):
        return printable(Path(model).stem)
    described = re.match(r"Ultralytics (\S+) model", _metadata(parsed).get("description", ""))
    return printable(described[1] if described else parsed.graph.name) or "the model"


def _metadata(parsed: Any) -> dict[str, str]:
    return {entry.key: entry.value for entry in parsed.metadata_props}


def _shapes(values: Iterable[Any]) -> list[Any]:
    return [value.type.tensor_type.shape.dim for value in values]


def _fix_sizes(parsed: Any, name: str, batch: int, image_size: int | tuple[int, int] | None) -> bool:
    """Write numbers for the sizes that the model leaves open; False where there are none."""
    inputs, outputs = _shapes(parsed.graph.input), _shapes(parsed.graph.output)
    sides = [dimension for shape in inputs if len(shape) == 4 for dimension in shape[2:]]
    open_sides = [side for side in sides if side.dim_value < 1]
    size = _image_size(name, _metadata(parsed), image_size) if open_sides else _pair(image_size) if image_size else ()
    for side, value in zip(sides, size, strict=False):
        if image_size is not None and side.dim_value not in (0, value):
            has = ", ".join(str(each.dim_value or "any") for each in sides)
            raise SettingsError(
                f"image_size must be ({has}), the one that {name} has, got {image_size}",
                fix="leave it out, or export the model with dynamic=True",
            )
        side.dim_value = side.dim_value or value
    open_batches = [shape[0] for shape in (*inputs, *outputs) if shape and shape[0].dim_value < 1]
    for dimension in open_batches:
        dimension.dim_value = batch
    if batch > 1 and (found := inputs[0][0].dim_value) != batch:
        raise SettingsError(
            f"{name} must take {batch} frames at once, got a model for {found}", fix="export it with an open batch"
        )
    if open_sides:
        _infer_outputs(parsed)
    return bool(open_sides or open_batches)


def _infer_outputs(parsed: Any) -> None:
    """Write the sizes of the outputs that follow from those of the inputs."""
    inference = load("onnx.shape_inference", needed_for="models whose sizes are open")
    inferred = inference.infer_shapes(parsed, data_prop=True).graph.output
    for shape, found in zip(_shapes(parsed.graph.output), _shapes(inferred), strict=True):
        for dimension, value in zip(shape, found, strict=False):
            if value.dim_value:
                dimension.dim_value = value.dim_value


def _pair(size: Any) -> tuple[int, int]:
    """Height and width; (0, 0), which no model has, for what is neither one number nor two."""
    try:
        height, width = (size, size) if isinstance(size, Integral) else size
        return int(height), int(width)
    except (TypeError, ValueError):
        return 0, 0


def _image_size(name: str, metadata: Mapping[str, str], asked: Any) -> tuple[int, int]:
    """Height and width for a model whose sides are open."""
    size = _stated_size(metadata) if asked is None else asked
    if size is None:
        raise ModelError(
            f"{name} must say how large its images are, got open sizes and metadata without a usable `imgsz`",
            fix="pass image_size=640, or export the model with dynamic=False",
        )
    stride = int(metadata["stride"]) if metadata.get("stride", "") in map(str, _ALL_STRIDES) else STRIDES[-1]
    height, width = _pair(size)
    if min(height, width) < stride or height % stride or width % stride:
        raise SettingsError(f"image_size must be multiples of {stride}, got {size!r}", fix="pass 640, for example")
    return height, width


def _stated_size(metadata: Mapping[str, str]) -> tuple[int, int] | None:
    """Height and width in the metadata; None where there are none that can be read."""
    try:
        height, width = map(int, _pair(ast.literal_eval(metadata.get("imgsz", ""))))
    except _UNREADABLE:
        return None
    return (height, width) if min(height, width) > 0 else None


def _stated_names(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The class names in the metadata; none where they cannot be read."""
    try:
        names = ast.literal_eval(metadata.get("names", ""))
        return tuple(printable(str(names[number])) for number in range(len(names)))
    except _UNREADABLE:
        return ()


def with_best_boxes(model: bytes, boxes: int) -> bytes:
    """A detector (YOLOv8, one frame at once) with a small output: its cells in `boxes` groups, of each group
    the cell of the best class score.

    The output shrinks from (1, 4 + classes, cells) to (1, 4 + classes, boxes). It stands for an engine with NMS in it,
    at the cost of a few small kernels. ModelError for another output, and where `boxes` does not divide the cells.
    """
    onnx, parsed = load("onnx", needed_for="an output of a few boxes"), parse_onnx(model)
    make, [output] = onnx.helper.make_node, parsed.graph.output
    batch, rows, cells = (each.dim_value for each in output.type.tensor_type.shape.dim)
    if batch != 1 or rows <= 4 or boxes < 1 or cells % boxes:
        raise ModelError(
            f"{boxes} boxes need an output of (1, 4 + classes, a multiple of {boxes}), got {(batch, rows, cells)}",
            fix="use batch=1, and 100 boxes of 8,400 cells",
        )
    group = cells // boxes
    constants = {"first": [4], "last": [rows], "axis": [1], "groups": [1, boxes, group], "flat": [-1]}
    constants["starts"] = [group * number for number in range(boxes)]
    for node in parsed.graph.node:
        node.output[:] = ["best/all" if each == output.name else each for each in node.output]
    for name, value in constants.items():
        tensor = onnx.numpy_helper.from_array(np.array(value, np.int64))
        parsed.graph.node.append(make("Constant", [], [f"best/{name}"], value=tensor))
    for operator, inputs, result, how in (
        ("Slice", ("all", "first", "last", "axis"), "classes", {}),
        ("ReduceMax", ("classes",), "score", {"axes": [1], "keepdims": 1}),
        ("Reshape", ("score", "groups"), "scores", {}),
        ("ArgMax", ("scores",), "place", {"axis": 2, "keepdims": 0}),
        ("Add", ("place", "starts"), "cell", {}),
        ("Reshape", ("cell", "flat"), "kept", {}),
    ):
        parsed.graph.node.append(make(operator, [f"best/{each}" for each in inputs], [f"best/{result}"], **how))
    parsed.graph.node.append(make("Gather", ["best/all", "best/kept"], [output.name], axis=2))
    output.type.tensor_type.shape.dim[2].dim_value = boxes
    parsed.metadata_props.add(key="boxes", value=str(boxes))
    shrunk: bytes = parsed.SerializeToString()
    return shrunk


def precision_of(model: Any) -> str:
    """The number type of most weights of a `ModelProto`: 'fp32', 'fp16', 'bf16', 'int8', 'fp8', '' without weights."""
    weights: Counter[str] = Counter()  # what the model asks for: TensorRT may still compute fp32 as TF32
    for tensor in model.graph.initializer:
        weights[_PRECISIONS.get(tensor.DataType.Name(tensor.data_type), "")] += math.prod(tensor.dims)
    del weights[""]
    return weights.most_common(1)[0][0] if weights else ""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a detector finds, and how its output is read."""

    classes: int
    """How many; of an end-to-end head as many as there are names."""
    names: tuple[str, ...]
    """The names of the classes; empty if the file has none that can be read."""
    image_size: tuple[int, int] | None
    """Height and width of the input; None if the input is dynamic and the metadata do not say."""
    end2end: bool = False
    """The output is (batch, boxes, 6), suppressed already: left, top, right, bottom, score, class. Otherwise it is
    (batch, 4 + classes, cells): centre x, centre y, width, height, and a score for each class."""


def read_model_info(model: bytes | str | Path) -> ModelInfo:
    """What an exported detector says of itself; ModelError as in `describe`, and if the file cannot be read."""
    name, parsed = "the model" if isinstance(model, bytes) else str(model), parse_onnx(model)
    edges = parsed.graph.input, parsed.graph.output
    inputs, outputs = ([[each.dim_value for each in shape] for shape in _shapes(edge)] for edge in edges)
    return describe(name, inputs, outputs, _metadata(parsed))


def describe(
    name: str, inputs: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]], metadata: Mapping[str, str]
) -> ModelInfo:
    """How the outputs of a model called `name` are read, from the shapes of its tensors (0 where open) and from what
    its file says of itself; `boxes` there is the number of cells that `with_best_boxes` kept.

    ModelError for what is no detector, or has an output of another layout: it names the layout and what to export.
    Without metadata an oriented or a pose model has the shape of a detector of more classes: `vision.decode` refuses it
    by its values, where one is no score.

    >>> describe("mine", [[1, 3, 640, 640]], [[1, 84, 8400]], {}).classes
    80
    >>> describe("mine", [[1, 3, 640, 640]], [[1, 300, 6]], {}).end2end
    True
    """
    if (task := metadata.get("task", "detect")) != "detect":
        fix = "export a detection model, such as yolo11n.pt: no option of the export turns another kind into one"
        raise ModelError(f"{name} must be made for the task 'detect', got {task!r}", fix=fix)
    if "rtdetr" in (metadata.get("head", "") + metadata.get("description", "")).lower():
        found = "an RT-DETR, whose boxes are fractions of a stretched image"  # in the shape of an end-to-end head
        raise ModelError(f"{name} must be a YOLO detector, got {found}", fix=_USABLE)
    names = _stated_names(metadata)
    match inputs:
        case [[_, 3, height, width]]:
            size = (height, width) if min(height, width) > 0 else None
        case _:
            raise ModelError(f"{name} must take images (batch, 3, height, width), got {inputs}", fix=_USABLE)
    kept = metadata.get("boxes", "")
    # a head's cells: those of one grid or of several, each of twice the stride of the one before
    grids = [(size[0] // stride) * (size[1] // stride) for stride in _ALL_STRIDES] if size else []
    counts = {sum(grids[first:last]) for last in range(len(grids) + 1) for first in range(last)}
    counts |= {int(kept) if kept.isdecimal() else 0}
    size = size or _stated_size(metadata)
    match outputs:
        case [[_, _, 6]]:
            return ModelInfo(len(names), names, size, True)
        case [[_, _, cells]] if cells < 1 and metadata.get("end2end") == "True":
            return ModelInfo(len(names), names, size, True)
        case [[_, rows, _]] if names and rows == 4 + len(names):
            return ModelInfo(rows - 4, names, size)
        case [[_, rows, cells]] if not names and rows > 4 and (cells < 1 or (cells in counts and cells >= rows)):
            return ModelInfo(rows - 4, names, size)
    found = _layout(outputs, len(names), counts)
    raise ModelError(
        f"{name} must give (batch, 4 + classes, cells) or (batch, boxes, 6), got {outputs}: {found}", fix=_USABLE
    )


def _layout(outputs: Sequence[Sequence[int]], names: int, counts: set[int]) -> str:
    """What an output that is not read looks like."""
    match outputs:
        case [[_, rows, columns]] if names and columns == 4 + names:
            return "cells first" if rows in counts else "a transformer's queries, as RT-DETR has them"
        case [[_, _, columns]] if names and columns == 5 + names:
            return _OF_YOLOV5
        case [[_, rows, _]] if names:
            return f"{names} class names do not fit {rows - 4} rows of scores"
        case [[_, rows, _]] if rows in counts:
            return "cells first, as YOLOX and transposed models have them"
        case [[_, rows, _]] if rows % 3 == 0 and rows // 3 in counts:
            return _OF_YOLOV5
        case [[_, _]]:
            return "a classifier has this"
        case [[_, _, _], [_, _, _, _]]:
            return "boxes with masks, as segmentation models have them"
        case [_, _, _, *_]:
            return "several outputs, such as those of a TensorRT plugin for NMS"
    return "no detector of Ultralytics has this"
