"""The scripts in benchmarks/ still run: each one once, in miniature; that their imports hold is seen each time."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from samples import sampled

from yolotrt_lab.cuda import has_gpu

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(BENCHMARKS.glob("*.py"))
WITHOUT_A_GPU = pytest.mark.skipif(has_gpu(), reason="says what it lacks where there is no GPU")
SIMULATED = ("--device", "simulated", "--frames", "10")


@pytest.mark.parametrize(
    "path", sampled(SCRIPTS, [path for path in SCRIPTS if path.stem != "bench_growth"]), ids=lambda path: path.stem
)
def test_what_a_benchmark_imports_is_there(path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(sys, "argv", [str(path)])
    assert runpy.run_path(str(path))["__doc__"]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("bench_growth.py", "1", "100"), "100 frames: slope"),
        (("bench_nsight.py", "100"), "of its time"),
        (("bench_planes.py", "48"), "batch 16, contexts 3, slots 3: "),
        (("bench_ranges.py", "1"), "simulated device "),
        (("bench_reading.py", "100", "30"), "of 30 damaged inputs give a bill"),
        pytest.param(("bench_telemetry.py", "2"), "no NVIDIA driver", marks=WITHOUT_A_GPU),
        pytest.param(("bench_tracing.py", "1"), "no NVIDIA driver", marks=WITHOUT_A_GPU),
        (("bench_vision.py", "1"), "frames/s"),
        (("ladder_claims.py", *SIMULATED, "--long", "100", "--peers"), "all: they need a GPU"),
        (("make_report.py", "report.sqlite", "10"), ""),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_benchmark_runs(command, words, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(sys, "argv", [str(BENCHMARKS / command[0]), *command[1:]])
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ended:
        print(ended.code)
    assert words in "".join(capfd.readouterr())


@pytest.mark.exhaustive
def test_the_benchmark_of_the_overlapped_loop_runs():
    """In a process of its own: it takes far longer in one whose memory is full of other things."""
    command = [sys.executable, str(BENCHMARKS / "bench_overlap.py"), "16"]
    assert "rung 9, timers off: " in subprocess.run(command, capture_output=True, text=True, check=True).stdout
