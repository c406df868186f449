"""A trace, drawn as Nsight Systems draws it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import SettingsError
from ..nsight import Trace
from ..packages import load
from ..recording import Recording
from ..types import Source, Span
from .lanes import KIND_COLOURS, NVTX_KINDS, Lane, lanes
from .style import figure_of, stamp

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BAR_HEIGHT = 0.76
_INCHES_A_LETTER = 0.066  # of the text in bars
_TEXT_SIZE = 7.5
_MOST_TEXTS = 400
_DARK = {"synchronize", "synchronize call", "kernel", "CUDA graph", "infer"}
_SHORT_NS = 3_000_000  # up to here an axis counts microseconds
_LINK_COLOUR = "#888888"


def timeline(
    ax: Axes,
    trace: Trace | Sequence[Span],
    source: Source | None = None,
    *,
    begin_ns: int | None = None,
    end_ns: int | None = None,
    depth: int = 2,
    legend: bool = False,
) -> list[Any]:
    """Draw a trace from `begin_ns` to `end_ns`, all of it without them, and return one collection of bars a row.

    Above what the host does: its NVTX ranges, those in others in rows below up to `depth` rows, and its CUDA calls; a
    pair of rows for each thread. Below what the GPU does, for each stream: copies in, kernels, copies out. The axis
    counts ms, or us where the stretch is short, from `begin_ns`. Spans of a simulated device (`device.spans`) need
    their `source`. SettingsError where there is nothing to draw.
    """
    trace = _as_trace(trace, source)
    begin = trace.begin_ns if begin_ns is None else begin_ns
    end = trace.end_ns if end_ns is None else end_ns
    bars, kinds = _draw(ax, trace, begin, end, depth)
    if legend:
        _legend(ax, kinds)
    return bars


def timelines(axes: Iterable[Axes], traces: Mapping[str, Trace], frames: tuple[int, int] = (0, 0)) -> list[list[Any]]:
    """Traces one above the other on one scale: in each, the frames from the first to the last, counted from 0.

    Time counts from the begin of the first of these frames, so that what takes longer reaches further to the right.
    """
    stretches = {label: _stretch(trace, frames) for label, trace in traces.items()}
    longest = max(end - begin for begin, end in stretches.values())
    unit_ns, _ = _unit(longest)
    axes = list(axes)
    drawn, used = [], set[str]()
    for ax, (label, trace) in zip(axes, traces.items(), strict=True):
        begin, end = stretches[label]
        bars, kinds = _draw(ax, trace, begin, begin + round(1.02 * longest), 2)
        ax.axvline((end - begin) / unit_ns, color="black", linewidth=1)
        ax.set_title(label, loc="left")
        ax.label_outer()
        drawn.append(bars)
        used |= kinds
    _legend(axes[0], used)
    return drawn


def linked(
    curve: Axes, below: Axes, recording: Recording, trace: Trace, frames: tuple[int, int], **keywords: Any
) -> list[Any]:
    """Mark frames on axes that show `recording` frame by frame, draw their trace below, and link the two.

    `frames` are the first and the last as `recording` numbers them; its rows are the last frames of the trace.
    """
    numbers = recording.columns["frame"]
    if not numbers[0] <= frames[0] <= frames[1] <= numbers[-1]:
        raise SettingsError(f"no frames {frames[0]} to {frames[1]}", fix=f"choose from {numbers[0]} to {numbers[-1]}")
    starts, _ = _frame_times(trace)
    skipped = len(starts) - len(recording)
    if skipped < 0:
        raise SettingsError(
            f"the trace holds {len(starts)} frames, the recording {len(recording)}", fix="pair those of one run"
        )
    first, last = (int(np.flatnonzero(numbers == frame)[0]) + skipped for frame in frames)
    begin, end = _stretch(trace, (first, last))
    bars = timeline(below, trace, begin_ns=begin, end_ns=end, **keywords)
    left, right = frames[0] - 0.5, frames[1] + 0.5
    curve.axvspan(left, right, color=_LINK_COLOUR, alpha=0.25, linewidth=0)
    patch = load("matplotlib.patches", needed_for="plots").ConnectionPatch
    for x_curve, x_trace in ((left, 0.0), (right, 1.0)):
        figure_of(curve).add_artist(
            patch(
                xyA=(x_curve, 0),
                coordsA=curve.get_xaxis_transform(),
                xyB=(x_trace, 1),
                coordsB=below.transAxes,
                color=_LINK_COLOUR,
                linewidth=0.8,
                zorder=-1,  # behind the axes and what they write around them
            )
        )
    return bars


def _draw(ax: Axes, trace: Trace, begin: int, end: int, depth: int) -> tuple[list[Any], set[str]]:
    """The bars of a stretch, one collection a row, and the kinds that they are of."""
    rows = lanes(trace.between(begin, end), depth)
    if not rows or end <= begin:
        raise SettingsError(
            "a trace without anything in that stretch",
            fix="choose a stretch between trace.begin_ns and trace.end_ns; the simulated device keeps spans with "
            "open_device('simulated', trace=True)",
        )
    unit_ns, unit = _unit(end - begin)
    ax.set(xlim=(0, (end - begin) / unit_ns), ylim=(len(rows) - 0.5, -0.5), xlabel=f"time [{unit}]")
    ax.set_yticks(range(len(rows)), _labels(rows))
    bars = [ax.add_collection(_bars(lane, row, begin, unit_ns), autolim=False) for row, lane in enumerate(rows)]
    _write_names(ax, rows, begin, end, unit_ns)
    stamp(figure_of(ax), trace.source)
    return bars, {kind for lane in rows for kind in lane.kinds}


def _unit(length_ns: int) -> tuple[float, str]:
    return (1e3, "us") if length_ns <= _SHORT_NS else (1e6, "ms")


def _as_trace(trace: Trace | Sequence[Span], source: Source | None) -> Trace:
    if isinstance(trace, Trace):
        return trace
    if source is None:
        raise SettingsError("spans do not say where they are from", fix="pass the device's source too")
    return Trace.from_spans(trace, source)


def _frame_times(trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    frames = trace.where("ranges", trace.named("ranges", "frame".__eq__)).ranges
    return frames["start_ns"], frames["end_ns"]


def _stretch(trace: Trace, frames: tuple[int, int]) -> tuple[int, int]:
    """From the begin of the first of these frames to the end of the last."""
    starts, ends = _frame_times(trace)
    first, last = frames
    if not 0 <= first <= last < len(starts):
        raise SettingsError(f"no frames {first} to {last} in a trace of {len(starts)}", fix="count them from 0")
    return int(starts[first]), int(ends[last])


def _labels(rows: Sequence[Lane]) -> list[str]:
    """Each row's label, but once where rows of one kind follow each other."""
    return ["" if row and rows[row - 1].label == lane.label else lane.label for row, lane in enumerate(rows)]


