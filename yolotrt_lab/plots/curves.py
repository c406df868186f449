"""Curves and bars of recordings, frame by frame or in the median."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..recording import Recording
from ..types import Stage
from .style import LINES, MEMORY_COLOURS, STAGE_COLOURS, figure_of, mark_of, plain_numbers, stamp

if TYPE_CHECKING:
    from matplotlib.axes import Axes
from .style import TELEMETRY_LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
from itertools import product

from ..types import SourceKind


def latency(ax: Axes, recordings: Mapping[str, Recording]) -> list[Any]:
    """Latency of every frame after the warm-up, by label. Simulated curves are dashed, recorded ones broad and pale."""
    return _over_frames(ax, recordings, lambda recording: recording.latency_ns, "latency [ms]")


def stage_over_frames(ax: Axes, stage: Stage, recordings: Mapping[str, Recording]) -> list[Any]:
    """The host's time in one stage, frame by frame, by label; lines as in `latency`."""
    return _over_frames(ax, recordings, lambda recording: recording.stage_ns(stage), f"host time in {stage} [ms]")


def _over_frames(
    ax: Axes, recordings: Mapping[str, Recording], values_ns: Callable[[Recording], np.ndarray], ylabel: str
) -> list[Any]:
    lines = []
    for label, recording in recordings.items():
        colour = MEMORY_COLOURS.get(str(recording.settings.get("input_memory", "")))
        steady = recording.steady
        frame, values_ms = steady.columns["frame"], values_ns(steady) / 1e6
        look = LINES[recording.source.kind] | mark_of(len(frame))
        lines += ax.plot(frame, values_ms, color=colour, label=label, **look)
    ax.set(xlabel="frame", ylabel=ylabel, ylim=(0, None))
    ax.legend(frameon=False)
    stamp(figure_of(ax), *(recording.source for recording in recordings.values()))
    return lines


def stages(ax: Axes, recording: Recording, which: Sequence[Stage] = tuple(Stage)) -> list[Any]:
    """The host's time in each stage, frame by frame, after the warm-up.

    On a logarithmic axis, so that a rare slow frame is seen and does not press the others flat.
    """
    shown = recording.steady
    lines = [
        ax.plot(
            shown.columns["frame"],
            shown.stage_ns(stage) / 1e6,
            LINES[recording.source.kind]["linestyle"],
            color=STAGE_COLOURS[stage],
            linewidth=0.9,
            label=f"{stage}",
            **mark_of(len(shown)),
        )[0]
        for stage in which
    ]
    ax.set(yscale="log", xlabel="frame", ylabel="host time [ms]")
    plain_numbers(ax.yaxis)
    legend = ax.legend(frameon=False, ncols=len(lines), loc="upper left", fontsize=8, columnspacing=1.2, handlelength=1)
    for handle in legend.get_lines():
        handle.set_linewidth(3)
    tallest = max(np.max(line.get_ydata()) for each in _same_scale(ax) for line in each.get_lines())
    lowest = min(each.get_ylim()[0] for each in _same_scale(ax))
    ax.set_ylim(top=tallest * max(2.5, (tallest / lowest) ** 0.25))  # room for the legend
    stamp(figure_of(ax), recording.source)
    return lines


def stage_bars(ax: Axes, recordings: Mapping[str, Recording], *, legend: bool = True) -> list[Any]:
    """Medians of the stages but `wait`, one bar a recording, stacked; their sum stands at its end."""
    chosen = [stage for stage in Stage if stage is not Stage.WAIT]
    left = np.zeros(len(recordings))
    bars = []
    for stage in chosen:
        widths = np.array([np.median(each.steady.stage_ns(stage)) / 1e3 for each in recordings.values()])
        if widths.max() < 1:  # under a microsecond in every recording: no stage of this loop
            continue
        bars.append(ax.barh(list(recordings), widths, left=left, color=STAGE_COLOURS[stage], label=f"{stage}"))
        left += widths
    for row, total in enumerate(left):
        ax.text(total, row, f" {total:,.0f} us", va="center", size=9)
    ax.set(xlabel="host time, medians of the stages [us]", xlim=(0, max(*left, ax.get_xlim()[1] / 1.14) * 1.14))
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    if legend:
        ax.legend(frameon=False, ncols=5, loc="lower right", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    stamp(figure_of(ax), *(recording.source for recording in recordings.values()))
    return bars


def _same_scale(ax: Axes) -> Sequence[Axes]:
    """The axes that share a y-axis with these, and these."""
    return ax.get_shared_y_axes().get_siblings(ax)  # type: ignore[no-any-return, unused-ignore]


# A cause and its cure over the frames, whichever sources they come from.


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


# The copy table: host time over the size of a copy.


def copy_calls(ax: Axes, tables: Mapping[str, Recording], direction: str, call: str, *, backlog_ms: float) -> list[Any]:
    """Host time over the size of the copy, behind one backlog: `call` is 'call_ns' (the copy) or 'sync_ns'.

    `direction` is 'h2d' or 'd2h'. Simulated tables are dashed, with hollow marks.
    """
    lines = []
    for (label, table), memory in product(tables.items(), ("pageable", "pinned")):
        columns = table.columns
        chosen = (columns["direction"] == direction) & (columns["host_memory"] == memory)
        chosen &= columns["backlog_ns"] == round(backlog_ms * 1e6)
        simulated = table.source.kind is SourceKind.SIMULATED
        lines += ax.plot(
            columns["bytes"][chosen] / 1e6,
            columns[call][chosen] / 1e6,
            marker="o",
            color=MEMORY_COLOURS[memory],
            markerfacecolor="white" if simulated else MEMORY_COLOURS[memory],
            label=f"{memory}, {label}",
            **LINES[table.source.kind],
        )
    if backlog_ms:
        ax.axhline(backlog_ms, color="#999999", linewidth=0.8)
        ax.annotate("the backlog", (0.02, backlog_ms), (0, -11), ("axes fraction", "data"), "offset points", size=8)
    what = {"h2d": "upload", "d2h": "download"}[direction]
    title = {"call_ns": f"{what}: the copy call", "sync_ns": f"{what}: synchronize after it"}[call]
    ax.set(xscale="log", yscale="log", xlabel="size of the copy [MB]", ylabel="host time [ms]")
    for axis in (ax.xaxis, ax.yaxis):
        plain_numbers(axis)
    ax.set_title(title, loc="left")
    ax.legend(frameon=False, fontsize=8)
    stamp(figure_of(ax), *(table.source for table in tables.values()))
    return lines
