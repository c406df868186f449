"""Text in columns: one number a line, CSV with its separators, and what nvidia-smi writes."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from ...errors import MeasurementsError
from .columns import Column
from .names import BYTES, UNITS_NS, split_unit, telemetry_name, time_name
from .numbers import Ambiguous, decimal_comma_of, flag, missing, split_cell, to_float

BLANKS = " "
_SEPARATORS = ("|", ";", "\t", ",", BLANKS)
_SAMPLE = 20
_MOST_ABOVE = 10
_LONGEST_INDEX = 19
_TIMESTAMP = re.compile(r"\d+([-/:.])\d+\1\d+")
_NUMBERING = "number of the frame"


@dataclass(frozen=True, eq=False)
class Line:
    """A line of a file that is neither blank nor a comment, and its number, from 1; `whole` where it has an end."""

    number: int
    text: str
    whole: bool = True


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of cells under their header; `separator` is '' where there is one column.

    `numbers` are those of the rows' lines, or of whatever `place` says. `notes` tell what was left out.
    """

    header: list[str]
    rows: list[list[str]]
    numbers: list[int]
    separator: str
    place: str = "line"
    notes: list[str] = field(default_factory=list)

    @property
    def names_times(self) -> bool:
        """True where a column is one of times by its name."""
        return any(time_name(split_unit(name)[0]) is not None for name in self.header)


def read_table(lines: Sequence[Line], file: str) -> Table | None:
    """The table that the lines are, or None where they are no table.

    A table has numbers in its first line, or in its second line as many cells as names in its first. Lines above one
    whose names are known, such as a title, are left out. MeasurementsError where a later line has another number of
    cells, but for a last one that breaks off.
    """
    if len(lines) == 1:
        headers = (Table(_cells(lines[0].text, separator), [], [], separator) for separator in _SEPARATORS[:-1])
        return next((table for table in headers if table.names_times and len(table.header) > 1), _head(lines))
    table = _head(lines)
    if table is not None and (table.names_times or not any(table.header)):
        return _filled(table, lines[any(table.header) :], file)
    for above in range(1, min(_MOST_ABOVE, len(lines) - 1) + 1):
        below = _head(lines[above : above + _SAMPLE])
        if below is not None and below.names_times and _is_regular(below, lines[above : above + _SAMPLE]):
            below.notes.append("without what stands above the table")
            return _filled(below, lines[above + 1 :], file)
    return None if table is None else _filled(table, lines[1:], file)


def _head(lines: Sequence[Line]) -> Table | None:
    """A table of the right header and separator, as yet without rows; None where the first lines are none."""
    for separator in (*_SEPARATORS, ""):
        sample = [_cells(line.text, separator) for line in lines[:_SAMPLE]]
        if separator == "," and all(_is_one_number(line.text) for line in lines) and not _numbered(sample):
            continue
        if _is_table(sample, separator, header=False):
            return Table([""] * len(sample[0]), [], [], separator)
        if len(sample) > 1:
            sample[0] = _header_cells(lines[0].text, separator, sample[1:])
            if _is_table(sample, separator, header=True):
                return Table(sample[0], [], [], separator)
    return None


def _is_regular(table: Table, lines: Sequence[Line]) -> bool:
    widths = {len(_cells(line.text, table.separator)) for line in lines[1:] if line.whole}
    return widths == {len(table.header)}


def _cells(text: str, separator: str) -> list[str]:
    """The cells of one line, without the blanks around them."""
    if separator == "":
        return [text.strip()]
    if separator == BLANKS:
        return text.split()
    if '"' not in text:
        return [cell.strip() for cell in text.split(separator)]
    try:
        return [cell.strip() for cell in next(csv.reader([text], delimiter=separator, skipinitialspace=True))]
    except (csv.Error, StopIteration):
        return [text]


def _header_cells(text: str, separator: str, rows: list[list[str]]) -> list[str]:
    """The names in a header; between blanks, a name may hold single ones, such as 'sync [ms]', and that of a first
    column which numbers the rows may be missing, as pandas prints it.
    """
    cells, count = _cells(text, separator), len(rows[0])
    if separator != BLANKS or len(cells) == count:
        return cells
    if all(len(row) == len(cells) + 1 for row in rows) and _counts_up([row[0] for row in rows]):
        return ["", *cells]
    with_units = re.split(r"\s+(?![\[(])", text.strip())
    return with_units if len(with_units) == count else re.split(r"\s{2,}|\t+", text.strip())


