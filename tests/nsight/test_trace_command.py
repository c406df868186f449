"""`yolotrt-lab trace` and notebooks under nsys: what is run, what is printed, what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tiny_report import TinyReport, pageable_frame, write_secret

from yolotrt_lab import cli
from yolotrt_lab.errors import TraceError
from yolotrt_lab.nsight import capture


@pytest.fixture(autouse=True)
def plain_errors(monkeypatch):
    monkeypatch.delenv("YOLOTRT_LAB_DEBUG", raising=False)


@pytest.fixture
def captured(monkeypatch, tmp_path):
    """What `capture_trace` was asked for; it writes a report of two frames instead."""
    asked = []

    def stand_in(command, out, **options):
        asked.append((command, Path(out), options))
        return write_secret(tmp_path / "made.sqlite")

    monkeypatch.setattr(capture, "capture_trace", stand_in)
    return asked


def test_capture_runs_the_command_with_its_own_options(captured, capsys, tmp_path):
    options = ["--out", "mine", "--ranges", "--graphs", "node"]
    assert cli.main(["trace", "capture", *options, "--", "python", "loop.py", "--out", "x"]) == 0
    options = {"ranges": True, "graphs": "node", "keep_report": False}
    assert captured == [(["python", "loop.py", "--out", "x"], Path("mine"), options)]
    assert capsys.readouterr().out == f"2 kernels, 4 copies: {tmp_path / 'made.sqlite'}\n"


def test_capture_of_the_lab_itself_takes_this_lab(captured):
    assert cli.main(["trace", "capture", "--", "yolotrt-lab", "record", "steady"]) == 0
    assert captured[0][0] == [sys.executable, "-m", "yolotrt_lab", "record", "steady"]


def test_capture_checks_the_number_of_frames(captured, capsys):
    assert cli.main(["trace", "capture", "--frames", "2", "--", "x"]) == 0
    assert cli.main(["trace", "capture", "--frames", "3", "--", "x"]) == 2
    assert "the trace holds 2 of 3 frames\nFix: " in capsys.readouterr().err


def test_show_prints_the_table_and_what_the_trace_shows(tmp_path, capsys):
    assert cli.main(["trace", "show", str(write_secret(tmp_path / "mine.sqlite"))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["us", "mine"]
    cells = {line.rpartition("  ")[0].strip(): line.split()[-1] for line in lines if "  " in line}
    assert cells["frame"] == "900.0"
    assert cells["host: upload"] == "89.0"
    assert cells["GPU: copies in"] == "40.0"
    assert cells["GPU: kernels"] == "680.0"
    assert "of the time of uploads, kernels run during 0.0%" in lines
    assert any(line.startswith("pageable_copies: 2 copies to the GPU") for line in lines)


def test_show_of_a_program_without_a_loop_is_of_the_whole(tmp_path, capsys):
    assert cli.main(["trace", "show", str(write_secret(tmp_path / "mine.sqlite", marked=False))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[0] == "frame"
    assert any(line.startswith("note: nothing repeats 8 times: this is no loop") for line in lines)


def test_show_of_a_trace_without_frames_says_what_is_missing(tmp_path, capsys):
    report = TinyReport()
    report.kernel("k", 0, 10, 1)
    assert cli.main(["trace", "show", str(report.write(tmp_path / "r.sqlite"))]) == 2
    said = capsys.readouterr().err
    assert "the trace must hold CUDA calls, got none" in said
    assert "Fix: trace the whole program" in said


def _twice(report):
    for row in report.rows["CUPTI_ACTIVITY_KIND_RUNTIME"]:
        row["correlationId"] %= 10


def _backwards(report):
    for row in report.rows["CUPTI_ACTIVITY_KIND_KERNEL"]:
        row["start"], row["end"] = row["end"], row["start"]


UNTOLD = "when the GPU was idle, and what synchronize calls waited for, can't be told"


@pytest.mark.parametrize(
    ("drop", "change", "notes"),
    [
        ("KERNEL", None, ["the report has no CUPTI_ACTIVITY_KIND_KERNEL", f"the trace lacks kernels: {UNTOLD}"]),
        ("MEMCPY", None, ["the report has no CUPTI_ACTIVITY_KIND_MEMCPY", f"the trace lacks copies: {UNTOLD}"]),
        ("RUNTIME", None, ["the report has no CUPTI_ACTIVITY_KIND_RUNTIME", f"the trace lacks calls: {UNTOLD}"]),
        (
            "",
            _backwards,
            [
                "10 of 10 rows of CUPTI_ACTIVITY_KIND_KERNEL end before they start, or have an impossible number: they "
                "are left out",
                f"the trace lacks kernels: {UNTOLD}",
            ],
        ),
        (
            "",
            _twice,
            [
                "3 kernels and copies have a correlationId that several calls have: which call asked for them "
                "can't be told",
                f"the trace lacks calls: {UNTOLD}",
            ],
        ),
    ],
    ids=["no kernels", "no copies", "no calls", "backwards", "twice"],
)
def test_show_says_what_a_trace_lacks_and_tells_nothing_that_needs_it(tmp_path, capsys, drop, change, notes):
    report = TinyReport()
    for frame in range(10):
        pageable_frame(report, frame * 1_000_000, 10 * frame + 1)
    if change:
        change(report)
    path = report.write(tmp_path / "r.sqlite", drop=[f"CUPTI_ACTIVITY_KIND_{drop}"])
    assert cli.main(["trace", "show", str(path)]) == 0
    said = capsys.readouterr().out
    assert all(f"note: {note}\n" in said for note in notes)
    untold = ("GPU: idle", "synchronize: ", "kernels run during", "gaps:", "serial_copies:", "unexplained_wait:")
    assert not [words for words in (*untold, "other_work:") if words in said.replace("host: synchronize", "")]


def test_export_writes_a_file_for_perfetto(tmp_path, capsys):
    report, target = write_secret(tmp_path / "mine.sqlite"), tmp_path / "mine.json"
    assert cli.main(["trace", "export", str(report), "--perfetto", str(target)]) == 0
    assert len(json.loads(target.read_text(encoding="utf-8"))["traceEvents"]) == 36
    assert capsys.readouterr().out == f"open with ui.perfetto.dev: {target}\n"


def test_export_to_nowhere_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["trace", "export", str(write_secret(tmp_path / "mine.sqlite"))])
    assert "required: --perfetto" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "ranges"), [("--nsys", False), ("--nsys-ranges", True)])
def test_notebooks_run_under_nsys_as_the_same_command_without_the_option(captured, option, ranges):
    assert cli.main(["run", "a.ipynb", option, "-p", "frames", "3", "--out", "results"]) == 0
    command = [sys.executable, "-m", "yolotrt_lab", "run", "a.ipynb", "-p", "frames", "3", "--out", "results"]
    options = {"ranges": ranges, "graphs": "graph", "keep_report": False}
    assert captured == [(command, Path("results", "trace"), options)]


def test_a_trace_that_lacks_something_fails_the_run(captured, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(capture, "capture_trace", lambda *_, **__: write_secret(tmp_path / "x.sqlite", marked=False))
    assert cli.main(["run", "a.ipynb", "--nsys"]) == 2
    assert "the trace holds no frames" in capsys.readouterr().err
    with pytest.raises(TraceError):
        cli.main(["run", "a.ipynb", "--nsys", "--debug"])
