"""YOLOv8 with seeded or given weights, as a serialized ONNX model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path

import numpy as np

from ..errors import SettingsError
from .info import load_onnx
from .network import STRIDES, VARIANTS, Network, import_onnx

_OPSET, _IR_VERSION = 17, 8  # read by ONNX Runtime 1.20 and TensorRT 10 alike


def build_model(
    variant: str = "n",
    *,
    classes: int = 80,
    image_size: int | tuple[int, int] = 640,
    batch: int = 1,
    dynamic_batch: bool = False,
    precision: str = "fp32",
    seed: int = 0,
    weights: Mapping[str, np.ndarray] | None = None,
    names: Sequence[str] | None = None,
) -> bytes:
    """The network as a serialized ONNX model.

    Input `images` is float32 (batch, 3, height, width), RGB from 0 to 1. Output `output0` is float32
    (batch, 4 + classes, cells): centre x, centre y, width and height in pixels of the network input, then the class
    scores after the sigmoid. `image_size` is one number or (height, width), multiples of 32. With `dynamic_batch` the
    first dimension is open.

    `precision="fp16"` holds the weights in float16 and computes in it. Input and output stay float32, and so does the
    step from distances to pixels, which float16 would round to half a pixel.

    `weights` maps each name of `weight_shapes` to an array, such as the state dict of a fused PyTorch model; without
    it they are drawn from `seed`. `names` are the class names for the metadata. SettingsError where a value is not
    usable.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    _check_settings(variant, classes, (height, width), batch, precision, names)
    onnx = import_onnx()
    network = Network(half=precision == "fp16")
    network.add_layers(variant, classes, (height, width))
    tensors = network.seeded_weights(seed) if weights is None else _checked_weights(weights, network.shapes)
    rows: int | str = "batch" if dynamic_batch else batch
    cells = sum((height // stride) * (width // stride) for stride in STRIDES)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        network.nodes,
        f"yolov8{variant}",
        [value("images", onnx.TensorProto.FLOAT, [rows, 3, height, width])],
        [value("output0", onnx.TensorProto.FLOAT, [rows, 4 + classes, cells])],
        [onnx.numpy_helper.from_array(array.astype(network.dtype, copy=False), name) for name, array in tensors],
    )
    opset = onnx.helper.make_opsetid("", _OPSET)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="yolotrt_lab")
    names = [f"class{index}" for index in range(classes)] if names is None else names
    metadata = {"task": "detect", "stride": STRIDES[-1], "batch": batch, "imgsz": [height, width]}
    metadata["names"] = dict(enumerate(names))
    onnx.helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
    return model.SerializeToString()


def weight_shapes(variant: str = "n", classes: int = 80) -> dict[str, tuple[int, ...]]:
    """The shape of every weight by its PyTorch name, in the order of the layers; SettingsError as in `build_model`."""
    _check_settings(variant, classes)
    network = Network()
    network.add_layers(variant, classes, (STRIDES[-1], STRIDES[-1]))
    return network.shapes


def read_weights(model: bytes | str | Path) -> dict[str, np.ndarray]:
    """The weights in a model that `build_model` made, by name, to build it again: in another precision, for example.

    ModelError where it cannot be read.
    """
    onnx = import_onnx()
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in load_onnx(model).graph.initializer}


def parameter_count(variant: str = "n", classes: int = 80) -> int:
    """How many numbers the weights are; SettingsError as in `build_model`."""
    return sum(prod(shape) for shape in weight_shapes(variant, classes).values())


def _check_settings(
    variant: str,
    classes: int,
    image_size: tuple[int, int] = (640, 640),
    batch: int = 1,
    precision: str = "fp32",
    names: Sequence[str] | None = None,
) -> None:
    if variant not in VARIANTS:
        raise SettingsError(f"there is no YOLOv8{variant}", fix=f"choose one of {', '.join(VARIANTS)}")
    if precision not in ("fp32", "fp16"):
        raise SettingsError(f"precision {precision!r} is not known", fix="choose fp32 or fp16")
    if classes < 1 or batch < 1:
        raise SettingsError(f"classes={classes}, batch={batch}: both count from 1", fix="pass 1 or more")
    if any(size < STRIDES[-1] or size % STRIDES[-1] for size in image_size):
        raise SettingsError(f"image_size {image_size} does not fit the grids", fix="pass multiples of 32, such as 640")
    if names is not None and len(names) != classes:
        raise SettingsError(f"{len(names)} names for {classes} classes", fix="pass one name for each class")


def _checked_weights(
    weights: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[str, np.ndarray]]:
    if odd := sorted(weights.keys() ^ shapes.keys()):
        raise SettingsError(
            f"{len(odd)} weight names are missing or not the network's, among them {odd[0]}",
            fix="pass the names of weight_shapes(); fold batch normalisation in first (Ultralytics: model.fuse())",
        )
    for name, shape in shapes.items():
        array = np.asarray(weights[name])
        if array.shape != shape:
            raise SettingsError(
                f"{name} has shape {array.shape}, the network wants {shape}",
                fix="build the variant and the number of classes that the weights were trained for",
            )
        yield name, array
