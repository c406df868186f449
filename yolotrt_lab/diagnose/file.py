"""A file of any kind that the lab reads, diagnosed: a recording, a table, a log, or a report of Nsight Systems."""

from __future__ import annotations

from pathlib import Path

from ..nsight.reports import read_trace
from ..nsight.trace import Trace
from .findings import Diagnosis
from .measurements import Measurements
from .reading.files import read_measurements
from .traced import measurements_of
from .verdicts import judge

_SQLITE = b"SQLite format 3\0"


def judge_file(path: str | Path, *, unit: str | None = None) -> tuple[Measurements, Diagnosis]:
    """What the file holds, and why that loop gets slower. `unit` is that of times for which the file names none.

    MeasurementsError or TraceError for what cannot be read, with the place; SettingsError where `unit` is none.
    """
    path = Path(path)
    trace = _trace(path)
    measurements = read_measurements(path, unit=unit) if trace is None else measurements_of(trace)
    return measurements, judge(measurements, trace)


def _trace(path: Path) -> Trace | None:
    """The trace in a report of Nsight Systems, be it exported or not; None for any other file."""
    return read_trace(path) if path.suffix == ".nsys-rep" or _is_sqlite(path) else None


def _is_sqlite(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except (OSError, ValueError):
        return False  # what is wrong with it, its reader says
