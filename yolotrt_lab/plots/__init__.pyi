from .curves import cause_and_cure, copy_calls, latency, stage_bars, stage_over_frames
from .interactive import Interactive, InteractiveTimeline
from .report import CALLS, call_ns, frames_on_one_scale, report_calls, report_page, wait_bars
from .style import MEMORY_COLOURS, STAGE_COLOURS, as_svg, figure, image, panels, stamp, stamp_panel
from .timelines import Row, timeline

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
