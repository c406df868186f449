"""Text as numbers, whole columns at once: units, decimal commas, thousands, deviations and time stamps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import numpy as np

from .names import BYTES, RATES, UNITS_NS

NUMBER = r"(?:\d(?:[\d,.'_]*\d)?|\.\d+)(?:[eE][-+]?\d+)?"
DEVIATION = rf"(?:\s*(?:±|\+/-|\+-)\s*{NUMBER})?"
MISSING = ["", "-", "--", "n/a", "[n/a]", "na", "nan", "null", "none", "[not supported]", "not supported"]
MISSING += ["[unknown error]", "[gpu is lost]", "NaN", "N/A", "[N/A]", "NA", "None", "NULL", "[Not Supported]"]
_FLAGS = {"active": "1", "not active": "0", "true": "1", "false": "0", "yes": "1", "no": "0"}
_FLOAT = r"^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$"
_SPREAD = rf"(?:\s*(?:±|\+/-|\+-)\s*{NUMBER}\s*[mnuµμ]?s)?"
_CELL = rf"^\s*(?P<n>[-+]?{NUMBER}|[-+]?inf\b|\d+\.){DEVIATION}\s*(?P<u>[^\d\s±+].*?)?{_SPREAD}\s*$"
_TIME = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_STAMPS: dict[str, tuple[str, str] | None] = {
    rf"^\D*(?P<s>\d{{4}}-\d\d-\d\d[ T]{_TIME})": None,
    rf"(?P<s>\d{{4}}-\d\d-\d\d[ T]{_TIME})": None,
    rf"(?P<s>\d{{4}}[-/]?\d\d[-/]?\d\d[ T_]+{_TIME})": (r"^(\d{4})[-/]?(\d\d)[-/]?(\d\d)[ T_]+(.*)$", r"\1-\2-\3 \4"),
    rf"(?P<s>\d\d[-/]\d\d[-/]\d{{4}}[- ]{_TIME})": (r"^(\d\d).(\d\d).(\d{4}).(.*)$", r"\3-\1-\2 \4"),
    rf"(?:^|[^\d:])(?P<s>{_TIME})(?:[^\d:]|$)": ("^", "1970-01-01 "),
}
"""Expressions that find a time stamp, and how to write it as Arrow reads it."""


class Ambiguous(ValueError):
    """A comma that may be a decimal comma or separate thousands; holds the number."""


def text_array(texts: Sequence[str]) -> Any:
    """An Arrow array of text; pyarrow's own way from Python to it imports pandas, where there is one."""
    import pyarrow as pa

    data = [each.encode("utf-8", "replace") for each in texts]
    ends = np.cumsum([0, *map(len, data)], dtype=np.int64)
    return pa.LargeStringArray.from_buffers(len(data), pa.py_buffer(ends), pa.py_buffer(b"".join(data)))


def lines_of(data: bytes) -> Any:
    """The lines of a text as an Arrow array on top of its bytes; each ends with its newline."""
    import pyarrow as pa

    codes, step = np.frombuffer(data, np.uint8), 1 << 24
    ends = [np.flatnonzero(codes[i : i + step] == ord("\n")) + i + 1 for i in range(0, len(codes), step)]
    starts = np.concatenate([[0], *ends, [] if data.endswith(b"\n") else [len(data)]]).astype(np.int64)
    return pa.LargeStringArray.from_buffers(len(starts) - 1, pa.py_buffer(starts), pa.py_buffer(data))


PROGRESS: ContextVar[Callable[[float], None]] = ContextVar("PROGRESS", default=lambda share: None)
"""Is told the share of a long file that is read, from 0 to 1."""


def in_slices(values: Any, rows: int = 1 << 17) -> Iterator[Any]:
    """Parts of an Arrow array, so that what is made of a long one stays small."""
    for first in range(0, max(len(values), 1), rows):
        PROGRESS.get()(first / max(len(values), 1))
        yield values[first : first + rows]


def arrow_of(values: np.ndarray) -> Any:
    """A mask, or whole numbers of 64 bits, as an Arrow array, likewise."""
    import pyarrow as pa

    data = np.packbits(values, bitorder="little") if values.dtype == np.bool_ else values
    kind = pa.bool_() if values.dtype == np.bool_ else pa.int64()
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(data)])


def numbers_of(values: Any) -> np.ndarray:
    """An Arrow array of numbers or a mask, in one or several parts, as float64; NaN where one is missing."""
    import pyarrow as pa

    parts = []
    for part in getattr(values, "chunks", [values]):
        found = part.cast(pa.float64(), safe=False)
        valid, data = found.buffers()
        numbers = np.frombuffer(data, np.float64, len(found), 8 * found.offset) if len(found) else np.empty(0)
        if found.null_count:
            bits = np.unpackbits(np.frombuffer(valid, np.uint8), bitorder="little")
            numbers = np.where(bits[found.offset : found.offset + len(found)], numbers, np.nan)
        parts.append(numbers)
    return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.empty(0)])


