"""JSON: an object a frame, in lines or in a list, or an object that holds a list of values by name."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .names import UNITS_NS, split_unit, time_name
from .tables import Line, Table

_OWN_LINES, _OWN_PLACES = "line", "object"
_DEEPEST = 8
_TRTEXEC = "startComputeMs"
_ON_GPU = ("h2dMs", "d2hMs")
"""Of what trtexec exports the copies, as the GPU sees them: they hold no host."""


def read_objects(lines: Sequence[Line]) -> Table | None:
    """The table that JSON text is, in which names of times are known, or a list of numbers; None for any other text.

    Objects in objects add their names; the unit of 'timings_ms' is that of the times in it. A last line that breaks off
    is left out.
    """
    if lines[0].text[:1] not in ("{", "["):
        return None
    notes: list[str] = []
    try:
        objects, numbers, place = _objects_in(json.loads("\n".join(line.text for line in lines))), None, _OWN_PLACES
    except (ValueError, RecursionError):
        objects, numbers, place = _objects_of_lines(lines, notes), [line.number for line in lines], _OWN_LINES
    rows = [dict(_cells(each)) for each in objects]
    header = list(dict.fromkeys(name for row in rows for name in row))
    if _TRTEXEC in header:
        header = [name for name in header if name not in _ON_GPU]
    cells = [[row.get(name, "") for name in header] for row in rows]
    table = Table(header, cells, (numbers or [*range(1, len(rows) + 1)])[: len(rows)], "\t", place, notes)
    return table if rows and (table.names_times or header == [""]) else None


def _objects_of_lines(lines: Sequence[Line], notes: list[str]) -> list[Mapping[str, Any]]:
    """One object a line; none at all where a line is no object."""
    objects = []
    for line in lines:
        try:
            objects.append(json.loads(line.text))
        except (ValueError, RecursionError):
            if line is not lines[-1] or line.whole:
                return []
            notes.append(f"without line {line.number}, which breaks off")
    return objects if all(isinstance(each, Mapping) for each in objects) else []


def _objects_in(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list, of the first list of objects in an object, or of the lists of values that it holds."""
    if isinstance(value, Mapping):
        lists = {name: each for name, each in value.items() if isinstance(each, list) and each}
        for each in lists.values():
            if isinstance(each[0], Mapping):
                return _objects_in(each)
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


def _cells(value: Mapping[str, Any], unit: str = "", deep: int = 0) -> Iterator[tuple[str, str]]:
    """Names and values as text, with `unit`, that of the object, where a name has none of its own."""
    for name, each in value.items():
        own = split_unit(name)[1]
        if isinstance(each, Mapping) and deep < _DEEPEST:
            yield from _cells(each, own if own in UNITS_NS else unit, deep + 1)
        elif isinstance(each, str | int | float) or each is None:
            named = f"{name}_{unit}" if unit and own is None and isinstance(each, int | float) else name
            yield named, "" if each is None else str(each).lower() if isinstance(each, bool) else str(each)
