"""Lines of text with times in them, as programs print them frame after frame.

The first lines show which numbers are times, of what and in which unit. Each line that recurs becomes one regular
expression, and Arrow runs it over all lines at once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..packages import arrow_array
from . import words
from .columns import EXPORT, NAMING, Column, Reading, measured_of
from .measured import Measured
from .words import NUMBER, UNITS_NS, numbers_of, split_unit, time_name

_OF_A_NAME = re.compile(r"\s*[)\]]?\s*[:=\uff1a]\s*[-+]?[\d.]")  # behind a unit: 'enqueueV3 [us]: 8109'
_PER = r"\s*(?:[0-9]|(?:frame|image|img|iter|iteration|step|it|batch)\b)"  # behind 'ms/': a limit, or what took it
_A_FRAME = re.compile(rf"/{_PER}", re.IGNORECASE)
_LIMIT = rf"(?:\s?/\s?{NUMBER})?"  # '8.2/33.3 ms'
_ITEM = re.compile(
    rf"({NUMBER}){words.DEVIATION}(?:{_LIMIT}\s*[(\[]?\s*({words.TIME_UNITS})(?![A-Za-z0-9_]|/(?!{_PER})))?",
    re.IGNORECASE,
)
_NO_ITEM = re.compile(
    rf"(?:±|\+-|\+/-|[(\[][-+]|\d\s*(?:{words.TIME_UNITS})?\s*/|\d-|\b(?:ETA|remaining)\W*|\bframes in +"
    rf"|(?<![\w.])[\d.]+\s*(?:{words.TIME_UNITS})\s*[:\uff1a])\s*$",
    re.IGNORECASE,
)
"""Before a deviation, a difference as in '8.1 ms (+0.2 ms)', a limit as in '8.1 ms / 33 ms', a count, the end of a
range, what is left, a window as in '583 frames in 5 s', and what follows a time as in '8.1 ms: 3 boxes'."""
_TOLD_AGAIN = re.compile(rf"(?<![\w.])[\d.]+\s*(?:{words.UNIT_OF_TIME})\s*\($", re.IGNORECASE)
"""Before a time in brackets behind another one: '8.1 ms (7.9 ms)' is a time and its average so far."""
_SLASHED = re.compile(
    rf"((?:[^\W\d]\w*\s*[/|]\s*)+[^\W\d]\w*)\s*[:=]?\s*({NUMBER}(?:\s*[/|]\s*{NUMBER})+)\s*({words.TIME_UNITS})(?![A-Za-z0-9_/])",
    re.IGNORECASE,
)
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_\-]*|[\u4e00-\u9fff]+")
_ASKED = re.compile(r"[A-Za-z_\u4e00-\u9fff][^\d\n]{0,12}[:=\uff1a]\s*[\"']?[-+]?$")  # 'infer: ' before a bare number
_LOCATION = re.compile(
    r"[\w)>](?::+|\.\w{1,4}\()[\w<>~]+(?:\(\))?:\d+(?![.\d])|[\w)>][./\\][\w<>~]+:\d+(?=[\])>|:]|\s+[-|]\s)"
)
"""Where in a program a line was logged: 'detector.py:infer:88', 'app.yolo:88 - '."""
_AFTER_BARE = re.compile(r"(?!\s*[A-Za-z]+/s)(?:$|[\s,;|/()\]}\"'])")  # '40 tokens/s' is no rate of frames
_OF_A_RUN = (
    r"\b(?:average|avg|mean|median|min|std|stddev|percentile|p50|p90|p95|p99)\b|平均|最大|最小|中位"
    r"|(?:^|[^\w\s\-]|(?:^|[^n]|[^o]n|[^n]on)[\s\-])max\b"  # not that of non-max suppression; RE2 can't look behind
)
_AVERAGE = re.compile(_OF_A_RUN, re.IGNORECASE)
_SPREAD = re.compile(r"\b(?:min|max|std|stddev|percentile|p(?!50)\d\d)\b|最大|最小", re.IGNORECASE)
_REWRITTEN = (
    (re.compile(r"(?:(?:\b(?:np|numpy)\.)?\b(?:float\d\d|int\d\d|tensor)\()+([-+.\deE]+)[^()]*\)+"), r"\1"),
    (re.compile(r"\b0m(\d+\.\d+)s"), r"\1 s"),
    (re.compile(r"([^\W\d]\s*[:=]?\s*)(?:0 days 00|0):00:(\d\d\.\d+)"), r"\1\2 s"),
)
"""What numbers are wrapped in, and durations: 'np.float64(7.9)' is 7.9, '0m0.0079s' and '0:00:00.0079' 0.0079 s."""
_TELEMETRY = re.compile(
    rf"(?<![\w.])(?:(?!(?:{words.TIME_UNITS})\b)[a-z]+ )?[a-z\u4e00-\u9fff][\w\-]*?\s*[:=\uff1a]?\s*({NUMBER})"
    rf"\s?({words.TELEMETRY_UNITS})(?![\w%]|/(?!\d))",
    re.IGNORECASE,
)
_SAMPLED, _ROUNDS, _MOST_TEMPLATES = 400, 3, 24
_SERIES = 8  # rows from which averages are a series, and a time that only goes up is a clock
_TWICE = 1.8  # times as often as another, from which on a name comes more than once a frame
_COUNTED = re.compile(
    r"(?:\b(?:of|for|at|in)\s+)?(?:\b(?:frame|image|img|batch|iter|iteration|step)s?"
    r"(?:[_ ]?(?:id|idx|index|no|num|number))?[^\w\n]{0,3}|第\s*)\d+\s*帧?"
    r"|\b(?:over\s+)?(?:the\s+)?last\s+\d+(?:\s+(?:frames|images)\b)?",
    re.IGNORECASE,
)
"""The number of a frame, which may stand between a name and its time: 'infer of frame 12 took'."""
_GENERIC = ("time", "cost", "duration", "dur", "elapsed")
"""Names that say of what they are only together with the word in front: 'tracker time'."""
_DIGITS = re.compile(r"(?<![A-Za-z_\d])\d+")  # of numbers, and not those of names such as H2D and enqueueV3
_NUMBERED = re.compile(r"([A-Za-z])_([0-9]+)(\s*[:=])")  # 'infer_12: 8 ms'
_OWN_UNITS = (*UNITS_NS, *words.RATES)
"""Units that a name may hold, as in 'enqueueV3 [us]: 8109' and 'frames per second: 124'."""
_SIGNS = "-+ \t:=\uff1a\"'"  # between a name and its number
_SPACES = re.compile(r"(?:\\?\s)+")
_Event = tuple[int, np.ndarray, int, np.ndarray]
"""A column, the rows it is in, its place in the row, its values."""


class _Item(NamedTuple):
    """A number of a line: its name in the log, its unit ('' for none), and the expression that finds it."""

    label: str
    unit: str
    pattern: str

    @property
    def column(self) -> tuple[str, str]:
        """What tells its column from others: 'FPS' with a rate is none of the times that are called so."""
        kinds = {"rate": words.RATES, "time": UNITS_NS, "bytes": words.BYTES}
        return self.label, next((kind for kind, units in kinds.items() if self.unit in units), self.unit)


def read_log(data: bytes, reading: Reading) -> Measured:
    """One column for each thing that the lines of a text time. Lines of averages are left out where there are others.

    MeasurementsError where no time is found.
    """
    whole = _lines(data)
    if not any(text.strip() and not re.match(words.COMMENT, text) for text in whole[:1_000].to_pylist()):
        raise reading.error("it must have lines that are no comments, got none", "name another file")
    head, below = (whole[:2].to_pylist() * 2)[:2]
    if 1 < len(_AVERAGE.findall(head)) <= len(_ITEM.findall(below)) and not re.search(r"\b\d", head):
        raise reading.error("line 1 names averages of a run, and the lines below it are no frames", EXPORT)
    for averages in (False, True):
        lines, left_out = _looked_through(whole, averages)
        found = _found(lines, averages)
        if max((len(rows) for _, rows, _ in found), default=0) < 3 and (facts := _averages(whole)):
            if not averages and _averages_recur(whole):
                continue
            return Measured("summary", "averages of a run", origin=reading.file, facts=facts, export=EXPORT)
        if any(item.unit or time_name(split_unit(item.label)[0]) for items, *_ in found for item in items):
            reading.notes += ["each row is an average, as the program prints it"] * averages
            if left_out:
                reading.notes.append(f"{left_out:,} line{'s' * (left_out != 1)} of averages left out")
            return _assembled(lines, found, reading)
    what = "line 1 and those after it hold no time that can be read, such as 'infer: 7.9 ms'"
    raise reading.error(what, NAMING + _pattern_for(_sample(whole)))


def _pattern_for(sample: Sequence[str]) -> str:
    """Such a pattern as it could be, for the line that comes most often; '' for JSON, and without words before a
    number.
    """
    alike = Counter(_DIGITS.sub("0", text) for text in sample)
    usual = max(alike, key=alike.__getitem__, default="")
    found = re.search(r"([A-Za-z_\u4e00-\u9fff]{2,20}[^\w\n']{1,3})0(?!.*[A-Za-z_\u4e00-\u9fff]\W{1,3}0)", usual)
    if found is None or usual.lstrip()[:1] in ("{", "["):
        return ""
    before = re.escape(found[1]).replace("\\ ", " ")
    return f", such as --pattern '{before}(?P<infer_ms>[0-9.]+)'"


def _lines(data: bytes) -> Any:
    """The lines of a text as an Arrow array on top of its bytes; each ends with its newline."""
    import pyarrow as pa

    codes, step = np.frombuffer(data, np.uint8), 1 << 24
    ends = [np.flatnonzero(codes[i : i + step] == ord("\n")) + i + 1 for i in range(0, len(codes), step)]
    starts = np.concatenate([[0], *ends, [] if data.endswith(b"\n") else [len(data)]]).astype(np.int64)
    return pa.LargeStringArray.from_buffers(len(starts) - 1, pa.py_buffer(starts), pa.py_buffer(data))


def _found(lines: Any, averages: bool) -> list[tuple[tuple[_Item, ...], np.ndarray, list[Any]]]:
    """The items of each template, the rows that hold them, and their texts: those with most items first, since a line
    of stages names them better than one of its own, then in the order of the lines.
    """
    left, found = np.arange(len(lines)), []
    for _ in range(_ROUNDS):
        rest = lines if len(left) == len(lines) else lines.take(arrow_array(left))
        templates = _templates(_sample(rest), averages)
        for items in templates:
            rows, texts = _matched(rest, items)
            if len(rows):
                found.append((items, left[rows], texts))
                kept = np.ones(len(left), np.bool_)
                kept[rows] = False
                left, rest = left[kept], rest.filter(arrow_array(kept))
        if not templates or len(left) < len(lines) / 20:
            break
    return sorted(found, key=lambda each: (-len(each[0]), int(each[1][0])))


def _averages(lines: Any) -> dict[str, float]:
    """What each line of averages and the like says, in ms."""
    facts = {}
    for text in filter(_AVERAGE.search, _sample(lines)):
        each = next((each for each in _ITEM.finditer(text) if (each[2] or "").lower() in UNITS_NS), None)
        if each and _AVERAGE.search(text[: each.start()]) and re.fullmatch(r"\d+(\.\d+)?", each[1]):
            facts[text[: each.start()].strip(" \t:=(")] = float(each[1]) * UNITS_NS[each[2].lower()] / 1e6
    return facts


def _averages_recur(lines: Any) -> bool:
    """True where a program prints its averages again and again, so that they are a series."""
    alike = Counter(_DIGITS.sub("0", text) for text in _sample(lines) if _AVERAGE.search(text))
    return max(alike.values(), default=0) >= _SERIES


def _looked_through(lines: Any, averages: bool) -> tuple[Any, int]:
    """The lines with plain numbers and without that of a frame in 'infer_12', empty where they are comments or, unless
    asked for, averages; and how many averages there are.
    """
    import pyarrow.compute as pc

    sample, left_out = _sample(lines), 0
    for written, plain in _REWRITTEN:
        if any(map(written.search, sample)):
            lines = pc.replace_substring_regex(lines, written.pattern, plain)
    if len({found[2] for text in sample for found in _NUMBERED.finditer(text)}) >= _SERIES:
        lines = pc.replace_substring_regex(lines, _NUMBERED.pattern, r"\1\3")
    of_a_run = rf"(?i)^[^0-9]*(?:{_OF_A_RUN}).*[0-9]"
    for others in (words.COMMENT, of_a_run)[: 1 if averages else 2]:
        if any(re.search(others, text) for text in sample):
            found = pc.match_substring_regex(lines, others)
            lines = pc.if_else(found, words.text_array([""])[0], lines)
            left_out = pc.sum(found).as_py() if others == of_a_run else 0
    return lines, left_out


def _sample(lines: Any) -> list[str]:
    """Lines with digits from all of the log, most from its start."""
    count = len(lines)
    evenly = np.linspace(0, max(count - 1, 0), min(count, 2 * _SAMPLED))
    places = np.unique(np.concatenate([np.arange(min(_SAMPLED, count)), evenly]).astype(np.int64))
    return [
        text[:2_000].rstrip("\n") for text in lines.take(arrow_array(places)).to_pylist() if any(map(str.isdigit, text))
    ]


# What the numbers of a line are.


def _templates(sample: Sequence[str], averages: bool) -> list[tuple[_Item, ...]]:
    """What recurs in the lines, those with most numbers first, then with most words: 'cost' is found in 'enqueue cost'
    too. Words that vary before a number are left out.
    """
    alike = Counter(_DIGITS.sub("0", text) for text in sample)
    for most in (2, 1, 0):
        counts = Counter[tuple[_Item, ...]]()
        for text, count in alike.items():
            counts[_with_telemetry(text, most, averages)] += count
        del counts[()]
        if sum(count < 3 for count in counts.values()) <= max(4, len(counts) / 2):
            break
    often = dict(counts.most_common(_MOST_TEMPLATES))
    return sorted(often, key=lambda items: (len(items), sum(len(item.pattern) for item in items)), reverse=True)


def _with_telemetry(text: str, most: int, averages: bool) -> tuple[_Item, ...]:
    """The numbers of a line that may be times, and those with a unit of telemetry, such as 'rss=512MB'."""
    blanked, count = _TELEMETRY.subn(lambda found: " " * len(found[0]), text)
    items, placed, at = _items(blanked, most, averages), [], 0
    if not count:
        return items
    for item in items:
        if not (timed := re.search(item.pattern.replace("?P<@>", ""), text[at:])):
            return _items(text, most, averages)
        placed.append((at + timed.start(), item))
        at += timed.end()
    for found in _TELEMETRY.finditer(text):
        named, unit = text[found.start() : found.start(1)], found[2].lower()
        label = named.rstrip(_SIGNS)
        label = words.OF_A_GPU.get(unit, label) if label.lower() == "gpu" else label
        placed.append((found.start(), _Item(label, unit, _literal(named) + _number(unit))))
    return tuple(item for _, item in sorted(placed))


def _items(text: str, most: int, averages: bool) -> tuple[_Item, ...]:
    """The numbers of a line that may be times."""
    if slashed := _SLASHED.search(text):
        return _slashed(slashed)
    found = [each for each in _ITEM.finditer(text) if _is_item(text, each)]
    if not any(each[2] for each in found[:-1]) and all(_named(text, each) for each in found[-1:] if each[2]):
        found = [each for each in _ITEM.finditer(text) if _is_item(text, each) or _is_bare(text, each)]
    found = [each for each in found if each is found[-1] or not _counts(text, each)]
    shown = units = [(each[2] or "").lower() for each in found]
    # a limit in each pattern would take RE2 twice as long
    limits = [_LIMIT * ("/" in each[0].removesuffix(each[2] or "")) for each in found]
    numbers = list(map(_number, units, limits))
    starts, ends = (
        [each.start(1) for each in found],
        [(_A_FRAME.match(text, each.end()) or each).end() for each in found],
    )
    before = [_behind_bar(text[end:start]) for end, start in zip([0, *ends], starts, strict=False)]
    names = [words.ending_name(_WORD.findall(split_unit(each.rstrip(_SIGNS))[0])[-3:]) for each in before]
    has_unit = any(units) or any(split_unit(each.rstrip(_SIGNS))[1] in _OWN_UNITS for each in before)
    if not (has_unit or any(names)) or (not averages and _AVERAGE.search(before[0])):
        return ()
    if units[-1] in UNITS_NS and not any(units[:-1]):  # one unit for the line
        units = [*(units[-1] if name not in (None, words.RATE) else "" for name in names[:-1]), units[-1]]
    behind = [_starting(text[end:start]) for end, start in zip(ends, [*starts[1:], None], strict=True)]
    known = sum(time_name(each) not in (None, words.CLOCK) for each in behind)
    asked = any(each.rstrip().endswith((":", "=", "\uff1a")) for each in before[1:])
    if all(shown) and all(behind) and not asked and known > sum(map(bool, names)):  # '103ms preprocess'
        patterns = [rf"{number}[\s:]*{_literal(name)}" for name, number in zip(behind, numbers, strict=True)]
        items = list(map(_Item, behind, units, patterns))
    else:
        items = [_before(each, unit, number, most) for each, unit, number in zip(before, units, numbers, strict=True)]
    left_out = _SPREAD if averages else _AVERAGE  # of 'mean: 8 ms std: 0.3 ms' the mean is the time
    kept = [item for item, each in zip(items, before, strict=True) if not left_out.search(each)] or items * averages
    said = {time_name(each.label) for each in kept if each.unit in UNITS_NS or time_name(each.label)}
    if len(kept) < len(items) and said <= {words.CLOCK}:
        return ()  # '[12s] n=120 p50=8.2ms': averages, and since when
    return _told_apart(kept)


def _behind_bar(text: str) -> str:
    """The part of 'ETA |total ' that names the number behind it."""
    last = text.rpartition("|")[2]
    return last if _WORD.search(last) else text


def _starting(text: str) -> str:
    """The known name that the first words make, else the first of them; '' where they are not right behind a number."""
    first = _WORD.findall(text)[:3] if re.match(r"(?!\s*\]\s*frame)[\s:)\]]*[^\W\d]", text) else []
    said = (" ".join(first[:count]) for count in (3, 2, 1))
    return next(filter(time_name, said), "".join(first[:1]))


def _literal(text: str) -> str:
    return _SPACES.sub(r"\\s*", re.escape(text))


def _number(unit: str, limit: str = "") -> str:
    behind = rf"{limit}\s*[(\[]?\s*(?i:{re.escape(unit)})(?:[^A-Za-z0-9_/]|/(?i:{_PER})|$)" if unit else ""
    return rf"(?P<@>[-+]?{NUMBER}){words.DEVIATION}{behind}"


def _slashed(found: re.Match[str]) -> tuple[_Item, ...]:
    """The items of 'pre/infer/post: 1.1 / 7.9 / 0.5 ms'; none where names and numbers don't go together."""
    names, count = re.findall(r"[^\s/|]+", found[1]), len(re.findall(NUMBER, found[2]))
    patterns = [_literal(found[1]) + r"\s*[:=]?\s*" + _number(""), *([r"[/|]\s*" + _number("")] * (count - 1))]
    return tuple(map(_Item, names, [found[3].lower()] * count, patterns)) if len(names) == count else ()


