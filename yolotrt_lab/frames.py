"""The contract of a frame source."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from .errors import DtypeError, FrameSourceError, SettingsError, ShapeError
from .packages import import_cv2


class FrameSource(ABC):
    """Frames in order, as uint8 BGR arrays (height, width, 3). Iterating gives a fresh array for each.

    Iterating, `read` and `read_into` all move on by one frame. A camera and the synthetic scene never end.
    """

    size: tuple[int, int]
    """Width and height of the first frame; only the images of a folder may differ in size."""

    @abstractmethod
    def read(self) -> np.ndarray | None:
        """The next frame as a fresh array, None at the end; FrameSourceError where it cannot be read."""

    def read_into(self, out: np.ndarray) -> bool:
        """Write the next frame into `out`, such as pinned memory; False, and `out` unchanged, at the end.

        ShapeError or DtypeError where `out` is not uint8 (height, width, 3) of the frame's size or not C-contiguous.
        """
        self._check_target(out)
        frame = self.read()
        if frame is None:
            return False
        self._copy(frame, out)
        return True

    def close(self) -> None:  # noqa: B027 (most sources hold nothing)
        """Give back the file or camera; reading after it is as after the end."""

    def __iter__(self) -> Iterator[np.ndarray]:
        while (frame := self.read()) is not None:
            yield frame

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _copy(self, frame: np.ndarray, out: np.ndarray) -> None:
        if frame.shape != out.shape:
            raise ShapeError(f"the frame is {frame.shape}, `out` {out.shape}", fix="resize the frames to one size")
        np.copyto(out, frame)

    def _check_target(self, out: np.ndarray) -> None:
        width, height = self.size
        if out.dtype != np.uint8:
            raise DtypeError(f"frames are uint8, `out` is {out.dtype}", fix="allocate it as uint8")
        if out.shape != (height, width, 3) or not out.flags.c_contiguous:
            raise ShapeError(
                f"`out` is {out.shape} with strides {out.strides}, not C-contiguous ({height}, {width}, 3)",
                fix="allocate it by the source's size: np.empty((size[1], size[0], 3), np.uint8)",
            )


# Frames from outside: a video file, a folder of images, a camera.


_REPAIR = "play it in another program; if that works, re-encode it: ffmpeg -i INPUT -c:v libx264 OUTPUT.mp4"

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


class _Capture(FrameSource):
    """What a video and a camera have in common: OpenCV reads them."""

    def __init__(self, what: str | int) -> None:
        cv2 = import_cv2()
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg would print to stderr what is raised here
        with _quiet(cv2):
            self._capture = cv2.VideoCapture(what)
        self.index = 0
        width, height = (self._capture.get(side) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        self.size = int(width), int(height)

    def read(self) -> np.ndarray | None:
        """The next frame as a fresh array, None at the end; FrameSourceError where it breaks off."""
        return self._next(None)

    def read_into(self, out: np.ndarray) -> bool:
        """Decode the next frame straight into `out`; the errors are those of the base class and of `read`."""
        self._check_target(out)
        frame = self._next(out)
        if frame is not None and frame is not out:
            self._copy(frame, out)
        return frame is not None

    def close(self) -> None:
        """Give back the file or camera."""
        self._capture.release()

    def _next(self, out: np.ndarray | None) -> np.ndarray | None:
        read, frame = self._capture.read(out)
        if not read:
            self._check_end()
            return None
        self.index += 1
        return frame

    @abstractmethod
    def _check_end(self) -> None:
        """Raise FrameSourceError unless the frames may end here."""


class VideoFile(_Capture):
    """The frames of a video file. `index` is the number of the next frame.

    FrameSourceError where there is no such file or it is no video, and from `read` where it ends before 99 % of the
    frames that it announces (two may always be missing: some formats only estimate their number).
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FrameSourceError(f"there is no video file {path}", fix="check the path")
        super().__init__(str(path))
        if not self._capture.isOpened():
            raise FrameSourceError(f"{path} cannot be read as a video", fix=_REPAIR)
        self._announced = int(self._capture.get(import_cv2().CAP_PROP_FRAME_COUNT))

    def _check_end(self) -> None:
        if not self._capture.isOpened():
            return
        missing = self._announced - self.index
        if self.index == 0 or missing > max(2, 0.01 * self._announced):
            raise FrameSourceError(
                f"{self.path} cannot be read at frame {self.index}; it announces {self._announced} frames",
                fix=_REPAIR,
            )


