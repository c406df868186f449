"""An engine small enough to compute in a test, whose boxes say which frame they came from."""

from __future__ import annotations

import numpy as np

from yolotrt_lab.frames import FrameSource
from yolotrt_lab.simulate.preset import EngineCost
from yolotrt_lab.simulate.timed_engine import SimulatedEngine
from yolotrt_lab.types import TensorSpec

SIDE, CLASSES = 64, 3
COST = EngineCost(
    enqueue_ns=600_000,
    cold_enqueue_ns=600_000,
    gpu_ns=400_000,
    tail_ns=10_000,
    graph_launch_ns=2_000,
    graph_submit_ns=5_000,
    cold_graph_launch_ns=2_000,
    graph_gpu_ns=400_000,
    kernels=1,
    sharing=(1.0, 1.5, 1.75, 2.0),
)


def toy_engine(batch: int = 1, *, dtype: str = "float32", anchors: int = 16) -> SimulatedEngine:
    """Anchor a is a box whose class scores are the three colours of pixel (a, a) of the input, modulo 64."""
    number = np.dtype(dtype)
    images = TensorSpec("images", (batch, 3, SIDE, SIDE), number)
    output = TensorSpec("output0", (batch, 4 + CLASSES, anchors), number)
    places = np.arange(anchors)

    def compute(tensors):
        result = np.empty(output.shape, number)
        result[:, 0], result[:, 1] = 8 + places % 48, 8 + places // 48
        result[:, 2], result[:, 3] = 6, 8
        result[:, 4:] = tensors["images"][:, :, places % SIDE, places % SIDE]
        return {"output0": result}

    return SimulatedEngine("toy", COST, [images], [output], compute, metadata={"boxes": str(anchors)})


def toy_frame(number: int, side: int = SIDE) -> np.ndarray:
    """The frame of that number, uint8 (side, side, 3): each is different."""
    return np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)


class ToySource(FrameSource):
    """Frames `first`, `first + 1`, ...; it ends after `count`, or breaks with `error` there."""

    def __init__(self, count: int, first: int = 0, error: BaseException | None = None) -> None:
        self.size = (SIDE, SIDE)
        self.left, self.next, self.error = count, first, error

    def read(self) -> np.ndarray | None:
        if not self.left:
            if self.error is not None:
                raise self.error
            return None
        self.left -= 1
        self.next += 1
        return toy_frame(self.next - 1)
