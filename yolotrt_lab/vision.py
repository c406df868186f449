"""What the host does around the network: letterbox a frame into given memory, compare boxes, draw them; and the work on
the pixels of a loop's frames, images or sources.

Frames are uint8 BGR arrays (height, width, 3), as OpenCV reads them; shapes are (height, width). The number of OpenCV's
threads is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Sized
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .device import HostBuffer
from .errors import DtypeError, SettingsError, ShapeError
from .frames import FrameSource, check_pairs
from .model import printable
from .packages import import_cv2
from .types import Detections, Pixels, TensorSpec

_PADDING = 114
_HALVES = (np.arange(256, dtype=np.float32) * np.float32(1 / 255)).astype(np.float16).view(np.int16)
"""The bits of each grey level in float16."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where a letterboxed frame lies in the network input: a pixel (x, y) of the frame is at `x * scales[0] + left` and
    `y * scales[1] + top`."""

    frame_shape: tuple[int, int]
    left: int
    top: int
    width: int
    height: int

    @property
    def scales(self) -> tuple[float, float]:
        """Of x and of y. They differ a little, as each side is a whole number of pixels."""
        return self.width / self.frame_shape[1], self.height / self.frame_shape[0]

    @property
    def region(self) -> tuple[slice, slice]:
        """The rows and the columns of the input that the frame fills."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def letterbox_geometry(frame_shape: tuple[int, int], input_shape: tuple[int, int]) -> Geometry:
    """The largest place of the frame's aspect in the input, centred, with the rounding of Ultralytics' LetterBox."""
    scale = min(input_shape[0] / frame_shape[0], input_shape[1] / frame_shape[1])
    height, width = (max(round(size * scale), 1) for size in frame_shape)
    top, left = (round((space - size) / 2 - 0.1) for space, size in zip(input_shape, (height, width), strict=True))
    return Geometry(frame_shape, left, top, width, height)


class Letterbox:
    """Scales frames of any size to the network input, straight into memory that is given to it.

    It keeps the resized uint8 frame between calls: no call after the first of a size allocates an image. Use one in
    each thread.

    >>> out = np.empty((1, 3, 64, 64), np.float32)
    >>> geometry = Letterbox()(np.full((90, 160, 3), 255, np.uint8), out)
    >>> geometry.region, out[0, 0, [0, 32], 0]
    ((slice(14, 50, None), slice(0, 64, None)), array([0.44705883, 1.        ], dtype=float32))
    """

    def __init__(self) -> None:
        self._resized = np.empty((0, 0, 3), np.uint8)
        self._planes = np.empty((3, 0, 0), np.uint8)

    def __call__(self, frame: np.ndarray, out: np.ndarray) -> Geometry:
        """Letterbox `frame` into `out`, (3, height, width) or (1, 3, height, width), RGB from 0 to 1.

        `out` is float32 or float16. It is written once and never read, as write-combined memory needs it. The frame is
        scaled bilinearly with its aspect kept, and the rest is filled with 114/255. The geometry that comes back is
        what `decode` needs. ShapeError or DtypeError if `frame` or `out` has another form, or `out` is not
        C-contiguous.
        """
        check_frame(frame)
        target = _checked_target(out)
        geometry = letterbox_geometry(frame.shape[:2], target.shape[1:])
        rows, columns = geometry.region
        if self._planes.shape[1:] != (geometry.height, geometry.width):
            self._resized = np.empty((geometry.height, geometry.width, 3), np.uint8)
            self._planes = np.empty((3, geometry.height, geometry.width), np.uint8)
        _resize(frame, self._resized)
        cv2 = import_cv2()
        cv2.split(self._resized, list(self._planes))
        if target.dtype == np.float16:  # NumPy rounds each value to half precision by itself
            for plane, place in zip(self._planes[::-1], target, strict=True):
                cv2.LUT(plane, _HALVES, place[rows, columns].view(np.int16))
        else:
            np.multiply(self._planes[::-1], np.float32(1 / 255), out=target[:, rows, columns])
        grey = np.float32(_PADDING / 255)
        target[:, : rows.start] = target[:, rows.stop :] = grey
        target[:, rows, : columns.start] = target[:, rows, columns.stop :] = grey
        return geometry


