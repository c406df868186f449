"""Columns with their names and units, made into what was measured."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..errors import MeasurementsError, SettingsError
from ..types import Stage
from . import names
from .measured import Measured
from .names import UNITS_NS, plain, split_unit, telemetry_name, time_name
from .numbers import PROGRESS

NAMING = (
    "name the times as the stages, such as preprocess_ms, infer_ms, synchronize_ms or latency_ms, or give a pattern"
)
EXPORT = "print one line a frame with its time, such as 'infer: 7.9 ms'"
"""What gives a series of frames where a program prints none."""
_LONGEST_NS = 1e18  # thirty years
_EPOCHS = {1e9: 1e9, 1e12: 1e6, 1e15: 1e3, 1e18: 1.0}  # least stamp of our days in a unit, and its nanoseconds
_COUNTS_ON = (Stage.PREPROCESS, Stage.UPLOAD, Stage.INFER, Stage.POSTPROCESS)
"""Times that don't hold a queue, so that one that gains its first value in each frame is a timer that counts on."""
_CUMULATIVE = re.compile(r"cumul|accum|so far|累计", re.IGNORECASE)
_SERIES = 8  # rows from which a timer that counts on is told from times that happen to climb


@dataclass(frozen=True, eq=False)
class Column:
    """One value a row, float64, NaN where there is none. `unit` is in lower case, None where the file does not say."""

    header: str
    values: np.ndarray
    unit: str | None = None
    where: Callable[[int], str] = field(default=lambda row: f"row {row + 1}")


def unit_in_ns(unit: str) -> float:
    """Nanoseconds in a unit of time that the caller chose; SettingsError where it is none."""
    if (scale := UNITS_NS.get(unit.strip().lower())) is None:
        raise SettingsError(f"the unit must be one of time, got {unit!r}", fix="use ms, us, ns or s")
    return scale


