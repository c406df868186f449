"""The public report's loop: held against an H200 at each level, and the shape of its synchronize."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from yolotrt_lab.causes import shared_gpu
from yolotrt_lab.causes.catalogue import SCENARIOS
from yolotrt_lab.causes.faults import Run
from yolotrt_lab.causes.running import run_scenario
from yolotrt_lab.causes.shared_gpu import ALONE_AGAIN, ARRIVING, CURED, Curve, Level
from yolotrt_lab.device import HostBuffer, open_device
from yolotrt_lab.engine import open_engine
from yolotrt_lab.recording import Recording
from yolotrt_lab.simulate import Conditions, OtherProcessesCost, Preset, SimulatedDevice
from yolotrt_lab.types import HostMemory, Stage

MODEL = "yolov8n-fp16"
STAGES = (Stage.PREPROCESS, Stage.UPLOAD, Stage.INFER, Stage.SYNCHRONIZE)
MOST = ARRIVING[-1].processes
LEVELS = (*ARRIVING, *CURED, *ALONE_AGAIN)


def measured():
    """Medians in us of the last two thirds of each level's frames, one H200, 2026-11-29, by (processes, pinned)."""
    with (Path(__file__).parents[1] / "data" / "report-loop.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {
        (int(row["processes"]), int(row["pinned"])): {
            stage: float(row[f"{stage}_us"]) for stage in (*STAGES, "download")
        }
        for row in rows
    }


OTHER_MACHINE = measured()
THEIRS = OtherProcessesCost(
    {
        "1": 350_000,
        "2": 2_600_000,
        "4": 6_330_000,
        "6": 11_200_000,
        "8": 15_000_000,
        "10": 19_000_000,
        "12": 24_100_000,
    },
    slice_ns=2_000_000,
    call_ns=1_900,
    source="data/report-loop.csv",
    upload_times={"1": 1.03, "2": 1.07, "4": 1.05, "6": 1.14, "8": 1.3, "10": 1.51, "12": 1.62},
    enqueue_times={"1": 1.04, "2": 1.1, "4": 1.09, "6": 1.21, "8": 1.37, "10": 1.49, "12": 1.58},
    host_work_times={"1": 1.04, "2": 1.07, "4": 1.07, "6": 1.09, "8": 1.13, "10": 1.17, "12": 1.29},
)
"""What the others cost on that machine. Beside one process their turns hide behind the enqueue."""
TABLE = [(processes, 0) for processes in (0, 1, 2, 4, 6, 8, 10, 12)]


def with_host(preset, measured):
    """The preset with what a machine's host took alone: hosts of one kind of GPU differ by 10 to 40 %."""
    alone = {stage: round(1e3 * took_us) for stage, took_us in measured[0, 0].items()}
    rate = 4_915_200 / (alone[Stage.UPLOAD] - preset.pageable_upload.call_ns)
    cost = replace(preset.engine(MODEL), cold_enqueue_ns=alone[Stage.INFER])
    return replace(
        preset,
        host_work_ns={**preset.host_work_ns, "naive_letterbox": alone[Stage.PREPROCESS]},
        pageable_upload=replace(preset.pageable_upload, rate=rate),
        pinned_download=replace(preset.pinned_download, busy_call_ns=alone["download"]),
        engines={MODEL: cost},
        cold_synchronize_ns=alone[Stage.SYNCHRONIZE],
    )


def medians_us(recording):
    """Of each stage, by level, settled frames alone."""
    columns, found = recording.steady.columns, {}
    for level in dict.fromkeys(zip(columns["processes"].tolist(), columns["pinned"].tolist(), strict=True)):
        chosen = (columns["processes"] == level[0]) & (columns["pinned"] == level[1])
        found[level] = {s: float(np.median(columns[f"{s}_ns"][chosen][20:])) / 1e3 for s in (*STAGES, "download")}
    return found


def run(preset, levels=LEVELS, frames=100):
    device = SimulatedDevice(preset)
    device.use(Conditions())
    settings = replace(SCENARIOS["report"].settings, frames=frames)
    run = Run(device, open_engine(device, boxes=shared_gpu.BOXES), settings, None)
    curve = Curve(run, Processes(device))
    return curve.recording(list(curve.levels(levels)))


