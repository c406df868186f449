"""Each cause of growing latency, made to happen on any device, and labelled with the truth.

A scenario is a loop with settings. Those on a clock get frames at a period that one loop can serve and another cannot,
which is measured on the spot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .copies import measure_copies
from .devices.base import Device
from .engines.base import Engine
from .engines.spin import SpinEngine
from .errors import SettingsError
from .loops import FrameLoop, LoopSettings, run_in_turns
from .pixels import Fill
from .recording import Recording
from .types import Cause, HostMemory

REPORT = LoopSettings()
"""The loop of the public report: a fresh pageable array each frame."""

IN_PLACE = LoopSettings(input_memory=HostMemory.PINNED, fill=Fill.IN_PLACE)
"""What fixes it: pinned memory, filled in place."""

PAGEABLE = LoopSettings(fill=Fill.READY, graph=True)
PINNED = replace(PAGEABLE, input_memory=HostMemory.PINNED)
"""With images that lie ready, and the engine in a graph, these two differ in the kind of memory alone."""

# A pinned upload and the kernel fit into this period one after the other, a pageable upload and the kernel do not.
_LATE = replace(PAGEABLE, graph=False, collect_after=8, period_us=1_150)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A loop that shows something. `cause` is the truth about why it is slow (or grows)."""

    name: str
    shows: str
    cause: Cause
    settings: LoopSettings
    other: LoopSettings | None = None
    """Frames come on a clock: half way between what a frame of this loop and one of the other takes."""
    spin_us: int = 0
    """Not 0: the engine is a spin kernel of that length."""


_ALL = (
    Scenario(
        "report", "the public report's loop on a clock: latency climbs", Cause.PAGEABLE_OVERLOAD, REPORT, IN_PLACE
    ),
    Scenario("report-fixed", "pinned memory filled in place, on the same clock", Cause.NONE, IN_PLACE, REPORT),
    Scenario(
        "overload", "images that lie ready in pageable memory, on a clock", Cause.PAGEABLE_OVERLOAD, PAGEABLE, PINNED
    ),
    Scenario("overload-pinned", "the same images in pinned memory, on the same clock", Cause.NONE, PINNED, PAGEABLE),
    Scenario("served-report", "the public report's loop, as fast as served", Cause.NONE, REPORT),
    Scenario(
        "served-pageable",
        "the same pageable memory each frame, filled in place",
        Cause.NONE,
        LoopSettings(fill=Fill.IN_PLACE),
    ),
    Scenario("served-copied", "a fresh array copied into pinned memory", Cause.NONE, replace(IN_PLACE, fill=Fill.COPY)),
    Scenario("served-pinned", "pinned memory, filled in place", Cause.NONE, IN_PLACE),
    Scenario(
        "served-boxes",
        "the same, with boxes decoded from the output",
        Cause.NONE,
        replace(IN_PLACE, postprocess=True),
    ),
    Scenario(
        "trap-allocate", "pinned memory made in the loop", Cause.ALLOCATION, replace(IN_PLACE, fill=Fill.ALLOCATE)
    ),
    Scenario(
        "trap-bypass",
        "pinned memory filled, and the copy made from the caller's array",
        Cause.NONE,
        replace(IN_PLACE, fill=Fill.BYPASS),
    ),
    Scenario(
        "moved-wait",
        "pageable output: synchronize reads a few microseconds, the download call has the wait",
        Cause.MOVED_WAIT,
        replace(PINNED, output_memory=HostMemory.PAGEABLE),
    ),
    Scenario("graph-pageable", "pageable input, the engine as a CUDA graph", Cause.NONE, PAGEABLE),
    Scenario("graph-pinned", "pinned input, the engine as a CUDA graph", Cause.NONE, PINNED),
    Scenario(
        "plain-pageable", "pageable input, the engine enqueued call by call", Cause.NONE, replace(PAGEABLE, graph=False)
    ),
    Scenario(
        "plain-pinned", "pinned input, the engine enqueued call by call", Cause.NONE, replace(PINNED, graph=False)
    ),
    Scenario(
        "late",
        "a 1 ms kernel, results collected 8 frames later: the pageable upload call climbs to a plateau",
        Cause.PAGEABLE_OVERLOAD,
        _LATE,
        spin_us=1_000,
    ),
    Scenario(
        "late-pinned",
        "the same with pinned input: the upload call stays where it is",
        Cause.NONE,
        replace(_LATE, input_memory=HostMemory.PINNED),
        spin_us=1_000,
    ),
)

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _ALL}
COPIES = "copies"


