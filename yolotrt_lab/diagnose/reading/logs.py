"""Lines of text with times in them, as programs print them frame after frame."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ...errors import MeasurementsError
from ...types import Stage
from .columns import NAMING, Column, incomplete, listed
from .names import COPY, FPS, SIZED, UNITS_NS, name_at_end, name_at_start, split_unit
from .numbers import Ambiguous, decimal_comma_of, to_float
from .tables import Line

# Digits that begin no word, so that H2D and enqueueV3 stay names; looked at from behind the first, which is fastest.
_NUMBER = re.compile(r"([0-9](?<![A-Za-z0-9_.].)[0-9,.'_]*+(?:[eE][-+]?[0-9]++)?)")
_UNITS = "|".join(sorted(map(re.escape, UNITS_NS), key=len, reverse=True))
_UNIT = re.compile(rf"\s*[(\[]?({_UNITS}|fps(?!\s*[=:\uff1a]))(?![A-Za-z0-9_/])", re.IGNORECASE)
_AFTER_BARE = re.compile(r"$|[\s,;|)\]}]")
_BEFORE_BARE = re.compile(r"[:=\uff1a\s][-+]?$")
_MINUS = re.compile(r"(^|[\s:=\uff1a(])-$")
_SUMMARIES = ("average", "avg", "mean", "median", "min", "max", "std", "percentile", "p50", "p90", "p95", "p99")
_SUMMARY = re.compile(rf"\b({'|'.join(_SUMMARIES)})\b(?!\W+on[\W\d]+runs)|平均|最大|最小|中位")
_OF_RUNS = re.compile(r"average on \d+ runs", re.IGNORECASE)
_SIZE = re.compile(r"\b\d+x\d{2,5}\b")
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_TYPED = re.compile(r"(?:\b(?:np|numpy)\.)?\b(?:float\d\d|int\d\d|tensor)\(([-+.\deE]+)[^()]*\)")
_WORD = re.compile(r"[^\W\d_][\w-]*")
_UNNAMED = ""


class Time(NamedTuple):
    """One time in a log: what it is of (a `_Slot`'s name), its number, its unit in lower case ('' for none), its line,
    and how the log calls it where that is not known.
    """

    name: str | None
    value: float
    unit: str
    line: int
    label: str = ""


def read_log(lines: Sequence[Line], file: str) -> tuple[list[Column], list[str]]:
    """One column for each thing that the lines time, and notes on what is left out.

    A frame begins where a name comes again. Frames that lack a time which most frames have are left out, and so are
    times that fewer than half of the frames have, lines of averages, and times whose name is not known beside others.
    MeasurementsError where no time is found, or a comma may be decimal or not.
    """
    times, unknown = _named(lines, file)
    frames = list(_frames(_renamed(times)))
    counts = Counter(name for frame in frames for name in frame)
    kept = [name for name, count in counts.items() if count > len(frames) / 2]
    whole = [frame for frame in frames if all(name in frame for name in kept)]
    if not kept or not whole:
        raise MeasurementsError(
            f"{file}: line {times[0].line}: no time comes back frame after frame",
            fix="give the lines of every frame the same names",
        )
    notes = [incomplete(len(frames) - len(whole))] if len(whole) < len(frames) else []
    rare = [name or "times without a name" for name in counts if name not in kept]
    if rare:
        notes.append(f"without {', '.join(rare)}, which most frames lack")
    often = [repr(name) for name, count in unknown.items() if count > len(frames) / 2]
    if often:
        notes.append(f"without {', '.join(often)}, of which no stage is known")
    if any("runs" in line.text and _OF_RUNS.search(line.text) for line in lines):
        notes.append("each value is an average of several runs")
    return [_column(name, [frame[name] for frame in whole], file) for name in kept], notes


def _named(lines: Sequence[Line], file: str) -> tuple[list[Time], Counter[str]]:
    """The times whose name is known, and how often each other one comes; where none is known, the times of lines that
    have one alone, if they are all called the same.
    """
    times = _times(lines, _timed, file)
    if not any(time.unit for time in times):
        bare = _times(lines, _bare, file)
        times = [time for time in bare if time.unit] or bare
    unknown = Counter(time.label or "times without a name" for time in times if not time.name)
    if named := [time for time in times if time.name]:
        return named, unknown
    alone = [time for time in times if time.name is not None]
    things = Counter(time.label.rpartition(" ")[2] for time in alone).most_common(2)
    if alone and (len(things) < 2 or things[1][1] < things[0][1] / 2):
        return alone, Counter()
    if unknown:
        raise MeasurementsError(f"{file}: no stage is known among {listed(list(unknown))}", fix=NAMING)
    after = f" and the {len(lines) - 1} after it hold" if len(lines) > 1 else " holds"
    raise MeasurementsError(
        f"{file}: line {lines[0].number}{after} no time that can be read, such as 'infer: 7.9 ms'", fix=NAMING
    )


class _Slot(NamedTuple):
    """Which number of a line is a time, of what, in which unit ('' for none), and whether a minus stands before it.

    A name that is not known is None, or '' where the line has no other time, with the log's own words in `label`.
    """

    index: int
    name: str | None
    unit: str
    negative: bool
    label: str = ""


def _times(lines: Sequence[Line], plan: Callable[[tuple[str, ...]], list[_Slot]], file: str) -> list[Time]:
    """The times of all lines. `plan` tells from the text between the numbers which of them are times.

    Programs print the same text again and again, so that the plans are kept.
    """
    plans: dict[tuple[str, ...], list[_Slot]] = {}
    found: list[tuple[_Slot, str, int]] = []
    for line in lines:
        pieces = _pieces(line.text)
        texts = tuple(pieces[::2])
        slots = plans.get(texts)
        if slots is None:
            slots = plans[texts] = plan(texts)
        found += [(slot, pieces[2 * slot.index + 1].rstrip(",."), line.number) for slot in slots]
    comma = _decimal_comma([number for _, number, _ in found])
    times = []
    for slot, number, line_number in found:
        try:
            value = _value(number, comma)
        except Ambiguous:
            raise MeasurementsError(
                f"{file}: line {line_number}: the comma in {number!r} may be a decimal comma or separate thousands",
                fix="write decimal points, or numbers without separators",
            ) from None
        if value is not None:
            times.append(Time(slot.name, -value if slot.negative else value, slot.unit, line_number, slot.label))
    return times


def _pieces(text: str) -> list[str]:
    """Texts and numbers of a line in turn, without colours and without the types that NumPy and PyTorch print."""
    if "\x1b" in text:
        text = _ANSI.sub("", text)
    return _NUMBER.split(_TYPED.sub(r"\1", text) if "(" in text else text)


def _decimal_comma(numbers: list[str]) -> bool | None:
    """What commas are in the numbers of a log: as they tell, and where none does no decimal ones beside numbers that
    have none; None where every number could be either.
    """
    told = decimal_comma_of(numbers)
    return False if told is None and any("," not in number or "." in number for number in numbers) else told


def _timed(texts: tuple[str, ...]) -> list[_Slot]:
    """The numbers with a unit, each with the name before or behind it, whichever names more of them.

    None of a line that begins or ends with a word such as 'average', and not the numbers behind one within a line.
    """
    found = [(index, match) for index, text in enumerate(texts[1:]) if (match := _UNIT.match(text))]
    before, behind = [], []
    for place, (index, match) in enumerate(found):
        since = found[place - 1][0] + 1 if place else 0
        until = found[place + 1][0] + 1 if place + 1 < len(found) else len(texts)
        own_unit = found[place - 1][1].end() if place else 0
        before.append(" 0 ".join(texts[since : index + 1])[own_unit:])
        behind.append(" 0 ".join(texts[index + 1 : until])[match.end() :])
    if not found or _sums_up(before[0]) or _sums_up(behind[-1]):
        return []
    names_before, names_behind = list(map(name_at_end, before)), list(map(name_at_start, behind))
    if names_behind.count(None) < names_before.count(None):
        names, labels = names_behind, [_WORD.findall(text)[:2] for text in behind]
    else:
        names, labels = names_before, [_WORD.findall(text)[-2:] for text in before]
    slots = []
    for (index, match), name, label, text in zip(found, names, labels, before, strict=True):
        if _sums_up(text):
            continue
        unit = match[1].lower()
        if unit == FPS:
            name = FPS
        elif name is None and len(found) == 1:
            name = SIZED if _SIZE.search("0".join(texts)) else _UNNAMED
        slots.append(_Slot(index, name, unit, bool(_MINUS.search(texts[index])), "" if name else " ".join(label)))
    return slots


def _bare(texts: tuple[str, ...]) -> list[_Slot]:
    """The numbers right behind a known name, which may bring its unit: 'infer: 7.9', 'infer_ms=7.9'."""
    slots = []
    if _sums_up(" ".join(texts)):
        return slots
    for index, (before, after) in enumerate(pairwise(texts)):
        if _BEFORE_BARE.search(before) and _AFTER_BARE.match(after):
            text, unit = split_unit(before.rstrip("-+ \t:=\uff1a\"'"))
            name = name_at_end(text)
            if name is not None:
                slots.append(_Slot(index, name, unit if unit in UNITS_NS else "", bool(_MINUS.search(before))))
    return slots


def _sums_up(text: str) -> bool:
    """True for a line of averages and the like."""
    return bool(_SUMMARY.search(text.lower()))


def _value(number: str, decimal_comma: bool | None) -> float | None:
    try:
        if not decimal_comma:
            return float(number)  # which is fastest, and fails at a comma
    except ValueError:
        pass
    try:
        return to_float(number, decimal_comma=decimal_comma)
    except Ambiguous:
        raise
    except ValueError:
        return None


def _renamed(times: list[Time]) -> list[Time]:
    """The same with the names that only the whole log tells.

    ultralytics' line with the size of the image counts where no other line times the inference as often; two copies a
    frame are its upload and its download.
    """
    counts = Counter(time.name for time in times)
    if counts[SIZED]:
        drop = SIZED if counts[Stage.INFER] >= counts[SIZED] else str(Stage.INFER)
        times = [time._replace(name=time.name.replace(SIZED, Stage.INFER)) for time in times if time.name != drop]
    others = max((count for name, count in counts.items() if name != COPY), default=0)
    if others and counts[COPY] > 1.5 * others:
        turn = iter(range(counts[COPY]))
        times = [
            time._replace(name=str((Stage.UPLOAD, Stage.DOWNLOAD)[next(turn) % 2])) if time.name == COPY else time
            for time in times
        ]
    return times


def _frames(times: list[Time]) -> Iterator[dict[str, Time]]:
    frame: dict[str, Time] = {}
    for time in times:
        if time.name in frame:
            yield frame
            frame = {}
        frame[time.name] = time
    if frame:
        yield frame


def _column(name: str, times: list[Time], file: str) -> Column:
    """The times of one name in the unit that all of them have, else in nanoseconds."""
    units = {time.unit for time in times}
    if "" in units and len(units) > 1:
        line = next(time.line for time in times if not time.unit)
        raise MeasurementsError(f"{file}: line {line}: {name or 'the time'} has no unit here, and has one elsewhere")
    lines = [time.line for time in times]
    unit = "ns" if len(units) > 1 else units.pop() or None
    values = [time.value * (UNITS_NS[time.unit] if unit == "ns" else 1.0) for time in times]
    return Column(name, np.array(values), unit, lambda row: f"line {lines[row]}")
