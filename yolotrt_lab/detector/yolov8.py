"""The YOLOv8 detection network as an ONNX graph, with the tensors, names and output that Ultralytics exports.

Batch normalisation is folded into the convolutions, as in an export. Weights are drawn from a seed, so that a network
of the real size and cost needs no download, or given by their PyTorch names. The layers are those of `yolov8.yaml` of
Ultralytics 8 (https://docs.ultralytics.com/models/yolov8/). A box is decoded as in Li et al., "Generalized Focal Loss"
(NeurIPS 2020): the distance to each side is the expected value over 16 bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, sqrt
from typing import Any, NamedTuple

import numpy as np

from ..errors import SettingsError
from ..model import STRIDES, cell_count
from ..packages import load

VARIANTS = {
    "n": (0.33, 0.25, 1024),
    "s": (0.33, 0.50, 1024),
    "m": (0.67, 0.75, 768),
    "l": (1.00, 1.00, 512),
    "x": (1.00, 1.25, 512),
}
"""Depth, width, and the most channels (before width) of each variant."""
BINS = 16
"""How many values the distance from a cell's centre to one side of a box can have: 0 to 15 cells."""

# Seeded weights aim at outputs of standard deviation _SPREAD in every hidden convolution. That is small: SiLU is nearly
# linear there, so that rounding errors do not grow from layer to layer as they would in a strongly nonlinear network of
# random weights (float16 and float32 then differ by 0.3 px at most, not by 8). _SILU_VARIANCE is that of
# silu(_SPREAD z) for normal z. _CLASS_BIAS keeps most scores low, as in a trained model.
_SPREAD, _SILU_VARIANCE = 0.25, 0.01609
_LOGIT_SPREAD, _CLASS_BIAS = 1.2, -4.0
_OPSET, _IR_VERSION = 17, 8  # read by ONNX Runtime 1.20 and TensorRT 10 alike


class Layer(NamedTuple):
    """A module of yolov8.yaml, whose input is the output of the module before it."""

    kind: str
    """'conv' (3 x 3, stride 2), 'c2f', 'sppf', 'upsample' or 'concat'."""
    channels: int = 0
    repeats: int = 0
    shortcut: bool = False
    source: int = 0
    """The number of the module whose output is joined by 'concat'."""


_LAYERS = (
    Layer("conv", 64), Layer("conv", 128), Layer("c2f", 128, 3, True), Layer("conv", 256), Layer("c2f", 256, 6, True),
    Layer("conv", 512), Layer("c2f", 512, 6, True), Layer("conv", 1024), Layer("c2f", 1024, 3, True),
    Layer("sppf", 1024),  # 9: the last of the backbone
    Layer("upsample"), Layer("concat", source=6), Layer("c2f", 512, 3),
    Layer("upsample"), Layer("concat", source=4), Layer("c2f", 256, 3),
    Layer("conv", 256), Layer("concat", source=12), Layer("c2f", 512, 3),
    Layer("conv", 512), Layer("concat", source=9), Layer("c2f", 1024, 3),
)  # fmt: skip
GRIDS = (15, 18, 21)
"""The layers whose outputs are the grids from which the detection head, number 22, makes boxes."""


def layers(variant: str) -> list[Layer]:
    """The layers of a variant by their numbers, with its channels and repeats."""
    depth, width, most = VARIANTS[variant]
    return [
        layer._replace(
            channels=8 * ceil(min(layer.channels, most) * width / 8), repeats=max(round(layer.repeats * depth), 1)
        )
        for layer in _LAYERS
    ]


