"""Frames for a loop straight from their sources: a video or several cameras, which write into the slots themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..device import HostBuffer
from ..errors import SettingsError, ShapeError
from ..frames import FrameSource
from ..types import Detections, TensorSpec
from ..vision import PixelWork, check_frame

Images = Sequence[np.ndarray] | FrameSource | Sequence[FrameSource]
"""Images that are used in turn, a source that fills slots, or several of them: cameras."""


class SourceWork(PixelWork):
    """`HostWork` on sources that take turns until each has ended. Frames are numbered in the order of reading.

    ShapeError where the sources' frames differ in size.
    """

    def __init__(self, spec: TensorSpec, sources: Sequence[FrameSource], cameras: list[int]) -> None:
        self.set_up(spec, _common_shape({source.size[::-1] for source in sources}))
        self._sources = sources
        self._cameras = cameras
        self._live = list(range(len(sources)))
        self._turn = 0

    def letterbox(self, index: int, target: HostBuffer, item: int = 0) -> bool:
        """Letterbox the next frame into its place."""
        return self._from_next(lambda source: self._read(source, target.array[item]))

    def copy_frame(self, index: int, target: HostBuffer, item: int = 0) -> bool:
        """Let the next source write into the place itself."""
        return self._from_next(lambda source: source.read_into(target.array[item]))

    def boxes(
        self,
        index: int,
        outputs: Iterable[HostBuffer],
        decode: Callable[[tuple[int, int]], Detections],
        *,
        on_host: bool = True,
    ) -> Detections:
        """What `decode` finds; all frames have one size."""
        return decode(self.frame_shape)

    def _read(self, source: FrameSource, target: np.ndarray) -> bool:
        frame = source.read()
        if frame is None:
            return False
        if frame.shape[:2] != self.frame_shape:
            raise ShapeError(f"frames must be {self.frame_shape}, got one of {frame.shape[:2]}", fix="resize it")
        self.write(frame, target)
        return True

    def _from_next(self, read: Callable[[FrameSource], bool]) -> bool:
        """Read from the source whose turn it is, and note which camera it is; False where every source has ended."""
        while self._live:
            self._turn %= len(self._live)
            camera = self._live[self._turn]
            if read(self._sources[camera]):
                self._turn = (self._turn + 1) % len(self._live)
                if len(self._sources) > 1:
                    self._cameras.append(camera)
                return True
            self._live.remove(camera)
        return False


def pixel_work(spec: TensorSpec, images: Images | None, cameras: list[int]) -> PixelWork:
    """The work on images or sources; `cameras` gets the number of the source of each frame, where there are several.

    SettingsError for images beside sources, ShapeError where they differ in size.
    """
    given = [images] if isinstance(images, FrameSource) else () if images is None else images
    sources = [each for each in given if isinstance(each, FrameSource)]
    if not sources:
        arrays: Any = images
        work = PixelWork(spec, arrays)
        for image in arrays:
            check_frame(image)
        _common_shape({image.shape[:2] for image in arrays})
        return work
    if len(sources) < len(given):
        raise SettingsError("images and sources can't be mixed", fix="pass images, or sources of frames")
    return SourceWork(spec, sources, cameras)


def _common_shape(shapes: set[tuple[int, int]]) -> tuple[int, int]:
    if len(shapes) > 1:
        raise ShapeError(f"frames must have one size, got {sorted(shapes)}", fix="resize them, or run a loop for each")
    return next(iter(shapes))
