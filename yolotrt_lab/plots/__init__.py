"""Tables in, matplotlib axes out. Nothing is computed here but medians for bars.

Every function draws on axes given to it, returns what it drew, and writes where the numbers come from into the
figure's corner. Times are milliseconds or microseconds, as the axis says. Start with `figure`.
"""

from __future__ import annotations

from .curves import cause_and_cure, copy_calls, latency, stage_bars, stage_over_frames, stages
from .style import MEMORY_COLOURS, STAGE_COLOURS, as_svg, figure, image, panels, stamp
from .timelines import InteractiveTimeline, linked, timeline, timelines

__all__ = [
    "MEMORY_COLOURS",
    "STAGE_COLOURS",
    "InteractiveTimeline",
    "as_svg",
    "cause_and_cure",
    "copy_calls",
    "figure",
    "image",
    "latency",
    "linked",
    "panels",
    "stage_bars",
    "stage_over_frames",
    "stages",
    "stamp",
    "timeline",
    "timelines",
]
