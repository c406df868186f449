"""The frame loop on the simulated device of round numbers: what it submits, what it times, what it records."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from toy_engine import SIDE, ToySource, toy_engine, toy_frame

from yolotrt_lab.causes import SCENARIOS
from yolotrt_lab.causes.faults import Run
from yolotrt_lab.engine import open_engine
from yolotrt_lab.errors import SettingsError
from yolotrt_lab.loop import FrameLoop, LoopSettings, run_in_turns, run_loop
from yolotrt_lab.memory import SlotState
from yolotrt_lab.recording import Recording
from yolotrt_lab.simulate.timed_engine import SpinEngine
from yolotrt_lab.types import Fill, HostMemory, SourceKind, Stage

INPUT_BYTES, OUTPUT_BYTES = 4_915_200, 2_822_400
PINNED = LoopSettings(frames=20, warmup=2, input_memory=HostMemory.PINNED, fill=Fill.IN_PLACE)
PAGEABLE = replace(PINNED, input_memory=HostMemory.PAGEABLE)


def run(device, settings):
    return run_loop(device, open_engine(device), settings)


def stage_ns(recording, stage):
    """The one value of that stage in all steady frames."""
    values = set(recording.steady.stage_ns(stage).tolist())
    assert len(values) == 1, values
    return values.pop()


def test_stages_of_the_public_reports_loop_in_exact_virtual_time(device):
    recording = run(device, LoopSettings(frames=20, warmup=2))
    assert stage_ns(recording, Stage.PREPROCESS) == 300_000
    assert stage_ns(recording, Stage.UPLOAD) == 10_000 + INPUT_BYTES // 10
    assert stage_ns(recording, Stage.INFER) == 600_000
    assert stage_ns(recording, Stage.DOWNLOAD) == 6_000
    # the engine ends 10 us after its call; the download then takes 1 us and its bytes at 50 a ns, the wake-up 3 us
    synchronize = 10_000 + 1_000 + OUTPUT_BYTES // 50 + 3_000 - 6_000 - 1_000
    assert stage_ns(recording, Stage.SYNCHRONIZE) == synchronize
    assert stage_ns(recording, Stage.POSTPROCESS) == 0


def test_a_loop_has_slots_for_the_frames_in_flight_and_one_more(device):
    loop = FrameLoop(device, open_engine(device), replace(PINNED, collect_after=2))
    slots, own = 3 * (INPUT_BYTES + OUTPUT_BYTES), INPUT_BYTES  # its own is for frames that are not filled in place
    assert device.machine.memory.host_bytes == slots + own
    del loop


def test_pinned_in_place_takes_the_upload_call_down_to_the_submission(device):
    recording = run(device, PINNED)
    assert stage_ns(recording, Stage.PREPROCESS) == 100_000
    assert stage_ns(recording, Stage.UPLOAD) == 6_000


def test_with_a_graph_the_copy_goes_into_the_synchronize_and_the_frame_still_gets_shorter(device):
    pageable = run(device, replace(PAGEABLE, graph=True))
    pinned = run(device, replace(PINNED, graph=True))
    assert stage_ns(pinned, Stage.SYNCHRONIZE) > stage_ns(pageable, Stage.SYNCHRONIZE)
    frame = {each: np.diff(each.steady.columns["done_ns"]).mean() for each in (pageable, pinned)}
    assert frame[pageable] - frame[pinned] == pytest.approx(10_000 + INPUT_BYTES / 10 - INPUT_BYTES / 50, rel=0.05)


def test_on_a_clock_latency_climbs_by_what_each_frame_is_too_long(device):
    free = run(device, PAGEABLE)
    frame_ns = np.diff(free.steady.columns["done_ns"])[0]
    period_us = 1_000.0
    recording = run(device, replace(PAGEABLE, period_us=period_us)).steady
    assert frame_ns > 1_000_000
    assert set(np.diff(recording.latency_ns).tolist()) == {frame_ns - 1_000_000}
    assert recording.columns["due_ns"][5] - recording.columns["due_ns"][0] == 5_000_000
    assert stage_ns(recording, Stage.UPLOAD) == 10_000 + INPUT_BYTES // 10


def test_on_a_clock_that_it_can_serve_the_loop_waits_and_latency_is_flat(device):
    recording = run(device, replace(PINNED, period_us=2_000.0))
    assert len(set(recording.steady.latency_ns.tolist())) == 1
    assert (recording.steady.stage_ns(Stage.WAIT)[1:] > 1_000_000).all()


def test_warm_up_frames_are_kept_marked_and_not_on_the_clock(device):
    recording = run(device, replace(PINNED, warmup=3, period_us=5_000.0))
    assert recording.columns["frame"].tolist() == list(range(-3, 20))
    assert recording.columns["warmup"].sum() == 3
    assert not recording.stage_ns(Stage.WAIT)[:3].any()


@pytest.mark.parametrize("late", [1, 3])
def test_collected_late_each_frame_gets_its_own_result_in_order(device, late):
    recording = run(device, replace(PINNED, collect_after=late))
    assert recording.columns["frame"].tolist() == list(range(-2, 20))
    assert (np.diff(recording.columns["done_ns"]) > 0).all()
    assert (recording.columns["done_ns"] > recording.columns["start_ns"]).all()


@pytest.mark.parametrize(
    ("settings", "uploads"),
    [
        (LoopSettings(frames=5, warmup=2), {"pageable upload": 7}),
        (replace(PINNED, frames=5), {"pinned upload": 7}),
        (replace(PINNED, frames=5, fill=Fill.COPY), {"pinned upload": 7}),
        (replace(PINNED, frames=5, fill=Fill.READY), {"pinned upload": 7}),
    ],
)
def test_every_upload_is_made_from_the_memory_that_was_asked_for(device, settings, uploads):
    run(device, settings)
    names = [span.name for span in device.spans if span.row == "upload"]
    assert {name: names.count(name) for name in names} == uploads
    assert len([span for span in device.spans if span.row == "download"]) == 7


@pytest.mark.parametrize(("trap", "upload"), [("trap-allocate", "pinned upload"), ("trap-bypass", "pageable upload")])
def test_a_trap_uploads_from_its_own_memory(device, trap, upload):
    run = Run(device, open_engine(device), replace(PINNED, frames=5), None)
    run.trap = SCENARIOS[trap].trap
    run.loop().run()
    assert {span.name for span in device.spans if span.row == "upload"} == {upload}


def test_ranges_name_every_stage_inside_a_frame(device):
    run(device, replace(PINNED, frames=1, warmup=0))
    names = [span.name for span in device.spans if span.row == "range"]
    assert names == [*(str(stage) for stage in Stage), "frame"]


def test_recording_says_where_it_came_from_and_what_ran(device, tmp_path):
    path = tmp_path / "run.parquet"
    engine = open_engine(device)
    FrameLoop(device, engine, PINNED).run(path, label="mine", command="a command")
    loaded = Recording.load(path)
    assert loaded.source.kind is SourceKind.SIMULATED
    assert loaded.settings["engine"] == "simulated yolov8n-fp16"
    assert loaded.settings["input_memory"] == "pinned"
    assert (loaded.label, loaded.command) == ("mine", "a command")
    assert len(loaded) == 22


@pytest.mark.parametrize("late", [0, 3])
def test_frames_so_far_are_kept_when_the_loop_breaks(device, tmp_path, late):
    class Breaks(SpinEngine):
        left = 12

        def context(self, device):
            context = super().context(device)
            enqueue = context.enqueue

            def counted(stream):
                self.left -= 1
                if self.left < 0:
                    raise KeyboardInterrupt
                enqueue(stream)

            context.enqueue = counted
            return context

    path = tmp_path / "run.parquet"
    settings = replace(PINNED, frames=100, warmup=0, fill=Fill.READY, collect_after=late)
    engine = Breaks(100_000)
    loop = FrameLoop(device, engine, settings)
    with pytest.raises(KeyboardInterrupt):
        loop.run(path)
    kept = Recording.load(path)
    assert kept.columns["frame"].tolist() == list(range(12 - late))
    assert kept.notes == ("unfinished: KeyboardInterrupt ended the run",)
    engine.left = 1_000
    assert loop.run().columns["frame"].tolist() == list(range(100))  # every slot came back, and no frame of before


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"frames": 0}, "frames must be 1 or more, got 0"),
        ({"frames": 1e3}, r"frames must be a whole number, got 1000\.0"),
        ({"period_us": -1}, r"period_us must be from 0\.001 to 3\.6e9, an hour, got -1"),
        ({"period_us": 0.0004}, r"period_us must be from 0\.001 to 3\.6e9, an hour, got 0\.0004"),
        ({"period_us": float("nan")}, r"period_us must be from 0\.001 to 3\.6e9, an hour, got nan"),
        ({"period_us": 1e300}, r"period_us must be from 0\.001 to 3\.6e9, an hour, got 1e\+300"),
        ({"period_us": "2000"}, r"period_us must be from 0\.001 to 3\.6e9, an hour, got '2000'"),
        ({"period_us": True}, r"period_us must be from 0\.001 to 3\.6e9, an hour, got True"),
        ({"frames": True}, "frames must be a whole number, got True"),
        ({"graph": "false"}, "graph must be True or False, got 'false'"),
        ({"postprocess": 1}, "postprocess must be True or False, got 1"),
        ({"confidence": "x"}, "confidence must be from 0 to 1, got 'x'"),
        ({"input_memory": "paged"}, "input_memory must be one of .*, got 'paged'"),
        ({"fill": "somehow"}, "fill must be one of .*, got 'somehow'"),
        ({"input_memory": "pinned", "fill": "fresh"}, "must be 'pageable' for fill='fresh'"),
    ],
)
def test_settings_that_no_loop_can_have_are_refused_with_the_fix(values, message):
    with pytest.raises(SettingsError, match=message):
        LoopSettings(**values)


def test_numbers_of_numpy_are_settings_too(device):
    recording = run(device, replace(PINNED, frames=np.int64(4), warmup=np.uint8(1), collect_after=np.int32(1)))
    assert recording.settings["frames"] == 4
    assert len(recording) == 5


def test_engine_that_computes_needs_images(device):
    with pytest.raises(SettingsError, match=r"images must be .*, got None"):
        FrameLoop(device, toy_engine(), PINNED)


def test_source_of_frames_is_refused_with_the_ways_that_take_it(device):
    settings = replace(PINNED, postprocess=True)
    for fill in (Fill.IN_PLACE, Fill.READY):
        for images in (ToySource(3), [ToySource(3)], (toy_frame(number) for number in range(3))):
            with pytest.raises(SettingsError, match="images must be"):
                run_loop(device, toy_engine(), replace(settings, fill=fill), images)


def test_a_second_ctrl_c_leaves_no_slot_leased(device, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    loop = FrameLoop(device, SpinEngine(100_000), replace(PINNED, fill=Fill.READY, collect_after=2))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "enqueue", stop)
        patch.setattr(loop, "_stream", SimpleNamespace(synchronize=stop))
        loop.run()
    assert {slot.state for slot in loop._pool.slots} == {SlotState.FREE}
    assert len(loop.run().steady) == 20


def test_boxes_of_the_image_that_lies_ready_are_in_its_pixels(device):
    small, large = toy_frame(0), toy_frame(1, 3 * SIDE)
    settings = replace(PINNED, fill=Fill.READY, postprocess=True, confidence=0.5, frames=2, warmup=0)
    found = []
    for images in ([small, large], [small]):
        loop = FrameLoop(device, toy_engine(), settings, images, on_boxes=lambda _, boxes: found.append(boxes))
        loop.run()
    assert len(found) == 4
    assert len(found[0])
    assert all(np.array_equal(each.boxes, found[0].boxes) for each in found)


def test_ranges_and_timers_are_those_of_the_thread_that_runs_the_loop(device, monkeypatch):
    entered, around = [], device.range

    def watched(name):
        entered.append(device.machine.threads.running.number)
        return around(name)

    monkeypatch.setattr(device, "range", watched)
    loop = FrameLoop(device, open_engine(device), replace(PINNED, frames=1, warmup=0))
    device.start_thread(loop.run).join()
    assert set(entered) == {1}


def test_no_turns_are_refused(device):
    with pytest.raises(SettingsError, match="turns must be 1 or more, got 0"):
        run_in_turns({"one": FrameLoop(device, open_engine(device), PINNED)}, 0)
