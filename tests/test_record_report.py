"""The script that records the report's curve, on the simulated device; its traces by an nsys that has no importer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from yolotrt_lab.causes.shared_gpu import ARRIVING
from yolotrt_lab.errors import TraceError
from yolotrt_lab.packages import lab_path
from yolotrt_lab.recording import Recording

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "record_report.py"

NSYS = """#!{python}
import pathlib, subprocess, sys
arguments = sys.argv[1:]
if arguments == ["--version"]:
    print("NVIDIA Nsight Systems version 2025.3.2.474")
elif "--help" in arguments:
    print("  -t, --trace=\\n  --capture-range=\\n  --cuda-graph-trace=")
else:
    [at] = [index for index, each in enumerate(arguments) if each.startswith("--output=")]
    subprocess.run(arguments[at + 1 :], check=True)
    pathlib.Path(arguments[at].removeprefix("--output=") + ".qdstrm").touch()
    sys.exit(1)
"""
IMPORTER = """#!{python}
import pathlib, shutil, sys
shutil.copy({trace!r}, sys.argv[1] + ".sqlite")
pathlib.Path(sys.argv[1] + ".nsys-rep").touch()
"""


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import record_report

    return record_report


@pytest.fixture
def without_importer(tmp_path, monkeypatch):
    """An nsys that leaves a .qdstrm, and `qdstrm-import` beside it, which finds a trace of 30 frames in that."""
    folder = tmp_path / "bin"
    folder.mkdir()
    trace = str(lab_path("data", "traces", "h200", "plain-pageable.sqlite"))
    for name, text in (("nsys", NSYS), ("qdstrm-import", IMPORTER)):
        (folder / name).write_text(text.format(python=sys.executable, trace=trace))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return folder


def simulated_loop(script, monkeypatch):
    """The traced process runs on the simulated device."""
    real = script.loop_command
    monkeypatch.setattr(script, "loop_command", lambda *most: real(*most[:-2], 30, "simulated"))


@pytest.mark.exhaustive
def test_steps_run_and_everything_is_packed(tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path), "--device", "simulated", "--frames", "5"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([*command, "--only", "report", "traces"], check=True, env=environment, capture_output=True)
    recording = Recording.load(tmp_path / "report.parquet")
    assert sorted(set(recording.columns["processes"].tolist())) == [level.processes for level in ARRIVING]
    assert recording.columns["gpu_processes"][-6] == ARRIVING[-1].processes
    assert (recording.label, recording.command) == ("report", "python scripts/record_report.py FOLDER")
    profiler = json.loads((tmp_path / "profiler.json").read_text())
    assert list(profiler) == ["report-a", "graph-pageable", "graph-pinned"]
    assert profiler["graph-pageable"]["untraced"]["upload"] > 10 * profiler["graph-pinned"]["untraced"]["upload"]
    with tarfile.open(tmp_path / "recordings.tar.gz") as tar:
        assert {"report.parquet", "profiler.json"} <= set(tar.getnames())
        assert {member.uname for member in tar} == {""}


def test_report_and_its_traces_share_a_process_and_the_others_have_their_own(script):
    assert script.processes(script.STEPS) == [["report", "traces"], ["cameras"], ["served"]]
    assert script.processes(["served", "traces"]) == [["traces"], ["served"]]


@pytest.mark.exhaustive
def test_trace_is_imported_by_the_program_on_the_path_where_nsys_has_no_importer(
    script, tmp_path, monkeypatch, without_importer
):
    simulated_loop(script, monkeypatch)
    script.capture(tmp_path, "report-b", 30)
    kept = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert kept == {"report-b.nsys-rep", "report-b.sqlite", "report-b.parquet"}
    assert len(Recording.load(tmp_path / "report-b.parquet").steady) == 30


@pytest.mark.exhaustive
def test_trace_that_nothing_can_import_is_an_error_and_is_kept(script, tmp_path, monkeypatch, without_importer):
    simulated_loop(script, monkeypatch)
    (without_importer / "qdstrm-import").unlink()
    if shutil.which("qdstrm-import"):
        pytest.skip("this machine has one")
    with pytest.raises(TraceError, match="has to be imported"):
        script.capture(tmp_path, "report-b", 30)
    assert (tmp_path / "report-b.qdstrm").exists()


@pytest.mark.exhaustive
def test_twin_under_nsys_leaves_its_recording_alone(script, tmp_path, monkeypatch, without_importer):
    simulated_loop(script, monkeypatch)
    twin = script.twin(script.Lab(tmp_path, "simulated", 5), "graph-pinned", "node")
    assert script.medians_us(twin)["frames"] == 30
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["nsys-node-graph-pinned.parquet"]


def test_large_archive_is_cut_into_parts_that_join_to_the_whole(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "PART_BYTES", 1_000)
    (tmp_path / "noise.bin").write_bytes(os.urandom(2_500))
    script.pack(tmp_path)
    script.pack(tmp_path)  # as after each step: earlier parts are not packed again
    parts = sorted(tmp_path.glob("recordings.tar.gz.part*"))
    assert len(parts) == 3
    (whole := tmp_path / "whole.tar.gz").write_bytes(b"".join(part.read_bytes() for part in parts))
    with tarfile.open(whole) as tar:
        assert tar.getnames() == ["noise.bin"]
