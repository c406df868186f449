"""Cameras: host threads of one process, each with an execution context, a stream and a CUDA graph of its own.

All pageable uploads of a process take turns in the driver, whatever the number of threads and streams; pinned ones do
not. So the pageable upload call grows with each camera, and pinned memory is the fix.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product

import numpy as np

from ..engine import LendingEngine
from ..recording import Recording
from ..types import HostMemory
from .scenario import Run, host_threads

THREADS = (1, 2, 4, 8)

SWITCH_S = 0.0005
"""Python's threads take turns after this at the latest (5 ms by default, which is longer than a frame)."""


def record(run: Run) -> Recording:
    """Each number of threads with pageable and then with pinned input, `frames` a thread: one recording in the order of
    the frames' ends, with columns `threads`, `camera` (the thread's number) and `pinned` (0 or 1).
    """
    run.engine = LendingEngine(run.engine)  # contexts are lent from one configuration to the next
    parts = [_cameras(run, threads, pinned) for threads, pinned in product(THREADS, (False, True))]
    return _by_end([part for each in parts for part in each], threads=list(THREADS))


def _cameras(run: Run, threads: int, pinned: bool) -> list[Recording]:
    """What each of so many threads recorded; they start at once."""
    memory = HostMemory.PINNED if pinned else HostMemory.PAGEABLE
    loops = [replace(run, settings=replace(run.settings, input_memory=memory)).loop() for _ in range(threads)]
    recorded: dict[int, Recording] = {}

    def serve(camera: int) -> None:
        recorded[camera] = loops[camera].run()

    start, _ = host_threads(run.device)
    with _switching_fast():
        for join in [start(serve, camera) for camera in range(threads)]:
            join()
    about = {"threads": threads, "pinned": int(pinned)}
    return [_marked(recorded[camera], camera=camera, **about) for camera in range(threads)]


def _marked(recording: Recording, **values: int) -> Recording:
    columns = {name: np.full(len(recording), value) for name, value in values.items()}
    return replace(recording, columns={**recording.columns, **columns})


def _by_end(parts: list[Recording], **settings: object) -> Recording:
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
    order = np.argsort(columns["done_ns"], kind="stable")
    columns = {name: values[order] for name, values in columns.items()}
    return replace(parts[0], columns=columns, settings={**parts[0].settings, **settings})


@contextmanager
def _switching_fast() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