def _is_table(sample: list[list[str]], separator: str, *, header: bool) -> bool:
    """True where every sampled row has as many cells as the first, and a number among them."""
    rows = sample[header:]
    width = len(sample[0])
    if not rows or (separator and width < 2) or len(rows[0]) != width:
        return False
    if not header:
        return all(map(_is_value, rows[0])) and any(map(split_cell, rows[0]))
    if any(map(split_cell, sample[0])):
        return False
    enough = any if separator != BLANKS and any(map(_known, sample[0])) else all
    numeric = [enough(map(_is_value, row)) for row in rows if row != sample[0]]
    return bool(numeric) and sum(numeric) >= len(numeric) / 2


def _known(name: str) -> bool:
    name, _ = split_unit(name)
    return time_name(name) is not None or telemetry_name(name) is not None or name.lower() in ("due", "start", "done")


def _is_one_number(text: str) -> bool:
    """True for a line such as '1,234.5 ms' or '3,2', which commas do not cut into columns."""
    parts = split_cell(text)
    if parts is None:
        return False
    try:
        to_float(parts[0])
    except Ambiguous:
        return True
    except ValueError:
        return False
    return True


def _numbered(rows: list[list[str]]) -> bool:
    """True for rows of two cells of which the first goes up by one."""
    return all(len(row) == 2 for row in rows) and _counts_up([row[0] for row in rows])


def _counts_up(cells: list[str]) -> bool:
    return all(each.isdecimal() and len(each) < _LONGEST_INDEX for each in cells) and all(
        int(b) == int(a) + 1 for a, b in pairwise(cells)
    )


def _is_value(cell: str) -> bool:
    """True for a number with a unit of time or none behind it, and for a cell that says that there is none."""
    parts = split_cell(cell)
    return missing(cell) if parts is None else parts[1] == "" or parts[1] in UNITS_NS


def _filled(table: Table, lines: Sequence[Line], file: str) -> Table:
    """The table with its rows: repeated headers left out, MeasurementsError for a row of another width."""
    width, separator = len(table.header), table.separator
    for line in lines:
        cells = _cells(line.text, separator)
        if len(cells) == width + 1 and cells[-1] == "":
            cells.pop()
        if cells == table.header or cells == table.header[1:]:
            continue
        if len(cells) != width:
            if line.whole and _header_cells(line.text, separator, [table.header]) == table.header:
                continue
            if not line.whole and len(cells) < width and table.rows:
                table.notes.append(f"without line {line.number}, which breaks off")
                continue
            raise MeasurementsError(
                f"{file}: line {line.number} has {len(cells)} columns, and the lines before it have {width}"
            )
        table.rows.append(cells)
        table.numbers.append(line.number)
    return table


def columns_of(table: Table, file: str) -> tuple[list[Column], np.ndarray | None]:
    """The columns whose names are known, and where there is a column 'warmup' the frames that it marks.

    A table without a header has one column of frames, or a second one that numbers them. MeasurementsError for cells
    that are no numbers.
    """
    header = table.header if any(table.header) else _names_of_nameless(table, file)
    columns, warmup = [], None
    for index, name in enumerate(header):
        place = _Place(file, name or f"{index + 1}", table.numbers, table.place)
        cells = [row[index] for row in table.rows]
        bare, unit = split_unit(name)
        if name and bare.lower() == "warmup":
            warmup = np.array([_is_true(cell, row, place) for row, cell in enumerate(cells)], np.bool_)
        elif name == "" and any(table.header):
            if not _counts_up(cells):
                columns.append(Column(f"column {index + 1}", np.full(len(cells), np.nan), None, place.of))
        elif (_known(name) and not _TIMESTAMP.match(cells[0] if cells else "")) or name == "":
            columns.append(_column(name, unit, cells, table.separator, place))
        elif name != _NUMBERING:
            columns.append(Column(name, np.full(len(cells), np.nan), None, place.of))
    return columns, warmup


