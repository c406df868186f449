"""ONNX models: their bytes, their sizes, and what their file says of itself."""

from __future__ import annotations

import ast
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from .errors import ModelError, SettingsError
from .files import limit_bytes, read_file, too_large
from .packages import load

STRIDES = (8, 16, 32)
"""Pixels of the network input per cell of each of the three output grids."""
ALL_STRIDES = (4, *STRIDES, 64, 128)
"""Those of heads for smaller things (P2) and for larger ones (P6) too."""

_PRECISIONS = {1: "fp32", 10: "fp16", 16: "bf16", 3: "int8", 17: "fp8"}  # by the numbers of TensorProto.DataType
_LONGEST_NAME = 100
_UNREADABLE = (ValueError, SyntaxError, TypeError, LookupError, MemoryError, RecursionError)
_PLANS = {b"ftrt": "tensorrt", b"vtrt": "tensorrt_rtx"}
_AS_ONNX = "export it as ONNX, with Ultralytics: yolo export model=FILE format=onnx"
_OTHER_FILES = {  # how files start that are taken for ONNX models: what they are, and the fix
    b"PK\x03\x04": ("weights of PyTorch", _AS_ONNX),
    b"\x80\x02": ("weights of PyTorch", _AS_ONNX),
    b"version https://git-lfs": ("a Git LFS pointer to the file", "fetch it: git lfs pull"),
    b"<": ("a web page", "download the file itself"),
    b"": ("", "export it again as ONNX"),
}


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

    ModelError if one of the files cannot be read or is too large (`limit_bytes`), and for bytes whose weights lie in
    another file.
    """
    if isinstance(model, bytes):
        content = model
    else:
        try:
            if (path := Path(model)).exists() and not path.is_file():  # a pipe would be waited for
                raise OSError("it is no file")
            content = read_file(path, error=ModelError)
        except (OSError, ValueError) as error:
            raise ModelError(f"the model {model} cannot be read: {error}", fix="check the path") from error
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
    folder = Path(model).absolute().parent
    with suppress(OSError, ValueError):  # what cannot be read is told below
        locations = {entry.value for each in outside for entry in each.external_data if entry.key == "location"}
        if (nbytes := sum((folder / each).stat().st_size for each in locations)) > limit_bytes():
            raise too_large(f"the weights of {model}", nbytes, ModelError)
    try:
        for tensor in outside:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(folder))
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


def _parsed(model: bytes | str | Path, content: bytes) -> Any:
    onnx = load("onnx", needed_for="reading ONNX models")
    message = load("google.protobuf.message", needed_for="reading ONNX models", install="python -m pip install onnx")
    name = "the model" if isinstance(model, bytes) else model
    if find_plan(content):
        fix = "open it on its GPU, with open_engine(device, FILE), or name the ONNX file that it was built from"
        raise ModelError(f"{name} must be an ONNX model, got a TensorRT plan", fix=fix)
    try:
        return onnx.load_model_from_string(content)
    except message.DecodeError as error:
        what, fix = next(told for start, told in _OTHER_FILES.items() if content.startswith(start))
        found = what or f"{len(content)} bytes that cannot be parsed ({error})"
        raise ModelError(f"{name} must be an ONNX model, got {found}", fix=fix) from error


class FoundPlan(NamedTuple):
    """A TensorRT plan in the bytes of a file."""

    module: str
    """The one that built it: 'tensorrt' or 'tensorrt_rtx'."""
    start: int
    """Where it starts: Ultralytics writes metadata before it."""
    metadata: Mapping[str, str]


def find_plan(content: bytes) -> FoundPlan | None:
    """The plan in a file as trtexec and as Ultralytics write it, by how it starts; None where there is none.

    Before the plan Ultralytics writes the length of its metadata, in four bytes, and the metadata as JSON.

    >>> find_plan(b"\\x12\\0\\0\\0" + b'{"task": "detect"}' + b"ftrt" + bytes(60))
    FoundPlan(module='tensorrt', start=22, metadata={'task': 'detect'})
    """
    if module := _PLANS.get(content[:4]):
        return FoundPlan(module, 0, {})
    start = 4 + int.from_bytes(content[:4], "little")
    module = _PLANS.get(content[start : start + 4])
    try:
        found = json.loads(content[4:start]) if module else None
    except _UNREADABLE:
        return None
    if module is None or not isinstance(found, dict):
        return None
    return FoundPlan(module, start, {key: str(value) for key, value in found.items()})


def is_plan(model: object) -> TypeGuard[bytes | str | Path]:
    """Whether these bytes, or the file of that path, are a plan; False for what cannot be read.

    >>> is_plan("nowhere.engine")
    False
    """
    if isinstance(model, str | Path):
        path, model = Path(model), b""
        with suppress(OSError, ValueError):
            if path.is_file():
                with path.open("rb") as file:
                    model = file.read(1 << 20)  # far more than metadata take
    return isinstance(model, bytes) and find_plan(model) is not None


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
        the metadata. With `boxes` a detector (YOLOv8, one frame at once) has a small output: its cells in so many
        groups, of each group the cell of the best class score. ModelError if the model cannot be read, leaves open what
        nothing says, or has no such output; SettingsError for an `image_size` or a `batch` that it cannot have.
        """
        if isinstance(model, OnnxModel):
            if (batch, image_size, boxes) == (1, None, None):
                return model
            return replace(cls.read(model.content, batch=batch, image_size=image_size, boxes=boxes), name=model.name)
        content = read_onnx(model)
        parsed = _parsed(model, content)
        metadata = {entry.key: entry.value for entry in parsed.metadata_props}
        name = name_of(model, metadata, parsed.graph.name)
        changed = _fix_sizes(parsed, name, metadata, batch, image_size)
        if boxes is not None:
            _keep_best_boxes(parsed, boxes)
            metadata["boxes"] = str(boxes)
        if changed or boxes is not None:
            content = parsed.SerializeToString()
        parameters = sum(math.prod(tensor.dims) for tensor in _tensors(parsed))
        return cls(content, name, metadata, precision_of(parsed), parameters)


