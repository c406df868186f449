"""Columns with their names and units, made into measurements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...errors import MeasurementsError, SettingsError
from ...types import Stage
from ..measurements import Measurements
from .names import BYTES, COPY, COPY_FROM_MAT, FPS, GPU_TIME, UNITS_NS, plain, split_unit, telemetry_name, time_name

_INSTANTS = {"due": "due", "start": "start", "done": "done"}
_CLOCKS = ("time", "elapsed", "时间")
_LONGEST_NS = 1e18
_GUESS_NS = 1e5
NAMING = "name them like the stages, such as preprocess_ms, infer_ms, synchronize_ms or latency_ms"
"""The fix where no name is known."""


@dataclass(frozen=True, eq=False)
class Column:
    """One value a frame, float64 and NaN where there is none, as the file calls it.

    `unit` is in lower case, None where the file does not say. `where` tells the place of a row, such as 'line 12'.
    """

    header: str
    values: np.ndarray
    unit: str | None
    where: Callable[[int], str] = field(default=lambda row: f"row {row + 1}")


def unit_in_ns(unit: str) -> float:
    """Nanoseconds in a unit of time that the caller chose; SettingsError where it is none."""
    try:
        return UNITS_NS[unit.strip().lower()]
    except KeyError:
        raise SettingsError(f"{unit!r} is no unit of time", fix="use ms, us, ns or s") from None


def measurements_of(
    columns: Sequence[Column], file: str, unit: str | None, notes: Sequence[str] = (), warmup: np.ndarray | None = None
) -> Measurements:
    """What is known among the columns; `unit` is that of times whose column names none.

    Frames that lack a time are left out, and times that fewer than half of the frames have. MeasurementsError where no
    column holds times, a unit is missing or a value is no duration.
    """
    times: dict[str, np.ndarray] = {}
    instants: dict[str, np.ndarray] = {}
    telemetry: dict[str, np.ndarray] = {}
    left_out = []
    for column in columns:
        name, _ = split_unit(column.header)
        kind = time_name(name) if column.header else "frame"
        if np.isnan(column.values).all():
            left_out.append(column.header)
        elif plain(name) in _INSTANTS and column.unit in UNITS_NS:
            instants.setdefault(_INSTANTS[plain(name)], column.values * UNITS_NS[column.unit])
        elif kind is None and (known := telemetry_name(name)) and known not in telemetry:
            telemetry[known] = _telemetry(column, known)
        elif kind is not None and kind not in times and not (kind == "frame" and _is_clock(column)):
            times[kind] = _times_ns(column, kind, file, unit)
        elif not (kind == "frame" and column.unit is None and _is_clock(column)):  # which only numbers the frames
            left_out.append(column.header)
    if not times and not ("done" in instants and len(instants) > 1):
        raise MeasurementsError(
            f"{file}: no column of times is known among {listed([column.header for column in columns])}",
            fix=NAMING,
        )
    seldom = [name for name, values in times.items() if np.isnan(values).mean() > 0.5]
    notes = [*notes, *([f"without {listed([*left_out, *seldom])}"] if left_out or seldom else [])]
    known_times = _resolved({name: each for name, each in times.items() if name not in seldom}, instants, notes)
    if not known_times:
        raise MeasurementsError(
            f"{file}: most frames lack each of the times in it", fix="put the times of one frame into one row"
        )
    for name, values in known_times.items():
        if (bad := np.flatnonzero(values < 0)).size:
            raise MeasurementsError(f"{file}: {columns[0].where(int(bad[0]))}: the {name} ends before it begins")
    gaps = np.isnan([*known_times.values(), *instants.values()]).any(axis=0)
    tables = [known_times, instants, telemetry]
    kept = ~gaps if warmup is None else ~(gaps | warmup)
    if not kept.all():
        tables = [{name: values[kept] for name, values in table.items()} for table in tables]
    if gaps.any():
        notes.append(incomplete(int(gaps.sum())))
    if not kept.any():
        raise MeasurementsError(f"{file}: there is no frame in it")
    if not any(values.any() for values in tables[0].values()):
        raise MeasurementsError(f"{file}: every time in it is 0", fix="print more digits, or a smaller unit")
    return Measurements(*tables, origin="; ".join([file, *notes]))


def listed(names: Sequence[str], most: int = 8) -> str:
    """The names for a message, each cut, and those beyond `most` counted."""
    shown = ", ".join(repr(name[:40]) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def incomplete(count: int) -> str:
    """The note on frames that lack a time."""
    return f"{count:,} incomplete frame{'s' * (count != 1)} left out"


def _is_clock(column: Column) -> bool:
    """True for a column of frames that only goes up: by one and without a unit, or called a time."""
    if column.header == "" or len(column.values) < 2:
        return False
    steps = np.diff(column.values)
    name = plain(split_unit(column.header)[0])
    return bool((column.unit is None and (steps == 1).all()) or (name in _CLOCKS and (steps > 0).all()))


def _telemetry(column: Column, name: str) -> np.ndarray:
    """Memory in bytes, of which nvidia-smi writes MiB; anything else as it is."""
    if name != "gpu_memory_used_bytes":
        return column.values
    smi = plain(column.header).startswith("memoryused")
    return column.values * BYTES.get(column.unit or ("mib" if smi else "b"), 1.0)


def _times_ns(column: Column, kind: str, file: str, unit: str | None) -> np.ndarray:
    """A column of times, or of frames a second, in nanoseconds; NaN where a frame has none."""
    bad = np.flatnonzero((column.values < 0) | np.isinf(column.values))
    if not len(bad) and kind == FPS:
        bad = np.flatnonzero(column.values == 0)
    if len(bad):
        raise MeasurementsError(
            f"{file}: {column.where(int(bad[0]))}, column {column.header!r}: {column.values[bad[0]]:g} is no time of a "
            "frame, which must be a number of 0 or more",
            fix="leave the cell empty where a frame has no such time: the frame is then left out",
        )
    if kind == FPS:
        return 1e9 / column.values
    if column.unit is None and unit is None:
        raise _without_unit(column, file)
    if column.unit is not None and column.unit not in UNITS_NS:
        raise MeasurementsError(
            f"{file}: {column.where(0)}, column {column.header!r}: {column.unit[:20]!r} is no unit of time"
        )
    scale = UNITS_NS[column.unit] if column.unit is not None else unit_in_ns(unit or "")
    with np.errstate(over="ignore"):
        values = column.values * scale
    if (long := np.flatnonzero(values > _LONGEST_NS)).size:
        raise MeasurementsError(
            f"{file}: {column.where(int(long[0]))}, column {column.header!r}: {column.values[long[0]]:g} is more than "
            "thirty years"
        )
    return values


def _without_unit(column: Column, file: str) -> MeasurementsError:
    """The error for times without a unit; the size of the numbers says what they may be."""
    middle = float(np.nanmedian(column.values)) if len(column.values) else 0.0
    guess = "ns" if middle >= _GUESS_NS else "us" if middle >= 500 else "ms" if middle >= 0.5 else ""
    looks = f" (by their size they could be {guess})" if guess else ""
    named = f"of {column.header!r} " if column.header else ""
    return MeasurementsError(
        f"{file}: nothing says in which unit the times {named}are{looks}",
        fix="pass --unit ms (or us, ns, s), or name the column with its unit",
    )


def _resolved(times: dict[str, np.ndarray], instants: dict[str, np.ndarray], notes: list[str]) -> dict[str, np.ndarray]:
    """Frames a second, copies without a direction, `copy_from_Mat` and instants, as what they stand for."""
    known = dict(times)
    if (on_gpu := known.pop(GPU_TIME, None)) is not None:
        if known or instants:
            notes.append("without the time on the GPU")
        else:
            known["frame"] = on_gpu
    for alias, name in ((FPS, "frame"), (COPY, Stage.UPLOAD)):
        if (values := known.pop(alias, None)) is not None:
            known.setdefault(str(name), values)
    if (both := known.pop(COPY_FROM_MAT, None)) is not None:
        upload = known.get(Stage.UPLOAD)
        inside = upload is not None and "preprocess" not in known and bool((both >= upload).mean() > 0.9)
        if inside:
            notes.append("preprocess is copy_from_Mat without the upload call that it makes")
        known.setdefault("preprocess", np.maximum(both - upload, 0) if inside and upload is not None else both)
    for name, begin in (("latency", "due"), ("frame", "start")):
        if {begin, "done"} <= instants.keys():
            known.setdefault(name, instants["done"] - instants[begin])
    return known
