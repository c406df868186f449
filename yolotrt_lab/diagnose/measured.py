"""What was read from a recording, a table, a log or a trace, whoever wrote it: the bill is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import MeasurementsError
from ..recording import Recording
from ..types import TELEMETRY_COLUMNS, Stage
from .slope import quantile

if TYPE_CHECKING:
    from ..nsight.trace import Trace

_DAY_NS = 86_400e9
AT_ONCE = 0.2  # share of a long step between samples, below which a step is none of time
Kind = Literal["frames", "rates", "summary", "events", "layers", "telemetry"]


@dataclass(frozen=True, eq=False)
class Measured:
    """Series of float64 of shape (frames,), in the order of the frames, without the warm-up.

    >>> from yolotrt_lab import Recording
    >>> found = Measured.of(Recording.shipped("overload"))
    >>> found.kind, found.format, len(found), list(found.times_ns)[:3]
    ('frames', 'recording of the lab', 1500, ['latency', 'frame', 'wait'])
    """

    kind: Kind
    """"frames": one row a frame. "rates": frames a second, of which `times_ns` holds the inverse. "summary": totals or
    averages of a run. "events": one call or event a row. "layers": one layer of a network a row. "telemetry": clocks
    and power without frames."""
    format: str
    """As what the input was recognised, such as 'trtexec log'."""
    times_ns: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Durations by name, all finite: 'latency' (due time to result), 'frame' (a frame's whole time), the values of
    `Stage` (times of the host), 'gpu_compute', 'enqueue', else the column's own name, which may overlap the others."""
    instants_ns: Mapping[str, np.ndarray] = field(default_factory=dict)
    """'due', 'start' and 'done' on one clock, where they are known."""
    telemetry: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Some of `TELEMETRY_COLUMNS`, NaN where the GPU does not tell."""
    memory: Mapping[str, str] = field(default_factory=dict)
    """The kind of host memory ('pageable', 'pinned') under 'input' and 'output', where it is known."""
    graph: bool = False
    """True where the loop is known to launch a CUDA graph."""
    of_the_lab: bool = False
    """True for a recording of the lab: each stage is the one call that it is named after."""
    clock_ns: np.ndarray | None = None
    """The time of day of each row in ns since 1970 (of a file without dates, since midnight), where the rows have time
    stamps; `join` uses it."""
    by_name: bool = False
    """True where the columns are sorted by their names: their order is not that of the calls."""
    unread: tuple[str, ...] = ()
    """Each column or pattern that recurs and was not read, by the file's own name."""
    notes: tuple[str, ...] = ()
    """What a reader should know, such as 'sorted by due time'."""
    origin: str = ""
    """The file and where its numbers are from, in one line."""
    facts: Mapping[str, float] = field(default_factory=dict)
    """Numbers of a summary, in ms: of trtexec the medians 'latency', 'enqueue', 'gpu_compute', 'h2d', 'd2h'; of a table
    of calls, layers or events the total by name."""
    export: str = ""
    """The command that would give a series of frames; '' where this is one."""
    trace: Trace | None = None
    """The trace, where the input is a report of Nsight Systems."""
    gpus: int = 1
    """How many GPUs its telemetry told of; that of the first is here."""

    def __post_init__(self) -> None:
        for name, values in self.times_ns.items():
            if not np.isfinite(values).all():
                what = f"times must be finite, got {name!r} with {np.asarray(values)[~np.isfinite(values)][0]}"
                raise MeasurementsError(what, fix="leave out the frames that lack a time")

    def __len__(self) -> int:
        series = [*self.times_ns.values(), *self.telemetry.values()]
        return len(series[0]) if series else 0

    @classmethod
    def of(cls, recording: Recording) -> Measured:
        """What a recording of frames holds. MeasurementsError names the first row that can't be: frames that are not in
        the order of their due times, or that end before they are due or start.
        """
        if "camera" in recording.columns:  # several loops at once, whose rows are in the order of their results
            order = np.argsort(recording.columns["due_ns"], kind="stable")
            recording = replace(recording, columns={name: each[order] for name, each in recording.columns.items()})
        _check(recording)
        steady = recording.steady
        columns: Mapping[str, Any] = {name: values.astype(np.float64) for name, values in steady.columns.items()}
        times = {"latency": columns["done_ns"] - columns["due_ns"], "frame": columns["done_ns"] - columns["start_ns"]}
        kinds = {side: recording.settings.get(f"{side}_memory") for side in ("input", "output")}
        if "pinned" in columns and np.ptp(columns["pinned"]):  # of several loops, some of which were pinned
            del kinds["input"]
        return cls(
            "frames",
            "recording of the lab",
            times | {str(stage): columns[f"{stage}_ns"] for stage in Stage},
            {name: columns[f"{name}_ns"] for name in ("due", "start", "done")},
            {name: columns[name] for name in TELEMETRY_COLUMNS if name in columns},
            {side: kind for side, kind in kinds.items() if isinstance(kind, str)},
            graph=recording.settings.get("graph") is True,
            of_the_lab=True,
            notes=recording.notes,
            origin=recording.source.stamp,
        )


