"""Text in columns: one number a line, CSV with its separators, and what nvidia-smi writes."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ...errors import MeasurementsError
from .columns import Column
from .names import BYTES, UNITS_NS, split_unit, telemetry_name, time_name
from .numbers import Ambiguous, decimal_comma_of, flag, missing, split_cell, to_float

BLANKS = " "
_SEPARATORS = ("|", ";", "\t", ",", BLANKS)
_SAMPLE = 20
_LONGEST_INDEX = 19
_TIMESTAMP = re.compile(r"\d+([-/:.])\d+\1\d+")
_NUMBERING = "number of the frame"


@dataclass(frozen=True, eq=False)
class Line:
    """A line of a file that is neither blank nor a comment, and its number, from 1."""

    number: int
    text: str


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of cells under their header; `separator` is '' where there is one column."""

    header: list[str]
    rows: list[list[str]]
    numbers: list[int]
    separator: str


def read_table(lines: Sequence[Line], file: str) -> Table | None:
    """The table that the lines are, or None where they are no table.

    A table has numbers in its first line, or in its second line as many cells as names in its first. MeasurementsError
    where a later line has another number of cells.
    """
    for separator in (*_SEPARATORS, ""):
        sample = [_cells(line.text, separator) for line in lines[:_SAMPLE]]
        if separator == "," and all(_is_one_number(line.text) for line in lines) and not _numbered(sample):
            continue
        if _is_table(sample, separator, header=False):
            header = [""] * len(sample[0])
            return _checked(Table(header, [], [], separator), lines, file)
        if len(sample) > 1:
            sample[0] = _header_cells(lines[0].text, separator, len(sample[1]))
            if _is_table(sample, separator, header=True):
                return _checked(Table(sample[0], [], [], separator), lines[1:], file)
    return None


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


def _header_cells(text: str, separator: str, count: int) -> list[str]:
    """The names in a header; between blanks, a name may hold single ones, such as 'sync [ms]'."""
    cells = _cells(text, separator)
    if separator == BLANKS and len(cells) != count:
        with_units = re.split(r"\s+(?![\[(])", text.strip())
        return with_units if len(with_units) == count else re.split(r"\s{2,}|\t+", text.strip())
    return cells


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
    enough = any if any(map(_known, sample[0])) else all
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
    if any(len(row) != 2 for row in rows):
        return False
    first = [row[0] for row in rows]
    return all(each.isdecimal() and len(each) < _LONGEST_INDEX for each in first) and all(
        int(b) == int(a) + 1 for a, b in pairwise(first)
    )


def _is_value(cell: str) -> bool:
    """True for a number with a unit of time or none behind it, and for a cell that says that there is none."""
    parts = split_cell(cell)
    return missing(cell) if parts is None else parts[1] == "" or parts[1] in UNITS_NS


def _checked(table: Table, lines: Sequence[Line], file: str) -> Table:
    """The table with its rows: repeated headers left out, MeasurementsError for a row of another width."""
    width, separator = len(table.header), table.separator
    for line in lines:
        cells = _cells(line.text, separator)
        if len(cells) == width + 1 and cells[-1] == "":
            cells.pop()
        if len(cells) != width:
            if _header_cells(line.text, separator, width) == table.header:
                continue
            raise MeasurementsError(
                f"{file}: line {line.number} has {len(cells)} columns, and the lines before it have {width}"
            )
        if cells != table.header:
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
        place = _Place(file, name or f"{index + 1}", table.numbers)
        cells = [row[index] for row in table.rows]
        bare, unit = split_unit(name)
        if name and bare.lower() == "warmup":
            warmup = np.array([_is_true(cell, row, place) for row, cell in enumerate(cells)], np.bool_)
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

    def of(self, row: int) -> str:
        return f"line {self.numbers[row]}"

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
        if not timed and (missing(cell) or flag(cell) is not None):
            values[row] = np.nan if missing(cell) else flag(cell)
        elif missing(cell):
            raise place.error(row, f"there is no number in {cell!r}")
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
