"""An engine on the simulated device: it takes the time that a preset measured, and computes only if given a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from types import MappingProxyType

import numpy as np

from ..device import Device, Stream
from ..engine import Context, Engine, OneThread, bound_memory
from ..errors import EngineError
from ..types import TensorSpec
from .machine import SimulatedBuffer
from .preset import EngineCost
from .simulated import SimulatedDevice

Compute = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


class SimulatedContext(Context):
    """Runs an engine's kernels on the simulated device."""

    def __init__(self, device: SimulatedDevice, engine: SimulatedEngine, shared: OneThread) -> None:
        self._run = device.run_kernels
        self._shared = shared
        self._name = engine.label
        self._cost = engine.cost
        self._engine = engine
        self._memory = {s.name: device.empty_device(s.nbytes) for s in (*engine.inputs, *engine.outputs)}
        self.buffers = MappingProxyType(self._memory)

    def enqueue(self, stream: Stream) -> None:
        """Submit one inference, on the memory that is bound now: a graph goes on with that of its capture."""
        self._shared.check()
        action = partial(self._compute, dict(self._memory)) if self._engine.computes else None
        self._run(self._name, self._cost, stream, action, self._shared)

    def sibling(self, device: Device) -> SimulatedContext:
        """See `Context.sibling`: a HazardError where both would run at once."""
        assert isinstance(device, SimulatedDevice)
        return SimulatedContext(device, self._engine, self._shared)

    def _compute(self, memory: Mapping[str, SimulatedBuffer]) -> None:
        assert self._engine.compute is not None
        inputs = {spec.name: _view(memory[spec.name], spec) for spec in self._engine.inputs}
        for name, result in self._engine.compute(inputs).items():
            np.copyto(memory[name].data, result.reshape(-1).view(np.uint8))


class SimulatedEngine(Engine):
    """An engine that costs `cost`. `compute` maps input arrays to output arrays; without it only time passes."""

    def __init__(
        self,
        label: str,
        cost: EngineCost,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        compute: Compute | None = None,
    ) -> None:
        self.label = label
        self.cost = cost
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.compute = compute
        self.computes = compute is not None

    def context(self, device: Device) -> SimulatedContext:
        """A context; from the first one that computes on, the device moves bytes."""
        if not isinstance(device, SimulatedDevice):
            raise EngineError(
                f"a simulated engine cannot run on the {device.kind} device",
                fix="open_engine(device) picks the engine that fits the device",
            )
        device.moves_bytes = device.moves_bytes or self.computes
        return SimulatedContext(device, self, OneThread())


def _view(buffer: SimulatedBuffer, spec: TensorSpec) -> np.ndarray:
    count = prod(spec.shape) * spec.dtype.itemsize
    return buffer.data[:count].view(spec.dtype).reshape(spec.shape)


# An engine that keeps the GPU busy for a given time and computes nothing: the loop without the model.


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
