"""Small tables that a notebook shows as HTML and a terminal as text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

import numpy as np

from .recording import Recording
from .types import Source, Stage

_PROSE = 28  # letters, of a cell whose column wraps its lines as HTML
_IN_NAMES = re.compile(r"(?<=[/_])|(?<=[a-z])(?=[A-Z])")  # where a line may break inside a long name


class Table:
    """Rows of cells under a header, with where the numbers come from below. Numbers are shown as they are given.

    Columns of numbers are aligned to the right, those of words (a cell without a digit in it) to the left. As HTML, a
    column with a cell of more than 28 characters is prose, and its lines wrap.

    >>> print(Table(["us", "upload"], [["pageable", "347.1"], ["pinned", "9.8"]]))
    us        upload
    --------  ------
    pageable   347.1
    pinned       9.8
    """

    def __init__(self, header: Sequence[str], rows: Sequence[Sequence[Any]], *sources: Source) -> None:
        self.header = [str(cell) for cell in header]
        self.rows = [[str(cell) for cell in row] for row in rows]
        self.notes = list(dict.fromkeys(source.stamp for source in sources))

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        aligned = ("<" if left else ">" for left in self._to_the_left())
        line = "  ".join(f"{{:{align}{width}}}" for align, width in zip(aligned, widths, strict=True))
        rule = ["-" * width for width in widths]
        texts = [line.format(*cells).rstrip() for cells in (self.header, rule, *self.rows)]
        return "\n".join([*texts, *self.notes])

    def _repr_html_(self) -> str:
        styles = [
            ' style="text-align: left; white-space: normal"'
            if any(len(row[column]) > _PROSE for row in self.rows)
            else ' style="text-align: left"' * left
            for column, left in enumerate(self._to_the_left())
        ]

        def row(cells: Sequence[str], tag: str) -> str:
            texts = [_IN_NAMES.sub("<wbr>", escape(cell)) for cell in cells]
            shown = zip(styles, texts, strict=True)
            return "<tr>" + "".join(f"<{tag}{style}>{text}</{tag}>" for style, text in shown) + "</tr>"

        notes = "".join(f"<p><small>{escape(note)}</small></p>" for note in self.notes)
        body = "".join(row(cells, "td") for cells in self.rows)
        return f"<table><thead>{row(self.header, 'th')}</thead><tbody>{body}</tbody></table>{notes}"

    def _to_the_left(self) -> list[bool]:
        """For each column whether it holds words; the first one, which names the rows, always does."""
        cells = [(column, cell) for row in self.rows for column, cell in enumerate(row)]
        worded = {column for column, cell in cells if cell and not any(map(str.isdigit, cell))}
        return [column in worded | {0} for column in range(len(self.header))]


def stage_table(recordings: Mapping[str, Recording]) -> Table:
    """Medians of each stage, of the whole frame, and its 99th percentile, in microseconds, one row a recording.

    Left out are `wait`, which is before the frame starts, and stages that take less than 2 us in every recording: that
    is the cost of the ranges around them.

    >>> print(stage_table({"pinned": Recording.shipped("graph-pinned")}))
    us      upload  infer  download  synchronize  frame  frame p99
    ------  ------  -----  --------  -----------  -----  ---------
    pinned     2.6    2.3       2.7        572.2  587.9      605.2
    recorded on NVIDIA H200, driver 580.159.04, 2026-11-29
    """
    steady = {label: recording.steady for label, recording in recordings.items()}
    times = {f"{stage}": [each.stage_ns(stage) for each in steady.values()] for stage in Stage if stage != Stage.WAIT}
    times = {stage: columns for stage, columns in times.items() if max(map(np.median, columns)) > 2_000}
    times["frame"] = [each.columns["done_ns"] - each.columns["start_ns"] for each in steady.values()]
    typical = {name: [float(np.median(values)) for values in columns] for name, columns in times.items()}
    typical["frame p99"] = [float(np.percentile(values, 99)) for values in times["frame"]]
    rows = [[label, *(f"{column[row] / 1e3:,.1f}" for column in typical.values())] for row, label in enumerate(steady)]
    return Table(["us", *typical], rows, *(recording.source for recording in recordings.values()))


def levels_of(recording: Recording, column: str) -> list[tuple[tuple[int, int], Recording]]:
    """A recording's frames after the warm-up by the values of a column and of 'pinned', in the order of the run."""
    columns = recording.steady.columns
    levels = dict.fromkeys(zip(columns[column].tolist(), columns["pinned"].tolist(), strict=True))
    chosen = {(value, pinned): (columns[column] == value) & (columns["pinned"] == pinned) for value, pinned in levels}
    return [
        (level, replace(recording, columns={name: values[mask] for name, values in columns.items()}))
        for level, mask in chosen.items()
    ]


def in_ms(value: float | None) -> str:
    """Milliseconds in a cell: three digits that tell, at most four decimals; '-' for None."""
    if value is None:
        return "-"
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 10 else f"{value:.1f}"
