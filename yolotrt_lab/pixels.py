"""What the host does to pixels in a loop: bringing a frame to the bytes that are uploaded, and decoding the output."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np

from . import vision
from .devices.base import Device, HostBuffer
from .engines.base import Engine
from .memory import Slot
from .types import Detections, HostMemory


class Fill(StrEnum):
    """How the pixels of a frame get to the bytes that are uploaded."""

    FRESH = "fresh"
    """Preprocessing makes a fresh pageable array each frame, which is uploaded: the loop of the public report."""
    COPY = "copy"
    """The fresh array is copied into the slot, which is uploaded."""
    IN_PLACE = "in_place"
    """Preprocessing writes into the slot, which is uploaded: nothing is copied on the host."""
    READY = "ready"
    """The slot is uploaded as it is: it was filled before the loop, and there is no preprocessing in it."""
    ALLOCATE = "allocate"
    """A trap: preprocessing writes into memory of the slot's kind that is allocated anew each frame."""
    LEAK = "leak"
    """A trap: as `allocate`, and the memory is never released."""
    BYPASS = "bypass"
    """A trap: the slot is filled, but the upload is made from the fresh array."""


class Pixels:
    """What the host does to pixels: preprocessing in the ways of `Fill`, and decoding.

    Without images (an engine that computes nothing reads none) only the cost of the work is charged.
    """

    def __init__(
        self,
        device: Device,
        engine: Engine,
        memory: HostMemory,
        images: Sequence[np.ndarray] | None,
        confidence: float = 0.25,
    ) -> None:
        self._device = device
        self._confidence = confidence
        self._spec = engine.inputs[0]
        height, width = self._spec.shape[-2:]
        self._size = (height, width)
        self._memory = memory
        self._images = images
        self._blank = device.empty_host(self._spec.shape, self._spec.dtype, HostMemory.PAGEABLE)
        self._letterbox = vision.Letterbox()
        self._leaked: list[HostBuffer] = []

    def fresh(self, index: int, slot: Slot) -> HostBuffer:
        """A fresh pageable array."""
        with self._device.host_work("naive_letterbox"):
            if self._images is None:
                return self._blank
            fresh = vision.naive_letterbox(self._image(index), self._size)
            return HostBuffer.over(fresh.astype(self._spec.dtype, copy=False))

    def copy(self, index: int, slot: Slot) -> HostBuffer:
        """The slot, filled from a fresh array."""
        self._copy(self.fresh(index, slot), slot)
        return slot.inputs[self._spec.name]

    def in_place(self, index: int, slot: Slot) -> HostBuffer:
        """The slot, written by preprocessing itself."""
        return self._write(index, slot.inputs[self._spec.name])

    def ready(self, index: int, slot: Slot) -> HostBuffer:
        """The slot, as it is."""
        return slot.inputs[self._spec.name]

    def allocate(self, index: int, slot: Slot) -> HostBuffer:
        """Memory of the slot's kind, allocated for this frame alone."""
        return self._write(index, self._device.empty_host(self._spec.shape, self._spec.dtype, self._memory))

    def leak(self, index: int, slot: Slot) -> HostBuffer:
        """Memory of the slot's kind, allocated for this frame and kept; without images there is nothing to fill in."""
        self._leaked.append(self._device.empty_host(self._spec.shape, self._spec.dtype, self._memory))
        return self._leaked[-1] if self._images is None else self._write(index, self._leaked[-1])

    def bypass(self, index: int, slot: Slot) -> HostBuffer:
        """The fresh array, although the slot was filled from it."""
        fresh = self.fresh(index, slot)
        self._copy(fresh, slot)
        return fresh

    def detections(self, index: int, output: HostBuffer) -> Detections | None:
        """The boxes of a frame, in its pixels; None where nothing was computed."""
        self._device.reads(output)
        with self._device.host_work("decode"):
            if self._images is None:
                return None
            geometry = vision.letterbox_geometry(self._image(index).shape[:2], self._size)
            return vision.decode(output.array, geometry, confidence=self._confidence)

    def _image(self, index: int) -> np.ndarray:
        assert self._images is not None
        return self._images[index % len(self._images)]

    def _write(self, index: int, target: HostBuffer) -> HostBuffer:
        with self._device.host_work("letterbox"):
            if self._images is not None:
                self._letterbox(self._image(index), target.array)
        return target

    def _copy(self, fresh: HostBuffer, slot: Slot) -> None:
        with self._device.host_work("copy_to_slot"):
            if self._images is not None:
                np.copyto(slot.inputs[self._spec.name].array, fresh.array)
