from .catalogue import IN_PLACE, PAGEABLE, PINNED, REPORT, SCENARIOS
from .levels import camera_levels, camera_table, report_levels, report_table
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
from .scenario import Scenario

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
