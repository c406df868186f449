"""The contract of an inference engine: what a frame loop may ask of TensorRT, ONNX Runtime and the simulation.

An `Engine` is the loaded model; a `Context` is one place in which it runs, with its device memory bound once. Frames
that run at the same time need a context each.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from threading import get_ident
from types import MappingProxyType
from typing import Any

import numpy as np

from .device import Device, DeviceBuffer, HostBuffer, Stream
from .errors import CaptureError, DtypeError, EngineError, SettingsError, ShapeError, whole
from .heads import ModelInfo, describe
from .model import OnnxModel, is_plan
from .types import HostMemory, TensorSpec
from .vision import HostWork


class OneThread:
    """The thread that an execution context belongs to: the one that enqueues first."""

    def __init__(self) -> None:
        self._thread: int | None = None

    def check(self) -> None:
        """EngineError in another thread."""
        if self._thread is None:
            self._thread = get_ident()
        elif self._thread != get_ident():
            raise EngineError(
                "an execution context must be used by one thread, got two threads",
                fix="create a context for each thread: engine.context(device)",
            )


class Context(ABC):
    """One execution context, for one frame (or batch) at a time and for one thread: the four calls of a frame.

    Upload, enqueue and download only submit work, in order of one stream; the synchronize is the caller's (`run` does
    all four).
    """

    buffers: Mapping[str, DeviceBuffer]
    """The device memory of each tensor, by its name. Read-only: a captured graph keeps the addresses of its capture."""

    def __init__(self, device: Device, engine: Engine) -> None:
        self.device = device
        self.buffers = MappingProxyType(
            {s.name: device.empty_device(s.nbytes) for s in (*engine.inputs, *engine.outputs)}
        )
        self._input = self.buffers[engine.inputs[0].name]

    def upload(self, source: HostBuffer, stream: Stream) -> None:
        """Submit the copy of a frame into the engine's (first) input."""
        self.device.upload(source, self._input, stream)

    @abstractmethod
    def enqueue(self, stream: Stream) -> None:
        """Submit one inference to `stream` and return (`execute_async_v3`). EngineError if it is refused."""

    def download(self, targets: Mapping[str, HostBuffer], stream: Stream) -> None:
        """Submit the copies of outputs into host memory, by their names."""
        for name, target in targets.items():
            self.device.download(self.buffers[name], target, stream)

    def run(self, sources: Mapping[str, HostBuffer], targets: Mapping[str, HostBuffer], stream: Stream) -> None:
        """Upload the inputs, enqueue, download the outputs, and synchronize."""
        for name, source in sources.items():
            self.device.upload(source, self.buffers[name], stream)
        self.enqueue(stream)
        self.download(targets, stream)
        stream.synchronize()

    @abstractmethod
    def sibling(self, device: Device) -> Context:
        """A context with buffers of its own that runs where this one does: for frames that take turns in one stream.

        On an H200 YOLOv8n took 436 us where two contexts took turns, and 411 us in one. Presumably their activations
        evict each other from the GPU's cache; siblings have those in common.
        """


