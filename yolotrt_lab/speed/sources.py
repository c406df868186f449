"""Frames for a loop straight from their sources: a video or several cameras, which write into the slots themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..device import HostBuffer
from ..errors import DtypeError, SettingsError, ShapeError
from ..frames import FrameSource, check_pairs
from ..packages import import_cv2
from ..types import Detections, Pixels, TensorSpec
from ..vision import Decode, Outputs, PixelWork, check_frame

Images = Sequence[np.ndarray] | FrameSource | Sequence[FrameSource]
"""Images that are used in turn, a source that fills slots, or several of them: cameras."""


class _OneSize(PixelWork):
    """`HostWork` on frames that all have one size."""

    def boxes(self, index: int, outputs: Outputs, decode: Decode, *, on_host: bool = True) -> Detections:
        """What `decode` finds; all frames have one size."""
        return decode(self.frame_shape)


class SourceWork(_OneSize):
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


class PlanesWork(_OneSize):
    """`HostWork` on NV12 frames that are used in turn: they go into the slots as they are.

    ShapeError or DtypeError for what is no NV12 frame, and where they differ in size.
    """

    def __init__(self, spec: TensorSpec, frames: Sequence[np.ndarray], pixels: Pixels) -> None:
        if not len(frames):
            raise SettingsError("images must be one NV12 frame or more, got none", fix="pass one")
        for frame in frames:
            if frame.dtype != np.uint8:
                raise DtypeError(f"an NV12 frame must be uint8, got {frame.dtype}", fix="pass 8 bits a value")
            if frame.ndim != 2 or len(frame) % 3:
                raise ShapeError(
                    f"an NV12 frame must be (height * 3 / 2, width), got {frame.shape}",
                    fix="stack the planes: luma, below it U and V in turns",
                )
        self.set_up(spec, _common_shape({pixels.frame_shape(frame) for frame in frames}))
        check_pairs(self.frame_shape, pixels)
        self._images = frames

    def copy_frame(self, index: int, target: HostBuffer, item: int = 0) -> bool:
        """Copy both planes into their place."""
        np.copyto(target.array[item], self._image(index))
        return True


def pixel_work(spec: TensorSpec, images: Images | None, cameras: list[int], pixels: Pixels = Pixels.BGR) -> PixelWork:
    """The work on images or sources; `cameras` gets the number of the source of each frame, where there are several.

    SettingsError for images beside sources and for other `pixels` than theirs, ShapeError where they differ in size.
    """
    given: Any = [images] if isinstance(images, FrameSource) else () if images is None else images
    sources = [each for each in given if isinstance(each, FrameSource)]
    for each in sources:
        if each.pixels is not pixels:
            raise SettingsError(
                f"pixels must be those of the source, {each.pixels}, got {pixels}", fix="use pixels=source.pixels"
            )
    if sources and len(sources) < len(given):
        raise SettingsError("images and sources can't be mixed", fix="pass images, or sources of frames")
    if sources:
        return SourceWork(spec, sources, cameras)
    if pixels.planar:
        return PlanesWork(spec, given, pixels)
    arrays: Any = images
    work = PixelWork(spec, arrays)
    for image in given:
        check_frame(image)
    _common_shape({image.shape[:2] for image in given})
    return work


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


def _common_shape(shapes: set[tuple[int, int]]) -> tuple[int, int]:
    if len(shapes) > 1:
        raise ShapeError(f"frames must have one size, got {sorted(shapes)}", fix="resize them, or run a loop for each")
    return next(iter(shapes))
