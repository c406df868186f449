"""The search for boxes on the GPU: the network's output to the boxes of each frame, which is all that is downloaded."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..devices.base import Device, DeviceBuffer, Kernel, Stream
from ..errors import ShapeError
from ..types import Detections, HostMemory, TensorSpec
from ..vision import Geometry, decode
from .source import cuda_source

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
        reference = _Reference(spec, geometry, iou)
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


class _Reference:
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