class Processes:
    """Those of the simulated device; they are busy after `looks` looks."""

    def __init__(self, device, looks=1):
        self._device, self._looks, self._left = device, looks, 0

    def become(self, count):
        self._device.set_other_processes(count)
        self._left = self._looks

    @property
    def busy(self):
        self._left -= 1
        return self._left <= 0


@pytest.fixture(scope="module")
def like_the_measured_one():
    preset = replace(with_host(Preset.load("h200"), OTHER_MACHINE), other_processes=THEIRS)
    return medians_us(run(preset, [Level(processes) for processes, _ in TABLE]))


RECORDED = medians_us(Recording.shipped("report"))


@pytest.fixture(scope="module")
def like_the_recorded_one():
    return medians_us(run(with_host(Preset.load("h200"), RECORDED), ARRIVING))


@pytest.fixture(scope="module")
def curve():
    device = open_device("simulated")
    return run_scenario("report", device, open_engine(device), frames=100)


@pytest.mark.parametrize("level", TABLE)
def test_every_call_at_every_level_of_another_h200_is_reproduced(like_the_measured_one, level):
    """Within 20 %, from what its host took alone and what the others cost there."""
    ours, theirs = like_the_measured_one[level], OTHER_MACHINE[level]
    for stage in STAGES:
        assert ours[stage] == pytest.approx(theirs[stage], rel=0.2), stage


@pytest.mark.parametrize("level", [(level.processes, 0) for level in ARRIVING])
def test_every_call_at_every_level_of_the_recording_is_reproduced(like_the_recorded_one, level):
    """Within 20 %, from what its host took alone and what the preset says of others."""
    ours, theirs = like_the_recorded_one[level], RECORDED[level]
    for stage in STAGES:
        assert ours[stage] == pytest.approx(theirs[stage], rel=0.2), stage


@pytest.mark.parametrize("of_the_recording", [True, False])
def test_synchronize_climbs_from_microseconds_to_more_than_20_ms(curve, of_the_recording):
    levels = RECORDED if of_the_recording else medians_us(curve)
    waits = {processes: each[Stage.SYNCHRONIZE] for (processes, pinned), each in levels.items() if not pinned}
    assert waits[0] <= 12
    climbing = [waits[level.processes] for level in ARRIVING[3:]]
    assert climbing == sorted(climbing)
    assert climbing[-1] >= 20_000
    assert waits[MOST] / waits[0] > 2_000


def test_synchronize_is_microseconds_while_the_enqueue_outlasts_the_gpu(like_the_measured_one):
    """Beside one process, on a machine where the wait for the turn is shorter than the enqueue."""
    assert like_the_measured_one[0, 0][Stage.SYNCHRONIZE] == like_the_measured_one[1, 0][Stage.SYNCHRONIZE] < 12
    assert like_the_measured_one[2, 0][Stage.SYNCHRONIZE] > 1_000


