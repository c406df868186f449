"""The boxes of a detector in any source of frames: drawn on each, and all of them as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .detector import Detector
from .errors import SettingsError
from .frames import Camera, FrameSource, ImageFolder, SyntheticScene
from .packages import import_cv2
from .types import Detections
from .vision import draw

BOXES_FILE = "boxes.json"
ENDLESS_LIMIT = 100
"""How many frames of a source that never ends are taken where no limit is given."""


def annotate(
    source: FrameSource,
    detector: Detector,
    folder: str | Path,
    *,
    limit: int | None = None,
    about: Mapping[str, str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[dict[str, Any]]:
    """Write each frame of `source` with its boxes drawn into `folder` as a JPEG, and the boxes as `boxes.json`.

    At most `limit` frames; without it all, and 100 of a camera or the synthetic scene. Returns what the JSON has under
    `frames`, one dict a frame: `index`, `file` (the drawn image), `source` (the image's own name; folders only),
    `width`, `height`, and `boxes`, best first: `class`, `name`, `score`, `left`, `top`, `right`, `bottom` in pixels of
    the frame. Above them stand the engine, the thresholds, the names of the classes, and what `about` adds, such as the
    model's name. After an error or Ctrl-C the JSON holds the frames that were drawn. SettingsError where the folder
    can't be written or is the one that is read; the errors of the source and the detector are passed on.
    """
    out = Path(folder)
    images = source if isinstance(source, ImageFolder) else None
    if images and any(path.parent.resolve() == out.resolve() for path in images.paths):
        raise SettingsError(f"{out} is where the images are read from", fix="write into another folder")
    limit = _checked_limit(limit, source)
    _guard(out, lambda: out.mkdir(parents=True, exist_ok=True))
    frames: list[dict[str, Any]] = []
    try:
        for index, frame in enumerate(islice(source, limit)):
            found = detector(frame)
            name = images.paths[images.index - 1].name if images else ""
            file = f"{index:06}-{Path(name).stem}.jpg" if name else f"{index:06}.jpg"
            _write_image(out / file, draw(frame, found, detector.names))
            height, width = frame.shape[:2]
            entry = {"index": index, "file": file, "width": width, "height": height}
            frames.append({**entry, **({"source": name} if name else {}), "boxes": _as_dicts(found, detector)})
            if progress is not None:
                progress(len(frames))
    finally:
        made_by = {**(about or {}), "engine": detector.engine.label, **detector.settings, "names": detector.names}
        content = {**made_by, "frames": frames}
        _guard(out, lambda: (out / BOXES_FILE).write_text(json.dumps(content, indent=1), encoding="utf-8"))
    return frames


def _checked_limit(limit: int | None, source: FrameSource) -> int | None:
    if limit is not None and limit < 1:
        raise SettingsError(f"a limit of {limit} frames", fix="use 1 or more, or leave it out")
    return ENDLESS_LIMIT if limit is None and isinstance(source, Camera | SyntheticScene) else limit


def _as_dicts(found: Detections, detector: Detector) -> list[dict[str, Any]]:
    sides = ("left", "top", "right", "bottom")
    return [
        {
            "class": kind,
            "name": detector.name_of(kind),
            "score": round(score, 4),
            **dict(zip(sides, (round(side, 2) for side in box), strict=True)),
        }
        for box, score, kind in zip(found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True)
    ]


def _write_image(path: Path, image: np.ndarray) -> None:
    """As JPEG. Not by `cv2.imwrite`, which fails on non-ASCII paths on Windows."""
    _, content = import_cv2().imencode(".jpg", image)
    _guard(path.parent, lambda: path.write_bytes(content.tobytes()))


def _guard(folder: Path, write: Callable[[], Any]) -> None:
    """Do it; SettingsError where the folder can't be written."""
    try:
        write()
    except OSError as error:
        raise SettingsError(
            f"{folder} cannot be written: {error}", fix="name a folder on a disk with space that you may write to"
        ) from error