def naive_letterbox(frame: np.ndarray, input_shape: tuple[int, int], out: np.ndarray | None = None) -> np.ndarray:
    """The usual way to do the same, for comparison: new pageable arrays in each call.

    The last of them is the result of `Letterbox`, float32 (1, 3, height, width). With `out`, such as pinned memory, it
    is that array, and all else is the same. Errors as in `Letterbox`.
    """
    cv2 = import_cv2()
    check_frame(frame)
    geometry = letterbox_geometry(frame.shape[:2], input_shape)
    rows, columns = geometry.region
    image = cv2.resize(frame, (geometry.width, geometry.height), interpolation=cv2.INTER_LINEAR)
    margins = (rows.start, input_shape[0] - rows.stop, columns.start, input_shape[1] - columns.stop)
    image = cv2.copyMakeBorder(image, *margins, cv2.BORDER_CONSTANT, value=(_PADDING,) * 3)
    planes = np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))
    if out is None:
        return planes[None].astype(np.float32) / 255
    np.copyto(out, planes[None])
    out /= 255
    return out


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of each of `boxes` (n, 4) with each of `others` (m, 4): (n, m), from 0 to 1.

    Boxes are left, top, right, bottom. Two boxes without an area overlap by 0.

    >>> overlaps(np.array([[0, 0, 10, 10.0]]), np.array([[0, 0, 10, 10.0], [0, 5, 10, 15]])).round(2)
    array([[1.  , 0.33]])
    """
    low, high = np.maximum(boxes[:, None, :2], others[:, :2]), np.minimum(boxes[:, None, 2:], others[:, 2:])
    shared = (high - low).clip(0).prod(axis=2)
    first, second = (np.prod(each[:, 2:] - each[:, :2], axis=1) for each in (boxes, others))
    union = first[:, None] + second - shared
    ratio: np.ndarray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratio


def class_name(number: int, names: Sequence[str]) -> str:
    """The name of a class without control characters, 'class 7' for one without a name."""
    return printable(names[number]) if 0 <= number < len(names) else f"class {number}"


def draw(frame: np.ndarray, detections: Detections, names: Sequence[str] = ()) -> np.ndarray:
    """A copy of the frame with boxes, class names and scores on it; a class without a name goes by its number."""
    cv2 = import_cv2()
    check_frame(frame)
    image = frame.copy()
    line = max(round(sum(frame.shape[:2]) * 0.0012), 2)
    boxes = detections.boxes.round().astype(int).tolist()
    for box, score, kind in zip(boxes, detections.scores, detections.classes.tolist(), strict=True):
        # bright colours; hues a golden section apart differ for many classes
        blue, green, red = (round(255 * part) for part in hsv_to_rgb(kind * 0.618034 % 1, 0.85, 1)[::-1])
        cv2.rectangle(image, box[:2], box[2:], (blue, green, red), line, cv2.LINE_AA)
        _draw_label(image, f"{class_name(kind, names)} {score:.2f}", box, (blue, green, red), line)
    return image


def _draw_label(image: np.ndarray, text: str, box: Sequence[int], colour: tuple[int, int, int], line: int) -> None:
    """The text on a ground of the box's colour, above the box or, at the frame's top, inside it."""
    cv2 = import_cv2()
    font = (cv2.FONT_HERSHEY_SIMPLEX, max(line / 4, 0.4), max(line // 2, 1))
    (width, height), baseline = cv2.getTextSize(text, *font)
    tall = height + baseline + 2
    left = max(min(box[0], image.shape[1] - width), 0)
    top = box[1] - tall if box[1] >= tall else box[1]
    cv2.rectangle(image, (left, top), (left + width, top + tall), colour, cv2.FILLED)
    bright = colour[0] * 0.114 + colour[1] * 0.587 + colour[2] * 0.299 > 140
    ink = (0, 0, 0) if bright else (255, 255, 255)
    cv2.putText(image, text, (left, top + height + 1), font[0], font[1], ink, font[2], cv2.LINE_AA)


def _resize(frame: np.ndarray, out: np.ndarray) -> None:
    """Bilinear, into `out`. At an odd whole factor, such as 1080p to 640, that is to pick every third pixel."""
    cv2 = import_cv2()
    (height, width), (rows, columns) = frame.shape[:2], out.shape[:2]
    factor, offset = height // rows, height // rows // 2
    if factor in (3, 5) and (height, width) == (factor * rows, factor * columns):
        cv2.resize(frame[offset:, offset:], None, out, 1 / factor, 1 / factor, cv2.INTER_NEAREST)
    else:
        cv2.resize(frame, (columns, rows), out, interpolation=cv2.INTER_LINEAR)


def check_frame(frame: np.ndarray, pixels: Pixels = Pixels.BGR) -> None:
    """ShapeError or DtypeError unless this is a uint8 frame of any size, BGR (height, width, 3) or NV12."""
    if frame.dtype != np.uint8:
        fix = "pass the frame as it was read, before normalisation"
        raise DtypeError(f"a frame must be uint8, got {frame.dtype}", fix=fix)
    if pixels.planar and (frame.ndim != 2 or len(frame) % 3):
        fix = "stack the planes: luma, below it U and V in turns"
        raise ShapeError(f"an NV12 frame must be (height * 3 / 2, width), got {frame.shape}", fix=fix)
    if not pixels.planar and (frame.ndim != 3 or frame.shape[2] != 3 or not frame.size):
        fix = "pass a BGR frame; cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) makes three channels of one"
        raise ShapeError(f"a frame must be (height, width, 3), got {frame.shape}", fix=fix)
    check_pairs(pixels.frame_shape(frame), pixels)


def _checked_target(out: np.ndarray) -> np.ndarray:
    """`out` as (3, height, width), the same memory."""
    check_floats("network input", out.dtype)
    fix = "pass the whole buffer, or out[i] of a batch"
    if out.shape[:-3] not in ((), (1,)) or out.shape[-3:-2] != (3,) or not out.size:
        raise ShapeError(f"`out` must be (3, height, width) or (1, 3, height, width), got {out.shape}", fix=fix)
    if not out.flags.c_contiguous:
        raise ShapeError(f"`out` must be C-contiguous, got {out.shape} with strides {out.strides}", fix=fix)
    return out.reshape(out.shape[-3:])


def check_floats(what: str, dtype: np.dtype) -> None:
    """DtypeError unless these are float32 or float16."""
    if dtype not in (np.float32, np.float16):  # exports in half precision take and give float16
        raise DtypeError(f"the {what} must be float32 or float16, got {dtype}", fix="use float32")


Outputs = Iterable[HostBuffer]
"""Host memory that an engine's outputs were downloaded to."""

