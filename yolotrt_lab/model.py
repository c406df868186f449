"""An ONNX model as bytes: where an engine gets it, and which number type its weights have."""

from __future__ import annotations

import ast
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ModelError
from .packages import load

STRIDES = (8, 16, 32)
"""Pixels of the network input per cell of each of the three output grids."""

_PRECISIONS = {"FLOAT": "fp32", "FLOAT16": "fp16", "BFLOAT16": "bf16", "INT8": "int8", "FLOAT8E4M3FN": "fp8"}


def read_onnx(model: bytes | str | Path) -> bytes:
    """The bytes of a model given as bytes or as a path; ModelError where the file cannot be read."""
    if isinstance(model, bytes):
        return model
    try:
        return Path(model).read_bytes()
    except OSError as error:
        raise ModelError(f"the ONNX file {model} cannot be read: {error}", fix="check the path") from error


def parse_onnx(model: bytes) -> Any:
    """The `onnx.ModelProto`; ModelError where the bytes are none."""
    onnx = load("onnx", needed_for="reading ONNX models")
    message = load("google.protobuf.message", needed_for="reading ONNX models", install="python -m pip install onnx")
    try:
        return onnx.load_model_from_string(model)
    except message.DecodeError as error:
        raise ModelError(
            f"these {len(model)} bytes are no ONNX model: {error}", fix="export the model again"
        ) from error


def with_batch(model: bytes, batch: int) -> bytes:
    """The model with `batch` for every first dimension of an input or output that is left open."""
    parsed = parse_onnx(model)
    shapes = [tensor.type.tensor_type.shape for tensor in (*parsed.graph.input, *parsed.graph.output)]
    open_dimensions = [shape.dim[0] for shape in shapes if shape.dim and not shape.dim[0].HasField("dim_value")]
    for dimension in open_dimensions:
        dimension.dim_value = batch
    return parsed.SerializeToString() if open_dimensions else model


def precision_of(model: Any) -> str:
    """The number type that most of the weights have: 'fp32', 'fp16', 'bf16', 'int8', 'fp8', or '' without weights.

    It says what the model asks for; TensorRT may still compute fp32 on tensor cores as TF32.
    """
    weights: Counter[str] = Counter()
    for tensor in model.graph.initializer:
        weights[_PRECISIONS.get(tensor.DataType.Name(tensor.data_type), "")] += math.prod(tensor.dims)
    del weights[""]
    return weights.most_common(1)[0][0] if weights else ""


# What an exported YOLOv8 detector says of itself.


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What an exported YOLOv8 detector says of itself.

    `names` is empty where the file carries none. `image_size` is (height, width), None where the input is dynamic and
    the metadata do not say.
    """

    classes: int
    names: tuple[str, ...]
    image_size: tuple[int, int] | None


def read_model_info(model: bytes | str | Path) -> ModelInfo:
    """What an exported YOLOv8 detector, given as bytes or by its path, says of itself.

    ModelError where it cannot be read, is made for another task, or has no output of (batch, 4 + classes, cells).
    """
    what, loaded = _name(model), load_onnx(model)
    metadata = {entry.key: entry.value for entry in loaded.metadata_props}
    inputs, outputs = ([_shape(value) for value in values] for values in (loaded.graph.input, loaded.graph.output))
    _check_detector(what, inputs, outputs, metadata.get("task", "detect"))
    classes, (height, width) = outputs[0][1] - 4, inputs[0][2:]
    try:
        stated = ast.literal_eval(metadata.get("imgsz", "None"))
        names = _names(ast.literal_eval(metadata.get("names", "None")), classes)
        return ModelInfo(classes, names, (height, width) if height and width else stated and (stated[0], stated[1]))
    except (ValueError, SyntaxError, TypeError, LookupError) as error:
        fix = "export it again with Ultralytics, or remove the entries `names` and `imgsz` of its metadata"
        raise ModelError(f"{what} has unreadable metadata {metadata}", fix=fix) from error


def load_onnx(model: bytes | str | Path) -> Any:
    """The model as an `onnx.ModelProto`, without data that lies in other files; ModelError where it is none."""
    onnx = load("onnx", needed_for="reading ONNX models")
    try:
        if isinstance(model, bytes):
            return onnx.load_from_string(model)
        return onnx.load(model, load_external_data=False)
    except Exception as error:  # protobuf's own error class differs between its versions
        raise ModelError(f"{_name(model)} is no readable ONNX file: {error}", fix="export it again, as ONNX") from error


def _name(model: bytes | str | Path) -> str:
    return "the model" if isinstance(model, bytes) else str(model)


def _names(stated: dict[int, str] | list[str] | None, classes: int) -> tuple[str, ...]:
    return tuple(str(stated[index]) for index in range(classes)) if stated else ()


def _shape(value: Any) -> list[int]:
    """The dimensions of an ONNX graph input or output, 0 where open."""
    return [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]


def _check_detector(what: str, inputs: list[list[int]], outputs: list[list[int]], task: str) -> None:
    if task != "detect":
        raise ModelError(f"{what} is made for the task {task!r}", fix="export a detection model, such as yolov8n.pt")
    if [len(shape) for shape in (*inputs, *outputs)] == [4, 3]:
        (_, _, height, width), (_, rows, cells) = inputs[0], outputs[0]
        expected = sum((height // stride) * (width // stride) for stride in STRIDES)
        if rows > 4 and (cells == expected or not cells or not expected):
            return
    raise ModelError(
        f"{what} maps {inputs} to {outputs}; a YOLOv8 detector maps (batch, 3, height, width) to "
        "(batch, 4 + classes, cells)",
        fix="export with Ultralytics, format='onnx' and nms=False",
    )
