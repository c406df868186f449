"""`yolotrt-lab record` and `yolotrt-lab calibrate`: what they write, what they print, and what they refuse."""

from __future__ import annotations

import re
import shlex

import pytest

from yolotrt_lab import cli, simulate
from yolotrt_lab import device as devices
from yolotrt_lab.causes.catalogue import SCENARIOS
from yolotrt_lab.causes.running import COPIES, listing
from yolotrt_lab.recording import Recording
from yolotrt_lab.simulate.preset import Preset
from yolotrt_lab.types import TELEMETRY_COLUMNS, SourceKind

SIMULATED = ("--device", "simulated", "--frames", "20")


@pytest.fixture(autouse=True)
def plain_errors(monkeypatch):
    monkeypatch.delenv("YOLOTRT_LAB_DEBUG", raising=False)


@pytest.fixture
def no_device(monkeypatch):
    """Fails where a device is opened: what is refused is refused before that."""
    monkeypatch.setattr(devices, "open_device", lambda *_, **__: pytest.fail("a device was opened"))


def record(path, *arguments):
    """The recording that a command writes to `path`."""
    assert cli.main(["record", *arguments, *SIMULATED, "--out", str(path)]) == 0
    return Recording.load(path)


def refused(arguments, capsys):
    """The message of a command that exits with 2 and prints nothing else."""
    assert cli.main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("yolotrt-lab: ")
    assert "\nFix: " in err
    return err


def test_record_without_names_lists_the_scenarios(capsys, no_device):
    assert cli.main(["record"]) == 0
    assert capsys.readouterr().out == listing() + "\n"


def test_record_of_one_scenario_writes_one_file_that_says_how_it_was_recorded(tmp_path, capsys):
    path = tmp_path / "new" / "mine.parquet"
    recording = record(path, "served-pinned")
    assert recording.label == "served-pinned"
    assert recording.command == shlex.join(["yolotrt-lab", "record", "served-pinned", *SIMULATED, "--out", str(path)])
    assert (recording.source.kind, recording.source.preset) == (SourceKind.SIMULATED, "h200")
    assert recording.steady.columns["frame"].tolist() == list(range(20))
    assert set(TELEMETRY_COLUMNS) < set(recording.columns)
    assert capsys.readouterr().out == f"{len(recording)} rows, {recording.source.stamp}: {path}\n"
    assert [each.name for each in path.parent.iterdir()] == ["mine.parquet"]


def test_record_of_several_fills_a_folder_with_a_file_each(tmp_path, capsys):
    names = ("served-report", "served-pinned", "graph-pinned")
    command = ["record", *names, *SIMULATED, "--out", str(tmp_path / "folder")]
    assert cli.main(command) == 0
    assert {path.stem for path in (tmp_path / "folder").iterdir()} == set(names)
    for name in names:
        recording = Recording.load(tmp_path / "folder" / f"{name}.parquet")
        assert (recording.label, recording.command) == (name, shlex.join(["yolotrt-lab", *command]))
        assert len(recording.steady) == 20
        assert recording.settings["fill"] == SCENARIOS[name].settings.fill
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_period_is_the_one_given_or_measured_where_the_scenario_has_a_clock(tmp_path):
    given = record(tmp_path / "given.parquet", "overload", "--period-us", "812.5")
    due_ns = given.steady.columns["due_ns"].tolist()
    assert [due - due_ns[0] for due in due_ns[:3]] == [0, 812_500, 1_625_000]
    clocked = [record(tmp_path / f"{name}.parquet", name) for name in ("overload", "overload-pinned")]
    [period_us] = {recording.settings["period_us"] for recording in clocked}
    assert period_us > 0
    assert given.settings["period_us"] == 812.5


def test_severity_telemetry_and_preset_are_what_the_options_say(preset, tmp_path):
    recording = record(tmp_path / "shared.parquet", "shared-gpu", "--severity", "0.5", "--no-telemetry")
    assert recording.settings["neighbours"] == [0, 2, 4, 6]
    assert not set(TELEMETRY_COLUMNS) & set(recording.columns)
    preset.save(tmp_path / "round.json")
    recording = record(tmp_path / "run.parquet", "graph-pinned", "--preset", str(tmp_path / "round.json"))
    assert recording.source.preset == "round"


