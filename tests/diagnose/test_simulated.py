"""A sample of `benchmarks/bench_diagnosis.py`: nothing is proven that is not at work, nothing at work excluded."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from yolotrt_lab.types import Cause

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
SEED = 314_159


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, BENCHMARKS)
    import bench_diagnosis

    yield bench_diagnosis
    sys.path.remove(BENCHMARKS)


@pytest.mark.parametrize(
    "cause",
    [cause for cause in Cause if cause.value not in ("queueing", "host_contention", "device_leak", "launch_bound")],
)
def test_nothing_wrong_is_proven_and_nothing_at_work_is_missed(bench, cause):
    for drawn in bench.drawn_for(cause, 2, SEED):
        found = bench.billed(replace(drawn, frames=min(drawn.frames, 600)))
        for each in (found.telemetry, found.timers):
            assert bench.wrong(drawn, each) == set(), drawn
            assert bench.missed(drawn, each) == set(), drawn
