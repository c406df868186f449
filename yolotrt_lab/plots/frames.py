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
