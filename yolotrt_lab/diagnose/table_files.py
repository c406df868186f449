"""Text in columns: CSV, Markdown and terminal tables, one number a line; JSON by names; Parquet and Arrow."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..packages import arrow_array
from ..types import Stage
from . import thresholds as at
from . import words
from .columns import EXPORT, NAMING, Column, Reading, measured_of, unit_of_stamps
from .measured import AT_ONCE, Measured
from .slope import quantile
from .words import MISSING, UNITS_NS, numbers_of, plain, split_unit, stamps, text_array, time_name

COMMENTS = ("#", "//", "%", "```")
DMON = r"^#\s*(?=(?:Date\W+)?(?:Time\W+)?gpu\b)"
"""What stands in front of the names in a table of nvidia-smi dmon."""
_SEPARATORS = {
    "|": "CSV with '|'",
    ";": "CSV with ';'",
    "\t": "TSV",
    ",": "CSV",
    " ": "columns between blanks",
    "": "lines",
}
_BROKEN = "it breaks off, and is read up to its last whole object"
_PARTS = ("DurChild (ns)", "DurNonChild (ns)")  # of the Duration beside them, in nsys stats nvtx_pushpop_trace
_SAMPLE, _MOST_ABOVE, _DEEPEST, _MOST_STAGES = 20, 10, 8, 40
_PIECE = 1 << 24  # bytes of a text that are read at once
_FRAME = re.compile("[\u2502\u2503\u2506\u250a\u2551]")
_RULE = re.compile(
    "[\u2500-\u257f|+=:\\-\\s]*[\u2500-\u257f|=\\-]{3}[\u2500-\u257f|+=:\\-\\s]*"
    "|(?=.*-)(?=.*\\|)[-:|\\s]+|\\[\\d+ rows x \\d+ columns\\]"
)
"""A line of a frame, the '-- | --' below the names in Markdown, and how large pandas says that a table is."""
_VALUE = re.compile(rf"[-+]?{words.NUMBER}\.?\s*([^\d\s].{{0,15}})?")
_STAMP = re.compile(r"(?:[\d/-]{8,10}[ T]|\d+ days? )?\d?\d:\d\d:\d\d(?:\.\d+)?")
_OF_A_LOG = re.compile(rf"\d\d:\d\d:\d\d|(?<![\w.]){words.NUMBER}\s*(?:{words.TIME_UNITS})(?!\w)", re.IGNORECASE)
"""What no header holds: a time of day, or a number with a unit, as in 'pre: 1.1 ms | infer: 8.2 ms'."""
_UNITS = {*UNITS_NS, *words.RATES, *words.SCALES, "mhz", "w", "%", "c"}
_ONE_NUMBER = re.compile(r"[-+]?(\d+,\d+|\d{1,3}(,\d{3})+(\.\d+)?|\d{1,3}(\.\d{3})+,\d+|\d+\.\d+)\s*[^\d\s,]*")


class Table(NamedTuple):
    """Where a table starts: the line of its header (or of its first row), its names and what separates the cells."""

    start: int
    header: tuple[str, ...]
    separator: str
    named: bool


def _is_known(name: str) -> bool:
    bare, unit = split_unit(name)
    return bool(unit or words.is_named(bare) or words.telemetry_name(bare))


def names_a_time(name: str) -> bool:
    """True for a name that is known, or none at all, and not that of the time of day."""
    return not name or (_is_known(name) and time_name(split_unit(name)[0]) != words.CLOCK)


def _is_value(cell: str) -> bool:
    found = _VALUE.fullmatch(cell)
    if found and (not found[1] or found[1].lower() in _UNITS):
        return True
    return cell.lower() in MISSING or _STAMP.fullmatch(cell) is not None


def _split(text: str, separator: str) -> list[str]:
    """The cells of a line, without the blanks around them."""
    if separator in ("", " "):
        return text.split() if separator else [text]
    if '"' in text:
        with suppress(csv.Error, StopIteration):
            return [cell.strip() for cell in next(csv.reader([text], delimiter=separator, skipinitialspace=True))]
    return [cell.strip() for cell in text.split(separator)]


def _tidy(line: str) -> str:
    """A line without what frames it in Markdown or a terminal; nothing of a rule, a comment or the size of a table."""
    line = _FRAME.sub("|", re.sub(DMON, "", line.strip()))
    if _RULE.fullmatch(line) or line.startswith(COMMENTS):
        return ""
    return line.strip("|").strip() if line[:1] in ("|", "+") else line


def find_table(lines: Sequence[str]) -> Table | None:
    """The table that the first lines of a file are, or that starts a few lines below; None where they are none."""
    numbered = [(place, text) for place, line in enumerate(lines) if (text := _tidy(line))]
    for above in range(min(_MOST_ABOVE, len(numbered))):
        for separator in _SEPARATORS:
            found = _table_at(numbered[above : above + _SAMPLE], separator)
            if found and (above == 0 or (found.named and any(map(_is_known, found.header)) and numbered[above + 1 :])):
                return found
    return None


def _table_at(sample: Sequence[tuple[int, str]], separator: str) -> Table | None:
    place, first = sample[0]
    rows = [_split(text, separator) for _, text in sample]
    if all(map(_is_value, rows[0])) and not all(cell.lower() in MISSING for cell in rows[0]):
        width = len(rows[0])
        whole = all(len(row) == width and _is_value(row[-1]) for row in rows)
        one = separator == "," and all(_ONE_NUMBER.fullmatch(text) for _, text in sample) and not _counts(rows)
        return Table(place, ("",) * width, separator, False) if whole and not one and bool(separator) < width else None
    below = [row for row in rows[1:] if row != rows[0]]
    header = _spaced(first, below) if separator == " " and below else rows[0]
    known = any(map(_is_known, header))
    if _OF_A_LOG.search(first) or any(map(_VALUE.fullmatch, header)) or len(header) < 1 + bool(separator):
        return None
    if not (separator or known) or (not separator and not known and re.search(r"\d", first)):
        return None
    whole_rows = [row for row in below if len(row) == len(header) or (len(row) == len(header) + 1 and not row[-1])]
    enough = any if known and (separator != " " or "pid" in header) else all
    numeric = sum(any(row) and enough(map(_is_value, filter(None, row[: len(header)]))) for row in whole_rows)
    if below and (len(whole_rows) < max(1, len(below) - 1) or numeric < len(whole_rows) / 2):
        return None
    alone = len(sample) == 1 and known and separator.strip(" ")
    return Table(place, tuple(header), separator, True) if below or alone else None


def _spaced(text: str, rows: Sequence[Sequence[str]]) -> list[str]:
    """The names between blanks: they may hold single ones, such as 'sync [ms]'; pandas leaves out that of an index."""
    names, count = text.split(), len(rows[0])
    if len(names) == count - 1 and _counts(rows):
        return ["", *names]
    ways = (re.split(by, text.strip()) for by in (r"\s+", r"\s+(?![\[(])", r"\s{2,}|\t+"))
    return next((found for found in ways if len(found) == count), names)


def _counts(rows: Sequence[Sequence[str]]) -> bool:
    first = [str(row[0]) for row in rows]
    return all(each.isdecimal() and len(each) < 19 for each in first) and bool((np.diff([*map(int, first)]) == 1).all())


def read_table(data: bytes, table: Table, reading: Reading) -> Measured:
    """The columns of a table, by pyarrow's reader of CSV where each row is as wide as the header, else row by row."""
    first, begin = table.start + table.named, 0
    for _ in range(first):
        begin = data.find(b"\n", begin) + 1 or begin
    above = data[:begin].decode("utf-8", "replace").split("\n")[: table.start]
    reading.notes += ["without what stands above the table"] * any(map(_tidy, above))
    reading.where = lambda row: f"line {first + row + 1}"
    reading.decimal = True if table.separator == ";" else None
    reading.form = reading.form or _SEPARATORS[table.separator] + (
        " by column names" if table.named or reading.names else " with one number each"
    )
    columns = _regular(data, begin, table) or _row_by_row(data, table, reading)
    if not len(columns) or not len(columns[0]):
        if data[begin:].lstrip().startswith(b"#"):
            what = f"each row below line {table.start + 1} starts with '#', which marks a comment"
            raise reading.error(what, "write the rows without the '#'")
        raise reading.error(f"line {table.start + 1} names columns, and no row follows", "copy the rows too")
    if table.separator and {"mean", "std"} <= {cell for cell in columns[0][:20].to_pylist() if isinstance(cell, str)}:
        raise reading.error("its rows are statistics of a run ('mean', 'std'), and no frames", EXPORT)
    with_unit = [name for name in table.header if split_unit(name)[1]]
    if table.separator == " " and with_unit == [table.header[-1]] and reading.unit is None:  # 'pre infer post (ms)'
        reading.unit = split_unit(with_unit[0])[1]
    if table.named or reading.names:
        names = table.header if table.named else _given(reading, len(columns))
        return of_arrow([each for each in zip(names, columns, strict=True) if each[0]], reading)
    if len(columns) > 2 or (len(columns) == 2 and not _numbers_rows(columns[0])):
        fix = "name them: --columns preprocess_ms,infer_ms,sync_ms (of nvidia-smi, what --query-gpu asked for)"
        raise reading.error(f"line {table.start + 1} has {len(columns)} columns without names", fix)
    return of_arrow([("", columns[-1])], reading)


