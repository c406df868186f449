"""A neighbour on the GPU: a process that keeps it busy until its standard input ends.

`python -m yolotrt_lab.neighbour` multiplies matrices and uploads 32 MB, in turn, on the first GPU that CUDA shows it.
`Neighbours` starts such processes and always ends them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from ..errors import DeviceError
from ..packages import load
from ..recording import Recording, joined
from ..simulate.conditions import Conditions
from ..simulate.simulated import SimulatedDevice
from .scenario import Run

READY = "busy"
"""What a neighbour prints once the GPU works for it."""

MATRIX = 4_096
UPLOAD_BYTES = 32 << 20


class _Process:
    """One neighbour."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.busy = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.neighbour"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
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
            last = (said.splitlines() or ["without a word"])[-1]
            fix = fix or "start fewer, or free memory on the GPU"
            raise DeviceError(f"a neighbour on the GPU ended: {last}", fix=fix)

    def stop(self) -> None:
        """End it, and wait until it is gone."""
        self._process.kill()
        self._process.communicate()


class Neighbours:
    """Other processes on the GPU at that PCI bus id, or on the first that CUDA shows them. They end with the `with`
    block, and by themselves if this process dies: the end of their standard input stops them.
    """

    def __init__(self, bus_id: str = "") -> None:
        self._environment = {**os.environ, "PYTHONPATH": _import_path()}
        if uuid := bus_id and _uuid(bus_id):
            self._environment["CUDA_VISIBLE_DEVICES"] = uuid
        self._processes: list[_Process] = []

    def __enter__(self) -> Neighbours:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
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

# Neighbours that come to the GPU in four steps, on the simulated device and as real processes on a real one.


CHUNK = 25
"""So many frames run between two looks at whether the neighbours are there."""


class Group(Protocol):
    """Neighbours whose number changes."""

    @property
    def busy(self) -> bool:
        """True once all of them keep the GPU busy."""

    def become(self, count: int) -> None:
        """Start or end as many as it takes."""


class _Simulated:
    busy = True

    def __init__(self, device: SimulatedDevice) -> None:
        self._device = device

    def become(self, count: int) -> None:
        self._device.set_neighbours(count)


def prepare(run: Run) -> None:
    """The simulated device gets conditions; a GPU needs no preparation."""
    if run.simulated:
        run.conditions = Conditions()


def record(run: Run) -> Recording:
    """A quarter of the frames with none, then each with 1/3, 2/3 and all of 12 * severity neighbours.

    On a GPU the loop goes on while they start, so that there are more frames than were asked for.
    """
    group: Group
    if isinstance(run.device, SimulatedDevice):
        group = _Simulated(run.device)
    else:
        group = run.stack.enter_context(Neighbours(bus_id(run.device)))
    most = max(round(12 * run.severity), 1)
    edges = [run.settings.frames * step // 4 for step in range(5)]
    return record_steps(run, group, [(round(most * step / 3), edges[step + 1] - edges[step]) for step in range(4)])


def record_steps(run: Run, group: Group, steps: Sequence[tuple[int, int]]) -> Recording:
    """One recording of a loop that goes on through all steps: so many neighbours, and so many frames once they are
    busy.
    """
    parts = list(_parts(run, group, steps))
    frames = sum(len(part.steady) for part in parts)
    return joined(parts, frames=frames, neighbours=[count for count, _ in steps])


def _parts(run: Run, group: Group, steps: Sequence[tuple[int, int]]) -> Iterator[Recording]:
    """The loop in pieces, each right after the last; only the first has a warm-up."""
    loop, warmup = run.loop(), run.settings.warmup
    for count, frames in steps:
        group.become(count)
        busy = False
        while not busy:
            busy = group.busy
            if piece := frames if busy else CHUNK:
                loop.settings = replace(run.settings, frames=piece, warmup=warmup)
                yield loop.run()
                warmup = 0


def bus_id(device: Any) -> str:
    """The PCI bus id of a GPU, which names it whatever CUDA_VISIBLE_DEVICES says."""
    cupy: Any = load("cupy", needed_for="finding the GPU")
    return str(cupy.cuda.runtime.deviceGetPCIBusId(device.ordinal))