class Columns:
    """Sorts columns by what they are. `named` says that each is a time because the user says so."""

    def __init__(self, file: str, unit: str | None, *, named: bool = False) -> None:
        self.file, self.unit, self.named = file, unit, named
        self.times: dict[str, np.ndarray] = {}
        self.instants: dict[str, np.ndarray] = {}
        self.telemetry: dict[str, np.ndarray] = {}
        self.rates: dict[str, np.ndarray] = {}
        self.unitless: list[Column] = []
        self.unread: list[str] = []
        self.notes: list[str] = []
        self.keep: np.ndarray | None = None
        self.clock: np.ndarray | None = None
        self.headers: list[str] = []
        self.where: Callable[[int], str] = str

    def add(self, column: Column) -> None:
        """Put a column where it belongs."""
        name = split_unit(column.header)[0]
        self.headers.append(column.header)
        self.where = column.where
        word = time_name(re.sub(r" [234]$", "", name)) if column.header else "frame"
        unit = column.unit or (self.unit if word or self.named else None)
        known = telemetry_name(name)
        is_time = unit in UNITS_NS
        if np.isnan(column.values[0]) and np.isnan(column.values).all():
            self.unread.append(column.header)
        elif plain(name) in ("warmup", "iswarmup"):
            self.keep = np.nan_to_num(column.values) == 0
        elif known and column.unit not in UNITS_NS and known not in self.telemetry:
            in_mib = known.endswith("used_bytes") and not name.endswith("bytes")
            self.telemetry[known] = column.values * names.SCALES.get(column.unit or ("mib" if in_mib else ""), 1.0)
        elif column.unit in names.RATES or (word == names.RATE and column.unit is None):
            self.rates.setdefault(column.header, self._rate(column))
        elif word == names.CLOCK and (scale := self._clock_scale(column, name, unit)):
            self.clock = column.values * scale if self.clock is None else self.clock
        elif column.unit is None and word in (None, "frame", names.CLOCK) and not self.named and _counts(column.values):
            pass
        elif is_time and unit and word in names.INSTANTS:
            self.instants[word] = column.values * UNITS_NS[unit]
        elif is_time and unit:
            self._time(column, word, unit)
        elif unit is None and word and word not in names.INSTANTS:
            self.unitless.append(column)
        elif np.ptp(column.values[~np.isnan(column.values)]):  # a constant is no measurement
            self.unread.append(column.header)

    def _time(self, column: Column, word: str | None, unit: str) -> None:
        with np.errstate(over="ignore"):
            values = column.values * UNITS_NS[unit]
        if not (values.min() >= 0 and values.max() <= _LONGEST_NS):
            for bad, what in ((values < 0, "below 0"), (values > _LONGEST_NS, "more than thirty years")):
                if bad.any():
                    self._refuse(column, int(bad.argmax()), f"is {what}")
        key = {names.CLOCK: "frame", names.RATE: "frame"}.get(word or "", word) or " ".join(column.header.split())
        if key == names.COPY:
            key = Stage.DOWNLOAD if Stage.UPLOAD in self.times else Stage.UPLOAD
        key = column.header if key in self.times else str(key)
        if _CUMULATIVE.search(column.header) or (key in _COUNTS_ON and _counts_on(values)):
            self.notes.append(f"{column.header!r} counts on from row to row: its steps are read")
            values = np.maximum(np.diff(values, prepend=0.0), 0)
        self.times.setdefault(key, values)

    def _rate(self, column: Column) -> np.ndarray:
        if (bad := (column.values < 0) | np.isinf(column.values)).any():
            self._refuse(column, int(bad.argmax()), "is no rate")
        with np.errstate(divide="ignore"):
            return np.where(column.values > 0, 1e9 / column.values, np.nan)

    def _refuse(self, column: Column, row: int, why: str) -> None:
        what = f"{self.file}: {column.where(row)}, column {column.header!r}: {column.values[row]:g} {why}"
        raise MeasurementsError(
            what, fix="leave a cell empty where a frame has no such time: the frame is then left out"
        )

    def _clock_scale(self, column: Column, name: str, unit: str | None) -> float | None:
        """Nanoseconds in a step of a clock; None for a column that is none."""
        values = column.values[~np.isnan(column.values)]
        steps = np.diff(values)
        if len(values) < 2 or (steps < 0).any() or not steps.any():
            return None
        epoch = next((scale for least, scale in _EPOCHS.items() if least <= values[0] < 10 * least), None)
        from_zero = abs(values[0]) <= 3 * np.median(steps)
        is_stamp = plain(name) in {*map(plain, names.STAMPS), "walls"}
        if not (epoch or is_stamp or from_zero):
            return None
        return UNITS_NS.get(unit or "", epoch)

    def measured(self, form: str, notes: Sequence[str] = ()) -> Measured:
        """What all columns are together. MeasurementsError where there is nothing that a row can be known by."""
        self.notes = [*notes, *self.notes]
        kind = self._resolve()
        tables = [self.times, self.instants, self.telemetry]
        rows = len(next(iter((self.times or self.telemetry).values())))
        keep = np.ones(rows, np.bool_) if self.keep is None else self.keep
        gaps = np.zeros(rows, np.bool_)
        for values in (*self.times.values(), *self.instants.values()):
            gaps |= np.isnan(values)
        if lost := int((gaps & keep).sum()):
            self.notes.append(f"{lost:,} incomplete frame{'s' * (lost != 1)} left out")
        order = self._order(np.flatnonzero(keep & ~gaps))
        if not len(order):
            raise MeasurementsError(
                f"{self.file}: no row in it has all of its times", fix="put a frame's times in a row"
            )
        if kind != "telemetry" and not any(
            (values if len(order) == rows else values[order]).any() for values in self.times.values()
        ):
            raise MeasurementsError(f"{self.file}: every time in it is 0", fix="print more digits, or a smaller unit")
        if len(order) < rows or (np.diff(order) != 1).any():
            tables = [{name: values[order] for name, values in table.items()} for table in tables]
            self.clock = None if self.clock is None else self.clock[order]
        unread = tuple(dict.fromkeys(name for name in self.unread if name))
        times, instants, telemetry = tables
        return Measured(
            kind,
            form,
            times,
            instants,
            telemetry,
            clock_ns=self.clock,
            unread=unread,
            rows_read=rows,
            notes=tuple(self.notes),
            export=EXPORT if kind == "rates" else "",
            origin=self.file,
        )

    def _apart(self, both: np.ndarray, upload: np.ndarray) -> bool:
        """True where copy_from_Mat can't hold the upload call: it is shorter, or the whole frame has room for both."""
        whole = self.times.get("frame", self.times.get("latency"))
        if whole is None:
            return bool(np.median(both < upload) > 0)
        stages = [values for name, values in self.times.items() if name in set(Stage) and name != Stage.WAIT]
        return bool(np.mean(whole > 0.98 * np.nansum([both, *stages], axis=0)) > 0.9)

    def _resolve(self) -> Literal["frames", "rates", "telemetry"]:
        """The kind; fills in what follows from the columns, and drops times that most rows lack."""
        if not self.times and len(self.instants) == 1:  # 'Done. (3 ms)' is no instant
            name, values = self.instants.popitem()
            if (bad := values < 0).any():
                row = self.where(int(bad.argmax()))
                raise MeasurementsError(f"{self.file}: {row}: {name} is below 0", fix="see to its clock")
            self.times["frame"] = values
        both = self.times.pop(names.COPY_FROM_MAT, None)
        upload = self.times.get(Stage.UPLOAD)
        if (
            both is not None
            and upload is not None
            and Stage.PREPROCESS not in self.times
            and not self._apart(both, upload)
        ):
            self.notes.append("preprocess is copy_from_Mat without the upload call that it makes")
            self.times[Stage.PREPROCESS.value] = np.maximum(both - upload, 0)
        elif both is not None:
            self.times.setdefault(Stage.PREPROCESS.value, both)
        for name, begin in (("latency", "due"), ("frame", "start")):
            if {begin, "done"} <= self.instants.keys():
                self.times.setdefault(name, self._lasted(name, self.instants["done"] - self.instants[begin]))
        lacked = [name for name, values in self.times.items() if np.isnan(values).mean() > 0.5]
        for name in lacked:
            del self.times[name]
            self.unread.append(name)
            self.notes.append(f"without {name!r}, which most frames lack")
        if self.times and self.rates:
            self.notes.append(f"beside times, rates are not read: {', '.join(self.rates)}")
        elif self.rates:
            first, *others = self.rates
            self.times = {"frame": self.rates[first]} | {name: self.rates[name] for name in others}
            return "rates"
        elif not self.times and not self.telemetry and self.clock is not None and len(self.clock) > 2:
            self.times["frame"] = np.diff(self.clock, prepend=np.nan)
            self.notes.append("a frame goes from one time stamp to the next")
        if not self.times and self.unitless:
            raise self._without_unit()
        if not self.times and not self.telemetry and lacked:
            raise MeasurementsError(
                f"{self.file}: most rows lack each of the times in it", fix="put a frame's times in a row"
            )
        if not self.times and not self.telemetry:
            listed = ", ".join(repr(name[:40]) for name in self.headers[:8] if name)
            raise MeasurementsError(
                f"{self.file}: no column of times is known among {listed or 'its columns'}", fix=NAMING
            )
        self.unread += [f"{column.header} (no unit: --unit)" for column in self.unitless]
        return "frames" if self.times else "telemetry"

    def _lasted(self, name: str, values: np.ndarray) -> np.ndarray:
        if (bad := values < 0).any():
            row = self.where(int(bad.argmax()))
            raise MeasurementsError(f"{self.file}: {row}: the {name} ends before it begins", fix="see to its clock")
        return values

    def _order(self, rows: np.ndarray) -> np.ndarray:
        """The rows in the order of their frames."""
        for name in names.INSTANTS:
            if name in self.instants:
                values = self.instants[name][rows]
                if (np.diff(values) < 0).any():
                    self.notes.append(f"sorted by {name} time")
                    return rows[np.argsort(values, kind="stable")]
                break
        return rows

    def _without_unit(self) -> MeasurementsError:
        """The error for times without a unit; the size of the numbers says what they may be."""
        column = self.unitless[0]
        middle = float(np.nanmedian(column.values))
        guess = "ns" if middle >= 1e5 else "us" if middle >= 500 else "ms" if middle >= 0.5 else ""
        looks = f" (by their size they could be {guess})" if guess else ""
        named = f"of {column.header!r} " if column.header else ""
        what = f"{self.file}: nothing says in which unit the times {named}are{looks}"
        return MeasurementsError(what, fix="pass --unit ms (or us, ns, s), or name the column with its unit")


def measured_of(
    columns: Sequence[Column], form: str, file: str, unit: str | None = None, notes: Sequence[str] = (),
    clock_ns: np.ndarray | None = None, *, named: bool = False,
) -> Measured:  # fmt: skip
    """What the columns are: times, instants, telemetry, rates; those that are none of it are named as unread."""
    sorted_ = Columns(file, unit, named=named)
    sorted_.clock = clock_ns
    with np.errstate(all="ignore"):  # of values that are then refused
        for place, column in enumerate(columns):
            PROGRESS.get()(place / len(columns))
            sorted_.add(column)
        return sorted_.measured(form, notes)


def _counts_on(values: np.ndarray) -> bool:
    """True for a timer that is never set back: each row gains about what the first one holds."""
    steps = np.diff(values[:_SERIES], prepend=0.0)
    if len(steps) < _SERIES or not (steps > 0).all():
        return False
    steps = np.diff(values, prepend=0.0)
    usual = float(np.median(steps))
    return bool((steps > 0).all() and steps.max() < 3 * usual and steps[0] > 0.3 * usual)


def _counts(values: np.ndarray) -> bool:
    """True for a column that only numbers the rows."""
    return len(values) > 1 and bool((np.diff(values) == 1).all())
