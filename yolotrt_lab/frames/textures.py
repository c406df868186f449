"""What lies under and over the parts of a synthetic frame: the belt and its rails, the light, the noise.

Sizes are (width, height) in pixels.
"""

from __future__ import annotations

import numpy as np

from ..packages import import_cv2

LIGHT_LEVEL = 200
"""The value in the light texture that leaves a pixel as it is."""


def belt(size: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """A worn rubber belt with litter on it, uint8 BGR, periodic in x."""
    cv2 = import_cv2()
    width, height = size
    colour = generator.uniform(55, 120) * generator.normal(1, 0.07, 3)
    shading = 1 + 0.12 * _smooth(5, 8, size, generator) + 0.05 * _smooth(40, 70, size, generator)
    shading += 0.05 * _smooth(max(height // 2, 1), max(width // 24, 1), size, generator)
    shading += 0.04 * generator.standard_normal((height, width), np.float32)
    image = cv2.merge([cv2.convertScaleAbs(shading, alpha=value) for value in colour])
    for _ in range(width * height // 25_000):
        _litter(image, generator)
    return image


def rail(size: tuple[int, int]) -> np.ndarray:
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


def light(size: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """A smooth field of brightness around LIGHT_LEVEL, uint8 (height, width, 3)."""
    field = (LIGHT_LEVEL + 22 * _smooth(4, 6, size, generator)).clip(120, 255).astype(np.uint8)
    return np.repeat(field[..., None], 3, axis=2)


def noise(size: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """The sum of two dice with the values 0 to 7, uint8 (height, width, 3): mean 7, standard deviation 3.2."""
    shape = (size[1], size[0], 3)
    return generator.integers(0, 8, shape, np.uint8) + generator.integers(0, 8, shape, np.uint8)


def _smooth(rows: int, columns: int, size: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """A smooth random field (height, width), float32 and about normal, from a grid; periodic in x."""
    cv2 = import_cv2()
    grid = np.pad(generator.standard_normal((rows, columns), np.float32), ((0, 0), (2, 2)), mode="wrap")
    start = round(2 * size[0] / columns)
    wide = cv2.resize(grid, (size[0] + 2 * start, size[1]), interpolation=cv2.INTER_CUBIC)
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
