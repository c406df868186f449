"""Running scenarios: one, several in turns, and the clock that lies between two loops."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np

from ..device import Device
from ..engine import Engine
from ..errors import SettingsError, whole
from ..loop import LoopSettings, run_in_turns
from ..recording import Recording
from ..simulate.conditions import Conditions
from ..simulate.copy_probe import measure_copies
from ..simulate.simulated import SimulatedDevice
from ..simulate.timed_engine import SpinEngine
from ..telemetry import Telemetry
from .catalogue import SCENARIOS
from .scenario import Run, Scenario

COPIES = "copies"


def listing() -> str:
    """A line for each scenario: its name and what it shows."""
    shows = {name: each.shows for name, each in SCENARIOS.items()}
    shows[COPIES] = "one copy behind a backlog, in every direction, kind of host memory and size"
    width = max(map(len, shows))
    return "\n".join(f"{name:{width}} {text}" for name, text in shows.items())


def check_name(name: str) -> None:
    """SettingsError, with those there are, where no scenario has that name."""
    if name not in SCENARIOS and name != COPIES:
        raise SettingsError(f"no scenario {name!r}", fix=f"use one of {', '.join([*SCENARIOS, COPIES])}")


def require_frames(frames: int, least: int, *, turn: int = 1) -> None:
    """SettingsError where a notebook is to run so few frames that they can't show what it claims.

    With `turn`, loops that take turns of so many frames need a whole number of turns.
    """
    if frames < least or frames % turn:
        turns = f", and a multiple of {turn}" if turn > 1 else ""
        raise SettingsError(
            f"{frames} frames can't show what this notebook claims", fix=f"use {least} frames or more{turns}"
        )


def period_between_us(
    device: Device,
    engine: Engine,
    images: Sequence[np.ndarray] | None,
    one: LoopSettings,
    other: LoopSettings,
    *,
    frames: int = 300,
    share: float = 0.5,
) -> float:
    """The frame period between what a frame takes in two loops, in microseconds: `share` of the way (half of it) from
    the slow one to the fast one.

    Means over two runs of `frames` frames (2 or more) in turn, as fast as served.
    """
    whole("frames", frames, 2)
    frame_us = []
    for settings in (one, other, one, other):
        loop = replace(settings, frames=frames, period_us=None).loop(device, engine, images)
        frame_us.append(np.diff(loop.run().steady.columns["done_ns"]).mean() / 1e3)
    fast, slow = sorted([np.mean(frame_us[::2]), np.mean(frame_us[1::2])])
    return round(float(slow + (fast - slow) * share), 1)


def run_together(
    names: Sequence[str],
    device: Device,
    engine: Engine,
    images: Sequence[np.ndarray] | None = None,
    *,
    frames: int = 1_500,
    turn: int = 100,
    telemetry: bool = True,
    command: str = "",
) -> dict[str, Recording]:
    """Run scenarios in turns of `turn` frames, so that they can be compared on a machine whose speed drifts.

    SettingsError for a scenario on a clock (interrupted, it shows nothing), for the copy table, and for frames that
    are no whole number of turns. With `telemetry` the recordings have `TELEMETRY_COLUMNS` too.
    """
    check_together(names, frames, turn)
    loops = {}
    for name in names:
        settings = replace(SCENARIOS[name].settings, warmup=20)
        loops[name] = _prepared(SCENARIOS[name], Run(device, engine, settings, images), min(turn, frames)).loop()
    with ExitStack() as stack:
        sampled = _sampled(stack, device, None, telemetry)
        recordings = run_in_turns(loops, max(frames // turn, 1))
    recordings = {name: replace(recording, label=name, command=command) for name, recording in recordings.items()}
    if sampled is None:
        return recordings
    return {name: with_telemetry(recording, sampled) for name, recording in recordings.items()}


def check_together(names: Sequence[str], frames: int, turn: int = 100) -> None:
    """The SettingsErrors of `run_together`, before anything is made for it."""
    for name in names:
        check_name(name)
    if COPIES in names:
        raise SettingsError(f"{COPIES} is no loop and cannot take turns", fix="run it by itself")
    if frames < 1 or turn < 1:
        raise SettingsError(f"frames={frames}, turn={turn}", fix="use at least one frame")
    if frames > turn and frames % turn:
        raise SettingsError(
            f"{frames} frames are no whole number of turns of {turn}", fix=f"use a multiple of {turn}, or fewer"
        )
    if clocked := [name for name in names if SCENARIOS[name].other or SCENARIOS[name].settings.period_us]:
        raise SettingsError(f"{', '.join(clocked)} on a clock cannot take turns", fix="run it by itself")
    if alone := [name for name in names if SCENARIOS[name].record or SCENARIOS[name].prepare]:
        raise SettingsError(f"{', '.join(alone)} cannot take turns", fix="run it by itself")


def run_scenario(
    name: str,
    device: Device,
    engine: Engine,
    images: Sequence[np.ndarray] | None = None,
    *,
    frames: int | None = None,
    period_us: float | None = None,
    severity: float = 1.0,
    telemetry: bool = True,
    path: str | Path | None = None,
    command: str = "",
) -> Recording:
    """Run a scenario and return its recording, saved at `path` if given.

    `frames` and `period_us` override the scenario's; a scenario on a clock measures its period if none is given
    (`period_between_us`). A scenario that needs no model does not use `engine`. `severity`, between 0.5 and 2, is how
    strong the cause is. With `telemetry` the recording has `TELEMETRY_COLUMNS` too.

    SettingsError for a severity that is no positive number, and for a cause that this device cannot show.
    """
    check_name(name)
    if not 0 < severity < inf:
        raise SettingsError(f"a severity of {severity}", fix="use a positive number; 1 is the scenario as described")
    if name == COPIES:
        recording = measure_copies(device, label=COPIES, command=command)
    else:
        scenario = SCENARIOS[name]
        run = _prepared(scenario, Run(device, engine, scenario.settings, images, severity), frames)
        if period_us is None and scenario.other is not None:
            period_us = period_between_us(device, engine, images, run.settings, scenario.other, share=severity / 2)
        if period_us is not None:
            run.settings = replace(run.settings, period_us=period_us)
        recording = _recorded(scenario, run, telemetry, path, command)
    if path is not None:
        recording.save(path)
    return recording


def _prepared(scenario: Scenario, run: Run, frames: int | None) -> Run:
    """The run with what makes it this scenario; nothing has happened on the device yet."""
    if scenario.spin_us:
        run.engine = SpinEngine(scenario.spin_us * 1_000)
    if frames is not None:
        run.settings = replace(run.settings, frames=frames)
    run.trap = scenario.trap
    if scenario.prepare is not None:
        scenario.prepare(run)
    return run


def _recorded(scenario: Scenario, run: Run, telemetry: bool, path: str | Path | None, command: str) -> Recording:
    """Run it under its conditions. A plain loop saves its frames bit by bit; telemetry joins them at the end."""
    with run.stack as stack:
        sampled = _sampled(stack, run.device, run.conditions, telemetry)
        if scenario.record is not None:
            recording = scenario.record(run)
        else:
            recording = run.loop().run(path, label=scenario.name, command=command)
    settings = {**recording.settings, "severity": run.severity}
    recording = replace(recording, settings=settings, label=scenario.name, command=command)
    return recording if sampled is None else with_telemetry(recording, sampled)


def _sampled(stack: ExitStack, device: Device, conditions: Conditions | None, telemetry: bool) -> Telemetry | None:
    """Until `stack` is left: the simulated device's conditions (telemetry needs some), and telemetry if asked for."""
    if isinstance(device, SimulatedDevice) and (conditions or (telemetry and device.conditions is None)):
        stack.callback(device.use, device.conditions)
        device.use(conditions or Conditions())
    return stack.enter_context(Telemetry(device)) if telemetry else None


def with_telemetry(recording: Recording, telemetry: Telemetry) -> Recording:
    """The recording with `TELEMETRY_COLUMNS`: for each frame the latest sample at its end."""
    columns = dict(recording.columns) | telemetry.columns(recording.columns["done_ns"])
    return replace(recording, columns=columns)
