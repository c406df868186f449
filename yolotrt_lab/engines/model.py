"""An ONNX model as bytes: where an engine gets it, and which number type its weights have."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..packages import load

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
