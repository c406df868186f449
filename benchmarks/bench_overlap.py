"""What the overlapped loop itself costs the host for a frame: `python benchmarks/bench_overlap.py`.

On a device whose calls do nothing. The goal is 70 us of CPU time for rung 8, far under its 130 us a frame.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import numpy as np

from yolotrt_lab.device import Device, HostBuffer
from yolotrt_lab.engine import Context, Engine
from yolotrt_lab.speed.ladder import RUNGS
from yolotrt_lab.speed.overlap import OverlappedLoop
from yolotrt_lab.types import Source, SourceKind, TensorSpec

FRAMES, BOXES = 20_000, 20


def nothing(*_: object, **__: object) -> None:
    """A call that returns at once."""


class IdleDevice(Device):
    """Takes no time, computes nothing, and always has a result ready."""

    source = Source(SourceKind.SIMULATED, preset="none")
    now_ns = staticmethod(time.perf_counter_ns)
    writes = reads = upload = download = launch = spin = synchronize = wait_until_ns = nothing
    start_thread = queue = nothing
    _nothing = nullcontext()

    def range(self, name: str) -> nullcontext[None]:
        """No range."""
        return self._nothing

    host_work = range

    def stream(self, *, priority: int = 0) -> SimpleNamespace:
        """A stream that is always idle."""
        return SimpleNamespace(handle=0, synchronize=nothing, record=nothing, wait=nothing)

    def event(self, *, timing: bool = False) -> SimpleNamespace:
        """An event that is always done."""
        return SimpleNamespace(done=True, synchronize=nothing)

    def empty_host(self, shape: tuple[int, ...], dtype: object, memory: object) -> HostBuffer:
        """NumPy memory."""
        return HostBuffer.over(np.zeros(shape, dtype))

    def empty_device(self, nbytes: int) -> SimpleNamespace:
        """No memory."""
        return SimpleNamespace(address=0, nbytes=nbytes)

    def capture(self, submit: object, stream: object) -> SimpleNamespace:
        """A graph of nothing."""
        return SimpleNamespace(launch=nothing)


class IdleEngine(Engine):
    """YOLOv8's tensors, and no work."""

    label = "idle"

    def __init__(self, batch: int) -> None:
        self.inputs = (TensorSpec("images", (batch, 3, 640, 640), np.dtype(np.float32)),)
        self.outputs = (TensorSpec("output0", (batch, 84, 8400), np.dtype(np.float32)),)

    def context(self, device: Device) -> Context:
        """A context that does nothing."""
        buffers = {spec.name: device.empty_device(spec.nbytes) for spec in (*self.inputs, *self.outputs)}
        return mock.Mock(spec=Context, buffers=buffers, enqueue=nothing)


def main() -> None:
    """Print microseconds a frame of rungs 6 to 8, with their timers and without."""
    image = np.zeros((1080, 1920, 3), np.uint8)
    for rung in RUNGS[5:]:
        for timers in (True, False):
            settings = replace(rung.settings, frames=FRAMES, warmup=0, timers=timers)
            loop = OverlappedLoop(IdleDevice(), IdleEngine(rung.batch), settings, [image])
            for slot in loop.lanes.pool.slots:
                slot.outputs["boxes"].array[:, 0] = BOXES
            begin = time.process_time()
            loop.run()
            spent_us = (time.process_time() - begin) / FRAMES * 1e6
            print(f"rung {rung.number}, timers {'on' if timers else 'off'}: {spent_us:.1f} us of CPU time a frame")


if __name__ == "__main__":
    main()