def hidden_channels(first_grid: int, classes: int) -> tuple[int, int]:
    """The channels inside the head's branches for boxes and for scores, by those of the finest grid."""
    return max(16, first_grid // 4, 4 * BINS), max(first_grid, min(classes, 100))


class _Tensor(NamedTuple):
    """An activation: its name, its channels, and the variance that seeded weights are expected to give it."""

    name: str
    channels: int
    variance: float


class _Network:
    """The nodes of the graph, and the shapes and spreads of its weights. SettingsError for values out of range.

    A `path` is a PyTorch module path such as `model.2.cv1`; nodes and their outputs are named after it.
    """

    def __init__(self, variant: str, classes: int, image_size: tuple[int, int], *, half: bool = False) -> None:
        if variant not in VARIANTS:
            raise SettingsError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}", fix="use 'n'")
        if any(size < STRIDES[-1] or size % STRIDES[-1] for size in image_size):
            raise SettingsError(f"image_size must be multiples of 32, got {image_size}", fix="pass 640, for example")
        self._onnx = load("onnx", needed_for="YOLOv8 models")
        self._half = half
        self.nodes: list[Any] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._draws: dict[str, tuple[float, float]] = {}
        x = _Tensor(self._cast("images", "model.input", half=True), 3, 1 / 3)
        outputs: list[_Tensor] = []
        for number, layer in enumerate(layers(variant)):
            x = self._layer(layer, x, f"model.{number}", outputs)
            outputs.append(x)
        self._detect([outputs[number] for number in GRIDS], f"model.{len(outputs)}", classes, image_size)

    def seeded_weights(self, seed: int) -> dict[str, np.ndarray]:
        """Each weight drawn from a normal distribution, in the order of the layers; the bins are 0 to 15.

        Filters over hidden layers are standardised (Brock et al., "Characterizing signal propagation to close the
        performance gap in unnormalized ResNets", 2021): without it the mean of the activations takes over with depth,
        and every cell gives the same output.
        """
        generator = np.random.default_rng(seed)
        weights = {}
        for name, shape in self.shapes.items():
            if name not in self._draws:
                weights[name] = np.arange(BINS, dtype=np.float32).reshape(shape)
                continue
            drawn = generator.standard_normal(shape, np.float32)
            if drawn.ndim == 4 and not name.startswith("model.0."):
                drawn -= drawn.mean(axis=(1, 2, 3), keepdims=True)
                drawn /= drawn.std(axis=(1, 2, 3), keepdims=True)
            mean, spread = self._draws[name]
            weights[name] = drawn * np.float32(spread) + np.float32(mean)
        return weights

    def initializers(self, weights: Mapping[str, np.ndarray]) -> list[Any]:
        """The weights as ONNX tensors, in the order of the layers; SettingsError if they do not fit."""
        if odd := sorted(weights.keys() ^ self.shapes.keys()):
            raise SettingsError(
                f"weights must be named as in weight_shapes(), got {len(odd)} missing or unknown, among them {odd[0]}",
                fix="fold batch normalisation into the convolutions first (Ultralytics: model.fuse())",
            )
        dtype = np.float16 if self._half else np.float32
        return [self._onnx.numpy_helper.from_array(np.asarray(weights[name], dtype), name) for name in self.shapes]

    def _node(self, op: str, path: str, *inputs: str | np.ndarray, outputs: Sequence[str] = (), **how: Any) -> str:
        names = [each if isinstance(each, str) else self._constant(path, each) for each in inputs]
        outputs = outputs or [f"{path}/{op}_output"]
        self.nodes.append(self._onnx.helper.make_node(op, names, outputs, name=f"{path}/{op}", **how))
        return outputs[0]

    def _constant(self, path: str, array: np.ndarray) -> str:
        """A constant is a node, so that the graph's initializers are the weights and nothing else."""
        return self._node("Constant", path, value=self._onnx.numpy_helper.from_array(array))

    def _cast(self, name: str, path: str, *, half: bool) -> str:
        """To float16 or back; nothing in a float32 network."""
        types = self._onnx.TensorProto
        return self._node("Cast", path, name, to=types.FLOAT16 if half else types.FLOAT) if self._half else name

    def _reshape(self, name: str, path: str, *shape: int) -> str:
        return self._node("Reshape", path, name, np.array(shape, np.int64))

    def _split(self, name: str, path: str, *sizes: int) -> list[str]:
        outputs = [f"{path}/Split_output_{index}" for index in range(len(sizes))]
        self._node("Split", path, name, np.array(sizes, np.int64), outputs=outputs, axis=1)
        return outputs

    def _layer(self, layer: Layer, x: _Tensor, path: str, outputs: Sequence[_Tensor]) -> _Tensor:
        match layer.kind:
            case "conv":
                return self._conv(x, path, layer.channels, 3, 2)
            case "c2f":
                return self._c2f(x, path, layer)
            case "sppf":
                return self._sppf(x, path)
            case "upsample":
                scales = np.array([1, 1, 2, 2], np.float32)
                how: dict[str, Any] = {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
                return _Tensor(self._node("Resize", path, x.name, "", scales, **how), x.channels, x.variance)
        return self._concat([x, outputs[layer.source]], path)

    def _conv2d(
        self, x: _Tensor, path: str, channels: int, kernel: int, stride: int = 1, spread: float = 0, bias: float = 0
    ) -> str:
        weight, offset = f"{path}.weight", f"{path}.bias"
        self.shapes |= {weight: (channels, x.channels, kernel, kernel), offset: (channels,)}
        self._draws |= {weight: (0, spread / sqrt(x.channels * kernel**2 * x.variance)), offset: (bias, 0.1 * spread)}
        how: dict[str, Any] = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4}
        return self._node("Conv", path, x.name, weight, offset, **how)

    def _conv(self, x: _Tensor, path: str, channels: int, kernel: int = 1, stride: int = 1) -> _Tensor:
        """Convolution and SiLU."""
        y = self._conv2d(x, f"{path}.conv", channels, kernel, stride, _SPREAD)
        gate = self._node("Sigmoid", f"{path}.act", y)
        return _Tensor(self._node("Mul", f"{path}.act", y, gate), channels, _SILU_VARIANCE)

    def _c2f(self, x: _Tensor, path: str, layer: Layer) -> _Tensor:
        """A chain of bottlenecks whose every intermediate result is kept and mixed at the end."""
        hidden = layer.channels // 2
        x = self._conv(x, f"{path}.cv1", 2 * hidden)
        parts = [_Tensor(name, hidden, x.variance) for name in self._split(x.name, path, hidden, hidden)]
        for index in range(layer.repeats):
            block, before = f"{path}.m.{index}", parts[-1]
            y = self._conv(self._conv(before, f"{block}.cv1", hidden, 3), f"{block}.cv2", hidden, 3)
            if layer.shortcut:
                y = _Tensor(self._node("Add", block, before.name, y.name), hidden, before.variance + y.variance)
            parts.append(y)
        return self._conv(self._concat(parts, path), f"{path}.cv2", layer.channels)

    def _sppf(self, x: _Tensor, path: str) -> _Tensor:
        """Spatial pyramid pooling: three poolings in a row see 5, 9 and 13 cells."""
        parts = [self._conv(x, f"{path}.cv1", x.channels // 2)]
        for index in range(3):
            y = self._node("MaxPool", f"{path}.m.{index}", parts[-1].name, kernel_shape=[5, 5], pads=[2] * 4)
            parts.append(_Tensor(y, parts[0].channels, parts[0].variance))
        return self._conv(self._concat(parts, path), f"{path}.cv2", x.channels)

    def _concat(self, parts: Sequence[_Tensor], path: str) -> _Tensor:
        channels = sum(part.channels for part in parts)
        variance = sum(part.variance * part.channels for part in parts) / channels
        return _Tensor(self._node("Concat", path, *(part.name for part in parts), axis=1), channels, variance)

    def _detect(self, grids: Sequence[_Tensor], path: str, classes: int, image_size: tuple[int, int]) -> None:
        """The head: box bins and class logits of each grid, joined over all cells, then decoded."""
        box_hidden, class_hidden = hidden_channels(grids[0].channels, classes)
        joined = []
        for index, grid in enumerate(grids):
            boxes = self._branch(grid, f"{path}.cv2.{index}", box_hidden, 4 * BINS)
            scores = self._branch(grid, f"{path}.cv3.{index}", class_hidden, classes, _CLASS_BIAS)
            both = self._node("Concat", f"{path}.{index}", boxes, scores, axis=1)
            joined.append(self._reshape(both, f"{path}.{index}", 0, 4 * BINS + classes, -1))
        bins, logits = self._split(self._node("Concat", path, *joined, axis=2), path, 4 * BINS, classes)
        scores = self._cast(self._node("Sigmoid", path, logits), f"{path}.scores", half=False)
        boxes = self._decode(bins, path, image_size)
        self._node("Concat", f"{path}.output", boxes, scores, outputs=["output0"], axis=1)

    def _branch(self, x: _Tensor, path: str, hidden: int, channels: int, bias: float = 0) -> str:
        x = self._conv(self._conv(x, f"{path}.0", hidden, 3), f"{path}.1", hidden, 3)
        return self._conv2d(x, f"{path}.2", channels, 1, 1, _LOGIT_SPREAD, bias)

    def _decode(self, bins: str, path: str, image_size: tuple[int, int]) -> str:
        """From the bins of four distances in cells to centre, width and height in pixels."""
        dfl, weight = f"{path}.dfl", f"{path}.dfl.conv.weight"
        bins = self._node("Transpose", dfl, self._reshape(bins, dfl, 0, 4, BINS, -1), perm=[0, 2, 1, 3])
        self.shapes[weight] = (1, BINS, 1, 1)
        distances = self._node("Conv", f"{dfl}.conv", self._node("Softmax", dfl, bins, axis=1), weight)
        distances = self._cast(self._reshape(distances, f"{dfl}.conv", 0, 4, -1), f"{path}.distances", half=False)
        left_top, right_bottom = self._split(distances, f"{path}.distances", 2, 2)
        centres, strides = _cells(image_size)
        middle = self._constant(f"{path}.cells", centres)
        low = self._node("Sub", f"{path}.low", middle, left_top)
        high = self._node("Add", f"{path}.high", middle, right_bottom)
        total = self._node("Add", f"{path}.centre", low, high)
        centre = self._node("Div", f"{path}.centre", total, np.array([2], np.float32))
        size = self._node("Sub", f"{path}.size", high, low)
        boxes = self._node("Concat", f"{path}.boxes", centre, size, axis=1)
        return self._node("Mul", f"{path}.boxes", boxes, strides)


def _cells(image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Of all cells, grid by grid and row by row: their centres in cells (1, 2, n), and their strides (1, n)."""
    centres, strides = [], []
    for stride in STRIDES:
        rows, columns = np.mgrid[: image_size[0] // stride, : image_size[1] // stride]
        centres.append(np.stack([columns.ravel(), rows.ravel()]) + 0.5)
        strides.append(np.full(rows.size, stride))
    return np.concatenate(centres, axis=1)[None].astype(np.float32), np.concatenate(strides)[None].astype(np.float32)


def build_model(
    variant: str = "n",
    *,
    classes: int = 80,
    image_size: int | tuple[int, int] = 640,
    precision: str = "fp32",
    seed: int = 0,
    weights: Mapping[str, np.ndarray] | None = None,
    names: Sequence[str] | None = None,
) -> bytes:
    """A YOLOv8 network as a serialized ONNX model.

    `image_size` is one number or (height, width), multiples of 32. The batch is open: `OnnxModel.read` fixes it.
    `weights` maps each name of `weight_shapes` to an array, such as the state dict of a fused PyTorch model; without
    it the weights are drawn from `seed`. `names` are the class names for the metadata.

    Input `images` is float32 (batch, 3, height, width), RGB from 0 to 1. Output `output0` is float32
    (batch, 4 + classes, cells): centre x, centre y, width and height in pixels of the network input, then the class
    scores after the sigmoid. `precision="fp16"` holds the weights in float16 and computes in it, except for the step
    from distances to pixels, which float16 would round to half a pixel. SettingsError if a value is not usable.

    >>> from yolotrt_lab.onnxruntime import OnnxRuntimeEngine
    >>> engine = OnnxRuntimeEngine(build_model("n", classes=2, image_size=(64, 96), names=["nut", "bolt"]))
    >>> engine.describe().names, engine.inputs[0].shape
    (('nut', 'bolt'), (1, 3, 64, 96))
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    names = [f"class{number}" for number in range(classes)] if names is None else names
    onnx = load("onnx", needed_for="YOLOv8 models")
    network = _Network(variant, classes, (height, width), half=precision == "fp16")
    tensors = network.initializers(network.seeded_weights(seed) if weights is None else weights)
    shapes = {"images": ["batch", 3, height, width], "output0": ["batch", 4 + classes, cell_count(height, width)]}
    edges = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = onnx.helper.make_graph(network.nodes, f"yolov8{variant}", edges[:1], edges[1:], tensors)
    opset = onnx.helper.make_opsetid("", _OPSET)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="yolotrt_lab")
    metadata = {"task": "detect", "stride": STRIDES[-1], "batch": 1, "imgsz": [height, width]}
    metadata["names"] = dict(enumerate(names))
    onnx.helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
    serialized: bytes = model.SerializeToString()
    return serialized


def weight_shapes(variant: str = "n", classes: int = 80) -> dict[str, tuple[int, ...]]:
    """The shape of every weight by its PyTorch name, in the order of the layers; SettingsError as in `build_model`.

    >>> weight_shapes("n")["model.0.conv.weight"]
    (16, 3, 3, 3)
    """
    return _Network(variant, classes, (STRIDES[-1], STRIDES[-1])).shapes
