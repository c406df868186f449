"""Where the CUDA C lies, and how it is fitted to an engine's number type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..device import Device, DeviceBuffer, Kernel, Stream
from ..errors import DtypeError, ShapeError
from ..types import Detections, HostMemory, TensorSpec
from ..vision import Geometry, decode, letterbox_geometry

_NUMBERS = {"float32": ("float", "float4"), "float16": ("unsigned short", "ushort4")}


def cuda_source(file: str, dtype: np.dtype[Any], **constants: int) -> str:
    """The text of `file` for tensors of `dtype`, float32 or float16 (DtypeError for others), with these constants."""
    if dtype.name not in _NUMBERS:
        raise DtypeError(
            f"the kernels take float32 and float16, the engine has {dtype}", fix="export the model with float32 tensors"
        )
    number, four = _NUMBERS[dtype.name]
    lines = [f"typedef {number} NUMBER;", f"typedef {four} FOUR;"]
    lines += [f"#define {name} {value}" for name, value in constants.items()]
    return "\n".join([*lines, Path(__file__).with_name(file).read_text(encoding="utf-8")])


# The letterbox on the GPU: uint8 BGR frames in device memory to the network's input.


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
        self._kernel = Kernel("letterbox", cuda_source("letterbox.cu", spec.dtype), _LetterboxReference(spec), _BLOCK)
        self._grid = (-(-columns // (_PIXELS * _BLOCK[0])), -(-rows // _BLOCK[1]), batch)
        sizes = (*frame_shape, rows, columns, geometry.top, geometry.left, geometry.height, geometry.width)
        self._values = (*map(np.int32, sizes), *map(np.float32, steps))

    def launch(self, frames: DeviceBuffer, images: DeviceBuffer, stream: Stream) -> None:
        """Submit the letterbox of the whole batch to `stream`."""
        self._device.launch(self._kernel, self._grid, (frames, images, *self._values), stream)


class _LetterboxReference:
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


# The search for boxes on the GPU: the network's output to the boxes of each frame, which is all that is downloaded.


CAPACITY = 1024
"""Candidates of a frame that there is room for; a frame with more is decoded on the host."""
KEPT = 300
"""Boxes of a frame that are kept at most, as in `vision.decode`."""
RESULT_WORDS = 4 + 6 * KEPT
"""Words of four bytes in a frame's result: a head of four, then corners, scores and classes of `KEPT` boxes."""

_SCRATCH_WORDS = 1 + 3 * CAPACITY
_ANCHORS, _GROUPS = 32, 8  # of a block of the kernel that looks for candidates
_SUPPRESSING = 256


