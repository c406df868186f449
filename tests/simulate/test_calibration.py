"""Calibration held against the one machine whose constants are known: the simulated device gives its preset back."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
from samples import sampled

from yolotrt_lab import cli
from yolotrt_lab import device as device_module
from yolotrt_lab.engine import open_engine
from yolotrt_lab.errors import NoGpuError
from yolotrt_lab.packages import lab_path
from yolotrt_lab.recording import Recording
from yolotrt_lab.simulate.calibration import LOOPS, calibrate, run_loops
from yolotrt_lab.simulate.experiments import BATCHES, measure_concurrency
from yolotrt_lab.simulate.preset import Allocation, EngineCost, PageableCopy, PinnedCopy, Preset
from yolotrt_lab.simulate.simulated import SimulatedDevice
from yolotrt_lab.speed.ladder import LINES, Ladder, climb, open_engines
from yolotrt_lab.speed.limits import figures
from yolotrt_lab.types import Stage

MODEL = "yolov8n-fp16"
NEAR_NS = 2_100
"""How near constants must come that host timers alone cannot tell apart: of the delays in front of the GPU's work and
behind it the sum is known well, and who has which part of it is not."""


def near(expected, tolerance_ns=NEAR_NS):
    return pytest.approx(expected, rel=0.03, abs=tolerance_ns)


AT_ONCE = {
    "frame_ns_by_contexts": {"1": 400, "2": 250, "3": 220, "4": 200, "6": 190, "8": 200},
    "frame_ns_by_batch": {"2": (240, 200), "4": (160, 120), "8": (120, 100), "16": (100, 90)},
}
KERNELS = {
    "kernel_ns": {"letterbox": 9_000, "letterbox_nv12": 8_000, "candidates": 6_000, "suppress": 4_000},
    "kernel_sharing": (1.0, 1.5, 1.2, 2.0, 2.2, 2.4, 2.2, 2.0),
}


def launch_bound(preset: Preset) -> Preset:
    """The round preset: the host launches kernels for longer than the GPU needs for them, as on an H200."""
    return replace(
        preset,
        name="launch-bound",
        pinned_allocation=Allocation(3_000, 7.0, 1 << 20, ""),
        engines={MODEL: replace(preset.engine(MODEL), **AT_ONCE)},
        **KERNELS,
    )


def gpu_bound(preset: Preset) -> Preset:
    """Other figures everywhere, and a GPU that is slower than the host launches and runs contexts one by one."""
    costs = {"enqueue_ns": 500_000, "cold_enqueue_ns": 700_000, "graph_launch_ns": 4_000, "cold_graph_launch_ns": 9_000}
    costs |= {"gpu_ns": 1_500_000, "tail_ns": 12_000, "graph_submit_ns": 12_000, "graph_gpu_ns": 1_400_000}
    work = {"letterbox": 900_000, "naive_letterbox": 1_700_000, "copy_to_slot": 400_000, "decode": 370_000}
    return replace(
        preset,
        name="gpu-bound",
        pinned_upload=PinnedCopy(call_ns=7_000, busy_call_ns=9_000, fixed_ns=2_500, rate=24.0),
        pinned_download=PinnedCopy(call_ns=6_000, busy_call_ns=8_000, fixed_ns=3_500, rate=26.0),
        pageable_upload=PageableCopy(
            call_ns=20_000, rate=6.0, tail_ns=15_000, staging_bytes=655_360, staged_call_ns=3_000, staged_rate=12.0
        ),
        pageable_download=PageableCopy(call_ns=15_000, rate=5.0, tail_ns=0),
        **{"launch_ns": 7_000, "submit_ns": 9_000, "wake_up_ns": 6_000, "synchronize_ns": 1_100},
        **{"record_ns": 700, "query_ns": 900, "range_ns": 2_000, "launch_queue_depth": 1_022},
        engines={MODEL: EngineCost(**costs, kernels=80)},
        host_work_ns=work,
        pinned_allocation=Allocation(3_000, 3.25, 1 << 20, ""),
    )


STEPS = [
    *("host calls", "copies", "staging memory and launch queue", "loops"),
    *[f"contexts at once: {contexts}" for contexts in (1, 2, 3, 4, 6, 8)],
    *[f"batches of {batch}" for batch in BATCHES],
    "kernels alone and beside the engine",
]


def calibrated(truth: Preset, **options: object) -> Preset:
    """What is found on the simulated device of that preset."""
    device = SimulatedDevice(truth)
    batches = {batch: open_engine(device, batch=batch) for batch in BATCHES}
    return calibrate(device, MODEL, open_engine(device), None, name="again", batches=batches, **options)


@pytest.fixture(params=sampled([launch_bound, gpu_bound], [gpu_bound]), ids=lambda make: make.__name__)
def truth(request, preset):
    return request.param(preset)


def same(found: object, truth: object, names: str) -> None:
    for name in names.split():
        assert getattr(found, name) == getattr(truth, name), name


def test_calibrating_the_simulated_device_gives_its_preset_back(truth, tmp_path):
    """One test, since calibrating takes seconds."""
    steps: list[str] = []
    found = calibrated(truth, command="a command", progress=steps.append)
    assert steps == STEPS
    assert_it_says_that_it_was_simulated(found, truth)
    assert_same_constants(found, truth)
    assert_same_tail(found, truth)
    assert_same_at_once(found, truth)
    assert_same_kernels(found, truth)
    assert_loops_take_what_they_took(found, truth)
    if truth.name == "launch-bound":
        assert_every_rung_takes_what_it_took(found, truth)
        assert_every_rung_runs_without_contexts_or_batches(found)
    found.save(tmp_path / "again.json")
    assert Preset.load(tmp_path / "again.json") == found


def assert_it_says_that_it_was_simulated(found: Preset, truth: Preset) -> None:
    assert (found.name, found.command, found.driver) == ("again", "a command", truth.driver)
    assert found.date == truth.date  # nothing was measured since
    assert (found.gpu, found.derived_from) == (truth.gpu, truth.name)
    assert f"{found.name}, derived from {truth.name} by the simulation" in SimulatedDevice(found).source.stamp
    expected = "simulated, preset {} (measured on GPU of round numbers, driver 0, 2026-01-01), simulated yolov8n-fp16"
    assert found.engine(MODEL).measured.startswith(expected.format(truth.name))


def assert_same_constants(found: Preset, truth: Preset) -> None:
    same(found, truth, "launch_ns synchronize_ns record_ns query_ns range_ns launch_queue_depth host_work_ns")
    assert found.submit_ns == near(truth.submit_ns)
    assert found.wake_up_ns == near(truth.wake_up_ns)

    for name in ("pinned_upload", "pinned_download"):
        here, there = getattr(found, name), getattr(truth, name)
        same(here, there, "call_ns busy_call_ns")
        assert here.rate == pytest.approx(there.rate, rel=0.001)
        # what a copy of no bytes takes; who has which part of it is not known
        total_ns = found.submit_ns + here.fixed_ns + found.wake_up_ns
        assert total_ns == near(truth.submit_ns + there.fixed_ns + truth.wake_up_ns, tolerance_ns=200)

    assert found.pinned_allocation.rate == pytest.approx(truth.pinned_allocation.rate, rel=0.001)

    upload, download = found.pageable_upload, found.pageable_download
    assert upload.staging_bytes <= truth.pageable_upload.staging_bytes <= upload.staging_bytes + 16_384
    for here, there in ((upload, truth.pageable_upload), (download, truth.pageable_download)):
        for name in ("call_ns", "staged_call_ns"):
            assert getattr(here, name) == pytest.approx(getattr(there, name), abs=2), name
        for name in ("rate", "staged_rate"):
            assert getattr(here, name) == pytest.approx(getattr(there, name), rel=0.001), name
        assert here.tail_ns == near(there.tail_ns)

    cost, true_cost = found.engine(MODEL), truth.engine(MODEL)
    same(cost, true_cost, "enqueue_ns cold_enqueue_ns graph_launch_ns cold_graph_launch_ns")
    for name in ("gpu_ns", "graph_gpu_ns", "graph_submit_ns"):
        assert getattr(cost, name) == near(getattr(true_cost, name)), name
    assert true_cost.kernels <= cost.kernels <= 1.1 * true_cost.kernels


def assert_same_tail(found: Preset, truth: Preset) -> None:
    """One that the GPU hides holds nothing up."""
    cost, true_cost = found.engine(MODEL), truth.engine(MODEL)
    if truth.name == "launch-bound":
        assert cost.tail_ns == near(true_cost.tail_ns)
    else:
        assert cost.cold_enqueue_ns + cost.tail_ns < cost.gpu_ns + 2 * truth.submit_ns


def assert_same_at_once(found: Preset, truth: Preset) -> None:
    """Inferences of each batch take as long, alone and in each number of contexts, within one per cent."""
    for batch in (1, *BATCHES):
        cost, true_cost = found.engine(MODEL).for_batch(batch), truth.engine(MODEL).for_batch(batch)
        times = [each.graph_gpu_ns / each.for_batch(1).graph_gpu_ns for each in (cost, true_cost)]
        assert times[0] == pytest.approx(times[1], rel=0.01), batch
        together = [(*each.sharing, *each.sharing[-1:] * 8)[:8] or (1.0,) * 8 for each in (cost, true_cost)]
        assert together[0] == pytest.approx(together[1], rel=0.01), batch


def assert_same_kernels(found: Preset, truth: Preset) -> None:
    names = ("letterbox", "letterbox_nv12", "candidates", "suppress")
    expected = {name: truth.kernel_ns.get(name, 0) for name in names}
    assert dict(found.kernel_ns) == pytest.approx(expected, rel=0.001, abs=5)
    assert found.kernel_sharing == pytest.approx(truth.kernel_sharing or (1.0,) * 8, rel=0.02)
    assert ("assumed" in found.engine(MODEL).measured) == (not truth.kernel_sharing)


def measured_at_once(truth: Preset) -> Preset:
    """`truth` with what is measured of it that runs at once."""
    device = SimulatedDevice(truth)
    batches = {batch: open_engine(device, batch=batch) for batch in BATCHES}
    cost, fields = measure_concurrency(device, open_engine(device), batches, None, lambda step: None)
    return replace(truth, engines={MODEL: replace(truth.engine(MODEL), **cost)}, **fields)


@pytest.mark.exhaustive
def test_kernels_that_never_get_the_gpu_share_it_as_contexts_do(preset):
    found = measured_at_once(replace(launch_bound(preset), kernel_sharing=()))
    assert found.kernel_sharing == pytest.approx(found.engine(MODEL).for_batch(1).sharing, abs=0.001)
    assert found.engine(MODEL).measured.endswith("kernels share the GPU as contexts do is assumed")


def test_the_h200_is_given_back(preset):
    truth = replace(Preset.load("h200"), kernel_ns=KERNELS["kernel_ns"])
    found = measured_at_once(truth)
    assert_same_at_once(found, truth)
    assert dict(found.kernel_ns) == pytest.approx(truth.kernel_ns, rel=0.005)
    assert found.kernel_sharing == pytest.approx(truth.kernel_sharing[:8], rel=0.02)


def climbed(preset: Preset) -> Ladder:
    device, quiet = SimulatedDevice(preset), lambda _: None
    return climb(device, open_engines(device, quiet), None, frames=24, progress=quiet)


def assert_every_rung_takes_what_it_took(found: Preset, truth: Preset) -> None:
    ladders = [climbed(preset) for preset in (truth, found)]
    for theirs, ours in zip(*(ladder.steps for ladder in ladders), strict=True):
        assert ours.together.frame_us == pytest.approx(theirs.together.frame_us, rel=0.02), ours.rung.name
    assert [len(ladder.steps) for ladder in ladders] == [len(LINES)] * 2
    assert [ladder.claims for ladder in ladders] == [(), ()]


def assert_every_rung_runs_without_contexts_or_batches(found: Preset) -> None:
    cost = replace(found.engine(MODEL), frame_ns_by_contexts={}, frame_ns_by_batch={})
    ladder = climbed(replace(found, engines={MODEL: cost}))
    assert [step.rung for step in ladder.steps] == list(LINES)
    assert ladder.claims == ()


def assert_loops_take_what_they_took(found: Preset, truth: Preset) -> None:
    devices = [SimulatedDevice(preset) for preset in (truth, found)]
    theirs, ours = (run_loops(device, open_engine(device), None, frames=40, turns=1) for device in devices)
    assert list(theirs) == list(ours) == list(LOOPS)
    for name in LOOPS:
        here, there = ours[name].steady, theirs[name].steady
        assert figures(here).frame_us == pytest.approx(figures(there).frame_us, rel=0.005), name
        for stage in Stage:
            assert here.stage_ns(stage).mean() == near(there.stage_ns(stage).mean()), (name, stage)


@pytest.mark.exhaustive
def test_noise_moves_no_constant_far(preset):
    device = SimulatedDevice(launch_bound(preset), jitter=0.05, seed=1)
    found = calibrate(device, MODEL, open_engine(device), None, name="noisy")
    truth = launch_bound(preset)
    for name in ("launch_ns", "synchronize_ns", "record_ns", "query_ns"):
        assert getattr(found, name) == pytest.approx(getattr(truth, name), rel=0.02), name
    assert found.pinned_upload.rate == pytest.approx(50, rel=0.1)
    assert found.pageable_upload.rate == pytest.approx(10, rel=0.05)
    assert dict(found.host_work_ns) == pytest.approx(dict(truth.host_work_ns), rel=0.1)
    assert found.engine(MODEL).enqueue_ns == pytest.approx(600_000, rel=0.02)
    assert found.launch_queue_depth == 100
    assert found.engine(MODEL).for_batch(1).sharing == pytest.approx(truth.engine(MODEL).for_batch(1).sharing, rel=0.05)
    assert dict(found.kernel_ns) == pytest.approx(dict(truth.kernel_ns), rel=0.05)
    assert found.kernel_sharing == pytest.approx(truth.kernel_sharing, rel=0.1)


def test_the_shipped_preset_is_what_its_recordings_give():
    script = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "make_preset.py"))
    recorded = lab_path("data", "recordings", "h200")
    loops = {loop: Recording.load(recorded / f"{name}.parquet") for loop, name in script["SCENARIO_OF_LOOP"].items()}
    shipped = Preset.load("h200")
    assert list(loops) == list(LOOPS)
    assert script["refit"](shipped, script["copy_table"](loops["pinned"].source), loops) == shipped


def test_a_simulation_is_calibrated_only_where_it_is_asked_for_by_name(monkeypatch, tmp_path):
    asked = []

    def refuse(name, **_):
        asked.append(name)
        raise NoGpuError("no GPU", fix="none")

    monkeypatch.setattr(device_module, "open_device", refuse)
    assert cli.main(["calibrate", "--out", str(tmp_path / "mine.json")]) == 2
    assert asked == ["cuda"]
