"""Other processes that come to the GPU, real ones or simulated ones: in four steps, or to the public report's loop.

The report's loop has no clock. Each frame is a fresh pageable blob, which is uploaded as it is. The engine is enqueued
call by call, and its small output goes to pinned memory. What synchronize takes is a remainder: the end of the GPU's
work minus the moment of the call. At last the input is pinned.

Run as a program this file is one of the other processes: it multiplies matrices and uploads 8 MB, in turn, on the first
GPU that CUDA shows it, until its standard input ends. `OtherProcesses` starts such processes and always ends them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..device import HostBuffer
from ..engine import open_engine
from ..errors import DeviceError
from ..loop import FrameLoop
from ..memory import Slot
from ..packages import load
from ..plots.curves import CALLS, call_ns
from ..recording import Recording, joined
from ..simulate import Conditions, SimulatedDevice
from ..tables import Table, in_ms, levels_of
from ..telemetry import Nvml, bus_id
from ..types import Fill, HostMemory, Stage
from ..vision import HostWork
from .faults import Run

CHUNK = 25
"""So many frames run between two looks at whether the processes are there."""

READY = "busy"
"""What such a process prints once the GPU works for it."""

MATRIX = 4_096
UPLOAD_BYTES = 8 << 20


class _Process:
    """One of them."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.busy = threading.Event()
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = [sys.executable, "-m", "yolotrt_lab.causes.shared_gpu"]
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


class _Simulated:
    busy = True

    def __init__(self, device: SimulatedDevice) -> None:
        self.become = device.set_other_processes


Group = OtherProcesses | _Simulated
"""Other processes whose number changes."""


def prepare(run: Run) -> None:
    """The simulated device gets conditions; a GPU needs no preparation."""
    if run.simulated:
        run.conditions = Conditions()


def group_of(run: Run) -> Group:
    """The other processes of a run: they end with it."""
    if isinstance(run.device, SimulatedDevice):
        return _Simulated(run.device)
    return run.stack.enter_context(OtherProcesses(bus_id(run.device)))


