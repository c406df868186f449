"""`yolotrt-lab bench`: what it prints, writes and refuses."""

from __future__ import annotations

import json

import ladder_claims as claims
import pytest

from yolotrt_lab import cli
from yolotrt_lab import device as devices

BENCH = ("bench", "--device", "simulated", "--frames", "40")


@pytest.fixture(autouse=True)
def plain_errors(monkeypatch):
    monkeypatch.delenv("YOLOTRT_LAB_DEBUG", raising=False)


def test_bench_prints_the_ladder_and_writes_its_figures_and_plot(tmp_path, capsys):
    files = {kind: tmp_path / f"ladder.{kind}" for kind in ("json", "png")}
    command = [*BENCH, "--rungs", "8", "2", "--peers", "--json", str(files["json"]), "--plot", str(files["png"])]
    assert cli.main(command) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split()[0] == "rung"
    assert [line.split()[:2] for line in lines[2:4]] == [["2", "pinned"], ["8", "batches"]]
    assert "limit for many frames" in out
    assert "peer: all" in out
    assert "... rung 8: batches" in err
    loaded = json.loads(files["json"].read_text())
    assert [rung["rung"] for rung in loaded["rungs"]] == [2, 8]
    assert loaded["command"].startswith("yolotrt-lab bench --device simulated")
    assert loaded["peers"] == {"all": "they need a GPU"}
    assert files["png"].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rungs", "9"], "no rung 9"),
        (["--frames", "3"], "3 frames a rung"),
    ],
)
def test_bench_refuses_before_a_device_is_opened(options, words, capsys, monkeypatch):
    monkeypatch.setattr(devices, "open_device", lambda *_, **__: pytest.fail("a device was opened"))
    assert cli.main(["bench", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert "\nFix: " in err


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_file_that_cannot_be_written_is_said_with_the_ladder_printed(option, tmp_path, capsys):
    assert cli.main([*BENCH, "--rungs", "7", option, str(tmp_path / "no" / "folder.png")]) == 2
    out, err = capsys.readouterr()
    assert "7 contexts" in out
    assert "name another place" in err or "name a file" in err


def test_claims_measured_so_far_are_kept_when_one_breaks(tmp_path, capsys, monkeypatch):
    def breaks(bench):
        raise KeyboardInterrupt

    monkeypatch.setattr(claims, "pinned_upload", breaks)
    path = tmp_path / "ladder.json"
    assert cli.main([*BENCH, "--rungs", "6", "--full", "--json", str(path)]) == 130
    names = [claim["name"] for claim in json.loads(path.read_text())["claims"]]
    assert names == [
        "rung 6, us a frame, against the engine alone",
        "latency of a frame alone, against the engine alone",
    ]
    assert "6 decode" in capsys.readouterr().out
