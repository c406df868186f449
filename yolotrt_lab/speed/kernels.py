"""Kernels around the network, each in CUDA C and in NumPy: the letterbox of a frame, and the search for its boxes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..device import Device, DeviceBuffer, HostBuffer, Kernel, Stream
from ..errors import DtypeError, ShapeError
from ..frames import check_pairs
from ..heads import check_scores, decode
from ..packages import import_cv2
from ..types import Detections, Pixels, TensorSpec
from ..vision import Geometry, letterbox_geometry

CAPACITY = 1024
"""How many candidates of a frame there is room for; a frame with more is decoded on the host."""
KEPT = 300
"""How many boxes of a frame are kept at most, as in `heads.decode`."""
RESULT = np.dtype(
    {
        "names": ["count", "candidates", "boxes", "scores", "classes"],
        "formats": ["i4", "i4", ("f4", (KEPT, 4)), ("f4", KEPT), ("i4", KEPT)],
        "offsets": [0, 4, 16, 16 + 16 * KEPT, 16 + 20 * KEPT],
    }
)
"""A frame's result: how many boxes there are (-1: too many candidates), how many candidates, and the boxes."""

_SCRATCH_WORDS = 1 + 3 * CAPACITY
_NUMBERS = {"float32": ("float", "float4"), "float16": ("unsigned short", "ushort4")}
_BLOCK = (32, 8, 1)
_PIXELS = 4  # neighbouring pixels of a thread


def _kernel(
    file: str, name: str, spec: TensorSpec, reference: Callable[..., None], block: tuple[int, int, int] = _BLOCK
) -> Kernel:
    """The function `name` in `file`, for tensors of the dtype of `spec`."""
    if spec.dtype.name not in _NUMBERS:
        raise DtypeError(
            f"{spec.name} must be float32 or float16, got {spec.dtype}", fix="export the model with float32 tensors"
        )
    number, four = _NUMBERS[spec.dtype.name]
    head = f"typedef {number} NUMBER;\ntypedef {four} FOUR;\n#define CAPACITY {CAPACITY}\n#define KEPT {KEPT}\n"
    return Kernel(name, head + Path(__file__).with_name(file).read_text(encoding="utf-8"), reference, block)