def record(run: Run) -> Recording:
    """A quarter of the frames alone, then each with 1/3, 2/3 and all of 12 * severity other processes.

    On a GPU the loop goes on while they start, so that there are more frames than were asked for.
    """
    group = group_of(run)
    most = max(round(12 * run.severity), 1)
    edges = [run.settings.frames * step // 4 for step in range(5)]
    return record_steps(run, group, [(round(most * step / 3), edges[step + 1] - edges[step]) for step in range(4)])


def record_steps(run: Run, group: Group, steps: Sequence[tuple[int, int]]) -> Recording:
    """One recording of a loop that goes on through all steps: so many other processes, and so many frames once they
    are busy.
    """
    parts = list(_parts(run, group, steps))
    frames = sum(len(part.steady) for part in parts)
    return joined(parts, frames=frames, other_processes=[count for count, _ in steps])


def _parts(run: Run, group: Group, steps: Sequence[tuple[int, int]]) -> Iterator[Recording]:
    """The loop in pieces, each right after the last; only the first has a warm-up."""
    loop, warmup = run.loop(), run.settings.warmup
    for count, frames in steps:
        group.become(count)
        while not group.busy:
            yield _piece(loop, CHUNK, warmup)
            warmup = 0
        if frames:
            yield _piece(loop, frames, warmup)
            warmup = 0


# The public report's loop

BOXES = 100
"""The program's engine has NMS in it, and gives boxes: a few kilobytes. 100 of them are 33,600 bytes."""


class Level(NamedTuple):
    """So many other processes, and the kind of the input's memory."""

    processes: int
    pinned: bool = False


ARRIVING = tuple(Level(count) for count in (0, 1, 2, 4, 6, 8, 10, 12, 16, 20))
CURED = (Level(20, pinned=True),)
ALONE_AGAIN = (Level(0, pinned=True),)


def prepare_report(run: Run) -> None:
    """An engine with a small output, unless the run's has one; the simulated device gets conditions."""
    if run.engine.outputs[0].shape[-1] > BOXES:
        run.engine = open_engine(run.device, boxes=BOXES)
    prepare(run)


def record_report(run: Run) -> Recording:
    """All levels one after the other, `frames` each; the numbers of other processes are those of `ARRIVING` times the
    severity.
    """
    curve = Curve(run, group_of(run))
    scaled = [level._replace(processes=round(level.processes * run.severity)) for level in ARRIVING + CURED]
    return curve.recording([*curve.levels(scaled), *curve.levels(ALONE_AGAIN)])


def report_loop(run: Run, *, pinned: bool) -> FrameLoop:
    """The report's loop, or the same with one change: the blob lies in pinned memory, which is created once."""
    if not pinned:
        return replace(run).loop()
    settings = replace(run.settings, input_memory=HostMemory.PINNED, fill=Fill.IN_PLACE)
    return replace(run, settings=settings, trap=lambda run: _over_pinned).loop()


def _over_pinned(work: HostWork, index: int, slot: Slot) -> HostBuffer:
    """The program's own preprocessing, step by step, into the slot's memory instead of a fresh blob."""
    return work.fresh(index, slot.input)


class Curve:
    """The loop in pieces, a level after the other; both loops, the pageable one and the pinned one, stand before."""

    def __init__(self, run: Run, group: Group) -> None:
        self._run, self._group = run, group
        self._loops = {pinned: report_loop(run, pinned=pinned) for pinned in (False, True)}
        self._warmup = run.settings.warmup

    def levels(self, levels: Sequence[Level]) -> Iterator[Recording]:
        """Pieces of the recording. While processes start, frames go on, and are marked as a warm-up."""
        for level in levels:
            this = self._loops[level.pinned]
            self._group.become(level.processes)
            while not self._group.busy:
                yield _marked(_piece(this, CHUNK, 0), level, starting=True)
            yield _marked(_piece(this, self._run.settings.frames, self._warmup), level)
            self._warmup = 0

    def recording(self, pieces: Sequence[Recording]) -> Recording:
        """The pieces as one recording, with columns `processes` (how many others) and `pinned` (0 or 1)."""
        levels = [list(level) for level in dict.fromkeys(_level_of(piece) for piece in pieces)]
        return joined(pieces, frames=sum(len(piece.steady) for piece in pieces), levels=levels)


def _piece(this: FrameLoop, frames: int, warmup: int) -> Recording:
    this.settings = replace(this.settings, frames=frames, warmup=warmup)
    return this.run()


def _marked(piece: Recording, level: Level, *, starting: bool = False) -> Recording:
    columns = dict(piece.columns)
    columns |= {name: np.full(len(piece), int(value)) for name, value in level._asdict().items()}
    if starting:
        columns |= {"warmup": np.ones(len(piece), bool), "frame": np.arange(-len(piece), 0)}
    return replace(piece, columns=columns)


def _level_of(piece: Recording) -> Level:
    return Level(int(piece.columns["processes"][0]), bool(piece.columns["pinned"][0]))


def report_levels(recording: Recording) -> dict[tuple[int, bool], dict[str, float]]:
    """Medians in ms of a recording of the scenario 'report', for each (other processes, pinned) in their order.

    The names are those of the public program's calls, and 'frame'. 'copy_from_Mat' has the upload call in it.

    >>> levels = report_levels(Recording.shipped("report"))
    >>> [round(levels[count, False]["cudaStreamSynchronize"], 4) for count in (0, 20)]
    [0.0069, 22.8205]
    """
    return {
        (count, bool(pinned)): {name: float(np.median(times)) / 1e6 for name, times in _calls(part).items()}
        for (count, pinned), part in levels_of(recording, "processes")
    }


def _calls(part: Recording) -> dict[str, np.ndarray]:
    frame_ns = part.columns["done_ns"] - part.columns["start_ns"]
    return {call: call_ns(part, call) for call in CALLS} | {"enqueueV3": part.stage_ns(Stage.INFER), "frame": frame_ns}


def report_table(recordings: Mapping[str, Recording]) -> Table:
    """A row for each level of 'report', the calls' medians in ms of each recording side by side, by label.

    >>> report_table({"recorded": Recording.shipped("report")}).rows[0]
    ['0 processes', '2.270', '0.374', '0.0069']
    """
    levels = {label: report_levels(recording) for label, recording in recordings.items()}
    header = ["ms", *(f"{call}, {label}" for call in CALLS for label in levels)]
    rows = [
        [
            _name(count, pinned),
            *(in_ms(each.get((count, pinned), {}).get(call)) for call in CALLS for each in levels.values()),
        ]
        for count, pinned in dict.fromkeys(level for each in levels.values() for level in each)
    ]
    return Table(header, rows, *(recording.source for recording in recordings.values()))


def _name(count: int, pinned: bool) -> str:
    return f"{count} process{'' if count == 1 else 'es'}{', pinned' if pinned else ''}"


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
