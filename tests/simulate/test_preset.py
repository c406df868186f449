"""Presets as files: what is written is read, and what is none is refused with the fix."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from yolotrt_lab.errors import SettingsError
from yolotrt_lab.simulate.preset import FORMAT, Allocation, EngineCost, Preset, shipped_presets

MODEL = "yolov8n-fp16"
COST = EngineCost(
    *(600_000, 600_000, 400_000, 10_000, 2_000, 5_000, 2_000, 400_000, 1),
    frame_ns_by_contexts={"1": 400, "2": 250, "4": 200},
    frame_ns_by_batch={"4": (160, 100)},
    measured="a GPU",
)


def written(preset, path, **changes):
    """The preset's file, with values replaced (or removed: None)."""
    preset.save(path)
    values = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {
            "name": "mine",
            "gpu": "GPU with a ü",
            "cpu": "a CPU",
            "kernel_ns": {"letterbox": 7},
            "kernel_sharing": (1.0, 2.0),
        },
        {"engines": {}, "host_work_ns": {}, "other_processes": None, "registration": None},
        {"engines": {MODEL: COST}},
    ],
    ids=["all", "bare", "contexts and batches"],
)
def test_preset_comes_back_from_its_file_as_it_was(preset, tmp_path, changes):
    path, preset = tmp_path / "new" / "mine.json", replace(preset, **changes)
    preset.save(path)
    assert Preset.load(path) == Preset.load(str(path)) == preset
    text = path.read_text(encoding="utf-8")
    assert json.loads(text)["format"] == FORMAT
    assert "\n  " in text and text.endswith("}\n")  # to be read by people


@pytest.mark.parametrize("name", shipped_presets())
def test_shipped_preset_says_what_was_measured_and_holds_possible_figures(name):
    preset = Preset.load(name)
    assert preset.name == name
    assert all([preset.gpu, preset.driver, preset.cpu, preset.date, preset.command])
    assert preset.engine(MODEL).gpu_ns > 100_000
    assert {"letterbox", "naive_letterbox", "copy_to_slot", "decode"} == set(preset.host_work_ns)
    assert preset.pinned_upload.rate > preset.pageable_upload.rate > 0
    assert preset.pinned_download.rate > preset.pageable_download.rate > 0
    assert preset.pageable_upload.staging_bytes > 0
    assert preset.gpu in preset.other_processes.source and preset.gpu in preset.registration.source
    assert preset.launch_queue_depth > preset.engine(MODEL).kernels > 0
    costs = [preset, *preset.engines.values(), preset.pinned_upload, preset.pageable_upload, preset.pageable_download]
    for name_of, value in (item for cost in costs for item in asdict(cost).items() if item[0].endswith("_ns")):
        durations = value.values() if isinstance(value, dict) else [value]
        assert all(isinstance(duration, int) and duration >= 0 for duration in durations), name_of


def test_unknown_name_is_refused_with_the_names_there_are():
    with pytest.raises(SettingsError, match="there is no preset 'h100'") as caught:
        Preset.load("h100")
    assert ", ".join(shipped_presets()) in caught.value.fix


