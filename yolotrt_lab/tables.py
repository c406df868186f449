"""Small tables that a notebook shows as HTML and a terminal as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from .nsight.attribution import WAITS, Attribution
from .recording import Recording
from .types import Source, Stage

_PROSE = 28


class Table:
    """Rows of cells under a header, with where the numbers come from below. Numbers are shown as they are given.

    Columns of numbers are aligned to the right, those of words (a cell without a digit in it) to the left. As HTML, a
    column with a cell of more than 28 characters is prose, and its lines wrap.
    """

    def __init__(self, header: Sequence[str], rows: Sequence[Sequence[Any]], *sources: Source) -> None:
        self.header = [str(cell) for cell in header]
        self.rows = [[str(cell) for cell in row] for row in rows]
        self.notes = list(dict.fromkeys(source.stamp for source in sources))

    def __str__(self) -> str:
        lines = [self.header, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.header))]
        aligned = [str.ljust if left else str.rjust for left in self._to_the_left()]
        texts = [
            "  ".join(align(cell, width) for align, cell, width in zip(aligned, line, widths, strict=True)).rstrip()
            for line in lines
        ]
        texts.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([*texts, *self.notes])

    def _repr_html_(self) -> str:
        prose, words = ' style="text-align: left; white-space: normal"', ' style="text-align: left"'
        styles = [
            prose if any(len(cell) > _PROSE for cell in column) else words if left else ""
            for column, left in zip(self._columns(), self._to_the_left(), strict=True)
        ]

        def row(cells: Sequence[str], tag: str) -> str:
            shown = zip(cells, styles, strict=True)
            return "<tr>" + "".join(f"<{tag}{style}>{_breakable(cell)}</{tag}>" for cell, style in shown) + "</tr>"

        notes = "".join(f"<p><small>{escape(note)}</small></p>" for note in self.notes)
        body = "".join(row(cells, "td") for cells in self.rows)
        return f"<table><thead>{row(self.header, 'th')}</thead><tbody>{body}</tbody></table>{notes}"

    def _columns(self) -> list[Sequence[str]]:
        return list(zip(*self.rows, strict=True)) if self.rows else [()] * len(self.header)

    def _to_the_left(self) -> list[bool]:
        """For each column whether it holds words; the first one, which names the rows, always does."""
        worded = [any(cell and not any(map(str.isdigit, cell)) for cell in column) for column in self._columns()]
        return [True, *worded[1:]]


def _breakable(text: str) -> str:
    """As HTML that may break its lines inside long names too."""
    return escape(text).replace("/", "/<wbr>").replace("_", "_<wbr>")


def stage_table(recordings: Mapping[str, Recording]) -> Table:
    """Medians of each stage, of the whole frame, and its 99th percentile, in microseconds, one row a recording.

    Left out are `wait`, which is before the frame is taken up, and stages that take less than 2 us in every recording,
    the cost of looking.
    """
    candidates = [stage for stage in Stage if stage is not Stage.WAIT]
    names = [s for s in candidates if any(np.median(each.steady.stage_ns(s)) > 2_000 for each in recordings.values())]
    rows = []
    for label, recording in recordings.items():
        steady = recording.steady
        frame_ns = steady.columns["done_ns"] - steady.columns["start_ns"]
        times = [np.median(steady.stage_ns(stage)) for stage in names]
        times += [np.median(frame_ns), np.percentile(frame_ns, 99)]
        rows.append([label, *(f"{time / 1e3:,.1f}" for time in times)])
    header = ["us", *names, "frame", "frame p99"]
    return Table(header, rows, *(recording.source for recording in recordings.values()))


def trace_table(traces: Mapping[str, Attribution], *, skip: int = 3) -> Table:
    """Where the time of a traced frame goes: medians over its frames but the first `skip`, in us, one column a trace.

    First the host: the frame and its stages. Then the GPU: copies, how much of them lay under kernels, kernels, and how
    long it was idle in the frame. Then what the synchronize calls waited for. Left out is what takes less than 2 us in
    every trace. Where frames go in batches most of them submit nothing, and means take the place of medians; a note
    says so.
    """
    typical = {label: _typical_us(attribution, skip) for label, attribution in traces.items()}
    names = list(dict.fromkeys(name for each in typical.values() for name in each))
    shown = [name for name in names if any(each.get(name, 0.0) > 2 for each in typical.values())]
    rows = [[name, *(f"{each.get(name, 0.0):,.1f}" for each in typical.values())] for name in shown]
    table = Table(["us", *traces], rows, *(attribution.source for attribution in traces.values()))
    batched = [label for label, attribution in traces.items() if attribution.batched]
    if batched:
        table.notes.append(f"{', '.join(batched)}: means over frames, which go in batches")
    return table


def _typical_us(attribution: Attribution, skip: int) -> dict[str, float]:
    frames = attribution.frames
    times = {"frame": frames["end_ns"] - frames["start_ns"]}
    times |= {f"host: {stage}": frames[f"{stage}_ns"] for stage in attribution.stages}
    for way, code in (("in", "h2d"), ("out", "d2h")):
        times[f"GPU: copies {way}"] = attribution.copied("gpu_ns", code)
        times[f"GPU: copies {way}, under kernels"] = attribution.copied("under_kernels_ns", code)
    times |= {"GPU: kernels": frames["kernels_ns"], "GPU: idle": frames["idle_ns"]}
    times |= {f"synchronize: {wait.replace('_', ' ')}": attribution.waits_ns(wait) for wait in WAITS}
    average = np.mean if attribution.batched else np.median
    return {name: float(average(values[min(skip, len(values) - 1) :])) / 1e3 for name, values in times.items()}