def _is_item(text: str, found: re.Match[str]) -> bool:
    """True for a number with a unit, or right behind a name and ':' or '='; not for digits in a word such as H2D."""
    start, unit = found.start(1), (found[2] or "").lower()
    last = text[start - 1 : start]
    if last.isdigit() or last in (".", "_") or _NO_ITEM.search(text[max(0, start - 20) : start]):
        return False
    if unit in UNITS_NS and _TOLD_AGAIN.search(text[max(0, start - 20) : start]) and text[found.end() :][:1] == ")":
        return False
    if last.isalpha() and last.isascii():
        named = (unit == "s" and "." not in found[1].rstrip(".,")) or _OF_A_NAME.match(text, found.end())
        return bool(unit) and not named
    asked = _ASKED.search(text[max(0, start - 40) : start])
    if re.match(r"\s*window\b", text[found.end() :]) or (unit == "s" and re.search(r"\blast +$", text[:start])):
        return False
    located = any(each.end() == found.end(1) for each in _LOCATION.finditer(text))
    return bool(unit or (asked and _AFTER_BARE.match(text, found.end()) and not located))


def _counts(text: str, found: re.Match[str]) -> bool:
    """True for the number of a frame behind the name of a stage: 'infer, frame=12, 8.1 ms'."""
    before = text[: found.end(1)]
    counted = next((each for each in _COUNTED.finditer(before) if each.end() == len(before)), None)
    name = _label(before[: counted.start()], None, 0)[0] if counted and not found[2] else ""
    return name.lower() not in ("", *_GENERIC)