def _numbers_rows(column: Any) -> bool:
    if _is_number(column.type):
        return bool((np.diff(numbers_of(column)) == 1).all())
    return _counts([[each] for each in column.to_pylist()])


def _given(reading: Reading, count: int) -> tuple[str, ...]:
    """The names that the user gives; MeasurementsError where they are too many or too few."""
    if len(reading.names) != count:
        what = f"--columns must name each of its {count} columns, got {len(reading.names)} names"
        raise reading.error(what, "name all of them, with commas between")
    reading.notes.append(f"columns as told: {', '.join(reading.names)}")
    return reading.names


def _regular(data: bytes, begin: int, table: Table) -> list[Any] | None:
    """The columns from a byte on as Arrow has them; None where a row is of another width, a comment, or the header
    again.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow

    if table.separator in ("", " ") or data.find(table.separator.encode(), begin) < 0:
        return None
    names = [str(place) for place in range(len(table.header))]
    options = (
        arrow.ReadOptions(column_names=names, block_size=1 << 21),
        arrow.ParseOptions(delimiter=table.separator),
        arrow.ConvertOptions(null_values=MISSING, strings_can_be_null=False),
    )

    def read(text: memoryview) -> list[Any]:
        return arrow.read_csv(pa.py_buffer(text), *options).columns  # type: ignore[no-any-return]

    try:
        columns = _in_pieces(data, begin, read) or read(memoryview(data)[begin:])
    except pa.ArrowInvalid:
        return None
    columns = [each.combine_chunks() if pa.types.is_string(each.type) else each for each in columns]
    rule = r":?-+:?\s*$" if table.separator == "|" else "[-|+=]{3}"
    odd = rf"^\s*(#|//|%|{rule}|{re.escape(table.header[0])}$)"
    return None if pa.types.is_string(columns[0].type) and words.has(columns[0], odd) else columns


def _in_pieces(data: bytes, begin: int, read: Callable[[memoryview], list[Any]]) -> list[Any] | None:
    """The columns of a long text, of which no copy is made: the numbers in a piece go to their places at once. None
    where a column has numbers in one piece and others in another one.
    """
    import pyarrow as pa

    most = 1 + sum(int(np.count_nonzero(block == ord("\n"))) for block in words.byte_blocks(data))
    columns, kinds, rows, start = list[Any](), list[bool](), 0, begin
    while start < len(data):
        words.PROGRESS.get()(start / len(data))
        end = data.rfind(b"\n", start, start + _PIECE) + 1 or len(data)
        found = read(memoryview(data)[start:end])
        of_numbers = [_is_number(each.type) for each in found]
        kinds = kinds or of_numbers
        columns = columns or [np.empty(most) if each else [] for each in kinds]
        if of_numbers != kinds:
            return None
        for column, values in zip(columns, found, strict=True):
            if isinstance(column, list):
                column += values.chunks
            else:
                column[rows : rows + len(values)] = numbers_of(values)
        rows, start = rows + len(found[0]), end
    return [pa.chunked_array(each) if isinstance(each, list) else arrow_array(each[:rows]) for each in columns]


def _row_by_row(data: bytes, table: Table, reading: Reading) -> list[Any]:
    """The columns as text, without comments, rules and headers that come again."""
    header, first = list(table.header), table.start + table.named
    rows: list[tuple[int, str, list[str]]] = []
    lines = data.decode("utf-8", "replace").split("\n")
    for number, line in enumerate(lines[first:], first + 1):
        text = _tidy(line)
        found = _split(text, table.separator)
        found = found[:-1] if len(found) == len(header) + 1 and not found[-1] else found
        if not text or (table.named and (found in (header, header[1:]) or text.split() == " ".join(header).split())):
            continue
        if len(found) == len(header):
            rows.append((number, text, found))
        elif number == len(lines) and len(found) < len(header) and rows:
            reading.notes.append(f"without line {number}, which breaks off")
        else:
            what = f"line {number} must have {len(header)} columns as the lines before it, got {len(found)}"
            raise reading.error(what, "write as many cells in each row as in the header")
    reading.where = lambda row: f"line {rows[row][0]}"
    reading.clock = stamps(text_array([text for _, text, _ in rows])) if table.separator == " " else None
    return [text_array(each) for each in zip(*(found for *_, found in rows), strict=True)]


def of_arrow(named: Iterable[tuple[str, Any]], reading: Reading) -> Measured:
    """Named Arrow arrays, of numbers, durations, time stamps or text such as '7.9 ms'."""
    columns, texts = list[Column](), []
    for name, values in (each for each in named if each[0] not in _PARTS):
        values = values.dictionary_decode() if hasattr(values, "dictionary") else values
        if (found := _stamps_of(values)) is not None:
            lasts = _lasts(name, found)
            columns += [Column(name, found, "ns")] * bool(lasts or words.end_of(name))
            reading.clock = found if reading.clock is None and not lasts else reading.clock
        elif column := _column_of(values, name, reading):
            columns.append(column)
        else:
            texts.append((name, values if _is_text(values) else None))
    if processes := _of_processes(columns, reading):
        return processes
    columns = [
        each._replace(unit=unit_of_stamps(each.values)) if each.unit is None and words.end_of(each.header) else each
        for each in columns
    ]
    by_stage = next((name for name, text in texts if text is not None and _pivot(columns, text, reading)), None)
    if unread := [name for name, _ in texts if name != by_stage]:
        reading.notes.append(f"without the text in {', '.join(map(repr, unread[:8]))}")
    measured = measured_of(columns, reading)
    return measured if by_stage or reading.of_times else _cases_apart(measured, columns, texts)


def _of_processes(columns: Sequence[Column], reading: Reading) -> Measured | None:
    """How many processes a GPU has over time, of a list such as that of nvidia-smi --query-compute-apps, else None."""
    pids = next((each.values for each in columns if plain(each.header) == "pid"), None)
    if pids is None or any(words.is_named(split_unit(each.header)[0]) for each in columns):
        return None
    if reading.clock is None:
        listed = ", ".join(map(str, sorted({int(each) for each in pids[~np.isnan(pids)]})[:8]))
        what = f"it lists processes on a GPU (pid {listed}), and not at which time"
        raise reading.error(what, "log the time too: nvidia-smi --query-compute-apps=timestamp,pid --format=csv -l 1")
    steps = np.diff(reading.clock, prepend=-np.inf)  # of one sample they are small
    first = np.abs(steps) > AT_ONCE * quantile(np.abs(steps[1:]), 0.9) if len(steps) > 1 else steps != 0
    counts = np.bincount(np.cumsum(first) - 1, ~np.isnan(pids))
    unread = tuple(each.header for each in columns if plain(each.header) != "pid")
    return Measured("telemetry", "processes on a GPU", telemetry={"compute_processes": counts}, origin=reading.file,
                    clock_ns=reading.clock[first], unread=unread, notes=tuple(reading.notes))  # fmt: skip


def _lasts(name: str, values: np.ndarray) -> bool:
    """True for durations that are written as times of day, '00:00:00.008': they are short, and named as times are or
    go back.
    """
    named = time_name(split_unit(name)[0]) not in (None, words.CLOCK)
    short = words.middle(values) < 60e9 and not words.end_of(name)
    return short and (named or bool((np.diff(values) < 0).any()))


_SIZES = "batch batchsize bs concurrency threads streams percentile quantile cdf"
_SIZES += " imgsz imagesize inputsize size resolution width height"
_IN_ORDER = re.compile(
    r"frame|\b(start|begin|first|early|mid|middle|late|last|end|cold|warm)|\.(jpe?g|png|bmp|webp)\b", re.IGNORECASE
)


def _cases_apart(measured: Measured, columns: Sequence[Column], texts: Sequence[tuple[str, Any]]) -> Measured:
    """A summary of few rows that a text or a size sets apart, such as those of models: they are no frames in a row.

    What is numbered as frames are, has time stamps, or says 'early' and 'late' is a series all the same.
    """
    rows = len(measured)
    numbered = any(plain(split_unit(each.header)[0]) in words.FRAME_NUMBERS for each in columns)
    if measured.kind not in ("frames", "rates") or numbered or measured.clock_ns is not None or measured.instants_ns:
        return measured
    sizes = [each for each in columns if plain(each.header) in _SIZES.split()]
    swept = any((np.diff(each.values) > 0).all() for each in sizes)
    told = [text.to_pylist() for _, text in texts if text is not None]
    told += [[f"{each.header} {v:g}" for v in each.values] for each in sizes]
    told = [each for each in told if len(each) == rows and 2 * len(set(each)) > rows > 1]
    cells = {cell or "" for each in told for cell in each}
    if not (told and (rows < at.FEWEST_FRAMES or swept)) or any(map(_IN_ORDER.search, cells)):
        return measured
    labels = [", ".join(filter(None, cells)) for cells in zip(*told, strict=True)]
    labels = [f"{each} (row {row})" if labels.count(each) > 1 else each for row, each in enumerate(labels, 1)]
    facts = {
        f"{case}: {name}": v[row] / 1e6 for row, case in enumerate(labels) for name, v in measured.times_ns.items()
    }
    notes = (*measured.notes, "its rows are cases apart, and no frames in a row")
    return replace(measured, kind="summary", times_ns={}, telemetry={}, facts=facts, notes=notes, export=EXPORT)


_SEVERAL = 0.5  # of the frames
_GOES_BACK = 0.02  # of the rows: less often than durations do, more often than a clock in rows sorted by stage
_CPU = ("cpu", "cputime")


def _goes_back(column: Column) -> bool:
    return bool(np.mean(np.diff(column.values) < 0) > _GOES_BACK)


def _pivot(columns: list[Column], names: Any, reading: Reading) -> bool:
    """Put the rows of a frame side by side where each row is one stage, which a column of text names; else False."""
    encoded = names.dictionary_encode()
    stages = encoded.dictionary.to_pylist()
    known = sum(words.is_named(split_unit(stage)[0]) for stage in stages if stage)
    if names.null_count or not 2 <= len(stages) <= min(2 * known, _MOST_STAGES):
        return False
    stage = numbers_of(encoded.indices).astype(np.int64)
    if any(time_name(split_unit(each.header)[0]) == words.CLOCK and _goes_back(each) for each in columns):
        cpu = [each.header for each in columns if plain(split_unit(each.header)[0]) in _CPU]
        columns[:] = [each for each in columns if each.header not in cpu]
        reading.notes += [f"{name!r} is not read: beside it stands what a stage took" for name in cpu]
    numbers = next((each for each in columns if plain(split_unit(each.header)[0]) in words.FRAME_NUMBERS), None)
    others = [each for each in columns if each is not numbers]
    took, ends = _spans(others, reading, are_ends=all(map(words.end_of, stages)))
    if not took:
        return False
    frames = _frames_of(stage) if numbers is None else numbers.values
    _, first, frame = np.unique(frames, return_index=True, return_inverse=True)
    came = np.zeros((len(stages), len(first)), int)
    np.add.at(came, (stage, frame), 1)
    if np.mean(np.min(np.where(came, came, 2), axis=0) > 1) > _SEVERAL:
        what = "each frame must have each stage once, got frames in which every stage comes several times"
        raise reading.error(what, "keep the rows of one camera and of one run, or number the frames through")
    read = [each.header for each in (*took, *ends.values())]
    columns[:] = [each._replace(values=each.values[first]) for each in columns if each.header not in read]
    for each in took:
        sums = np.zeros(came.shape)
        np.add.at(sums, (stage, frame), each.values)  # a stage that comes twice in a frame is added up
        sums[came == 0] = np.nan
        own = f" {split_unit(each.header)[0]}" if len(took) > 1 else ""
        columns += [Column(f"{name}{own}", values, each.unit) for name, values in zip(stages, sums, strict=True)]
    for end, each in ends.items():
        outer = np.full(len(first), np.nan)
        (np.fmax if end == "done" else np.fmin).at(outer, frame, each.values)
        columns.append(Column(end, outer, each.unit))
    reading.clock = None if reading.clock is None else reading.clock[first]
    reading.where = lambda row: f"frame {row + 1}"
    reading.notes.append("each row is a stage: those of a frame are put side by side")
    return True


def _spans(columns: Sequence[Column], reading: Reading, *, are_ends: bool) -> tuple[list[Column], dict[str, Column]]:
    """How long each row of a long table took, by one clock or several, and when it was due, started and was done.

    With `are_ends` each row is one instant, such as that of 'infer_start'.
    """
    took, ends = list[Column](), dict[str, Column]()
    for each in columns:
        unit = each.header if each.header in UNITS_NS else each.unit
        word = time_name(name := split_unit(each.header)[0])
        if word in set(Stage):  # a row has several stages
            return [], {}
        if (end := words.end_of(name)) or (word == words.CLOCK and not _goes_back(each)):
            told = each._replace(values=each.values * UNITS_NS.get(unit or "", 1.0), unit=unit and "ns")
            ends |= {end[1]: told} if end else {"start": ends.get("start", told)}
        elif unit in UNITS_NS or word in ("frame", words.CLOCK):
            took.append(each._replace(unit=unit))
    if len(took) == 1 and "start" in ends and "done" not in ends:
        if (took[0].unit is None) != (ends["start"].unit is None):  # of a clock that is no start
            return took, {}
        lasted = took[0].values * UNITS_NS.get(took[0].unit or "", 1.0)
        ends["done"] = ends["start"]._replace(header="done", values=ends["start"].values + lasted)
    elif not took and {"start", "done"} <= ends.keys():
        took = [Column("", ends["done"].values - ends["start"].values, ends["done"].unit)]
    elif not took and ends:
        took = [ends.popitem()[1]]
        if not are_ends and (np.diff(took[0].values) >= 0).all():
            what = f"{took[0].header!r} tells when each stage starts or ends, and nothing how long it took"
            raise reading.error(what, "write both its start and its end, or how long it took")
    return took, ends


def _frames_of(stage: np.ndarray) -> np.ndarray:
    """The frame of each row of a long table without their numbers."""
    if np.ptp(np.bincount(stage)):  # a frame starts with its first stage
        return np.cumsum(stage == stage[0])
    frames, order = np.empty(len(stage)), np.argsort(stage, kind="stable")  # it is the next row of each stage
    frames[order] = np.arange(len(stage)) - np.searchsorted(stage[order], stage[order])
    return frames


def of_rows(rows: Sequence[Mapping[str, str]], reading: Reading) -> Measured:
    """Rows of cells by the names of their columns, each of which may lack some."""
    names = dict.fromkeys(name for row in rows for name in row)
    return of_arrow(((name, text_array([row.get(name, "") for row in rows])) for name in names), reading)


def _stamps_of(values: Any) -> np.ndarray | None:
    """Times of day, with a date or without, in ns; None for others."""
    from pyarrow import types

    if types.is_timestamp(values.type) or types.is_time(values.type):
        return numbers_of(values)
    return stamps(words.padded(values)) if _is_text(values) else None


def _is_number(kind: Any) -> bool:
    """True for a type of which `numbers_of` makes numbers, be there none."""
    from pyarrow import types

    return any(fits(kind) for fits in (types.is_integer, types.is_floating, types.is_boolean, types.is_null))


def _is_text(values: Any) -> bool:
    return str(values.type) in ("string", "large_string")


def _column_of(values: Any, name: str, reading: Reading) -> Column | None:
    """A column of numbers or of cells such as '7.9 ms'; None for one of text. MeasurementsError for a time that is no
    number.
    """
    from pyarrow import types

    if types.is_duration(values.type):
        return Column(name, numbers_of(values), "ns")
    if _is_number(values.type):
        return Column(name, numbers_of(values), split_unit(name)[1])
    if not _is_text(values):
        return None
    known = not name or _is_known(name)
    try:
        numbers, unit, bad = words.cells(values, decimal_comma=reading.decimal)
    except words.AmbiguousError as error:
        row = next(row for row, cell in enumerate(values.to_pylist()) if cell and error.args[0] in cell)
        what = f"comma in {error.args[0]!r} may be decimal or separate thousands"
        raise reading.error(what, "write decimal points, or numbers without separators", row, name) from None
    except ValueError as error:
        if not known:
            return None
        raise reading.error(str(error), "write one unit, in the name of the column", column=name) from None
    own = split_unit(name)[1]
    if not bad.any():
        return Column(name, numbers, unit or own)
    if not known or (own is None and np.isnan(numbers).all()):
        return None
    row = int(bad.argmax())
    fix = "leave the cell empty where there is no value"
    raise reading.error(f"{str(values[row])[:40]!r} is no number", fix, row, name)


def read_json(text: str, reading: Reading) -> Measured | None:
    """JSON in which names of times are known, whole or an object a line; None for other text, such as that of a log
    whose lines stand in JSON: beside them it names the time of day alone.
    """
    objects, note = objects_of(text)
    rows = [dict(_named(each)) for each in objects]
    if not any(map(names_a_time, dict.fromkeys(name for row in rows for name in row))):
        if len(rows) == 1:
            raise reading.error("no name in it is that of a time", NAMING)
        return None
    reading.notes += [note] * bool(note)
    reading.form, reading.where = "JSON by names", lambda row: f"object {row + 1}"
    return of_rows(rows, reading)


def objects_of(text: str) -> tuple[list[Mapping[str, Any]], str]:
    """The objects of JSON, whole or one a line, and a note where it breaks off; none where it is no JSON of objects."""
    for ending in ("", "]", "]}"):
        with suppress(ValueError, RecursionError):
            whole = text[: text.rfind("}") + 1] + ending if ending else text
            return _objects_in(json.loads(whole)), _BROKEN if ending else ""
    lines = [line for line in text.split("\n") if line.strip()] if text.lstrip()[:1] == "{" else []
    objects: list[Mapping[str, Any]] = []
    with suppress(ValueError, RecursionError):
        for line in lines:
            objects.append(json.loads(line))
    broken = len(objects) == len(lines) - 1 and not text.endswith("\n")
    if not (broken or len(objects) == len(lines)) or not all(isinstance(each, Mapping) for each in objects):
        return [], ""
    return objects, _BROKEN if broken else ""


def _objects_in(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list, of the first list of objects in an object, or of the lists of values that it holds."""
    if isinstance(value, Mapping):
        lists = {name: each for name, each in value.items() if isinstance(each, list) and each}
        lists = {name: lists[name] for name in ("traceEvents",) if name in lists} or lists
        if inner := next((each for each in lists.values() if isinstance(each[0], Mapping)), None):
            return _objects_in(inner)
        lengths = Counter(len(each) for name, each in lists.items() if words.is_named(split_unit(name)[0]))
        if not lengths:
            return [value]
        full = {name: each for name, each in lists.items() if len(each) == lengths.most_common(1)[0][0]}
        return [dict(zip(full, row, strict=True)) for row in zip(*full.values(), strict=True)]
    if isinstance(value, list) and all(isinstance(each, int | float) for each in value):
        return [{"": each} for each in value]
    return value if isinstance(value, list) and all(isinstance(each, Mapping) for each in value) else []


def _named(value: Mapping[str, Any], unit: str = "", deep: int = 0) -> Iterator[tuple[str, str]]:
    """Names and values as text, with `unit`, that of the object they are in, where a name has none of its own."""
    for name, each in value.items():
        own = split_unit(name)[1]
        if isinstance(each, Mapping) and deep < _DEEPEST:
            yield from _named(each, own if own in UNITS_NS else unit, deep + 1)
        elif isinstance(each, str | int | float) or each is None:
            named = f"{name}_{unit}" if unit and own is None and isinstance(each, int | float) else name
            yield named, "" if each is None else str(each).lower() if isinstance(each, bool) else str(each)
