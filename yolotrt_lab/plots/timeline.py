"""A trace, drawn as Nsight Systems draws it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError
from ..types import Source, Span, Stage
from .style import STAGE_COLOURS, figure_of, stamp

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW_NAMES = {
    "range": "NVTX",
    "api": "CUDA calls",
    "upload": "copy in",
    "kernel": "kernels",
    "download": "copy out",
}
_GPU_COLOURS = {"upload": "#D55E00", "kernel": "#009E73", "download": "#CC79A7"}
_API_COLOURS = {"cudaMemcpyAsync": "#D55E00", "cudaStreamSynchronize": "#0072B2", "cudaEventSynchronize": "#0072B2"}
_OTHER_API_COLOUR = "#009E73"


def timeline(ax: Axes, spans: Sequence[Span], source: Source) -> list[Any]:
    """A trace as Nsight draws it: the host's ranges and CUDA calls above, what the GPU did below; us from its begin.

    SettingsError without a span: make the device with `trace=True`.
    """
    if not spans:
        raise SettingsError("a trace without a span", fix="open_device('simulated', trace=True) keeps them")
    rows = [row for row in _ROW_NAMES if any(span.row == row for span in spans)]
    begin_ns, end_ns = min(span.start_ns for span in spans), max(span.end_ns for span in spans)
    bars: list[Any] = []
    for span in spans:
        if span.name == "frame":
            continue
        row, colour = rows.index(span.row), _colour(span)
        left, width = (span.start_ns - begin_ns) / 1e3, (span.end_ns - span.start_ns) / 1e3
        bars += ax.barh(row, width, left=left, height=0.7, color=colour, edgecolor="white")
        if width > 0.1 * (end_ns - begin_ns) / 1e3:
            ink = "white" if colour == STAGE_COLOURS[Stage.SYNCHRONIZE] else "black"
            middle = left + width / 2
            ax.text(middle, row, _short(span), ha="center", va="center", size=7.5, color=ink, clip_on=True)
    ax.set(xlim=(0, (end_ns - begin_ns) / 1e3), xlabel="time [us]")
    ax.set_yticks(range(len(rows)), [_ROW_NAMES[row] for row in rows])
    ax.invert_yaxis()
    stamp(figure_of(ax), source)
    return bars


def _colour(span: Span) -> str:
    if span.row == "range":
        return STAGE_COLOURS.get(Stage(span.name), "#BBBBBB") if span.name in set(Stage) else "#BBBBBB"
    if span.row == "api":
        return _API_COLOURS.get(span.name, _OTHER_API_COLOUR)
    return _GPU_COLOURS[span.row]


def _short(span: Span) -> str:
    return span.name.removeprefix("cuda").removeprefix("Stream")
