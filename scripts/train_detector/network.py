"""YOLOv8 in PyTorch, with batch normalisation to train with: the layers and names of `yolotrt_lab.detector.yolov8`."""

from __future__ import annotations

from collections.abc import Iterator
from math import log
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from yolotrt_lab.detector.yolov8 import BINS, GRIDS, hidden_channels, layers
from yolotrt_lab.model import STRIDES

_EPSILON, _MOMENTUM = 1e-3, 0.03  # of the batch normalisation, as Ultralytics sets them


class Raw(NamedTuple):
    """The output before decoding, over all cells: `bins` (batch, cells, 4, BINS), `logits` (batch, cells, classes)."""

    bins: Tensor
    logits: Tensor


class Cells(NamedTuple):
    """All cells, grid by grid and row by row: centres (cells, 2) in pixels of the input, and strides (cells, 1)."""

    centres: Tensor
    strides: Tensor


def make_cells(image_size: tuple[int, int], device: torch.device | str = "cpu") -> Cells:
    """The cells of an input of (height, width)."""
    centres, strides = [], []
    for stride in STRIDES:
        rows, columns = (torch.arange(size // stride, device=device) + 0.5 for size in image_size)
        down, across = torch.meshgrid(rows, columns, indexing="ij")
        centres.append(torch.stack([across.flatten(), down.flatten()], dim=1) * stride)
        strides.append(torch.full((down.numel(), 1), float(stride), device=device))
    return Cells(torch.cat(centres), torch.cat(strides))


def decode_boxes(bins: Tensor, cells: Cells) -> Tensor:
    """Boxes (batch, cells, 4), left, top, right, bottom in pixels: each side is at the expected value of its bins."""
    values = torch.arange(BINS, dtype=bins.dtype, device=bins.device)
    distances = (bins.softmax(dim=-1) * values).sum(dim=-1) * cells.strides
    return torch.cat([cells.centres - distances[..., :2], cells.centres + distances[..., 2:]], dim=-1)


class Conv(nn.Module):
    """Convolution, batch normalisation, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=_EPSILON, momentum=_MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.silu(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    """Two convolutions, their result added to the input where there is a shortcut."""

    def __init__(self, channels: int, shortcut: bool) -> None:
        super().__init__()
        self.cv1, self.cv2 = Conv(channels, channels, 3), Conv(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.shortcut else y


class C2f(nn.Module):
    """A chain of bottlenecks whose every intermediate result is kept and mixed at the end."""

    def __init__(self, inputs: int, outputs: int, repeats: int, shortcut: bool = False) -> None:
        super().__init__()
        hidden = outputs // 2
        self.cv1, self.cv2 = Conv(inputs, 2 * hidden), Conv((2 + repeats) * hidden, outputs)
        self.m = nn.ModuleList(Bottleneck(hidden, shortcut) for _ in range(repeats))

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.cv1(x).chunk(2, dim=1))
        for block in self.m:
            parts.append(block(parts[-1]))
        return self.cv2(torch.cat(parts, dim=1))


class SPPF(nn.Module):
    """Spatial pyramid pooling: three poolings in a row see 5, 9 and 13 cells."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = Conv(channels, channels // 2), Conv(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.cv1(x)]
        for _ in range(3):
            parts.append(nn.functional.max_pool2d(parts[-1], 5, stride=1, padding=2))
        return self.cv2(torch.cat(parts, dim=1))


class _Bins(nn.Module):
    """Holds the values of the bins by the name that an export has for them; they are not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(BINS, 1, 1, bias=False).requires_grad_(False)
        self.conv.weight.copy_(torch.arange(float(BINS)).reshape(1, BINS, 1, 1))


class Detect(nn.Module):
    """The head: for each grid a branch for the bins of the box (cv2) and one for the class logits (cv3)."""

    def __init__(self, channels: list[int], classes: int) -> None:
        super().__init__()
        box_hidden, class_hidden = hidden_channels(channels[0], classes)
        self.cv2 = nn.ModuleList(_branch(count, box_hidden, 4 * BINS) for count in channels)
        self.cv3 = nn.ModuleList(_branch(count, class_hidden, classes) for count in channels)
        self.dfl = _Bins()
        for boxes, scores, stride in zip(self.cv2, self.cv3, STRIDES, strict=True):
            nn.init.constant_(boxes[-1].bias, 1.0)
            nn.init.constant_(scores[-1].bias, log(5 / classes / (640 / stride) ** 2))  # about 5 objects an image

    def forward(self, grids: list[Tensor]) -> Raw:
        bins = torch.cat([_rows(branch(x)) for branch, x in zip(self.cv2, grids, strict=True)], dim=1)
        logits = torch.cat([_rows(branch(x)) for branch, x in zip(self.cv3, grids, strict=True)], dim=1)
        return Raw(bins.unflatten(-1, (4, BINS)), logits)


def _branch(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(Conv(inputs, hidden, 3), Conv(hidden, hidden, 3), nn.Conv2d(hidden, outputs, 1))


def _rows(grid: Tensor) -> Tensor:
    """(batch, channels, height, width) to (batch, cells, channels)."""
    return grid.flatten(2).transpose(1, 2)


class Detector(nn.Module):
    """The whole network: images (batch, 3, height, width), RGB from 0 to 1, to `Raw`."""

    def __init__(self, variant: str = "n", classes: int = 80) -> None:
        super().__init__()
        self._layers = layers(variant)
        self.model = nn.ModuleDict()  # by the layers' numbers; upsampling and joining have no weights
        channels, counts = 3, list[int]()
        for number, layer in enumerate(self._layers):
            match layer.kind:
                case "conv":
                    self.model[str(number)] = Conv(channels, layer.channels, 3, 2)
                case "c2f":
                    self.model[str(number)] = C2f(channels, layer.channels, layer.repeats, layer.shortcut)
                case "sppf":
                    self.model[str(number)] = SPPF(channels)
            joined = counts[layer.source] if layer.kind == "concat" else 0
            channels = layer.channels if str(number) in self.model else channels + joined
            counts.append(channels)
        self.model[str(len(counts))] = Detect([counts[number] for number in GRIDS], classes)

    def forward(self, images: Tensor) -> Raw:
        x, outputs = images, list[Tensor]()
        for number, layer in enumerate(self._layers):
            if layer.kind == "upsample":
                x = nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
            elif layer.kind == "concat":
                x = torch.cat([x, outputs[layer.source]], dim=1)
            else:
                x = self.model[str(number)](x)
            outputs.append(x)
        return self.model[str(len(outputs))]([outputs[number] for number in GRIDS])

    def predict(self, images: Tensor) -> Tensor:
        """What the ONNX graph's `output0` is: (batch, 4 + classes, cells), centre, size and scores."""
        raw = self(images)
        boxes = decode_boxes(raw.bins.float(), make_cells(images.shape[-2:], images.device))
        low, high = boxes[..., :2], boxes[..., 2:]
        return torch.cat([(low + high) / 2, high - low, raw.logits.float().sigmoid()], dim=-1).transpose(1, 2)


@torch.no_grad()
def fused_weights(detector: Detector) -> dict[str, np.ndarray]:
    """The weights by the names of `weight_shapes`, float32, batch normalisation folded in."""
    return {name: tensor.float().cpu().numpy() for name, tensor in _folded(detector)}


def _folded(detector: Detector) -> Iterator[tuple[str, Tensor]]:
    normalised = {f"{path}.conv": module for path, module in detector.named_modules() if isinstance(module, Conv)}
    for path, module in detector.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        weight, bias = module.weight, module.bias
        if path in normalised:
            bn = normalised[path].bn
            gain = bn.weight / torch.sqrt(bn.running_var + bn.eps)
            weight, bias = weight * gain[:, None, None, None], bn.bias - bn.running_mean * gain
        yield f"{path}.weight", weight
        if bias is not None:
            yield f"{path}.bias", bias
