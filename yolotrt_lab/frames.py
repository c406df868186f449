"""Where frames come from: a video file, a folder of images, a camera, the synthetic scene, or a decoder's planes."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np

from .errors import DtypeError, FrameSourceError, SettingsError, ShapeError
from .files import limit_bytes, read_file, too_large
from .packages import import_cv2, install_command, load
from .types import Pixels

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

_REPAIR = "play it in another program; if that works, re-encode it: ffmpeg -i INPUT -c:v libx264 OUTPUT.mp4"


class FrameSource(ABC):
    """Frames in order, as uint8 arrays. Iterating gives a fresh array for each.

    Iterating, `read` and `read_into` all advance by one frame. A camera and the synthetic scene never end.
    """

    size: tuple[int, int]
    """Width and height of the first frame; only the images of a folder may differ in size."""
    pixels: Pixels = Pixels.BGR
    """How they lie in a frame, and by that the shape of its array: `pixels.shape((height, width))`."""

    @abstractmethod
    def read(self) -> np.ndarray | None:
        """The next frame as a fresh array, None at the end; FrameSourceError if it cannot be read."""

    def read_into(self, out: np.ndarray) -> bool:
        """Write the next frame into `out`, such as pinned memory; False, and `out` unchanged, at the end.

        ShapeError or DtypeError unless `out` is uint8, C-contiguous, and of the frame's shape.
        """
        self._check_target(out)
        return _copied(self.read(), out)

    def close(self) -> None:  # noqa: B027 (most sources hold nothing)
        """Release the file or camera; reading after it is as after the end."""

    def __iter__(self) -> Iterator[np.ndarray]:
        while (frame := self.read()) is not None:
            yield frame

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_target(self, out: np.ndarray) -> None:
        width, height = self.size
        shape = self.pixels.shape((height, width))
        if out.dtype != np.uint8:
            raise DtypeError(f"`out` must be uint8, got {out.dtype}", fix="allocate it as uint8")
        if out.shape != shape or not out.flags.c_contiguous:
            raise ShapeError(
                f"`out` must be C-contiguous of shape {shape}, got {out.shape} with strides {out.strides}",
                fix=f"allocate it by the source's size: np.empty({shape}, np.uint8)",
            )


def _copied(frame: np.ndarray | None, out: np.ndarray) -> bool:
    if frame is None:
        return False
    if frame.shape != out.shape:
        raise ShapeError(f"the frame must be {out.shape} like `out`, got {frame.shape}", fix="resize to one size")
    if frame is not out:
        np.copyto(out, frame)
    return True


class _Capture(FrameSource):
    """What OpenCV opens: a video and a camera."""

    def __init__(self, what: str | int, error: FrameSourceError) -> None:
        self._cv2 = cv2 = import_cv2()
        is_file, backends = isinstance(what, str), cv2.videoio_registry.getBackends()
        # where there is FFmpeg, it alone: OpenCV's own reader of AVI prints bytes of the file
        reader = cv2.CAP_FFMPEG if is_file and cv2.CAP_FFMPEG in backends else cv2.CAP_ANY
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg would print to stderr what is raised here
        with _quiet(cv2):
            self._capture = cv2.VideoCapture(what, reader)
        if not self._capture.isOpened():
            raise error
        self.index = 0
        width, height = (self._capture.get(side) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        self.size = int(width), int(height)

    def read(self) -> np.ndarray | None:
        """The next frame as a fresh array, None at the end; FrameSourceError if the frames break off."""
        return self._next(None)

    def read_into(self, out: np.ndarray) -> bool:
        """Decode the next frame straight into `out`; the errors are those of the base class and of `read`."""
        self._check_target(out)
        return _copied(self._next(out), out)

    def close(self) -> None:
        """Release the file or camera."""
        self._capture.release()

    def _next(self, out: np.ndarray | None) -> np.ndarray | None:
        read = False
        with suppress(self._cv2.error):  # of what no reader expects; as where there is no frame
            read, frame = self._capture.read(out)
        if not read:
            if self._capture.isOpened():
                self._check_end()
            return None
        self.index += 1
        return np.asarray(frame)

    @abstractmethod
    def _check_end(self) -> None:
        """Raise FrameSourceError unless the frames may end here."""


class VideoFile(_Capture):
    """The frames of a video file. `index` is the number of the next frame.

    FrameSourceError if there is no such file or it is no video, and from `read` if it ends before 99 % of the frames
    that it announces (two may always be missing: some formats only estimate their number).
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FrameSourceError(f"there is no video file {path}", fix="check the path")
        super().__init__(str(path), FrameSourceError(f"{path} cannot be read as a video", fix=_REPAIR))
        self._announced = int(self._capture.get(import_cv2().CAP_PROP_FRAME_COUNT))

    def _check_end(self) -> None:
        _check_count(self.path, self.index, self._announced)