@pytest.mark.parametrize("longer_us", [100, 1_000, 4_000])
def test_a_gpu_that_takes_longer_shows_in_synchronize_one_for_one_once_it_outlasts_the_enqueue(longer_us):
    preset = Preset.load("h200")
    cost = preset.engine(MODEL)

    def wait_us(gpu_ns):
        slower = replace(preset, engines={MODEL: replace(cost, gpu_ns=gpu_ns)})
        return medians_us(run(slower, [Level(0)], frames=30))[0, 0][Stage.SYNCHRONIZE]

    hidden = [wait_us(gpu_ns) for gpu_ns in (cost.gpu_ns // 2, cost.gpu_ns, cost.cold_enqueue_ns)]
    assert set(hidden) == {preset.cold_synchronize_ns / 1e3}
    outlasting_ns = cost.cold_enqueue_ns + 100_000
    assert wait_us(outlasting_ns + 1_000 * longer_us) - wait_us(outlasting_ns) == pytest.approx(longer_us, abs=0.1)


def test_pinned_input_shortens_the_upload_call_alone_and_the_others_leave_nothing_behind(curve):
    levels = medians_us(curve)
    before, cured, alone = levels[MOST, 0], levels[MOST, 1], levels[0, 1]
    assert before[Stage.UPLOAD] > 1.2 * levels[0, 0][Stage.UPLOAD]
    assert cured[Stage.UPLOAD] <= 80
    saved_us = sum(before[stage] - cured[stage] for stage in (Stage.PREPROCESS, Stage.UPLOAD))
    assert cured[Stage.SYNCHRONIZE] - before[Stage.SYNCHRONIZE] == pytest.approx(saved_us, rel=0.1)
    assert cured[Stage.PREPROCESS] < 0.6 * before[Stage.PREPROCESS]  # no new array each frame
    assert alone[Stage.SYNCHRONIZE] <= 12


def test_what_the_frame_saves_is_waited_for_in_synchronize(curve):
    """Its end is the GPU's: the time from the preprocessing to the result is the others' turn, pinned or not."""
    levels = medians_us(curve)
    assert sum(levels[MOST, 1].values()) == pytest.approx(sum(levels[MOST, 0].values()), rel=0.01)


def test_one_recording_holds_all_levels_in_their_order(curve):
    columns = curve.steady.columns
    assert columns["processes"].tolist() == [level.processes for level in LEVELS for _ in range(100)]
    assert columns["pinned"].tolist() == [int(level.pinned) for level in LEVELS for _ in range(100)]
    assert columns["frame"].tolist() == list(range(100 * len(LEVELS)))
    assert (np.diff(curve.columns["start_ns"]) > 0).all()
    assert columns["gpu_processes"][::100].tolist()[1:] != [0] * (len(LEVELS) - 1)
    assert curve.settings["levels"] == [list(level) for level in LEVELS]


def test_severity_is_how_many_processes_come():
    device = open_device("simulated")
    recording = run_scenario("report", device, open_engine(device), frames=5, severity=0.5)
    assert sorted(set(recording.columns["processes"].tolist())) == sorted({round(n.processes / 2) for n in ARRIVING})


def test_frames_go_on_while_processes_start_and_are_marked(device):
    device.use(Conditions())
    settings = replace(SCENARIOS["report"].settings, frames=10, warmup=5)
    run = Run(device, open_engine(device, boxes=shared_gpu.BOXES), settings, None)
    curve = Curve(run, Processes(device, looks=3))
    recording = curve.recording(list(curve.levels([Level(0), Level(2)])))
    starting = [True] * 2 * shared_gpu.CHUNK
    assert recording.columns["warmup"].tolist() == [*starting, *[True] * 5, *[False] * 10, *starting, *[False] * 10]
    assert recording.steady.columns["processes"].tolist() == [0] * 10 + [2] * 10
    assert (recording.columns["frame"][recording.columns["warmup"]] < 0).all()


class Pixels:
    """Host work that says what it wrote where."""

    def fresh(self, index, target=None):
        return HostBuffer(np.zeros(1)) if target is None else target


def test_pinned_loop_letterboxes_into_the_slot_and_the_other_into_a_fresh_blob(device):
    run = Run(device, open_engine(device, boxes=shared_gpu.BOXES), SCENARIOS["report"].settings, None)
    pageable, pinned = (shared_gpu.report_loop(run, pinned=kind) for kind in (False, True))
    for loop, memory in ((pageable, HostMemory.PAGEABLE), (pinned, HostMemory.PINNED)):
        slot = loop._pool.lease()
        source = loop._preprocess(Pixels(), 0, slot)
        assert source.memory is memory
        assert (source is slot.input) == (memory is HostMemory.PINNED)


def test_an_engine_with_a_large_output_is_replaced_and_one_with_a_small_output_kept(device):
    large, small = open_engine(device), open_engine(device, boxes=50)
    for engine, boxes in ((large, 100), (small, 50)):
        run = Run(device, engine, SCENARIOS["report"].settings, None)
        shared_gpu.prepare_report(run)
        assert run.engine.outputs[0].shape == (1, 84, boxes)
    assert run.engine is small