def _bars(lane: Lane, row: int, begin: int, unit_ns: float) -> Any:
    """All bars of a row as one collection; a bar too short to be seen keeps a hair's breadth."""
    left, right = (lane.start_ns - begin) / unit_ns, (lane.end_ns - begin) / unit_ns
    top, bottom = np.full_like(left, row - _BAR_HEIGHT / 2), np.full_like(left, row + _BAR_HEIGHT / 2)
    corners = [np.stack([x, y], axis=-1) for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))]
    collections = load("matplotlib.collections", needed_for="plots")
    colours = load("matplotlib.colors", needed_for="plots")
    rgba = {kind: colours.to_rgba(KIND_COLOURS[kind]) for kind in set(lane.kinds)}  # once a kind, not once a bar
    edges = "white" if set(lane.kinds) <= NVTX_KINDS else "face"
    return collections.PolyCollection(
        np.stack(corners, axis=1),
        facecolors=np.array([rgba[kind] for kind in lane.kinds]),
        edgecolors=edges,
        linewidths=0.4,
        label=lane.label,
    )


def _write_names(ax: Axes, rows: Sequence[Lane], begin: int, end: int, unit_ns: float) -> None:
    """The names of bars that have room for them."""
    inches = ax.get_window_extent().width / figure_of(ax).dpi
    written = 0
    for row, lane in enumerate(rows):
        left, right = np.maximum(lane.start_ns, begin), np.minimum(lane.end_ns, end)
        letters = (right - left) / (end - begin) * inches / _INCHES_A_LETTER
        for bar in np.flatnonzero(letters > 3):
            if letters[bar] > len(lane.texts[bar]) + 1 and written < _MOST_TEXTS:
                written += 1
                middle = ((left[bar] + right[bar]) / 2 - begin) / unit_ns
                ink = "white" if lane.kinds[bar] in _DARK else "black"
                ax.text(
                    middle, row, lane.texts[bar], ha="center", va="center", size=_TEXT_SIZE, color=ink, clip_on=True
                )


def _legend(ax: Axes, kinds: set[str]) -> None:
    """A patch for each kind that is drawn, but for ranges, which their row names."""
    patch = load("matplotlib.patches", needed_for="plots").Patch
    shown = [kind for kind in KIND_COLOURS if kind in kinds - NVTX_KINDS]
    ax.legend(
        handles=[patch(color=KIND_COLOURS[kind], label=kind) for kind in shown],
        fontsize=8,
        ncols=max(len(shown), 1),
        loc="lower right",
        bbox_to_anchor=(1, 1),
        borderaxespad=0.2,
        borderpad=0.1,
        handlelength=1,
        columnspacing=1,
        facecolor="white",
        framealpha=1,
        edgecolor="none",
    )