@pytest.mark.parametrize("content", ["", "not JSON", "[]", "3", '"text"', "{}", '{"format": 1}', b"\xff\xfe\x00"])
def test_file_that_is_no_preset_is_refused(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingsError, match=r"broken\.json is no preset") as caught:
        Preset.load(path)
    assert "yolotrt-lab calibrate" in caught.value.fix


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "the format must be 1, got 99"),
        ({"format": None}, "the format must be 1, got None"),
        ({"launch_ns": None}, "launch_ns"),
        ({"novel_ns": 1}, "novel_ns"),
        ({"pinned_upload": {"call_ns": 1}}, "busy_call_ns"),
        ({"pinned_upload": None}, "pinned_upload"),
        ({"engines": {MODEL: {"gpu_ns": 1}}}, "enqueue_ns"),
        ({"engines": []}, "engines must be of type dict, got []"),
    ],
)
def test_preset_with_missing_or_unknown_parts_is_refused_and_named(preset, tmp_path, changes, message):
    path = written(preset, tmp_path / "other.json", **changes)
    with pytest.raises(SettingsError, match=r"other\.json is no preset") as caught:
        Preset.load(path)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"launch_ns": "4000"}, "launch_ns must be of type int, got '4000'"),
        ({"launch_ns": True}, "launch_ns must be of type int, got True"),
        ({"launch_ns": 4_000.5}, "launch_ns must be of type int"),
        ({"launch_ns": -1}, "launch_ns must be 0 or more, and below 1,000,000,000,000,000, got -1"),
        ({"launch_ns": 10**40}, "launch_ns must be 0 or more"),
        ({"gpu": ["H200"]}, "gpu must be of type str"),
        ({"launch_queue_depth": 0}, "launch_queue_depth must be 1 or more"),
        ({"kernel_sharing": [1, "a"]}, "kernel_sharing must be of type float, got 'a'"),
        ({"kernel_sharing": 3}, "kernel_sharing must be of type list, got 3"),
        ({"kernel_sharing": [1.0, float("nan")]}, "kernel_sharing must be 1e-06 or more"),
        ({"upload_turn_times": {"four": 1.2}}, "upload_turn_times must be by count, such as '2', got 'four'"),
        ({"upload_turn_times": {"4": 0}}, "upload_turn_times of 4 must be 1e-06 or more"),
        ({"host_work_ns": {"decode": None}}, "host_work_ns of decode must be of type int, got None"),
        ({"registration": 7}, "registration must be of type dict, got 7"),
    ],
)
def test_a_value_of_another_type_or_that_no_machine_has_is_refused_and_named(preset, tmp_path, changes, message):
    path = written(preset, tmp_path / "other.json", **changes)
    with pytest.raises(SettingsError, match=r"other\.json is no preset: ") as caught:
        Preset.load(path)
    assert message in caught.value.message


@pytest.mark.parametrize("rate", [0, "fast", float("inf"), None, []])
def test_a_rate_is_a_positive_number(preset, tmp_path, rate):
    copy = asdict(preset.pinned_upload) | {"rate": rate}
    with pytest.raises(SettingsError, match="rate must be "):
        Preset.load(written(preset, tmp_path / "other.json", pinned_upload=copy))


def test_file_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"none\.json cannot be read: No such file.*\nFix: check the path"):
        Preset.load(tmp_path / "none.json")


def test_place_that_cannot_be_written_is_refused(preset, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be written"):
        preset.save(tmp_path / "file" / "mine.json")


def test_engine_that_was_not_measured_is_refused_with_those_that_were(preset):
    with pytest.raises(SettingsError, match="preset round has no engine 'yolov8x-fp16'; it has yolov8n-fp16"):
        preset.engine("yolov8x-fp16")
    with pytest.raises(SettingsError, match="it has none"):
        replace(preset, engines={}).engine("yolov8n-fp16")


@pytest.mark.parametrize(("nbytes", "expected_ns"), [(1, 10), (1_000, 10), (1_001, 10 + 500), (4_000, 10 + 2_000)])
def test_memory_costs_by_its_size_and_small_memory_next_to_nothing(nbytes, expected_ns):
    assert Allocation(call_ns=10, rate=2.0, small_bytes=1_000, source="").ns(nbytes) == expected_ns


def test_contexts_and_batches_give_the_cost_of_a_batch():
    assert COST.for_batch(1).sharing == (1.0, 1.6, 1.8, 2.0)
    assert COST.for_batch(1).graph_gpu_ns == COST.graph_gpu_ns
    assert COST.for_batch(4).sharing == (1.0, 1.6)
    assert COST.for_batch(4).graph_gpu_ns == COST.graph_gpu_ns * 4 * 160 / 400
    with pytest.raises(SettingsError, match=r"one that was measured \(1, 4\), got 3"):
        COST.for_batch(3)


def test_preset_that_knows_nothing_of_contexts_and_batches_runs_frames_one_by_one(preset):
    cost = preset.engine(MODEL)
    assert cost.for_batch(1) == cost
    assert cost.for_batch(4) == replace(cost, gpu_ns=1_600_000, graph_gpu_ns=1_600_000)
    shared = replace(cost, frame_ns_by_contexts=COST.frame_ns_by_contexts)
    assert shared.for_batch(4).sharing == shared.for_batch(1).sharing == (1.0, 1.6, 1.8, 2.0)


def test_batches_without_contexts_are_held_against_the_engine_alone(preset):
    cost = replace(preset.engine(MODEL), frame_ns_by_batch={"4": (160_000, 100_000)})
    assert cost.for_batch(4).graph_gpu_ns == 640_000
    assert cost.for_batch(1).sharing == ()
