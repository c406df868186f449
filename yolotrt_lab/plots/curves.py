"""Curves and bars of recordings: each frame, the median, or the size of a copy."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle, product
from typing import TYPE_CHECKING, Any

import numpy as np

from ..recording import Recording
from ..types import SourceKind, Stage
from .style import LINES, MEMORY_COLOURS, STAGE_COLOURS, TELEMETRY_LABELS, figure_of, finish, legend_above, mark_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TITLE_INCHES, _LEGEND_INCHES = 0.28, 0.24
_PARTS = (("cause", "#000000"), ("cure", "#999933"))
_WINDING = 12  # so many times its range a curve goes up and down where dashes can no longer be seen in it


def latency(ax: Axes, recordings: Mapping[str, Recording]) -> list[Any]:
    """Latency of every frame after the warm-up, by label. Recorded curves are broad and pale, simulated ones
    dashed where they are smooth enough to show it.

    >>> from yolotrt_lab import Recording, plots
    >>> lines = plots.latency(plots.figure()[1], {"recorded": Recording.shipped("graph-pinned")})
    """
    return _over_frames(ax, recordings, "latency")


def stage_over_frames(ax: Axes, stage: Stage, recordings: Mapping[str, Recording]) -> list[Any]:
    """The host's time in one stage, frame by frame, by label; lines as in `latency`.

    >>> from yolotrt_lab import Recording, Stage, plots
    >>> ax, shown = plots.figure()[1], {"recorded": Recording.shipped("graph-pinned")}
    >>> lines = plots.stage_over_frames(ax, Stage.UPLOAD, shown)
    """
    return _over_frames(ax, recordings, stage)


def _over_frames(ax: Axes, recordings: Mapping[str, Recording], quantity: Stage | str) -> list[Any]:
    lines = []
    for label, recording in recordings.items():
        colour = MEMORY_COLOURS.get(str(recording.settings.get("input_memory", "")))
        lines.append(_curve(ax, recording, quantity, color=colour, label=label))
    finish(ax, recordings.values(), xlabel="frame", ylabel=_name(quantity), ylim=(0, None))
    ax.legend(frameon=False)
    return lines


def stage_bars(ax: Axes, recordings: Mapping[str, Recording], *, legend: bool = True) -> list[Any]:
    """Medians of the stages but `wait`, one bar a recording, stacked; their sum stands at its end.

    >>> from yolotrt_lab import Recording, plots
    >>> bars = plots.stage_bars(plots.figure()[1], {"recorded": Recording.shipped("graph-pinned")})
    >>> [each.get_label() for each in bars]
    ['upload', 'infer', 'download', 'synchronize']
    """
    left = np.zeros(len(recordings))
    bars = []
    for stage in (stage for stage in Stage if stage is not Stage.WAIT):
        widths = np.array([np.median(each.steady.stage_ns(stage)) / 1e3 for each in recordings.values()])
        if widths.max() < 1:  # under a microsecond in every recording: no stage of this loop
            continue
        bars.append(ax.barh(list(recordings), widths, left=left, color=STAGE_COLOURS[stage], label=f"{stage}"))
        left += widths
    for row, total in enumerate(left):
        ax.text(total, row, f" {total:,.0f} us", va="center", size=9)
    reach = max(*left, ax.get_xlim()[1] / 1.14) * 1.14
    finish(ax, recordings.values(), xlabel="host time, medians of the stages [us]", xlim=(0, reach))
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    if legend:
        legend_above(ax, ncols=5)
    return bars


def cause_and_cure(ax: Axes, quantity: Stage | str, *pairs: tuple[Recording, Recording]) -> list[Any]:
    """Draw one quantity of each pair of a cause and its cure, frame by frame after the warm-up.

    The quantity is a stage or 'latency', in milliseconds, or the name of a telemetry column. Causes have one colour and
    cures another; recorded lines are broad and pale. One legend serves the whole figure, whose axes are to show the
    same recordings.

    >>> from yolotrt_lab import Recording, plots
    >>> pair = Recording.shipped("clock-drop"), Recording.shipped("clock-drop-busy")
    >>> lines = plots.cause_and_cure(plots.figure()[1], "sm_clock_mhz", pair)
    """
    recordings = [each for pair in pairs for each in pair]
    lines = [
        _curve(ax, each, quantity, color=colour, linestyle="-", label=f"{part}, {each.source.kind}")
        for each, (part, colour) in zip(recordings, cycle(_PARTS), strict=False)
    ]
    ax.set_title(_name(quantity), loc="left", size=10)
    finish(ax, recordings, xlabel="frame")
    if not figure_of(ax).legends:
        _legend(figure_of(ax), lines)
    return lines


def _legend(drawn: Figure, lines: list[Any]) -> None:
    """In a row of its own above all axes, below the figure's title if it has one."""
    height = drawn.get_size_inches()[1]
    top = 1 - (_TITLE_INCHES if drawn.get_suptitle() else 0.0) / height
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, top), "borderaxespad": 0}
    drawn.legend(handles=lines, frameon=False, fontsize=8, ncols=4, **place)
    engine = drawn.get_layout_engine()
    if engine is not None:
        left, bottom, width, tall = engine.get()["rect"]
        engine.set(rect=(left, bottom, width, tall - _LEGEND_INCHES / height))  # type: ignore[call-arg, unused-ignore]


