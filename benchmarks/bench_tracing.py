"""What a trace costs the loop that is traced: `python benchmarks/bench_tracing.py [ROUNDS]`, on a GPU with nsys.

The same loop runs alone and under nsys, in turn, each time in a process of its own. Medians of a frame's stages.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from yolotrt_lab import nsight
from yolotrt_lab.cuda import find_gpu
from yolotrt_lab.errors import LabError
from yolotrt_lab.nsight.capture import find_nsys
from yolotrt_lab.recording import Recording
from yolotrt_lab.types import Stage

LOOPS = ("graph-pinned", "plain-pinned")
FRAMES = 300


def record(loop: str, folder: Path, traced: bool) -> tuple[Recording, float]:
    """The loop's recording, and the calls a frame that the trace holds (0 without one)."""
    file = folder / "recording.parquet"
    command = [sys.executable, "-m", "yolotrt_lab", "record", loop, "--device", "cuda", "--out", str(file)]
    command += ["--frames", str(FRAMES)]
    if not traced:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return Recording.load(file), 0.0
    trace = nsight.read_trace(nsight.capture_trace(command, folder / "trace"))
    recording = Recording.load(file)
    nsight.check_trace(trace, frames=len(recording))
    frames = trace.ranges["start_ns"][trace.named("ranges", "frame".__eq__)]
    calls = int((trace.api["start_ns"] >= frames[-len(recording)]).sum())
    return recording, calls / len(recording)


def main() -> None:
    """Print a table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    try:
        find_gpu()
        find_nsys()
    except LabError as error:
        sys.exit(str(error))
    runs: dict[tuple[str, bool], list[Recording]] = defaultdict(list)
    calls: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for loop in LOOPS * rounds:
            for traced in (False, True):
                recording, calls_a_frame = record(loop, Path(folder), traced)
                runs[loop, traced].append(recording.steady)
                calls[loop] = calls_a_frame or calls.get(loop, 0.0)
    stages = (Stage.UPLOAD, Stage.INFER, Stage.DOWNLOAD, Stage.SYNCHRONIZE)
    print("| loop | calls a frame | frame [us] | " + " | ".join(map(str, stages)) + " |")
    for (loop, traced), recordings in runs.items():
        values = [np.concatenate([r.columns["done_ns"] - r.columns["start_ns"] for r in recordings])]
        values += [np.concatenate([r.stage_ns(stage) for r in recordings]) for stage in stages]
        cells = " | ".join(f"{np.median(each) / 1e3:,.1f}" for each in values)
        print(f"| {loop}, {'traced' if traced else 'alone'} | {calls[loop]:.0f} | {cells} |")
    print(recordings[-1].source.stamp)


if __name__ == "__main__":
    main()