def _is_bare(text: str, found: re.Match[str]) -> bool:
    """True for a number behind a blank and the known name of a time: 'infer 7.9', with one unit at the end or none."""
    blank = text[found.start() - 1 : found.start()].isspace() and text[found.end() : found.end() + 1] != "-"
    return blank and _named(text, found) not in (None, words.RATE, words.CLOCK, "frame")


def _named(text: str, found: re.Match[str]) -> str | None:
    """What the words between a number and the one before it name, if that is known."""
    *others, last = _WORD.findall(_DIGITS.split(text[: found.start()])[-1])[-3:] or [""]
    return words.ending_name([*others, split_unit(last)[0]])


def _before(text: str, unit: str, number: str, most: int) -> _Item:
    """An item whose name stands before it: the words that make a known name, else at most so many."""
    named, own = (text, None) if unit else split_unit(text.rstrip(f"{_SIGNS}("))
    said = text[: text.find(named) + len(named)] if own in words.RATES else text
    label, start = ("elapsed", 0) if text.strip() == "[" else _label(_uncounted(said), own, most)
    tail = text[start:].rstrip("+-") if text[-1:] in "+-" and text[-2:-1] in " :=(" else text[start:]
    pattern = r"[0-9]+".join(map(_literal, _DIGITS.split(tail)))
    if own in _OWN_UNITS:
        return _Item(label, own, pattern + number)
    return _Item(label + (f" [{own}]" if own else ""), unit, pattern + number)


