"""ONNX models: their bytes, the number type of their weights, and what an exported YOLOv8 detector says of itself."""

from __future__ import annotations

import ast
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ModelError
from .packages import load

STRIDES = (8, 16, 32)
"""Pixels of the network input per cell of each of the three output grids."""

_PRECISIONS = {"FLOAT": "fp32", "FLOAT16": "fp16", "BFLOAT16": "bf16", "INT8": "int8", "FLOAT8E4M3FN": "fp8"}


def cell_count(height: int, width: int) -> int:
    """How many cells the three grids over an input of that size have: 8,400 for 640 x 640."""
    return sum((height // stride) * (width // stride) for stride in STRIDES)


def read_onnx(model: bytes | str | Path) -> bytes:
    """The bytes of a model given as bytes or as a path; ModelError if the file cannot be read."""
    if isinstance(model, bytes):
        return model
    try:
        return Path(model).read_bytes()
    except OSError as error:
        raise ModelError(f"the ONNX file {model} cannot be read: {error}", fix="check the path") from error


def parse_onnx(model: bytes | str | Path) -> Any:
    """The `onnx.ModelProto` of a model, without tensors that lie in other files.

    ModelError if the file cannot be read or is not an ONNX model.
    """
    onnx = load("onnx", needed_for="reading ONNX models")
    message = load("google.protobuf.message", needed_for="reading ONNX models", install="python -m pip install onnx")
    content = read_onnx(model)
    try:
        return onnx.load_model_from_string(content)
    except message.DecodeError as error:
        name = "the model" if isinstance(model, bytes) else model
        found = f"{len(content)} bytes that cannot be parsed ({error})"
        raise ModelError(f"{name} must be an ONNX model, got {found}", fix="export it again as ONNX") from error


def with_batch(model: bytes, batch: int) -> bytes:
    """The model with `batch` for every first dimension of an input or output that is left open."""
    parsed = parse_onnx(model)
    shapes = [tensor.type.tensor_type.shape.dim for tensor in (*parsed.graph.input, *parsed.graph.output)]
    left_open = [shape[0] for shape in shapes if shape and not shape[0].HasField("dim_value")]
    for dimension in left_open:
        dimension.dim_value = batch
    return parsed.SerializeToString() if left_open else model


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
    """What an exported YOLOv8 detector says of itself."""

    classes: int
    names: tuple[str, ...]
    """The names of the classes; empty if the file has none."""
    image_size: tuple[int, int] | None
    """Height and width of the input; None if the input is dynamic and the metadata do not say."""


def read_model_info(model: bytes | str | Path) -> ModelInfo:
    """What an exported YOLOv8 detector says of itself.

    ModelError if the file cannot be read, is for another task, or has no output of (batch, 4 + classes, cells).
    """
    name, parsed = "the model" if isinstance(model, bytes) else str(model), parse_onnx(model)
    metadata = {entry.key: entry.value for entry in parsed.metadata_props}
    if (task := metadata.get("task", "detect")) != "detect":
        fix = "export a detection model, such as yolov8n.pt"
        raise ModelError(f"{name} must be made for the task 'detect', got {task!r}", fix=fix)
    classes, height, width = _sizes(name, parsed.graph)
    try:
        stated, names = (ast.literal_eval(metadata.get(key, "None")) for key in ("imgsz", "names"))
        names = tuple(str(names[number]) for number in range(classes)) if names else ()
        return ModelInfo(classes, names, (height, width) if height and width else stated and (stated[0], stated[1]))
    except (ValueError, SyntaxError, TypeError, LookupError) as error:
        fix = "export it again with Ultralytics, or remove the entries `names` and `imgsz` of its metadata"
        raise ModelError(f"{name} has unreadable metadata {metadata}", fix=fix) from error


def _sizes(name: str, graph: Any) -> tuple[int, int, int]:
    """Classes, and height and width of the input, 0 where open; ModelError if the graph is no YOLOv8 detector."""
    tensors = ([value.type.tensor_type.shape.dim for value in values] for values in (graph.input, graph.output))
    inputs, outputs = ([[each.dim_value for each in shape] for shape in shapes] for shapes in tensors)
    match inputs, outputs:
        case [[_, _, height, width]], [[_, rows, cells]] if rows > 4:
            if not cells or cell_count(height, width) in (0, cells):
                return rows - 4, height, width
    raise ModelError(
        f"{name} must map (batch, 3, height, width) to (batch, 4 + classes, cells), got {inputs} to {outputs}",
        fix="export with Ultralytics, format='onnx' and nms=False",
    )
