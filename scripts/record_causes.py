"""Record every cause that this machine's GPU can show, with telemetry: `python scripts/record_causes.py FOLDER`.

It takes under two minutes on an H100. A step that fails is named at the end, and does not stop the others.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from yolotrt_lab.causes.catalogue import SCENARIOS
from yolotrt_lab.causes.other_processes import OtherProcesses
from yolotrt_lab.causes.running import run_scenario, with_telemetry
from yolotrt_lab.causes.scenario import Run
from yolotrt_lab.causes.shared_gpu import record_steps
from yolotrt_lab.device import Device, open_device
from yolotrt_lab.engine import Engine, open_engine
from yolotrt_lab.frames import read_images
from yolotrt_lab.recording import Recording
from yolotrt_lab.telemetry import Telemetry, bus_id

FRAMES = {
    "warm-up": 600,  # first: nothing has run in this process yet
    "steady": 1_500,
    "shared-stream": 1_500,
    "shared-stream-event": 1_500,
    "launch-queue": 1_000,
    "launch-queue-bounded": 1_000,
    "trap-allocate": 1_500,
    "served-pinned": 1_500,
    "leak": 1_500,
    "leak-released": 1_500,
    "moved-wait": 1_500,
    "clock-drop": 200,
    "clock-drop-busy": 1_500,
}
STEPS = [(count, 300 if count % 4 == 0 else 30) for count in range(13)]
"""The number of other processes, and how many frames are recorded with so many once they are busy."""


def shared_gpu(device: Device, engine: Engine, images: Sequence[np.ndarray]) -> Iterator[Recording]:
    """Twelve other processes start one by one; then the same loop runs with pinned input; then they end."""
    plain, pinned = (
        Run(device, engine, SCENARIOS[name].settings, images) for name in ("shared-gpu", "shared-gpu-pinned")
    )
    with Telemetry(device) as telemetry, OtherProcesses(bus_id(device)) as group:
        recordings = record_steps(plain, group, STEPS), record_steps(pinned, group, [(12, 300), (0, 300)])
    for name, recording in zip(("shared-gpu", "shared-gpu-pinned"), recordings, strict=True):
        yield with_telemetry(replace(recording, label=name), telemetry)


def run_one(
    name: str, device: Device, engine: Engine, images: Sequence[np.ndarray], frames: int
) -> Iterator[Recording]:
    """One scenario, as `yolotrt-lab record` runs it."""
    yield run_scenario(name, device, engine, images, frames=frames)


def main() -> int:
    """Fill the folder; 1 if a step failed."""
    folder, failed = Path(sys.argv[1]), []
    folder.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["python", "scripts/record_causes.py", str(folder)])
    device = open_device("cuda")
    loop = device, open_engine(device), read_images("synthetic", 8)
    steps = {name: partial(run_one, name, *loop, frames) for name, frames in FRAMES.items()}
    for name, step in {**steps, "shared-gpu": partial(shared_gpu, *loop)}.items():
        start = time.perf_counter()
        try:
            for recording in step():
                path = folder / f"{recording.label}.parquet"
                replace(recording, command=command).save(path)
                print(f"  {len(recording)} frames, {path.stat().st_size:,} bytes: {path}", flush=True)
        except Exception as error:  # the other steps are worth having
            failed.append(name)
            print(f"FAILED {name}: {type(error).__name__}: {error}", flush=True)
        print(f"{name}: {time.perf_counter() - start:.1f} s", flush=True)
    print(f"failed: {', '.join(failed) or 'no step'}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
