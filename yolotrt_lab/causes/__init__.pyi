from .catalogue import IN_PLACE, PAGEABLE, PINNED, REPORT, SCENARIOS
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
    "check_name",
    "check_together",
    "listing",
    "period_between_us",
    "require_frames",
    "run_scenario",
    "run_together",
]
