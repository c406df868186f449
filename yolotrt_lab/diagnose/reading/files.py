"""The file itself: what kind it is and how its text is encoded."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ...errors import MeasurementsError, RecordingError
from ...recording import Recording, read_columns
from ..measurements import Measurements
from .columns import Column, measurements_of, unit_in_ns
from .logs import read_log
from .names import split_unit
from .objects import read_objects
from .tables import Line, columns_of, read_table

_PARQUET = (b"PAR1", b"\xff\xff\xff\xff")  # the second starts the Arrow stream of an unfinished recording
_COMMENTS = ("#", "//", "%", "```")
_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_RULE = re.compile(r"[|+][-:=|+ ]*|[-=]{3,}[-= ]*")
_BAR, _LINE = re.compile("[\u2502\u2503\u2506\u250a\u2551]"), re.compile("[\u2500-\u257f]")
"""Vertical lines of a frame that a terminal draws, and all of them."""
_PANDAS_SIZE = re.compile(r"\[\d+ rows x \d+ columns\]")
_LOOKED_AT = 1_000
_LONGEST_COMMENT = 100


def read_measurements(path: str | Path, *, unit: str | None = None) -> Measurements:
    """Measurements from a recording of the lab, a Parquet file or CSV of another program, or a pasted log.

    Text is UTF-8, UTF-16 or GBK: a table with a header whose names are known (`names`), one number a line, JSON, or
    lines such as 'preprocess 1.2 ms, infer 7.9 ms'. `unit` ('ms', 'us', 'ns', 's') is that of times for which the file
    names none. Frames that a column 'warmup' marks are left out, and those that lack a time; `origin` is the file, the
    comment in its first line if there is one, and what was left out.

    Raises MeasurementsError, with the place, for what can't be read; RecordingError for a damaged recording of the lab;
    SettingsError where `unit` is none.
    """
    path = Path(path)
    if unit is not None:
        unit_in_ns(unit)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MeasurementsError(
            f"{path} cannot be read: {error.strerror or error}",
            fix=f"check its name; it was looked for in {Path.cwd()}",
        ) from error
    except ValueError as error:  # a name with a NUL in it
        raise MeasurementsError(f"{str(path)!r} is no name of a file: {error}") from error
    if data.startswith(_PARQUET):
        return _from_parquet(path, unit)
    return read_text(_decoded(data, path.name), path.name, unit=unit)


def read_text(text: str, file: str = "text", *, unit: str | None = None) -> Measurements:
    """The same for text at hand; `file` is what errors call it."""
    texts = re.split(r"\r\n|\r|\n", text)
    numbered = (Line(number, _inside(line), number < len(texts)) for number, line in enumerate(texts, 1))
    lines = [line for line in numbered if line.text and not line.text.startswith(_COMMENTS)]
    if not lines:
        raise MeasurementsError(f"{file}: there is no line in it that is neither blank nor a comment")
    comment = _comment(text)
    table = read_objects(lines)
    if table is None and lines[0].text[:1] not in ("{", "["):
        table = read_table(lines, file)
    if table is not None and not table.rows:
        raise MeasurementsError(f"{file}: line {lines[0].number} names columns, and no row follows")
    if table is not None:
        columns, warmup = columns_of(table, file)
        return measurements_of(columns, file, unit, [*comment, *table.notes], warmup)
    columns, notes = read_log(lines, file)
    return measurements_of(columns, file, unit, [*comment, *notes])


def _comment(text: str) -> list[str]:
    """What a comment in the first line says: there a file tells where its numbers are from."""
    first = text.strip().splitlines()[0].strip()
    bare = first.lstrip("#/% ").strip()
    return [bare[:_LONGEST_COMMENT]] if first.startswith(_COMMENTS) and bare else []


def _inside(line: str) -> str:
    """A line without the blanks and the frame around it; nothing of the rules in a table of Markdown or a terminal, or
    of the size that pandas prints below one.
    """
    line = _LINE.sub("-", _BAR.sub("|", line.strip()))
    if _PANDAS_SIZE.fullmatch(line) or _RULE.fullmatch(line):
        return ""
    return line.strip("|").strip() if line[:1] in ("|", "+") else line


def _decoded(data: bytes, file: str) -> str:
    """The text, by its byte order mark, else as UTF-16 where every other byte is 0, UTF-8 or GBK."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return _decoded_as(data[len(mark) :], encoding, file)
    head = data[:_LOOKED_AT]
    for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if len(head) > 3 and head[start::2].count(0) > 0.4 * len(head) / 2 and not head[1 - start :: 2].count(0):
            return _decoded_as(data, encoding, file)
    if 0 in data:
        raise MeasurementsError(f"{file}: line {_line_of(data, data.index(0))}: a zero byte: it is no text")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return _decoded_as(data, "gb18030", file)


def _decoded_as(data: bytes, encoding: str, file: str) -> str:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        unit = {"gb18030": "UTF-8 nor GBK", "utf-8": "UTF-8"}.get(encoding, "UTF-16")
        neither = "neither " if "nor" in unit else "not "
        raise MeasurementsError(
            f"{file}: line {_line_of(data, error.start)}: byte {error.start} is {neither}{unit}"
        ) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise MeasurementsError(f"{file}: line {line}: a zero character: it is no text")
    return text


def _line_of(data: bytes, position: int) -> int:
    return data[:position].count(b"\n") + 1


def _frames_only(recording: Recording, path: Path) -> Recording:
    if recording.kind != "frames":
        raise MeasurementsError(f"{path} is a recording of {recording.kind}, not of frames")
    return recording


def _from_parquet(path: Path, unit: str | None) -> Measurements:
    """A recording of the lab where the file carries its metadata, else the columns whose names are known."""
    try:
        columns, metadata = read_columns(path)
    except RecordingError as error:
        raise MeasurementsError(error.message, fix=error.fix) from error
    if metadata is not None:
        return Measurements.of(_frames_only(Recording.load(path), path))
    warmup = columns.pop("warmup", None)
    numeric = [
        Column(name, values.astype(np.float64), split_unit(name)[1])
        for name, values in columns.items()
        if values.ndim == 1 and values.dtype.kind in "iufb"
    ]
    marked = warmup.astype(np.bool_) if warmup is not None and warmup.dtype.kind in "iufb" else None
    return measurements_of(numeric, path.name, unit, warmup=marked)
