"""Figures that tests and examples draw are shown nowhere, and closed after each. No test fails for being slow.

What each worker and each command of a test would load or compile anew is not: the tests start hundreds of commands.
Hypothesis tries 10 examples, the same in each run; YOLOTRT_LAB_EXAMPLES is how many others, which `make test-all` sets.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
sys.modules.setdefault("rfc3987_syntax", None)  # a checker of IRIs that jsonschema imports, for 1.5 s
EXAMPLES = os.environ.get("YOLOTRT_LAB_EXAMPLES")
settings.register_profile(
    "lab",
    max_examples=int(EXAMPLES or 10),
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("lab")


SLOW_EXAMPLES = {
    "yolotrt_lab.simulate.sliders.explore",
    "yolotrt_lab.plots.interactive.InteractiveTimeline",
    "yolotrt_lab.detector.detect.annotate",
    "yolotrt_lab.plots.timelines.frames_on_one_scale",
    "yolotrt_lab.plots.curves.report_page",
    "yolotrt_lab.plots.style.as_svg",
    "yolotrt_lab.detector.detect.Detector",
    "yolotrt_lab.diagnose.render.compare",
    "yolotrt_lab.speed.ladder.climb",
    "yolotrt_lab.speed.limits.measure_limits",
}
"""Each takes a sixth of a second or more, and tests hold what it shows."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Examples can't be marked where they stand."""
    for item in items:
        if item.name in SLOW_EXAMPLES:
            item.add_marker("exhaustive")


def pytest_collection_finish() -> None:
    """What is imported by now stays: the collector of garbage need not look at it again after each test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    """No figure of one test is open in the next."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
