"""The ladder: which resource bounds each rung, as a roofline, and what runs in each stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import SettingsError
from ..plots.style import STAGE_COLOURS, figure_of, plain_numbers, stamp
from ..types import Source, Span, Stage

if TYPE_CHECKING:
    from matplotlib.axes import Axes


BOUND_COLOURS = {"engine": "#009E73", "upload": "#D55E00", "download": "#CC79A7", "host": "#E69F00"}


def bounds(ax: Axes, rungs: Mapping[str, tuple[float, Mapping[str, float]]]) -> list[Any]:
    """For each rung what a frame takes, and what it asks of each resource, in microseconds, on a logarithmic axis.

    The frame is a mark; no frame can be shorter than the longest of its bars. Returns the bars of each resource.
    """
    names = [name for name in BOUND_COLOURS if any(name in asked for _, asked in rungs.values())]
    height = 0.8 / len(names)
    rows = np.arange(len(rungs))
    drawn = []
    for place, name in enumerate(names):
        widths = [asked.get(name, 0.0) for _, asked in rungs.values()]
        offset = (place - (len(names) - 1) / 2) * height
        drawn.append(ax.barh(rows + offset, widths, height * 0.9, color=BOUND_COLOURS[name], label=name))
    frames = [frame_us for frame_us, _ in rungs.values()]
    ax.vlines(frames, rows - 0.45, rows + 0.45, color="black", linewidth=1.6, label="the frame")
    for row, frame_us in zip(rows, frames, strict=True):
        ax.text(frame_us * 1.06, row, f"{frame_us:,.0f} us", va="center", size=9)
    ax.set(xscale="log", xlabel="asked of each resource, and taken, by a frame [us]", xlim=(1, max(frames) * 2))
    plain_numbers(ax.xaxis)
    ax.set_yticks(rows, list(rungs))
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    ax.legend(frameon=False, ncols=len(names) + 1, loc="lower right", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    return drawn


_STREAM_COLOURS = {"upload": "#D55E00", "kernel": "#009E73", "download": "#CC79A7"}


def streams(ax: Axes, spans: Sequence[Span], source: Source) -> list[Any]:
    """A trace by stream: the stages of the host above, and below what runs in each stream; us from its begin.

    SettingsError without a span on the GPU.
    """
    numbers = sorted({span.stream for span in spans if span.row in _STREAM_COLOURS})
    if not numbers:
        raise SettingsError("a trace without work of the GPU", fix="open_device('simulated', trace=True) keeps it")
    begin_ns, end_ns = min(span.start_ns for span in spans), max(span.end_ns for span in spans)
    bars: list[Any] = []
    names: dict[str, list[str]] = {}
    for span in spans:
        if span.row == "range" and span.name in set(Stage):
            row, name, colour = 0, span.name, STAGE_COLOURS[Stage(span.name)]
        elif span.row in _STREAM_COLOURS:
            row, name, colour = 1 + numbers.index(span.stream), span.row, _STREAM_COLOURS[span.row]
        else:
            continue
        if name not in names.setdefault(colour, []):
            names[colour].append(name)
        left, width = (span.start_ns - begin_ns) / 1e3, (span.end_ns - span.start_ns) / 1e3
        bars += ax.barh(row, width, left=left, height=0.7, color=colour, edgecolor="white", linewidth=0.5)
    for colour, alike in names.items():  # a stage of the host and what the GPU does for it have one colour
        ax.barh(0, 0, color=colour, label=", ".join(alike))
    compact = {"fontsize": 8, "columnspacing": 1.0, "handlelength": 1.2}  # beside a title, in one row
    ax.legend(frameon=False, ncols=len(names), loc="lower right", bbox_to_anchor=(1.0, 1.0), **compact)
    ax.set(xlim=(0, (end_ns - begin_ns) / 1e3), xlabel="time [us]")
    ax.set_yticks(range(1 + len(numbers)), ["host", *(f"stream {place}" for place in range(1, 1 + len(numbers)))])
    ax.invert_yaxis()
    stamp(figure_of(ax), source)
    return bars
