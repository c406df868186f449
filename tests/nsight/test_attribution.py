"""Whose time it was, exactly: on frames written by hand and on the simulated device of round numbers."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from samples import sampled
from tiny_report import TinyReport, pageable_frame

from yolotrt_lab.causes.running import run_scenario
from yolotrt_lab.engine import open_engine
from yolotrt_lab.errors import TraceError
from yolotrt_lab.loop import FrameLoop, LoopSettings
from yolotrt_lab.nsight.attribution import WAITS, attribute
from yolotrt_lab.nsight.capture import check_trace
from yolotrt_lab.nsight.reports import read_trace, shipped_trace
from yolotrt_lab.nsight.trace import DIRECTIONS, MEMORIES, Trace
from yolotrt_lab.nsight.trace_findings import FindingKind, findings, trace_table
from yolotrt_lab.nsight.traced_frames import Call
from yolotrt_lab.simulate.preset import Preset
from yolotrt_lab.simulate.simulated import SimulatedDevice
from yolotrt_lab.speed.ladder import RUNGS
from yolotrt_lab.types import Stage

US = 1_000


def waits(attribution, call=0):
    """What a synchronize call waited for, in us, without what it did not."""
    split = {wait: int(attribution.synchronizes[f"{wait}_ns"][call]) / US for wait in WAITS}
    assert min(split.values()) >= 0
    length = attribution.synchronizes["end_ns"][call] - attribution.synchronizes["start_ns"][call]
    assert sum(split.values()) == length / US
    return {wait: time for wait, time in split.items() if time}


def frame_us(attribution, frame=0):
    return {name: values[frame] / US for name, values in attribution.frames.items() if name.endswith("_ns")}


@pytest.fixture
def traced(tmp_path):
    """Writes a report, reads it and attributes its time."""

    def read(report, frame_range="frame"):
        return attribute(read_trace(report.write(tmp_path / "r.sqlite")), frame_range)

    return read


@pytest.mark.parametrize("driver", [False, True], ids=["runtime", "driver"])
def test_a_frame_is_taken_apart(traced, driver):
    report = TinyReport()
    for frame in range(3):
        pageable_frame(report, frame * 1_000 * US, 1 + 4 * frame, driver=driver)
    attribution = traced(report)
    assert attribution.stages == ("upload", "infer", "download", "synchronize")
    for frame in range(3):
        us = frame_us(attribution, frame)
        assert [us[f"{stage}_ns"] for stage in attribution.stages] == [307, 19, 11, 548]
        assert [us[f"{stage}_gpu_ns"] for stage in attribution.stages] == [280, 500, 50, 0]
        assert (us["gpu_ns"], us["kernels_ns"], us["copies_ns"]) == (830, 500, 330)
        assert (us["in_copy_ns"], us["in_launch_ns"], us["in_synchronize_ns"]) == (308, 15, 545)
        # Idle: 0 to 40, 320 to 330 and 880 to 1,000; the upload call begins at 10, the launch at 315.
        assert (us["idle_ns"], us["idle_in_copy_ns"], us["idle_in_launch_ns"]) == (170, 30, 10)
        assert (us["idle_in_synchronize_ns"], us["idle_outside_ns"]) == (10, 120)
        assert waits(attribution, frame) == {"kernels": 485, "copies": 50, "wake_up": 10}
    assert attribution.frames["kernels"].tolist() == [1, 1, 1]
    assert attribution.frames["copies"].tolist() == [2, 2, 2]
    assert attribution.synchronizes["frame"].tolist() == [0, 1, 2]


def test_copies_are_listed_by_frame_direction_and_memory(traced):
    report = TinyReport()
    pageable_frame(report, 0, 1)
    attribution = traced(report)
    copies = attribution.copies
    assert [DIRECTIONS[code] for code in copies["direction"]] == ["h2d", "d2h"]
    assert [MEMORIES[code] for code in copies["host_memory"]] == ["pageable", "pinned"]
    assert copies["bytes"].tolist() == [4_000_000, 2_000_000]
    assert copies["call_ns"].tolist() == [300 * US, 8 * US]
    assert copies["gpu_ns"].tolist() == [280 * US, 50 * US]
    assert attribution.copied("bytes", "h2d").tolist() == [4_000_000]
    assert attribution.copied("bytes", "d2h", "pageable").tolist() == [0]


def test_copies_under_kernels_are_counted_once_and_by_process_and_gpu(traced):
    report = TinyReport()
    small_frame(report, 0, 1, kernel=(10, 40), sync=(80, 85))
    for number, (begin, end) in enumerate([(30, 50), (35, 60)], 10):  # two at once, from 30 to 60
        report.call("cudaMemcpyAsync", number * US, number * US + 1, number)
        report.copy("h2d", "Pinned", begin * US, end * US, number, nbytes=8)
    report.call("cudaMemcpyAsync", 20 * US, 21 * US, 20)
    report.copy("d2h", "Pinned", 60 * US, 80 * US, 20, nbytes=8)
    report.call("cudaLaunchKernel", 5 * US, 6 * US, 8, tid=12)
    report.kernel("another thread's, beside them", 36 * US, 45 * US, 8, stream=8)
    report.kernel("another process's", 45 * US, 80 * US, 1, pid=20)
    attribution = traced(report)
    assert attribution.copies["gpu_ns"].tolist() == [30 * US, 20 * US]
    assert attribution.copies["under_kernels_ns"].tolist() == [15 * US, 0]
    assert attribution.overlap_share("h2d") == 0.5
    assert attribution.overlap_share("d2h") == 0.0
    assert attribution.overlap_share("d2d") == 0.0


def rung(number, preset, **changes):
    """A rung of the ladder on the simulated device: its recording and its trace, from its first frame on."""
    step = RUNGS[number - 1]
    device = SimulatedDevice(preset, trace=True)
    loop = replace(step.settings, **changes).loop(device, open_engine(device, batch=step.batch))
    device.spans.clear()
    return loop.run(), Trace.from_spans(device.spans, device.source)


@pytest.mark.parametrize("number", sampled([4, 5, 6, 7, 8], [4, 8]))
def test_work_of_frames_in_flight_belongs_to_the_frame_that_submitted_it(number):
    recording, trace = rung(number, Preset.load("h200"), frames=40, warmup=0)
    seen, batch = attribute(trace), RUNGS[number - 1].batch
    check_trace(trace, frames=40, batches=40 // batch)
    submits = np.arange(40) % batch == batch - 1
    assert np.array_equal(seen.frames["copies"], 2 * submits)
    assert len(np.unique(seen.frames["kernels"][submits])) == 1
    assert not seen.frames["kernels"][~submits].any()
    assert seen.batched == (batch > 1)
    uploads = trace.copies["end_ns"] - trace.copies["start_ns"]
    assert seen.copied("gpu_ns", "h2d").sum() == uploads[trace.copies["direction"] == 0].sum()
    for stage in (Stage.UPLOAD, Stage.INFER, Stage.DOWNLOAD):
        assert np.array_equal(seen.frames[f"{stage}_ns"][submits] // batch, recording.stage_ns(stage)[submits])
    # They wait for no stranger, and leave no copies to hide.
    assert {found.kind for found in findings(trace)} <= {FindingKind.GAPS}


def test_two_threads_on_one_stream_mark_their_stages_each_for_itself(device):
    recording = run_scenario("shared-stream", device, open_engine(device), frames=20, telemetry=False)
    trace = Trace.from_spans(device.spans, device.source)
    seen = attribute(trace)
    assert seen.stages == ("upload", "infer", "download")
    for stage in (Stage.UPLOAD, Stage.INFER, Stage.DOWNLOAD):
        assert np.array_equal(seen.frames[f"{stage}_ns"][-len(recording) :], recording.stage_ns(stage)), stage
    waits = trace.named("ranges", Stage.SYNCHRONIZE.__eq__)
    lengths = (trace.ranges["end_ns"] - trace.ranges["start_ns"])[waits]
    assert np.array_equal(lengths[-len(recording) :], recording.stage_ns(Stage.SYNCHRONIZE))


def test_uploads_of_the_overlapped_loop_lie_under_kernels():
    _, trace = rung(6, Preset.load("h200"), frames=40, warmup=0)
    assert attribute(trace).overlap_share("h2d") == 1 - 1 / 40  # all but the first
    _, trace = rung(3, Preset.load("h200"), frames=40, warmup=0)
    assert attribute(trace).overlap_share("h2d") == 0.0


@pytest.mark.parametrize("name", ["graph-pinned", "overlap", "plain-pageable", "report-c", "shared-stream"])
def test_a_long_trace_that_is_taken_part_by_part_says_the_same(name, monkeypatch):
    trace = shipped_trace(name)
    whole = attribute(trace)
    monkeypatch.setattr("yolotrt_lab.nsight.attribution._AT_A_TIME", 5)
    parts = attribute(trace)
    for table in ("frames", "copies", "synchronizes"):
        found, expected = (getattr(seen, table) for seen in (parts, whole))
        assert list(found) == list(expected)
        assert all(np.array_equal(found[column], expected[column]) for column in expected), table
    assert (parts.stages, parts.notes, parts.counts) == (whole.stages, whole.notes, whole.counts)
    assert list(parts.idle_calls.items()) == list(whole.idle_calls.items())


@pytest.mark.parametrize("stray", ["kernel", "copy", "stages"])
def test_parts_that_are_not_whole_are_taken_as_one(stray, traced, monkeypatch):
    monkeypatch.setattr("yolotrt_lab.nsight.attribution._AT_A_TIME", 2)
    report = TinyReport()
    for frame in range(6):
        small_frame(
            report,
            200 * frame,
            4 * frame + 1,
            kernel=(200 * frame + 10, 200 * frame + 60),
            sync=(200 * frame + 8, 200 * frame + 65),
        )
        if stray == "stages":
            for stage in range(20):
                report.range(f"stage {frame} {stage}", (200 * frame + stage) * US, (200 * frame + stage) * US + 1)
    if stray == "kernel":
        report.kernel("asked for in the part before", 810 * US, 870 * US, 1, stream=9)
    if stray == "copy":
        report.call("cudaMemcpyAsync", 910 * US, 911 * US, 99)
        report.copy("h2d", "Pinned", 912 * US, 920 * US, 99)
    attribution = traced(report)
    assert len(attribution) == 6
    assert attribution.frames["kernels"].tolist() == [1 + (stray == "kernel"), 1, 1, 1, 1, 1]
    assert attribution.copies["frame"].tolist() == [-1] * (stray == "copy")
    assert len(attribution.stages) == 64 * (stray == "stages")


def small_frame(report, begin, first, *, kernel, sync, stream=7, pid=10, tid=11, call="cudaStreamSynchronize"):
    """A frame of 100 us with one launch and one synchronize call, all in us from `begin`."""
    report.range("frame", begin * US, (begin + 100) * US, pid=pid, tid=tid)
    report.call("cudaLaunchKernel", (begin + 1) * US, (begin + 4) * US, first, pid, tid)
    report.kernel("own", kernel[0] * US, kernel[1] * US, first, stream=stream, pid=pid)
    report.call(call, sync[0] * US, sync[1] * US, first + 1, pid, tid)


def test_what_ends_with_its_frame_is_in_it_and_what_ends_as_a_wait_begins_is_not_waited_for(traced):
    report = TinyReport()
    small_frame(report, 0, 1, kernel=(10, 40), sync=(40, 100))
    report.call("cudaLaunchKernel", 0, 1, 8)  # with the frame
    report.call("cudaLaunchKernel", 100 * US, 101 * US, 9)  # behind it
    report.range("synchronize", 40 * US, 100 * US)
    attribution = traced(report)
    assert attribution.stages == ("synchronize",)
    assert waits(attribution) == {"nothing": 60}
    assert [attribution.counts[what] for what in (Call.LAUNCH, "outside", "over")] == [2, 1, 0]


def test_frames_go_in_batches_where_half_of_them_submit_work_and_not_where_none_does(traced):
    report = TinyReport()
    report.range("frame", 0, 100 * US)
    report.call("cudaStreamSynchronize", 10 * US, 20 * US, 1)
    assert not traced(report).batched
    small_frame(report, 100, 2, kernel=(110, 150), sync=(120, 155))
    assert traced(report).batched
    small_frame(report, 200, 4, kernel=(210, 250), sync=(220, 255))
    assert not traced(report).batched


def test_work_of_another_frame_on_the_same_stream(traced):
    report = TinyReport()
    small_frame(report, 0, 1, kernel=(10, 140), sync=(20, 23))
    small_frame(report, 100, 3, kernel=(140, 160), sync=(110, 165))
    attribution = traced(report)
    assert waits(attribution, 0) == {"nothing": 3}  # none of its work ended while it waited
    assert waits(attribution, 1) == {"other_frames": 30, "kernels": 20, "wake_up": 5}


LATE = {"kernel": (70, 80), "sync": (10, 85)}
EARLY = {"kernel": (10, 30), "sync": (10, 75)}
BEHIND = [(30, 70, {"stream": 8})]
OF_ANOTHER_PROCESS = {"pid": 20, "correlation": 1}
WAITED_FOR = {
    "nothing": ({"kernel": (5, 9), "sync": (10, 90)}, [], {"nothing": 80}),
    "work of no frame, told by its stream": (
        LATE,
        [(20, 40, {"stream": 7}), (30, 60, {"stream": 8})],
        {"kernels": 10, "other_frames": 20, "other_streams": 20, "nothing": 20, "wake_up": 5},
    ),
    "another process": (
        LATE,
        [(15, 70, OF_ANOTHER_PROCESS)],
        {"kernels": 10, "other_streams": 55, "nothing": 5, "wake_up": 5},
    ),
    "nothing on this GPU": (
        LATE,
        [(15, 70, OF_ANOTHER_PROCESS | {"device": 1})],
        {"kernels": 10, "nothing": 60, "wake_up": 5},
    ),
    "all streams": (
        EARLY | {"call": "cudaDeviceSynchronize"},
        BEHIND,
        {"kernels": 20, "other_streams": 40, "wake_up": 5},
    ),
    "its stream": (EARLY, BEHIND, {"kernels": 20, "wake_up": 45}),
    "work that ends behind it, as clocks differ": ({"kernel": (10, 78), "sync": (10, 75)}, [], {"kernels": 65}),
}


@pytest.mark.parametrize(("frame", "others", "expected"), WAITED_FOR.values(), ids=WAITED_FOR)
def test_what_a_synchronize_call_waits_for(traced, frame, others, expected):
    report = TinyReport()
    small_frame(report, 0, 1, **frame)
    for number, (start, end, where) in enumerate(others, 8):
        where = {"correlation": number} | where
        report.call("cudaLaunchKernel", 5 * US, 6 * US, where["correlation"], where.get("pid", 10), 12)
        report.kernel("another's", start * US, end * US, **where)
    assert waits(traced(report)) == expected


def test_overlapping_work_counts_once_and_memory_fills_are_no_kernels(traced):
    report = TinyReport()
    small_frame(report, 0, 1, kernel=(30, 60), sync=(8, 75))
    report.call("cudaMemcpyAsync", 5 * US, 6 * US, 9)
    report.copy("d2h", "Pinned", 40 * US, 70 * US, 9, stream=8)
    report.call("cudaMemsetAsync", 6 * US, 7 * US, 10)
    report.gpu("MEMSET", 10 * US, 30 * US, 10, bytes=8)
    attribution = traced(report)
    assert waits(attribution) == {"kernels": 50, "copies": 10, "nothing": 2, "wake_up": 5}
    assert frame_us(attribution)["gpu_ns"] == 60
    assert attribution.frames["kernels"].tolist() == [1]


def test_a_thread_that_only_waits_waits_for_the_frames_of_others_and_a_note_says_so(traced):
    report = TinyReport()
    report.range("frame", 0, 8 * US)
    report.call("cudaLaunchKernel", 1 * US, 4 * US, 1)
    report.kernel("k", 10 * US, 60 * US, 1)
    report.call("cudaEventSynchronize", 20 * US, 64 * US, 9, tid=12)
    attribution = traced(report)
    assert attribution.synchronizes["frame"].tolist() == [-1]
    assert waits(attribution) == {"other_frames": 40, "wake_up": 4}
    [note] = [note for note in attribution.notes if "synchronize" in note]
    assert note.startswith("1 of 1 synchronize calls are in no frame")
    report.call("cudaStreamSynchronize", 5 * US, 6 * US, 3)
    assert not any("in no frame" in note for note in traced(report).notes)


def test_two_processes_with_equal_correlations_have_frames_of_their_own(traced):
    report = TinyReport()
    pageable_frame(report, 0, 1)
    pageable_frame(report, 500 * US, 1, pid=20, tid=21)
    attribution = traced(report)
    assert attribution.frames["pid"].tolist() == [10, 20]
    assert attribution.frames["gpu_ns"].tolist() == [830 * US] * 2
    assert attribution.frames["copies"].tolist() == [2, 2]
    # From 540 us the other's upload runs beside this one's kernel; nothing of this frame is lost by it.
    assert waits(attribution, 0) == {"kernels": 485, "copies": 50, "wake_up": 10}


def test_frames_may_be_named_by_a_pattern_and_the_outermost_count(traced):
    report = TinyReport()
    for number in range(3):
        report.range(f"frame {number}", 100 * number, 100 * number + 90, text=True)
        report.range("frame 9", 100 * number + 10, 100 * number + 20)
    attribution = traced(report, frame_range="frame *")
    assert attribution.frames["start_ns"].tolist() == [0, 100, 200]
    assert "3 of 6 ranges 'frame *' begin inside another one and are no frames" in attribution.notes


def test_a_trace_without_frames_is_refused_and_the_error_names_the_ranges_that_there_are(traced):
    report = TinyReport()
    report.range("step", 0, 10)
    report.call("cudaStreamSynchronize", 0, 1, 1)
    with pytest.raises(TraceError, match=r"no range 'frame'; its most frequent ranges are step"):
        traced(report)


def test_only_ranges_directly_in_a_frame_are_stages(traced):
    report = TinyReport()
    report.range("loop", 0, 1_000)
    report.range("frame", 100, 200)
    report.range("infer", 110, 190)
    report.range("layer 1", 120, 150)
    report.range("infer", 120, 150, tid=12)
    report.range("late", 195, 205)
    report.range("post", 191, 194)
    attribution = traced(report)
    assert attribution.stages == ("infer", "post")
    assert attribution.frames["infer_ns"].tolist() == [80]


def test_kernels_without_a_call_belong_to_no_frame_and_are_noted(traced):
    report = TinyReport()
    small_frame(report, 0, 1, kernel=(10, 60), sync=(8, 65))
    report.kernel("whose", 60 * US, 61 * US, 99)
    attribution = traced(report)
    assert attribution.frames["kernels"].tolist() == [1]
    assert "1 of 2 kernels and copies have no call in the trace, and belong to no frame" in attribution.notes


def test_a_call_that_outlasts_its_frame_and_kernels_behind_all_calls_are_noted(traced):
    report = TinyReport()
    small_frame(report, 0, 1, kernel=(10, 60), sync=(8, 65))
    assert len(traced(report).notes) == 1  # that the report has no copies
    report.call("cudaLaunchKernel", 70 * US, 130 * US, 8)
    report.kernel("late", 200 * US, 210 * US, 8)
    _, over, behind = traced(report).notes
    assert over.startswith("1 calls begin in a frame and end after it")
    assert behind == "1 of 2 kernels start after the last call: clocks may differ"


def test_one_launch_of_twenty_that_shows_no_work_is_no_doubt(traced):
    report = TinyReport()
    for frame in range(19):
        small_frame(report, 100 * frame, 1 + 2 * frame, kernel=(100 * frame + 10, 100 * frame + 60), sync=(99, 100))
    report.call("cudaLaunchKernel", 70 * US, 71 * US, 98)
    assert traced(report).shows_all
    report.call("cudaLaunchKernel", 72 * US, 73 * US, 99)
    assert not traced(report).shows_all


@pytest.mark.parametrize("collect_after", [0, 3])
@pytest.mark.parametrize("memory", ["pageable", "pinned"])
def test_frames_of_the_simulated_device_agree_with_the_loops_own_timers(device, memory, collect_after):
    fill = "fresh" if memory == "pageable" else "in_place"
    settings = LoopSettings(frames=20, warmup=0, input_memory=memory, fill=fill, collect_after=collect_after)
    recording = FrameLoop(device, open_engine(device), settings).run()
    attribution = attribute(Trace.from_spans(device.spans, device.source))
    assert len(attribution) == 20
    assert attribution.stages[:5] == ("wait", "preprocess", "upload", "infer", "download")
    for stage in attribution.stages[:5]:
        assert attribution.frames[f"{stage}_ns"].tolist() == recording.columns[f"{stage}_ns"].tolist()
    assert attribution.frames["copies"].tolist() == [2] * 20
    assert attribution.frames["kernels"].tolist() == [1] * 20
    kernels = [span.end_ns - span.start_ns for span in device.spans if span.row == "kernel"]
    assert attribution.frames["kernels_ns"].tolist() == kernels
    assert len(attribution.synchronizes["frame"]) == 20
    for call in range(20):
        waits(attribution, call)


@pytest.mark.parametrize("seed", range(8))
def test_the_parts_of_random_traces_add_up(traced, seed):
    rng = np.random.default_rng(seed)
    report = TinyReport()
    for thread, frame in product(range(3), range(15)):
        begin = 150 * frame + int(rng.integers(0, 50))
        kernel, sync = begin + int(rng.integers(-20, 90)), begin + 5 + int(rng.integers(0, 60))
        small_frame(
            report,
            begin,
            1 + 2 * frame + 100 * thread,
            kernel=(kernel, kernel + int(rng.integers(0, 150))),
            sync=(sync, min(begin + 100, sync + int(rng.integers(0, 80)))),
            stream=7 + int(rng.integers(0, 3)),
            tid=11 + thread,
            pid=10 + thread // 2,
        )
    attribution = traced(report)
    for call in range(45):
        waits(attribution, call)
    idle = [values for name, values in attribution.frames.items() if name.startswith(("idle_in_", "idle_outside"))]
    assert np.array_equal(sum(idle), attribution.frames["idle_ns"])
    assert min(column.min() for column in idle) >= 0


def test_the_table_of_a_trace_in_batches_has_means_and_says_so():
    _, trace = rung(8, Preset.load("h200"), frames=40, warmup=0)
    seen = attribute(trace)
    table = trace_table({"batches": seen}, skip=0)
    cells = {row[0]: row[1] for row in table.rows}
    assert cells["GPU: copies in"] == f"{seen.copied('gpu_ns', 'h2d').sum() / 40 / US:,.1f}"
    assert table.notes[-1] == "batches: means over frames, which go in batches"
