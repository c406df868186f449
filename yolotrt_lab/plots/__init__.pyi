from .curves import (
    CALLS,
    call_ns,
    cause_and_cure,
    copy_calls,
    latency,
    report_calls,
    report_page,
    stage_bars,
    stage_over_frames,
    wait_bars,
)
from .interactive import Interactive, InteractiveTimeline
from .style import MEMORY_COLOURS, STAGE_COLOURS, as_svg, figure, image, panels, stamp, stamp_panel
from .timelines import Row, frames_on_one_scale, timeline

__all__ = [
    "CALLS",
    "MEMORY_COLOURS",
    "STAGE_COLOURS",
    "Interactive",
    "InteractiveTimeline",
    "Row",
    "as_svg",
    "call_ns",
    "cause_and_cure",
    "copy_calls",
    "figure",
    "frames_on_one_scale",
    "image",
    "latency",
    "panels",
    "report_calls",
    "report_page",
    "stage_bars",
    "stage_over_frames",
    "stamp",
    "stamp_panel",
    "timeline",
    "wait_bars",
]