def _uncounted(text: str) -> str:
    """A text before a number with blanks for the number of a frame, where the name of something is left."""
    rest = _COUNTED.sub(lambda found: " " * len(found[0]), text)
    return rest if _label(rest, None, 0)[0].lower() not in ("", *_GENERIC) else text


def _label(text: str, own: str | None, most: int) -> tuple[str, int]:
    """The name that the last words of a text make, and where it starts."""
    spoken = [each for each in _WORD.finditer(text) if each[0].lower() not in {own, *words.LEVELS}]
    if len(spoken) > 1 and spoken[-1][0].lower() in ("mean", "median"):
        spoken.pop()
    if len(spoken) > 1 and spoken[-1][0].lower() in ("in", "after", "at") and words.end_of(spoken[-2][0]):
        if spoken[-1][0].lower() == "at":  # 'frame done at' is when it ends
            spoken.pop()
        elif time_name(spoken[-3:][0][0]):  # 'infer done in' is how long it took
            del spoken[-2:]
    spoken = spoken[-3:]
    names = [(split_unit(each[0])[0] if own else each[0]).removeprefix("平均") for each in spoken]
    known = (skip for skip in range(len(names)) if words.is_named(" ".join(names[skip:])))
    skip = next(known, max(0, len(names) - most))
    if most and 0 < skip < len(names) and " ".join(names[skip:]).lower() in _GENERIC:
        skip -= text[spoken[skip - 1].end() : spoken[skip].start()].isspace()
    start = spoken[skip].start() if skip < len(spoken) else len(text) - len(re.split(r"[\w\s]", text)[-1])
    return " ".join(names[skip:]), start