Decode = Callable[[tuple[int, int]], Detections]
"""Finds the boxes of a frame of this height and width."""


class HostWork(Protocol):
    """What the host does to the pixels of a loop's frames: from a frame to the bytes that are uploaded, and to boxes.

    Frames are numbered from 0, those of the warm-up below it. `item` is the place in the target's batch.
    """

    frame_shape: tuple[int, int]
    """Height and width of the frames."""

    def letterbox(self, index: int, target: HostBuffer, item: int = 0) -> bool:
        """Write frame `index`, letterboxed, into `target`; False where the frames have ended."""

    def copy_frame(self, index: int, target: HostBuffer, item: int = 0) -> bool:
        """Write frame `index`, as it is, into `target`; False where the frames have ended."""

    def fresh(self, index: int, target: HostBuffer | None = None) -> HostBuffer:
        """Frame `index`, letterboxed the usual way into a new pageable array, or by the same steps into `target`."""

    def copy(self, source: HostBuffer, target: HostBuffer) -> None:
        """Copy a letterboxed frame from one buffer to another."""

    def boxes(self, index: int, outputs: Outputs, decode: Decode, *, on_host: bool = True) -> Detections | None:
        """What `decode` finds in `outputs` for frame `index`, whose height and width it gets; None where no engine
        computed anything. `on_host` is False where the GPU has searched them already.
        """


