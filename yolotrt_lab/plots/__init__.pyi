from .curves import cause_and_cure, copy_calls, latency, stage_bars, stage_over_frames, stages
from .style import MEMORY_COLOURS, STAGE_COLOURS, as_svg, figure, image, panels, stamp
from .timelines import InteractiveTimeline, Row, linked, timeline, timeline_grid

__all__ = [
    "MEMORY_COLOURS",
    "STAGE_COLOURS",
    "InteractiveTimeline",
    "Row",
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
    "timeline_grid",
]
