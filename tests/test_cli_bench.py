"""`yolotrt-lab bench`: what it prints, writes and refuses."""

from __future__ import annotations

import json
import re

import pytest

from yolotrt_lab import cli
from yolotrt_lab import device as devices
from yolotrt_lab.speed import ladder

BENCH = ("bench", "--device", "simulated", "--frames", "40")


@pytest.fixture(autouse=True)
def plain_errors_and_the_limits_that_ship(monkeypatch):
    monkeypatch.setattr(ladder, "measure_limits", lambda *_: ladder.Ladder.shipped().limits)
    monkeypatch.delenv("YOLOTRT_LAB_DEBUG", raising=False)


def test_bench_prints_the_ladder_and_writes_its_figures_and_plot(tmp_path, capsys):
    files = {kind: tmp_path / "new" / f"ladder.{kind}" for kind in ("json", "png")}
    command = [*BENCH, "--rungs", "8", "2", "--json", str(files["json"]), "--plot", str(files["png"])]
    assert cli.main(command) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split()[0] == "rung"
    assert [line[:18].rstrip() for line in lines[2:5]] == ["2 pinned, copied", "2 pinned, in place", "8 batches"]
    assert "engine at its best rate" in out
    assert "... rung 8 batches\n" in err
    loaded = json.loads(files["json"].read_text())
    assert [rung["rung"] for rung in loaded["rungs"]] == [2, 2, 8]
    assert loaded["command"].startswith("yolotrt-lab bench --device simulated")
    assert files["png"].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--rungs", "10"], r"rung.* 10\b.*\nFix: "), (["--frames", "3"], r"frames.* 3\b.*\nFix: ")],
)
def test_bench_refuses_before_a_device_is_opened(options, words, capsys, monkeypatch):
    monkeypatch.setattr(devices, "open_device", lambda *_, **__: pytest.fail("a device was opened"))
    assert cli.main(["bench", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(words, err)


@pytest.mark.parametrize(
    ("option", "name"), [("--json", "file/x.json"), ("--plot", "file/x.png"), ("--plot", "x.unknown")]
)
def test_file_that_cannot_be_written_is_refused_before_a_device_is_opened(option, name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(devices, "open_device", lambda *_, **__: pytest.fail("a device was opened"))
    (tmp_path / "file").touch()
    assert cli.main([*BENCH, "--rungs", "7", option, str(tmp_path / name)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert str(tmp_path / name) in err


def test_rung_that_breaks_is_printed(capsys, monkeypatch):
    measure = ladder.figures
    monkeypatch.setattr(ladder, "figures", lambda run: 1 / 0 if run.label == "contexts" else measure(run))
    assert cli.main([*BENCH, "--rungs", "2", "7"]) == 0
    out = capsys.readouterr().out
    assert "2 pinned" in out
    assert "rung 7" in out
    assert "ZeroDivisionError" in out
