"""Each cause as a scenario on the simulated device: what it looks like in numbers, and what its cure does."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from samples import sampled

from yolotrt_lab import vision
from yolotrt_lab.causes import shared_gpu
from yolotrt_lab.causes.catalogue import SCENARIOS
from yolotrt_lab.causes.faults import GrowingImages, Run
from yolotrt_lab.causes.running import run_scenario
from yolotrt_lab.device import open_device
from yolotrt_lab.engine import open_engine
from yolotrt_lab.errors import DeviceError, SettingsError
from yolotrt_lab.recording import Recording
from yolotrt_lab.simulate.conditions import Conditions
from yolotrt_lab.simulate.preset import Preset
from yolotrt_lab.simulate.simulated import SimulatedDevice
from yolotrt_lab.simulate.timed_engine import SimulatedEngine
from yolotrt_lab.types import Stage, TensorSpec


def run(name, device=None, **settings):
    """The steady frames of a scenario on the preset of the H200, without jitter."""
    device = device or open_device("simulated")
    return run_scenario(name, device, open_engine(device), **settings).steady


def stage_us(recording, stage):
    return recording.stage_ns(stage) / 1e3


def test_telemetry_changes_no_time(preset):
    recordings = []
    for telemetry in (True, False):
        device = SimulatedDevice(preset, jitter=0.05, seed=7)
        recordings.append(run_scenario("overload", device, open_engine(device), frames=50, telemetry=telemetry))
    first, second = recordings
    assert all(np.array_equal(first.columns[name], values) for name, values in second.columns.items())


def test_conditions_in_use_are_kept_by_a_scenario_that_sets_none(device):
    device.use(mine := Conditions(other_processes=2))
    recording = run_scenario("plain-pageable", device, open_engine(device), frames=20)
    assert set(recording.steady.columns["gpu_processes"][5:].tolist()) == {2}
    assert device.conditions is mine


def test_saved_recording_has_the_telemetry(device, tmp_path):
    for name in ("steady", "shared-gpu", "shared-stream"):
        path = tmp_path / f"{name}.parquet"
        recording = run_scenario(name, device, open_engine(device), frames=20, path=path, command="mine")
        loaded = Recording.load(path)
        assert (loaded.label, loaded.command, loaded.columns.keys()) == (name, "mine", recording.columns.keys())
        assert [each.name for each in tmp_path.iterdir()] == [path.name]
        path.unlink()


@pytest.mark.parametrize("severity", [0, -1, float("nan"), float("inf"), 11])
def test_severity_that_is_none_is_refused(device, severity):
    with pytest.raises(SettingsError, match="severity must be more than 0"):
        run_scenario("heat", device, open_engine(device), frames=5, severity=severity)


def test_severity_moves_the_clock_of_the_overload(device):
    engine = open_engine(device)
    periods = [
        run_scenario("overload", device, engine, frames=5, severity=s).settings["period_us"] for s in (0.5, 1, 2)
    ]
    slow, half, fast = periods
    assert slow > half > fast
    assert half - fast == pytest.approx(2 * (slow - half), abs=0.2)
    settings = run("late", frames=5, severity=0.5).settings
    assert (settings["period_us"], settings["severity"]) == (1_240, 0.5)


# Shared GPU


def test_synchronize_climbs_in_steps_with_the_other_processes_and_pinning_cures_the_upload_alone():
    steps = {}
    for name in ("shared-gpu", "shared-gpu-pinned"):
        recording = run(name, frames=400)
        assert recording.settings["other_processes"] == [0, 4, 8, 12]
        assert recording.columns["frame"].tolist() == list(range(400))
        assert (np.diff(recording.columns["start_ns"]) > 0).all()
        quarters = np.arange(400).reshape(4, 100)[:, 20:]
        steps[name] = [
            [float(np.median(stage_us(recording, stage)[part])) for part in quarters]
            for stage in (Stage.UPLOAD, Stage.SYNCHRONIZE)
        ]
        processes = recording.columns["gpu_processes"]
        assert [processes[part[-1]] for part in quarters] == [0, 4, 8, 12]
        assert recording.columns["gpu_utilisation_percent"][-1] > 99
    (upload, synchronize), (pinned_upload, pinned_synchronize) = steps.values()
    assert synchronize[0] < 100
    assert synchronize[-1] > 10_000
    assert all(later > 1.4 * earlier for earlier, later in pairwise(synchronize))
    assert upload[-1] / upload[0] > 1.1
    assert upload[-1] / pinned_upload[-1] > 10
    assert abs(pinned_synchronize[-1] / synchronize[-1] - 1) < 0.1


def test_severity_is_how_many_other_processes_come():
    assert run("shared-gpu", frames=40, severity=0.5).settings["other_processes"] == [0, 2, 4, 6]


class SlowGroup:
    """Other processes that take a few looks until they are busy."""

    def __init__(self):
        self.looks = 0
        self.log = []

    def become(self, count):
        self.log.append(count)
        self.looks = 0

    @property
    def busy(self):
        self.looks += 1
        return self.looks > 3


def test_loop_goes_on_while_other_processes_start(device):
    group = SlowGroup()
    settings = replace(SCENARIOS["shared-gpu"].settings, warmup=5)
    recording = shared_gpu.record_steps(Run(device, open_engine(device), settings, None), group, [(1, 10), (2, 0)])
    assert group.log == [1, 2]
    assert recording.columns["warmup"].tolist() == [True] * 5 + [False] * (6 * shared_gpu.CHUNK + 10)
    assert recording.columns["frame"].tolist() == list(range(-5, 6 * shared_gpu.CHUNK + 10))
    assert recording.settings["frames"] == 6 * shared_gpu.CHUNK + 10


# Shared stream


def test_synchronize_on_a_shared_stream_waits_for_the_backlog_and_an_event_for_its_frame():
    shared, cured = run("shared-stream", frames=600), run("shared-stream-event", frames=600)
    alone = np.median(stage_us(cured, Stage.SYNCHRONIZE))
    waits = stage_us(shared, Stage.SYNCHRONIZE)
    assert stage_us(cured, Stage.SYNCHRONIZE).max() < 1.05 * alone
    assert waits.max() > 7 * alone
    climbing = waits[: int(waits.argmax()) + 1]
    whole = np.round(climbing / alone)
    assert climbing == pytest.approx(whole * alone, rel=0.05)  # every wait is one of whole frames
    assert (np.diff(whole) >= 0).all()
    assert shared.latency_ns[400] > 10 * cured.latency_ns[400]


def test_frames_of_the_shared_stream_come_too_fast_by_the_severity(device):
    engine = open_engine(device)
    periods = [
        run_scenario("shared-stream", device, engine, frames=5, severity=s).settings["period_us"] for s in (0.5, 2)
    ]
    assert periods[0] / periods[1] == pytest.approx(1.04 / 1.01, rel=1e-3)
    assert run_scenario("shared-stream", device, engine, frames=5, period_us=900).settings["period_us"] == 900


@pytest.mark.parametrize("thread", ["_submit", "_collect"])
def test_error_in_either_thread_ends_both(device, monkeypatch, thread):
    from yolotrt_lab.causes.threads import _TwoThreads

    original, calls = getattr(_TwoThreads, thread), []

    def failing(*arguments):
        calls.append(1)
        if thread == "_submit" or len(calls) == 3:
            raise DeviceError("the GPU is gone")
        return original(*arguments)

    monkeypatch.setattr(_TwoThreads, thread, failing)
    with pytest.raises(DeviceError, match="the GPU is gone"):
        run_scenario("shared-stream", device, open_engine(device), frames=2_000)


# Launch queue


def test_launches_block_once_the_queue_is_full_and_not_with_bounded_frames():
    full, bounded = run("launch-queue", frames=400), run("launch-queue-bounded", frames=400)
    launches = stage_us(full, Stage.INFER)
    blocked = int(np.argmax(launches > 1.5 * launches[0]))
    assert 100 < blocked < 160
    assert launches[: blocked - 1].max() == launches[0]
    assert np.median(launches[blocked + 20 :]) > 2 * launches[0]
    assert stage_us(full, Stage.SYNCHRONIZE)[:200].max() < 2  # what is collected was done long before
    assert stage_us(bounded, Stage.INFER).max() == launches[0]


# Clocks and heat


KERNELS_US = Preset.load("h200").engine("yolov8n-fp16").graph_gpu_ns / 1e3


def test_clock_drop_stretches_the_kernel_and_not_the_host():
    dropped, busy = run("clock-drop"), run("clock-drop-busy")
    waits = stage_us(dropped, Stage.SYNCHRONIZE)
    assert waits[-1] - waits[0] == pytest.approx(4 * KERNELS_US, rel=0.02)  # what the kernels take, five times
    assert (np.diff(waits) >= 0).all()
    for stage in (Stage.UPLOAD, Stage.INFER, Stage.DOWNLOAD):
        assert set(stage_us(dropped, stage).tolist()) == set(stage_us(busy, stage).tolist())
    clocks = dropped.columns["sm_clock_mhz"]
    assert clocks[-1] == pytest.approx(clocks[0] / 5, rel=0.05)
    assert dropped.columns["throttle_gpu_idle"][-1] == 1
    assert stage_us(busy, Stage.SYNCHRONIZE)[-1] == pytest.approx(waits[0], rel=0.02)
    assert busy.columns["throttle_gpu_idle"][-1] == 0


@pytest.mark.parametrize("frames", sampled([500, 3_000], [500]))
def test_heat_is_a_ramp_that_begins_at_the_limit_and_has_its_throttle_reason(frames):
    hot, cooled = run("heat", frames=frames), run("heat-cooled", frames=frames)
    waits, reason = stage_us(hot, Stage.SYNCHRONIZE), hot.columns["throttle_sw_thermal_slowdown"]
    begin = int(np.argmax(reason))
    assert 0.2 < begin / frames < 0.5
    assert (reason[begin:] == 1).all()
    assert hot.columns["temperature_c"][begin] == pytest.approx(85, abs=2.5)
    assert waits[-1] > 1.15 * waits[0]
    assert waits[: begin - frames // 20].max() < 1.001 * waits[0]
    assert set(cooled.columns["throttle_sw_thermal_slowdown"].tolist()) == {0}
    assert stage_us(cooled, Stage.SYNCHRONIZE).max() < 1.001 * waits[0]


# The host


def test_leak_lengthens_synchronize_as_an_h200_did_and_host_memory_climbs():
    leak, released = run("leak", frames=1_500), run("leak-released", frames=300)
    waits = stage_us(leak, Stage.SYNCHRONIZE)
    assert waits[-1] - waits[0] == pytest.approx(41, rel=0.15)
    assert np.median(stage_us(leak, Stage.PREPROCESS)) == 600
    memory = leak.columns["host_memory_bytes"]
    assert memory[-1] - memory[0] == pytest.approx(1_500 * 1_228_800, rel=0.12)
    assert len(set(stage_us(released, Stage.SYNCHRONIZE).tolist())) == 1
    assert len(set(released.columns["host_memory_bytes"].tolist())) == 1


def test_leak_ends_with_its_loop():
    device = open_device("simulated")
    first = run("leak", device, frames=200).columns["host_memory_bytes"][0]
    assert run("leak", device, frames=200).columns["host_memory_bytes"][0] < first + 200 * 1_228_800


@pytest.mark.parametrize("severity", [0.5, 2])
def test_preprocessing_grows_alone(severity):
    grown = run("preprocess-grows", frames=200, severity=severity)
    work = stage_us(grown, Stage.PREPROCESS)
    assert (np.diff(work) >= 0).all()
    assert work[-1] / work[0] == pytest.approx(1 + 2 * severity * 198 / 200, rel=0.01)
    for stage in (Stage.UPLOAD, Stage.INFER, Stage.SYNCHRONIZE):
        assert np.ptp(stage_us(grown, stage)) < 10


def test_growing_images_grow_over_the_frames_and_not_in_the_warm_up():
    image = np.zeros((40, 60, 3), np.uint8)
    images = GrowingImages(image, 4, frames=160, warmup=10)
    pixels = [images[index % len(images)].shape[0] * images[index % len(images)].shape[1] for index in range(-10, 160)]
    assert set(pixels[:10]) == {40 * 60}
    assert pixels[10] == 40 * 60
    assert pixels[-1] == 80 * 120
    assert len(set(pixels)) == 16
    assert pixels[10:] == sorted(pixels[10:])
    assert len(images) == 170


def test_growing_images_are_smoothed_whenever_they_are_read():
    image = np.zeros((40, 60, 3), np.uint8)
    image[20, 30] = 180
    images = GrowingImages(image, 4, frames=160, warmup=0)
    assert images[0][19:22, 29:32].tolist() == [[[20] * 3] * 3] * 3
    assert images[0].sum() == image.sum()
    images[0][:] = 1
    assert images[0].sum() == image.sum()  # the work is done anew


def doubler(device):
    """An engine of the simulated device that reads a small image."""
    small = [TensorSpec("images", (1, 3, 64, 64), np.dtype(np.float32))]
    result = [TensorSpec("output0", (1, 3, 64, 64), np.dtype(np.float32))]
    cost = device.preset.engine("yolov8n-fp16")
    return SimulatedEngine("doubler", cost, small, result, lambda inputs: {"output0": 2 * inputs["images"]})


def test_preprocessing_reads_frames_that_grow_where_a_network_computes(monkeypatch, device):
    sizes = []
    resize = vision._resize
    monkeypatch.setattr(vision, "_resize", lambda frame, out: (sizes.append(frame.shape[:2]), resize(frame, out)))
    settings = replace(SCENARIOS["preprocess-grows"].settings, frames=32, warmup=4)
    run = Run(SimpleNamespace(kind="cuda"), doubler(device), settings, [np.zeros((40, 60, 3), np.uint8)])
    SCENARIOS["preprocess-grows"].prepare(run)
    replace(run, device=device).loop().run()
    assert sizes[:6] == [(40, 60)] * 6
    assert sizes[-1] == (69, 104)  # threefold: 40 and 60 times the root of 3
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 16


def test_shapes_that_change_cost_a_spike_each_time_and_nothing_between():
    spikes = stage_us(run("shape-change", frames=200, severity=2), Stage.INFER)
    usual = np.median(spikes)
    assert np.flatnonzero(spikes > usual + 1_000).tolist() == [60, 120, 180]
    assert spikes[60] == pytest.approx(usual + 10_000, rel=0.02)


def test_warm_up_falls_and_is_not_set_apart():
    recording = run("warm-up", frames=800)
    assert recording.columns["frame"][0] == 0
    first = stage_us(recording, Stage.INFER)
    assert first[0] == pytest.approx(50_000 + np.median(first), rel=0.01)
    waits = stage_us(recording, Stage.SYNCHRONIZE)[1:]
    assert waits[0] > 10 * waits[-1]
    assert (np.diff(waits) <= 0).all()
    assert recording.columns["sm_clock_mhz"][-1] == 1_980


def test_what_is_simulated_only_is_refused_on_a_gpu(device):
    run = Run(SimpleNamespace(kind="cuda"), open_engine(device), SCENARIOS["shape-change"].settings, None)
    with pytest.raises(SettingsError, match="a change of shape is simulated only") as caught:
        SCENARIOS["shape-change"].prepare(run)
    assert "--device simulated" in caught.value.fix
