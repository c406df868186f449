"""Tables in, matplotlib axes out. Nothing is computed here but medians for bars.

Every function draws on axes given to it, returns what it drew, and writes where the numbers come from into the
figure's corner. Times are milliseconds or microseconds, as the axis says. Start with `figure`.
"""

from __future__ import annotations

from .copies import copy_calls
from .cured import cause_and_cure
from .diagnosis import diagnosed, measured_times, telemetry_column
from .frames import latency, stage_bars, stage_over_frames, stages
from .interactive import InteractiveTimeline
from .ladder import BOUND_COLOURS, bounds, streams
from .style import MEMORY_COLOURS, STAGE_COLOURS, as_svg, figure, image, panels, stamp
from .timeline import linked, timeline, timelines

__all__ = [
    "BOUND_COLOURS",
    "MEMORY_COLOURS",
    "STAGE_COLOURS",
    "InteractiveTimeline",
    "as_svg",
    "bounds",
    "cause_and_cure",
    "copy_calls",
    "diagnosed",
    "figure",
    "image",
    "latency",
    "linked",
    "measured_times",
    "panels",
    "stage_bars",
    "stage_over_frames",
    "stages",
    "stamp",
    "streams",
    "telemetry_column",
    "timeline",
    "timelines",
]
