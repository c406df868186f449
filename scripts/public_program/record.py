"""Record the public program's upload in C++, alone and beside twenty other processes, pageable and pinned, on a GPU:
`python scripts/public_program/record.py ./copy_from_mat OUT.parquet`; `copy_from_mat.cu` says how to build it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.lib.recfunctions import append_fields

from yolotrt_lab.causes.shared_gpu import OtherProcesses
from yolotrt_lab.device import open_device
from yolotrt_lab.recording import Recording, machine_info
from yolotrt_lab.telemetry import bus_id
from yolotrt_lab.types import Stage

PROCESSES = (0, 20)
FRAMES = 1_000
"""Of each of the two loops."""


def times(program: Path) -> np.ndarray:
    """One run: the columns of its rows, as it prints them; CalledProcessError if the GPU got a wrong image."""
    lines = subprocess.run([program, str(FRAMES)], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return np.genfromtxt(lines, delimiter=",", names=True, dtype=np.int64)


def recording(rows: np.ndarray) -> Recording:
    """The frames of all runs, one after the other."""
    took = {stage: np.zeros(len(rows), np.int64) for stage in Stage}
    took[Stage.PREPROCESS], took[Stage.UPLOAD] = rows["letterbox_ns"], rows["upload_ns"]
    took[Stage.INFER], took[Stage.SYNCHRONIZE] = rows["enqueue_ns"], rows["synchronize_ns"]
    done = np.cumsum(sum(took.values()))
    start = done - sum(took.values())
    columns = {"frame": np.arange(len(rows)), "due_ns": start, "start_ns": start, "done_ns": done}
    columns |= {f"{stage}_ns": values for stage, values in took.items()}
    columns |= {"warmup": rows["frame"] < 200, "pinned": rows["pinned"], "processes": rows["processes"]}
    device = open_device("cuda")
    return Recording(
        "frames",
        columns,
        device.source,
        machine=machine_info(),
        label="the public program's upload, C++",
        command="python scripts/public_program/record.py",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=("a kernel of 0.4 ms stands for the network; frames follow each other at once",),
    )


def main() -> None:
    """Record and save."""
    program, target = (Path(each).resolve() for each in sys.argv[1:])
    runs = []
    with OtherProcesses(bus_id(open_device("cuda"))) as others:
        for count in PROCESSES:
            others.become(count)
            while not others.busy:
                time.sleep(0.2)
            rows = times(program)
            runs.append(append_fields(rows, "processes", np.full(len(rows), count), usemask=False))
    recording(np.concatenate(runs)).save(target)


if __name__ == "__main__":
    main()
