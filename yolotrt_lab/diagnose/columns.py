"""Columns of numbers with their names and units, made into what was measured."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..errors import MeasurementsError
from ..types import Stage
from . import words
from .measured import Kind, Measured
from .slope import median
from .words import INSTANTS, PROGRESS, UNITS_NS, end_of, middle, plain, split_unit, telemetry_name, time_name

NAMING = (
    "name the times as the stages, such as preprocess_ms, infer_ms, synchronize_ms or latency_ms, or give a pattern"
)
EXPORT = "print one line a frame with its time, such as 'infer: 7.9 ms'"
"""What gives a series of frames where a program prints none."""
_LONGEST_NS = 1e18  # thirty years
_SHUFFLED = 0.25  # of the steps of a clock go back where rows are in no order, or the newest comes first
_EPOCHS = {1e9: "s", 1e12: "ms", 1e15: "us", 1e18: "ns"}
"""The least stamp of our days in each unit."""
_COUNTS_ON = (Stage.PREPROCESS, Stage.UPLOAD, Stage.INFER, Stage.POSTPROCESS)
"""Times that don't hold a queue, so that one that gains its first value in each frame is a timer that counts on."""
_CUMULATIVE = re.compile(r"cumul|accum|so far|累计", re.IGNORECASE)
_GPUS = ("gpu", "index", "gpuindex", "gpuid")  # what numbers the GPUs in telemetry of several
_FILLED = 1.05  # times its parts: a rate of that, or less, tells nothing that they don't
_FROM_ZERO, _LONG_NS = 10, 1e10  # steps from 0, or 10 s: where a clock starts that is called 'elapsed'
_ROWS = 8  # from which a timer that counts on is told from times that happen to climb


class Column(NamedTuple):
    """One value a row, float64, NaN where there is none. `unit` is in lower case, None where the file does not say."""

    header: str
    values: np.ndarray
    unit: str | None = None
    at: float = -1.0
    """Where it stands in its frame; -1 where its place among the columns tells."""


@dataclass(eq=False)
class Reading:
    """A file while it is read: what its values are read by, and what errors and the result say of it."""

    file: str
    unit: str | None = None
    """That of times for which the file names none."""
    names: tuple[str, ...] = ()
    """Those of the columns of a table without a header, as the user gives them."""
    form: str = ""
    where: Callable[[int], str] = field(default=lambda row: f"row {row + 1}")
    """Where a row is in the file."""
    notes: list[str] = field(default_factory=list)
    clock: np.ndarray | None = None
    """The time stamps of the rows in ns."""
    decimal: bool | None = None
    """What a comma is where no number tells."""
    of_times: bool = False
    """True where each name is that of a time, because the user says so."""

    def error(self, why: str, fix: str, row: int | None = None, column: str | None = None) -> MeasurementsError:
        """The error for what is wrong with the file, a row or a column of it."""
        place = ", ".join(
            [*([] if row is None else [self.where(int(row))]), *([] if column is None else [f"column {column!r}"])]
        )
        return MeasurementsError(": ".join(filter(None, [self.file, place, why])), fix=fix)


def measured_of(columns: Sequence[Column], reading: Reading) -> Measured:
    """What the columns are: times, instants, telemetry, rates; those that are none of it are named as unread.

    MeasurementsError where nothing in a row is known, or for a value that can't be, with its place.
    """
    if columns and not len(columns[0].values):
        raise reading.error("it must have rows, got none", "name another file")
    columns = [each._replace(at=place) if each.at < 0 else each for place, each in enumerate(columns)]
    with np.errstate(all="ignore"):  # of values that are then refused
        columns = _with_clocks(columns, reading)
        sorted_ = _Sorted(columns, reading)
        for place, column in enumerate(columns):
            PROGRESS.get()(place / len(columns))
            sorted_.add(column)
        return sorted_.measured()


