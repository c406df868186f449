"""Running scenarios: one, several in turns, and the clock that lies between two loops."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ..device import Device
from ..engine import Engine
from ..errors import RecordingError, SettingsError, closest, whole
from ..loop import LoopSettings, run_in_turns
from ..recording import FrameRecorder, Recording, joined, watched
from ..simulate.conditions import Conditions
from ..simulate.experiments import measure_copies
from ..simulate.simulated import SimulatedDevice
from ..telemetry import Telemetry
from .catalogue import SCENARIOS, SHOWS, Scenario
from .faults import Run

COPIES = "copies"


def listing() -> str:
    """A line for each scenario: its name and what it shows."""
    shows = SHOWS | {COPIES: "one copy behind a backlog, in every direction, kind of host memory and size"}
    width = max(map(len, shows))
    return "\n".join(f"{name:{width}} {text}" for name, text in shows.items())


def check_name(name: str) -> None:
    """SettingsError, with those there are, where no scenario has that name."""
    if name not in SCENARIOS and name != COPIES:
        known = [*SCENARIOS, COPIES]
        raise SettingsError(f"no scenario {name!r}{closest(name, known)}", fix=f"use one of {', '.join(known)}")


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
    folder: str | Path | None = None,
    overwrite: bool = True,
    command: str = "",
) -> dict[str, Recording]:
    """Run scenarios in turns of `turn` frames, so that they can be compared on a machine whose speed drifts.

    Each recording is saved at `<folder>/<name>.parquet` if that is given, as `run_scenario` does.

    SettingsError for a scenario on a clock (interrupted, it shows nothing), for the copy table, and for frames that
    are no whole number of turns. With `telemetry` the recordings have `TELEMETRY_COLUMNS` too.
    """
    check_together(names, frames, turn)
    loops = {}
    for name in names:
        settings = replace(SCENARIOS[name].settings, warmup=20)
        loops[name] = _prepared(SCENARIOS[name], Run(device, engine, settings, images), min(turn, frames)).loop()
    paths = {} if folder is None else {name: Path(folder) / f"{name}.parquet" for name in names}
    with _kept(paths, device, command, claim=True, overwrite=overwrite) as sampled:
        with ExitStack() as stack:
            _sample(stack, device, None, telemetry, sampled)
            recordings = run_in_turns(loops, max(frames // turn, 1))
        for name, recording in recordings.items():
            recordings[name] = _finished(recording, sampled, paths.get(name), label=name, command=command)
    return recordings


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
    overwrite: bool = True,
    command: str = "",
) -> Recording:
    """Run a scenario and return its recording, saved at `path` if given.

    After Ctrl-C or an error what was recorded lies at `path` all the same, and notes in it and on the error say so.
    Where nothing can be written there any more it goes to a temporary folder. RecordingError where another run records
    to `path`, and without `overwrite` where a recording lies there.

    `frames` and `period_us` override the scenario's; a scenario on a clock measures its period if none is given
    (`period_between_us`). A scenario that needs no model does not use `engine`. `severity`, between 0.5 and 2, is how
    strong the cause is. With `telemetry` the recording has `TELEMETRY_COLUMNS` too.

    SettingsError for a severity that is not above 0 and at most 10, and for a cause that this device cannot show.
    """
    check_name(name)
    if not 0 < severity <= 10:
        what = f"severity must be more than 0, and 10 at most, got {severity}"
        raise SettingsError(what, fix="use 1 for the scenario as described")
    paths = {} if path is None else {name: Path(path)}
    if name == COPIES:
        with _kept(paths, device, command, claim=True, overwrite=overwrite) as sampled:
            keep = None if path is None else partial(_rescued, path=Path(path))
            copies = measure_copies(device, command=command, keep=keep)
            return _finished(copies, sampled, path, label=COPIES, command=command)
    scenario = SCENARIOS[name]
    run = _prepared(scenario, Run(device, engine, scenario.settings, images, severity), frames)
    if period_us is None and scenario.other is not None:
        period_us = period_between_us(device, engine, images, run.settings, scenario.other, share=severity / 2)
    if period_us is not None:
        run.settings = replace(run.settings, period_us=period_us)
    with _kept(paths, device, command, claim=scenario.record is not None, overwrite=overwrite) as sampled:
        with run.stack as stack:
            _sample(stack, device, run.conditions, telemetry, sampled)
            # a plain loop saves its frames bit by bit
            recording = scenario.record(run) if scenario.record else run.loop().run(path, overwrite=overwrite)
        recording = replace(recording, settings={**recording.settings, "severity": run.severity})
        return _finished(recording, sampled, path, label=name, command=command)


def _prepared(scenario: Scenario, run: Run, frames: int | None) -> Run:
    """The run with what makes it this scenario; nothing has happened on the device yet."""
    if frames is not None:
        run.settings = replace(run.settings, frames=frames)
    run.trap = scenario.trap
    if scenario.prepare is not None:
        scenario.prepare(run)
    return run


def _finished(
    recording: Recording, sampled: Sequence[Telemetry], path: str | Path | None, *, label: str, command: str
) -> Recording:
    """The recording with its names and its telemetry, saved; in a temporary folder where that fails."""
    recording = with_telemetry(replace(recording, label=label, command=command), *sampled)
    if path is not None:
        try:
            recording.save(path)
        except RecordingError as error:
            error.add_note(_elsewhere(recording, Path(path)))
            raise
    return recording


@contextmanager
def _kept(
    paths: Mapping[str, Path], device: Device, command: str, *, claim: bool, overwrite: bool
) -> Iterator[list[Telemetry]]:
    """After an error, frames that were recorded inside are saved at the paths of their scenarios with the telemetry in
    the list that this gives, and a note on the error says so. With `claim` no other run can record there meanwhile.
    """
    sampled: list[Telemetry] = []
    with ExitStack() as claims, watched() as made:
        for path in paths.values() if claim else ():
            claims.callback(FrameRecorder(path, overwrite=overwrite, source=device.source).finish)
        try:
            yield sampled
        except BaseException as error:
            if hasattr(error, "__notes__"):
                raise  # what is whole is saved elsewhere already
            recordings = [each.recording() for each in made if len(each)]
            for name, path in paths.items():
                # a loop that takes turns has its scenario's name; what measures by the way has no settings
                parts = [each for each in recordings if each.settings and each.label in ("", name)]
                if parts:
                    rescued = replace(_together(parts, type(error).__name__), label=name, command=command)
                    error.add_note(_rescued(with_telemetry(rescued, *sampled), path))
            raise


def _together(parts: Sequence[Recording], why: str) -> Recording:
    """What there is of a run that something ended, in the order of its frames."""
    together = joined(parts, pieces=len(parts))
    columns = {**together.columns, "piece": np.repeat(np.arange(len(parts)), [len(part) for part in parts])}
    order = np.argsort(columns["due_ns"], kind="stable")
    note = f"unfinished: {why} ended the run after {len(order):,} frames"
    return replace(together, columns={name: values[order] for name, values in columns.items()}, notes=(note,))


def _rescued(recording: Recording, path: Path) -> str:
    """Save it, and say where it lies."""
    try:
        recording.save(path)
    except RecordingError:
        return _elsewhere(recording, path)
    what = "rows" if recording.kind == COPIES else "frames"
    return f"{len(recording):,} {what} are kept in {path}, which says that the run is not whole"


def _elsewhere(recording: Recording, path: Path) -> str:
    """Save in a temporary folder what cannot be saved at its path; returns where it lies, in words."""
    try:
        place = Path(tempfile.mkdtemp(prefix="yolotrt-lab-"), path.name)
        recording.save(place)
    except (OSError, RecordingError):
        return f"{len(recording):,} rows are lost: they cannot be written to a temporary folder either"
    return f"{len(recording):,} rows are kept in {place}"


def _sample(
    stack: ExitStack, device: Device, conditions: Conditions | None, telemetry: bool, sampled: list[Telemetry]
) -> None:
    """Until `stack` is left: the simulated device's conditions (telemetry needs some), and telemetry if asked for."""
    if isinstance(device, SimulatedDevice) and (conditions or (telemetry and device.conditions is None)):
        stack.callback(device.use, device.conditions)
        device.use(conditions or Conditions())
    if telemetry:
        sampled.append(stack.enter_context(Telemetry(device)))


def with_telemetry(recording: Recording, *sampled: Telemetry) -> Recording:
    """The recording with `TELEMETRY_COLUMNS`: for each frame the latest sample at its end."""
    columns = dict(recording.columns)
    for telemetry in sampled:
        columns |= telemetry.columns(recording.columns["done_ns"])
    return replace(recording, columns=columns)