class Engine(ABC):
    """A loaded model with fixed shapes."""

    label: str
    """What runs, such as 'TensorRT-RTX 1.4.0.76, fp16'; it goes into recordings."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    model: str = "the model"
    """The model's name: that of its file, or what it calls itself."""
    metadata: Mapping[str, str] = MappingProxyType({})
    """What the model's file says of itself; nothing where it was loaded from a plan."""

    def describe(self) -> ModelInfo:
        """How boxes are read from the output: one reading for all loops and kernels that look for boxes.

        ModelError where the model is no detector, or its output has a layout that is not read.
        """
        return describe(self.model, self.inputs, self.outputs, self.metadata)

    @abstractmethod
    def context(self, device: Device) -> Context:
        """A new execution context with device memory of its own for every input and output."""

    def raw_context(self, device: Device) -> Any:
        """TensorRT's own `IExecutionContext`, for code in TensorRT's own names: its input shapes are set, its tensors'
        addresses are the caller's. The simulated device has one of the same names. EngineError for any other engine.
        """
        raise EngineError(f"raw calls must have an engine of TensorRT, got {self.label}", fix="open_engine(device)")

    def host_work(self, device: Device, work: Callable[[], HostWork]) -> HostWork:
        """What the host does to the pixels of frames for this engine: `work()`, unless the engine brings its own."""
        return work()

    def infer(self, device: Device, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one inference and wait for it: simple, and not the way to run a loop.

        `tensors` maps every input's name to an array of its shape and dtype; ShapeError or DtypeError otherwise.
        """
        sources = {spec.name: HostBuffer(checked(spec, tensors)) for spec in self.inputs}
        targets = {o.name: device.empty_host(o.shape, o.dtype, HostMemory.PAGEABLE) for o in self.outputs}
        self.context(device).run(sources, targets, device.stream())
        return {name: buffer.array for name, buffer in targets.items()}


def captured(
    device: Device, engine: Engine, submit: Callable[[Stream], None], stream: Stream, *, warm: bool = False
) -> Callable[[Stream], None]:
    """What submits the work of `submit(stream)` as one CUDA graph.

    It runs once before, unless it is `warm`: engines allocate and choose kernels on their first run. CaptureError where
    the engine, whose work is in it, cannot be captured.
    """
    if not warm:
        submit(stream)
        stream.synchronize()
    try:
        return device.capture(partial(submit, stream), stream).launch
    except EngineError as error:
        if isinstance(error, CaptureError):
            raise
        raise CaptureError(
            f"{engine.label} cannot be captured: {error.message}", fix="use graph=False", log=error.log
        ) from error


def checked(spec: TensorSpec, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    """The array for `spec`, C-contiguous; ShapeError or DtypeError where it does not fit. No runtime checks dtypes."""
    if spec.name not in tensors:
        fix = f"pass {spec.name}, {spec.shape}"
        raise ShapeError(f"tensors must have {spec.name!r}, got {sorted(tensors)}", fix=fix)
    array = tensors[spec.name]
    if array.shape != spec.shape:
        raise ShapeError(
            f"{spec.name} must have the shape {spec.shape}, got {array.shape}",
            fix=f"letterbox the frame to {spec.shape}, or load an engine built for {array.shape}",
        )
    if array.dtype != spec.dtype:
        raise DtypeError(
            f"{spec.name} must be {spec.dtype}, got {array.dtype}", fix=f"pass array.astype(np.{spec.dtype})"
        )
    return np.ascontiguousarray(array)


class LendingEngine(Engine):
    """`engine`, with contexts that are used again once nobody holds them: creating one may compile kernels for seconds.

    For many loops after each other in one thread, on one device. A loop has to be over (and synchronized) before the
    last reference to it goes.
    """

    def __init__(self, engine: Engine) -> None:
        self.label, self.inputs, self.outputs = engine.label, engine.inputs, engine.outputs
        self.model, self.metadata = engine.model, engine.metadata
        self._engine = engine
        self._free: list[Context] = []

    def context(self, device: Device) -> Context:
        """One that came back, or a new one."""
        context = self._free.pop() if self._free else self._engine.context(device)
        lent = _Lent(context)
        weakref.finalize(lent, self._free.append, context).atexit = False
        return lent

    def raw_context(self, device: Device) -> Any:
        """That of the engine, always a new one."""
        return self._engine.raw_context(device)

    def host_work(self, device: Device, work: Callable[[], HostWork]) -> HostWork:
        """That of the engine."""
        return self._engine.host_work(device, work)


class _Lent(Context):
    def __init__(self, context: Context, first: _Lent | None = None) -> None:
        self.device, self.buffers, self._input = context.device, context.buffers, context._input
        self._context, self._enqueue = context, context.enqueue
        self._first = first  # comes back after its siblings

    def enqueue(self, stream: Stream) -> None:
        """Submit one inference."""
        self._enqueue(stream)

    def sibling(self, device: Device) -> _Lent:
        """A sibling of the context that was lent, which goes when nobody holds it."""
        return _Lent(self._context.sibling(device), self._first or self)


def open_engine(
    device: Device,
    model: bytes | str | Path | OnnxModel | None = None,
    *,
    variant: str = "n",
    precision: str = "fp16",
    batch: int = 1,
    image_size: int | tuple[int, int] | None = None,
    boxes: int | None = None,
    compute: bool = False,
    cache_dir: str | Path | None = None,
) -> Engine:
    """The engine for that device, of a `model` or of YOLOv8 with seeded weights (`variant`, `precision`).

    A model is an ONNX file; on a GPU also a plan that was built for it, as trtexec and Ultralytics (`format='engine'`)
    write them, and which has its sizes.

    What a model leaves open (Ultralytics: dynamic=True) is fixed here: the batch dimension becomes `batch`, how many
    frames go through at once, and height and width become `image_size`, one number or (height, width), by default that
    of the model's metadata. SettingsError where one is asked for and the model has another. Weights in other files are
    read beside the model. With `boxes` the engine gives the cells of the best scores alone, so many, and its output is
    small: (1, 84, boxes), 33,600 bytes for 100 boxes instead of 2,822,400. `batch` and `boxes` are whole numbers from 1
    on, SettingsError otherwise; `boxes` must divide the cells (8,400 at 640 px).

    On a GPU it is a plan of TensorRT or TensorRT-RTX, whichever is installed, built on first use and cached in
    `cache_dir`. On the simulated device the engine takes the time that the preset measured for
    `yolov8<variant>-<precision>`; with `compute` (or a `model`) it also computes its outputs, by ONNX Runtime on the
    CPU, which takes real time but no virtual time. A `model` is timed as the one, of those that the preset measured,
    whose number of parameters is nearest; the label says which.

    >>> from yolotrt_lab import open_device
    >>> open_engine(open_device("simulated")).label
    'simulated yolov8n-fp16'
    """
    if precision not in ("fp16", "fp32"):
        raise SettingsError(f"the precision must be 'fp16' or 'fp32', got {precision!r}", fix="use one of these")
    batch, boxes = whole("batch", batch, 1), None if boxes is None else whole("boxes", boxes, 1)
    simulated, seeded = device.kind == "simulated", f"yolov8{variant}-{precision}"
    if model is None and image_size is not None:
        raise SettingsError("image_size must go with a model whose sizes are open", fix="leave it out, or name a model")
    given = model is not None
    if model is None and (compute or not simulated):
        from .detector import build_model

        model = build_model(variant, precision=precision)
    if not simulated and is_plan(model):
        if (batch, image_size, boxes) != (1, None, None):
            raise SettingsError("a plan has the sizes that it was built for, and takes no others", fix="leave them out")
        from .tensorrt import TensorRTEngine

        return TensorRTEngine.load(model)
    found = None if model is None else OnnxModel.read(model, batch=batch, image_size=image_size, boxes=boxes)
    if simulated:
        from .simulate import open_timed_engine

        return open_timed_engine(device, "" if given else seeded, found, batch, boxes)
    assert found is not None
    from .tensorrt import TensorRTEngine

    return TensorRTEngine.from_onnx(found, cache_dir=cache_dir)
