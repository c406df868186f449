"""Ten kinds of machine parts as sprites: drawn from simple shapes, lit, turned, some out of focus, with a shadow.

A part is drawn on a square canvas whose coordinates go from -1 to 1, x to the right and y down. It fills about 95 % of
its longer side, and differs a little with every draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..packages import import_cv2

Colour = tuple[float, float, float]
_STEEL, _DARK, _BRASS, _COPPER = (182, 178, 172), (98, 94, 88), (74, 158, 205), (84, 122, 196)
_PLASTIC, _IVORY, _WHITE = (48, 44, 42), (192, 214, 224), (225, 225, 225)
_BLUE, _TEAL, _GREEN, _ORANGE, _YELLOW, _RED = (
    (168, 96, 36), (150, 140, 30), (70, 130, 50), (38, 118, 228), (52, 196, 236), (50, 50, 196)
)  # fmt: skip


class Canvas:
    """A BGR image and the mask of what has been drawn on it, both uint8, `size` pixels square."""

    def __init__(self, size: int) -> None:
        self._cv2 = import_cv2()
        self._half = size / 2
        self.image = np.zeros((size, size, 3), np.uint8)
        self.mask = np.zeros((size, size), np.uint8)

    def polygon(self, points: Any, colour: Colour) -> None:
        """Fill the polygon through `points` (n, 2)."""
        for target, ink in ((self.image, colour), (self.mask, 255)):
            self._cv2.fillPoly(target, [self._sixteenths(points)], ink, self._cv2.LINE_AA, 4)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Fill an upright rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """Fill a circle."""
        self._circle(self.image, x, y, radius, colour)
        self._circle(self.mask, x, y, radius, 255)

    def hole(self, x: float, y: float, radius: float) -> None:
        """Cut a circle out: what lies behind the part shows there."""
        self._circle(self.mask, x, y, radius, 0)

    def line(self, points: Any, width: float, colour: Colour) -> None:
        """Draw a line through `points` (n, 2), `width` wide, with round ends."""
        thickness = max(round(width * self._half), 1)
        for target, ink in ((self.image, colour), (self.mask, 255)):
            self._cv2.polylines(target, [self._sixteenths(points)], False, ink, thickness, self._cv2.LINE_AA, 4)

    def _circle(self, target: np.ndarray, x: float, y: float, radius: float, ink: Any) -> None:
        centre, scaled = self._sixteenths((x, y)).tolist(), round(radius * self._half * 16)
        self._cv2.circle(target, centre, scaled, ink, -1, self._cv2.LINE_AA, 4)

    def _sixteenths(self, points: Any) -> np.ndarray:
        """Positions in sixteenths of a pixel, as OpenCV takes them with a shift of 4."""
        return np.rint((np.asarray(points) + 1) * self._half * 16).astype(np.int32)


def _shade(colour: Colour, factor: float) -> Colour:
    blue, green, red = (min(value * factor, 255) for value in colour)
    return blue, green, red


def _pick(generator: np.random.Generator, *colours: Colour) -> Colour:
    return colours[generator.integers(len(colours))]


def _around(count: int, radius: float, phase: float = 0) -> np.ndarray:
    """`count` points (count, 2) evenly on a circle."""
    angles = 2 * np.pi * (np.arange(count) + phase) / count
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _gear(canvas: Canvas, generator: np.random.Generator) -> None:
    colour = _pick(generator, _STEEL, _BRASS, _DARK)
    teeth = int(generator.integers(9, 15))
    angles = 2 * np.pi * (np.arange(teeth)[:, None] + [-0.3, -0.17, 0.17, 0.3]) / teeth
    radii = np.array([0.74, 0.95, 0.95, 0.74])
    canvas.polygon(np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=-1).reshape(-1, 2), colour)
    canvas.disc(0, 0, 0.66, _shade(colour, 0.72))
    canvas.disc(0, 0, 0.3, _shade(colour, 1.12))
    for x, y in _around(int(generator.integers(4, 7)), 0.48):
        canvas.hole(x, y, 0.115)
    canvas.hole(0, 0, 0.14)


def _bolt(canvas: Canvas, generator: np.random.Generator) -> None:
    colour = _pick(generator, _STEEL, _BRASS, _DARK)
    width = generator.uniform(0.14, 0.2)
    canvas.box(-0.62, -width, 0.86, width, colour)
    canvas.box(-0.62, -width, 0.86, -0.4 * width, _shade(colour, 1.25))
    canvas.polygon([(0.85, -width), (0.95, -0.6 * width), (0.95, 0.6 * width), (0.85, width)], _shade(colour, 0.8))
    for x in np.arange(generator.uniform(-0.3, 0), 0.86, 0.085):
        canvas.line([(x, -width), (x + 0.05, width)], 0.03, _shade(colour, 0.5))
    canvas.box(-0.95, -0.36, -0.6, 0.36, _shade(colour, 0.92))
    canvas.box(-0.95, -0.36, -0.6, -0.18, _shade(colour, 1.2))
    canvas.box(-0.95, 0.18, -0.6, 0.36, _shade(colour, 0.65))


def _nut(canvas: Canvas, generator: np.random.Generator) -> None:
    colour = _pick(generator, _STEEL, _BRASS, _COPPER)
    canvas.polygon(_around(6, 0.95), _shade(colour, 0.85))
    canvas.disc(0, 0, 0.78, colour)
    canvas.disc(0, 0, 0.54, _shade(colour, 0.45))
    canvas.hole(0, 0, generator.uniform(0.38, 0.46))


def _washer(canvas: Canvas, generator: np.random.Generator) -> None:
    colour = _pick(generator, _STEEL, _COPPER, _WHITE)
    canvas.disc(0, 0, 0.95, _shade(colour, 0.7))
    canvas.disc(0, 0, 0.9, colour)
    bore = generator.uniform(0.5, 0.62)
    canvas.disc(0, 0, bore + 0.05, _shade(colour, 0.7))
    canvas.hole(0, 0, bore)


def _bracket(canvas: Canvas, generator: np.random.Generator) -> None:
    colour = _pick(generator, _ORANGE, _YELLOW, _BLUE, _STEEL)
    arm, mirror = generator.uniform(0.4, 0.55), generator.choice([-1, 1])
    inner = -0.8 + arm
    outline = np.array(
        [(-0.8, -0.95), (inner, -0.95), (inner, 0.95 - arm), (0.8, 0.95 - arm), (0.8, 0.95), (-0.8, 0.95)]
    )
    canvas.polygon(outline * (mirror, 1), colour)
    edge = np.array([(-0.74, -0.9), (-0.74, 0.89), (0.75, 0.89)])
    canvas.line(edge * (mirror, 1), 0.06, _shade(colour, 0.65))
    for x, y in ((inner - arm / 2, -0.65), (inner - arm / 2, -0.05), (0.15, 0.95 - arm / 2), (0.57, 0.95 - arm / 2)):
        canvas.disc(mirror * x, y, 0.14, _shade(colour, 0.6))
        canvas.hole(mirror * x, y, 0.11)


def _spring(canvas: Canvas, generator: np.random.Generator) -> None:
    colour = _pick(generator, _STEEL, _DARK, _COPPER)
    coils, width = int(generator.integers(6, 10)), generator.uniform(0.3, 0.42)
    xs = np.linspace(-0.85, 0.85, 2 * coils + 1)
    ys = width * np.where(np.arange(2 * coils + 1) % 2, 1, -1)
    points = np.stack([xs, ys], axis=1)
    for start in range(1, 2 * coils - 1, 2):
        canvas.line(points[start : start + 2], 0.09, _shade(colour, 0.55))
    for start in range(0, 2 * coils, 2):
        canvas.line(points[start : start + 2], 0.1, colour)
        canvas.line(points[start : start + 2] * (1, 0.7), 0.03, _shade(colour, 1.4))


def _bearing(canvas: Canvas, generator: np.random.Generator) -> None:
    canvas.disc(0, 0, 0.95, _shade(_STEEL, 0.8))
    canvas.disc(0, 0, 0.9, _STEEL)
    canvas.disc(0, 0, 0.74, _shade(_DARK, 0.5))
    for x, y in _around(int(generator.integers(7, 11)), 0.6, generator.uniform(0, 1)):
        canvas.disc(x, y, 0.125, _shade(_STEEL, 0.9))
        canvas.disc(x - 0.03, y - 0.03, 0.05, _WHITE)
    canvas.disc(0, 0, 0.46, _shade(_STEEL, 0.8))
    canvas.disc(0, 0, 0.42, _STEEL)
    canvas.hole(0, 0, generator.uniform(0.24, 0.32))


def _chip(canvas: Canvas, generator: np.random.Generator) -> None:
    width, legs = generator.uniform(0.42, 0.6), int(generator.integers(5, 9))
    for y in np.linspace(-0.78, 0.78, legs):
        canvas.box(-width - 0.24, y - 0.05, width + 0.24, y + 0.05, _WHITE)
    canvas.box(-width, -0.95, width, 0.95, _PLASTIC)
    canvas.box(-width, -0.95, width, -0.9, _shade(_PLASTIC, 1.6))
    canvas.disc(-width + 0.14, -0.78, 0.07, _shade(_WHITE, 0.8))
    for y in (-0.25, 0.0, 0.25):
        canvas.line([(-0.7 * width, y), (generator.uniform(0.1, 0.7) * width, y)], 0.06, _shade(_WHITE, 0.7))


def _capacitor(canvas: Canvas, generator: np.random.Generator) -> None:
    colour, width = _pick(generator, _BLUE, _TEAL, _GREEN, _RED), generator.uniform(0.34, 0.46)
    for y in (-0.5 * width, 0.5 * width):
        canvas.line([(-0.92, y), (-0.5, y)], 0.05, _STEEL)
    canvas.box(-0.55, -width, 0.85, width, colour)
    canvas.box(-0.55, -0.85 * width, 0.85, -0.45 * width, _shade(colour, 1.45))
    canvas.box(-0.55, 0.3 * width, 0.85, 0.75 * width, _WHITE)
    for x in np.arange(-0.4, 0.8, 0.3):
        canvas.box(x, 0.45 * width, x + 0.15, 0.6 * width, _PLASTIC)
    canvas.box(0.8, -0.95 * width, 0.95, 0.95 * width, _STEEL)
    canvas.box(-0.48, -width, -0.42, width, _shade(colour, 0.5))


def _terminal(canvas: Canvas, generator: np.random.Generator) -> None:
    colour = _pick(generator, _IVORY, _GREEN, _WHITE)
    poles = int(generator.integers(3, 6))
    canvas.box(-0.95, -0.5, 0.95, 0.5, colour)
    canvas.box(-0.95, 0.36, 0.95, 0.5, _shade(colour, 0.65))
    pitch = 1.9 / poles
    for x in -0.95 + pitch * (np.arange(poles) + 0.5):
        canvas.disc(x, -0.18, 0.36 * pitch, _shade(_STEEL, 0.8))
        turn = generator.uniform(0, np.pi)
        across, down = 0.28 * pitch * np.cos(turn), 0.28 * pitch * np.sin(turn)
        canvas.line([(x - across, -0.18 - down), (x + across, -0.18 + down)], 0.05, _PLASTIC)
        canvas.box(x - 0.3 * pitch, 0.14, x + 0.3 * pitch, 0.34, _PLASTIC)


_DRAWN = (_gear, _bolt, _nut, _washer, _bracket, _spring, _bearing, _chip, _capacitor, _terminal)
PARTS = {draw.__name__.strip("_"): draw for draw in _DRAWN}
"""How each kind is drawn, by its name."""


@dataclass(frozen=True, slots=True)
class Sprite:
    """One part, ready to be put on a frame: `frame * keep / 255 + add`, both uint8 (height, width, 3)."""

    kind: int
    keep: np.ndarray
    add: np.ndarray
    mask: np.ndarray
    """True on the part itself, without its shadow (height, width)."""


def make_sprite(kind: int, length: int, generator: np.random.Generator) -> Sprite:
    """One part of kind number `kind`, `length` pixels long; its details, turn, tint and focus are random."""
    cv2 = import_cv2()
    colour, alpha = _drawn(kind, length, generator)
    room = round(1.6 * length) + 12  # the ground of a turned part: corners and shadow fit
    matrix = cv2.getRotationMatrix2D(((length - 1) / 2, (length - 1) / 2), generator.uniform(0, 360), 1)
    matrix[:, 2] += (room - length) / 2
    colour, alpha = (cv2.warpAffine(image, matrix, (room, room)) for image in (colour, alpha))
    if generator.random() < 0.35:
        blur = generator.uniform(0.3, 0.8) + 0.004 * length
        colour, alpha = (cv2.GaussianBlur(image, (0, 0), blur) for image in (colour, alpha))
    drop = 2 + 0.03 * length
    moved = cv2.warpAffine(alpha, np.array([[1, 0, drop], [0, 1, drop]], np.float32), alpha.shape[::-1])
    keep = (1 - alpha) * (1 - 0.5 * cv2.GaussianBlur(moved, (0, 0), 0.6 * drop))
    rows, columns = (np.flatnonzero((keep < 0.99).any(axis=axis)) for axis in (1, 0))
    crop = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    keep = cv2.convertScaleAbs(keep[crop], alpha=255)
    return Sprite(kind, cv2.merge([keep] * 3), cv2.convertScaleAbs(colour[crop]), alpha[crop] >= 0.5)


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
