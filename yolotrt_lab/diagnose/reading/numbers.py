"""Numbers as people write them: with units, decimal commas and thousands separators."""

from __future__ import annotations

import re
from collections.abc import Iterable

NUMBER = r"[-+]?(?:\d[\d,.'_]*|\.\d+)(?:[eE][-+]?\d+)?"
_CELL = re.compile(rf"({NUMBER})\s*([^\d\s].*)?")
_MISSING = {"", "-", "--", "n/a", "[n/a]", "na", "nan", "null", "none", "[not supported]", "not supported"}
_MISSING |= {"[unknown error]", "[gpu is lost]"}
_FLAGS = {"active": 1.0, "not active": 0.0, "true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}


class Ambiguous(ValueError):
    """A comma that may be a decimal comma or separate thousands."""


def missing(cell: str) -> bool:
    """True for a cell that says that there is no value."""
    return cell.strip().lower() in _MISSING


def flag(cell: str) -> float | None:
    """1 or 0 for words such as 'Active', None for anything else."""
    return _FLAGS.get(cell.strip().lower())


def split_cell(cell: str) -> tuple[str, str] | None:
    """The number in a cell and the unit behind it in lower case ('' without one), or None where it is no number."""
    match = _CELL.fullmatch(cell.strip())
    return (match[1], (match[2] or "").strip().lower()) if match else None


def to_float(number: str, *, decimal_comma: bool | None = None) -> float:
    """The value of a number, ValueError for none.

    `decimal_comma` says what a comma is where nothing in the number tells: None raises Ambiguous.
    """
    number = number.replace("'", "").replace("_", "")
    if "," not in number:
        thousands = number.count(".") > 1 or (decimal_comma and re.fullmatch(r"[-+]?[1-9]\d{0,2}\.\d{3}", number))
        return _grouped(number, ".") if thousands else float(number)
    if "." in number:
        decimal, other = (",", ".") if number.rfind(",") > number.rfind(".") else (".", ",")
        whole, _, part = number.rpartition(decimal)
        return _grouped(whole, other, part)
    told = comma_is_decimal(number) if decimal_comma is None else decimal_comma
    if told is None:
        raise Ambiguous(number)
    return float(number.replace(",", ".")) if told else _grouped(number, ",")


def _grouped(whole: str, separator: str, part: str = "0") -> float:
    """The value of digits in groups of three and the digits behind the point; ValueError for other groups."""
    if not re.fullmatch(rf"[-+]?\d{{1,3}}(\{separator}\d{{3}})*", whole):
        raise ValueError(whole)
    return float(f"{whole.replace(separator, '')}.{part}")


def comma_is_decimal(number: str) -> bool | None:
    """What a number with commas and no point tells about them; None where it could be either."""
    digits = number.lstrip("+-").split(",")
    if len(digits) > 2:
        return False
    grouped = re.fullmatch(r"\d{3}", digits[-1]) and re.fullmatch(r"[1-9]\d{0,2}", digits[0])
    return None if grouped else True


def decimal_comma_of(numbers: Iterable[str]) -> bool | None:
    """What the commas in a column are, from the first number that tells; None where none does."""
    told = (comma_is_decimal(number) for number in numbers if "," in number and "." not in number)
    return next((each for each in told if each is not None), None)
