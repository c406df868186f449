"""Frames of the synthetic scene that no training has seen, with their true boxes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np

from yolotrt_lab.detector.scene import SyntheticScene
from yolotrt_lab.errors import SettingsError
from yolotrt_lab.types import Detections

HELD_OUT_SEED = 2_000_000
"""The first seed of the scenes that are kept for evaluation. Training and tuning use smaller ones."""

PER_SCENE, STRIDE = 100, 25
"""A scene gives 100 frames, 25 apart: by then every part has moved on by 60 px or more."""

_T = TypeVar("_T")


def held_out_frames(
    frames: int, seed: int = HELD_OUT_SEED, *, threads: int | None = None
) -> Iterator[tuple[np.ndarray, Detections]]:
    """`frames` frames with their true boxes, 1080p, of the scenes with the seeds from `seed` on.

    The first frames of a long run are those of a short one. Rendering runs ahead in `threads` threads, by default one a
    core. SettingsError for no frames or a negative seed.
    """
    if frames < 1 or seed < 0:
        raise SettingsError(
            f"frames must be 1 or more and the seed not negative, got {frames} and {seed}", fix="use the defaults"
        )
    workers = threads or os.cpu_count() or 1
    pool = ThreadPoolExecutor(workers)
    try:
        seeds = range(seed, seed + -(-frames // PER_SCENE))
        for number, scene in enumerate(_ahead(pool, SyntheticScene, seeds, min(workers, 8))):
            count = min(PER_SCENE, frames - number * PER_SCENE)
            yield from _ahead(pool, partial(_look, scene), range(0, count * STRIDE, STRIDE), 2 * workers)
    finally:
        pool.shutdown(cancel_futures=True)


def _look(scene: SyntheticScene, index: int) -> tuple[np.ndarray, Detections]:
    return scene.render(index), scene.truth(index)


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[Any], _T], arguments: Iterable[Any], depth: int
) -> Iterator[_T]:
    """The results of `function` in order, with `depth` calls submitted before the result that is taken."""
    submitted: deque[Future[_T]] = deque()
    for argument in arguments:
        submitted.append(pool.submit(function, argument))
        if len(submitted) > depth:
            yield submitted.popleft().result()
    while submitted:
        yield submitted.popleft().result()
