"""A sample of `benchmarks/bench_diagnosis.py`: nothing is proven that is not at work, nothing at work excluded."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from samples import sampled

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
    sampled([cause for cause in Cause if cause.value not in ("queueing", "launch_bound")], every=3),  # no scenario
)
def test_nothing_wrong_is_proven_and_nothing_at_work_is_missed(bench, cause):
    for drawn in bench.drawn_for(cause, 1, SEED):
        found = bench.billed(replace(drawn, frames=min(drawn.frames, 500)))
        for each in (found.telemetry, found.timers):
            assert bench.wrong(found.drawn, each) == set(), drawn
            assert bench.missed(found.drawn, each) == set(), drawn


MISSED_ONCE = [
    (("clock-drop",), 0.724, 0.0833, 2235, 367_762_039),  # the clock falls within the first frames
    (("heat", "preprocess-grows"), 0.734, 0.0452, 714, 825_137_208),
    (("heat", "preprocess-grows"), 0.615, 0.0507, 2596, 1_001_375_647),  # a flag in 15 frames, the clock as it was
    (("heat", "preprocess-grows"), 0.644, 0.0916, 3951, 172_225_129),  # the clock falls by 0.9 %
]


@pytest.mark.exhaustive
@pytest.mark.parametrize("case", MISSED_ONCE, ids=lambda case: str(case[-1]))
def test_a_cause_that_was_excluded_though_it_was_at_work(bench, case):
    scenarios, *numbers = case
    drawn = bench.Drawn(scenarios, tuple(bench.ALL[name].cause for name in scenarios), *numbers)
    found = bench.billed(drawn)
    assert found.drawn.truth == drawn.truth  # it does get hot
    for each in (found.telemetry, found.timers):
        assert bench.wrong(found.drawn, each) == bench.missed(found.drawn, each) == set()


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "names", [("heat", "shared-gpu"), ("clock-drop", "preprocess-grows"), ("overload", "shared-gpu")]
)
def test_neither_of_two_causes_is_excluded(bench, names):
    [drawn] = [each for each in bench.drawn_pairs(1, SEED) if each.scenarios == names]
    found = bench.billed(replace(drawn, frames=min(drawn.frames, 600)))
    for each in (found.telemetry, found.timers):
        assert bench.wrong(found.drawn, each) == bench.missed(found.drawn, each) == set()