def listing() -> str:
    """A line for each scenario: its name and what it shows."""
    shows = {name: each.shows for name, each in SCENARIOS.items()}
    shows[COPIES] = "one copy behind a backlog, in every direction, kind of host memory and size"
    return "\n".join(f"{name:16} {text}" for name, text in shows.items())


def check_name(name: str) -> None:
    """SettingsError, with those there are, where no scenario has that name."""
    if name not in SCENARIOS and name != COPIES:
        raise SettingsError(f"no scenario {name!r}", fix=f"use one of {', '.join([*SCENARIOS, COPIES])}")


def period_between_us(
    device: Device,
    engine: Engine,
    images: Sequence[np.ndarray] | None,
    one: LoopSettings,
    other: LoopSettings,
    *,
    frames: int = 300,
) -> float:
    """The frame period half way between what a frame takes in two loops, in microseconds.

    Means over two runs of `frames` frames in turn, as fast as served.
    """
    frame_ns = []
    for settings in (one, other, one, other):
        recording = FrameLoop(device, engine, replace(settings, frames=frames, period_us=None), images).run().steady
        frame_ns.append(np.diff(recording.columns["done_ns"]).mean())
    return round(float(np.mean(frame_ns)) / 1e3, 1)


def run_together(
    names: Sequence[str],
    device: Device,
    engine: Engine,
    images: Sequence[np.ndarray] | None = None,
    *,
    frames: int = 1_500,
    turn: int = 100,
    command: str = "",
) -> dict[str, Recording]:
    """Run scenarios in turns of `turn` frames, so that they can be compared on a machine whose speed drifts.

    SettingsError for a scenario on a clock (interrupted, it shows nothing), for the copy table, and for frames that
    are no whole number of turns.
    """
    check_together(names, frames, turn)
    loops = {
        name: FrameLoop(device, engine, replace(SCENARIOS[name].settings, frames=min(turn, frames), warmup=20), images)
        for name in names
    }
    recordings = run_in_turns(loops, max(frames // turn, 1))
    return {name: replace(recording, label=name, command=command) for name, recording in recordings.items()}


def check_together(names: Sequence[str], frames: int, turn: int = 100) -> None:
    """The SettingsErrors of `run_together`, before anything is made for it."""
    for name in names:
        check_name(name)
    if COPIES in names:
        raise SettingsError(f"{COPIES} is no loop and cannot take turns", fix="run it by itself")
    if frames < 1:
        raise SettingsError(f"frames={frames}", fix="use at least one frame")
    if frames > turn and frames % turn:
        raise SettingsError(
            f"{frames} frames are no whole number of turns of {turn}", fix=f"use a multiple of {turn}, or fewer"
        )
    if clocked := [name for name in names if SCENARIOS[name].other or SCENARIOS[name].settings.period_us]:
        raise SettingsError(f"{', '.join(clocked)} on a clock cannot take turns", fix="run it by itself")


def run_scenario(
    name: str,
    device: Device,
    engine: Engine,
    images: Sequence[np.ndarray] | None = None,
    *,
    frames: int | None = None,
    period_us: float | None = None,
    path: str | Path | None = None,
    command: str = "",
) -> Recording:
    """Run a scenario and return its recording, saved at `path` if given.

    `frames` and `period_us` override the scenario's; a scenario on a clock measures its period if none is given
    (`period_between_us`). A scenario that needs no model does not use `engine`.
    """
    check_name(name)
    if name == COPIES:
        recording = measure_copies(device, label=COPIES, command=command)
        if path is not None:
            recording.save(path)
        return recording
    chosen = SCENARIOS[name]
    used = SpinEngine(chosen.spin_us * 1_000) if chosen.spin_us else engine
    settings = chosen.settings if frames is None else replace(chosen.settings, frames=frames)
    if period_us is None and chosen.other is not None:
        period_us = period_between_us(device, used, images, settings, chosen.other)
    if period_us is not None:
        settings = replace(settings, period_us=period_us)
    return FrameLoop(device, used, settings, images).run(path, label=name, command=command)