class Camera(_Capture):
    """A camera by its number. FrameSourceError where it is absent, and from `read` where it stops delivering."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)
        if not self._capture.isOpened():
            raise FrameSourceError(
                f"camera {number} cannot be opened", fix="plug it in, close other programs that use it, or try 0"
            )

    def _check_end(self) -> None:
        if self._capture.isOpened():
            raise FrameSourceError(
                f"camera {self.number} stopped after {self.index} frames", fix="check its cable and open it again"
            )


class ImageFolder(FrameSource):
    """The images of a folder in the order of their names, or one image file.

    FrameSourceError where there is none, and from `read` where one cannot be read. `index` is the number of the next.
    """

    def __init__(self, path: str | Path) -> None:
        folder = Path(path)
        files = folder.iterdir() if folder.is_dir() else [folder]
        self.paths = sorted(file for file in files if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
        if not self.paths:
            suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
            raise FrameSourceError(f"there are no images in {path}", fix=f"name a folder with {suffixes} files")
        self.index = 0
        self.size = _read_image(self.paths[0]).shape[1::-1]

    def read(self) -> np.ndarray | None:
        """The next image as a fresh array, None at the end; FrameSourceError where it cannot be read."""
        if self.index >= len(self.paths):
            return None
        self.index += 1
        return _read_image(self.paths[self.index - 1])

    def close(self) -> None:
        """Go to the end."""
        self.index = len(self.paths)


def _read_image(path: Path) -> np.ndarray:
    """BGR whatever the file holds. Through NumPy, as `cv2.imread` fails on non-ASCII paths on Windows."""
    cv2 = import_cv2()
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise FrameSourceError(f"{path} cannot be read: {error}", fix="check the file's permissions") from error
    with _quiet(cv2):
        image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if image is None:
        raise FrameSourceError(f"{path} is no readable image", fix="remove it, or save it again")
    return image


@contextmanager
def _quiet(cv2: Any) -> Iterator[None]:
    """OpenCV logs nothing meanwhile: what fails is raised as an error."""
    set_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel  # OpenCV 4, 5
    before = set_level(0)
    try:
        yield
    finally:
        set_level(before)


# Where frames come from: a video, a folder of images, a camera, or the synthetic scene.
#
# Every source hands out uint8 BGR arrays (height, width, 3) in order, fresh ones or into memory that is given to it.
#
#     with open_frames("clip.mp4") as frames:
#         for frame in frames: ...


def open_frames(what: str | int | Path) -> FrameSource:
    """The source that `what` names: "synthetic", a camera's number, a folder, an image file, or a video file.

    FrameSourceError where it cannot be opened.
    """
    if what == "synthetic":
        from .detector.scene import SyntheticScene

        return SyntheticScene()
    if isinstance(what, int) or (isinstance(what, str) and what.isdecimal()):
        return Camera(int(what))
    path = Path(what)
    if not path.exists():
        raise FrameSourceError(
            f"there is no {what}", fix='name a video file, a folder of images, a camera number, or "synthetic"'
        )
    return ImageFolder(path) if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES else VideoFile(path)


def read_images(what: str | int | Path, count: int) -> list[np.ndarray]:
    """The first `count` frames of a source, fewer where it ends before; FrameSourceError where it cannot be read.

    SettingsError for a negative count.
    """
    if count < 0:
        raise SettingsError(f"{count} images", fix="use 0 or more")
    with open_frames(what) as frames:
        return list(islice(frames, count))