def _check(recording: Recording) -> None:
    """MeasurementsError for values that no loop can have, with the first row that has one."""
    if recording.kind != "frames":
        raise MeasurementsError(
            f"the recording must be of frames, got one of {recording.kind}", fix="name another recording"
        )
    columns = recording.columns
    if not len(recording.steady):
        what = "only warm-up frames" if len(recording) else "no rows"
        raise MeasurementsError(f"the recording must have frames, got {what}", fix="record again, with more frames")
    rows = {
        "a time below 0": [np.flatnonzero(columns[f"{stage}_ns"] < 0) for stage in Stage],
        "a result before its frame starts": [np.flatnonzero(columns["done_ns"] < columns["start_ns"])],
        "a result before it is due": [np.flatnonzero(columns["done_ns"] < columns["due_ns"])],
        "a due time before that of the row above": [np.flatnonzero(np.diff(columns["due_ns"]) < 0) + 1],
    }
    for what, found in rows.items():
        if bad := [int(each[0]) for each in found if each.size]:
            fix = "take another copy of the recording, or record again: its rows are damaged or out of order"
            raise MeasurementsError(f"row {min(bad) + 1} of the recording has {what}", fix=fix)


def join(measured: Measured, telemetry: Measured) -> Measured:
    """The frames with the latest sample of the telemetry at each, by the time stamps of both.

    Of several GPUs none is joined: nothing tells which of them the frames ran on. MeasurementsError where one has no
    time stamps, or where they don't overlap.

    >>> frames = Measured("frames", "", {"infer": np.array([7e6, 9e6])}, clock_ns=np.array([2e9, 3e9]))
    >>> clocks = {"sm_clock_mhz": np.array([1980.0, 1410.0])}
    >>> join(frames, Measured("telemetry", "", telemetry=clocks, clock_ns=np.array([1.9e9, 2.9e9]))).telemetry
    {'sm_clock_mhz': array([1980., 1410.])}
    """
    for each in (measured, telemetry):
        if each.clock_ns is None:
            what = f"{each.origin}: rows must have time stamps to be joined, got none"
            fix = "print the time of day in front of each frame"
            if each.kind == "telemetry":
                fix = "log the time of day in each row: nvidia-smi dmon -o DT, or --query-gpu=timestamp"
            raise MeasurementsError(what, fix=fix)
    at, samples = np.asarray(measured.clock_ns), np.asarray(telemetry.clock_ns)
    if telemetry.gpus > 1 or _in_groups(samples):
        got = f"of {telemetry.gpus}" if telemetry.gpus > 1 else "of several, as its rows come in groups,"
        left_out = f"telemetry must be of one GPU: {telemetry.origin} is {got} and left out"
        fix = "keep the rows of the GPU that the frames ran on (nvidia-smi -i NUMBER)"
        return replace(measured, notes=(*measured.notes, f"{left_out}; {fix}"))
    if min(at[0], samples[0]) < _DAY_NS:  # one of them has no dates
        at, samples = at % _DAY_NS, samples % _DAY_NS
    last = np.searchsorted(samples, at, side="right") - 1
    usual = float(np.median(np.diff(samples))) if len(samples) > 1 else np.inf
    lasts = 2 * usual  # behind it, or in a gap, none is known
    held = (last >= 0) & (at - samples[last] <= lasts)
    if not held.any():
        ends = (np.array([each[0], each[-1]]).astype("datetime64[ns]") for each in (at, samples))
        frames, got = (" to ".join(np.datetime_as_string(each, "s")) for each in ends)
        what = f"the telemetry must be of the time of the frames, {frames}, got {got}"
        raise MeasurementsError(what, fix="take both on the same clock, at the same time")
    columns = {name: np.where(held, values[last], np.nan) for name, values in telemetry.telemetry.items()}
    lost = int((~held).sum())
    notes = (*measured.notes, f"telemetry of {telemetry.origin}" + (f", which {lost:,} frames lack" if lost else ""))
    return replace(measured, telemetry={**measured.telemetry, **columns}, notes=notes)


def _in_groups(samples: np.ndarray) -> bool:
    """True where several samples are taken at about one time, as those of several GPUs are."""
    steps = np.diff(samples)
    return len(steps) > 1 and quantile(steps, 0.4) < AT_ONCE * quantile(steps, 0.9)
