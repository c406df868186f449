"""Curves and bars of recordings: each frame, the median, the size of a copy, and the calls of the public report."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle, pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np

from ..packages import load
from ..recording import Recording
from ..types import Source, SourceKind, Stage
from .style import (
    KERNEL_COLOUR,
    LINES,
    MEMORY_COLOURS,
    STAGE_COLOURS,
    TELEMETRY_LABELS,
    figure_of,
    finish,
    legend_above,
    mark_of,
    panels,
    stamp_panel,
)
from .timelines import KIND_COLOURS, Traced, frames_on_one_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TITLE_INCHES, _LEGEND_INCHES = 0.28, 0.24
_PARTS = (("cause", "#000000"), ("cure", "#999933"))
_WINDING = 12  # so many times its range a curve goes up and down where dashes can no longer be seen in it

CALLS: dict[str, tuple[tuple[Stage, ...], str]] = {
    "copy_from_Mat": ((Stage.PREPROCESS, Stage.UPLOAD), STAGE_COLOURS[Stage.PREPROCESS]),
    "cudaMemcpyAsync": ((Stage.UPLOAD,), STAGE_COLOURS[Stage.UPLOAD]),
    "cudaStreamSynchronize": ((Stage.SYNCHRONIZE,), STAGE_COLOURS[Stage.SYNCHRONIZE]),
}
"""The calls that the public report times: the loop's stages in each, and its colour."""

WAIT_COLOURS = {
    "kernels": KERNEL_COLOUR,
    "copies": KIND_COLOURS["other copy"],
    "other_frames": "#EE8866",
    "other_streams": "#D4B9DA",
    "nothing": "#CCCCCC",
    "wake_up": "#7F7F7F",
}
_WAIT_TEXTS = {"nothing": "nothing of ours on the GPU"}
_SHADE = "#000000"


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


def call_ns(recording: Recording, call: str) -> np.ndarray:
    """The host's time in one of `CALLS` in every frame, int64 of shape (frames,).

    >>> call_ns(Recording.shipped("report"), "copy_from_Mat").shape
    (4750,)
    """
    times: np.ndarray = np.sum([recording.stage_ns(stage) for stage in CALLS[call][0]], axis=0)
    return times


def report_calls(pageable: Axes, pinned: Axes, recording: Recording) -> list[Any]:
    """Draw the calls of the scenario 'report' in ms, frame by frame: pageable input on the left axes, pinned right.

    Each step is labelled with the number of other processes. Shaded are A (alone), B (the last step of the pageable
    loop) and C (the same step, pinned). Returns the lines.

    >>> from yolotrt_lab import plots
    >>> _, (left, right) = plots.figure(1, 2, sharey=True)
    >>> [line.get_label() for line in plots.report_calls(left, right, Recording.shipped("report"))[:3]]
    ['copy_from_Mat', 'cudaMemcpyAsync', 'cudaStreamSynchronize']
    """
    steady = recording.steady
    lines = []
    for ax, is_pinned in ((pageable, False), (pinned, True)):
        shown = np.flatnonzero(steady.columns["pinned"] == is_pinned)
        for call, (_, colour) in CALLS.items():
            look = {**LINES[recording.source.kind], "linewidth": 1.1, "alpha": 1.0, "color": colour, "label": call}
            lines += ax.plot(steady.columns["frame"][shown], call_ns(steady, call)[shown] / 1e6, **look)
        ax.set(xlabel="frame", xlim=(shown[0], shown[-1] + 1))
        ax.set_title("pinned input" if is_pinned else "pageable input; other processes on the GPU:", loc="left")
    tallest = max(float(np.max(line.get_ydata())) for line in lines)
    for ax in (pageable, pinned):
        ax.set_ylim(0, 1.22 * tallest)
    pageable.set_ylabel("host time in the call [ms]")
    pinned.set_xlabel(" ")
    pinned.xaxis.set_major_locator(load("matplotlib.ticker", needed_for="plots").MaxNLocator(3, prune="both"))
    _name_steps({False: pageable, True: pinned}, steady)
    pageable.legend(handles=lines[:3], frameon=False, loc="center left", fontsize=8)
    stamp_panel(pinned, recording.source)
    return lines


