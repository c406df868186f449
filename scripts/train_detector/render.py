"""Frames of synthetic scenes with their true boxes, as the network sees them, rendered by many processes.

Each frame goes through the lab's own letterbox, so that training and inference get the same pixels. Of the square
input only the rows that hold the frame are kept, as uint8.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from math import prod
from multiprocessing import TimeoutError as PoolTimeout
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from yolotrt_lab.detector.scene import SyntheticScene
from yolotrt_lab.packages import import_cv2
from yolotrt_lab.vision import Geometry, Letterbox, letterbox_geometry

_FAR = 1_000_000  # frame numbers are drawn below it; a part crosses the frame in some 300


class Job(NamedTuple):
    """One scene to render: the arguments of the scene, how many frames, and the side of the network's input."""

    seed: int
    frame_size: tuple[int, int]
    objects: int
    frames: int
    input_size: int


class Rendered(NamedTuple):
    """Frames of one scene: `images` uint8 (n, 3, height, width) RGB, `boxes` float32 (n, objects, 4) in pixels of them,
    `classes` int64 and `valid` bool (n, objects), False for padding."""

    seed: int
    images: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    valid: np.ndarray


def content(frame_size: tuple[int, int], input_size: int) -> Geometry:
    """Where frames of that size lie in the network's input."""
    return letterbox_geometry(frame_size[::-1], (input_size, input_size))


def render_scene(job: Job) -> Rendered:
    """The frames of one scene; their numbers are drawn from the scene's seed."""
    import_cv2().setNumThreads(1)
    scene = SyntheticScene(job.seed, job.frame_size, objects=job.objects)
    place = content(job.frame_size, job.input_size)
    count, objects = job.frames, job.objects
    images = np.empty((count, 3, place.height, place.width), np.uint8)
    boxes, classes = np.zeros((count, objects, 4), np.float32), np.zeros((count, objects), np.int64)
    valid = np.zeros((count, objects), bool)
    letterbox, square = Letterbox(), np.empty((3, job.input_size, job.input_size), np.float32)
    rows, columns = place.region
    for row, index in enumerate(np.random.default_rng(job.seed).integers(0, _FAR, count).tolist()):
        letterbox(scene.render(index), square)
        np.rint(square[:, rows, columns] * 255, out=images[row], casting="unsafe")
        truth = scene.truth(index)
        boxes[row, : len(truth)] = truth.boxes * (place.scales * 2)
        classes[row, : len(truth)] = truth.classes
        valid[row, : len(truth)] = True
    return Rendered(job.seed, images, boxes, classes, valid)


class Renderer:
    """Renders scenes in `processes` other processes, which start at once; iterate over what is ready.

    Scenes that are not ready `seconds` later are left out. Leaving the `with` block ends the processes. Images come as
    files, in memory if there is room: through pipes, this process would have to fetch them while it compiles.
    """

    def __init__(self, jobs: Sequence[Job], processes: int, seconds: float) -> None:
        import_cv2()  # if it is missing, fail here: a pool would start processes for ever
        self._folder = TemporaryDirectory(prefix="train_detector_", dir=_roomy(jobs), ignore_cleanup_errors=True)
        self._pool = get_context("spawn").Pool(min(processes, len(jobs)))
        self._results = self._pool.imap_unordered(partial(_render_to, Path(self._folder.name)), jobs)
        self._end = monotonic() + seconds

    def __iter__(self) -> Iterator[Rendered]:
        while True:
            try:
                path, scene = self._results.next(max(self._end - monotonic(), 0.001))
            except (StopIteration, PoolTimeout):
                return
            yield scene._replace(images=np.load(path))
            path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.terminate()
        self._pool.join()
        self._folder.cleanup()


def _render_to(folder: Path, job: Job) -> tuple[Path, Rendered]:
    """The scene, its images in a file of that folder."""
    scene = render_scene(job)
    path = folder / f"{job.seed}.npy"
    np.save(path, scene.images)
    return path, scene._replace(images=scene.images[:0])


def _roomy(jobs: Sequence[Job]) -> Path | None:
    """Shared memory if the images fit into it, with a quarter to spare; else None, the usual place for such files."""
    memory, needed = Path("/dev/shm"), 0
    for job in jobs:
        place = content(job.frame_size, job.input_size)
        needed += prod((job.frames, 3, place.height, place.width))
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > 1.25 * needed else None