class Decoder:
    """Finds boxes in the output `spec`, (batch, 4 + classes, anchors), as `vision.decode` does with these settings.

    Which boxes are kept, their corners, scores and classes are the same to the bit. `geometry` is that of the batch's
    frames. ShapeError or DtypeError where the output is none for it.
    """

    def __init__(
        self, device: Device, spec: TensorSpec, geometry: Geometry, *, confidence: float = 0.25, iou: float = 0.7
    ) -> None:
        if len(spec.shape) != 3 or spec.shape[1] < 5:
            raise ShapeError(
                f"{spec.name} is {spec.shape}, not (batch, 4 + classes, anchors)",
                fix="export the model without its NMS",
            )
        batch, rows, anchors = spec.shape
        source = cuda_source("decode.cu", spec.dtype, CAPACITY=CAPACITY, KEPT=KEPT)
        reference = _DecodeReference(spec, geometry, iou)
        self._device = device
        self._candidates = Kernel("candidates", source, reference.candidates, (_ANCHORS, _GROUPS, 1))
        self._suppress = Kernel("suppress", source, reference.suppress, (_SUPPRESSING, 1, 1))
        self._grids = ((-(-anchors // _ANCHORS), 1, batch), (1, 1, batch))
        sizes = (np.int32(rows - 4), np.int32(anchors))
        corner = map(np.int32, (geometry.left, geometry.top))
        self._values = (*sizes, np.float32(confidence))
        frame = (*map(np.int32, geometry.frame_shape), np.float32(geometry.scale), *corner)
        self._suppress_values = (*sizes, np.float32(iou), *frame)
        self.result = TensorSpec("boxes", (batch, RESULT_WORDS), np.dtype(np.int32))
        """What is downloaded; `unpack` reads it."""

    def scratch(self, stream: Stream) -> DeviceBuffer:
        """Device memory that the kernels need between them: each lane has its own."""
        nbytes = 4 * self.result.shape[0] * _SCRATCH_WORDS
        buffer = self._device.empty_device(nbytes)
        zeros = self._device.empty_host((nbytes,), np.uint8, HostMemory.PAGEABLE)
        zeros.array[:] = 0
        self._device.upload(zeros, buffer, stream)
        stream.synchronize()
        return buffer

    def launch(self, outputs: DeviceBuffer, scratch: DeviceBuffer, results: DeviceBuffer, stream: Stream) -> None:
        """Submit the search in the whole batch to `stream`."""
        self.list_candidates(outputs, scratch, stream)
        self._device.launch(self._suppress, self._grids[1], (outputs, scratch, results, *self._suppress_values), stream)

    def list_candidates(self, outputs: DeviceBuffer, scratch: DeviceBuffer, stream: Stream) -> None:
        """Submit the first half alone, to see what it takes."""
        self._device.launch(self._candidates, self._grids[0], (outputs, scratch, *self._values), stream)


def unpack(results: np.ndarray, item: int) -> Detections | None:
    """The boxes of one frame of the batch, copied out of `results`; None where there were too many candidates."""
    row = results[item]
    count = int(row[0])
    if count < 0:
        return None
    corners = row[4 : 4 + 4 * count].view(np.float32).reshape(count, 4).copy()
    scores = row[4 + 4 * KEPT : 4 + 4 * KEPT + count].view(np.float32).copy()
    return Detections(corners, scores, row[4 + 5 * KEPT : 4 + 5 * KEPT + count].astype(np.int64))


class _DecodeReference:
    """Both kernels in NumPy."""

    def __init__(self, spec: TensorSpec, geometry: Geometry, iou: float) -> None:
        self._spec, self._geometry, self._iou = spec, geometry, iou

    def candidates(self, outputs: np.ndarray, scratch: np.ndarray, *values: Any) -> None:
        """List the anchors with a box."""
        for table, words in zip(self._tables(outputs), self._words(scratch, _SCRATCH_WORDS), strict=True):
            anchors = np.flatnonzero((table[4:].max(axis=0) > values[2]) & (table[2:4] > 0).all(axis=0))
            words[0] = len(anchors)
            words[1 : 1 + min(len(anchors), CAPACITY)] = anchors[:CAPACITY]

    def suppress(self, outputs: np.ndarray, scratch: np.ndarray, results: np.ndarray, *_: Any) -> None:
        """Decode what is at the listed anchors."""
        rows = zip(
            self._tables(outputs),
            self._words(scratch, _SCRATCH_WORDS),
            self._words(results, RESULT_WORDS),
            strict=True,
        )
        for table, words, result in rows:
            count, words[0] = words[0], 0
            result[:2] = -1, count
            if count > CAPACITY:
                continue
            listed = np.ascontiguousarray(table[:, words[1 : 1 + count]])
            found = decode(listed, self._geometry, confidence=0.0, iou=self._iou, max_detections=KEPT)
            result[0] = kept = len(found)
            result[4 : 4 + 4 * kept] = found.boxes.astype(np.float32).reshape(-1).view(np.int32)
            result[4 + 4 * KEPT : 4 + 4 * KEPT + kept] = found.scores.view(np.int32)
            result[4 + 5 * KEPT : 4 + 5 * KEPT + kept] = found.classes

    def _tables(self, outputs: np.ndarray) -> np.ndarray:
        return outputs[: self._spec.nbytes].view(self._spec.dtype).reshape(self._spec.shape).astype(np.float32)

    def _words(self, memory: np.ndarray, words: int) -> np.ndarray:
        return memory[: 4 * words * self._spec.shape[0]].view(np.int32).reshape(-1, words)


# What surrounds the network, on the GPU: the letterbox and the search for boxes, each in CUDA C and in NumPy.