def _check_count(path: Path, index: int, announced: int) -> None:
    if index == 0 or announced - index > max(2, 0.01 * announced):
        raise FrameSourceError(f"{path} cannot be read at frame {index}; it announces {announced} frames", fix=_REPAIR)


class VideoPlanes(FrameSource):
    """The frames of a video file in NV12, as its decoder leaves them: never converted to BGR, written once.

    Decoded by PyAV in threads of its own. `pixels` are those that the file names, BT.601 where it names none. `index`
    is the number of the next frame. FrameSourceError if there is no such file, it is no video, or not 8 bits 4:2:0 in
    limited range, and from `read` as in `VideoFile`. ShapeError for an odd height or width, MissingPackageError without
    PyAV.

    >>> import cv2, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "clip.mp4"
    >>> writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30, (64, 48))
    >>> _ = writer.write(np.zeros((48, 64, 3), np.uint8)), writer.release()
    >>> [frame.shape for frame in VideoPlanes(path)]
    [(72, 64)]
    """

    def __init__(self, path: str | Path) -> None:
        av = load("av", needed_for="the planes of a video", install=install_command("av"))
        self.path, self.index = Path(path), 0
        if not self.path.is_file():
            raise FrameSourceError(f"there is no video file {path}", fix="check the path")
        try:
            self._container = av.open(str(path))
            (stream, *_) = self._container.streams.video
        except (av.FFmpegError, OSError, ValueError) as error:
            raise FrameSourceError(f"{path} cannot be read as a video", fix=_REPAIR) from error
        stream.thread_type = "AUTO"
        self.size = (width, height) = stream.codec_context.width, stream.codec_context.height
        self.pixels = Pixels.NV12_709 if stream.codec_context.colorspace == 1 else Pixels.NV12
        check_pairs((height, width), self.pixels)
        self._announced, self._errors = stream.frames, av.FFmpegError
        self._frames = self._container.decode(stream)

    def read(self) -> np.ndarray | None:
        """The next frame as a fresh array, None at the end; FrameSourceError if the frames break off."""
        width, height = self.size
        out = np.empty(self.pixels.shape((height, width)), np.uint8)
        return out if self.read_into(out) else None

    def read_into(self, out: np.ndarray) -> bool:
        """Write the planes of the next frame into `out`; the errors are those of the base class and of `read`."""
        self._check_target(out)
        try:
            frame = next(self._frames, None)
        except self._errors as error:
            raise FrameSourceError(f"{self.path} cannot be read at frame {self.index}", fix=_REPAIR) from error
        if frame is None:
            _check_count(self.path, self.index, self._announced)
            return False
        _write_planes(frame, out, self.path)
        self.index += 1
        return True

    def close(self) -> None:
        """Release the file."""
        self._frames, self._announced = iter(()), self.index
        self._container.close()


