"""Where the frames of the overlapped loop come from, and how they get into its slots."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..devices.base import Device
from ..errors import SettingsError, ShapeError
from ..frames import FrameSource
from ..vision import Letterbox

DEFAULT_FRAME = (1080, 1920)
"""Height and width of the frames where there are no images."""


class Feed:
    """Images in turn, or sources in turn until each has ended; or nothing, for an engine that reads no pixel.

    With `raw` frames go into the slots as they are, by the source itself where it is one, else letterboxed.
    `frame_shape` is (height, width). SettingsError for no image at all, ShapeError for images of several sizes.
    """

    def __init__(
        self,
        device: Device,
        images: Sequence[np.ndarray] | FrameSource | Sequence[FrameSource] | None,
        *,
        raw: bool,
    ) -> None:
        self._device, self._raw = device, raw
        self._letterbox = Letterbox()
        given = [images] if isinstance(images, FrameSource) else list(images or [])
        if images is not None and not given:
            raise SettingsError("there are no images", fix="pass images=[frame, ...] or a source of frames")
        self._sources = [each for each in given if isinstance(each, FrameSource)]
        self._images = [each for each in given if not isinstance(each, FrameSource)]
        shapes = {each.size[::-1] for each in self._sources} | {each.shape[:2] for each in self._images}
        if len(shapes) > 1:
            raise ShapeError(f"frames of several sizes, {sorted(shapes)}", fix="resize them, or run a loop for each")
        self.frame_shape: tuple[int, int] = shapes.pop() if shapes else DEFAULT_FRAME
        self._live = list(range(len(self._sources)))
        self._turn = 0
        self.cameras: list[int] = []
        """Which source each frame came from, where there are several."""

    def fill(self, index: int, batch: np.ndarray, item: int) -> bool:
        """Write frame `index` into place `item` of a slot's batch; False where every source has ended."""
        target = batch[item]
        if self._sources:
            return self._from_sources(target)
        with self._device.host_work("copy_frame" if self._raw else "letterbox"):
            if self._images:
                self._write(self._images[index % len(self._images)], target)
        return True

    def _from_sources(self, target: np.ndarray) -> bool:
        while self._live:
            camera = self._live[self._turn % len(self._live)]
            if self._read(self._sources[camera], target):
                self._turn = (self._turn + 1) % len(self._live)
                if len(self._sources) > 1:
                    self.cameras.append(camera)
                return True
            self._live.remove(camera)
        return False

    def _read(self, source: FrameSource, target: np.ndarray) -> bool:
        if self._raw:
            return source.read_into(target)
        frame = source.read()
        if frame is None:
            return False
        with self._device.host_work("letterbox"):
            self._write(frame, target)
        return True

    def _write(self, frame: np.ndarray, target: np.ndarray) -> None:
        if frame.shape[:2] != self.frame_shape:
            raise ShapeError(f"a frame of {frame.shape} among frames of {self.frame_shape}", fix="resize it")
        if self._raw:
            np.copyto(target, frame)
        else:
            self._letterbox(frame, target)
