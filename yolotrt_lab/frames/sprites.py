"""Machine parts as sprites: drawn, lit, turned, some out of focus, with a shadow, ready to be put on a frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..packages import import_cv2
from .parts import PARTS, Canvas

_ROOM = 1.6  # the ground of a turned part, by its length: corners and shadow fit


@dataclass(frozen=True, slots=True)
class Sprite:
    """One part, ready to be put on a frame: `frame * keep / 255 + add`, both uint8 (height, width, 3).

    `mask` (height, width) is True on the part itself, without its shadow; `area` counts its pixels.
    """

    kind: int
    keep: np.ndarray
    add: np.ndarray
    mask: np.ndarray
    area: int


def make_sprite(kind: int, length: int, generator: np.random.Generator) -> Sprite:
    """One part of kind number `kind`, `length` pixels long; its details, turn, tint and focus are drawn."""
    cv2 = import_cv2()
    colour, alpha = _turned(*_drawn(kind, length, generator), generator.uniform(0, 360))
    if generator.random() < 0.35:
        blur = generator.uniform(0.3, 0.8) + 0.004 * length
        colour, alpha = (cv2.GaussianBlur(image, (0, 0), blur) for image in (colour, alpha))
    drop = 2 + 0.03 * length
    moved = cv2.warpAffine(alpha, np.array([[1, 0, drop], [0, 1, drop]], np.float32), alpha.shape[::-1])
    keep = (1 - alpha) * (1 - 0.5 * cv2.GaussianBlur(moved, (0, 0), 0.6 * drop))
    rows, columns = (np.flatnonzero((keep < 0.99).any(axis=axis)) for axis in (1, 0))
    crop = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    keep = cv2.convertScaleAbs(keep[crop], alpha=255)
    mask = alpha[crop] >= 0.5
    return Sprite(kind, cv2.merge([keep] * 3), cv2.convertScaleAbs(colour[crop]), mask, int(mask.sum()))


def _drawn(kind: int, length: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A part with light and brushed texture: float32 colour (n, n, 3) from 0 to 255, times alpha (n, n) from 0 to 1."""
    cv2 = import_cv2()
    side = min(max(2 * length, 64), 448)
    canvas = Canvas(side)
    tuple(PARTS.values())[kind](canvas, generator)
    slope = generator.uniform(-0.22, 0.22, 2).astype(np.float32)
    along = np.linspace(-1, 1, side, dtype=np.float32)
    brushed = cv2.resize(generator.standard_normal((side // 2, side // 16), np.float32), (side, side))
    alpha = canvas.mask.astype(np.float32) / 255
    lit = alpha * (1 + slope[0] * along + slope[1] * along[:, None] + 0.05 * brushed)
    tint = generator.uniform(0.7, 1.15) * generator.normal(1, 0.05, 3)
    planes = [plane * (lit * np.float32(gain)) for plane, gain in zip(cv2.split(canvas.image), tint, strict=True)]
    colour = cv2.merge([np.minimum(plane, 255 * alpha) for plane in planes])
    how = cv2.INTER_AREA if length < side else cv2.INTER_LINEAR
    colour, alpha = (cv2.resize(image, (length, length), interpolation=how) for image in (colour, alpha))
    return colour, alpha


def _turned(colour: np.ndarray, alpha: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Both images turned about their centre, on a ground that has room for the corners and a shadow."""
    cv2 = import_cv2()
    side = len(alpha)
    room = round(_ROOM * side) + 12
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), degrees, 1)
    matrix[:, 2] += (room - side) / 2
    return cv2.warpAffine(colour, matrix, (room, room)), cv2.warpAffine(alpha, matrix, (room, room))
