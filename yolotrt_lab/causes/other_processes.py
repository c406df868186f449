"""Other processes on the GPU: each keeps it busy until its standard input ends.

Run as a program it multiplies matrices and uploads 8 MB, in turn, on the first GPU that CUDA
shows it. `OtherProcesses` starts such processes and always ends them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DeviceError
from ..packages import load
from ..telemetry import Nvml

READY = "busy"
"""What such a process prints once the GPU works for it."""

MATRIX = 4_096
UPLOAD_BYTES = 8 << 20


class _Process:
    """One of them."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.busy = threading.Event()
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = [sys.executable, "-m", "yolotrt_lab.causes.other_processes"]
        self._process = subprocess.Popen(command, **pipes, text=True, env=environment)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() == READY:
            self.busy.set()

    def check(self) -> None:
        """DeviceError, with its last line, if it has ended; where that is an error of the lab's, with its fix."""
        if self._process.poll() is not None:
            assert self._process.stderr is not None
            said, _, fix = self._process.stderr.read().strip().partition("\nFix: ")
            last = (said.splitlines() or ["it printed nothing"])[-1]
            fix = fix or "start fewer, or free memory on the GPU"
            raise DeviceError(f"another process on the GPU ended: {last}", fix=fix)

    def stop(self) -> None:
        """End it, and wait until it is gone."""
        self._process.kill()
        self._process.communicate()


class OtherProcesses:
    """Processes on the GPU at that PCI bus id, or on the first that CUDA shows them.

    They end with the `with` block, and by themselves if this process dies: the end of their standard input stops them.
    """

    def __init__(self, bus_id: str = "") -> None:
        path = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]  # they import the same lab
        self._environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
        with Nvml(bus_id) as nvml:
            uuid = nvml.ask(lambda api, gpu: str(api.nvmlDeviceGetUUID(gpu)), "")
        if uuid:  # if NVML does not tell it they see the GPUs that this process sees
            self._environment["CUDA_VISIBLE_DEVICES"] = uuid
        self._processes: list[_Process] = []

    def __enter__(self) -> OtherProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        self.become(0)

    def become(self, count: int) -> None:
        """Start processes, or end some, until there are `count`. Started ones are `busy` some seconds later."""
        while len(self._processes) > count:
            self._processes.pop().stop()
        while len(self._processes) < count:
            self._processes.append(_Process(self._environment))

    @property
    def busy(self) -> bool:
        """True once all of them keep the GPU busy; DeviceError where one has ended."""
        for process in self._processes:
            process.check()
        return all(process.busy.is_set() for process in self._processes)


def keep_busy(stop: threading.Event) -> None:
    """Matrix products and uploads until `stop` is set; prints `READY` when the first round is done."""
    cupy: Any = load("cupy", needed_for="another process on the GPU")
    left, right = (cupy.ones((MATRIX, MATRIX), cupy.float32) for _ in range(2))
    host = np.ones(UPLOAD_BYTES, np.uint8)
    target = cupy.empty(UPLOAD_BYTES, cupy.uint8)
    product = cupy.empty_like(left)
    said = False
    while not stop.is_set():
        cupy.matmul(left, right, out=product)
        target.set(host)
        cupy.cuda.get_current_stream().synchronize()
        if not said:
            print(READY, flush=True)
            said = True


def main() -> None:
    """Keep the GPU busy until standard input ends."""
    stop = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    keep_busy(stop)


if __name__ == "__main__":
    main()
