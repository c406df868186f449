"""An engine that keeps the GPU busy for a given time and computes nothing: the loop without the model."""

from __future__ import annotations

import numpy as np

from ..devices.base import Device, Stream
from ..types import TensorSpec
from .base import Context, Engine, bound_memory

_IMAGE = TensorSpec("images", (1, 3, 640, 640), np.dtype(np.float32))


class SpinContext(Context):
    """Submits the spin kernels of each inference."""

    def __init__(self, device: Device, engine: SpinEngine) -> None:
        self._spin = device.spin
        self._engine = engine
        self._duration_ns = engine.duration_ns
        self._kernels = range(engine.kernels)
        self.buffers = bound_memory(device, engine)

    def enqueue(self, stream: Stream) -> None:
        """Submit the kernels."""
        for _ in self._kernels:
            self._spin(self._duration_ns, stream)

    def sibling(self, device: Device) -> SpinContext:
        """Another context: there is nothing to have in common."""
        return SpinContext(device, self._engine)


class SpinEngine(Engine):
    """Takes an image, by default 640 x 640 float32 (4,915,200 bytes), and keeps the GPU busy with `kernels` kernels of
    `duration_ns` each.
    """

    computes = False

    def __init__(self, duration_ns: int, *, kernels: int = 1, image: TensorSpec = _IMAGE) -> None:
        self.duration_ns = duration_ns
        self.kernels = kernels
        self.label = f"spin kernel of {duration_ns / 1e6:g} ms" + (f", {kernels} times" if kernels > 1 else "")
        self.inputs = (image,)
        self.outputs = (TensorSpec("output0", (1, 6, 300), np.dtype(np.float32)),)

    def context(self, device: Device) -> SpinContext:
        """A context on any device."""
        return SpinContext(device, self)
