"""The contract of a frame source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import numpy as np

from ..errors import DtypeError, ShapeError


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
