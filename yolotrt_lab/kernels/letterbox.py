"""The letterbox on the GPU: uint8 BGR frames in device memory to the network's input."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..devices.base import Device, DeviceBuffer, Kernel, Stream
from ..errors import ShapeError
from ..types import TensorSpec
from ..vision import letterbox_geometry
from .source import cuda_source

_BLOCK = (32, 8, 1)
_PIXELS = 4  # neighbouring pixels of a thread


class Letterboxer:
    """Letterboxes batches of frames of one shape, (height, width), into the input `spec`, (batch, 3, height, width).

    Bilinear, rounded to whole grey levels as on the host, from which they differ by one level at most, and in a float16
    input by its rounding besides (up to 1/8 of a level); `geometry` is where a frame lies in the input. ShapeError or
    DtypeError where the input is none for it.
    """

    def __init__(self, device: Device, spec: TensorSpec, frame_shape: tuple[int, int]) -> None:
        if len(spec.shape) != 4 or spec.shape[1] != 3 or spec.shape[3] % _PIXELS:
            raise ShapeError(
                f"{spec.name} is {spec.shape}, not (batch, 3, height, width) with a width in fours",
                fix="export the model for images such as 640 x 640",
            )
        batch, _, rows, columns = spec.shape
        self.geometry = geometry = letterbox_geometry(frame_shape, (rows, columns))
        steps = [old / new for old, new in zip(frame_shape, (geometry.height, geometry.width), strict=True)]
        self._device = device
        self._kernel = Kernel("letterbox", cuda_source("letterbox.cu", spec.dtype), _Reference(spec), _BLOCK)
        self._grid = (-(-columns // (_PIXELS * _BLOCK[0])), -(-rows // _BLOCK[1]), batch)
        sizes = (*frame_shape, rows, columns, geometry.top, geometry.left, geometry.height, geometry.width)
        self._values = (*map(np.int32, sizes), *map(np.float32, steps))

    def launch(self, frames: DeviceBuffer, images: DeviceBuffer, stream: Stream) -> None:
        """Submit the letterbox of the whole batch to `stream`."""
        self._device.launch(self._kernel, self._grid, (frames, images, *self._values), stream)


class _Reference:
    """The kernel in NumPy, for a batch of the input's shape."""

    def __init__(self, spec: TensorSpec) -> None:
        self._spec = spec

    def __call__(self, frames: np.ndarray, images: np.ndarray, *values: Any) -> None:
        height, width, _, _, top, left, rows, columns = map(int, values[:8])
        batch = self._spec.shape[0]
        frames = frames[: batch * height * width * 3].reshape(batch, height, width, 3)
        out = images[: self._spec.nbytes].view(self._spec.dtype).reshape(self._spec.shape)
        y_low, y_high, y_weight = _taps(rows, values[8], height)
        x_low, x_high, x_weight = _taps(columns, values[9], width)
        x_weight = x_weight[:, None]
        above, below = (
            _lerp(lines[:, :, x_low].astype(np.float32), lines[:, :, x_high], x_weight)
            for lines in (frames[:, y_low], frames[:, y_high])
        )
        grey = np.rint(_lerp(above, below, y_weight[:, None, None]))
        out[:] = np.float32(114 / 255)
        out[:, :, top : top + rows, left : left + columns] = grey[..., ::-1].transpose(0, 3, 1, 2) * np.float32(1 / 255)


def _taps(count: int, step: np.float32, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of `count` positions the two pixels that it lies between, and the weight of the second."""
    at = (np.arange(count, dtype=np.float32) + np.float32(0.5)) * step - np.float32(0.5)
    low = np.floor(at).astype(int)
    weight = np.where((low < 0) | (low >= size - 1), np.float32(0), at - low.astype(np.float32))
    low = low.clip(0, size - 1)
    return low, np.where(weight > 0, low + 1, low), weight


def _lerp(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return first + (second - first) * weight
