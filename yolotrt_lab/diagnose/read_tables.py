"""Text in columns: CSV with its separators, Markdown and terminal tables, one number a line, JSON, Parquet and Arrow."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import MeasurementsError
from .measured import Measured
from .names import INSTANTS, RATES, UNITS_NS, split_unit, telemetry_name, time_name
from .numbers import MISSING, NUMBER, Ambiguous, cells, stamps
from .read_columns import Column, measured_of

COMMENTS = ("#", "//", "%", "```")
_SEPARATORS = {"|": "CSV with '|'", ";": "CSV with ';'", "\t": "TSV", ",": "CSV", " ": "columns between blanks"}
_SAMPLE, _MOST_ABOVE, _DEEPEST = 20, 10, 8
_FRAME = re.compile("[\u2502\u2503\u2506\u250a\u2551]")
_RULE = re.compile("[\u2500-\u257f|+=:\\-\\s]*[\u2500-\u257f|=\\-]{3}[\u2500-\u257f|+=:\\-\\s]*|\\[\\d+ rows x \\d+ columns\\]")
_ONE_NUMBER = re.compile(r"[-+]?(\d+,\d+|\d{1,3}(,\d{3})+(\.\d+)?|\d{1,3}(\.\d{3})+,\d+|\d+\.\d+)\s*[^\d\s,]*")
_VALUE = re.compile(rf"[-+]?{NUMBER}\.?\s*([^\d\s].{{0,15}})?")


@dataclass(frozen=True)
class _Table:
    """Where a table starts: the line of its header (or of its first row), its names and what separates the cells."""

    start: int
    header: tuple[str, ...] | None
    separator: str

    @property
    def known(self) -> bool:
        """True where a name says that a column is one of times or telemetry."""
        return self.header is not None and any(map(_is_known, self.header))


def _is_known(name: str) -> bool:
    bare, unit = split_unit(name)
    return bool(unit or time_name(bare) or telemetry_name(bare) or bare.lower() in INSTANTS)


def _is_value(cell: str) -> bool:
    found = _VALUE.fullmatch(cell)
    return cell.lower() in MISSING if found is None else not found[1] or found[1].lower() in (*UNITS_NS, *RATES)


def split(text: str, separator: str) -> list[str]:
    """The cells of a line, without the blanks around them."""
    if separator == " ":
        return text.split()
    if '"' not in text:
        return [cell.strip() for cell in text.split(separator)]
    try:
        return [cell.strip() for cell in next(csv.reader([text], delimiter=separator, skipinitialspace=True))]
    except (csv.Error, StopIteration):
        return [text]


def tidy(line: str) -> str:
    """A line without what frames it in Markdown or a terminal; nothing of a rule, a comment or the size of a table."""
    line = _FRAME.sub("|", line.strip())
    if _RULE.fullmatch(line) or line.startswith(COMMENTS):
        return ""
    return line.strip("|").strip() if line[:1] in ("|", "+") else line


def find_table(lines: Sequence[str]) -> _Table | None:
    """The table that the first lines of a file are, or that starts a few lines below; None where they are none."""
    numbered = [(place, text) for place, line in enumerate(lines) if (text := tidy(line))]
    for above in range(min(_MOST_ABOVE, len(numbered))):
        sample = numbered[above : above + _SAMPLE]
        for separator in (*_SEPARATORS, ""):
            found = _table_at(sample, separator, first=above == 0)
            if found and (above == 0 or found.known):
                return found
    return None


def _table_at(sample: Sequence[tuple[int, str]], separator: str, *, first: bool) -> _Table | None:
    rows = [split(text, separator) if separator else [text] for _, text in sample]
    place, header = sample[0][0], rows[0]
    if separator and len(header) < 2:
        return None
    if first and all(map(_is_value, header)) and not all(cell.lower() in MISSING for cell in header):
        single = separator == "," and all(_ONE_NUMBER.fullmatch(text) for _, text in sample)
        counted = [row[0] for row in rows]
        if not all(len(row) == len(header) and _is_value(row[-1]) for row in rows) or (single and not _counts(counted)):
            return None
        return _Table(place, None, separator)
    below = [row for row in rows[1:] if row != header]
    if separator == " " and below:
        header = _spaced(sample[0][1], below)
    below = [row[: len(header)] if len(row) == len(header) + 1 and row[-1] == "" else row for row in below]
    whole = sum(len(row) == len(header) for row in below)
    if any(_VALUE.fullmatch(cell) for cell in header) or (below and whole < len(below) - 1) or (below and not whole):
        return None
    table = _Table(place, tuple(header), separator)
    loose = separator not in (" ", "") and table.known
    numeric = [(any if loose else all)(map(_is_value, row)) for row in below if len(row) == len(header)]
    if not separator and not table.known:
        return None
    if not below:
        return table if table.known and separator in (";", "\t", ",", "|") and len(sample) == 1 and first else None
    return table if sum(numeric) >= len(numeric) / 2 and (len(header) > 1 or not separator) else None


def _spaced(text: str, rows: Sequence[Sequence[str]]) -> list[str]:
    """The names between blanks: they may hold single ones, such as 'sync [ms]'; pandas leaves out that of an index."""
    names, count = text.split(), len(rows[0])
    if len(names) == count - 1 and _counts([row[0] for row in rows]):
        return ["", *names]
    for by in (r"\s+", r"\s+(?![\[(])", r"\s{2,}|\t+"):
        if len(found := re.split(by, text.strip())) == count:
            return found
    return names


def _counts(cells: Sequence[str]) -> bool:
    return all(each.isdecimal() and len(each) < 19 for each in cells) and [*map(int, cells)] == [
        *range(int(cells[0]), int(cells[0]) + len(cells))
    ]


def read_table(data: bytes, table: _Table, file: str, unit: str | None = None, notes: Sequence[str] = ()) -> Measured:
    """The columns of a table, by pyarrow's reader of CSV, which takes the header's names and passes over comments."""
    width = len(table.header) if table.header else len(split(_line(data, table.start), table.separator or "\0"))
    found, notes = _Rows(data, table, width, file), list(notes)
    above = data.split(b"\n", table.start)[: table.start]
    if any(tidy(line.decode("utf-8", "replace")) for line in above):
        notes.append("without what stands above the table")
    columns, clock, text = [], None, []
    header = table.header or _nameless(found, width, file, table.start)
    for place, name in enumerate(header):
        values = found.columns[place]
        if name is None or (not name and table.header and width > 1):
            continue
        if isinstance(values, np.ndarray):
            columns.append(Column(name, values, split_unit(name)[1], found.where))
        elif clock is None and (clock := stamps(values)) is not None:
            continue
        elif (column := _parsed(values, name, table, found.where, file)) is not None:
            columns.append(column)
        else:
            text.append(name)
    if text:
        notes.append(f"without the text in {', '.join(map(repr, text[:8]))}")
    notes += found.notes
    form = f"{_SEPARATORS.get(table.separator, 'one number a line')}{' by column names' if table.header else ''}"
    return measured_of(columns, form, file, unit, notes, clock)


def _parsed(values: Any, name: str, table: _Table, where: Callable[[int], str], file: str) -> Column | None:
    """A column of cells such as '7.9 ms'; None for one of text. MeasurementsError for a time that is no number."""
    decimal = True if table.separator == ";" else None
    try:
        numbers, unit, bad = cells(values, decimal_comma=decimal)
    except Ambiguous as error:
        what = f"{file}: column {name!r}: the comma in {error.args[0]!r} may be a decimal comma or separate thousands"
        raise MeasurementsError(what, fix="write decimal points, or numbers without separators") from None
    except ValueError as error:
        if name and not _is_known(name):
            return None
        raise MeasurementsError(f"{file}: column {name!r}: {error}", fix="write one unit, in the name of the column") from None
    if not bad.any():
        return Column(name, numbers, unit or split_unit(name)[1], where)
    if not (np.isnan(numbers).all() and split_unit(name)[1] is None) and (not name or _is_known(name)):
        row = int(bad.argmax())
        what = f"{file}: {where(row)}, column {name!r}: {str(values[row])[:40]!r} is no number"
        raise MeasurementsError(what, fix="leave the cell empty where there is no value")
    return None


def _line(data: bytes, number: int) -> str:
    return tidy(data.split(b"\n", number + 1)[number].decode("utf-8", "replace"))


def _nameless(found: _Rows, width: int, file: str, start: int) -> list[str | None]:
    if width == 1:
        return [""]
    first = found.columns[0]
    if width == 2 and isinstance(first, np.ndarray) and (np.diff(first) == 1).all():
        return [None, ""]
    what = f"{file}: line {start + 1} has {width} columns without names"
    raise MeasurementsError(what, fix="put a line above it that names them, such as preprocess_ms,infer_ms,sync_ms")


class _Rows:
    """The columns of a table: float64 where all cells are plain numbers, else Arrow text."""

    def __init__(self, data: bytes, table: _Table, width: int, file: str) -> None:
        self.table, self.file, self.width, self.notes = table, file, width, []
        self.data, self.broken = data, []
        body = _body(data, table)
        if not body.strip():
            what = f"{file}: line {table.start + 1} names columns, and no row follows"
            raise MeasurementsError(what, fix="copy the rows too")
        if table.separator in (" ", "|", ""):
            body = _regular(body, table.separator)
        try:
            self.columns = self._read(body, numeric=True)
        except _not_numeric():
            self.columns = self._read(body, numeric=False)

    def _read(self, body: bytes, *, numeric: bool) -> list[Any]:
        import pyarrow as pa
        from pyarrow import csv as arrow

        names = [str(place) for place in range(self.width)]
        head = [split(line, self._separator) for line in body[:4_096].decode("utf-8", "ignore").split("\n")[:_SAMPLE]]
        plain = {name: numeric and all(_plain(row[int(name)]) for row in head if len(row) == self.width) for name in names}
        self.broken = []
        found = arrow.read_csv(
            pa.py_buffer(body),
            arrow.ReadOptions(column_names=names, block_size=1 << 22),
            arrow.ParseOptions(delimiter=self._separator, invalid_row_handler=self._irregular),
            arrow.ConvertOptions(
                column_types={name: pa.float64() if plain[name] else pa.large_string() for name in names},
                null_values=[*MISSING, *(f" {each}" for each in MISSING)], strings_can_be_null=False,
            ),
        )  # fmt: skip
        self._complain(body)
        columns = [found[name].combine_chunks() for name in names]
        if not len(found):
            raise MeasurementsError(f"{self.file}: no row follows line {self.table.start + 1}", fix="copy the rows too")
        return [
            each.to_numpy(zero_copy_only=False) if plain[name] else each
            for name, each in zip(names, self._without_headers(columns), strict=True)
        ]

    @property
    def _separator(self) -> str:
        return "\t" if self.table.separator in (" ", "|", "") else self.table.separator

    def _irregular(self, row: Any) -> str:
        text = tidy(row.text)
        extra = row.actual_columns == self.width + 1 and row.text.rstrip().endswith(self._separator)
        if text and (self.table.header is None or split(text, self._separator) != list(self.table.header)) and not extra:
            self.broken.append((row.text, row.actual_columns))
        elif extra:
            self.broken.append((row.text, -1))
        return "skip"

    def _complain(self, body: bytes) -> None:
        """MeasurementsError for a row of another width, but for a last one that breaks off."""
        if not self.broken:
            return
        text, count = self.broken[0]
        if len(self.broken) == 1 and not body.endswith(b"\n") and body.endswith(text.encode()) and 0 < count < self.width:
            self.notes.append("without the last line, which breaks off")
            return
        number = self.data[: self.data.find(text.encode())].count(b"\n") + 1
        what = f"{self.file}: line {number} must have {self.width} columns as the lines before it, got {count}"
        raise MeasurementsError(what, fix="write as many cells in each row as in the header")

    def _without_headers(self, columns: list[Any]) -> list[Any]:
        """The columns without rows that repeat the header."""
        import pyarrow as pa
        import pyarrow.compute as pc

        place = next((place for place, each in enumerate(columns) if not pa.types.is_floating(each.type)), None)
        if self.table.header is None or place is None or not self.table.header[place]:
            return columns
        keep = pc.invert(pc.equal(pc.utf8_trim_whitespace(columns[place]), self.table.header[place]))
        keep = pc.fill_null(keep, True)
        return columns if pc.all(keep).as_py() else [each.filter(keep) for each in columns]

    def where(self, row: int) -> str:
        """The line of a row."""
        lines = self.data.decode("utf-8", "replace").split("\n")[self.table.start :]
        header = list(self.table.header or ())
        for number, line in enumerate(lines, self.table.start + 1):
            text = tidy(line)
            if text and split(text, self.table.separator or "\0") != header and text != " ".join(header):
                row -= number > self.table.start + bool(header)
                if row < 0:
                    return f"line {number}"
        return f"line {len(lines)}"


def _not_numeric() -> type[Exception]:
    import pyarrow as pa

    return pa.ArrowInvalid


def _plain(cell: str) -> bool:
    """True for a number that Arrow reads as it is."""
    return cell in MISSING or bool(re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", cell))


def _body(data: bytes, table: _Table) -> bytes:
    """The text below the header."""
    place = 0
    for _ in range(table.start + (table.header is not None)):
        place = data.find(b"\n", place) + 1 or len(data)
    return data[place:] if place else data


def _regular(body: bytes, separator: str) -> bytes:
    """Rows between blanks or in frames, one tab between two cells."""
    lines = (tidy(line) for line in body.decode("utf-8", "replace").split("\n"))
    rows = ("\t".join(split(line, separator)) if separator else line for line in lines if line)
    return "\n".join(rows).encode() + b"\n"


def read_arrow(table: Any, file: str, unit: str | None = None) -> Measured:
    """An Arrow table of another program, by its column names."""
    import pyarrow as pa

    columns, text, clock = [], [], None
    for name in table.column_names:
        values = table[name].combine_chunks()
        if pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_boolean(values.type):
            numbers = values.cast(pa.float64(), safe=False) if not pa.types.is_boolean(values.type) else values.cast(pa.int8())
            columns.append(Column(name, np.array(numbers.to_numpy(zero_copy_only=False), np.float64), split_unit(name)[1]))
        elif pa.types.is_timestamp(values.type) and clock is None:
            clock = np.array(values.cast(pa.timestamp("ns")).cast(pa.int64()).to_numpy(zero_copy_only=False), np.float64)
        elif pa.types.is_duration(values.type):
            whole = values.cast(pa.duration("ns")).cast(pa.int64())
            columns.append(Column(name, np.array(whole.to_numpy(zero_copy_only=False), np.float64), "ns"))
        else:
            text.append(name)
    notes = [f"without the columns {', '.join(map(repr, text[:8]))}, which hold no numbers"] if text else []
    return measured_of(columns, "Parquet or Arrow by column names", file, unit, notes, clock)


def objects_in(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list, of the first list of objects in an object, or of the lists of values that it holds."""
    if isinstance(value, Mapping):
        lists = {name: each for name, each in value.items() if isinstance(each, list) and each}
        for each in lists.values():
            if isinstance(each[0], Mapping):
                return objects_in(each)
        lengths = Counter(len(each) for name, each in lists.items() if time_name(split_unit(name)[0]))
        if not lengths:
            return [value]
        full = {name: each for name, each in lists.items() if len(each) == lengths.most_common(1)[0][0]}
        return [dict(zip(full, row, strict=True)) for row in zip(*full.values(), strict=True)]
    if isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
        return value
    if isinstance(value, list) and all(isinstance(each, int | float) for each in value):
        return [{"": each} for each in value]
    return []


