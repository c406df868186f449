"""The contract of an inference engine: what a frame loop may ask of TensorRT, ONNX Runtime and the simulation.

An `Engine` is the loaded model; a `Context` is one place in which it runs, with its device memory bound once. Frames
that run at the same time need a context each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from threading import get_ident
from types import MappingProxyType

import numpy as np

from ..devices.base import Device, DeviceBuffer, HostBuffer, Stream
from ..errors import DtypeError, EngineError, ShapeError
from ..types import HostMemory, TensorSpec


class OneThread:
    """Whose an execution context is: that of the thread that enqueues first."""

    def __init__(self) -> None:
        self._thread: int | None = None

    def check(self) -> None:
        """EngineError in another thread."""
        if self._thread is None:
            self._thread = get_ident()
        elif self._thread != get_ident():
            raise EngineError(
                "two threads enqueue in one execution context",
                fix="give each thread a context of its own: engine.context(device)",
            )


class Context(ABC):
    """One execution context, for one frame (or batch) at a time and for one thread.

    `buffers` maps each tensor's name to the device memory that is bound to it. It is read-only: a captured graph keeps
    the addresses of its capture, and would go on using them after a change.
    """

    buffers: Mapping[str, DeviceBuffer]

    @abstractmethod
    def enqueue(self, stream: Stream) -> None:
        """Submit one inference to `stream` and return (`execute_async_v3`). EngineError if it is refused."""

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

    computes: bool = True
    """False where only time is simulated: inputs are not read and outputs stay unwritten."""

    @abstractmethod
    def context(self, device: Device) -> Context:
        """A new execution context with device memory of its own for every input and output."""

    def infer(self, device: Device, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one inference and wait for it: simple, and not the way to run a loop.

        `tensors` maps every input's name to an array of its shape and dtype; ShapeError or DtypeError otherwise.
        """
        context, stream = self.context(device), device.stream()
        for spec in self.inputs:
            array = checked(spec, tensors)
            device.upload(HostBuffer.over(array), context.buffers[spec.name], stream)
        context.enqueue(stream)
        results = {o.name: device.empty_host(o.shape, o.dtype, HostMemory.PAGEABLE) for o in self.outputs}
        for name, buffer in results.items():
            device.download(context.buffers[name], buffer, stream)
        stream.synchronize()
        return {name: buffer.array for name, buffer in results.items()}


def bound_memory(device: Device, engine: Engine) -> Mapping[str, DeviceBuffer]:
    """Device memory for every tensor of the engine by its name, which nobody can replace (see `Context.buffers`)."""
    return MappingProxyType({s.name: device.empty_device(s.nbytes) for s in (*engine.inputs, *engine.outputs)})


def checked(spec: TensorSpec, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    """The array for `spec`, C-contiguous; ShapeError or DtypeError where it does not fit. No runtime checks dtypes."""
    if spec.name not in tensors:
        raise ShapeError(
            f"input {spec.name!r} is missing; given: {sorted(tensors)}", fix=f"pass {spec.name}{spec.shape}"
        )
    array = tensors[spec.name]
    if array.shape != spec.shape:
        raise ShapeError(
            f"{spec.name} wants shape {spec.shape} and got {array.shape}",
            fix=f"letterbox the frame to {spec.shape}, or load an engine built for {array.shape}",
        )
    if array.dtype != spec.dtype:
        raise DtypeError(
            f"{spec.name} wants {spec.dtype} and got {array.dtype}", fix=f"pass array.astype(np.{spec.dtype})"
        )
    return np.ascontiguousarray(array)


def require_gpu(device: Device, engine: str) -> None:
    """EngineError unless `device` is a real GPU: the addresses of a simulated one would crash a real runtime."""
    if device.kind != "cuda":
        raise EngineError(
            f"{engine} runs on a GPU, and this is the {device.kind} device", fix="open_device('cuda') gives the GPU"
        )
