"""A neighbour on the GPU: a process that keeps it busy until its standard input ends.

`python -m yolotrt_lab.neighbour` multiplies matrices and uploads 32 MB, in turn, on the first GPU that CUDA shows it.
`Neighbours` starts such processes and always ends them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from .errors import DeviceError
from .packages import load

READY = "busy"
"""What a neighbour prints once the GPU works for it."""

MATRIX = 4_096
UPLOAD_BYTES = 32 << 20


class Neighbours:
    """Other processes on the GPU of this one. They end with the `with` block, and by themselves if this process dies:
    the end of their standard input stops them.
    """

    def __init__(self, bus_id: str = "") -> None:
        self._environment = {**os.environ, "PYTHONPATH": _import_path()}
        if bus_id:
            self._environment |= {"CUDA_VISIBLE_DEVICES": _uuid(bus_id) or os.environ.get("CUDA_VISIBLE_DEVICES", "0")}
        self._processes: list[subprocess.Popen[str]] = []
        self._ready = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Neighbours:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def grow_to(self, count: int) -> None:
        """Start processes until there are `count`; returns at once (`ready` says when they are busy)."""
        while len(self._processes) < count:
            process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.neighbour"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=self._environment,
            )
            self._processes.append(process)
            threading.Thread(target=self._watch, args=(process,), daemon=True).start()

    def _watch(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        if process.stdout.readline().strip() == READY:
            with self._lock:
                self._ready += 1

    @property
    def ready(self) -> bool:
        """True once all keep the GPU busy; DeviceError, with its last line, where one of them has ended."""
        for process in self._processes:
            if process.poll() is not None:
                assert process.stderr is not None
                last = (process.stderr.read().strip().splitlines() or ["without a word"])[-1]
                raise DeviceError(f"a neighbour ended: {last}", fix="start fewer, or free memory on the GPU")
        return self._ready == len(self._processes)

    def stop(self) -> None:
        """End them all, and wait until they are gone."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.communicate()
        self._processes.clear()
        self._ready = 0


def _import_path() -> str:
    """This package's folder in front of PYTHONPATH, so that the processes import the same lab."""
    return os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]))


def _uuid(bus_id: str) -> str:
    """The UUID of the GPU at that PCI address, which CUDA_VISIBLE_DEVICES takes; '' where NVML does not tell."""
    try:
        nvml: Any = load("pynvml", needed_for="naming the GPU")
        nvml.nvmlInit()
        try:
            return str(nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByPciBusId(bus_id)))
        finally:
            nvml.nvmlShutdown()
    except (
        Exception
    ):  # NVML raises errors of its own; without a UUID the neighbours see the GPUs that this process sees
        return ""


def keep_busy(stop: threading.Event) -> None:
    """Matrix products and uploads until `stop` is set; prints `READY` when the first round is done."""
    cupy: Any = load("cupy", needed_for="a neighbour on the GPU")
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