def name_of(model: bytes | str | Path, metadata: Mapping[str, str], graph: str = "") -> str:
    """The name of a model: that of its file, or what it calls itself."""
    if not isinstance(model, bytes):
        return printable(Path(model).stem)
    described = re.match(r"Ultralytics (\S+) model", metadata.get("description", ""))
    return printable(described[1] if described else graph) or "the model"


def _shapes(values: Any) -> list[Any]:
    return [value.type.tensor_type.shape.dim for value in values]


def _fix_sizes(parsed: Any, name: str, metadata: Mapping[str, str], batch: int, image_size: Any) -> bool:
    """Write numbers for the sizes that the model leaves open; False where there are none."""
    inputs, outputs = _shapes(parsed.graph.input), _shapes(parsed.graph.output)
    sides = [dimension for shape in inputs if len(shape) == 4 for dimension in shape[2:]]
    open_sides = [side for side in sides if side.dim_value < 1]
    size = _image_size(name, metadata, image_size) if open_sides else _pair(image_size) if image_size else ()
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
    try:
        inferred = inference.infer_shapes(parsed, data_prop=True).graph.output
    except Exception as error:  # of the library, which is not sure of its input either
        fix = "export the model with dynamic=False"
        raise ModelError(f"the sizes of the model's outputs cannot be inferred: {error}", fix=fix) from error
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
    stride = int(metadata["stride"]) if metadata.get("stride", "") in map(str, ALL_STRIDES) else STRIDES[-1]
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


def _keep_best_boxes(parsed: Any, boxes: int) -> None:
    """Append nodes that keep the best cell of each group: the output shrinks from (1, 4 + classes, cells) to
    (1, 4 + classes, boxes). It stands for an engine with NMS in it, at the cost of a few small kernels.
    """
    onnx = load("onnx", needed_for="an output of a few boxes")
    make, output = onnx.helper.make_node, parsed.graph.output[0]
    shape = tuple(each.dim_value for each in output.type.tensor_type.shape.dim)
    if len(shape) != 3 or shape[0] != 1 or shape[1] <= 4 or boxes < 1 or shape[2] % boxes:
        raise ModelError(
            f"{boxes} boxes need an output of (1, 4 + classes, a multiple of {boxes}), got {shape}",
            fix="use batch=1, and 100 boxes of 8,400 cells",
        )
    _, rows, cells = shape
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


def precision_of(model: Any) -> str:
    """The number type of most weights of a `ModelProto`: 'fp32', 'fp16', 'bf16', 'int8', 'fp8', '' without weights."""
    weights: Counter[str] = Counter()  # what the model asks for: TensorRT may still compute fp32 as TF32
    for tensor in model.graph.initializer:
        weights[_PRECISIONS.get(tensor.data_type, "")] += math.prod(tensor.dims)
    del weights[""]
    return weights.most_common(1)[0][0] if weights else ""
