"""Loops and logs that the lab did not write, each labelled: what the bill says of them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from yolotrt_lab.diagnose import bill, read
from yolotrt_lab.diagnose.formats import read_text
from yolotrt_lab.types import Cause

CASES = Path(__file__).parents[1] / "data" / "cases"
TABLE = (CASES / "logs" / "cases.tsv").read_text(encoding="utf-8").splitlines()
LABELS = {row["file"]: row for row in csv.DictReader(TABLE, delimiter="\t")}


@pytest.fixture(scope="module")
def bills():
    return {name: bill(read(CASES / "logs" / name)) for name in LABELS}


@pytest.mark.parametrize("name", LABELS)
def test_kind_growth_stalls_and_what_must_not_be_proven(name, bills):
    found, label = bills[name], LABELS[name]
    assert found.kind == label["kind"]
    grew = {each.stage for each in found.grew}
    if label["grew"] == "-":
        assert grew == set()
    else:
        assert set(label["grew"].split(",")) <= grew
        assert found.steady is False
    if label["stalls"] == "yes":
        assert found.stalls
        assert found.steady is not True
    elif label["stalls"] == "no":
        assert not [each for each in found.stalls if each.stage == "frame"]
    forbidden = label["must_not_prove"].split(",")
    if forbidden == ["any"]:
        assert found.proven == ()
    assert not set(found.proven) & set(forbidden)


def test_what_the_labels_say_a_good_answer_is(bills):
    trtexec = bills["03_trtexec_summary.log"]
    assert trtexec.next == ("trtexec --loadEngine=ENGINE --exportTimes=times.json",)
    assert trtexec.verdict("launch_bound") == "possible"
    assert trtexec.at_most_ms("cuda_graph") is None  # its GPU compute may hold gaps between launches
    copies = bills["05x_trtexec_copies_half_44.log"]
    assert (copies.at_most_ms("pinned_input"), copies.at_most_ms("pinned_output")) == pytest.approx((1.93, 1.61))
    down = bills["08_tensorrtx_warmup.log"]
    assert down.verdict("warm_up") == "excluded"
    assert down.verdict("clock_drop") == "possible"
    assert bills["13_nvprof_summary.txt"].at_most_ms("pinned_input") is None
    assert bills["53_periodic_three_syncs.csv"].period == 5
    moved = bills["64_moved_wait_contradiction.csv"]
    assert moved.proven == (Cause.MOVED_WAIT,)
    assert moved.at_most_ms("pinned_output") is None
    assert "sm_clock_mhz goes from 1,004 to 1,784" in bills["25x_nvidia_smi_dmon_40.txt"].notes
    assert [each.longest_ms for each in bills["66_trtexec_whole_log.log"].stalls] == pytest.approx([11.1703])
    shares = {each.stage: each.share for each in bills["02x_print_cost_jitter_57.log"].stalls}
    assert shares["frame"] > 0.5


@pytest.fixture(scope="module")
def runs():
    return {path.name.split(".")[0]: bill(read(path)) for path in sorted((CASES / "runs").iterdir())}


def test_an_allocation_in_every_frame_is_possible_and_contention_is_not_proven(runs):
    for name in ("allocation_in_loop", "allocation_device"):
        assert runs[name].verdict("allocation") == "possible"
        assert runs[name].proven == ()
        assert runs[name].verdict("clock_drop") == "possible"  # its highest clock is not known


def test_a_shared_stream_is_a_queue_of_sixteen_frames_and_no_all_clear(runs):
    found = runs["shared_stream"]
    assert found.verdict("shared_stream") == "possible"
    assert set(found.proven) <= {Cause.QUEUEING}
    because = next(each.because for each in found.causes if each.cause == "shared_stream")
    assert because.startswith("latency is 16.8 times what the stages add up to")


def test_a_synchronize_every_eighth_frame_is_a_period_with_nothing_wrong(runs):
    found = runs["sync_every_8"]
    assert (found.period, found.proven, found.grew) == (8, (), ())
    assert found.steady is True


def test_a_pageable_overload_of_large_frames_without_due_times_may_be_a_queue(runs):
    found = runs["overload_pageable_1080p"]
    assert found.proven == ()
    assert found.verdict("queueing") == found.verdict("pageable_overload") == "possible"
    pinned = next(each for each in found.fixes if each.fix == "pinned_input")
    assert pinned.at_most_ms == pytest.approx(0.54, abs=0.05)
    assert max(each.to_ms for each in found.grew if each.stage == "frame") == pytest.approx(163, abs=2)


def test_the_public_reports_loop_beside_twelve_processes_leaves_contention_and_clocks(runs):
    found = runs["report-loop"]
    assert found.proven == ()
    assert {found.verdict(cause) for cause in ("shared_gpu", "clock_drop")} == {"possible"}
    assert found.verdict("moved_wait") == "excluded"
    wait = next(each for each in found.grew if each.stage == "synchronize")
    assert (wait.shape, wait.from_ms < 0.02, wait.to_ms > 15) == (
        "wave",
        True,
        True,
    )  # the processes end before the loop
    assert found.at_most_ms("gpu_alone") > 15
    assert found.at_most_ms("pinned_input") < 1


def test_exported_times_of_trtexec_exclude_a_queue_and_bound_launching():
    query = '{{"startEnqMs": {0}, "endEnqMs": {0}.25, "startH2dMs": {0}.5, "endD2hMs": {0}.9, "h2dMs": 0.1, '
    query += '"computeMs": 2.5, "d2hMs": 0.1, "latencyMs": 2.7}}'
    found = bill(read_text(f"[{', '.join(query.format(4 * n) for n in range(60))}]".encode()))
    assert (found.verdict("queueing"), found.verdict("launch_bound")) == ("excluded", "excluded")
    assert found.at_most_ms("cuda_graph") == 0
    assert not [each for each in found.causes if each.verdict == "not_measured" and "enqueue" in each.because]


def test_arrivals_starts_and_ends_prove_a_queue_by_what_a_frame_takes():
    rows = "".join(f"{10 * n},{10.5 * n},{10.5 * n + 10.5},{10.5 + n / 2}\n" for n in range(200))
    found = bill(read_text(f"arrival_ms,start_ms,end_ms,latency_ms\n{rows}".encode()))
    assert found.proven == (Cause.QUEUEING,)
    assert "a frame every 10.5 ms or more" in next(each.because for each in found.fixes if each.fix == "fewer_frames")
