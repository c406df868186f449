"""The layers of YOLOv8 as ONNX nodes, with the shapes of the weights and how seeded ones are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod, sqrt
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SettingsError
from ..model import STRIDES, load_onnx
from ..packages import load

VARIANTS = {
    "n": (0.33, 0.25, 1024),
    "s": (0.33, 0.50, 1024),
    "m": (0.67, 0.75, 768),
    "l": (1.00, 1.00, 512),
    "x": (1.00, 1.25, 512),
}
"""Depth, width, and the most channels (before width) of each variant."""

_BINS = 16

# Seeded weights aim at outputs of standard deviation _SPREAD in every hidden convolution. That is small: SiLU is nearly
# linear there, so that rounding errors do not grow from layer to layer as they would in a strongly nonlinear network of
# random weights (float16 and float32 then differ by 0.3 px at most, not by 8). _SILU_VARIANCE is that of
# silu(_SPREAD z) for normal z. _CLASS_BIAS keeps most scores low, as in a trained model.
_SPREAD, _SILU_VARIANCE = 0.25, 0.01609
_LOGIT_SPREAD, _CLASS_BIAS = 1.2, -4.0


@dataclass(frozen=True, slots=True)
class _Tensor:
    """An activation: its name, its channels, and the variance that seeded weights are expected to give it."""

    name: str
    channels: int
    variance: float


class Network:
    """Collects the nodes of the graph, and the shapes and spreads of its weights, layer by layer.

    A `path` is a PyTorch module path such as `model.2.cv1`; nodes and their outputs are named after it.
    """

    def __init__(self, *, half: bool = False) -> None:
        self._onnx = import_onnx()
        self._half = half
        self.dtype = np.float16 if half else np.float32
        self.nodes: list[Any] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._draws: dict[str, tuple[float, float]] = {}

    def seeded_weights(self, seed: int) -> Iterator[tuple[str, np.ndarray]]:
        """Each weight drawn from a normal distribution, in the order of the layers; the bins are 0 to 15.

        Filters over hidden layers are standardised (Brock et al., "Characterizing signal propagation to close the
        performance gap in unnormalized ResNets", 2021): without it the mean of the activations takes over with depth,
        and every cell gives the same output.
        """
        generator = np.random.default_rng(seed)
        for name, shape in self.shapes.items():
            if name.endswith("dfl.conv.weight"):
                yield name, np.arange(_BINS, dtype=np.float32).reshape(shape)
                continue
            mean, spread = self._draws[name]
            drawn = generator.standard_normal(shape, np.float32)
            if len(shape) == 4 and not name.startswith("model.0."):
                drawn -= drawn.mean(axis=(1, 2, 3), keepdims=True)
                drawn /= drawn.std(axis=(1, 2, 3), keepdims=True)
            yield name, drawn * np.float32(spread) + np.float32(mean)

    def add_layers(self, variant: str, classes: int, image_size: tuple[int, int]) -> None:
        """The layers of yolov8.yaml, with its module numbers in the paths."""
        depth, width, most = VARIANTS[variant]

        def channels(count: int) -> int:
            return 8 * ceil(min(count, most) * width / 8)

        def repeats(count: int) -> int:
            return max(round(count * depth), 1)

        x = _Tensor(self._cast("images", "model.input", half=True), 3, 1 / 3)
        x = self._conv(x, "model.0", channels(64), 3, 2)
        x = self._conv(x, "model.1", channels(128), 3, 2)
        x = self._c2f(x, "model.2", channels(128), repeats(3), shortcut=True)
        x = self._conv(x, "model.3", channels(256), 3, 2)
        x4 = self._c2f(x, "model.4", channels(256), repeats(6), shortcut=True)
        x = self._conv(x4, "model.5", channels(512), 3, 2)
        x6 = self._c2f(x, "model.6", channels(512), repeats(6), shortcut=True)
        x = self._conv(x6, "model.7", channels(1024), 3, 2)
        x = self._c2f(x, "model.8", channels(1024), repeats(3), shortcut=True)
        x9 = self._sppf(x, "model.9", channels(1024))
        x = self._concat([self._upsample(x9, "model.10"), x6], "model.11")
        x12 = self._c2f(x, "model.12", channels(512), repeats(3))
        x = self._concat([self._upsample(x12, "model.13"), x4], "model.14")
        x15 = self._c2f(x, "model.15", channels(256), repeats(3))
        x = self._concat([self._conv(x15, "model.16", channels(256), 3, 2), x12], "model.17")
        x18 = self._c2f(x, "model.18", channels(512), repeats(3))
        x = self._concat([self._conv(x18, "model.19", channels(512), 3, 2), x9], "model.20")
        x21 = self._c2f(x, "model.21", channels(1024), repeats(3))
        self._detect([x15, x18, x21], "model.22", classes, image_size)

    def _node(self, op: str, inputs: Sequence[str], path: str, *, output: str = "", **attributes: Any) -> str:
        output = output or f"{path}/{op}_output"
        self._append(op, inputs, [output], path, **attributes)
        return output

    def _append(self, op: str, inputs: Sequence[str], outputs: Sequence[str], path: str, **attributes: Any) -> None:
        self.nodes.append(self._onnx.helper.make_node(op, inputs, outputs, name=f"{path}/{op}", **attributes))

    def _constant(self, path: str, array: np.ndarray) -> str:
        """A constant is a node, so that the graph's initializers are the weights and nothing else."""
        return self._node("Constant", [], path, value=self._onnx.numpy_helper.from_array(array))

    def _cast(self, name: str, path: str, *, half: bool) -> str:
        """To float16 or back; nothing in a float32 network."""
        if not self._half:
            return name
        types = self._onnx.TensorProto
        return self._node("Cast", [name], path, to=types.FLOAT16 if half else types.FLOAT)

    def _reshape(self, name: str, path: str, shape: Sequence[int]) -> str:
        return self._node("Reshape", [name, self._constant(path, np.array(shape, np.int64))], path)

    def _split(self, name: str, path: str, sizes: Sequence[int]) -> list[str]:
        outputs = [f"{path}/Split_output_{index}" for index in range(len(sizes))]
        inputs = [name, self._constant(path, np.array(sizes, np.int64))]
        self._append("Split", inputs, outputs, path, axis=1)
        return outputs

    def _conv2d(
        self, x: _Tensor, path: str, channels: int, kernel: int, stride: int = 1, spread: float = 0, bias: float = 0
    ) -> str:
        fan_in = x.channels * kernel**2
        self.shapes[f"{path}.weight"] = (channels, x.channels, kernel, kernel)
        self.shapes[f"{path}.bias"] = (channels,)
        self._draws[f"{path}.weight"] = (0, spread / sqrt(fan_in * x.variance))
        self._draws[f"{path}.bias"] = (bias, 0.1 * spread)
        inputs = [x.name, f"{path}.weight", f"{path}.bias"]
        return self._node("Conv", inputs, path, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4)

    def _conv(self, x: _Tensor, path: str, channels: int, kernel: int = 1, stride: int = 1) -> _Tensor:
        """Convolution and SiLU."""
        y = self._conv2d(x, f"{path}.conv", channels, kernel, stride, _SPREAD)
        gate = self._node("Sigmoid", [y], f"{path}.act")
        return _Tensor(self._node("Mul", [y, gate], f"{path}.act"), channels, _SILU_VARIANCE)

    def _c2f(self, x: _Tensor, path: str, channels: int, repeats: int, *, shortcut: bool = False) -> _Tensor:
        """A chain of bottlenecks whose every intermediate result is kept and mixed at the end."""
        hidden = channels // 2
        x = self._conv(x, f"{path}.cv1", 2 * hidden)
        parts = [_Tensor(name, hidden, x.variance) for name in self._split(x.name, path, [hidden, hidden])]
        for index in range(repeats):
            block = f"{path}.m.{index}"
            y = self._conv(self._conv(parts[-1], f"{block}.cv1", hidden, 3), f"{block}.cv2", hidden, 3)
            if shortcut:
                total = self._node("Add", [parts[-1].name, y.name], block)
                y = _Tensor(total, hidden, parts[-1].variance + y.variance)
            parts.append(y)
        return self._conv(self._concat(parts, path), f"{path}.cv2", channels)

    def _sppf(self, x: _Tensor, path: str, channels: int) -> _Tensor:
        """Spatial pyramid pooling: three poolings in a row see 5, 9 and 13 cells."""
        parts = [self._conv(x, f"{path}.cv1", x.channels // 2)]
        for index in range(3):
            y = self._node("MaxPool", [parts[-1].name], f"{path}.m.{index}", kernel_shape=[5, 5], pads=[2] * 4)
            parts.append(_Tensor(y, parts[0].channels, parts[0].variance))
        return self._conv(self._concat(parts, path), f"{path}.cv2", channels)

    def _upsample(self, x: _Tensor, path: str) -> _Tensor:
        scales = self._constant(path, np.array([1, 1, 2, 2], np.float32))
        how: dict[str, Any] = {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
        return _Tensor(self._node("Resize", [x.name, "", scales], path, **how), x.channels, x.variance)

    def _concat(self, parts: Sequence[_Tensor], path: str) -> _Tensor:
        channels = sum(part.channels for part in parts)
        variance = sum(part.variance * part.channels for part in parts) / channels
        return _Tensor(self._node("Concat", [part.name for part in parts], path, axis=1), channels, variance)

    def _detect(self, grids: Sequence[_Tensor], path: str, classes: int, image_size: tuple[int, int]) -> None:
        """The head: box bins and class logits of each grid, joined over all cells, then decoded."""
        box_hidden = max(16, grids[0].channels // 4, 4 * _BINS)
        class_hidden = max(grids[0].channels, min(classes, 100))
        joined = []
        for index, grid in enumerate(grids):
            boxes = self._branch(grid, f"{path}.cv2.{index}", box_hidden, 4 * _BINS)
            scores = self._branch(grid, f"{path}.cv3.{index}", class_hidden, classes, _CLASS_BIAS)
            both = self._node("Concat", [boxes, scores], f"{path}.{index}", axis=1)
            joined.append(self._reshape(both, f"{path}.{index}", [0, 4 * _BINS + classes, -1]))
        cells = self._node("Concat", joined, path, axis=2)
        boxes, logits = self._split(cells, path, [4 * _BINS, classes])
        scores = self._cast(self._node("Sigmoid", [logits], path), f"{path}.scores", half=False)
        boxes = self._decode(boxes, path, image_size)
        self._node("Concat", [boxes, scores], f"{path}.output", output="output0", axis=1)

    def _branch(self, x: _Tensor, path: str, hidden: int, channels: int, bias: float = 0) -> str:
        x = self._conv(self._conv(x, f"{path}.0", hidden, 3), f"{path}.1", hidden, 3)
        return self._conv2d(x, f"{path}.2", channels, 1, 1, _LOGIT_SPREAD, bias)

    def _decode(self, bins: str, path: str, image_size: tuple[int, int]) -> str:
        """From the bins of four distances in cells to centre, width and height in pixels."""
        dfl = f"{path}.dfl"
        bins = self._node("Transpose", [self._reshape(bins, dfl, [0, 4, _BINS, -1])], dfl, perm=[0, 2, 1, 3])
        likely = self._node("Softmax", [bins], dfl, axis=1)
        self.shapes[f"{dfl}.conv.weight"] = (1, _BINS, 1, 1)
        distances = self._node("Conv", [likely, f"{dfl}.conv.weight"], f"{dfl}.conv")
        distances = self._cast(self._reshape(distances, f"{dfl}.conv", [0, 4, -1]), f"{path}.distances", half=False)
        left_top, right_bottom = self._split(distances, f"{path}.distances", [2, 2])
        centres, strides = _cells(image_size)
        middle = self._constant(f"{path}.cells", centres)
        low = self._node("Sub", [middle, left_top], f"{path}.low")
        high = self._node("Add", [middle, right_bottom], f"{path}.high")
        total = self._node("Add", [low, high], f"{path}.centre")
        two = self._constant(f"{path}.centre", np.array([2], np.float32))
        centre = self._node("Div", [total, two], f"{path}.centre")
        size = self._node("Sub", [high, low], f"{path}.size")
        boxes = self._node("Concat", [centre, size], f"{path}.boxes", axis=1)
        return self._node("Mul", [boxes, self._constant(f"{path}.boxes", strides)], f"{path}.boxes")


def _cells(image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Of all cells, grid by grid and row by row: their centres in cells (1, 2, n), and their strides (1, n)."""
    centres, strides = [], []
    for stride in STRIDES:
        rows, columns = np.mgrid[: image_size[0] // stride, : image_size[1] // stride]
        centres.append(np.stack([columns.ravel(), rows.ravel()]) + 0.5)
        strides.append(np.full(rows.size, stride))
    return np.concatenate(centres, axis=1)[None].astype(np.float32), np.concatenate(strides)[None].astype(np.float32)


def import_onnx() -> Any:
    """The onnx package; MissingPackageError where it is not installed."""
    for module in ("onnx.helper", "onnx.numpy_helper"):
        load(module, needed_for="YOLOv8 models")
    return load("onnx", needed_for="YOLOv8 models")


# YOLOv8 with seeded or given weights, as a serialized ONNX model.


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


# The YOLOv8 detection network as an ONNX graph, with the tensors, names and output that Ultralytics exports.
#
# Batch normalisation is folded into the convolutions, as in an export. Weights are drawn from a seed, so that a network
# of the real size and cost needs no download; a trained model's weights go in by their PyTorch names.
#
# The layers are those of `yolov8.yaml` of Ultralytics 8 (https://docs.ultralytics.com/models/yolov8/). A box is decoded
# as in Li et al., "Generalized Focal Loss" (NeurIPS 2020): each side's distance is the expected value over 16 bins.