def _name_steps(axes: Mapping[bool, Axes], steady: Recording) -> None:
    """The number of other processes above each step; A, B and C shaded."""
    processes, pinned = (steady.columns[name] for name in ("processes", "pinned"))
    begins = np.flatnonzero(np.diff(processes, prepend=-1).astype(bool) | np.diff(pinned, prepend=-1).astype(bool))
    marks = _marks(processes[begins], pinned[begins])
    for place, (begin, end) in enumerate(pairwise([*begins.tolist(), len(processes)])):
        ax = axes[bool(pinned[begin])]
        ax.axvline(begin, color="#BBBBBB", linewidth=0.6)
        across = ax.get_xaxis_transform()
        ax.text((begin + end) / 2, 0.93, f"{processes[begin]}", transform=across, ha="center", size=8)
        if mark := marks.get(place):
            ax.axvspan(begin, end, color=_SHADE, alpha=0.07, linewidth=0)
            ax.text((begin + end) / 2, 0.84, mark, transform=across, ha="center", size=12, weight="bold")


def _marks(processes: np.ndarray, pinned: np.ndarray) -> dict[int, str]:
    """Which step is A, B or C."""
    last = int(np.flatnonzero(pinned == 0)[-1])
    cured = np.flatnonzero((pinned == 1) & (processes == processes[last]))
    return {0: "A", last: "B"} | {int(place): "C" for place in cured[:1]}


def wait_bars(ax: Axes, waits_ms: Mapping[str, Mapping[str, float]], source: Source) -> list[Any]:
    """What synchronize waited for, in ms: one bar for each label, stacked by the kinds of `WAIT_COLOURS`.

    >>> from yolotrt_lab import nsight, plots
    >>> seen = nsight.attribute(nsight.shipped_trace("report-b"))
    >>> waits = {wait: float(np.median(seen.waits_ns(wait))) / 1e6 for wait in nsight.WAITS}
    >>> bars = plots.wait_bars(plots.figure()[1], {"B": waits}, seen.source)
    >>> [each.get_label() for each in bars]
    ['kernels', 'nothing of ours on the GPU']
    """
    left, bars, most = np.zeros(len(waits_ms)), [], max(sum(each.values()) for each in waits_ms.values())
    for wait, colour in WAIT_COLOURS.items():
        widths = np.array([each[wait] for each in waits_ms.values()])
        if widths.max() > most / 200:  # narrower than a line
            label = _WAIT_TEXTS.get(wait, wait.replace("_", " "))
            bars.append(ax.barh(list(waits_ms), widths, left=left, color=colour, label=label))
        left += widths
    for row, total in enumerate(left):
        ax.text(total, row, f" {total:.3g} ms", va="center", size=9)
    ax.set(xlabel="what synchronize waited for [ms], means over frames", xlim=(0, 1.15 * most))
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    legend_above(ax, bars)
    stamp_panel(ax, source)
    return bars


def report_page(
    recording: Recording,
    traces: Mapping[str, Traced],
    waits_ms: Mapping[str, Mapping[str, float]],
    *,
    title: str = "",
) -> Figure:
    """The whole figure: the calls of the scenario 'report', frame 20 of each trace, and what synchronize waited for.

    >>> from yolotrt_lab import nsight, plots
    >>> traces = {mark: nsight.shipped_trace(f"report-{mark.lower()}") for mark in "ABC"}
    >>> seen = {mark: nsight.attribute(trace) for mark, trace in traces.items()}
    >>> waits = {mark: {wait: each.waits_ns(wait)[20] / 1e6 for wait in nsight.WAITS} for mark, each in seen.items()}
    >>> len(plots.report_page(Recording.shipped("report"), traces, waits).axes)
    4
    """
    layout = [["pageable"] * 3 + ["pinned"], ["frames"] * 4, ["waits"] * 4]
    _, axes = panels(layout, height=2.7, title=title, height_ratios=[1.5, 1.0, 0.62])
    axes["pinned"].tick_params(labelleft=False)
    report_calls(axes["pageable"], axes["pinned"], recording)
    frames_on_one_scale(axes["frames"], traces, 20)
    axes["frames"].set_title("one frame of each", loc="left")
    wait_bars(axes["waits"], waits_ms, next(iter(traces.values())).source)
    return figure_of(axes["waits"])
