"""`yolotrt-lab diagnose`: what it prints, writes and refuses."""

from __future__ import annotations

import json

import pytest

from yolotrt_lab import cli
from yolotrt_lab.packages import lab_path

OVERLOAD = lab_path("data", "recordings", "h200", "overload.parquet")


@pytest.fixture(autouse=True)
def plain_errors(monkeypatch):
    monkeypatch.delenv("YOLOTRT_LAB_DEBUG", raising=False)


def test_text_says_verdict_why_what_it_buys_and_what_to_run_next(capsys):
    assert cli.main(["diagnose", str(OVERLOAD)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "verdict: pageable_overload"
    assert any(line.startswith("  run next: run the same loop") for line in lines)
    assert any(line.startswith("pinned memory can take at most 0.3") for line in lines)
    assert lines[-1] == "recorded on NVIDIA H200, driver 580.159.04, 2026-11-23"


def test_json_is_json_and_nothing_else(capsys):
    assert cli.main(["diagnose", str(OVERLOAD), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["verdict"] == "pageable_overload"
    assert values["growth"]["latency"]["shape"] in ("ramp", "plateau")
    assert values["growth"]["latency"]["rise_ms"] == pytest.approx(237, rel=0.05)


def test_html_is_one_page(tmp_path, capsys):
    page = tmp_path / "new" / "page.html"
    assert cli.main(["diagnose", str(OVERLOAD), "--html", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert all(words in text for words in ("<svg", "Why overload.parquet gets slower", "recorded on NVIDIA H200"))
    assert [each.name for each in page.parent.iterdir()] == ["page.html"]


def test_a_pasted_column_with_a_unit_is_diagnosed(tmp_path, capsys):
    log = tmp_path / "log.csv"
    log.write_text("\n".join(["preprocess", *(str(1 + 0.001 * frame) for frame in range(1_000))]), encoding="utf-8")
    assert cli.main(["diagnose", str(log), "--unit", "ms"]) == 0
    assert capsys.readouterr().out.startswith("verdict: preprocess\n")


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"sync_ms\n1.0\n2.0\nthree\n", "line 4"),
        (b"sync\n1.0\n2.0\n", "unit"),
        (b"", "bad.csv"),
        (b"PAR1 and no more", "bad.csv"),
        (b"SQLite format 3\x00 and no more", "bad.csv"),
    ],
)
def test_a_malformed_file_is_one_message_that_says_where_and_exit_status_2(tmp_path, capsys, content, where):
    bad = tmp_path / "bad.csv"
    bad.write_bytes(content)
    assert cli.main(["diagnose", str(bad)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("yolotrt-lab: ")
    assert where in err.splitlines()[0]
    assert "Traceback" not in err


def test_a_file_that_is_not_there_and_a_page_that_cannot_be_written_are_refused(tmp_path, capsys):
    for arguments, path in (([], tmp_path / "none.csv"), (["--html", str(tmp_path)], OVERLOAD)):
        assert cli.main(["diagnose", str(path), *arguments]) == 2
        assert (arguments or [path.name])[-1] in capsys.readouterr().err