def _curve(ax: Axes, recording: Recording, quantity: Stage | str, **look: Any) -> Any:
    """The quantity of every frame after the warm-up, in the line style of the recording's source."""
    steady = recording.steady
    if quantity in TELEMETRY_LABELS:
        values = steady.columns[quantity] / TELEMETRY_LABELS[quantity][1]
    else:
        values = (steady.latency_ns if quantity == "latency" else steady.stage_ns(Stage(quantity))) / 1e6
    look = LINES[recording.source.kind] | mark_of(len(steady)) | look
    if np.abs(np.diff(values)).sum() > _WINDING * np.ptp(values):
        look["linestyle"] = "-"
    return ax.plot(steady.columns["frame"], values, **look)[0]


def _name(quantity: Stage | str) -> str:
    """What a quantity is called on axes, with its unit."""
    if quantity in TELEMETRY_LABELS:
        return TELEMETRY_LABELS[quantity][0]
    return "latency [ms]" if quantity == "latency" else f"host time in {quantity} [ms]"


def copy_calls(ax: Axes, tables: Mapping[str, Recording], direction: str, call: str, *, backlog_ms: float) -> list[Any]:
    """Host time over the size of the copy, behind one backlog: `call` is 'call_ns' (the copy) or 'sync_ns'.

    `direction` is 'h2d' or 'd2h'. Simulated tables are dashed, with hollow marks. Both axes are
    logarithmic: sizes and times span three decades.

    >>> from yolotrt_lab import Recording, plots
    >>> tables = {"recorded": Recording.shipped("copies")}
    >>> lines = plots.copy_calls(plots.figure()[1], tables, "h2d", "call_ns", backlog_ms=5)
    """
    lines = []
    for (label, table), memory in product(tables.items(), ("pageable", "pinned")):
        columns = table.columns
        chosen = (columns["direction"] == direction) & (columns["host_memory"] == memory)
        chosen &= columns["backlog_ns"] == round(backlog_ms * 1e6)
        colour = MEMORY_COLOURS[memory]
        fill = "white" if table.source.kind is SourceKind.SIMULATED else colour
        look = {"color": colour, "marker": "o", "markerfacecolor": fill, "label": f"{memory}, {label}"}
        sizes_mb, times_ms = columns["bytes"][chosen] / 1e6, columns[call][chosen] / 1e6
        lines += ax.plot(sizes_mb, times_ms, **LINES[table.source.kind] | look)
    if backlog_ms:
        ax.axhline(backlog_ms, color="#999999", linewidth=0.8)
        ax.annotate("the backlog", (0.02, backlog_ms), (0, -11), ("axes fraction", "data"), "offset points", size=8)
    what = {"h2d": "upload", "d2h": "download"}[direction]
    ax.set_title({"call_ns": f"{what}: the copy call", "sync_ns": f"{what}: synchronize after it"}[call], loc="left")
    logarithmic = {"xscale": "log", "yscale": "log"}
    finish(ax, tables.values(), **logarithmic, xlabel="size of the copy [MB]", ylabel="host time [ms]")
    ax.legend(frameon=False, fontsize=8)
    return lines
