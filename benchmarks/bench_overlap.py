"""What the overlapped loop itself costs the host for a frame: `python benchmarks/bench_overlap.py [FRAMES]`.

On a device whose calls do nothing. The host must stay far under what a frame takes: 114 us for rung 8 on an H200.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from yolotrt_lab.cuda import NvtxRange
from yolotrt_lab.device import Device, HostBuffer
from yolotrt_lab.engine import Context, Engine
from yolotrt_lab.speed.ladder import RUNGS
from yolotrt_lab.types import Source, SourceKind, TensorSpec

BOXES = 20


def nothing(*_: object, **__: object) -> None:
    """A call that returns at once."""


def namespace(**names: object) -> Any:
    """A method that gives an object with these attributes, whatever its arguments are."""
    return lambda *_, **__: SimpleNamespace(**names)


class IdleDevice(Device):
    """Takes no time, computes nothing, and always has a result ready."""

    kind = "idle"
    source = Source(SourceKind.SIMULATED, preset="none")
    now_ns = staticmethod(time.perf_counter_ns)
    upload = download = launch = synchronize = wait_until_ns = nothing
    stream = namespace(handle=0, synchronize=nothing, record=nothing, wait=nothing)
    event = namespace(done=True, synchronize=nothing)
    empty_device = namespace(address=0)
    capture = namespace(launch=nothing)

    def range(self, name: str) -> NvtxRange:
        """A range that only times."""
        return NvtxRange(None, name)

    def empty_host(self, shape: tuple[int, ...], dtype: Any, memory: object) -> HostBuffer:
        """NumPy memory."""
        return HostBuffer(np.zeros(shape, dtype))


class IdleContext(Context):
    """A context that does nothing."""

    enqueue = nothing

    def sibling(self, device: Device) -> Context:
        """Itself: it holds no memory."""
        return self


class IdleEngine(Engine):
    """YOLOv8's tensors, and no work."""

    label = "idle"

    def __init__(self, batch: int) -> None:
        self.inputs = (TensorSpec("images", (batch, 3, 640, 640), np.dtype(np.float32)),)
        self.outputs = (TensorSpec("output0", (batch, 84, 8400), np.dtype(np.float32)),)

    def context(self, device: Device) -> Context:
        """A context that does nothing."""
        return IdleContext(device, self)


def main(frames: int = 20_000) -> None:
    """Print microseconds a frame of rungs 6 to 9, with their timers and without."""
    image = np.zeros((1080, 1920, 3), np.uint8)
    for rung in RUNGS[5:]:
        for timers in (True, False):
            settings = replace(rung.settings, frames=frames, warmup=0, timers=timers)
            loop = settings.loop(IdleDevice(), IdleEngine(rung.batch), rung.frames([image]))
            for slot in loop.lanes.pool.slots:
                slot.output.array[:, 0] = BOXES
            start = time.process_time()
            loop.run()
            assert loop.detections is not None and len(loop.detections) == BOXES
            spent_us = (time.process_time() - start) / frames * 1e6
            print(f"rung {rung.number}, timers {'on' if timers else 'off'}: {spent_us:.1f} us of CPU time a frame")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
