"""The public report's figure: its three calls over frames in plain milliseconds, a frame of each stage as a trace, and
what synchronize waited for.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import SettingsError
from ..packages import load
from ..recording import Recording
from ..types import Source, Stage
from .style import KERNEL_COLOUR, LINES, STAGE_COLOURS, figure_of, legend_above, panels, stamp_panel
from .timelines import KIND_COLOURS, Drawable, Row, draw_rows, name_kinds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
_SHORTEST_STAGE = 1 / 500  # of the axis: narrower than a line


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


def frames_on_one_scale(ax: Axes, traces: Mapping[str, Drawable], frame: int) -> list[Any]:
    """A frame of each trace, one below the other from its own begin: the host's stages, and all that the GPU did.

    >>> from yolotrt_lab import nsight, plots
    >>> pair = {mark: nsight.shipped_trace(f"report-{mark.lower()}") for mark in "BC"}
    >>> len(plots.frames_on_one_scale(plots.figure()[1], pair, 20))
    4
    """
    stretches = {label: _stretch(trace, frame) for label, trace in traces.items()}
    longest = max(end - begin for begin, end in stretches.values())
    rows = [row for label, trace in traces.items() for row in _host_and_gpu(label, trace, *stretches[label], longest)]
    source = next(iter(traces.values())).source
    bars = draw_rows(ax, rows, 0, round(1.02 * longest), None)
    name_kinds(ax, rows, ranges=True)
    stamp_panel(ax, source, "Nsight Systems, which lengthens host times;")
    return bars


def _stretch(trace: Drawable, frame: int) -> tuple[int, int]:
    """When a range named 'frame' begins and ends; they count from 0."""
    bars = (bar for row in trace.rows(depth=99) for bar in zip(row.starts_ns, row.ends_ns, row.kinds, strict=True))
    times = sorted((int(start), int(end)) for start, end, kind in bars if kind == "frame")
    if not 0 <= frame < len(times):
        fix = "choose a frame of the trace"
        raise SettingsError(f"frame must be from 0 to {len(times) - 1}, got {frame}", fix=fix)
    return times[frame]


def _host_and_gpu(label: str, trace: Drawable, begin_ns: int, end_ns: int, longest_ns: int) -> list[Row]:
    """Two rows of a frame that begins at 0: its stages but for the shortest, and the GPU's work on all streams."""
    rows = trace.rows(begin_ns, end_ns)
    stages = [row for row in rows if "NVTX" in row.label and "frame" not in row.kinds]
    gpu = [row for row in rows if not ("NVTX" in row.label or row.label.endswith("CUDA calls"))]
    at_least_ns = longest_ns * _SHORTEST_STAGE
    return [_merged(f"{label} host", stages, begin_ns, at_least_ns), _merged(f"{label} GPU", gpu, begin_ns)]


def _merged(label: str, rows: list[Row], begin_ns: int, at_least_ns: float = 0) -> Row:
    bars = [
        bar
        for row in rows
        for bar in zip(row.kinds, row.starts_ns.tolist(), row.ends_ns.tolist(), row.texts, strict=True)
        if bar[2] - bar[1] >= at_least_ns
    ]
    kinds, starts, ends, texts = (list(each) for each in zip(*bars, strict=True))
    return Row(label, kinds, np.array(starts) - begin_ns, np.array(ends) - begin_ns, texts)


def report_page(
    recording: Recording,
    traces: Mapping[str, Drawable],
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
