"""What a trace adds: the calls themselves, in traces of the simulated device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from series import loop, step

from yolotrt_lab.device import open_device
from yolotrt_lab.diagnose.file import judge_file
from yolotrt_lab.diagnose.measurements import Measurements
from yolotrt_lab.diagnose.traced import measurements_of
from yolotrt_lab.diagnose.verdicts import judge
from yolotrt_lab.engine import open_engine
from yolotrt_lab.errors import MeasurementsError, TraceError
from yolotrt_lab.loop import LoopSettings, run_loop
from yolotrt_lab.nsight.attribution import attribute
from yolotrt_lab.nsight.reports import shipped_trace
from yolotrt_lab.nsight.trace import Trace
from yolotrt_lab.packages import shipped_file
from yolotrt_lab.speed.ladder import RUNGS
from yolotrt_lab.types import Cause, Source, SourceKind, Span, Stage

FRAMES = 60


def traced(**settings):
    """A recording and a trace of the same frames; the trace has the 50 of the warm-up too."""
    device = open_device("simulated", trace=True)
    recording = run_loop(device, open_engine(device), LoopSettings(frames=FRAMES, **settings))
    return recording, Trace.from_spans(device.spans, device.source)


def test_a_trace_gives_the_frames_and_stages_that_the_recording_has():
    recording, trace = traced(fill="in_place")
    found = measurements_of(trace)
    assert len(found) == FRAMES + 50
    for stage in (Stage.PREPROCESS, Stage.UPLOAD, Stage.INFER, Stage.SYNCHRONIZE):
        # the range around a stage is longer than its timer by nothing: virtual time passes in calls only
        assert found.times_ns[stage].tolist() == recording.stage_ns(stage).tolist()
    assert found.origin == trace.source.stamp


def test_without_ranges_the_calls_are_the_stages():
    _, trace = traced(fill="in_place")
    bare = trace.where("ranges", np.zeros(trace.count("ranges"), bool))
    with_ranges, without = measurements_of(trace), measurements_of(bare)
    assert len(without) == len(with_ranges)
    upload = without.times_ns[Stage.UPLOAD]
    assert np.median(upload) == np.median(with_ranges.times_ns[Stage.UPLOAD])


def test_a_trace_without_frames_is_an_error():
    empty = Trace.from_spans([Span("range", "nothing", 0, 5)], Source(SourceKind.SIMULATED, preset="none"))
    with pytest.raises(TraceError):
        judge(loop(), empty)


@pytest.mark.parametrize(("fill", "verdict"), [("allocate", Cause.ALLOCATION), ("copy", Cause.NONE)])
def test_only_a_trace_tells_an_allocation_from_a_copy_in_front_of_a_pinned_upload(fill, verdict):
    recording, trace = traced(fill=fill, input_memory="pinned")
    measured = Measurements.of(recording)
    timers = judge(measured)
    assert timers.verdict is None
    assert timers.candidates == (Cause.NONE, Cause.ALLOCATION)
    assert "cudaHostAlloc" in timers.findings[1].next_experiment
    assert judge(measured, trace).causes == (verdict,)


def test_an_allocation_in_a_trace_costs_what_its_calls_take():
    _, trace = traced(fill="allocate", input_memory="pinned")
    [finding] = judge(measurements_of(trace), trace).findings
    allocate_ms = open_device("simulated").preset.host_work_ns["allocate_pinned"] / 1e6
    assert finding.cause is Cause.ALLOCATION
    assert finding.explains_ms == 0
    assert finding.cure_limit_ms == pytest.approx(allocate_ms, rel=0.001)


def test_what_timers_and_trace_both_show_is_one_finding_with_the_evidence_of_both():
    _, trace = traced(fill="ready", input_memory="pinned", output_memory="pageable", graph=True)
    [finding] = judge(measurements_of(trace), trace).findings
    assert finding.cause is Cause.MOVED_WAIT
    whats = [each.what for each in finding.evidence]
    assert whats == ["synchronize", "download call", "download calls, to pageable memory, in the trace"]


@pytest.mark.parametrize("name", ["plain-pageable", "plain-pinned", "graph-pageable", "overlap"])
def test_nothing_is_wrong_with_the_loops_of_a_real_gpu_whose_frames_last_as_long(name):
    """Their waits do change: in the first by 6 us, while submitting becomes 380 us faster."""
    trace = shipped_trace(name)
    assert judge(measurements_of(trace), trace).verdict is Cause.NONE


@pytest.mark.parametrize("rung", [4, 5, 6, 7])
def test_lanes_that_fill_at_first_are_no_loop_that_became_slow(rung):
    device = open_device("simulated", trace=True)
    settings = replace(RUNGS[rung - 1].settings, frames=120, warmup=3)
    recording = run_loop(device, open_engine(device), settings)
    trace = Trace.from_spans(device.spans, device.source)
    found = measurements_of(trace)
    lanes = settings.collect_after + 1
    assert len(recording) - len(found) == 2 * (3 + lanes)  # the warm-up is collected before the lanes fill again
    assert found.times_ns[Stage.SYNCHRONIZE].min() > 0
    assert judge(found, trace).verdict is Cause.NONE


def test_a_wait_in_which_the_gpu_does_nothing_for_this_process_is_no_loop_with_nothing_wrong():
    trace = shipped_trace("shared-gpu")
    found = judge(measurements_of(trace), trace)
    assert found.verdict is None
    assert found.candidates == (Cause.SHARED_GPU,)
    idle_ms = np.median(attribute(trace).waits_ns("nothing")) / 1e6
    assert found.findings[0].cure_limit_ms == pytest.approx(idle_ms)
    assert idle_ms > 0.5 * found.slow_ms
    assert found.findings[0].explains_ms == 0


def test_a_wait_that_grows_and_finds_the_gpu_idle_is_one_finding_of_a_shared_gpu():
    trace = shipped_trace("shared-gpu")
    found = judge(loop(synchronize=step(1_000, 0.06, 9)), trace)
    [shared] = [finding for finding in found.findings if finding.cause is Cause.SHARED_GPU]
    whats = [each.what for each in shared.evidence]
    assert whats[:2] == ["synchronize before", "synchronize after"]
    assert whats[-1].startswith("synchronize calls while the GPU does nothing")
    assert shared.explains_ms == pytest.approx(8.9, abs=0.1)


def test_a_file_is_diagnosed_by_what_it_holds(tmp_path):
    report = shipped_file("traces", "moved-wait.sqlite")
    measured, found = judge_file(report)
    assert found.causes == (Cause.MOVED_WAIT,)
    assert "frame" in measured.times_ns
    log = tmp_path / "a.log"
    log.write_text("infer: 7.9 ms\n" * 40)
    measured, found = judge_file(log)
    assert measured.origin == "a.log"
    with pytest.raises(MeasurementsError, match="cannot be read"):
        judge_file(tmp_path / "none.csv")


def test_a_trace_without_an_allocation_rules_it_out_where_timers_would_name_it():
    spiked = loop(preprocess=np.where(np.arange(1_000) % 50 == 49, 9.0, 0.7))
    _, trace = traced(fill="copy", input_memory="pinned")
    assert Cause.ALLOCATION in judge(spiked).causes
    found = judge(spiked, trace)
    assert Cause.ALLOCATION not in {*found.causes, *found.candidates}