class PixelWork:
    """`HostWork` on images that are used in turn, for an engine whose input is `spec`.

    SettingsError where `images` is empty or no sequence of arrays, ShapeError or DtypeError for what is no frame.
    """

    frame_shape: tuple[int, int]

    def __init__(self, spec: TensorSpec, images: Sequence[np.ndarray] | None, pixels: Pixels = Pixels.BGR) -> None:
        if not isinstance(images, Sized) or not len(images) or not isinstance(images[0], np.ndarray):
            raise SettingsError(
                f"images must be one array (height, width, 3) or more, got {images!r}",
                fix="pass read_images(name, 8); from a source of frames: list(islice(source, 8))",
            )
        check_frame(images[0], pixels)
        self.set_up(spec, pixels.frame_shape(images[0]))
        self._images, self._pixels = images, pixels

    def set_up(self, spec: TensorSpec, frame_shape: tuple[int, int]) -> None:
        """For frames of that shape."""
        self._dtype = spec.dtype
        self._size = (spec.shape[-2], spec.shape[-1])
        self.frame_shape = frame_shape
        self.write = Letterbox()

    def letterbox(self, index: int, target: HostBuffer, item: int = 0) -> bool:
        """Scale and pad the frame into its place."""
        self.write(self._image(index), target.array[item])
        return True

    def copy_frame(self, index: int, target: HostBuffer, item: int = 0) -> bool:
        """Copy the frame into its place."""
        self._check_size(self._shape_of(index))
        np.copyto(target.array[item], self._image(index))
        return True

    def fresh(self, index: int, target: HostBuffer | None = None) -> HostBuffer:
        """As the public report's program does it (`naive_letterbox`). DtypeError where the engine takes no floats."""
        if self._dtype.kind != "f":  # astype would make 0 of everything below 1
            check_floats("network input", self._dtype)
        if target is not None:
            naive_letterbox(self._image(index), self._size, target.array)
            return target
        return HostBuffer(naive_letterbox(self._image(index), self._size).astype(self._dtype, copy=False))

    def copy(self, source: HostBuffer, target: HostBuffer) -> None:
        """`np.copyto`."""
        np.copyto(target.array, source.array)

    def boxes(self, index: int, outputs: Outputs, decode: Decode, *, on_host: bool = True) -> Detections:
        """What `decode` finds."""
        return decode(self._shape_of(index))

    def _shape_of(self, index: int) -> tuple[int, int]:
        return self._pixels.frame_shape(self._image(index))

    def _check_size(self, shape: tuple[int, int]) -> None:
        if shape != self.frame_shape:
            raise ShapeError(f"frames must be {self.frame_shape}, got one of {shape}", fix="resize it")

    def _image(self, index: int) -> np.ndarray:
        return self._images[index % len(self._images)]


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

    def _shape_of(self, index: int) -> tuple[int, int]:
        return self.frame_shape

    def _read(self, source: FrameSource, target: np.ndarray) -> bool:
        frame = source.read()
        if frame is None:
            return False
        self._check_size(frame.shape[:2])
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
    arrays: Any = images
    work = PixelWork(spec, arrays, pixels)
    for image in given:
        check_frame(image, pixels)
    _common_shape({pixels.frame_shape(image) for image in given})
    return work


def _common_shape(shapes: set[tuple[int, int]]) -> tuple[int, int]:
    if len(shapes) > 1:
        raise ShapeError(f"frames must have one size, got {sorted(shapes)}", fix="resize them, or run a loop for each")
    return next(iter(shapes))
