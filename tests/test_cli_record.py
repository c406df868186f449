"""`yolotrt-lab record` and `yolotrt-lab calibrate`: what they write, what they print, and what they refuse."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from unittest.mock import Mock

import pytest
from samples import sampled

from yolotrt_lab import cli, files, simulate
from yolotrt_lab import device as devices
from yolotrt_lab import recording as recordings
from yolotrt_lab.causes.catalogue import SCENARIOS
from yolotrt_lab.causes.running import COPIES, listing
from yolotrt_lab.errors import RecordingError
from yolotrt_lab.recording import FrameRecorder, Recording
from yolotrt_lab.simulate.experiments import CopyProbe
from yolotrt_lab.simulate.preset import Preset
from yolotrt_lab.types import TELEMETRY_COLUMNS, Source, SourceKind

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
    assert recording.settings["other_processes"] == [0, 2, 4, 6]
    assert not set(TELEMETRY_COLUMNS) & set(recording.columns)
    preset.save(tmp_path / "round.json")
    recording = record(tmp_path / "run.parquet", "graph-pinned", "--preset", str(tmp_path / "round.json"))
    assert recording.source.preset == "round"


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
    err = refused(["record", *SIMULATED, *arguments, "--out", tmp_path / "out.parquet"], capsys)
    assert re.search(message, err)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_refused_before_a_device_is_opened(tmp_path, capsys, no_device):
    (tmp_path / "a.parquet").mkdir()
    (tmp_path / "b.parquet").write_text("frame,ms\n")
    (tmp_path / "steady.parquet").write_bytes(b"PAR1")
    for name, words in {
        "a.parquet": "it is a folder",
        "b.parquet": "stays as it is",
        "c.txt": "end in .parquet",
    }.items():
        assert words in refused(["record", "steady", *SIMULATED, "--out", tmp_path / name, "--force"], capsys)
    for command in (["steady", "--out", tmp_path / "steady.parquet"], ["steady", "served-pinned", "--out", tmp_path]):
        assert "--force" in refused(["record", *SIMULATED, *command], capsys)
    assert (tmp_path / "b.parquet").read_text() == "frame,ms\n"


def test_a_recording_is_overwritten_where_that_is_asked_for(tmp_path):
    path = tmp_path / "mine.parquet"
    record(path, "graph-pinned")
    assert record(path, "served-pinned", "--force").label == "served-pinned"


def test_what_a_full_disk_left_is_named_and_force_goes_on(tmp_path, capsys):
    path, left = tmp_path / "mine.parquet", tmp_path / "mine.parquet.partial"
    record(path, "graph-pinned")
    path.rename(left)
    capsys.readouterr()
    assert f"{left} holds what a run recorded" in refused(["record", "steady", *SIMULATED, "--out", path], capsys)
    assert record(path, "steady", "--force").label == "steady"
    assert list(tmp_path.iterdir()) == [path]


PIECES = ("graph-pinned", "report", "cameras", "shared-gpu", "shared-stream", "steady")


def interrupted_after(frames, monkeypatch, error=KeyboardInterrupt):
    """A run stops in its 'frames'th frame, in whichever recorder."""
    add, left = FrameRecorder.add, [frames]

    def stopping(recorder, row):
        add(recorder, row)
        left[0] -= bool(recorder.recording().settings)
        if left[0] == 0:
            raise error

    monkeypatch.setattr(FrameRecorder, "add", stopping)


@pytest.mark.parametrize("name", sampled(PIECES, ["graph-pinned", "cameras", "shared-stream"]))
def test_ctrl_c_keeps_every_frame_so_far_of_every_kind_of_scenario_and_says_where(name, tmp_path, monkeypatch, capsys):
    interrupted_after(70, monkeypatch)
    path = tmp_path / "mine.parquet"
    assert cli.main(["record", name, *SIMULATED, "--out", str(path)]) == 130
    kept = Recording.load(path)
    assert len(kept) >= 70
    assert (kept.label, kept.notes[-1]) == (
        name,
        f"unfinished: KeyboardInterrupt ended the run after {len(kept)} frames",
    )
    assert set(TELEMETRY_COLUMNS) < set(kept.columns)
    said = f"stopped by Ctrl-C\n{len(kept):,} frames are kept in {path}, which says that the run is not whole\n"
    assert said in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["mine.parquet"]
    assert cli.main(["diagnose", str(path)]) == 0
    assert "unfinished: KeyboardInterrupt ended the run" in capsys.readouterr().out


def test_ctrl_c_keeps_the_rows_of_the_copy_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(CopyProbe, "median", Mock(side_effect=[(1, 2), (3, 4), KeyboardInterrupt]))
    path = tmp_path / "copies.parquet"
    assert cli.main(["record", COPIES, "--device", "simulated", "--out", str(path)]) == 130
    assert f"2 rows are kept in {path}" in capsys.readouterr().err
    kept = Recording.load(path)
    assert kept.columns["sync_ns"].tolist() == [2, 4]
    assert kept.notes == ("unfinished: KeyboardInterrupt ended the run after 2 rows",)


def test_ctrl_c_keeps_each_of_several_scenarios(tmp_path, monkeypatch, capsys):
    interrupted_after(70, monkeypatch)
    assert cli.main(["record", "served-pinned", "served-report", *SIMULATED, "--out", str(tmp_path)]) == 130
    kept = {name: len(Recording.load(tmp_path / f"{name}.parquet")) for name in ("served-pinned", "served-report")}
    assert sum(kept.values()) == 70
    assert capsys.readouterr().err.count("frames are kept in") == 2


@pytest.mark.parametrize("name", ["graph-pinned", "report"])
def test_what_cannot_be_saved_in_its_place_is_kept_whole_elsewhere(name, tmp_path, monkeypatch, capsys):
    spare, write = tmp_path / "spare", files.write_file
    spare.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spare))

    def full(path, *arguments):
        if path.parent == tmp_path:
            raise RecordingError(f"{path} cannot be written: No space left on device", fix="make room")
        return write(path, *arguments)

    monkeypatch.setattr(recordings, "write_file", full)
    assert cli.main(["record", name, *SIMULATED, "--out", str(tmp_path / "mine.parquet")]) == 2
    [kept] = spare.rglob("*.parquet")
    assert f"rows are kept in {kept}" in capsys.readouterr().err
    assert Recording.load(kept).label == name


@pytest.mark.parametrize("name", ["report", "steady", COPIES])
def test_a_run_into_the_path_of_another_one_is_refused(name, tmp_path, capsys):
    other = FrameRecorder(tmp_path / "mine.parquet", source=Source(SourceKind.SIMULATED, preset="round"))
    assert "another run records to" in refused(["record", name, *SIMULATED, "--out", tmp_path / "mine.parquet"], capsys)
    other.finish()
    assert list(tmp_path.iterdir()) == []  # it had no frames


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGTERM")
def test_sigterm_ends_a_run_as_ctrl_c_does(tmp_path):
    path = tmp_path / "mine.parquet"
    command = [sys.executable, "-c", "import sys, signal; from yolotrt_lab import cli, recording\n"
               "add, n = recording.FrameRecorder.add, [0]\n"
               "def stopping(self, row):\n"
               "    add(self, row); n[0] += 1\n"
               "    if n[0] == 300: signal.raise_signal(signal.SIGTERM)\n"
               "recording.FrameRecorder.add = stopping\n"
               "sys.exit(cli.main(sys.argv[1:]))"]  # fmt: skip
    record = ["record", "graph-pinned", "--frames", "9000", "--period-us", "900", "--out", str(path)]
    done = subprocess.run([*command, *record, "--device", "simulated"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (143, "")
    assert "stopped by SIGTERM\n300 frames are kept in " in done.stderr
    assert len(Recording.load(path)) == 300


@pytest.mark.exhaustive
def test_calibrate_writes_a_preset_that_the_simulated_device_takes(tmp_path, capsys):
    path = tmp_path / "mine.json"
    command = ["calibrate", "--device", "simulated", "--out", str(path)]
    assert cli.main(command) == 0
    preset, truth = Preset.load(path), Preset.load("h200")
    assert (preset.name, preset.gpu, preset.derived_from) == ("mine", truth.gpu, "h200")
    assert preset.command == shlex.join(["yolotrt-lab", *command])
    assert preset.launch_queue_depth == truth.launch_queue_depth
    out, err = capsys.readouterr()
    opened = [f"... opening the engine, batch {batch}" for batch in (1, 2, 4, 8, 16)]
    assert err.splitlines()[:6] == [*opened, "... host calls"]
    label = "mine, derived from h200 by the simulation"
    assert out == f"preset {label} of {preset.gpu}: {path}\n"
    stamp = record(tmp_path / "run.parquet", "graph-pinned", "--preset", str(path)).source.stamp
    assert stamp.startswith(f"simulated, preset {label} (measured on NVIDIA H200")


def test_calibrate_refuses_a_name_that_could_not_be_loaded_before_it_measures(tmp_path, capsys, no_device):
    err = refused(["calibrate", "--device", "simulated", "--out", tmp_path / "mine"], capsys)
    assert ".json" in err


def test_calibrate_creates_the_folder_that_is_missing(preset, tmp_path, monkeypatch):
    """A minute of measuring must not end in the loss of it."""
    monkeypatch.setattr(simulate, "calibrate", lambda *_, **__: preset)
    path = tmp_path / "new" / "round.json"
    assert cli.main(["calibrate", "--device", "simulated", "--out", str(path)]) == 0
    assert Preset.load(path) == preset


def test_a_disk_that_is_full_from_the_start_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(FrameRecorder, "_write", Mock(side_effect=RecordingError("no space", fix="make room")))
    path = tmp_path / "mine.parquet"
    assert cli.main(["record", "graph-pinned", *SIMULATED, "--out", str(path)]) == 2
    assert list(tmp_path.iterdir()) == []