def _told_apart(items: list[_Item]) -> tuple[_Item, ...]:
    """Names such as CPU and CUDA, which say only where, together with what the line is about."""
    for place, (begun, item) in enumerate(pairwise(items), 1):  # 'infer start=1 ms end=9 ms'
        part, end = words.end_of(begun.label) or ("", "")
        if end == "start" and words.end_of(item.label) == ("frame", "done"):
            items[place] = item._replace(label=f"{part} end")
    where = r"CPU|GPU|CUDA|host|device"
    about = re.sub(rf"\W*({where})$", "", items[0].label) if items else ""
    return tuple(
        item._replace(label=f"{about} {item.label}") if place and about and re.fullmatch(where, item.label) else item
        for place, item in enumerate(items)
    )


def _matched(lines: Any, items: Sequence[_Item]) -> tuple[np.ndarray, list[Any]]:
    """The rows that hold all of the items, and the text of each."""
    import pyarrow as pa
    import pyarrow.compute as pc

    pattern = ".*?".join(item.pattern.replace("(?P<@>", f"(?P<n{place}>") for place, item in enumerate(items))
    valid, parts = [], []
    for part in words.in_slices(lines):
        try:
            found = pc.extract_regex(part, pattern)
        except pa.ArrowInvalid:
            return np.zeros(0, np.int64), []
        valid.append(numbers_of(found.is_valid()))
        parts.append(found.drop_null())
    texts = [pa.chunked_array([pc.struct_field(part, f"n{place}") for part in parts]) for place in range(len(items))]
    return np.flatnonzero(np.concatenate(valid)), texts


