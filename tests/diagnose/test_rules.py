"""Each rule on series made up to show one cause: what it finds, with the numbers, and where it must not find it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from series import PINNED, loop, only, ramp, step

from yolotrt_lab.diagnose.reading.files import read_text
from yolotrt_lab.diagnose.verdicts import judge
from yolotrt_lab.types import Cause

STEADY = {"sm_clock_mhz": 1980.0, "gpu_processes": 0.0, "host_memory_bytes": 4e8, "temperature_c": 60.0}
N = 1_000


def causes(diagnosis):
    return [str(cause) for cause in diagnosis.causes]


def test_a_flat_loop_has_nothing_the_matter():
    found = judge(loop(telemetry=STEADY))
    assert found.verdict is Cause.NONE
    assert found.findings[0].explains_ms == 0
    assert found.missing == ()


def test_overload_is_a_backlog_that_climbs_while_the_upload_holds_the_host():
    found = judge(loop(period_ms=1.4))  # a frame takes 1.512 ms, 0.3 of them in the upload call
    assert causes(found) == ["pageable_overload"]
    [finding] = found.findings
    # 0.112 ms a frame; the lowest and the highest level are medians of some 90 frames at the ends of 1,000
    assert finding.explains_ms == pytest.approx(0.112 * 912, rel=0.05)
    assert finding.cure_limit_ms == pytest.approx(finding.explains_ms + 0.3, rel=0.01)


def test_overload_without_an_upload_that_holds_the_host_is_not_blamed_on_it():
    found = judge(loop(period_ms=1.15, **PINNED))  # a frame takes 1.217 ms
    assert Cause.PAGEABLE_OVERLOAD not in found.causes + found.candidates
    assert found.verdict is None


def test_a_pinned_clock_that_can_be_kept_up_with_is_no_overload():
    assert judge(loop(period_ms=1.3, **PINNED)).verdict is Cause.NONE


def test_without_instants_the_climb_itself_tells_how_much_faster_frames_come():
    names = ("latency", "preprocess", "upload", "infer", "download", "synchronize", "postprocess")
    whole = judge(loop(period_ms=1.3)).findings[0]
    found = judge(only(loop(period_ms=1.3), *names))
    assert causes(found) == ["pageable_overload"]
    assert found.findings[0].explains_ms == pytest.approx(whole.explains_ms, rel=0.02)
    assert found.findings[0].confidence < whole.confidence


def test_an_upload_call_that_climbs_while_nothing_else_waits_is_pageable():
    climb = np.minimum(ramp(N, 0.3, 30.3), 1.2)  # there by frame 30
    found = judge(only(loop(upload=climb, synchronize=0.004), "upload", "synchronize"))
    assert causes(found) == ["pageable_overload"]
    assert found.findings[0].explains_ms == pytest.approx(1.2 - 0.36, rel=0.05)  # the median of the first five is 0.36


@pytest.mark.parametrize("telemetry", [{"gpu_processes": step(N, 0, 6)}, {"gpu_memory_used_bytes": step(N, 7e8, 5e9)}])
def test_neighbours_that_come_with_the_wait_are_a_shared_gpu(telemetry):
    found = judge(loop(synchronize=step(N, 0.06, 10), telemetry={"sm_clock_mhz": 1980.0, **telemetry}))
    assert causes(found) == ["shared_gpu"]
    assert found.findings[0].explains_ms == pytest.approx(9.94, rel=0.01)
    assert found.pinning_limit_ms == pytest.approx(0.3, rel=0.02)


def test_without_telemetry_a_longer_wait_names_candidates_and_the_experiment():
    found = judge(loop(synchronize=step(N, 0.06, 0.3)))
    assert found.verdict is None
    assert {Cause.SHARED_GPU, Cause.CLOCK_DROP, Cause.HEAT} <= set(found.candidates)
    assert "--query-gpu=clocks.sm" in found.findings[0].next_experiment
    assert len(found.missing) == 4


def test_a_clock_that_falls_with_the_wait_is_a_clock_drop():
    clock = ramp(N, 1980, 660)
    found = judge(loop(synchronize=0.5 * 1980 / clock, telemetry=STEADY | {"sm_clock_mhz": clock}))
    assert causes(found) == ["clock_drop"]
    assert found.candidates == ()


@pytest.mark.parametrize(
    "sign", [{"throttle_sw_thermal_slowdown": step(N, 0, 1, 0.3)}, {"temperature_c": ramp(N, 50, 87)}]
)
def test_a_clock_that_falls_for_heat_is_heat(sign):
    clock = ramp(N, 1980, 990)
    found = judge(loop(synchronize=0.5 * 1980 / clock, telemetry=STEADY | {"sm_clock_mhz": clock} | sign))
    assert causes(found) == ["heat"]


def test_memory_that_climbs_with_the_wait_is_a_leak():
    kept = ramp(N, 4e8, 2.2e9)
    found = judge(loop(synchronize=ramp(N, 0.4, 0.52), telemetry=STEADY | {"host_memory_bytes": kept}))
    assert causes(found) == ["leak"]


def test_a_wait_that_grows_while_telemetry_stays_still_is_left_open():
    found = judge(loop(synchronize=ramp(N, 0.4, 0.8), telemetry=STEADY))
    assert found.verdict is None
    assert Cause.CLOCK_DROP not in found.candidates
    assert Cause.SHARED_GPU not in found.candidates


def test_preprocessing_that_climbs_is_named_with_host_timers_alone():
    found = judge(loop(preprocess=ramp(N, 0.7, 1.7)))
    assert causes(found) == ["preprocess"]
    assert found.findings[0].explains_ms == pytest.approx(0.9, rel=0.05)


def test_a_launch_that_blocks_while_nothing_synchronizes_is_a_full_queue():
    found = judge(loop(infer=step(N, 0.004, 0.1, 0.3), synchronize=0.0, upload=0.0, download=0.0, preprocess=0.0))
    assert causes(found) == ["launch_queue"]


def test_a_synchronize_of_microseconds_behind_a_long_download_is_a_moved_wait():
    found = judge(loop(download=0.6, synchronize=0.003))
    assert causes(found) == ["moved_wait"]
    assert found.findings[0].explains_ms == 0
    assert found.findings[0].cure_limit_ms == pytest.approx(0.6, rel=0.01)


def test_spikes_of_one_height_in_submitting_are_changes_of_shape():
    spiked = np.where(np.arange(N) % 60 == 59, 5.6, 0.6)
    found = judge(loop(infer=spiked))
    assert causes(found) == ["shape_change"]
    [finding] = found.findings
    assert finding.cure_limit_ms == pytest.approx(5.0, rel=0.05)
    evidence = {each.what: each.value for each in finding.evidence}
    assert evidence["spikes"] == N // 60
    assert evidence["one every"] == pytest.approx(60)


def test_a_wait_that_falls_as_the_neighbours_go_is_a_shared_gpu():
    telemetry = STEADY | {"gpu_processes": step(N, 12, 0), "gpu_memory_used_bytes": step(N, 1.1e10, 1.2e9)}
    found = judge(loop(synchronize=step(N, 18.0, 0.06), telemetry=telemetry))
    assert causes(found) == ["shared_gpu"]
    [finding] = found.findings
    assert finding.explains_ms == pytest.approx(17.94, rel=0.01)
    assert found.slow_ms == pytest.approx(19.012, rel=0.01)
    told = [(each.what, each.value) for each in finding.evidence if "processes" in each.what]
    assert told == [("other processes on the GPU before", 12), ("other processes on the GPU after", 0)]


def test_a_step_down_after_hundreds_of_frames_is_no_warm_up():
    found = judge(loop(synchronize=step(N, 18.0, 0.06)))
    assert found.verdict is None
    assert found.candidates == (Cause.SHARED_GPU, Cause.CLOCK_DROP, Cause.HEAT)


def test_a_clock_that_comes_back_after_hundreds_of_frames_was_a_clock_drop():
    clock = step(N, 660, 1980)
    found = judge(loop(synchronize=0.5 * 1980 / clock, telemetry=STEADY | {"sm_clock_mhz": clock}))
    assert causes(found) == ["clock_drop"]


def test_preprocessing_that_gets_faster_late_is_neither_a_warm_up_nor_nothing():
    assert judge(loop(preprocess=step(N, 3.0, 0.7), telemetry=STEADY)).causes == ()


def test_memory_that_climbs_steadily_is_a_leak_before_any_wait_shows_it_and_may_take_time_to_make():
    found = judge(loop(telemetry=STEADY | {"host_memory_bytes": ramp(N, 1.6e9, 3.1e9)}))
    assert causes(found) == ["leak"]
    assert found.candidates == (Cause.ALLOCATION,)
    kept, made = found.findings
    assert kept.evidence[0].value == pytest.approx(1_500, rel=0.01)  # MB
    assert made.evidence[0].value == pytest.approx(1.5, rel=0.01)
    assert made.cure_limit_ms == pytest.approx(0.7, rel=0.01)


def test_memory_that_is_taken_once_is_no_leak():
    assert judge(loop(telemetry=STEADY | {"host_memory_bytes": step(N, 1.6e9, 3.1e9)})).verdict is Cause.NONE


def test_a_host_that_becomes_slower_as_a_whole_is_not_surely_its_preprocessing():
    slower = step(N, 1.0, 1.7)
    stages = {"preprocess": 2.0 * slower, "infer": 0.8 * slower, "synchronize": 0.05}
    found = judge(replace(loop(telemetry=STEADY, **PINNED | stages), memory={"input": "pinned"}))
    assert found.verdict is None
    assert found.candidates == (Cause.PREPROCESS, Cause.ALLOCATION)


def test_a_clock_that_cannot_be_kept_up_with_leaves_open_whether_anything_is_wrong():
    found = judge(loop(period_ms=1.15, **PINNED))  # a frame takes 1.217 ms
    assert found.verdict is None
    assert found.candidates == (Cause.NONE,)
    evidence = {each.what: each.value for each in found.findings[0].evidence}
    assert evidence["a frame comes every"] == pytest.approx(1.15)
    assert evidence["a result comes every"] == pytest.approx(1.217, rel=0.01)


def test_spikes_of_one_height_in_preprocessing_are_allocations():
    spiked = np.where(np.random.default_rng(1).random(N) < 0.02, 12.0, 0.7)
    assert causes(judge(loop(preprocess=spiked))) == ["allocation"]


def test_spikes_of_all_heights_are_left_open():
    tail = 0.6 + np.random.default_rng(1).pareto(1.0, N)
    found = judge(loop(infer=tail))
    assert found.verdict is None
    assert found.candidates == (Cause.SHAPE_CHANGE,)


@pytest.mark.parametrize("later", [0.5, step(N, 0.5, 0.52)])
def test_first_frames_that_are_slow_are_a_warm_up(later):
    slow = np.where(np.arange(N) < 5, 40.0, later)
    assert causes(judge(loop(synchronize=slow))) == ["warm_up"]


@pytest.mark.parametrize(
    ("stages", "telemetry", "both"),
    [
        (
            {"synchronize": step(N, 0.5, 6), "preprocess": ramp(N, 0.7, 2)},
            {"gpu_processes": step(N, 0, 5)},
            {"shared_gpu", "preprocess"},
        ),
        (
            {"synchronize": step(N, 1.0, 2.0, 0.3) * step(N, 1, 6, 0.6)},
            {"sm_clock_mhz": step(N, 1980, 990, 0.3), "gpu_processes": step(N, 0, 3, 0.6)},
            {"shared_gpu", "clock_drop"},
        ),
        (
            {"download": step(N, 0.5, 5), "synchronize": 0.003},
            {"gpu_processes": step(N, 0, 5)},
            {"shared_gpu", "moved_wait"},
        ),
    ],
)
def test_two_causes_at_once_are_both_named(stages, telemetry, both):
    assert set(causes(judge(loop(telemetry=STEADY | telemetry, **stages)))) == both


def test_overload_and_a_growing_stage_share_the_growth():
    found = judge(loop(period_ms=1.3, preprocess=ramp(N, 0.7, 1.4)))  # 0.212 ms too slow from the start
    assert set(causes(found)) == {"pageable_overload", "preprocess"}


@pytest.mark.parametrize("names", [["infer"], ["preprocess", "infer", "postprocess"]])
def test_an_inference_without_a_synchronize_holds_its_wait_and_names_no_full_queue(names):
    found = judge(only(loop(infer=step(N, 1.1, 19, 0.3), postprocess=0.9), *names))
    assert found.verdict is None
    assert {Cause.SHARED_GPU, Cause.LAUNCH_QUEUE} <= set(found.candidates)


def test_spikes_of_an_inference_without_a_synchronize_are_a_candidate_alone():
    spiked = np.where(np.arange(N) % 50 == 49, 40.0, 5.0)
    with_wait, without = (judge(only(loop(infer=spiked), *names)) for names in (["infer", "synchronize"], ["infer"]))
    assert causes(with_wait) == ["shape_change"]
    assert without.candidates == (Cause.SHAPE_CHANGE,)


def test_latency_beyond_the_stages_is_no_backlog_while_the_wait_for_the_gpu_is_not_among_them():
    late = loop(period_ms=1.4)
    known = judge(only(late, "latency", "preprocess", "upload", "infer", "synchronize"))
    unknown = judge(only(late, "latency", "preprocess", "upload", "infer"))
    assert causes(known) == ["pageable_overload"]
    assert unknown.candidates == (Cause.PAGEABLE_OVERLOAD,)
    assert not any("calls that wait for the GPU" in each for each in known.missing)
    assert any("calls that wait for the GPU" in each for each in unknown.missing)


def test_what_pinning_can_buy_is_unknown_where_no_upload_was_measured():
    assert judge(only(loop(), "preprocess", "synchronize")).pinning_limit_ms is None
    assert judge(loop(upload=0.005)).pinning_limit_ms == 0


def test_the_advised_query_of_nvidia_smi_is_read_under_the_names_that_it_asks_for():
    found = judge(only(loop(synchronize=step(N, 0.06, 0.3)), "synchronize"))
    query = re.search(r"--query-gpu=(\S+) --format=csv", found.findings[0].next_experiment)[1].split(",")
    values = {"timestamp": "2026/11/25 21:00:00.123", "clocks_throttle_reasons.sw_thermal_slowdown": "Not Active"}
    row = ", ".join(["0.5", *(values.get(name, "7") for name in query)])
    read = read_text(f"sync_ms, {', '.join(query)}\n{row}\n")
    assert list(read.telemetry) == [
        "sm_clock_mhz",
        "temperature_c",
        "throttle_sw_thermal_slowdown",
        "gpu_memory_used_bytes",
    ]


def test_a_synchronize_of_microseconds_that_takes_more_of_them_is_no_slower_gpu():
    few = np.where(np.arange(N) < 8, 0.004, 0.015)
    one, ten = (judge(only(loop(preprocess=0.1, synchronize=k * few), "preprocess", "synchronize")) for k in (1, 10))
    assert one.causes == (Cause.NONE,)
    assert Cause.SHARED_GPU in ten.candidates


@pytest.mark.parametrize("upload", [0.045, 0.06])
def test_pinned_memory_is_no_cure_for_a_loop_whose_memory_is_pinned(upload):
    measured = loop(period_ms=1.15, **{**PINNED, "upload": upload})
    found = judge(replace(measured, memory={"input": "pinned", "output": "pinned"}))
    assert Cause.PAGEABLE_OVERLOAD not in found.causes + found.candidates


def test_a_cure_that_takes_less_off_a_frame_than_it_is_too_long_by_does_not_end_the_backlog():
    found = judge(loop(period_ms=15.0, preprocess=14.9, upload=0.3, infer=0.2, synchronize=0.3))  # 15.4 without it
    assert Cause.PAGEABLE_OVERLOAD not in found.causes