def _write_planes(frame: Any, out: np.ndarray, path: Path) -> None:
    """The planes of a frame of PyAV into NV12; each byte is written once."""
    full_range, kind = frame.color_range == 2, frame.format.name
    if full_range or kind not in ("nv12", "yuv420p") or (frame.width, frame.height) != (out.shape[1], frame.height):
        raise FrameSourceError(
            f"{path} must be 8 bits 4:2:0 in limited range, got {kind}{' in full range' if full_range else ''}",
            fix="read it as BGR with open_frames, or: ffmpeg -i INPUT -pix_fmt yuv420p -color_range tv OUTPUT.mp4",
        )
    height, width = frame.height, frame.width
    luma, *chroma = (np.frombuffer(each, np.uint8).reshape(each.height, each.line_size) for each in frame.planes)
    out[:height] = luma[:, :width]
    if kind == "nv12":
        out[height:] = chroma[0][:, :width]
    else:
        pairs = out[height:].reshape(height // 2, width // 2, 2)
        import_cv2().merge([np.ascontiguousarray(each[:, : width // 2]) for each in chroma], pairs)


def check_pairs(frame_shape: tuple[int, int], pixels: Pixels) -> None:
    """ShapeError for frames whose colours can't be had in 2 x 2 pixels: NV12 of an odd height or width."""
    if pixels.planar and any(size % 2 for size in frame_shape):
        raise ShapeError(f"an NV12 frame must have an even height and width, got {frame_shape}", fix="crop it by one")


class Camera(_Capture):
    """A camera by its number. FrameSourceError if it is absent, and from `read` if it stops delivering."""

    def __init__(self, number: int) -> None:
        self.number = number
        fix = "plug it in, close other programs that use it, or try 0"
        super().__init__(number, FrameSourceError(f"camera {number} cannot be opened", fix=fix))

    def _check_end(self) -> None:
        raise FrameSourceError(
            f"camera {self.number} stopped after {self.index} frames", fix="check its cable and open it again"
        )


class ImageFolder(FrameSource):
    """The images of a folder in the order of their names, or one image file. `index` is the number of the next.

    `left_out` says what of the folder is not read: hidden images, and folders in it. FrameSourceError if there is no
    image or none can be read, and from `read` if one cannot be read; the next call goes on with the one after it.
    """

    def __init__(self, path: str | Path) -> None:
        folder = Path(path)
        files = sorted(folder.iterdir()) if folder.is_dir() else [folder]
        found = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()]
        hidden = [file for file in found if folder.is_dir() and file.name.startswith(".")]
        self.paths = [file for file in found if file not in hidden]
        self.left_out = [f"{file} is hidden" for file in hidden]
        if within := [file.name for file in files if file.is_dir() and not file.name.startswith(".")]:
            names = ", ".join(within[:3]) + ", ..." * (len(within) > 3)
            self.left_out.append(f"{len(within)} folder{'s' * (len(within) > 1)} in {path}: {names}")
        if not self.paths:
            others = "".join(f"; not read: {each}" for each in self.left_out)
            suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
            raise FrameSourceError(f"there are no images in {path}{others}", fix=f"name a folder with {suffixes} files")
        self.index = 0
        self.size = _first_readable(self.paths).shape[1::-1]

    def read(self) -> np.ndarray | None:
        """The next image as a fresh array, None at the end; FrameSourceError if it cannot be read."""
        if self.index >= len(self.paths):
            return None
        self.index += 1
        return _read_image(self.paths[self.index - 1])

    def close(self) -> None:
        """Go to the end."""
        self.index = len(self.paths)


def _first_readable(paths: Sequence[Path]) -> np.ndarray:
    """The first image that can be read; the error of the first one where none can."""
    for path in paths:
        with suppress(FrameSourceError):
            return _read_image(path)
    return _read_image(paths[0])


def _read_image(path: Path) -> np.ndarray:
    """BGR whatever the file holds. From its bytes, as `cv2.imread` fails on non-ASCII paths on Windows."""
    cv2, image = import_cv2(), None
    try:
        content = np.frombuffer(read_file(path, error=FrameSourceError), np.uint8)
    except OSError as error:
        raise FrameSourceError(f"{path} cannot be read: {error}", fix="check the file's permissions") from error
    if content[:8].tobytes() == b"\x89PNG\r\n\x1a\n":  # of which OpenCV takes the memory before it looks at the size
        height, width = content[16:24].view(">u4").tolist() if len(content) > 24 else (0, 0)
        if (nbytes := 3 * height * width) > limit_bytes():
            raise too_large(path, nbytes, FrameSourceError)
    with (
        _quiet(cv2),
        suppress(cv2.error),
    ):  # of a file that is empty, or says that it is larger than `import_cv2` allows
        image = cv2.imdecode(content, cv2.IMREAD_COLOR)
    if image is None:
        raise FrameSourceError(f"{path} is no readable image", fix="remove it, or save it again, smaller if it is huge")
    return np.asarray(image)


@contextmanager
def _quiet(cv2: Any) -> Iterator[None]:
    """OpenCV logs nothing meanwhile: what fails is raised as an error."""
    set_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel  # OpenCV 4, 5
    before = set_level(0)
    try:
        yield
    finally:
        set_level(before)


def open_frames(what: str | int | Path) -> FrameSource:
    """The source that `what` names: "synthetic", a camera's number, a folder, an image file, or a video file.

    FrameSourceError if it cannot be opened.

    >>> import cv2, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = cv2.imwrite(f"{folder}/0.png", np.zeros((480, 640, 3), np.uint8))
    ...     open_frames(folder).size
    (640, 480)
    """
    if what == "synthetic":
        from .detector import SyntheticScene

        return SyntheticScene()
    if isinstance(what, int) or (isinstance(what, str) and what.isdecimal() and len(what) < 10):
        return Camera(int(what))
    path = Path(what)
    if not path.exists():
        raise FrameSourceError(
            f"there is no {what}", fix='name a video file, a folder of images, a camera number, or "synthetic"'
        )
    return ImageFolder(path) if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES else VideoFile(path)


def read_images(what: str | int | Path, count: int) -> list[np.ndarray]:
    """The first `count` frames of a source, fewer if it ends before; FrameSourceError if it cannot be read.

    SettingsError for a negative count.

    >>> import cv2, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = cv2.imwrite(f"{folder}/0.png", np.zeros((480, 640, 3), np.uint8))
    ...     [image.shape for image in read_images(folder, 5)]
    [(480, 640, 3)]
    """
    if count < 0:
        raise SettingsError(f"the number of images must be 0 or more, got {count}", fix="use 1 or more")
    with open_frames(what) as frames:
        return list(islice(frames, count))
