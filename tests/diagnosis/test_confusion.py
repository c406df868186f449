"""The diagnosis scored on simulated runs of every cause, and on the recordings of a real GPU that ship with the lab.

What is drawn, and from which ranges, is in `benchmarks/bench_diagnosis.py`; its seed here is none that the rules were
made on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from yolotrt_lab.diagnosis import Measurements, diagnose
from yolotrt_lab.paths import lab_path
from yolotrt_lab.recording import Recording
from yolotrt_lab.scenarios import SCENARIOS
from yolotrt_lab.types import Cause

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
SEED = 314_159
RUNS = 50
PAIR_RUNS = 10


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, BENCHMARKS)
    import bench_diagnosis

    yield bench_diagnosis
    sys.path.remove(BENCHMARKS)


@pytest.fixture(scope="module")
def judged(bench):
    return bench.judge_all([drawn for cause in Cause for drawn in bench.drawn_for(cause, RUNS, SEED)])


def share(test, judged, look):
    return sum(test(each, look(each)) for each in judged) / len(judged)


def by_cause(judged):
    groups = {}
    for each in judged:
        groups.setdefault(each.drawn.truth[0], []).append(each)
    return groups


def test_host_timers_alone_name_no_wrong_cause_and_leave_open_what_they_cannot_tell(bench, judged):
    assert len(judged) == RUNS * len(Cause)
    print(bench.matrix(judged, lambda each: each.timers))
    assert share(bench.wrong, judged, lambda each: each.timers) < 0.02
    for cause, runs in by_cause(judged).items():
        right_or_open = 1 - share(bench.wrong, runs, lambda each: each.timers)
        assert right_or_open >= 0.8, cause
        # left open, the true cause is among the candidates
        named = sum(cause in (*each.timers.causes, *each.timers.candidates) for each in runs)
        assert named >= 0.9 * len(runs), cause


def test_telemetry_and_the_trace_that_is_asked_for_tell_the_cause(bench, judged):
    print(bench.matrix(judged, lambda each: each.telemetry))
    print(bench.matrix(judged, lambda each: each.traced))
    assert share(bench.wrong, judged, lambda each: each.telemetry) < 0.02
    assert share(bench.right, judged, lambda each: each.traced) >= 0.95
    for cause, runs in by_cause(judged).items():
        if cause not in (Cause.ALLOCATION, Cause.NONE):  # a constant cost of which only a trace says what is in it
            assert share(bench.right, runs, lambda each: each.telemetry) >= 0.95, cause


def test_two_causes_at_once_are_both_named(bench):
    pairs = bench.judge_all(bench.drawn_pairs(PAIR_RUNS, SEED))
    print(bench.matrix(pairs, lambda each: each.telemetry))
    both = [set(each.drawn.truth) <= set(each.telemetry.causes) for each in pairs]
    assert sum(both) >= 0.8 * len(pairs)
    assert share(bench.wrong, pairs, lambda each: each.telemetry) < 0.02


# Only a trace can say that one of these allocates and the other copies: both are a long stage before a pinned upload.
OPEN_WITHOUT_A_TRACE = {"trap-allocate", "served-copied"}
RECORDED = sorted(path.stem for path in lab_path("data", "recordings").glob("*/*.parquet") if path.stem in SCENARIOS)


@pytest.mark.parametrize("name", RECORDED)
def test_the_recordings_of_a_real_gpu_are_judged_right(name):
    found = diagnose(Measurements.of(Recording.shipped(name)))
    truth = SCENARIOS[name].cause
    if name in OPEN_WITHOUT_A_TRACE:
        assert found.verdict is None
        assert set(found.candidates) == {Cause.NONE, Cause.ALLOCATION}
    else:
        assert found.causes == (truth,)
