"""Every scenario on the simulated device of round numbers: what it runs, and that it shows what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from samples import sampled

import yolotrt_lab as lab
from yolotrt_lab.causes import threads
from yolotrt_lab.causes.catalogue import SCENARIOS, SHOWS
from yolotrt_lab.causes.running import (
    COPIES,
    Run,
    listing,
    period_between_us,
    require_frames,
    run_scenario,
    run_together,
)
from yolotrt_lab.causes.shared_gpu import ALONE_AGAIN, ARRIVING, CURED
from yolotrt_lab.engine import open_engine
from yolotrt_lab.errors import SettingsError
from yolotrt_lab.loop import run_loop
from yolotrt_lab.recording import FrameRecorder, Recording
from yolotrt_lab.simulate.preset import Allocation
from yolotrt_lab.simulate.simulated import SimulatedDevice
from yolotrt_lab.types import TELEMETRY_COLUMNS, Cause, HostMemory, SourceKind, Stage

ON_A_CLOCK = [name for name, each in SCENARIOS.items() if each.other or each.settings.period_us]
CLOCK_OF_ITS_OWN = ["shared-stream", "shared-stream-event"]
SPINNING = [name for name in SCENARIOS if name.startswith(("shared-stream", "launch-queue", "heat", "leak", "late"))]
LEVELS_OF = {"report": len((*ARRIVING, *CURED, *ALONE_AGAIN))}
"""So many levels a scenario has, each of as many frames as are asked for."""
LOOPS_OF = {"cameras": 2 * (1 + 2)}
"""So many loops run in a scenario, pageable and pinned."""
LACKS_PART = dict.fromkeys(("shared-gpu", "shared-gpu-pinned", "report"), "other processes on the GPU")
LACKS_PART["leak"] = "stays registered"
SERVED = [name for name in SCENARIOS if name not in ON_A_CLOCK]


@pytest.fixture
def engine(device):
    return open_engine(device)


@pytest.fixture
def two_cameras(monkeypatch):
    monkeypatch.setattr(threads, "THREADS", (1, 2))


def frame_ns(recording):
    """What a frame takes, from result to result."""
    return np.diff(recording.steady.columns["done_ns"]).mean()


@pytest.mark.usefixtures("two_cameras")
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_runs_as_it_says_and_labels_what_it_recorded(device, engine, name):
    recording = run_scenario(name, device, engine, frames=8, command="a command")
    settings = SCENARIOS[name].settings
    assert (recording.label, recording.command) == (name, "a command")
    assert recording.source.kind is SourceKind.SIMULATED
    if name in LOOPS_OF:  # several loops, with a warm-up before each
        assert len(recording) == LOOPS_OF[name] * (settings.warmup + 8)
    else:
        assert recording.columns["frame"].tolist() == list(range(-settings.warmup, 8 * LEVELS_OF.get(name, 1)))
    spins = name in SPINNING
    assert recording.settings["engine"].startswith("spin kernel of " if spins else "simulated yolov8n-fp16")
    for setting in ("input_memory", "output_memory", "fill", "collect_after", "graph", "postprocess"):
        assert recording.settings[setting] == getattr(settings, setting)
    assert (recording.settings["period_us"] is not None) == (name in ON_A_CLOCK + CLOCK_OF_ITS_OWN)
    assert tuple(recording.columns)[-len(TELEMETRY_COLUMNS) :] == TELEMETRY_COLUMNS
    assert device.conditions is None


@pytest.mark.usefixtures("two_cameras")
@pytest.mark.parametrize("name", sampled(SCENARIOS, ["steady", *LACKS_PART]))
def test_a_single_frame_runs_on_a_bare_preset_or_it_says_what_that_lacks(preset, name):
    device = SimulatedDevice(replace(preset, other_processes=None, registration=None))
    if name in LACKS_PART:
        with pytest.raises(SettingsError, match=LACKS_PART[name]) as caught:
            run_scenario(name, device, open_engine(device), frames=20)
        assert "h200" in caught.value.fix
    else:
        recording = run_scenario(name, device, open_engine(device), frames=1, telemetry=False)
        assert len(recording.steady) == LOOPS_OF.get(name, 1)
        assert not set(TELEMETRY_COLUMNS) & set(recording.columns)


@pytest.mark.parametrize("name", sampled([name for name in ON_A_CLOCK if SCENARIOS[name].other], every=3))
def test_clock_is_one_that_one_loop_can_serve_and_the_other_cannot(device, engine, name):
    scenario = SCENARIOS[name]
    period_ns = 1e3 * run_scenario(name, device, engine, frames=10).settings["period_us"]
    this, other = (
        frame_ns(run_loop(device, engine, replace(settings, frames=50)))
        for settings in (scenario.settings, scenario.other)
    )
    assert min(this, other) < period_ns < max(this, other)
    assert (this > period_ns) == (scenario.cause is not Cause.NONE)


@pytest.mark.parametrize(("slow", "fast"), [("clocked", "clocked-fixed"), ("overload", "overload-pinned")])
def test_latency_grows_on_the_clock_until_the_memory_is_pinned(preset, slow, fast):
    device = SimulatedDevice(preset, jitter=0.02, seed=1)
    engine = open_engine(device)
    grown = run_scenario(slow, device, engine, frames=400)
    period_us = grown.settings["period_us"]
    flat = run_scenario(fast, device, engine, frames=400, period_us=period_us)
    assert flat.settings["period_us"] == period_us
    growth = lab.slope(grown.steady.latency_ns)
    assert growth.rises
    too_long_ns = frame_ns(grown) - 1e3 * period_us
    assert growth.value == pytest.approx(too_long_ns, rel=0.02)
    assert not lab.slope(flat.steady.latency_ns).distinguishable
    assert flat.steady.latency_ns.max() < 1e3 * period_us


def test_late_collection_lets_the_pageable_upload_climb_to_a_plateau_and_not_the_pinned_one(device, engine):
    pageable, pinned = (
        run_scenario(name, device, engine, frames=200).steady.stage_ns(Stage.UPLOAD) for name in ("late", "late-pinned")
    )
    assert pageable[-1] > 2 * pageable[0]
    assert set(pageable[-50:].tolist()) == {pageable[-1]}
    assert pinned.max() <= 6_000


def test_moved_wait_takes_the_synchronize_down_and_the_frame_up(device, engine):
    moved, pinned = (run_scenario(name, device, engine, frames=20).steady for name in ("moved-wait", "graph-pinned"))
    assert set(moved.stage_ns(Stage.SYNCHRONIZE).tolist()) == {2_000}
    assert moved.stage_ns(Stage.DOWNLOAD).min() > pinned.stage_ns(Stage.SYNCHRONIZE).max()
    assert frame_ns(moved) > frame_ns(pinned)


def test_traps_cost_what_pinned_memory_should_have_saved(preset):
    work, allocation = preset.host_work_ns, Allocation(700_000, 1e6, 1 << 23, "")
    device = SimulatedDevice(replace(preset, pinned_allocation=allocation))
    engine = open_engine(device)
    names = ("served-report", "served-pinned", "served-copied", "trap-allocate", "trap-bypass")
    took = {name: frame_ns(run_scenario(name, device, engine, frames=20)) for name in names}
    assert took["trap-allocate"] == took["served-pinned"] + 700_000
    assert took["trap-bypass"] == took["served-report"] + work["copy_to_slot"]
    assert took["served-pinned"] < took["served-copied"] < took["served-report"]


def test_period_is_half_way_between_the_two_loops(device, engine):
    pageable, pinned = SCENARIOS["overload"].settings, SCENARIOS["overload-pinned"].settings
    period_us = period_between_us(device, engine, None, pageable, replace(pinned, period_us=9_999))
    took_ns = [frame_ns(run_loop(device, engine, replace(each, frames=20))) for each in (pageable, pinned)]
    half_way_ns = sum(took_ns) / 2
    assert period_us == pytest.approx(half_way_ns / 1e3, abs=0.051)


def test_given_period_is_used_and_none_is_measured(device, engine):
    recording = run_scenario("overload", device, engine, frames=5, period_us=1_234.5)
    assert recording.settings["period_us"] == 1_234.5
    uploads = [span for span in device.spans if span.name == "pageable upload"]
    assert len(uploads) == SCENARIOS["overload"].settings.warmup + 5
    assert run_scenario("served-pinned", device, engine, frames=5, period_us=50.0).settings["period_us"] == 50.0


def test_recording_is_saved_where_asked(device, engine, tmp_path):
    for name in ("graph-pinned", COPIES):
        path = tmp_path / "new" / f"{name}.parquet"
        recording = run_scenario(name, device, engine, frames=5, path=path, command="a command")
        assert name != COPIES or (recording.kind, len(recording)) == ("copies", 96)
        loaded = Recording.load(path)
        assert (loaded.label, loaded.command) == (name, "a command")
        assert len(loaded) == len(recording)


@pytest.mark.parametrize("frames", [40, 200])
def test_run_together_gives_every_scenario_as_many_frames_numbered_on(device, engine, frames):
    recordings = run_together(["served-pinned", "graph-pageable"], device, engine, frames=frames, command="a command")
    assert list(recordings) == ["served-pinned", "graph-pageable"]
    turns = max(frames // 100, 1)
    for name, recording in recordings.items():
        assert (recording.label, recording.command) == (name, "a command")
        assert recording.settings["turns"] == turns
        assert recording.columns["warmup"].sum() == 20 * turns
        assert (recording.columns["frame"][recording.columns["warmup"]] < 0).all()
        assert recording.steady.columns["frame"].tolist() == list(range(frames))
        assert (np.diff(recording.columns["done_ns"]) > 0).all()


def test_run_together_takes_turns(device, engine):
    recordings = run_together(["served-pinned", "graph-pageable"], device, engine, frames=6, turn=2)
    turns = [(each.steady.columns["start_ns"][n], name) for name, each in recordings.items() for n in (0, 2, 4)]
    assert [name for _, name in sorted(turns)] == ["served-pinned", "graph-pageable"] * 3


def test_turns_do_not_change_what_a_frame_takes(device, engine):
    alone = run_scenario("graph-pinned", device, engine, frames=50).steady
    turns = run_together(["graph-pinned", "served-report"], device, engine, frames=50, turn=10)["graph-pinned"].steady
    for stage in Stage:
        assert set(turns.stage_ns(stage).tolist()) == set(alone.stage_ns(stage).tolist())


@pytest.mark.parametrize("name", ON_A_CLOCK)
def test_scenario_on_a_clock_cannot_take_turns(device, engine, name):
    with pytest.raises(SettingsError, match=f"{name} on a clock cannot take turns") as caught:
        run_together(["served-pinned", name], device, engine)
    assert "by itself" in caught.value.fix


def test_copy_table_cannot_take_turns(device, engine):
    with pytest.raises(SettingsError, match=r"copies .*cannot take turns"):
        run_together(["served-pinned", COPIES], device, engine, frames=10)


def test_frames_that_are_no_whole_turns_are_refused_and_not_dropped(device, engine):
    with pytest.raises(SettingsError, match="250 frames"):
        run_together(["served-pinned"], device, engine, frames=250)
    with pytest.raises(SettingsError, match="turn=0"):
        run_together(["served-pinned"], device, engine, turn=0)


def test_period_takes_frames_to_measure(device, engine):
    one, other = SCENARIOS["served-pinned"].settings, SCENARIOS["served-report"].settings
    with pytest.raises(SettingsError, match="frames must be 2 or more, got 1"):
        period_between_us(device, engine, None, one, other, frames=1)


@pytest.mark.parametrize("run", [run_scenario, lambda name, *others: run_together([name], *others)])
def test_unknown_scenario_is_refused_with_those_there_are(device, engine, run):
    with pytest.raises(SettingsError, match="no scenario 'overlaod'") as caught:
        run("overlaod", device, engine)
    assert all(name in caught.value.fix for name in [*SCENARIOS, COPIES])


@pytest.mark.parametrize("name", ["served-pinned", "overload"])
def test_no_frames_are_refused(device, engine, name):
    with pytest.raises(SettingsError, match="frames must be 1 or more, got 0"):
        run_scenario(name, device, engine, frames=0)


def test_listing_has_a_line_for_each_scenario():
    lines = listing().splitlines()
    assert [line.split()[0] for line in lines] == [*SCENARIOS, COPIES]
    assert all(shown in line for shown, line in zip(SHOWS.values(), lines, strict=False))
    assert list(SHOWS) == list(SCENARIOS)
    assert len({line.index(line.split(maxsplit=1)[1]) for line in lines}) == 1  # the texts stand below each other


def test_labels_are_true():
    """Pinned memory is what a scenario without a cause of growth on a clock uses, and pageable memory what grows."""
    for name in ON_A_CLOCK:
        scenario = SCENARIOS[name]
        pinned = scenario.settings.input_memory is HostMemory.PINNED
        if scenario.cause is not Cause.CLOCK_DROP:
            assert scenario.cause is (Cause.NONE if pinned else Cause.PAGEABLE_OVERLOAD), name


def test_every_cause_has_a_scenario_and_every_fault_a_cure():
    without = {Cause.QUEUEING, Cause.HOST_CONTENTION, Cause.DEVICE_LEAK, Cause.LAUNCH_BOUND}  # words of the bill alone
    assert {scenario.cause for scenario in SCENARIOS.values()} == set(Cause) - without
    for scenario in SCENARIOS.values():
        assert bool(scenario.cure) == (scenario.cause is not Cause.NONE), scenario.name
        assert not scenario.cure or SCENARIOS[scenario.cure].cause is Cause.NONE


def test_run_that_does_something_before_each_inference_takes_no_graph(device, engine):
    run = Run(device, engine, replace(SCENARIOS["graph-pinned"].settings, frames=2), None, before=lambda _: None)
    with pytest.raises(SettingsError, match="graph=False"):
        run.loop()


def test_error_while_frames_are_collected_ends_the_thread_that_submits(device, engine, monkeypatch):
    """That one would wait for a free slot for ever: there are more frames to come than slots."""
    left, add = [300], FrameRecorder.add

    def fails(recorder, row):
        left[0] -= 1
        if not left[0]:
            raise RuntimeError("the disk is full")
        add(recorder, row)

    monkeypatch.setattr(FrameRecorder, "add", fails)
    with pytest.raises(RuntimeError, match="the disk is full"):
        run_scenario("shared-stream-event", device, engine, frames=1_000)


@pytest.mark.parametrize(("frames", "fix"), [(399, "use 400 frames or more"), (450, "and a multiple of 100")])
def test_too_few_frames_for_a_notebook_are_an_error_that_says_how_many(frames, fix):
    with pytest.raises(SettingsError, match=fix):
        require_frames(frames, 400, turn=100 if frames > 400 else 1)
    require_frames(400, 400, turn=100)
