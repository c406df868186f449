"""A synthetic scene to detect: machine parts on a conveyor belt, with their true boxes.

Everything slow happens once: parts are drawn into sprites; belt, light and noise into textures. A frame is then a copy
of the belt, a multiplication and an addition for each part, and the same once more for light and noise. Sizes are
(width, height) in pixels.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..errors import SettingsError
from ..frames import FrameSource
from ..packages import import_cv2
from ..types import Detections
from .parts import PARTS, Sprite, make_sprite

_SPRITES = 80
_LANES = 61
_BELT_SPEED = 5  # pixels a frame
_LIGHT_PATH, _NOISE_STEPS = 320, 64  # by how many pixels the window on each texture moves about
_LIGHT_LEVEL = 200  # the value in the light texture that leaves a pixel as it is
_VISIBLE = 0.3


def _belt(size: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """A worn rubber belt with litter on it, uint8 BGR, periodic in x."""
    cv2 = import_cv2()
    width, height = size
    colour = generator.uniform(55, 120) * generator.normal(1, 0.07, 3)
    shading = 1 + 0.12 * _smooth(5, 8, size, generator) + 0.05 * _smooth(40, 70, size, generator)
    shading += 0.05 * _smooth(max(height // 2, 1), max(width // 24, 1), size, generator)
    shading += 0.04 * generator.standard_normal((height, width), np.float32)
    image: np.ndarray = cv2.merge([cv2.convertScaleAbs(shading, alpha=value) for value in colour])
    for _ in range(width * height // 25_000):
        _litter(image, generator)
    return image


def _rail(size: tuple[int, int]) -> np.ndarray:
    """The upper edge of the conveyor, 4 % of the height: steel with a hazard stripe."""
    cv2 = import_cv2()
    high = max(size[1] // 25, 4)
    image = np.full((high, size[0], 3), (112, 110, 106), np.uint8)
    image[: high // 3] = (74, 72, 70)
    image[-max(high // 8, 1) :] = (38, 36, 36)
    upper, lower, half = high // 3, high * 4 // 5, high // 2
    for x in range(0, size[0], 2 * high):
        corners = np.array([(x, upper), (x + high, upper), (x + half, lower), (x - half, lower)])
        cv2.fillConvexPoly(image, corners, (40, 190, 225), cv2.LINE_AA)
    return image


def _smooth(rows: int, columns: int, size: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """A smooth random field (height, width), float32 and about normal, from a grid; periodic in x."""
    cv2 = import_cv2()
    grid = np.pad(generator.standard_normal((rows, columns), np.float32), ((0, 0), (2, 2)), mode="wrap")
    start = round(2 * size[0] / columns)
    wide: np.ndarray = cv2.resize(grid, (size[0] + 2 * start, size[1]), interpolation=cv2.INTER_CUBIC)
    return wide[:, start : start + size[0]]


def _litter(image: np.ndarray, generator: np.random.Generator) -> None:
    """Draw one thing that is no part: a scratch, a curl of swarf, an oil spot, a spot of paint or a scrap of paper."""
    cv2 = import_cv2()
    height, width = image.shape[:2]
    x, y = int(generator.integers(width)), int(generator.integers(height))
    reach, angle = int(generator.gamma(2, 14)) + 3, generator.uniform(0, 360)
    colour = generator.choice([0.6, 1.5]) * image[y, x].astype(float)
    kind = generator.choice(["scratch", "swarf", "oil", "paint", "paper"])
    if kind == "paint":
        colour = colour * generator.uniform(0.5, 1.6, 3)
    elif kind == "paper":
        colour = generator.uniform(110, 215) * np.array([0.9, 1.0, 1.02])
    for left in (x - width, x, x + width):
        ink = colour.clip(0, 255).tolist()
        if kind == "scratch":
            end = round(left + reach * np.cos(angle)), round(y + reach * np.sin(angle))
            cv2.line(image, (left, y), end, ink, 1, cv2.LINE_AA)
        elif kind == "swarf":
            cv2.ellipse(image, (left, y), (reach // 3 + 2, reach // 5 + 2), angle, 0, 250, ink, 2, cv2.LINE_AA)
        elif kind == "paper":
            corners = cv2.boxPoints(((left, y), (reach, 0.6 * reach), angle)).astype(np.int32)
            cv2.fillConvexPoly(image, corners, ink, cv2.LINE_AA)
        else:
            cv2.ellipse(image, (left, y), (reach // 2 + 1, reach // 3 + 1), angle, 0, 360, ink, -1, cv2.LINE_AA)


class SyntheticScene(FrameSource):
    """Parts of ten kinds move along a belt at their own speeds and cover each other. The scene never ends.

    The parts are 16 to 600 pixels long, turned and tinted at random, some out of focus. The light wanders and flickers,
    and every frame has its own noise. Frame k depends on `seed`, `size` (width, height), `objects` and k alone.
    `objects` is the number of parts, of which a frame shows most. SettingsError for a size below 64 x 64, for less
    than 1 or more than 255 objects, and for a negative seed.

    >>> scene = SyntheticScene(seed=1, size=(320, 240), objects=3)
    >>> scene.render(40).shape, [scene.names[kind] for kind in scene.truth(40).classes]
    ((240, 320, 3), ['gear', 'bolt', 'gear'])
    """

    names: ClassVar[tuple[str, ...]] = tuple(PARTS)
    """The names of the classes, by number."""

    def __init__(self, seed: int = 0, size: tuple[int, int] = (1920, 1080), *, objects: int = 28) -> None:
        if min(size) < 64 or not 1 <= objects <= 255 or seed < 0:
            raise SettingsError(
                f"a scene must have 64 x 64 pixels or more, 1 to 255 objects and a seed from 0 on, got {size} pixels, "
                f"{objects} objects and seed {seed}",
                fix="change what is out of range",
            )
        self._cv2 = import_cv2()
        self.size = (width, height) = size
        self.index = 0
        generator = np.random.default_rng(seed)
        lengths = enumerate(_lengths(min(size), generator))
        self._sprites = [make_sprite(number % len(PARTS), length, generator) for number, length in lengths]
        self._belt, self._rail = _belt(size, generator), _rail(size)
        light = _smooth(4, 6, (width + _LIGHT_PATH, height + _LIGHT_PATH), generator)
        light = (_LIGHT_LEVEL + 22 * light).clip(120, 255).astype(np.uint8)
        self._light = np.repeat(light[..., None], 3, axis=2)
        shape = (2, height + _NOISE_STEPS, width + _NOISE_STEPS, 3)
        self._noise = generator.integers(0, 8, shape, np.uint8).sum(axis=0, dtype=np.uint8)  # two dice
        self._way = width + max(sprite.mask.shape[1] for sprite in self._sprites)
        self._speeds = generator.uniform(0.5, 2.0, objects) * _BELT_SPEED
        self._starts = generator.uniform(0, self._way, objects)
        self._lanes = generator.uniform(0.06, 0.94, (objects, _LANES)) * height
        self._choices = generator.permuted(np.tile(np.arange(_SPRITES), (objects, 1)), axis=1)
        self._phases = generator.uniform(0, 2 * np.pi, 4)

    def read(self) -> np.ndarray:
        """The next frame as a fresh array; `index` is the number of the one after it."""
        self.index += 1
        return self.render(self.index - 1)

    def read_into(self, out: np.ndarray) -> bool:
        """Render the next frame straight into `out`; the errors are those of `render`."""
        self.render(self.index, out)
        self.index += 1
        return True

    def render(self, index: int, out: np.ndarray | None = None) -> np.ndarray:
        """Frame `index`, in `out` or a fresh array. ShapeError or DtypeError if `out` does not fit the frame."""
        width, height = self.size
        if out is None:
            out = np.empty((height, width, 3), np.uint8)
        self._check_target(out)
        shift = index * _BELT_SPEED % width
        out[:, :shift], out[:, shift:] = self._belt[:, width - shift :], self._belt[:, : width - shift]
        out[: len(self._rail)], out[-len(self._rail) :] = self._rail, self._rail[::-1]
        for sprite, left, top in self._placements(index):
            seen, inner = self._overlap(sprite, left, top)
            region = out[seen]
            self._cv2.multiply(region, sprite.keep[inner], region, 1 / 255)
            self._cv2.add(region, sprite.add[inner], region)
        waves = np.sin(self._phases + index / np.array([71, 97, 43, 3]))
        x, y = np.rint((1 + waves[:2]) / 2 * _LIGHT_PATH).astype(int)
        level = (1 + 0.08 * waves[2] + 0.015 * waves[3]) / _LIGHT_LEVEL
        self._cv2.multiply(out, self._light[y : y + height, x : x + width], out, level)
        x, y = index * 37 % _NOISE_STEPS, (index * 53 + index // _NOISE_STEPS) % _NOISE_STEPS
        self._cv2.add(out, self._noise[y : y + height, x : x + width], out)
        return out

    def truth(self, index: int) -> Detections:
        """The parts in frame `index`: the visible extent of each, with score 1, the farthest first.

        A part is left out if less than 30 % of its pixels are visible, because others cover it or it is partly outside
        the frame.
        """
        owner = np.zeros(self.size[::-1], np.uint8)
        views = []
        for number, (sprite, left, top) in enumerate(self._placements(index), 1):
            seen, inner = self._overlap(sprite, left, top)
            owner[seen][sprite.mask[inner]] = number
            views.append((number, sprite, seen))
        boxes, classes = [], []
        for number, sprite, (down, across) in views:
            visible = owner[down, across] == number
            if np.count_nonzero(visible) >= _VISIBLE * np.count_nonzero(sprite.mask):
                rows, columns = (np.flatnonzero(visible.any(axis=axis)) for axis in (1, 0))
                x, y = across.start, down.start
                boxes.append((x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1))
                classes.append(sprite.kind)
        found = np.array(boxes, np.float32).reshape(-1, 4)
        return Detections(found, np.ones(len(found), np.float32), np.array(classes, np.int64))

    def _placements(self, index: int) -> list[tuple[Sprite, int, int]]:
        """Which parts are where (left, top), the farthest first. A part that has left comes back as another."""
        laps, ways = np.divmod(self._starts + self._speeds * index, self._way)
        placements = []
        for lanes, choices, lap, way in zip(self._lanes, self._choices, laps.astype(int), ways, strict=True):
            sprite = self._sprites[choices[lap % _SPRITES]]
            height, width = sprite.mask.shape
            left = round(way) - (self._way - self.size[0] + width) // 2
            if -width < left < self.size[0]:
                placements.append((sprite, left, round(lanes[lap % _LANES]) - height // 2))
        return placements

    def _overlap(self, sprite: Sprite, left: int, top: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """The region of the frame that the sprite covers, and the region of the sprite that is inside the frame."""
        height, width = sprite.mask.shape
        x, y = max(left, 0), max(top, 0)
        right, bottom = min(left + width, self.size[0]), min(top + height, self.size[1])
        return (slice(y, bottom), slice(x, right)), (slice(y - top, bottom - top), slice(x - left, right - left))


def _lengths(side: int, generator: np.random.Generator) -> list[int]:
    """How long the sprites are, in pixels: from 16 to half the frame's shorter side, most of them in between.

    At most 470: turned, a part can be a quarter longer.
    """
    spread = generator.beta(2.0, 2.4, _SPRITES)
    spread = (spread - spread.min()) / np.ptp(spread)
    lengths = 16 * (min(470, side / 2) / 16) ** spread
    return [round(length) for length in lengths]
