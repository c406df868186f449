"""The overlapped loop on the simulated device of round numbers: what overlaps, whose result is whose, what breaks."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
from samples import sampled
from toy_engine import COST, SIDE, ToySource, toy_engine, toy_frame

from yolotrt_lab.device import open_device
from yolotrt_lab.engine import open_engine
from yolotrt_lab.errors import (
    CaptureError,
    DeviceError,
    DtypeError,
    EngineError,
    FrameSourceError,
    HazardError,
    ModelError,
    OutOfMemoryError,
    RecordingError,
    SettingsError,
    ShapeError,
)
from yolotrt_lab.frames import FrameSource
from yolotrt_lab.heads import decode
from yolotrt_lab.loop import FrameLoop, LoopSettings, run_loop
from yolotrt_lab.memory import Slot, SlotState
from yolotrt_lab.recording import Recording
from yolotrt_lab.simulate.simulated import SimulatedDevice
from yolotrt_lab.simulate.streams import SimulatedStream
from yolotrt_lab.simulate.timed_engine import SpinEngine
from yolotrt_lab.speed.kernels import bgr_to_nv12
from yolotrt_lab.speed.overlap import OverlappedLoop, OverlapSettings
from yolotrt_lab.types import Pixels, Stage, TensorSpec
from yolotrt_lab.vision import Letterbox

BASE = LoopSettings(frames=24, warmup=3, input_memory="pinned", fill="in_place", postprocess=True, confidence=0.5)
OVERLAP = OverlapSettings(
    frames=24, warmup=3, postprocess=True, confidence=0.5, graph=True, overlap=True, collect_after=3
)
LETTERBOX = replace(OVERLAP, gpu_letterbox=True)
DECODE = replace(LETTERBOX, gpu_decode=True)
CONTEXTS = replace(DECODE, contexts=4)
LANES = replace(CONTEXTS, overlap=False)
RUNGS = {
    "overlap": OVERLAP,
    "calls": replace(OVERLAP, graph=False),
    "letterbox": LETTERBOX,
    "decode": DECODE,
    "contexts": CONTEXTS,
    "lanes": LANES,
    "synchronous": replace(LANES, contexts=1, collect_after=0),
}
READY = replace(OVERLAP, frames=200, fill="ready", postprocess=False)


def collected(device, engine, settings, images):
    """The boxes of every frame, by number, and the recording."""
    boxes = {}
    loop = OverlappedLoop(device, engine, settings, images, on_boxes=boxes.__setitem__)
    return boxes, loop.run()


def expected(frame, settings=BASE, engine=None):
    """The boxes of a frame as the host alone finds them."""
    engine = engine or toy_engine()
    spec = engine.inputs[0]
    image = np.empty((1, *spec.shape[1:]), spec.dtype)
    geometry = Letterbox()(frame, image)
    output = engine.compute({"images": image})["output0"][:1]
    return decode(output, geometry, confidence=settings.confidence)


def same(found, wanted):
    return all(np.array_equal(getattr(found, part), getattr(wanted, part)) for part in ("boxes", "scores", "classes"))


def us_a_frame(recording):
    done = recording.steady.columns["done_ns"]
    return float(np.diff(done)[20:].mean()) / 1e3


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("rung", RUNGS)
def test_every_rung_finds_the_boxes_that_the_host_finds(preset, rung, batch):
    frames = [toy_frame(number) for number in range(7)]
    boxes, recording = collected(SimulatedDevice(preset), toy_engine(batch), RUNGS[rung], frames)
    assert list(boxes) == list(range(24))
    assert recording.columns["frame"].tolist() == list(range(-3, 24))
    for index, found in boxes.items():
        assert len(found)
        assert same(found, expected(frames[index % 7])), index


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("side", sampled([SIDE, 3 * SIDE], [3 * SIDE]))
@pytest.mark.parametrize("from_source", [False, True])
def test_nv12_frames_give_the_boxes_of_the_converted_frames(preset, batch, side, from_source):
    planes = [bgr_to_nv12(toy_frame(number, side)) for number in range(24)]
    settings = replace(CONTEXTS, pixels="nv12", warmup=0)
    boxes, _ = collected(
        SimulatedDevice(preset), toy_engine(batch), settings, PlanesSource(planes) if from_source else planes
    )
    assert list(boxes) == list(range(24))
    for index, found in boxes.items():
        assert same(found, expected(cv2.cvtColor(planes[index], cv2.COLOR_YUV2BGR_NV12)))


class PlanesSource(FrameSource):
    pixels = Pixels.NV12

    def __init__(self, planes):
        self.size, self.left = planes[0].shape[1:] * 2, iter(planes)

    def read(self):
        return next(self.left, None)


NV12_FRAME = np.zeros((96, 64), np.uint8)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ([], SettingsError, r"one array .* or more, got \[\]"),
        ([toy_frame(0)], ShapeError, r"must be \(height \* 3 / 2, width\), got \(64, 64, 3\)"),
        ([NV12_FRAME[:95]], ShapeError, r"got \(95, 64\)"),
        ([NV12_FRAME[:, :63]], ShapeError, r"even height and width, got \(64, 63\)"),
        ([NV12_FRAME.astype(np.uint16)], DtypeError, "uint8, got uint16"),
        ([NV12_FRAME, NV12_FRAME[:48]], ShapeError, "must have one size"),
        (ToySource(3), SettingsError, "pixels must be those of the source, bgr, got nv12"),
    ],
)
def test_what_is_no_nv12_frame_is_refused(device, images, error, message):
    with pytest.raises(error, match=message):
        run_loop(device, toy_engine(), replace(CONTEXTS, pixels="nv12"), images)


@pytest.mark.parametrize(("side", "dtype"), [(3 * SIDE, "float32"), (SIDE, "float16")])
def test_a_stack_of_frames_of_any_size_comes_back_in_its_own_pixels(preset, side, dtype):
    frames = np.stack([toy_frame(number, side) for number in range(3)])
    boxes, _ = collected(SimulatedDevice(preset), toy_engine(dtype=dtype), CONTEXTS, frames)
    engine = toy_engine(dtype=dtype)
    assert all(same(found, expected(frames[index % 3], engine=engine)) for index, found in boxes.items())


def test_frame_of_more_candidates_than_there_is_room_for_is_decoded_on_the_host(preset):
    settings = replace(DECODE, frames=3, warmup=0, confidence=0.0)
    frame, engine = toy_frame(1), toy_engine(anchors=1_100)
    boxes, _ = collected(SimulatedDevice(preset), engine, settings, [frame])
    wanted = expected(frame, settings, toy_engine(anchors=1_100))
    assert len(wanted) > 0
    assert all(same(found, wanted) for found in boxes.values())


# What overlaps


def test_uploads_and_downloads_hide_behind_the_engine(device):
    assert us_a_frame(run_loop(device, open_engine(device), READY)) == pytest.approx(400, abs=1)
    # one lane: 2 for the launch, 5 until it starts, then upload, engine and download, and what the host does between
    alone = us_a_frame(run_loop(device, open_engine(device), replace(READY, collect_after=0)))
    assert alone > 400 + (2_000 + 4_915_200 / 50 + 2_822_400 / 50) / 1e3


def test_contexts_at_once_share_the_gpu_as_measured(preset):
    device = SimulatedDevice(replace(preset, engines={"yolov8n-fp16": COST}))
    engine = toy_engine()
    engine.compute = None
    for contexts, total_rate in [(1, 1.0), (2, 1.5), (4, 2.0)]:
        settings = replace(READY, contexts=contexts, collect_after=2 * contexts - 1 + 2 * (contexts == 1))
        assert us_a_frame(run_loop(device, engine, settings)) == pytest.approx(400 / total_rate, rel=0.02)


def test_one_lane_is_one_graph_and_streams_of_their_own_are_three(device):
    run_loop(device, open_engine(device), replace(READY, frames=1, warmup=0, overlap=False, contexts=2))
    assert [span.name for span in device.spans].count("cudaGraphLaunch") == 1
    device.spans.clear()
    run_loop(device, open_engine(device), replace(READY, frames=1, warmup=0))
    assert [span.name for span in device.spans].count("cudaGraphLaunch") == 3


def test_only_boxes_are_downloaded_once_the_gpu_finds_them(preset):
    device = SimulatedDevice(preset, trace=True)
    run_loop(device, toy_engine(), replace(DECODE, frames=2, warmup=0), [toy_frame(0)])
    sizes = {span.nbytes for span in device.spans if span.row == "download"}
    assert sizes == {4 * (4 + 6 * 300)}


# Batches, clocks and cameras


def test_batch_on_a_clock_goes_when_the_next_frame_would_come_too_late(device):
    engine = toy_engine(4)
    settings = replace(CONTEXTS, frames=8, warmup=0, period_us=1_000.0)
    full = run_loop(device, engine, replace(settings, deadline_us=3_000.0), [toy_frame(0)])
    assert len(set(full.columns["done_ns"].tolist())) == 2
    pairs = run_loop(device, engine, replace(settings, deadline_us=1_000.0), [toy_frame(0)])
    assert len(set(pairs.columns["done_ns"].tolist())) == 4
    assert pairs.latency_ns.max() < full.latency_ns.max()
    assert np.diff(pairs.columns["due_ns"]).tolist() == [1_000_000] * 7


def test_results_are_taken_up_while_the_loop_waits_for_the_clock(device):
    recording = run_loop(device, open_engine(device), replace(READY, frames=40, period_us=5_000.0)).steady
    assert recording.latency_ns.max() < 1_000_000
    assert (recording.stage_ns(Stage.WAIT)[1:] > 4_000_000).all()


def test_cameras_take_turns_and_each_keeps_its_order(device, tmp_path):
    cameras = [ToySource(3), ToySource(6, first=100), ToySource(2, first=200)]
    boxes = []
    settings = replace(CONTEXTS, frames=100, warmup=0)
    loop = OverlappedLoop(device, toy_engine(2), settings, cameras, on_boxes=lambda _, found: boxes.append(found))
    recording = loop.run(tmp_path / "run.parquet")
    assert recording.columns["camera"].tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 1, 1, 1]
    order = [0, 100, 200, 1, 101, 201, 2, 102, 103, 104, 105]
    assert all(same(found, expected(toy_frame(number))) for found, number in zip(boxes, order, strict=True))
    assert Recording.load(tmp_path / "run.parquet").columns["camera"].tolist() == recording.columns["camera"].tolist()


def test_cameras_of_a_second_run_are_its_own(device):
    settings = replace(CONTEXTS, frames=4, warmup=0)
    loop = OverlappedLoop(device, toy_engine(), settings, [ToySource(10) for _ in range(3)])
    assert [loop.run().columns["camera"].tolist() for _ in range(2)] == [[0, 1, 2, 0], [1, 2, 0, 1]]


def test_slots_that_lie_ready_are_filled_from_the_source_before_the_loop(device):
    settings, wanted = replace(LANES, fill="ready", frames=8, warmup=0), [toy_frame(number) for number in range(4)]
    boxes, recording = collected(device, toy_engine(), settings, ToySource(4))
    assert all(same(found, expected(wanted[index % 4])) for index, found in boxes.items())
    assert len(boxes) == len(recording) == 8
    run_loop(device, toy_engine(), settings, [ToySource(4), ToySource(4)])
    with pytest.raises(SettingsError, match="must have 4 frames to fill all slots, got 3"):
        run_loop(device, toy_engine(), settings, ToySource(3))


def test_source_writes_into_the_slot_itself(device):
    class Writes(ToySource):
        targets = ()

        def read_into(self, out):
            self.targets = (*self.targets, out.__array_interface__["data"][0])
            return super().read_into(out)

    source = Writes(8)
    loop = OverlappedLoop(device, toy_engine(), replace(CONTEXTS, warmup=0), source)
    loop.run()
    slots = [slot.input.array.__array_interface__["data"][0] for slot in loop.lanes.pool.slots]
    assert source.targets == (*slots, *slots, slots[0])


# Hazards: each guard, and what happens without it


def test_slot_reused_too_early_is_a_hazard_without_the_wait(device, monkeypatch):
    run = lambda: run_loop(device, toy_engine(), CONTEXTS, [toy_frame(0), toy_frame(1)])  # noqa: E731
    assert len(run()) == 27
    monkeypatch.setattr(Slot, "wait", Slot.release)
    with pytest.raises(HazardError, match="while a copy"):
        run()


@pytest.mark.parametrize(
    ("settings", "waits"),
    [
        (replace(CONTEXTS, contexts=1, collect_after=0), (Slot, "wait")),
        (replace(BASE, collect_after=1, graph=True), (Slot, "wait")),
        (BASE, (SimulatedStream, "synchronize")),
    ],
    ids=["overlapped", "late", "each frame"],
)
def test_output_read_before_the_host_has_waited_for_it_is_a_hazard(device, monkeypatch, settings, waits):
    loop = settings.loop(device, toy_engine(), [toy_frame(0)])
    monkeypatch.setattr(*waits, lambda waited: waited.release() if isinstance(waited, Slot) else None)
    with pytest.raises(HazardError, match=r"are read .*while .*download"):
        loop.run()


def test_lanes_that_shared_a_context_would_run_it_twice_at_once(preset, monkeypatch):
    device, engine = SimulatedDevice(replace(preset, kernel_sharing=(1.0,))), toy_engine()
    context = engine.context(device)
    monkeypatch.setattr(engine, "context", lambda _: context)
    with pytest.raises(HazardError, match="that toy reads in another stream, and nothing orders the two"):
        run_loop(device, engine, CONTEXTS, [toy_frame(0)])


def test_lanes_of_one_stream_have_one_context_and_buffers_of_their_own(device):
    engine, made = toy_engine(), []
    context = engine.context
    engine.context = lambda device: made.append(context(device)) or made[-1]
    loop = OverlappedLoop(device, engine, replace(CONTEXTS, contexts=2, collect_after=3), [toy_frame(0)])
    assert len(made) == 2
    assert len({buffer.address for lane in loop.lanes.lanes for buffer in lane.context.buffers.values()}) == 8


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ([toy_frame(0), toy_frame(1, 2 * SIDE)], ShapeError, "must have one size"),
        ([ToySource(3), toy_frame(0)], SettingsError, "can't be mixed"),
    ],
)
def test_images_that_do_not_go_together_are_refused(device, images, error, message):
    with pytest.raises(error, match=message):
        run_loop(device, toy_engine(), CONTEXTS, images)


@pytest.mark.parametrize("settings", [BASE, CONTEXTS])
def test_loop_that_runs_cannot_be_run_a_second_time_meanwhile(device, settings):
    loop = replace(settings, frames=4).loop(device, toy_engine(), [toy_frame(0)])
    loop.on_boxes = lambda *_: loop.run()
    with pytest.raises(SettingsError, match="running already"):
        loop.run()
    loop.on_boxes = None
    assert len(loop.run()) == 7


@pytest.mark.parametrize("settings", [BASE, CONTEXTS])
def test_loop_runs_again_after_a_path_that_was_refused(device, tmp_path, settings):
    loop = replace(settings, frames=4).loop(device, toy_engine(), [toy_frame(0)])
    with pytest.raises(RecordingError, match="it is a folder"):
        loop.run(tmp_path)
    assert len(loop.run()) == 7


# Ends and failures


def free(loop):
    return all(slot.state is SlotState.FREE for slot in loop.lanes.pool.slots)


@pytest.mark.parametrize(("batch", "frames"), [(1, 9), (4, 9), (1, 1)])
def test_source_that_ends_in_the_middle_or_in_the_warm_up_ends_the_loop(device, batch, frames):
    loop = OverlappedLoop(device, toy_engine(batch), replace(CONTEXTS, warmup=2), ToySource(frames))
    assert loop.run().columns["frame"].tolist() == list(range(-2, frames - 2))
    assert free(loop)


@pytest.mark.parametrize("error", [FrameSourceError("the camera is gone"), KeyboardInterrupt()])
@pytest.mark.parametrize("batch", [1, 4])
def test_what_was_recorded_is_kept_when_the_source_breaks(device, tmp_path, error, batch):
    path = tmp_path / "run.parquet"
    source = ToySource(10, error=error)
    loop = OverlappedLoop(device, toy_engine(batch), replace(CONTEXTS, warmup=0), source)
    with pytest.raises(type(error)):
        loop.run(path)
    assert Recording.load(path).columns["frame"].tolist() == list(range(10 // batch * batch))
    assert free(loop)
    source.left, source.error = 8, None
    assert len(loop.run()) == 8


def test_second_ctrl_c_while_frames_in_flight_are_collected_still_leaves_the_gpu_idle_and_the_slots_free(device):
    loop = OverlappedLoop(device, toy_engine(), replace(OVERLAP, warmup=0, frames=9), [toy_frame(0)])

    def interrupt(index, _):
        if index >= 5:
            raise KeyboardInterrupt

    loop.on_boxes = interrupt
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    assert free(loop)
    now = device.now_ns()
    device.synchronize()
    assert device.now_ns() == now + device.preset.synchronize_ns  # there was nothing to wait for
    loop.on_boxes = None
    assert loop.run().columns["frame"].tolist() == list(range(9))


@pytest.mark.parametrize("settings", [BASE, CONTEXTS])
def test_error_of_a_gpu_that_is_lost_is_the_one_that_is_raised(device, monkeypatch, settings):
    loop = settings.loop(device, toy_engine(), [toy_frame(0)])

    def lost(*_):
        raise DeviceError("unspecified launch failure")

    def fail(*_):
        monkeypatch.setattr(device, "synchronize", lost)
        monkeypatch.setattr(SimulatedStream, "synchronize", lost)
        raise ValueError("the first error")

    loop.on_boxes = fail
    with pytest.raises(ValueError, match="the first error"):
        loop.run()


@pytest.mark.parametrize("kind", ["empty_host", "empty_device"])
def test_memory_that_runs_out_is_said_before_the_loop_runs(device, monkeypatch, kind):
    left, allocate = [3], getattr(device, kind)

    def limited(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise OutOfMemoryError("no room", fix="use fewer slots or a smaller batch")
        return allocate(*arguments)

    monkeypatch.setattr(device, kind, limited)
    with pytest.raises(OutOfMemoryError, match="fewer slots"):
        CONTEXTS.loop(device, toy_engine(), [toy_frame(0)])


@pytest.mark.parametrize("settings", [READY, replace(BASE, graph=True)])
def test_engine_runs_once_before_it_is_captured(device, monkeypatch, settings):
    """Engines allocate, and choose kernels, when they run for the first time, which no capture allows."""
    calls, capture = [], device.capture

    class Watched(SpinEngine):
        def context(self, device):
            context = super().context(device)
            enqueue = context.enqueue
            context.enqueue = lambda stream: (calls.append("enqueue"), enqueue(stream))[1]
            return context

    def watched(submit, stream):
        device.synchronize()
        calls.append("capture")
        return capture(submit, stream)

    monkeypatch.setattr(device, "capture", watched)
    replace(settings, collect_after=0).loop(device, Watched(100_000))
    assert calls[0] == "enqueue"
    assert "capture" in calls
    assert calls.count("enqueue") == 2


@pytest.mark.parametrize("settings", [READY, replace(BASE, graph=True)])
def test_engine_that_cannot_be_captured_says_so(device, settings):
    class Stubborn(SpinEngine):
        def context(self, device):
            context = super().context(device)
            enqueue, count = context.enqueue, [0]

            def once(stream):
                count[0] += 1
                if count[0] > 1:
                    raise EngineError("not while capturing", fix="none")
                enqueue(stream)

            context.enqueue = once
            return context

    with pytest.raises(CaptureError, match=r"spin kernel of 0\.1 ms cannot be captured: not while capturing") as caught:
        run_loop(device, Stubborn(100_000), settings)
    assert caught.value.fix == "use graph=False"
    assert len(run_loop(device, SpinEngine(100_000), settings)) == settings.frames + settings.warmup


FRAME = toy_frame(0)


@pytest.mark.parametrize("settings", [BASE, LETTERBOX])
@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (None, SettingsError, "got None"),
        ([], SettingsError, r"got \[\]"),
        ("clip.mp4", SettingsError, r"got 'clip.mp4'\nFix: pass read_images"),
        ([FRAME.astype(np.uint16)], DtypeError, "uint8, got uint16"),
        ([FRAME / 255], DtypeError, "uint8, got float64"),
        ([FRAME[..., 0]], ShapeError, "COLOR_GRAY2BGR"),
        ([FRAME[..., :1]], ShapeError, "COLOR_GRAY2BGR"),
        ([np.dstack([FRAME, FRAME[..., 0]])], ShapeError, r"\(64, 64, 4\)"),
    ],
)
def test_what_is_no_image_is_refused_with_the_fix_wherever_it_would_be_letterboxed(
    device, settings, images, error, message
):
    with pytest.raises(error, match=message):
        run_loop(device, toy_engine(), settings, images)


@pytest.mark.parametrize("settings", [OVERLAP, LETTERBOX])
def test_source_whose_frames_change_their_size_breaks_the_loop(device, settings):
    class Changes(ToySource):
        def read(self):
            frame = super().read()
            return frame if self.left > 2 else frame[:48]

    with pytest.raises(ShapeError, match=r"\(48, 64\)|\(48, 64, 3\)"):
        run_loop(device, toy_engine(), settings, Changes(8))


@pytest.mark.parametrize("settings", [BASE, CONTEXTS])
def test_engine_with_an_input_that_no_loop_fills_is_refused(device, settings):
    engine = toy_engine()
    engine.inputs = (*engine.inputs, TensorSpec("scale", (1, 2), np.dtype(np.float32)))
    with pytest.raises(ModelError, match="one input, got images, scale"):
        settings.loop(device, engine, [FRAME])


@pytest.mark.parametrize("settings", [BASE, LETTERBOX])
@pytest.mark.parametrize(
    "frame",
    [np.repeat(FRAME, 2, axis=1)[:, ::2], FRAME[:33, :57][:, ::-1], np.asfortranarray(FRAME)],
    ids=["strided", "odd and mirrored", "by columns"],
)
def test_views_and_odd_sizes_give_the_boxes_of_a_plain_frame(preset, settings, frame):
    found = []
    plain = np.ascontiguousarray(frame)
    loop = replace(settings, frames=2, warmup=0).loop(SimulatedDevice(preset), toy_engine(), [frame, plain])
    loop.on_boxes = lambda _, boxes: found.append(boxes)
    loop.run()
    one, other = found
    assert len(one)
    assert same(one, other)
    if not getattr(settings, "gpu_letterbox", False):  # which may differ by a grey level where it has to interpolate
        assert same(one, expected(plain))


@pytest.mark.parametrize("count", [0, 5])
def test_source_of_fewer_frames_than_lanes_or_a_batch_gives_those_there_are(device, count):
    settings = replace(CONTEXTS, warmup=0)
    for batch in (1, 4):
        boxes, recording = collected(device, toy_engine(batch), settings, ToySource(count))
        assert list(boxes) == recording.columns["frame"].tolist() == list(range(count))
        assert all(same(found, expected(toy_frame(index))) for index, found in boxes.items())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"contexts": 5}, "multiple of contexts, got 4 and 5"),
        ({"contexts": 0}, "contexts must be 1 or more, got 0"),
        ({"fill": "copy"}, "in the overlapped loop, got 'copy'"),
        ({"input_memory": "pageable"}, "overlaps with nothing"),
        ({"output_memory": "pageable"}, "overlaps with nothing"),
        ({"postprocess": False}, "postprocess must be on"),
        ({"gpu_letterbox": False, "pixels": "nv12"}, "gpu_letterbox must be on with pixels='nv12'"),
        ({"pixels": "yuv"}, "pixels must be one of bgr, nv12, nv12_709, got 'yuv'"),
        ({"confidence": 1.5}, "confidence must be from 0 to 1, got 1.5"),
        ({"deadline_us": -1}, "deadline_us must be 0 or more, got -1"),
        ({"deadline_us": float("inf")}, "deadline_us must be 0 or more, got inf"),
        ({"period_us": float("nan")}, r"period_us must be from 0\.001 to 3\.6e9, an hour, got nan"),
    ],
)
def test_settings_that_do_not_overlap_are_refused_with_the_fix(values, message):
    with pytest.raises(SettingsError, match=message):
        replace(CONTEXTS, **values)


def test_the_loop_follows_from_the_settings(device):
    assert type(BASE.loop(device, toy_engine(), [toy_frame(0)])) is FrameLoop
    assert type(CONTEXTS.loop(device, toy_engine(), [toy_frame(0)])) is OverlappedLoop
    with pytest.raises(SettingsError, match=r"one frame at a time, got 2\nFix: use speed.OverlapSettings"):
        run_loop(device, toy_engine(2), BASE, [toy_frame(0)])


def test_without_timers_stages_are_left_out_and_the_frame_is_not(preset):
    device = SimulatedDevice(preset, trace=True)
    recording = run_loop(device, open_engine(device), replace(READY, timers=False))
    assert not recording.stage_ns(Stage.INFER).any()
    assert recording.steady.latency_ns.min() > 400_000
    assert not [span for span in device.spans if span.row == "range"]


def ranges_of(device, engine, settings, images=None):
    """The ranges in the order in which the host entered them; (name, in which frame), None for none."""
    loop = OverlappedLoop(device, engine, settings, images)
    device.spans.clear()
    recording = loop.run()
    spans = sorted(
        (span for span in device.spans if span.row == "range"),
        key=lambda span: (span.start_ns, -span.end_ns, span.name != "frame"),
    )
    frames = [span for span in spans if span.name == "frame"]
    assert all(one.end_ns <= other.start_ns for one, other in pairwise(frames))

    def frame_of(span):
        around = (place for place, frame in enumerate(frames) if frame.start_ns <= span.start_ns < frame.end_ns)
        return next(around, None)

    return recording, len(frames), [(span.name, frame_of(span)) for span in spans if span.name != "frame"]


def test_a_frames_range_holds_its_submit_and_the_collecting_of_an_earlier_one(preset):
    device = SimulatedDevice(replace(preset, range_ns=100), trace=True)
    settings = replace(READY, frames=3, warmup=0, collect_after=1, fill="in_place")
    recording, frames, stages = ranges_of(device, open_engine(device), settings)
    assert frames == len(recording) == 3
    submit = ["preprocess", "upload", "infer", "download"]
    assert stages == [
        *((name, 0) for name in submit),
        *((name, 1) for name in submit),
        *((name, 2) for name in ["synchronize", *submit]),
        ("synchronize", None),
        ("synchronize", None),
    ]


def test_a_batch_is_submitted_in_the_range_of_its_last_frame_and_a_rest_in_none(preset):
    device = SimulatedDevice(replace(preset, range_ns=100), trace=True)
    settings = replace(READY, frames=5, warmup=0, collect_after=1)
    recording, frames, stages = ranges_of(device, toy_engine(2), settings, [toy_frame(0)])
    assert frames == len(recording) == 5
    assert [place for name, place in stages if name == "infer"] == [1, 3, None]
    assert [place for name, place in stages if name == "synchronize"] == [4, None, None]


def test_on_a_clock_waits_are_ranges_beside_the_collecting_in_them(preset):
    device = SimulatedDevice(replace(preset, range_ns=100), trace=True)
    settings = replace(READY, frames=3, warmup=0, period_us=5_000.0)
    recording, frames, stages = ranges_of(device, open_engine(device), settings)
    assert frames == len(recording) == 3
    second = [name for name, place in stages if place == 1]
    assert second == ["wait", "synchronize", "wait", "upload", "infer", "download"]
    waits = [span for span in device.spans if span.row == "range" and span.name == "wait"]
    assert sum(span.end_ns - span.start_ns for span in waits) == recording.stage_ns(Stage.WAIT).sum()


@pytest.mark.parametrize("settings", [LETTERBOX, DECODE, LANES])
def test_memory_that_only_a_graph_uses_lives_as_long_as_the_graph(settings):
    device = open_device("simulated")  # moves no bytes, so that nothing but the graph keeps the memory
    recording = OverlappedLoop(device, open_engine(device), settings).run()
    assert len(recording) == settings.warmup + settings.frames


@pytest.mark.parametrize("graph", [False, True])
def test_memory_of_a_loop_that_is_gone_is_free_again(preset, graph):
    device, engine = SimulatedDevice(preset), toy_engine()
    memory = device.machine.memory
    run_loop(device, engine, replace(BASE, graph=graph), [toy_frame(0)])
    assert (memory.device_bytes, memory.host_bytes) == (0, 0)
    loop = OverlappedLoop(device, engine, replace(CONTEXTS, graph=graph), [toy_frame(0)])
    loop.run()
    assert memory.device_bytes > 0
    del loop
    assert (memory.device_bytes, memory.host_bytes) == (0, 0)