def _with_clocks(columns: Sequence[Column], reading: Reading) -> list[Column]:
    """The columns, where one that only goes up, by what a frame takes or more, is the clock: 'uptime 33 ms'."""
    kept, longest = list(columns), 0.0
    for place, each in enumerate(columns):
        known = words.is_named(split_unit(each.header)[0]) or _CUMULATIVE.search(each.header)
        if known or each.unit not in UNITS_NS:
            continue
        longest = longest or _longest(columns)
        if _climbs(each.values * UNITS_NS[each.unit], longest):
            reading.notes += [f"{each.header!r} only goes up: it is read as a clock"] * bool(each.header)
            kept[place] = each._replace(header="timestamp")
    return kept


def _longest(columns: Sequence[Column]) -> float:
    """The longest of the times whose names are known, in ns; infinity for none."""
    timed = [each for each in columns if each.unit in UNITS_NS and _word(each) not in (None, words.CLOCK)]
    return max((middle(each.values) * UNITS_NS[each.unit or ""] for each in timed), default=0.0) or np.inf


class _Sorted:
    """Columns by what they are."""

    def __init__(self, columns: Sequence[Column], reading: Reading) -> None:
        self.reading, self.clock, self.notes = reading, reading.clock, reading.notes
        self.times: dict[str, np.ndarray] = {}
        self.places: dict[str, float] = {}
        """Where in a frame each of the times stands."""
        named = [(word, plain(column.header)) for column in columns if (word := _word(column)) not in (None, "frame")]
        self.exact = {word for word, name in named if name.startswith(plain(str(word)))}
        """What columns are called in so many words: where 'postprocess' is there, 'decode' is another time."""
        self.elapsed = ""
        """The time whose name may be that of a clock, such as 'elapsed'."""
        self.vague: dict[str, str] = {}
        """What the last words of unknown names say: 'tracker time' is that of a frame if there is no other."""
        self.instants: dict[str, np.ndarray] = {}
        self.ends: dict[tuple[str, str], tuple[str, np.ndarray]] = {}
        """When a part of a frame starts and ends, by its name and 'start' or 'done': what the file calls it, and it."""
        self.telemetry: dict[str, np.ndarray] = {}
        self.rates: dict[str, np.ndarray] = {}
        self.infer = min((each.at for each in columns if _word(each) == Stage.INFER), default=np.nan)
        self.copies = [each.at for each in columns if _word(each) == words.COPY]
        self.synchronizes = Stage.SYNCHRONIZE in map(_word, columns)
        self.numbers: np.ndarray | None = None
        self.gpus: Column | None = None
        self.unitless: list[Column] = []
        self.unread: list[str] = []
        self.keep: np.ndarray | None = None
        self.headers = [each.header for each in columns]

    def add(self, column: Column) -> None:
        """Put a column where it belongs."""
        values, name = column.values, split_unit(column.header)[0]
        word = vague = _word(column)
        if word is None and (vague := time_name("".join(name.split()[-1:]))) in ("frame", words.CLOCK):
            self.vague[" ".join(column.header.split())] = str(vague)
        end = end_of(name)
        unit = column.unit or (self.reading.unit if word or end or self.reading.of_times else None)
        known = telemetry_name(name)
        scale = UNITS_NS.get(unit or "")
        if np.isnan(values[0]) and np.isnan(values).all():
            self.unread.append(column.header)
        elif plain(name) in ("warmup", "iswarmup"):
            self.keep = np.nan_to_num(values) == 0
        elif known and column.unit not in UNITS_NS and known not in self.telemetry:
            if column.unit == "mhz" and known == "gpu_utilisation_percent":  # 'SM : 1980 MHz' of nvidia-smi -q
                known = "sm_clock_mhz"
            in_mib = known.endswith("used_bytes") and not name.endswith("bytes")
            self.telemetry[known] = values * words.SCALES.get(column.unit or ("mib" if in_mib else ""), 1.0)
        elif column.unit in words.RATES or (word == words.RATE and column.unit is None):
            self.rates.setdefault(column.header, self._period(column))
        elif column.unit is None and plain(name) in _GPUS and len(np.unique(values)) < min(len(values), 16):
            self.gpus = column
        elif vague == words.CLOCK and (step := _clock_scale(values, name, unit)):
            self.clock = values * step if self.clock is None else self.clock
        elif (
            (column.unit is None or (len(values) >= _ROWS and values[0] in (0, 1)))
            and not self.reading.of_times
            and word in (None, "frame", words.CLOCK)
            and _counts(values)
        ):
            pass
        elif column.unit is None and plain(name) in words.FRAME_NUMBERS and self._numbers_frames(column):
            self.numbers = values
        elif scale and end:
            self.ends[end] = column.header, values * scale
            if end[0] != "frame":
                self.places.setdefault(end[0], column.at)
        elif scale:
            self._time(column, word, scale)
        elif unit is None and word:
            self.unitless.append(column)
        elif np.ptp(values[~np.isnan(values)]):  # a constant is no measurement
            self.unread.append(column.header)

    def _time(self, column: Column, word: str | None, scale: float) -> None:
        values, longest = column.values, _LONGEST_NS / scale
        if not (values.min() >= 0 and values.max() <= longest):
            self._refuse(column, values < 0, "is below 0")
            self._refuse(column, values > longest, "is more than thirty years")
        owned = values if values.flags.writeable else None  # a new array would take longer to get than to fill
        values = np.multiply(values, scale, out=owned)
        key = "frame" if word in (words.CLOCK, words.RATE) else word or " ".join(column.header.split())
        if key == words.COPY:
            key = self._direction(column)
        name = plain(split_unit(column.header)[0])
        is_other = key in self.exact and not name.startswith(plain(key))
        is_other |= name.startswith("decode") and column.at < self.infer  # of the video, and not of the boxes
        if key == Stage.WAIT and self.infer < column.at:  # not for the frame, but for the GPU
            key, is_other = Stage.SYNCHRONIZE, is_other or self.synchronizes
        key = column.header if key in self.times or is_other else str(key)
        if _CUMULATIVE.search(column.header) or (key in _COUNTS_ON and _counts_on(values)):
            self.notes.append(f"{column.header!r} counts on from row to row: its steps are read")
            values = np.maximum(np.diff(values, prepend=0.0), 0)
        called = words.CLOCK in (word, self.vague.get(key)) or (key == "frame" and "elapsed" in column.header.lower())
        self.elapsed = key if called else self.elapsed
        self.times.setdefault(key, values)
        self.places.setdefault(key, column.at)

    def _direction(self, column: Column) -> Stage:
        """Which way a copy goes that does not say so: before the enqueue it is the upload, behind it the download."""
        if min(self.copies) < self.infer < max(self.copies) or (len(self.copies) == 1 and self.infer >= 0):
            return Stage.DOWNLOAD if column.at > self.infer else Stage.UPLOAD
        way = Stage.DOWNLOAD if Stage.UPLOAD in self.times else Stage.UPLOAD
        self.notes.append(f"{column.header!r} names no direction: it is read as the {way}")
        return way

    def _period(self, column: Column) -> np.ndarray:
        """The time of a frame in ns, of a rate."""
        self._refuse(column, (column.values < 0) | np.isinf(column.values), "is no rate")
        return np.where(column.values > 0, 1e9 / column.values, np.nan)

    def _numbers_frames(self, column: Column) -> bool:
        """True for whole numbers of frames, in order or not; MeasurementsError where some come twice out of order."""
        values = column.values
        if (values != np.round(values)).any() or np.ptp(values) >= 4 * len(values):
            return False
        back, others = np.diff(values) < 0, len(np.unique(values))
        if 0.9 * len(values) <= others < len(values):
            self._refuse(column, np.append(False, back), "is less than the number in the row above, and others repeat")
        return others == len(values) or not back.any()

    def _refuse(self, column: Column, bad: np.ndarray, why: str) -> None:
        """MeasurementsError for the first bad value, if there is one."""
        if bad.any():
            row = int(bad.argmax())
            fix = "leave a cell empty where a frame has no such time: the frame is then left out"
            raise self.reading.error(f"{column.values[row]:g} {why}", fix, row, column.header)

    def measured(self) -> Measured:
        """What all columns are together."""
        self._complete()
        kind = self._kind()
        times = dict(sorted(self.times.items(), key=lambda each: self.places.get(each[0], np.inf)))
        instants, telemetry = self.instants, self.telemetry
        rows = len(next(iter((self.times or self.telemetry).values())))
        keep = np.ones(rows, np.bool_) if self.keep is None else self.keep
        gpus = 1
        if self.gpus is not None and kind == "telemetry":
            numbers = self.gpus.values
            keep, gpus = keep & (numbers == numbers[0]), len(np.unique(numbers))
            self.notes += [f"GPU {numbers[0]:g} of {gpus}"] * (gpus > 1)
        elif self.gpus is not None and np.ptp(self.gpus.values):
            self.unread.append(self.gpus.header)
        gaps = np.zeros(rows, np.bool_)
        for values in (*self.times.values(), *self.instants.values()):
            gaps |= np.isnan(values)
        if lost := int((gaps & keep).sum()):
            first, rows_of = int((gaps & keep).argmax()), f"{lost:,} row{'s' * (lost != 1)} with a rate of 0"
            where = f"from {self.reading.where(first)} " + ("to the end" if gaps[first:].all() else "on")
            came = f"no frame came in {rows_of}, {where}: the loop stood still, or had ended"
            self.notes.append(came if kind == "rates" else f"{lost:,} incomplete frame{'s' * (lost != 1)} left out")
        kept = keep & ~gaps
        if not kept.any():
            raise self.reading.error("no row in it has all of its times", "put a frame's times in a row")
        order = self._order(slice(None) if kept.all() else np.flatnonzero(kept))
        times, instants, telemetry = (
            {name: values[order] for name, values in table.items()} for table in (times, instants, telemetry)
        )
        self.clock = None if self.clock is None else self.clock[order]
        if kind != "telemetry" and not any(values.any() for values in times.values()):
            raise self.reading.error("every time in it is 0", "print more digits, or a smaller unit")
        return Measured(
            kind,
            self.reading.form,
            times,
            instants,
            telemetry,
            clock_ns=self.clock,
            by_name=self.headers == sorted(self.headers),
            unread=tuple(dict.fromkeys(filter(None, self.unread))),
            notes=tuple(self.notes),
            export=EXPORT if kind == "rates" else "",
            origin=self.reading.file,
            gpus=gpus,
        )

    def _complete(self) -> None:
        """Fill in the times that follow from others, and drop those that most rows lack."""
        self._split_copy_from_mat()
        if (elapsed := self.times.pop(self.elapsed, None)) is not None:
            usual = max(map(middle, self.times.values()), default=np.inf)
            if _climbs(elapsed, usual) or (not self.times and _is_clock(elapsed)):
                self.clock = elapsed if self.clock is None else self.clock
            else:
                self.times[self.elapsed] = elapsed
        frame = {end: values for (part, end), (_, values) in self.ends.items() if part == "frame"}
        if not self.times and [*frame] == ["done"]:  # 'Done. (3 ms)' is no instant
            self.times["frame"] = self._lasted("done", frame.pop("done"), "is below 0")
        if len(frame) == 1 and len(only := next(iter(frame.values()))) >= _ROWS and _wanders(only):  # it is no clock
            [(header, values)] = (each for (part, _), each in self.ends.items() if part == "frame")
            self.times.setdefault(header, self._lasted(header, values, "is below 0"))
            frame = {}
        start, done = (frame.get(end, np.empty(0)) for end in ("start", "done"))
        if len(start) >= _ROWS and len(done) and np.ptp(start) < median(done - start):
            frame = {}  # each frame counts from its own start
        due = frame.get("due", np.empty(0))  # one that stands still, or is behind the start, is none
        if len(due) and not (np.ptp(due) and median(frame.get("start", due) - due) >= 0):
            self.unread.append(self.ends["frame", "due"][0])
            del frame["due"]
        self.instants = frame
        if {"due", "done"} <= frame.keys():
            self.times.setdefault("latency", self._lasted("the latency", frame["done"] - frame["due"]))
        for (part, end), (header, values) in self.ends.items():
            if end == "done" and (part, "start") in self.ends:
                self.times.setdefault(part, self._lasted(f"the {part}", values - self.ends[part, "start"][1]))
            elif part != "frame" and end == "done" and self._is_span(values):  # 'inference finished: 8 ms'
                self.times.setdefault(part, values)
            elif part != "frame" and (end == "done" or (part, "done") not in self.ends):
                self.unread.append(header)
        for name in [
            name for name, values in self.times.items() if 2 * np.count_nonzero(np.isnan(values)) > len(values)
        ]:
            del self.times[name]
            self.unread.append(name)
            self.notes.append(f"without {name!r}, which most frames lack")
        if len(self.times) == 1 and self.times.keys() <= self.vague.keys():
            self.times = {"frame": self.times.popitem()[1]}

    def _is_span(self, values: np.ndarray) -> bool:
        """True for what is no clock: it goes down, or in many rows not up by what each of them takes."""
        usual = max(map(middle, self.times.values()), default=float(np.nextafter(0, 1)))
        return bool((np.diff(values) < 0).any()) or (len(values) >= _ROWS and not _climbs(values, usual))

    def _lasted(self, name: str, values: np.ndarray, why: str = "ends before it starts") -> np.ndarray:
        if (bad := values < 0).any():
            raise self.reading.error(f"{name} {why}", "check the clock that it is measured by", int(bad.argmax()))
        return values

    def _split_copy_from_mat(self) -> None:
        """What copy_from_Mat takes is preprocessing, without the upload call where that was timed in it."""
        both, upload = self.times.pop(words.COPY_FROM_MAT, None), self.times.get(Stage.UPLOAD)
        if both is None or Stage.PREPROCESS in self.times:
            return
        whole = self.times.get("frame", self.times.get("latency"))
        stages = [values for name, values in self.times.items() if name in set(Stage) - {Stage.WAIT}]
        fits = (
            both < (np.inf if upload is None else upload)
            if whole is None
            else whole > 0.98 * np.nansum([both, *stages], axis=0)
        )
        if upload is not None and np.mean(fits) < 0.9:  # the upload call is not beside it
            self.notes.append("preprocess is copy_from_Mat without the upload call that it makes")
            both = np.maximum(both - upload, 0)
        self.times[Stage.PREPROCESS.value], self.places[Stage.PREPROCESS] = both, self.places[words.COPY_FROM_MAT]

    def _kind(self) -> Kind:
        """The kind, which rates and time stamps are where there is nothing else; MeasurementsError for nothing."""
        if self.times and self.rates:
            if not self._frame_from_rate():
                self.notes.append(f"beside times, rates are not read{': ' * any(self.rates)}{', '.join(self.rates)}")
        elif self.rates:
            self.unread += [f"{column.header} (no unit: --unit)" for column in self.unitless]
            idle = [name for name, values in self.rates.items() if np.isnan(values).mean() > 0.5]
            first, *others = [name for name in self.rates if name not in idle] or self.rates
            self.times = {"frame": self.rates[first]} | {split_unit(name)[0]: self.rates[name] for name in others}
            self.notes += [f"without {name!r}, which is 0 in most rows" for name in idle if name != first]
            return "rates"
        elif self.clock is not None and not (self.times or self.telemetry or self.unread or self.unitless):
            steps = np.diff(self.clock)
            if len(steps) > 1 and (steps >= 0).all():
                self.times["frame"] = np.append(np.nan, steps)
                self.notes.append("a frame goes from one time stamp to the next")
        if not self.times and self.unitless:
            raise self._without_unit()
        if not self.times and not self.telemetry:
            if any("most frames lack" in note for note in self.notes):
                raise self.reading.error("most rows lack each of the times in it", "put a frame's times in a row")
            listed = ", ".join(repr(name[:40]) for name in self.headers[:8] if name)
            raise self.reading.error(f"no column of times is known among {listed or 'its columns'}", NAMING)
        self.unread += [f"{column.header} (no unit: --unit)" for column in self.unitless]
        return "frames" if self.times else "telemetry"

    def _frame_from_rate(self) -> bool:
        """Take the time of a frame from its rate, where only parts of it were timed and these don't fill it."""
        if self.times.keys() & {"frame", "latency"}:
            return False
        name, period = next(iter(self.rates.items()))
        parts = sum(map(middle, self.times.values()))
        if np.isnan(period).any() or middle(period) < _FILLED * parts:
            return False
        self.times["frame"] = period
        self.notes.append(f"the time of a frame is that of the rate{f' {name!r}' * bool(name)}")
        return True

    def _order(self, rows: np.ndarray | slice) -> np.ndarray | slice:
        """The rows in the order of their frames."""
        by = next((f"{name} time" for name in INSTANTS if name in self.instants), "frame number")
        values = self.instants.get(by.split()[0], self.numbers)
        if values is None and self.clock is not None and (np.diff(self.clock) < 0).sum() > _SHUFFLED * len(self.clock):
            by, values = "time stamp", self.clock
        if values is None or not (np.diff(values[rows]) < 0).any():
            return rows
        self.notes.append(f"sorted by {by}")
        return np.arange(len(values))[rows][np.argsort(values[rows], kind="stable")]

    def _without_unit(self) -> MeasurementsError:
        """The error for times without a unit; the size of the numbers says what they may be."""
        column = self.unitless[0]
        usual = middle(column.values)
        guess = next((unit for least, unit in ((1e5, "ns"), (500, "us"), (0.5, "ms")) if usual >= least), "")
        looks = f" (by their size they could be {guess})" if guess else ""
        named = f"of {column.header!r} " if column.header else ""
        fix = "pass --unit ms (or us, ns, s), or name the column with its unit"
        return self.reading.error(f"nothing says in which unit the times {named}are{looks}", fix)


