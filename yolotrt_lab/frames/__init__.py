"""Where frames come from: a video, a folder of images, a camera, or the synthetic scene.

Every source hands out uint8 BGR arrays (height, width, 3) in order, fresh ones or into memory that is given to it.

    with open_frames("clip.mp4") as frames:
        for frame in frames: ...
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from ..errors import FrameSourceError, SettingsError
from .base import FrameSource
from .files import IMAGE_SUFFIXES, Camera, ImageFolder, VideoFile
from .scene import SyntheticScene

__all__ = ["Camera", "FrameSource", "ImageFolder", "SyntheticScene", "VideoFile", "open_frames", "read_images"]


def open_frames(what: str | int | Path) -> FrameSource:
    """The source that `what` names: "synthetic", a camera's number, a folder, an image file, or a video file.

    FrameSourceError where it cannot be opened.
    """
    if what == "synthetic":
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
