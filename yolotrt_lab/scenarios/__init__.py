"""Each cause of growing latency, made to happen on any device, and labelled with the truth.

A scenario is a loop with settings. Those on a clock get frames at a period that one loop can serve and another cannot,
which is measured on the spot.
"""

from __future__ import annotations

from .base import Scenario
from .catalogue import IN_PLACE, PAGEABLE, PINNED, REPORT, SCENARIOS
from .run import (
    COPIES,
    check_name,
    check_together,
    listing,
    period_between_us,
    require_frames,
    run_scenario,
    run_together,
)

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