def _word(column: Column) -> str | None:
    """What the name of a column stands for, be it the first of that name in a frame or a later one."""
    name = re.sub(r" [234]$", "", split_unit(column.header)[0])
    return time_name(name) or words.stage_behind(name) if column.header else "frame"


def _clock_scale(values: np.ndarray, name: str, unit: str | None) -> float | None:
    """Nanoseconds in a step of a clock; None for a column that is none."""
    values = values[~np.isnan(values)]
    steps = np.diff(values)
    if len(values) < 2 or (steps < 0).any() or not steps.any():
        return None
    is_stamp = plain(name) in {*map(plain, words.STAMPS), "walls"}
    from_zero = abs(values[0]) <= 3 * median(steps)
    epoch = unit_of_stamps(values)
    return UNITS_NS.get(unit or epoch or "") if epoch or is_stamp or from_zero else None


def unit_of_stamps(values: np.ndarray) -> str | None:
    """The unit of seconds and the like since 1970, None for other values."""
    return next((unit for least, unit in _EPOCHS.items() if least <= values[0] < 10 * least), None)


def _climbs(values: np.ndarray, step: float) -> bool:
    """True for a clock: it only goes up, by as much a row as the row takes."""
    return len(values) >= _ROWS and bool((np.diff(values) >= 0).all() and np.ptp(values) >= step * (len(values) - 1))