def floats(text: Any, *, decimal_comma: bool | None = None) -> np.ndarray:
    """The values of an Arrow array of text, NaN where it is no number.

    `decimal_comma` says what a comma is where no number tells; where it is None, Ambiguous is raised.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not decimal_comma:
        with suppress(pa.ArrowInvalid):  # plain numbers, which is what most are
            return numbers_of(text.cast(pa.float64()))
    text = pc.utf8_rtrim(text, characters=",.'_ ")
    if pc.any(pc.match_substring_regex(text, "[',_]")).as_py():
        text = pc.replace_substring_regex(text, "['_]", "")
        decimal = _decimal(text, decimal_comma)
        if not decimal:
            grouped = pc.match_substring_regex(text, r"^[-+]?\d{1,3}(,\d{3})+(\.\d*)?([eE][-+]?\d+)?$|^[^,]+$")
            text = pc.if_else(grouped, text, None)
        text = pc.replace_substring(text, "." if decimal else ",", "")
        text = pc.replace_substring(text, ",", ".") if decimal else text
    elif decimal_comma or pc.any(pc.match_substring_regex(text, r"\..*\.")).as_py():  # 1.234.567
        grouped = pc.match_substring_regex(text, r"^[-+]?[1-9]\d{0,2}(\.\d{3})+$")
        text = pc.if_else(grouped, pc.replace_substring(text, ".", ""), text)
    number = pc.fill_null(pc.match_substring_regex(text, _FLOAT), False)
    infinite = pc.fill_null(pc.match_substring_regex(text, "^[-+]?inf$", ignore_case=True), False)
    values = np.array(_cast(pc.if_else(number, text, None)), np.float64)
    values[numbers_of(infinite) > 0] = np.inf
    return values


def _cast(text: Any) -> Any:
    import pyarrow as pa

    with suppress(pa.ArrowInvalid):
        return numbers_of(text.cast(pa.float64()))
    return [np.nan if each is None else float(each) for each in text.to_pylist()]  # too large for Arrow


def _decimal(text: Any, told: bool | None) -> bool:
    """True where the commas in the numbers are decimal ones."""
    import pyarrow.compute as pc

    def has(pattern: str) -> bool:
        return bool(pc.any(pc.match_substring_regex(text, pattern)).as_py())

    if has(r",.*\.") or has(r",.*,"):
        return False
    if has(r"\..*,") or has(r"^[-+]?(0|\d{4,}),|,(\d{1,2}|\d{4,})(\D|$)"):
        return True
    if told is None and not has(r"^[^,]+$"):
        raise Ambiguous(next(filter(None, text.to_pylist())))
    return bool(told)


def cells(text: Any, *, decimal_comma: bool | None = None) -> tuple[np.ndarray, str | None, np.ndarray]:
    """The values of cells such as '7.9 ± 0.2 ms', their unit (in ns or bytes where cells differ), and which of them are
    neither a number nor say that there is none. ValueError for units that don't go together.
    """
    import pyarrow.compute as pc

    text = pc.utf8_trim_whitespace(text)
    lower = pc.utf8_lower(text)
    flag = pc.index_in(lower, text_array([*_FLAGS]))
    text = pc.if_else(pc.is_valid(flag), text_array([*_FLAGS.values()]).take(flag), text)
    missing = numbers_of(pc.or_(pc.is_in(lower, text_array(MISSING)), pc.is_null(text))) > 0
    found = pc.extract_regex(text, _CELL)
    values = floats(pc.struct_field(found, "n"), decimal_comma=decimal_comma)
    unit = pc.utf8_lower(pc.struct_field(found, "u"))
    unit = pc.fill_null(pc.if_else(arrow_of(np.isnan(values)), None, unit), "")
    units = pc.unique(pc.filter(unit, arrow_of(~np.isnan(values)))).to_pylist()
    if len(units) > 1:
        scales = next((each for each in (UNITS_NS, BYTES) if all(name in each for name in units)), None)
        if scales is None:
            raise ValueError(f"units must go together, got {', '.join(repr(each[:20]) for each in units[:3])}")
        values = values.copy()
        for name in units:
            values[numbers_of(pc.equal(unit, name)) > 0] *= scales[name]
        units = ["ns" if scales is UNITS_NS else "b"]
    return values, (units or [""])[0] or None, np.isnan(values) & ~missing


def is_unit(text: str | None) -> bool:
    """True for a unit of time or of a rate."""
    return text in UNITS_NS or text in RATES


def stamps(text: Any) -> np.ndarray | None:
    """Time stamps such as '2026-11-25 21:00:01,123' in ns since 1970, or midnight; None where some lack one."""
    import pyarrow as pa

    form = next((form for form in _STAMPS if _all_match(text[: min(len(text), 20)], form)), None)
    if form is None or not len(text):
        return None
    try:
        return np.concatenate([_stamps_in(form, part) for part in in_slices(text)])
    except pa.ArrowInvalid:
        return None


def _stamps_in(form: str, text: Any) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.struct_field(pc.extract_regex(text, form), "s")
    if "," in (found[0].as_py() or ""):
        found = pc.replace_substring(found, ",", ".")
    if (stamp := _STAMPS[form]) is not None:
        pattern, replacement = stamp
        found = pc.replace_substring_regex(found, pattern, replacement)
    return numbers_of(found.cast(pa.timestamp("ns")).cast(pa.int64()))


def _all_match(text: Any, form: str) -> bool:
    import pyarrow.compute as pc

    return bool(pc.all(pc.fill_null(pc.match_substring_regex(text, form), False)).as_py())