# Frames of what was found.


def _assembled(lines: Any, found: Sequence[tuple[Any, np.ndarray, Any]], reading: Reading) -> Measured:
    """The columns of all templates as frames."""
    import pyarrow as pa

    items = [(item, rows, place) for items, rows, _ in found for place, item in enumerate(items)]
    parts = [part for *_, texts in found for text in texts for part in text.chunks]
    try:  # all numbers of a log tell together what its commas are
        values = words.cells(pa.chunked_array(parts))[0]
    except words.AmbiguousError as error:
        what = f"the comma in {error.args[0]!r} may be a decimal comma or separate thousands"
        raise reading.error(what, "write decimal points, or numbers without separators") from None
    units: dict[tuple[str, str], set[str]] = {}
    for item, *_ in items:
        units.setdefault(item.column, set()).add(item.unit)
    names, events = [*units], []
    for (item, rows, place), mine in zip(
        items, np.split(values, np.cumsum([len(rows) for _, rows, _ in items])), strict=False
    ):
        scale = (UNITS_NS | words.BYTES).get(item.unit, 1.0) if len(units[item.column]) > 1 else 1.0
        events.append((names.index(item.column), rows, place, mine if scale == 1 else mine * scale))
    if len(found) == 1:
        starts, series = found[0][1], [(column, float(place), values) for column, _, place, values in events]
    else:
        times = np.array([bool(kind or time_name(split_unit(name)[0])) for name, kind in names])
        starts, series = _cut_into_frames(events, times)
    if not series:
        what = f"line {int(starts[0]) + 1 if len(starts) else 1}: no time comes back frame after frame"
        raise reading.error(what, "give the lines of every frame the same names")
    columns, turns = [], Counter[int]()
    for column, at, mine in series:
        name, own = names[column][0], units[names[column]]
        least = "ns" if len(own & UNITS_NS.keys()) > 1 else "b" if len(own & words.BYTES.keys()) > 1 else min(own)
        unit = least or split_unit(name)[1]
        turns[column] += 1
        columns.append(Column(f"{name} {turns[column]}".strip() if turns[column] > 1 else name, mine, unit, at))
    if seldom := [name for column, (name, _) in enumerate(names) if column not in turns]:
        reading.notes.append(f"without {', '.join(map(repr, seldom[:8]))}, which most frames lack")
    reading.form, reading.where = "log lines with name: value unit", lambda row: f"line {starts[row] + 1}"
    reading.clock = words.stamps(lines if len(starts) == len(lines) else lines.take(arrow_array(starts)))
    return measured_of(columns, reading)


