"""Where the frames of the overlapped loop come from, and how they get into its slots."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np

from ..devices.base import Device
from ..engines.base import Engine
from ..errors import SettingsError, ShapeError
from ..frames import FrameSource
from ..vision import Letterbox, check_frame

DEFAULT_FRAME = (1080, 1920)
"""Height and width of the frames where there are no images."""


def check_images(engine: Engine, images: Any, *, sources: bool) -> None:
    """SettingsError where an engine that reads its input has no images, or these are none; sources only if allowed."""
    if isinstance(images, str | Path):
        raise SettingsError(
            f"images={str(images)!r} is a name, not images", fix=f"pass read_images({str(images)!r}, 8)"
        )
    if not engine.computes:
        return
    if images is None or (isinstance(images, Sized) and not len(images)):
        raise SettingsError("this engine reads its input, and there are no images", fix="pass images=[frame, ...]")
    if not sources and isinstance(images if isinstance(images, FrameSource) else images[0], FrameSource):
        raise SettingsError(
            "a FrameLoop uses images in turn, and this is a source of frames",
            fix="pass some of its frames, list(islice(source, 8)), or use overlap=True, which reads sources",
        )


class Feed:
    """Images in turn, or sources in turn until each has ended; or nothing, for an engine that reads no pixel.

    With `raw` frames go into the slots as they are, by the source itself where it is one, else letterboxed.
    `frame_shape` is (height, width). ShapeError or DtypeError for images that are no frames, or of several sizes,
    SettingsError for images beside sources.
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
        given = [images] if isinstance(images, FrameSource) else [] if images is None else list(images)
        self._sources = [each for each in given if isinstance(each, FrameSource)]
        self._images = [each for each in given if not isinstance(each, FrameSource)]
        if self._sources and self._images:
            raise SettingsError("images and sources together", fix="pass images, or sources of frames")
        for image in self._images:
            check_frame(image)
        shapes = {each.size[::-1] for each in self._sources} | {each.shape[:2] for each in self._images}
        if len(shapes) > 1:
            raise ShapeError(f"frames of several sizes, {sorted(shapes)}", fix="resize them, or run a loop for each")
        self.frame_shape: tuple[int, int] = shapes.pop() if shapes else DEFAULT_FRAME
        self._live = list(range(len(self._sources)))
        self._turn = 0
        self.cameras: list[int] = []
        """Which source each frame of the run came from, where there are several."""

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
            self._turn %= len(self._live)
            camera = self._live[self._turn]
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
