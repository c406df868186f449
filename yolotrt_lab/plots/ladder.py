"""Which resource bounds each rung of the ladder: a roofline, with a line of its own for every rung."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

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
    ax.set_yticks(rows, list(rungs))
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    ax.legend(frameon=False, ncols=len(names) + 1, loc="lower right", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    return drawn
