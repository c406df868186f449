"""A cause and its cure over the frames, whichever sources they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..recording import Recording
from ..types import Stage
from .style import LINES, TELEMETRY_LABELS, figure_of, stamp

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TITLE_INCHES, _LEGEND_INCHES = 0.28, 0.24
_PARTS = (("cause", "#D55E00"), ("cure", "#0072B2"))


def cause_and_cure(ax: Axes, quantity: Stage | str, *pairs: tuple[Recording, Recording]) -> list[Any]:
    """Draw one quantity of each pair of a cause and its cure, frame by frame after the warm-up.

    The quantity is a stage or 'latency', in milliseconds, or the name of a telemetry column. Causes have one colour and
    cures another; simulated curves are dashed, recorded ones broad and pale. One legend serves the whole figure, whose
    axes are to show the same recordings.
    """
    lines = []
    for recording, (part, colour) in [(each, p) for pair in pairs for each, p in zip(pair, _PARTS, strict=True)]:
        kind = recording.source.kind
        frame, (values, label) = recording.steady.columns["frame"], _values(recording.steady, quantity)
        lines += ax.plot(frame, values, color=colour, label=f"{part}, {kind}", **LINES[kind])
    ax.set(xlabel="frame")
    ax.set_title(label, loc="left", size=10)
    drawn = figure_of(ax)
    stamp(drawn, *(each.source for pair in pairs for each in pair))
    if not drawn.legends:
        _legend(drawn, lines)
    return lines


def _legend(drawn: Figure, lines: list[Any]) -> None:
    """In a row of its own above all axes, below the figure's title if it has one."""
    height = drawn.get_size_inches()[1]
    top = 1 - (_TITLE_INCHES if drawn.get_suptitle() else 0.0) / height
    drawn.legend(
        handles=lines, frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, top), borderaxespad=0, ncols=4
    )
    engine = drawn.get_layout_engine()
    if engine is not None:
        left, bottom, width, tall = engine.get()["rect"]
        engine.set(rect=(left, bottom, width, tall - _LEGEND_INCHES / height))  # type: ignore[call-arg, unused-ignore]


def _values(recording: Recording, quantity: Stage | str) -> tuple[np.ndarray, str]:
    """The quantity of every frame, and what it is called."""
    if quantity in TELEMETRY_LABELS:
        label, unit = TELEMETRY_LABELS[quantity]
        return recording.columns[quantity] / unit, label
    if quantity == "latency":
        return recording.latency_ns / 1e6, "latency [ms]"
    return recording.stage_ns(Stage(quantity)) / 1e6, f"host time in {quantity} [ms]"
