"""The wait is in another call than the one that is looked at."""

from __future__ import annotations

import numpy as np

from ...types import Cause, Stage
from ..findings import Finding
from ..symptoms import Symptoms, Window
from .belief import TELLS

MOVED_WAIT = (
    "pinned output memory makes the download asynchronous; the wait for the network itself then shows in "
    "synchronize, so compare whole frames",
    "run the same loop with pinned output: the download call falls to microseconds and synchronize takes over "
    "what the network needs",
)
SHARED_STREAM = (
    "wait for an event of the frame's own instead of the stream that others submit to",
    "record an event behind each frame and wait for that: each wait is one frame's, if a shared stream is the cause",
)
LAUNCH_QUEUE = (
    "let a bounded number of frames be in flight: wait for the event of an earlier frame before the next one",
    "synchronize once every few frames: submitting stays short, and the wait shows where it belongs, if the queue "
    "is the cause",
)
"""A cure and the experiment that proves the cause."""

_NOTHING_MS = 0.02
"""A synchronize with nothing to wait for takes 2 to 5 us on an H200."""

_A_WAIT_MS = 0.1
_MOST_TAKEN = 0.05
_BLOCKED = 5.0
_SLOWER = 1.15
_DEEP = 16
_CLIMB_FRAMES = 32
_SEVERAL = 1.5


def moved_wait(symptoms: Symptoms) -> Finding | None:
    """Synchronize has nothing to wait for, since the download call before it has waited: its output is pageable."""
    run = symptoms.run
    download, synchronize = (symptoms.level(stage, run) for stage in (Stage.DOWNLOAD, Stage.SYNCHRONIZE))
    if not (download > _A_WAIT_MS and synchronize < min(_NOTHING_MS, _MOST_TAKEN * download)):
        return None
    return Finding(
        Cause.MOVED_WAIT,
        TELLS + 0.05,
        0.0,
        download,
        (
            symptoms.evidence("synchronize", synchronize, "ms", run),
            symptoms.evidence("download call", download, "ms", run),
        ),
        *MOVED_WAIT,
    )


def launch_queue(symptoms: Symptoms) -> Finding | None:
    """Submitting gets as slow as the kernels are, while nothing waits in synchronize: the queue of launches is full.

    Where no synchronize was measured, its wait may be in what is called inference, and nothing tells.
    """
    if Stage.SYNCHRONIZE not in symptoms.series or not symptoms.grows(Stage.INFER):
        return None
    change = symptoms.since_start(Stage.INFER)
    deep = len(symptoms.in_flight) and np.median(symptoms.in_flight[change.after.first : change.after.end]) >= _DEEP
    waited = symptoms.level(Stage.SYNCHRONIZE, change.after)
    if change.high < (_SLOWER if deep else _BLOCKED) * change.low or waited > _MOST_TAKEN * change.high:
        return None
    return Finding(
        Cause.LAUNCH_QUEUE,
        TELLS + 0.05,
        change.rise,
        change.rise,
        (
            *symptoms.both_sides(Stage.INFER, change, what="submitting the network"),
            *symptoms.both_sides(Stage.SYNCHRONIZE, change),
        ),
        *LAUNCH_QUEUE,
    )


def shared_stream(symptoms: Symptoms) -> Finding | None:
    """More and more frames are in flight, and synchronize lasts for several of them although it is one's turn: it
    waits for all that another thread has submitted to the stream by then.

    Where frames merely come too fast, the frames in flight grow by less than one for every two that are collected.
    """
    flight, climb = symptoms.in_flight, _climb(symptoms.in_flight)
    if Stage.SYNCHRONIZE not in symptoms.series or climb is None:
        return None
    waits = symptoms.series[Stage.SYNCHRONIZE]
    usual, during = float(np.median(waits)), float(np.median(waits[climb.first : climb.end]))
    if during < _SEVERAL * usual:
        return None
    frame = symptoms.since_start("frame")
    return Finding(
        Cause.SHARED_STREAM,
        TELLS + 0.05,
        frame.rise,
        frame.rise,
        (
            symptoms.evidence("frames in flight at first", flight[0], "", Window(0, 1)),
            symptoms.evidence("frames in flight at most", flight.max(), "", symptoms.run),
            symptoms.evidence("synchronize while they become more", during, "ms", climb),
            symptoms.evidence("synchronize", usual, "ms", symptoms.run),
        ),
        *SHARED_STREAM,
    )


def _climb(in_flight: np.ndarray) -> Window | None:
    """Where the frames in flight become more fastest: by half a frame or more for each that is collected."""
    if len(in_flight) <= _CLIMB_FRAMES:
        return None
    more = in_flight[_CLIMB_FRAMES:] - in_flight[:-_CLIMB_FRAMES]
    first = int(np.argmax(more))
    return Window(first, first + _CLIMB_FRAMES) if more[first] >= _CLIMB_FRAMES / 2 else None