def _cut_into_frames(
    events: Sequence[_Event], times: np.ndarray
) -> tuple[np.ndarray, list[tuple[int, float, np.ndarray]]]:
    """The first line of each frame, and the columns, of a name that comes again in a frame up to four; with each the
    place that it has in a frame.

    A frame starts where the first time that comes once a frame comes again: `times` says which columns are times.
    """
    count = len(times)
    code = np.concatenate([np.full(len(rows), column) for column, rows, *_ in events])
    row, place = (
        np.concatenate(each) for each in zip(*((r, np.full(len(r), p)) for _, r, p, _ in events), strict=True)
    )
    order = np.lexsort((place, row))
    code, row, value = code[order], row[order], np.concatenate([values for *_, values in events])[order]
    frame, first = _frame_numbers(code, row, times)
    starts, keep = row[first], frame >= 0
    place = (np.arange(len(code)) - first[frame])[keep]
    code, frame, value = code[keep], frame[keep], value[keep]
    columns = []
    for column in range(count):
        mine = np.flatnonzero(code == column)
        again = np.arange(len(mine)) - np.searchsorted(frame[mine], frame[mine])  # which time in its frame
        for turn in range(min(int(again.max(initial=0)) + 1, 4)):
            chosen = mine[again == turn]
            if len(chosen) > len(starts) / 2:
                values = np.full(len(starts), np.nan)
                values[frame[chosen]] = value[chosen]
                columns.append((column, float(place[chosen].mean()), values))
    return starts, columns


def _frame_numbers(code: np.ndarray, row: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of the frame of each value, -1 before the first, and the first value of each frame."""
    counts = np.bincount(code, minlength=len(times))
    if (counts * times).max() >= 3:  # what else each line has, such as that of the source, starts no frame
        counts = counts * times
    often = counts >= counts.max() / 2
    once = often & (counts < _TWICE * counts[often].min())
    first = np.flatnonzero(code == code[np.argmax(once[code])])
    ahead = first[0] - int(np.argmax(often[code]))  # in a frame whose first name comes twice
    first = first - min(ahead, round(len(code) / len(first)) - 1)
    place = np.arange(len(code))
    others = np.maximum.accumulate(np.where(np.append(True, times[code][:-1]), place, 0))
    first = np.maximum(others[first], np.searchsorted(row, row[first]))  # with what stands before it in its line
    return np.searchsorted(first, place, side="right") - 1, first