def read_objects(objects: Sequence[Mapping[str, Any]], file: str, unit: str | None, notes: Sequence[str] = ()) -> Measured:
    """JSON objects, one a frame; objects in objects add their names, the unit of 'timings_ms' is that of what it holds."""
    import pyarrow as pa

    rows = [dict(_cells(each)) for each in objects]
    columns, clock, text = [], None, []
    for name in dict.fromkeys(name for row in rows for name in row):
        values = pa.array([row.get(name, "") for row in rows], pa.large_string())
        if clock is None and (clock := stamps(values)) is not None:
            continue
        column = _parsed(values, name, _Table(0, (), "\t"), lambda row: f"object {row + 1}", file)
        columns += [column] if column else []
        text += [] if column else [name]
    notes = [*notes, *([f"without the text in {', '.join(map(repr, text[:8]))}"] if text else [])]
    return measured_of(columns, "JSON by names", file, unit, notes, clock)


def _cells(value: Mapping[str, Any], unit: str = "", deep: int = 0) -> Iterator[tuple[str, str]]:
    """Names and values as text, with `unit`, that of the object, where a name has none of its own."""
    for name, each in value.items():
        own = split_unit(name)[1]
        if isinstance(each, Mapping) and deep < _DEEPEST:
            yield from _cells(each, own if own in UNITS_NS else unit, deep + 1)
        elif isinstance(each, str | int | float) or each is None:
            named = f"{name}_{unit}" if unit and own is None and isinstance(each, int | float) else name
            yield named, "" if each is None else str(each).lower() if isinstance(each, bool) else str(each)


def json_lines(text: str) -> tuple[list[Mapping[str, Any]], list[str]]:
    """One object a line, but for a last line that breaks off; none at all where another line is no object."""
    try:
        json.loads(text[: text.find("\n")])
    except (ValueError, RecursionError):
        return [], []
    objects, lines = [], [line for line in text.split("\n") if line.strip()]
    for line in lines:
        try:
            objects.append(json.loads(line))
        except (ValueError, RecursionError):
            if line is not lines[-1] or text.endswith("\n"):
                return [], []
            return (objects, ["without the last line, which breaks off"]) if objects else ([], [])
    return (objects, []) if all(isinstance(each, Mapping) for each in objects) else ([], [])