def _wanders(values: np.ndarray) -> bool:
    """True for times that go down about as often as up, and are no shuffled clock: they stay about as they are."""
    back = np.mean(np.diff(values) < 0)
    return bool(back > _SHUFFLED and np.ptp(values) < 2 * median(values))


def _is_clock(values: np.ndarray) -> bool:
    """True for what only goes up, from about 0 or beyond 10 s: frames don't take that, each more than the last."""
    steps = np.diff(values)
    if len(values) < _ROWS or not (steps >= 0).all() or not steps.any():
        return False
    return bool(values[0] <= _FROM_ZERO * np.mean(steps) or values[0] > _LONG_NS)


def _counts_on(values: np.ndarray) -> bool:
    """True for a timer that is never set back: each row gains about what the first one holds."""
    if len(values) < _ROWS or not (np.diff(values[:_ROWS], prepend=0.0) > 0).all():
        return False
    steps = np.diff(values, prepend=0.0)
    usual = float(median(steps))
    return bool((steps > 0).all() and steps.max() < 3 * usual and steps[0] > 0.3 * usual)


def _counts(values: np.ndarray) -> bool:
    """True for a column that only numbers the rows."""
    return len(values) > 1 and values[-1] - values[0] == len(values) - 1 and bool((np.diff(values) == 1).all())