@dataclass(frozen=True, eq=False)
class _Place:
    """Where a cell is."""

    file: str
    column: str
    numbers: list[int]
    kind: str

    def of(self, row: int) -> str:
        return f"{self.kind} {self.numbers[row]}"

    def error(self, row: int, why: str) -> MeasurementsError:
        return MeasurementsError(f"{self.file}: {self.of(row)}, column {self.column!r}: {why}")


def _names_of_nameless(table: Table, file: str) -> list[str]:
    width = len(table.header)
    if width == 1:
        return [""]
    if _numbered(table.rows):
        return [_NUMBERING, ""]
    raise MeasurementsError(
        f"{file}: line {table.numbers[0]} has {width} columns without names",
        fix="put a line above it that names them, such as preprocess_ms,infer_ms,synchronize_ms",
    )


def _column(name: str, unit: str | None, cells: list[str], separator: str, place: _Place) -> Column:
    """A column of numbers; a unit behind a number is that of the number, and one in the header that of the others."""
    comma = _decimal_comma(cells, separator)
    alike = _all_alike(cells, decimal_comma=comma)
    if alike is not None:
        return Column(name, alike[0], alike[1] or unit, place.of)
    timed = name == "" or time_name(split_unit(name)[0]) is not None
    values, units = np.empty(len(cells)), [unit or ""] * len(cells)
    for row, cell in enumerate(cells):
        if missing(cell):
            values[row] = np.nan
        elif not timed and (told := flag(cell)) is not None:
            values[row] = told
        else:
            values[row], behind = _number(cell, row, place, comma=comma)
            units[row] = behind or units[row]
    told = [each for each, value in zip(units, values, strict=True) if not np.isnan(value)]
    if len(set(told)) < 2:
        return Column(name, values, (told[0] if told else unit) or None, place.of)
    scales = next((scales for scales in (UNITS_NS, BYTES) if all(each in scales for each in told)), None)
    if scales is None:
        row = next(row for row, each in enumerate(units) if each != told[0] and not np.isnan(values[row]))
        raise place.error(row, f"the unit is {units[row][:20]!r} here and {told[0][:20]!r} above")
    base = next(each for each, scale in scales.items() if scale == 1)
    return Column(name, values * [scales.get(each, 1.0) for each in units], base, place.of)


def _all_alike(cells: list[str], *, decimal_comma: bool | None) -> tuple[np.ndarray, str] | None:
    """The values and the unit of cells that are plain numbers with the same unit or none; None for any others."""
    parts = split_cell(cells[0]) if cells else None
    ending = cells[0][-len(parts[1]) :] if parts and parts[1] else ""
    if ending and not all(cell.endswith(ending) for cell in cells):
        return None
    numbers = [cell.removesuffix(ending) for cell in cells] if ending else cells
    if decimal_comma and not any("." in number for number in numbers):
        numbers = [number.replace(",", ".") for number in numbers]
    try:
        return np.array(list(map(float, numbers)), np.float64), ending.lower()
    except ValueError:
        return None


def _decimal_comma(cells: list[str], separator: str) -> bool | None:
    """Whether commas in a column are decimal: between semicolons always, between commas never, else as they tell."""
    commas = [cell for cell in cells if "," in cell]
    if separator in (";", ","):
        return separator == ";" and bool(commas)
    return decimal_comma_of(map(_bare, commas))


def _is_true(cell: str, row: int, place: _Place) -> bool:
    told = flag(cell)
    return (_number(cell, row, place)[0] if told is None else told) != 0


def _bare(cell: str) -> str:
    parts = split_cell(cell)
    return parts[0] if parts else ""


def _number(cell: str, row: int, place: _Place, *, comma: bool | None = None) -> tuple[float, str]:
    """The value of a cell and the unit behind it; MeasurementsError where it is no number."""
    parts = split_cell(cell)
    if parts is None:
        raise place.error(row, f"{cell[:40]!r} is no number")
    try:
        return to_float(parts[0], decimal_comma=comma), parts[1]
    except Ambiguous:
        raise place.error(row, f"the comma in {parts[0]!r} may be a decimal comma or separate thousands") from None
    except ValueError:
        raise place.error(row, f"{cell[:40]!r} is no number") from None
