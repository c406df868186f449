"""Write logs as people paste them: `python scripts/make_logs.py data/logs`.

The numbers are from recordings that ship with the lab, or from the simulation; the first line and the name of each file
say which. None is invented.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import yolotrt_lab as lab

FRAMES = 600


def main(folder: Path) -> None:
    """Write every log."""
    folder.mkdir(parents=True, exist_ok=True)
    overload = lab.Recording.shipped("overload")
    report = lab.Recording.shipped("clocked")
    simulated = lab.open_device("simulated", jitter=0.05)
    shared = lab.run_scenario("shared-gpu", simulated, lab.open_engine(simulated), frames=FRAMES)
    write(folder / "calls.h200.csv", overload, calls(overload))
    write(folder / "chinese.h200.log", report, chinese(report))
    write(folder / "shared-gpu.simulated.log", shared, lines(shared))
    write(folder / "shared-gpu-telemetry.simulated.csv", shared, with_telemetry(shared))


def write(path: Path, recording: lab.Recording, text: Iterator[str]) -> None:
    """Write the text under a line that says where its numbers come from."""
    path.write_text("\n".join([f"# {recording.source.stamp}", *text]) + "\n", encoding="utf-8")


def milliseconds(recording: lab.Recording, *names: str) -> np.ndarray:
    """Times of the first frames after the warm-up, shape (frames, names), in ms."""
    steady = recording.steady
    values = [steady.latency_ns if name == "latency" else steady.columns[f"{name}_ns"] for name in names]
    return np.stack(values, axis=1)[:FRAMES] / 1e6


def calls(recording: lab.Recording) -> Iterator[str]:
    """A table of the calls that people time, separated by semicolons."""
    yield "frame;cudaMemcpyAsync H2D [ms];enqueueV3 [ms];cudaStreamSynchronize [ms];latency [ms]"
    for frame, row in enumerate(milliseconds(recording, "upload", "infer", "synchronize", "latency")):
        yield ";".join([str(frame), *(f"{value:.4f}" for value in row)])


def chinese(recording: lab.Recording) -> Iterator[str]:
    """A log with the stages in Chinese."""
    for row in milliseconds(recording, "preprocess", "upload", "infer", "synchronize", "latency"):
        named = zip(("预处理耗时", "上传耗时", "推理耗时", "同步耗时", "延迟"), row, strict=True)
        yield " ".join(f"{name}: {value:.3f}ms" for name, value in named)


def lines(recording: lab.Recording) -> Iterator[str]:
    """A log of the calls of the public report."""
    for row in milliseconds(recording, "upload", "infer", "synchronize"):
        named = zip(("cudaMemcpyAsync", "enqueueV3", "cudaStreamSynchronize"), row, strict=True)
        yield ", ".join(f"{name} {value:.4f} ms" for name, value in named)


def with_telemetry(recording: lab.Recording) -> Iterator[str]:
    """A table of the same calls, with the telemetry of the GPU."""
    telemetry = ("sm_clock_mhz", "temperature_c", "gpu_processes", "host_memory_bytes")
    yield ",".join(["upload_ms", "infer_ms", "synchronize_ms", *telemetry])
    samples = np.stack([recording.steady.columns[name] for name in telemetry], axis=1)[:FRAMES]
    for times, values in zip(milliseconds(recording, "upload", "infer", "synchronize"), samples, strict=True):
        yield ",".join([*(f"{time:.4f}" for time in times), *(f"{value:g}" for value in values)])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
