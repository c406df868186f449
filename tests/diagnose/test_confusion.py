"""The diagnosis scored on simulated runs of every cause, and on the recordings of a real GPU that ship with the lab.

What is drawn, and from which ranges, is in `benchmarks/bench_diagnosis.py`; its seed here is none that the rules were
made on.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from yolotrt_lab.causes.catalogue import SCENARIOS
from yolotrt_lab.diagnose.measurements import Measurements
from yolotrt_lab.diagnose.verdicts import judge
from yolotrt_lab.packages import lab_path
from yolotrt_lab.recording import Recording
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


# A preprocessing stage in front of a pinned upload: only a trace can say that one allocates and the other copies.
# Frames that come too fast, with nothing else the matter: whether that is a fault is a question of words.
LEFT_OPEN = {
    "trap-allocate": {Cause.NONE, Cause.ALLOCATION},
    "served-copied": {Cause.NONE, Cause.ALLOCATION},
    "shared-stream-event": {Cause.NONE},
}
# Causes of which the times alone do not tell enough.
TOLD_BY_TELEMETRY = {"shared-gpu", "shared-gpu-pinned", "leak"}
# A frame every 100 ms, and the H100 kept its clock of 1,980 MHz: nothing dropped.
NOT_SHOWN = {"clock-drop"}
RECORDED = sorted(path.stem for path in lab_path("data", "recordings").glob("*/*.parquet") if path.stem in SCENARIOS)


@pytest.mark.parametrize("with_telemetry", [True, False])
@pytest.mark.parametrize("name", RECORDED)
def test_the_recordings_of_real_gpus_are_judged_right(name, with_telemetry):
    measurements = Measurements.of(Recording.shipped(name))
    found = judge(measurements if with_telemetry else replace(measurements, telemetry={}))
    truth = Cause.NONE if name in NOT_SHOWN else SCENARIOS[name].cause
    if name in LEFT_OPEN:
        assert found.verdict is None
        assert set(found.candidates) == LEFT_OPEN[name]
    elif name in TOLD_BY_TELEMETRY and not with_telemetry:
        assert found.verdict is None
        assert truth in found.candidates
    else:
        assert found.causes == (truth,)


@pytest.mark.parametrize("name", ["shared-gpu", "shared-gpu-pinned"])
def test_a_shared_gpu_without_telemetry_leaves_two_candidates_and_the_experiment_that_tells_them_apart(name):
    measurements = replace(Measurements.of(Recording.shipped(name)), telemetry={})
    first, second = judge(measurements).findings[:2]
    assert (first.cause, second.cause) == (Cause.SHARED_GPU, Cause.CLOCK_DROP)
    assert "nvidia-smi --query-gpu=clocks.sm" in first.next_experiment
    assert "stop the other processes" in first.next_experiment
    assert "the SM clock stays where it is" in first.next_experiment


def test_a_leak_of_a_real_gpu_names_the_allocation_beside_it():
    measurements = Measurements.of(Recording.shipped("leak"))
    found, without = judge(measurements), judge(replace(measurements, telemetry={}))
    assert [finding.cause for finding in found.findings] == [Cause.LEAK, Cause.ALLOCATION]
    assert {Cause.LEAK, Cause.ALLOCATION} <= set(without.candidates)
