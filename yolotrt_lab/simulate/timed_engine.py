"""Engines that take a given time: a model at the cost that a preset measured, and a kernel that only spins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf, log
from types import MappingProxyType
from typing import Any

import numpy as np

from ..device import Device, HostBuffer, Kernel, Stream
from ..engine import Context, Engine, OneThread
from ..errors import EngineError, SettingsError
from ..model import OnnxModel
from ..types import Detections, HostMemory, TensorSpec
from ..vision import Decode, HostWork, Outputs
from .hazards import READ, WRITE, Touch
from .preset import EngineCost, Preset
from .simulated import SimulatedDevice
from .timeline import COMPUTE_ENGINE, Task

Compute = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]

_CELLS = 8_400
"""Cells of YOLOv8's output for an image of 640 x 640."""

_PARAMETERS = {"yolov8n": 3.15e6, "yolov8s": 11.2e6, "yolov8m": 25.9e6, "yolov8l": 43.7e6, "yolov8x": 68.2e6}

_IMAGE = TensorSpec("images", (1, 3, 640, 640), np.dtype(np.float32))

SPIN = Kernel(
    "spin",
    """
extern "C" __global__ void spin(unsigned long long duration_ns) {
    unsigned long long begin, now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(begin));
    do { asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now)); } while (now - begin < duration_ns);
}
""",
    lambda duration_ns: None,
    (1, 1, 1),
    duration_ns=int,
)


def spin(device: Device, duration_ns: int, stream: Stream) -> None:
    """Submit a kernel that keeps the GPU busy for about that long.

    >>> from yolotrt_lab import open_device
    >>> device = open_device("simulated")
    >>> stream = device.stream()
    >>> spin(device, 1_000_000, stream)
    >>> stream.synchronize()
    >>> device.now_ns() > 1_000_000
    True
    """
    device.launch(SPIN, (1, 1, 1), [np.uint64(duration_ns)], stream)


class TimedWork:
    """What the host does to pixels, at the cost that the device's preset gives.

    It writes and reads pixels by `work`, or none at all without it. A HazardError where a copy still uses the bytes.
    """

    def __init__(self, device: Device, spec: TensorSpec, work: HostWork | None) -> None:
        self._work = work
        self._blank = device.empty_host(spec.shape, spec.dtype, HostMemory.PAGEABLE)
        self._spend: Callable[[str], None] = lambda name: None
        self._check: Callable[[HostBuffer, str], None] = lambda buffer, verb: None
        if isinstance(device, SimulatedDevice):
            self._spend, self._check = device.host_work, device.machine.hazards.check_idle
        self.frame_shape = work.frame_shape if work else (1080, 1920)

    def letterbox(self, index: int, target: HostBuffer, item: int = 0) -> bool:
        """At the cost `letterbox`."""
        self._check(target, "written")
        self._spend("letterbox")
        return self._work is None or self._work.letterbox(index, target, item)

    def copy_frame(self, index: int, target: HostBuffer, item: int = 0) -> bool:
        """At the cost `copy_frame`."""
        self._check(target, "written")
        self._spend("copy_frame")
        return self._work is None or self._work.copy_frame(index, target, item)

    def fresh(self, index: int, target: HostBuffer | None = None) -> HostBuffer:
        """At the cost `naive_letterbox`; into memory that is there at that of `letterbox`, near what an H200 takes."""
        if target is not None:
            self._check(target, "written")
        self._spend("naive_letterbox" if target is None else "letterbox")
        return (target or self._blank) if self._work is None else self._work.fresh(index, target)

    def copy(self, source: HostBuffer, target: HostBuffer) -> None:
        """At the cost `copy_to_slot`."""
        self._check(target, "written")
        self._spend("copy_to_slot")
        if self._work is not None:
            self._work.copy(source, target)

    def boxes(self, index: int, outputs: Outputs, decode: Decode, *, on_host: bool = True) -> Detections | None:
        """At the cost `decode`, or none where the GPU has searched them."""
        for output in outputs:
            self._check(output, "read")
        if on_host:
            self._spend("decode")
        return None if self._work is None else self._work.boxes(index, (), decode)


class SimulatedContext(Context):
    """Runs an engine's kernels on the simulated device."""

    def __init__(self, device: SimulatedDevice, engine: SimulatedEngine, shared: OneThread) -> None:
        super().__init__(device, engine)
        self._run = device.run_kernels
        self._shared = shared
        self._engine = engine
        self._task = inference(engine, self.buffers, shared)

    def enqueue(self, stream: Stream) -> None:
        """Submit one inference."""
        self._shared.check()
        engine = self._engine
        action = engine.compute and partial(compute_into, engine, engine.compute, self.buffers)
        self._run(self._task, engine.cost, stream, action)

    def sibling(self, device: Device) -> SimulatedContext:
        """See `Context.sibling`: a HazardError where both would run at once."""
        assert isinstance(device, SimulatedDevice)
        return SimulatedContext(device, self._engine, self._shared)


def inference(engine: SimulatedEngine, buffers: Mapping[str, Any], owner: object) -> Task:
    """An inference on the device memory of its tensors."""
    kinds = [(spec, READ) for spec in engine.inputs] + [(spec, WRITE) for spec in engine.outputs]
    touches: list[Touch] = [(buffers[spec.name].region, kind, 0, spec.nbytes) for spec, kind in kinds]
    cost = engine.cost
    return Task(COMPUTE_ENGINE, engine.label, 0, touches, cost.sharing, owner, cost.kernels)


def compute_into(engine: Engine, compute: Compute, buffers: Mapping[str, Any]) -> None:
    """Compute on the memory of the submission: a graph goes on with that of its capture."""
    raw = {spec.name: buffers[spec.name].data[: spec.nbytes] for spec in engine.inputs}
    inputs = {spec.name: raw[spec.name].view(spec.dtype).reshape(spec.shape) for spec in engine.inputs}
    for name, result in compute(inputs).items():
        np.copyto(buffers[name].data, result.reshape(-1).view(np.uint8))