def _tensor(memory: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """Device memory, as a kernel's reference gets it, in the shape and dtype of `spec`."""
    return memory[: spec.nbytes].view(spec.dtype).reshape(spec.shape)


_BT601 = (1220542, 1673527, -409993, -852492, 2116026)  # OpenCV's: to three digits, times 2^20
_BT709 = (1220542, 1880097, -223347, -558891, 2214593)
NV12_WEIGHTS = {Pixels.NV12: _BT601, Pixels.NV12_709: _BT709}
"""What red, green and blue take of the planes, times 2^20: of luma, red of V, green of U, green of V, blue of U."""


class Letterboxer:
    """The letterbox on the GPU: a batch of uint8 frames in device memory to the network's input.

    Frames have the shape `frame_shape`, (height, width), and lie in memory as `pixels` says; the input `spec` is
    (batch, 3, height, width). Pixels are interpolated bilinearly and rounded to whole grey levels. They differ from the
    host's by one level at most, and in a float16 input by its rounding besides (up to 1/8 of a level). Of NV12 each
    pixel that is interpolated is converted before, to the bit as `cv2.cvtColor` does it for BT.601. ShapeError or
    DtypeError where the input is none of images, and for NV12 of an odd height or width.

    >>> from yolotrt_lab import open_device, open_engine
    >>> device = open_device("simulated")
    >>> Letterboxer(device, open_engine(device).inputs[0], (1080, 1920)).geometry.height
    360
    """

    def __init__(
        self, device: Device, spec: TensorSpec, frame_shape: tuple[int, int], pixels: Pixels = Pixels.BGR
    ) -> None:
        if len(spec.shape) != 4 or spec.shape[1] != 3 or spec.shape[3] % _PIXELS:
            raise ShapeError(
                f"{spec.name} must be (batch, 3, height, width) with a width in fours, got {spec.shape}",
                fix="export the model for images such as 640 x 640",
            )
        check_pairs(frame_shape, pixels)
        batch, _, rows, columns = spec.shape
        self.geometry = found = letterbox_geometry(frame_shape, (rows, columns))
        """Where a frame lies in the input."""
        self.frames = TensorSpec("frames", (batch, *pixels.shape(frame_shape)), np.dtype(np.uint8))
        """What is uploaded."""
        self._device, self._spec = device, spec
        self._weights = NV12_WEIGHTS.get(pixels, ())
        name = "letterbox_nv12" if self._weights else "letterbox"
        self._kernel = _kernel("letterbox.cu", name, spec, self._reference)
        self._grid = (-(-columns // (_PIXELS * _BLOCK[0])), -(-rows // _BLOCK[1]), batch)
        sizes = (*frame_shape, rows, columns, found.top, found.left, found.height, found.width)
        steps = (frame_shape[0] / found.height, frame_shape[1] / found.width)
        self._values = (*map(np.int32, sizes), *map(np.float32, steps), *map(np.int32, self._weights))

    def launch(self, frames: DeviceBuffer, images: DeviceBuffer, stream: Stream) -> None:
        """Submit the letterbox of the whole batch to `stream`."""
        self._device.launch(self._kernel, self._grid, (frames, images, *self._values), stream)

    def _reference(self, frames: np.ndarray, images: np.ndarray, *values: Any) -> None:
        target, place, pixels = _tensor(images, self._spec), self.geometry, _tensor(frames, self.frames)
        if self._weights:
            pixels = np.stack([nv12_to_bgr(frame, self._weights) for frame in pixels])
        wide = _interpolated(pixels, 2, place.width, values[9])
        grey = np.rint(_interpolated(wide, 1, place.height, values[8]))[..., ::-1].transpose(0, 3, 1, 2)
        rows, columns = slice(place.top, place.top + place.height), slice(place.left, place.left + place.width)
        target[:] = np.float32(114 / 255)
        target[:, :, rows, columns] = grey * np.float32(1 / 255)


def nv12_to_bgr(frame: np.ndarray, weights: tuple[int, ...] = _BT601) -> np.ndarray:
    """An NV12 frame as uint8 BGR (height, width, 3): whole numbers, rounded as the kernel does it.

    `weights` are a row of `NV12_WEIGHTS`.

    >>> nv12_to_bgr(np.array([[235, 16], [16, 81], [128, 128]], np.uint8)).tolist()
    [[[255, 255, 255], [0, 0, 0]], [[0, 0, 0], [76, 76, 76]]]
    """
    height = len(frame) * 2 // 3
    pairs = frame[height:].reshape(height // 2, -1, 2).repeat(2, axis=0).repeat(2, axis=1).astype(np.int32) - 128
    u, v = pairs[..., 0], pairs[..., 1]
    of_luma, red_of_v, green_of_u, green_of_v, blue_of_u = weights
    y = np.maximum(frame[:height].astype(np.int32) - 16, 0) * of_luma + (1 << 19)
    colours = (y + blue_of_u * u, y + green_of_u * u + green_of_v * v, y + red_of_v * v)
    return np.stack([each >> 20 for each in colours], axis=2).clip(0, 255).astype(np.uint8)


def bgr_to_nv12(frame: np.ndarray) -> np.ndarray:
    """A uint8 BGR frame in NV12, with the colours of BT.601. ShapeError for an odd height or width.

    >>> bgr_to_nv12(np.full((2, 2, 3), 255, np.uint8)).tolist()
    [[235, 235], [235, 235], [128, 128]]
    """
    cv2, (height, width) = import_cv2(), frame.shape[:2]
    check_pairs((height, width), Pixels.NV12)
    planes: np.ndarray = cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420)
    u_and_v = planes[height:].reshape(2, height // 2, width // 2)
    planes[height:] = np.stack([*u_and_v], axis=2).reshape(height // 2, width)
    return planes


def _interpolated(pixels: np.ndarray, axis: int, count: int, step: np.float32) -> np.ndarray:
    """`count` values along `axis`, `step` pixels apart, each between the two pixels beside it."""
    last = pixels.shape[axis] - 1
    at = (np.arange(count, dtype=np.float32) + np.float32(0.5)) * step - np.float32(0.5)
    low = np.floor(at).astype(int)
    weight = np.where((low < 0) | (low >= last), np.float32(0), at - low.astype(np.float32))
    first, second = (pixels.take(places.clip(0, last), axis).astype(np.float32) for places in (low, low + 1))
    return np.asarray(first + (second - first) * weight.reshape(-1, *[1] * (pixels.ndim - axis - 1)))


class Decoder:
    """The search for boxes on the GPU: the network's output to the boxes of each frame, which alone are downloaded.

    The output `spec` is (batch, 4 + classes, anchors), with `end2end` (batch, boxes, 6), and `geometry` that of the
    batch's frames. Finds what `heads.decode` finds with these settings: the same boxes, corners, scores and classes,
    to the bit. ShapeError or DtypeError where the output is none of boxes.

    >>> from yolotrt_lab import open_device, open_engine
    >>> device = open_device("simulated")
    >>> Decoder(device, open_engine(device).outputs[0], letterbox_geometry((1080, 1920), (640, 640))).result.nbytes
    7216
    """

    def __init__(
        self,
        device: Device,
        spec: TensorSpec,
        geometry: Geometry,
        *,
        end2end: bool = False,
        confidence: float = 0.25,
        iou: float = 0.7,
    ) -> None:
        if len(spec.shape) != 3 or (spec.shape[2] != 6 or spec.shape[1] > CAPACITY if end2end else spec.shape[1] < 5):
            form = f"(batch, {CAPACITY} boxes or fewer, 6)" if end2end else "(batch, 4 + classes, anchors)"
            raise ShapeError(f"{spec.name} must be {form}, got {spec.shape}", fix="use gpu_decode=False")
        batch, rows, anchors = spec.shape
        self.result = TensorSpec("boxes", (batch, RESULT.itemsize // 4), np.dtype(np.int32))
        """What is downloaded; `unpack` reads it."""
        self._scratch = TensorSpec("scratch", (batch, _SCRATCH_WORDS), np.dtype(np.int32))
        self._device, self._spec, self._geometry, self._iou = device, spec, geometry, iou
        self._end2end = end2end
        if end2end:
            self._take = _kernel("decode.cu", "take", spec, self._take_reference, (256, 1, 1))
        else:
            self._candidates = _kernel("decode.cu", "candidates", spec, self._list_reference)
            self._suppress = _kernel("decode.cu", "suppress", spec, self._suppress_reference, (256, 1, 1))
        self._grid = (-(-anchors // _BLOCK[0]), 1, batch)
        sizes = (np.int32(rows - 4), np.int32(anchors))
        frame, corner = map(np.int32, geometry.frame_shape), map(np.int32, (geometry.left, geometry.top))
        place = (*frame, *map(np.float32, geometry.scales), *corner)
        self._list_values = (*sizes, np.float32(confidence))
        self._suppress_values = (*sizes, np.float32(iou), *place)
        self._take_values = (np.int32(rows), np.float32(confidence), *place)

    def scratch(self, stream: Stream) -> DeviceBuffer:
        """Device memory that the kernels need between them: each lane has its own."""
        buffer = self._device.empty_device(self._scratch.nbytes)
        self._device.upload(HostBuffer(np.zeros(self._scratch.shape, np.int32)), buffer, stream)
        stream.synchronize()
        return buffer

    def launch(self, outputs: DeviceBuffer, scratch: DeviceBuffer, results: DeviceBuffer, stream: Stream) -> None:
        """Submit the search in the whole batch to `stream`."""
        grid = (1, 1, self._grid[2])
        if self._end2end:
            self._device.launch(self._take, grid, (outputs, results, *self._take_values), stream)
            return
        self.list_candidates(outputs, scratch, stream)
        self._device.launch(self._suppress, grid, (outputs, scratch, results, *self._suppress_values), stream)

    def list_candidates(self, outputs: DeviceBuffer, scratch: DeviceBuffer, stream: Stream) -> None:
        """Submit the first half alone, to see what it takes."""
        self._device.launch(self._candidates, self._grid, (outputs, scratch, *self._list_values), stream)

    def _list_reference(self, outputs: np.ndarray, scratch: np.ndarray, *values: Any) -> None:
        tables = _tensor(outputs, self._spec).astype(np.float32)
        for table, words in zip(tables, _tensor(scratch, self._scratch), strict=True):
            anchors = np.flatnonzero((table[4:].max(axis=0) > values[2]) & (table[2:4] > 0).all(axis=0))
            words[0] = len(anchors)
            words[1 : 1 + min(len(anchors), CAPACITY)] = anchors[:CAPACITY]

    def _suppress_reference(self, outputs: np.ndarray, scratch: np.ndarray, results: np.ndarray, *_: Any) -> None:
        tables, listed = _tensor(outputs, self._spec).astype(np.float32), _tensor(scratch, self._scratch)
        for table, words, result in zip(tables, listed, self._results(results), strict=True):
            count, words[0] = words[0], 0
            result["count"], result["candidates"] = -1, count
            if count <= CAPACITY:
                candidates = np.ascontiguousarray(table[:, words[1 : 1 + count]])
                _pack(decode(candidates, self._geometry, confidence=0.0, iou=self._iou, max_detections=KEPT), result)

    def _take_reference(self, outputs: np.ndarray, results: np.ndarray, _: Any, confidence: float, *__: Any) -> None:
        for table, result in zip(_tensor(outputs, self._spec), self._results(results), strict=True):
            found = decode(table, self._geometry, end2end=True, confidence=float(confidence), max_detections=KEPT)
            _pack(found, result)

    def _results(self, memory: np.ndarray) -> np.ndarray:
        return _tensor(memory, self.result).view(RESULT)[:, 0]


def _pack(found: Detections, result: np.void) -> None:
    result["count"] = len(found)
    for part in ("boxes", "scores", "classes"):
        result[part][: len(found)] = getattr(found, part)


def unpack(results: np.ndarray, item: int) -> Detections | None:
    """The boxes of one frame of the batch, copied out of `results`; None where there were too many candidates.

    ModelError where a score is above 1: the output is none of boxes.
    """
    found = results.view(RESULT)
    count = int(found["count"][item, 0])
    if count < 0:
        return None
    boxes, scores, classes = (found[part][item, 0, :count] for part in ("boxes", "scores", "classes"))
    if count and scores[0] > 1:  # the best first
        check_scores(scores[:1])
    return Detections(boxes.copy(), scores.copy(), classes.astype(np.int64))