def test_copies_can_be_recorded(tmp_path):
    path = tmp_path / "copies.parquet"
    assert cli.main(["record", COPIES, "--device", "simulated", "--out", str(path)]) == 0
    recording = Recording.load(path)
    assert (recording.kind, recording.label, len(recording)) == ("copies", COPIES, 96)


@pytest.mark.parametrize("names", [["overlaod"], ["served-pinned", "overlaod"]])
def test_unknown_scenario_is_answered_with_the_known_ones(names, tmp_path, capsys, no_device):
    err = refused(["record", *names, *SIMULATED, "--out", tmp_path / "out"], capsys)
    assert all(name in err for name in ["overlaod", *SCENARIOS, COPIES])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names", [["served-pinned"], ["served-pinned", "served-report"]])
def test_record_without_a_place_is_refused(names, capsys, no_device):
    assert "--out FILE" in refused(["record", *names, *SIMULATED], capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["served-pinned", "overload"], "overload on a clock cannot take turns"),
        (["served-pinned", COPIES], "cannot take turns"),
        (["served-pinned", "served-report", "--period-us", "900"], "--period-us and --severity are for one scenario"),
        (["served-pinned", "served-report", "--severity", "2"], "--period-us and --severity are for one scenario"),
        (["served-pinned", "--frames", "0"], r"frames.*0"),
        (["served-pinned", "served-report", "--frames", "0"], r"frames.*0"),
        (["served-pinned", "--frames", "-5"], r"frames.*-5"),
        (["served-pinned", "--period-us", "0"], r"period.* 0"),
        (["served-pinned", "--preset", "h900"], r"no preset.*h900"),
        (["heat", "--severity", "0"], r"severity.* 0"),
        (["served-pinned", "heat"], "heat cannot take turns"),
    ],
)
def test_wrong_settings_are_refused_and_nothing_is_written(arguments, message, tmp_path, capsys):
    err = refused(["record", *SIMULATED, *arguments, "--out", tmp_path / "out"], capsys)
    assert re.search(message, err)
    assert list(tmp_path.iterdir()) == []


def test_folder_where_a_file_should_be_is_refused(tmp_path, capsys):
    assert "folder" in refused(["record", "served-pinned", *SIMULATED, "--out", tmp_path], capsys)


def test_calibrate_writes_a_preset_that_the_simulated_device_takes(tmp_path, capsys):
    path = tmp_path / "mine.json"
    command = ["calibrate", "--device", "simulated", "--out", str(path)]
    assert cli.main(command) == 0
    preset, truth = Preset.load(path), Preset.load("h200")
    assert (preset.name, preset.gpu) == ("mine", f"{truth.gpu} simulated with preset h200")
    assert preset.command == shlex.join(["yolotrt-lab", *command])
    assert preset.launch_queue_depth == truth.launch_queue_depth
    out, err = capsys.readouterr()
    opened = [f"... opening the engine, batch {batch}" for batch in (1, 2, 4, 8, 16)]
    assert err.splitlines()[:6] == [*opened, "... host calls"]
    assert out == f"preset of {preset.gpu}: {path}\n"
    assert record(tmp_path / "run.parquet", "graph-pinned", "--preset", str(path)).source.preset == "mine"
    capsys.readouterr()
    assert cli.main(["bench", *SIMULATED, "--preset", str(path), "--frames", "50"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in out[2:12]] == list("1223456789")
    assert out[12].startswith("simulated, preset mine")


def test_calibrate_refuses_a_name_that_could_not_be_loaded_before_it_measures(tmp_path, capsys, no_device):
    err = refused(["calibrate", "--device", "simulated", "--out", tmp_path / "mine"], capsys)
    assert ".json" in err


def test_calibrate_creates_the_folder_that_is_missing(preset, tmp_path, monkeypatch):
    """A minute of measuring must not end in the loss of it."""
    monkeypatch.setattr(simulate, "calibrate", lambda *_, **__: preset)
    path = tmp_path / "new" / "round.json"
    assert cli.main(["calibrate", "--device", "simulated", "--out", str(path)]) == 0
    assert Preset.load(path) == preset
