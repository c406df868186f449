"""What a bill is made of, drawn: times and telemetry over the frames, with marks where something starts to change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..plots.style import STAGE_COLOURS, TELEMETRY_LABELS, figure, figure_of, mark_of, stamp
from ..types import Stage
from .accounts import Bill
from .measured import Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_MOST_POINTS = 2_000
_LEAST_SPAN = 0.1
_FRAME_COLOURS = {"latency": "#000000", "frame": "#777777"}
_TELLING = ("sm_clock_mhz", "gpu_processes", "temperature_c", "host_memory_bytes")


def drawn(measured: Measured, bill: Bill) -> Any:
    """A figure of its own: the measured times above, below them the telemetry that tells causes apart, if any."""
    columns = shown_telemetry(measured)
    heights = [2.4, *[1.0] * len(columns)]
    proven = " and ".join(bill.proven).replace("_", " ")
    figures, axes = figure(
        len(heights),
        1,
        height=(sum(heights) + 0.2) * 1.35 / len(heights),
        title=f"proven: {proven}" if proven else "no cause is proven",
        sharex=True,
        height_ratios=heights,
        squeeze=False,
    )
    measured_times(axes[0, 0], measured, bill)
    for ax, name in zip(axes[1:, 0], columns, strict=True):
        telemetry_column(ax, measured, name)
    for ax in axes[:-1, 0]:
        ax.set_xlabel("")
    return figures


def measured_times(ax: Axes, measured: Measured, bill: Bill) -> list[Any]:
    """Every measured time but `wait`. Dotted lines stand where a time starts to change.

    A long series is drawn as the first and the highest of every few frames, so that no spike is lost.
    """
    lines = []
    for name, values_ns in measured.times_ns.items():
        if name == Stage.WAIT or not np.any(values_ns > 0):
            continue
        stage = STAGE_COLOURS.get(Stage(name)) if name in set(Stage) else None
        colour = stage or _FRAME_COLOURS.get(name, "#AA4499")
        frames, values_ms = _thinned(np.maximum(values_ns, 1) / 1e6)
        lines += ax.plot(frames, values_ms, color=colour, linewidth=0.9, label=name, **mark_of(len(frames)))
    for frame in dict.fromkeys(each.since for each in (*bill.grew, *bill.fell) if each.since):
        ax.axvline(frame, color="#999999", linewidth=0.9, linestyle=":")
    ax.set(ylim=(0, None), xlabel="frame", ylabel="host time [ms]")
    compact = {"fontsize": 8, "columnspacing": 1.2, "handlelength": 1}
    legend = ax.legend(frameon=False, ncols=max(len(lines), 1), loc="lower left", bbox_to_anchor=(0, 1), **compact)
    for handle in legend.get_lines():
        handle.set_linewidth(3)
    stamp(figure_of(ax), measured.origin)
    return lines


def telemetry_column(ax: Axes, measured: Measured, name: str) -> list[Any]:
    """One column of telemetry over the frames; gaps where the GPU did not tell."""
    label, unit = TELEMETRY_LABELS.get(name, (name, 1.0))
    lines = ax.plot(measured.telemetry[name] / unit, color="#333333", linewidth=1.2)
    low, high = ax.get_ylim()
    middle = (low + high) / 2
    reach = max(high - middle, _LEAST_SPAN / 2 * abs(middle))  # what stays, looks as if it stayed
    ax.set(xlabel="frame", ylim=(middle - reach, middle + reach))
    ax.set_title(label, loc="left", size=9)
    stamp(figure_of(ax), measured.origin)
    return lines


def shown_telemetry(measured: Measured) -> list[str]:
    """The columns that tell causes apart and hold a number."""
    return [name for name in _TELLING if name in measured.telemetry and np.isfinite(measured.telemetry[name]).any()]


def _thinned(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames and values: all of a short series, the first and the highest of every few frames of a long one."""
    few = -(-len(values) // (_MOST_POINTS // 2))
    if few < 3:
        return np.arange(len(values)), values
    starts = np.arange(0, len(values), few)
    return np.repeat(starts, 2), np.column_stack([values[starts], np.maximum.reduceat(values, starts)]).ravel()
