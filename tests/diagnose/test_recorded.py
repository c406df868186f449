"""Recordings and traces of real GPUs: nothing wrong is proven, and what is wrong is proven or possible."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from samples import sampled

from yolotrt_lab.causes.catalogue import SCENARIOS
from yolotrt_lab.causes.running import run_scenario
from yolotrt_lab.device import open_device
from yolotrt_lab.diagnose import Measured, bill
from yolotrt_lab.diagnose.traced import traced_frames
from yolotrt_lab.engine import open_engine
from yolotrt_lab.errors import TraceError
from yolotrt_lab.loop import LoopSettings, run_loop
from yolotrt_lab.nsight.reports import shipped_trace
from yolotrt_lab.nsight.trace import DIRECTIONS, Columns, Trace
from yolotrt_lab.nsight.trace_findings import findings
from yolotrt_lab.packages import lab_path
from yolotrt_lab.recording import Recording
from yolotrt_lab.types import Cause, Source, SourceKind, Span, Stage

GOLDEN = Path(__file__).parents[1] / "golden" / "diagnose"
RECORDED = sorted(path.stem for path in lab_path("data", "recordings").glob("*/*.parquet") if path.stem in SCENARIOS)
NOT_SHOWN = {"clock-drop"}  # a frame every 100 ms, and the H200 kept its clock
PROVEN = {"moved-wait", "overload", "clocked", "late", "launch-queue"}
BY_TELEMETRY = {
    "leak",
    "report",
    "shared-stream",
}  # the processes of shared-gpu are there a second before they use the GPU
CAMERAS = Cause.PAGEABLE_OVERLOAD  # of its pageable half; since the other half is pinned, it is left possible
QUEUED = {Cause.PAGEABLE_OVERLOAD, Cause.SHARED_STREAM}


def shipped_bill(name):
    """The bill of what ships, as test_golden.py holds the lab to it, and its verdicts."""
    found = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    return found, {each["cause"]: each["verdict"] for each in found["causes"]}


def judge(name, proven, verdicts, *, with_telemetry):
    truth = CAMERAS if name == "cameras" else Cause.NONE if name in NOT_SHOWN else SCENARIOS[name].cause
    assert proven <= {truth} | ({Cause.QUEUEING} if truth in QUEUED else set())
    if truth is not Cause.NONE:
        shown = name in PROVEN or (name in BY_TELEMETRY and with_telemetry)
        assert verdicts[truth] == ("proven" if shown else "possible")


@pytest.mark.parametrize("name", RECORDED)
def test_the_recordings_of_real_gpus(name):
    verdicts = shipped_bill(f"recordings-h200-{name}.parquet")[1]
    judge(name, {cause for cause, verdict in verdicts.items() if verdict == "proven"}, verdicts, with_telemetry=True)


@pytest.mark.parametrize("name", sampled(RECORDED, sorted(PROVEN | BY_TELEMETRY)))
def test_the_recordings_of_real_gpus_without_their_telemetry(name):
    found = bill(replace(Measured.of(Recording.shipped(name)), telemetry={}))
    judge(name, set(found.proven), {each.cause: each.verdict for each in found.causes}, with_telemetry=False)


def test_a_clock_that_may_be_locked_is_not_excluded():
    found = bill(Measured.of(Recording.shipped("clock-drop")))
    because = next(each.because for each in found.causes if each.cause == "clock_drop")
    assert found.verdict("clock_drop") == "possible"
    assert because.startswith("the SM clock stays at 1,980 MHz, maybe below its maximum")


TRACES = {
    "graph-pageable": (set(), set()),
    "graph-pinned": (set(), set()),
    "moved-wait": ({Cause.MOVED_WAIT}, set()),
    "plain-pageable": ({Cause.LAUNCH_BOUND}, set()),
    "plain-pinned": ({Cause.LAUNCH_BOUND}, set()),
    "overlap": (set(), set()),
    "contexts": (set(), set()),
    "shared-gpu": (set(), {Cause.SHARED_GPU}),
    "shared-stream": (set(), {Cause.SHARED_STREAM}),
    "report-a": ({Cause.LAUNCH_BOUND}, set()),
    "report-b": (set(), {Cause.SHARED_GPU, Cause.LAUNCH_BOUND}),
    "report-c": (set(), {Cause.SHARED_GPU, Cause.LAUNCH_BOUND}),
}


@pytest.mark.parametrize("name", sampled(TRACES, every=2))
def test_the_bill_of_a_trace_is_what_trace_show_says(name):
    found, verdicts = shipped_bill(f"traces-h200-{name}.sqlite")
    at_most_ms = {each["fix"]: each["at_most_ms"] for each in found["fixes"]}
    proven, possible = TRACES[name]
    assert {cause for cause, verdict in verdicts.items() if verdict == "proven"} == proven
    assert {verdicts[cause] for cause in possible} <= {"possible"}
    seen = list(findings(shipped_trace(name)))
    told = {str(each.kind): each.numbers.get("gain_ns", np.nan) / 1e6 for each in seen}
    graph = at_most_ms["cuda_graph"]
    assert told.get("launch_bound", 0.0) == pytest.approx(np.nan if graph is None else graph, rel=1e-5, nan_ok=True)
    assert (graph is None) == (Cause.LAUNCH_BOUND in possible)
    assert at_most_ms["overlap"] == pytest.approx(told.get("serial_copies", 0.0), rel=1e-5)
    pageable = sum(told[kind] for kind in ("pageable_copies",) if kind in told)
    assert at_most_ms["pinned_input"] + at_most_ms["pinned_output"] == pytest.approx(pageable, rel=1e-5)
    if Cause.SHARED_GPU in possible:
        idle = next(each.numbers["nothing_ns"] for each in seen if each.kind == "unexplained_wait")
        assert at_most_ms["gpu_alone"] == pytest.approx(idle / 1e6, rel=1e-5)


def traced(frames=60, **settings):
    device = open_device("simulated", trace=True)
    recording = run_loop(device, open_engine(device), LoopSettings(frames=frames, warmup=0, **settings))
    return recording, Trace.from_spans(device.spans, device.source)


def of(trace):
    return Measured("events", "a trace", trace=trace)


@pytest.mark.parametrize(("after", "verdict"), [(0, "proven"), (5, "possible")])
def test_a_change_of_shape_is_proven_where_frames_take_longer_whose_uploads_are_of_a_new_size(after, verdict):
    device = open_device("simulated", trace=True)
    run_scenario("shape-change", device, open_engine(device), frames=200)  # 110, 170 and 230 take 5 ms more
    trace = Trace.from_spans(device.spans, device.source)
    assert bill(of(trace)).verdict("shape_change") == "possible"
    upload = trace.copies["direction"] == DIRECTIONS.index("h2d")
    halved = upload & (np.cumsum(upload) > 110 + after) & (np.cumsum(upload) <= 170 + after)
    sizes = np.where(halved, trace.copies["bytes"] // 2, trace.copies["bytes"])
    found = bill(of(replace(trace, copies=Columns(trace.copies | {"bytes": sizes}))))
    assert found.verdict("shape_change") == verdict
    because = next(each.because for each in found.causes if each.cause == "shape_change")
    assert because.startswith("uploads are of 2 sizes, 2.46 to 4.92 MB")


def test_more_uploads_of_the_same_shape_in_some_frames_are_no_change_of_shape():
    device = open_device("simulated", trace=True)
    run_scenario("shape-change", device, open_engine(device), frames=200)
    trace = Trace.from_spans(device.spans, device.source)
    upload = trace.copies["direction"] == DIRECTIONS.index("h2d")
    twice = np.repeat(np.arange(len(upload)), 1 + (upload & np.isin(np.cumsum(upload), (111, 171))))
    again = Columns({name: values[twice] for name, values in trace.copies.items()})
    assert again["bytes"].sum() > trace.copies["bytes"].sum()
    assert traced_frames(replace(trace, copies=again)).new_sizes() is None
    assert bill(of(replace(trace, copies=again))).verdict("shape_change") == "possible"


def test_a_bill_says_once_what_its_trace_leaves_out():
    _, trace = traced(fill="in_place")
    left_out = "5 of 60 rows of a table stand there twice: they are left out"
    found = bill(replace(of(replace(trace, notes=(left_out,))), notes=("sorted", left_out)))
    assert found.notes[:2] == ("sorted", left_out) and found.notes.count(left_out) == 1


def test_where_launches_show_no_work_the_idle_times_of_a_trace_exclude_and_prove_nothing():
    _, trace = traced(fill="in_place")
    whole = bill(of(trace))
    assert whole.verdict("launch_bound") == "excluded" and whole.at_most_ms("cuda_graph") == 0
    for share in (0.4, 0.6):
        kernels = np.arange(trace.count("kernels")) < share * trace.count("kernels")
        found = bill(of(trace.where("kernels", kernels)))
        because = next(each.because for each in found.causes if each.cause == "launch_bound")
        assert "in the trace" not in because and found.verdict("launch_bound") != "proven"
        assert found.at_most_ms("cuda_graph") != 0
        assert any("launches show no work on the GPU" in note for note in found.notes)
    assert not {"launch_bound", "gaps", "unexplained_wait"} & {
        each.kind for each in findings(trace.where("kernels", kernels))
    }


def test_frames_are_ranges_of_any_name_that_repeats():
    _, trace = traced(fill="in_place")
    renamed = replace(trace, names=tuple("step" if name == "frame" else name for name in trace.names))
    found = bill(of(renamed))
    assert (found.kind, found.frames) == ("frames", 60)
    assert any("a range 'step'" in note for note in found.notes)
    assert bill(of(renamed), frame_range="upload").frames == 60
    with pytest.raises(TraceError, match="no range 'none'"):
        bill(of(renamed), frame_range="none")


def test_without_ranges_a_frame_is_a_pattern_of_calls_that_repeats():
    recording, trace = traced(fill="in_place", graph=True)
    bare = trace.where("ranges", np.zeros(trace.count("ranges"), bool))
    found = bill(of(bare))
    assert found.frames == pytest.approx(60, abs=1)
    assert any("pattern of" in note for note in found.notes)
    upload = next(each.late_ms for each in found.spent if each.stage == "upload")
    assert upload == pytest.approx(np.median(recording.stage_ns(Stage.UPLOAD)) / 1e6, rel=0.05)


def test_fewer_than_eight_frames_are_billed_as_a_whole():
    _, trace = traced(frames=5, fill="in_place")
    found = bill(of(trace))
    assert (found.kind, found.frames, found.proven) == ("events", 0, ())
    assert {"upload", "synchronize", "GPU: kernels", "whole"} <= {each.stage for each in found.spent}
    assert any("no loop" in note for note in found.notes)
    with pytest.raises(TraceError):
        traced_frames(Trace.from_spans([Span("range", "x", 0, 5)], Source(SourceKind.SIMULATED, preset="none")))


def test_an_allocation_in_every_traced_frame_is_proven_and_without_one_excluded():
    device = open_device("simulated", trace=True)
    run_scenario("trap-allocate", device, open_engine(device), frames=40)
    assert Cause.ALLOCATION in bill(of(Trace.from_spans(device.spans, device.source))).proven
    _, trace = traced(fill="copy", input_memory="pinned")
    assert bill(of(trace)).verdict("allocation") == "excluded"
