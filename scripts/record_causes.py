"""Record every cause that this machine's GPU can show, with telemetry: `python scripts/record_causes.py FOLDER`.

Under two minutes on an H100. A step that fails is named at the end, and does not stop the others.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from yolotrt_lab.causes.catalogue import SCENARIOS
from yolotrt_lab.causes.running import run_scenario, with_telemetry
from yolotrt_lab.causes.scenario import Run
from yolotrt_lab.causes.shared_gpu import Neighbours, bus_id, record_steps
from yolotrt_lab.device import open_device
from yolotrt_lab.engine import open_engine
from yolotrt_lab.frames import read_images
from yolotrt_lab.recording import Recording
from yolotrt_lab.telemetry import Telemetry

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
"""Neighbours that come one by one, and how many frames each number of them is recorded for once they are busy."""


class Recorder:
    """The GPU, the engine, and the folder to record into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.command = shlex.join(["python", "scripts/record_causes.py", str(folder)])
        self.device = open_device("cuda")
        self.engine = open_engine(self.device)
        self.images = read_images("synthetic", 8)
        self.failed: list[str] = []

    def attempt(self, name: str, step: Callable[[], None]) -> None:
        """Run one step; an error is printed."""
        begin = time.perf_counter()
        try:
            step()
        except Exception as error:  # the other steps are worth having
            self.failed.append(name)
            print(f"FAILED {name}: {type(error).__name__}: {error}", flush=True)
        print(f"{name}: {time.perf_counter() - begin:.1f} s", flush=True)

    def save(self, recording: Recording) -> None:
        """Into a file of the recording's name."""
        path = self.folder / f"{recording.label}.parquet"
        recording.save(path)
        print(f"  {len(recording)} frames, {path.stat().st_size:,} bytes: {path}", flush=True)

    def scenario(self, name: str) -> None:
        """One scenario, as `yolotrt-lab record` does it."""
        frames, command = FRAMES[name], self.command
        self.save(run_scenario(name, self.device, self.engine, self.images, frames=frames, command=command))

    def shared_gpu(self) -> None:
        """Twelve neighbours, who come one by one; then pinned input beside them; then they go."""
        with Telemetry(self.device) as telemetry, Neighbours(bus_id(self.device)) as group:
            shared = record_steps(self._run("shared-gpu"), group, STEPS)
            pinned = record_steps(self._run("shared-gpu-pinned"), group, [(12, 300), (0, 300)])
        for name, recording in (("shared-gpu", shared), ("shared-gpu-pinned", pinned)):
            self.save(with_telemetry(replace(recording, label=name, command=self.command), telemetry))

    def _run(self, name: str) -> Run:
        return Run(self.device, self.engine, SCENARIOS[name].settings, self.images)


def main() -> int:
    """Fill the folder; 1 where a step failed."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    recorder = Recorder(folder)
    for name in FRAMES:
        recorder.attempt(name, lambda name=name: recorder.scenario(name))
    recorder.attempt("shared-gpu", recorder.shared_gpu)
    print(f"failed: {', '.join(recorder.failed) or 'none'}")
    return int(bool(recorder.failed))


if __name__ == "__main__":
    sys.exit(main())
