"""Each cause of growing latency, made to happen on any device, and labelled with the truth.

A scenario is a loop with settings; those on a clock get frames at a period that the pinned loop can serve and the
pageable one cannot, which is measured on the spot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .copies import measure_copies
from .devices.base import Device
from .engines.base import Engine
from .engines.spin import SpinEngine
from .errors import SettingsError
from .loops import FrameLoop, LoopSettings
from .pixels import Fill
from .recording import Recording
from .types import Cause, HostMemory

PINNED_IN_PLACE = LoopSettings(input_memory=HostMemory.PINNED, fill=Fill.IN_PLACE)
PAGEABLE_IN_PLACE = LoopSettings(input_memory=HostMemory.PAGEABLE, fill=Fill.IN_PLACE)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A loop that shows something. `cause` is the truth about why it is slow (or grows)."""

    name: str
    shows: str
    cause: Cause
    settings: LoopSettings
    on_clock: bool = False
    spin_us: int = 0
    """Not 0: the engine is a spin kernel of that length."""


_ALL = (
    Scenario(
        "overload",
        "frames on a clock, pageable input: each frame is a little later than the last",
        Cause.PAGEABLE_OVERLOAD,
        PAGEABLE_IN_PLACE,
        on_clock=True,
    ),
    Scenario(
        "overload-pinned", "the same clock, pinned input filled in place: no growth", Cause.NONE, PINNED_IN_PLACE, True
    ),
    Scenario("served-fresh", "a fresh pageable array each frame, as fast as served", Cause.NONE, LoopSettings()),
    Scenario("served-pageable", "the same pageable memory each frame", Cause.NONE, PAGEABLE_IN_PLACE),
    Scenario(
        "served-copied",
        "a fresh array copied into pinned memory",
        Cause.NONE,
        replace(PINNED_IN_PLACE, fill=Fill.COPY),
    ),
    Scenario("served-pinned", "pinned memory, filled in place", Cause.NONE, PINNED_IN_PLACE),
    Scenario(
        "trap-allocate",
        "pinned memory allocated in the loop",
        Cause.ALLOCATION,
        replace(PINNED_IN_PLACE, fill=Fill.ALLOCATE),
    ),
    Scenario(
        "trap-bypass",
        "pinned memory filled, but the copy made from the caller's array",
        Cause.NONE,
        replace(PINNED_IN_PLACE, fill=Fill.BYPASS),
    ),
    Scenario(
        "moved-wait",
        "pageable output: synchronize reads a few microseconds, the download has the wait",
        Cause.MOVED_WAIT,
        replace(PINNED_IN_PLACE, output_memory=HostMemory.PAGEABLE),
    ),
    Scenario(
        "late",
        "pageable input behind a 1 ms kernel, results collected 8 frames later: the upload call climbs to a plateau",
        Cause.PAGEABLE_OVERLOAD,
        LoopSettings(fill=Fill.READY, collect_after=8, period_us=1_250, warmup=0),
        spin_us=1_000,
    ),
    Scenario(
        "late-pinned",
        "the same with pinned input: the upload call stays where it is",
        Cause.NONE,
        LoopSettings(input_memory=HostMemory.PINNED, fill=Fill.READY, collect_after=8, period_us=1_250, warmup=0),
        spin_us=1_000,
    ),
)

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _ALL}
COPIES = "copies"


def scenario(name: str) -> Scenario:
    """The scenario of that name; SettingsError lists those there are."""
    if name not in SCENARIOS:
        raise SettingsError(f"no scenario {name!r}", fix=f"use one of {', '.join([*SCENARIOS, COPIES])}")
    return SCENARIOS[name]


def period_between_us(
    device: Device, engine: Engine, images: Sequence[np.ndarray] | None = None, *, frames: int = 400
) -> float:
    """The frame period half way between what the pageable and the pinned loop need for a frame, in microseconds.

    Both fill their memory in place, so that the kind of memory is all they differ in. Means over `frames` frames each,
    run as fast as served.
    """
    means = []
    for settings in (PAGEABLE_IN_PLACE, PINNED_IN_PLACE):
        recording = FrameLoop(device, engine, replace(settings, frames=frames), images).run().steady
        means.append(float(np.diff(recording.columns["done_ns"]).mean()))
    return round(sum(means) / 2e3, 1)


def run_scenario(
    name: str,
    device: Device,
    open_engine: Callable[[], Engine],
    images: Sequence[np.ndarray] | None = None,
    *,
    frames: int | None = None,
    period_us: float | None = None,
    path: str | Path | None = None,
    command: str = "",
) -> Recording:
    """Run a scenario and return its recording, saved at `path` if given.

    `open_engine` is called only if the scenario needs the model. `frames` and `period_us` override the scenario's; a
    scenario on a clock measures its period if none is given (`period_between_us`).
    """
    if name == COPIES:
        recording = measure_copies(device, label=COPIES, command=command)
        if path is not None:
            recording.save(path)
        return recording
    chosen = scenario(name)
    engine: Engine = SpinEngine(chosen.spin_us * 1_000) if chosen.spin_us else open_engine()
    settings = replace(chosen.settings, frames=frames or chosen.settings.frames)
    if period_us is not None:
        settings = replace(settings, period_us=period_us)
    elif chosen.on_clock:
        settings = replace(settings, period_us=period_between_us(device, engine, images))
    return FrameLoop(device, engine, settings, images).run(path, label=name, command=command)
