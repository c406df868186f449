from .catalogue import IN_PLACE, PAGEABLE, PINNED, REPORT, SCENARIOS, Scenario
from .running import (
    COPIES,
    check_name,
    check_together,
    listing,
    period_between_us,
    require_frames,
    run_scenario,
    run_together,
)
from .shared_gpu import report_levels, report_table
from .threads import camera_levels, camera_table

__all__ = [
    "COPIES",
    "IN_PLACE",
    "PAGEABLE",
    "PINNED",
    "REPORT",
    "SCENARIOS",
    "Scenario",
    "camera_levels",
    "camera_table",
    "check_name",
    "check_together",
    "listing",
    "period_between_us",
    "report_levels",
    "report_table",
    "require_frames",
    "run_scenario",
    "run_together",
]
