"""`yolotrt-lab diagnose`: what it prints, writes and refuses."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from yolotrt_lab import cli
from yolotrt_lab.packages import lab_path

CASES = Path(__file__).parent / "data" / "cases" / "logs"
OVERLOAD = lab_path("data", "recordings", "h200", "overload.parquet")


@pytest.fixture(autouse=True)
def plain_errors(monkeypatch):
    monkeypatch.delenv("YOLOTRT_LAB_DEBUG", raising=False)


def test_text_says_what_is_proven_what_fixes_buy_and_what_to_measure_next(capsys):
    assert cli.main(["diagnose", str(OVERLOAD)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].startswith("1,500 frames; beyond the stages grew most, by 1")
    assert "proven: queueing, pageable_overload; most that one fix" in lines[0]
    assert lines[lines.index("") + 1] == "where a frame's time goes:"
    proven = lines[lines.index("proven:") + 1 :]
    assert proven[0].startswith("  queueing ")
    assert any(line.startswith("  pinned input   0.350 ms") for line in lines)
    assert lines[-1] == "overload.parquet; recorded on NVIDIA H200, driver 580.159.04, 2026-11-29"


def test_json_is_json_and_nothing_else(capsys):
    assert cli.main(["diagnose", str(OVERLOAD), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert {each["cause"] for each in values["causes"] if each["verdict"] == "proven"} == {
        "queueing",
        "pageable_overload",
    }
    latency = next(each for each in values["grew"] if each["stage"] == "latency")
    assert latency["to_ms"] - latency["from_ms"] == pytest.approx(147, rel=0.05)


def test_html_is_one_page(tmp_path, capsys):
    page = tmp_path / "new" / "page.html"
    assert cli.main(["diagnose", str(CASES / "13_nvprof_summary.txt"), "--html", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert all(words in text for words in ("<title>", "13_nvprof_summary.txt", "[CUDA memcpy DtoH]"))
    assert [each.name for each in page.parent.iterdir()] == ["page.html"]


def test_a_pasted_column_with_a_unit_is_billed(tmp_path, capsys):
    log = tmp_path / "log.csv"
    log.write_text("\n".join(["preprocess", *(str(1 + 0.001 * frame) for frame in range(1_000))]), encoding="utf-8")
    assert cli.main(["diagnose", str(log), "--unit", "ms"]) == 0
    assert "preprocess grew from 1.0" in capsys.readouterr().out


def test_what_is_no_series_of_frames_is_no_error(capsys):
    assert cli.main(["diagnose", str(CASES / "13_nvprof_summary.txt")]) == 0
    assert capsys.readouterr().out.startswith("nvprof, a summary: a summary")


def test_a_pattern_is_read(tmp_path, capsys):
    log = tmp_path / "a.log"
    log.write_text("\n".join(f"<{i}> net={5 + 0.1 * i:.2f}" for i in range(40)), encoding="utf-8")
    assert cli.main(["diagnose", str(log), "--pattern", r"net=(?P<infer_ms>[0-9.]+)", "--json"]) == 0
    assert [each["stage"] for each in json.loads(capsys.readouterr().out)["grew"]] == ["infer"]


def test_telemetry_that_nvidia_smi_wrote_meanwhile_is_joined(tmp_path, capsys):
    times, gpu = tmp_path / "times.csv", tmp_path / "gpu.csv"
    stamps = [f"2026-11-29 10:00:{second:02}.000" for second in range(40)]
    rows = (f"{stamp},0.3,{5 + 0.1 * i:.2f}" for i, stamp in enumerate(stamps))
    times.write_text("\n".join(["timestamp,infer_ms,synchronize_ms", *rows]), encoding="utf-8")
    reasons = [f"clocks_throttle_reasons.{each}" for each in ("gpu_idle", "sw_power_cap", "sw_thermal_slowdown")]
    query = ", ".join(
        ["timestamp, clocks.current.sm [MHz], clocks.max.sm [MHz], clocks.mem [MHz], temperature.gpu", *reasons]
    )
    rows = (
        f"{stamp}, 1980 MHz, 1980 MHz, 2619 MHz, {41 + i // 20}{', Not Active' * 3}" for i, stamp in enumerate(stamps)
    )
    gpu.write_text("\n".join([query, *rows]), encoding="utf-8")
    assert cli.main(["diagnose", str(times), "--telemetry", str(gpu), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert [each["stage"] for each in values["grew"]] == ["synchronize"]
    assert {each["cause"]: each["verdict"] for each in values["causes"]}["clock_drop"] == "excluded"


def test_an_option_that_would_do_nothing_is_refused(tmp_path, capsys):
    log = tmp_path / "log.csv"
    log.write_text("\n".join(["infer_ms", *(str(1 + 0.001 * frame) for frame in range(100))]), encoding="utf-8")
    for file, option, value in ((log, "--range", "frame"), (OVERLOAD, "--range", "frame"), (OVERLOAD, "--unit", "ms")):
        for command in (["diagnose", str(file)], ["compare", str(file), str(file)]):
            assert cli.main([*command, option, value]) == 2
            out, err = capsys.readouterr()
            assert out == ""
            assert err.startswith(f"yolotrt-lab: {option} must be for ")
            assert err.endswith(f"\nFix: leave {option} out\n")


def test_telemetry_without_a_header_is_joined_by_the_names_of_its_columns(tmp_path, capsys):
    times, gpu = tmp_path / "times.csv", tmp_path / "gpu.csv"
    stamps = [f"2026-11-29 10:00:{second:02}.000" for second in range(40)]
    times.write_text("\n".join(["timestamp,infer_ms", *(f"{stamp},5" for stamp in stamps)]), encoding="utf-8")
    gpu.write_text("\n".join(f"{stamp}, 1980 MHz" for stamp in stamps), encoding="utf-8")
    command = ["diagnose", str(times), "--columns", "timestamp,clocks.sm"]
    assert cli.main([*command, "--telemetry", str(gpu)]) == 0
    assert "telemetry of gpu.csv" in capsys.readouterr().out
    assert cli.main(command) == 2
    assert "--columns must be for a table without a header, got CSV" in capsys.readouterr().err


def test_compare_prints_both(capsys):
    assert cli.main(["compare", str(OVERLOAD), str(OVERLOAD.with_name("overload-pinned.parquet"))]) == 0
    out = capsys.readouterr().out
    assert "the frame goes from 0.830 ms to 0.576 ms: 0.254 ms less" in out
    assert "pageable_overload  proven, then excluded: the input is page-locked" in out


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


def test_what_is_larger_than_the_limit_is_refused_and_says_how_to_raise_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("YOLOTRT_LAB_MAX_MB", "1")
    times = np.full(140_000, 7.0)
    sparse, packed, feather, parquet_file = (
        tmp_path / name for name in ("a.csv", "b.csv.gz", "c.feather", "d.parquet")
    )
    with sparse.open("wb") as file:
        file.truncate(10**10)
    packed.write_bytes(gzip.compress(b"infer: 7.0 ms\n" * 80_000))
    feather_options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(feather, pa.schema([("infer_ms", pa.float64())]), options=feather_options) as writer:
        writer.write_table(pa.table({"infer_ms": times}))
    parquet.write_table(pa.table({"infer_ms": times}), parquet_file)
    assert max(each.stat().st_size for each in (packed, feather, parquet_file)) < 1_000_000
    for path in (sparse, packed, feather, parquet_file, Path("/dev/zero")):
        if path.exists():
            assert cli.main(["diagnose", str(path)]) == 2
            out, err = capsys.readouterr()
            assert out == ""
            assert re.search(r"at most 1 MB, got .*\nFix: .*YOLOTRT_LAB_MAX_MB=\d+\n", err), err
    monkeypatch.setenv("YOLOTRT_LAB_MAX_MB", "4")
    for path in (packed, feather, parquet_file):
        assert cli.main(["diagnose", str(path)]) == 0