class SimulatedEngine(Engine):
    """An engine that costs `cost`. `compute` maps input arrays to output arrays; without it only time passes."""

    def __init__(
        self,
        label: str,
        cost: EngineCost,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        compute: Compute | None = None,
        *,
        model: str = "the model",
        metadata: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.label, self.model, self.metadata = label, model, metadata
        self.cost = cost
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.compute = compute

    def context(self, device: Device) -> SimulatedContext:
        """A context; from the first one that computes on, the device moves bytes."""
        return SimulatedContext(self._prepared(device), self, OneThread())

    def raw_context(self, device: Device) -> Any:
        """See `Engine.raw_context`: the names of `IExecutionContext` that the notebooks use, at the engine's cost."""
        return self._prepared(device).namespace.context(self)

    def _prepared(self, device: Device) -> SimulatedDevice:
        if not isinstance(device, SimulatedDevice):
            raise EngineError(
                f"a simulated engine needs the simulated device, got {device.kind}",
                fix="open_engine(device) picks the engine that fits the device",
            )
        device.machine.moves_bytes |= self.compute is not None
        return device

    def host_work(self, device: Device, work: Callable[[], HostWork]) -> HostWork:
        """In virtual time; `work` is used where the engine computes."""
        return TimedWork(device, self.inputs[0], None if self.compute is None else work())


class SpinContext(Context):
    """Submits the spin kernels of each inference."""

    def __init__(self, device: Device, engine: SpinEngine) -> None:
        super().__init__(device, engine)
        self._engine = engine

    def enqueue(self, stream: Stream) -> None:
        """Submit the kernels."""
        for _ in range(self._engine.kernels):
            spin(self.device, self._engine.duration_ns, stream)

    def sibling(self, device: Device) -> SpinContext:
        """Another context: spinning shares nothing."""
        return SpinContext(device, self._engine)


class SpinEngine(Engine):
    """Takes an image, by default 640 x 640 float32 (4,915,200 bytes), and keeps any GPU busy with `kernels` kernels of
    `duration_ns` each. It reads no pixel.

    >>> SpinEngine(1_000_000).label
    'spin kernel of 1 ms'
    """

    def __init__(self, duration_ns: int, *, kernels: int = 1, image: TensorSpec = _IMAGE) -> None:
        self.duration_ns = duration_ns
        self.kernels = kernels
        self.label = f"spin kernel of {duration_ns / 1e6:g} ms" + (f", {kernels} times" if kernels > 1 else "")
        self.inputs = (image,)
        self.outputs = (TensorSpec("output0", (1, 6, 300), np.dtype(np.float32)),)
        self.metadata = {"boxes": "300"}

    def context(self, device: Device) -> SpinContext:
        """A context on any device."""
        return SpinContext(device, self)

    def host_work(self, device: Device, work: Callable[[], HostWork]) -> HostWork:
        """None but the time that it takes on the simulated device."""
        return TimedWork(device, self.inputs[0], None)


def open_timed_engine(
    device: Device, measured: str, model: OnnxModel | None, batch: int, boxes: int | None = None
) -> SimulatedEngine:
    """An engine at the cost of `measured` ('yolov8n-fp16') in the device's preset, by default of what is nearest to
    `model` there. Its outputs are those of `model`, computed by ONNX Runtime, or it computes none. To find the best
    `boxes` cells takes no time here.

    SettingsError where the preset did not measure that model or batch, and where `boxes` does not divide the cells.
    """
    assert isinstance(device, SimulatedDevice)
    timed_as = measured or nearest_measured(device.preset, model)
    cost = device.preset.engine(timed_as).for_batch(batch)
    label = f"simulated {timed_as}" if measured or model is None else f"simulated {model.name}, timed as {timed_as}"
    label += f", batch {batch}" if batch > 1 else ""
    label += f", {boxes} boxes" if boxes is not None else ""
    if model is None:
        if boxes is not None and _CELLS % boxes:  # as `OnnxModel.read` refuses it
            raise SettingsError(f"boxes must divide {_CELLS:,} cells, got {boxes:,}", fix="use 100 boxes")
        images = TensorSpec("images", (batch, 3, 640, 640), np.dtype(np.float32))
        output = TensorSpec("output0", (batch, 84, _CELLS if boxes is None else boxes), np.dtype(np.float32))
        metadata = {} if boxes is None else {"boxes": str(boxes)}
        return SimulatedEngine(label, cost, [images], [output], model=timed_as, metadata=metadata)
    from ..onnxruntime import OnnxRuntimeEngine

    runtime = OnnxRuntimeEngine(model)
    label += f", outputs by {runtime.label}"
    return SimulatedEngine(
        label, cost, runtime.inputs, runtime.outputs, runtime.run, model=runtime.model, metadata=runtime.metadata
    )


def nearest_measured(preset: Preset, model: OnnxModel | None) -> str:
    """Which of the models that the preset measured is nearest to `model`: by the number of parameters, then by
    precision. The first one where none of them is a YOLOv8, and '' without any.

    >>> from yolotrt_lab.detector import build_model
    >>> nearest_measured(Preset.load("h200"), OnnxModel.read(build_model("n", image_size=64)))
    'yolov8n-fp16'
    """
    parameters = max(model.parameters, 1) if model else 1

    def distance(name: str) -> tuple[float, bool]:
        kind, _, precision = name.partition("-")
        return abs(log(_PARAMETERS.get(kind, inf) / parameters)), model is None or precision != model.precision

    return min(preset.engines, key=distance, default="")
