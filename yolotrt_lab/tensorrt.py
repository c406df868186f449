"""The TensorRT backend: it runs a plan in TensorRT 10, TensorRT 11 or TensorRT-RTX, whichever module the plan is for.

TensorRT reports failures as None or False and a log line. Here each is an error of `errors.py` with the lines in `log`.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .cuda import find_gpu
from .device import Device, DeviceBuffer, Stream
from .engine import Context, Engine, OneThread
from .errors import DtypeError, EngineError, PlanError, ShapeError
from .model import OnnxModel, find_plan, name_of
from .plans import (
    MODULES,
    build_plan,
    build_targets,
    cache_folder,
    cached_plan,
    import_tensorrt,
    log_of,
    plan_name,
    read_header,
    read_plan,
)
from .types import TensorSpec

_DTYPES = {"FLOAT": "float32", "HALF": "float16", "BOOL": "bool"}
_DTYPES |= {name: name.lower() for name in ("INT8", "UINT8", "INT32", "INT64")}


class TensorRTEngine(Engine):
    """A deserialized plan with the shapes of its tensors fixed. It can have any number of contexts."""

    def __init__(self, engine: Any, trt: Any, *, label: str) -> None:
        """Wrap an `ICudaEngine` of the module `trt`; `load` and `from_onnx` are the usual ways in."""
        self.label = label
        self._engine, self._trt = engine, trt
        self._runtime_cache: Any = None
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self.inputs = tuple(TensorSpec(name, _shape(engine, name), _dtype(engine, name)) for name in inputs)
        outputs = [name for name in names if name not in inputs]
        shapes = [engine.get_tensor_shape(name) for name in outputs]
        if any(-1 in shape for shape in shapes):
            context = self._new_context()  # it knows what follows from the shapes of the inputs
            shapes = [context.get_tensor_shape(name) for name in outputs]
        found = zip(outputs, shapes, strict=True)
        self.outputs = tuple(TensorSpec(name, tuple(shape), _dtype(engine, name)) for name, shape in found)
        if open_outputs := [spec.name for spec in self.outputs if spec.dynamic]:
            raise ShapeError(
                f"outputs must have fixed sizes, and that of {', '.join(open_outputs)} depends on the data",
                fix="export the model with nms=None: the lab finds the boxes itself",
            )

    @classmethod
    def load(cls, plan: bytes | str | Path, *, precision: str = "") -> TensorRTEngine:
        """Load a plan on the GPU, with the module and the version that built it.

        A file of trtexec, of Ultralytics (`format='engine'`), whose metadata are read, or of `build_plan`. Dynamic
        inputs take the shape that the plan was optimized for. `precision`, such as 'fp16', goes into the label: a plan
        does not say it. A plan file is checked against its `.sha256`, if there is one.

        Raises PlanError, MissingPackageError, NoGpuError, ShapeError or DtypeError.
        """
        name = "the plan" if isinstance(plan, bytes) else f"the plan {plan}"
        content = plan if isinstance(plan, bytes) else read_plan(plan)
        metadata: Mapping[str, str] = {}
        if found := find_plan(content):
            content, metadata = content[found.start :], found.metadata
        module, version = read_header(content, name)
        trt = import_tensorrt(module)
        label = f"{MODULES[module]} {trt.__version__}"
        installed = tuple(int(number) for number in re.findall(r"\d+", trt.__version__)[:4])
        if version[: len(installed)] != installed:
            built = ".".join(map(str, version))
            raise PlanError(
                f"{name} was built by {MODULES[module]} {built}, and {trt.__version__} is installed",
                fix=f"build it again from the ONNX file, or install version {built}",
            )
        gpu = find_gpu()  # without a driver a Runtime of TensorRT crashes the process
        log = log_of(trt)
        log.clear()
        runtime = trt.Runtime(log)
        engine = runtime.deserialize_cuda_engine(content)
        if engine is None:
            raise log.error(
                PlanError,
                f"{name} cannot be loaded on {gpu.name}",
                fix="build it again on this machine; if TensorRT-RTX does not support the GPU, use module='tensorrt'",
            )
        loaded = cls(engine, trt, label=f"{label}, {precision}" if precision else label)
        loaded.model, loaded.metadata = name_of(plan, metadata), metadata
        return loaded

    @classmethod
    def from_onnx(
        cls,
        onnx: bytes | str | Path | OnnxModel,
        *,
        module: str = "",
        batch: int = 1,
        image_size: int | tuple[int, int] | None = None,
        cache_dir: str | Path | None = None,
        tf32: bool = True,
    ) -> TensorRTEngine:
        """Load the plan of an ONNX model for the local GPU: from the cache (`cache_folder`), or built and cached first.

        `batch` and `image_size` are for sizes that the model leaves open, as in `open_engine`: the plan is built for
        these alone. `tf32` is that of `build_plan`. Raises what `build_plan` and `load` raise.
        """
        trt = import_tensorrt(module)
        found = OnnxModel.read(onnx, batch=batch, image_size=image_size)
        model = found.content
        gpu = find_gpu()
        target = "SM{}{}".format(*gpu.compute_capability)
        if target not in build_targets(trt):
            target = ""
        plan_for = (target or f"{gpu.name} {gpu.compute_capability}") + ("" if tf32 else ", no TF32")
        path = cache_folder(cache_dir) / plan_name(model, builder=f"{trt.__name__}-{trt.__version__}", target=plan_for)
        plan = cached_plan(path, lambda: build_plan(model, module=trt.__name__, target=target, tf32=tf32))
        loaded = cls.load(plan, precision=found.precision)
        loaded.model, loaded.metadata = found.name, found.metadata
        return loaded

    def context(self, device: Device) -> Context:
        """See `Engine.context`; EngineError on a simulated device."""
        self._require_gpu(device)
        return TensorRTContext(_Execution(self, self._new_context()), device)

    def raw_context(self, device: Device) -> Any:
        """See `Engine.raw_context`. It keeps this engine, whose runtime cache must outlive it."""
        self._require_gpu(device)
        context = self._new_context()
        weakref.finalize(context, _forget, self).atexit = False
        return context

    def _require_gpu(self, device: Device) -> None:
        """The addresses of a simulated device would crash a real runtime."""
        if device.kind != "cuda":
            fix = "open_device('cuda') opens the GPU"
            raise EngineError(f"{self.label} must run on a GPU, got the {device.kind} device", fix=fix)

    def _new_context(self) -> Any:
        """A new `IExecutionContext` that knows the shapes of the inputs."""
        log = log_of(self._trt)
        log.clear()
        context = self._engine.create_execution_context(*self._runtime_config())
        if context is None:
            raise log.error(
                EngineError, "TensorRT did not create a context", fix="free device memory, or use fewer contexts"
            )
        for spec in self.inputs:
            if not context.set_input_shape(spec.name, spec.shape):
                raise log.error(
                    ShapeError,
                    f"TensorRT refused the shape {spec.shape} for {spec.name}",
                    fix="build the plan again, with this shape in its profile",
                )
        return context

    def _runtime_config(self) -> tuple[Any, ...]:
        """For TensorRT-RTX a configuration whose cache keeps compiled kernels; without it each context takes seconds.

        (https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/work-with-runtime-cache.html)
        """
        if self._trt.__name__ != "tensorrt_rtx":
            return ()
        runtime_config = self._engine.create_runtime_config()
        if self._runtime_cache is None:
            self._runtime_cache = runtime_config.create_runtime_cache()
        runtime_config.set_runtime_cache(self._runtime_cache)
        return (runtime_config,)


class _Execution:
    """An `IExecutionContext`, which sibling contexts share, and the device memory that is bound to it now."""

    def __init__(self, owner: TensorRTEngine, context: Any) -> None:
        self._execute = context.execute_async_v3
        self._context = context
        # Set after the context, and so freed after it: a context must not outlive the runtime cache.
        self.owner = owner
        self._log = log_of(owner._trt)
        self._thread = OneThread()
        self._bound: Mapping[str, DeviceBuffer] = {}

    def bind(self, buffers: Mapping[str, DeviceBuffer]) -> None:
        context = self._context
        self._bound = {}
        for name, buffer in buffers.items():
            if not context.set_tensor_address(name, buffer.address):
                raise self._log.error(
                    EngineError, f"TensorRT refused the device memory of {name}", fix="read all lines in .log"
                )
        self._bound = buffers

    def enqueue(self, buffers: Mapping[str, DeviceBuffer], stream: Stream) -> None:
        self._thread.check()
        if self._bound is not buffers:
            self.bind(buffers)
        if not self._execute(stream.handle):
            raise self._log.error(
                EngineError,
                "TensorRT did not submit the inference",
                fix="read all lines in .log; before a capture, enqueue once",
            )


class TensorRTContext(Context):
    """An `IExecutionContext` with device memory of its own; siblings share the `IExecutionContext` and bind in turn.

    Enqueue once before a CUDA graph capture: TensorRT may allocate at its first inference, which cannot be captured
    (8.5 did, NVIDIA/TensorRT#2603; TensorRT-RTX 1.4.0.76 could do without).
    Synchronize its streams before you drop it: its memory is freed with it.
    """

    def __init__(self, execution: _Execution, device: Device) -> None:
        super().__init__(device, execution.owner)
        self._execution = execution
        execution.bind(self.buffers)

    def sibling(self, device: Device) -> TensorRTContext:
        """See `Context.sibling`."""
        return TensorRTContext(self._execution, device)

    def enqueue(self, stream: Stream) -> None:
        """Submit one inference to `stream` and return; EngineError if TensorRT refuses it."""
        self._execution.enqueue(self.buffers, stream)


def _forget(_: object) -> None:
    """What was kept may go now."""


def _shape(engine: Any, name: str) -> tuple[int, ...]:
    """The shape of an input: its own, or if it is dynamic the shape that the plan was optimized for."""
    shape = tuple(engine.get_tensor_shape(name))
    return tuple(engine.get_tensor_profile_shape(name, 0)[1]) if -1 in shape else shape


def _dtype(engine: Any, name: str) -> np.dtype[Any]:
    kind = engine.get_tensor_dtype(name).name
    if kind not in _DTYPES:
        raise DtypeError(f"{name} is {kind}, which NumPy lacks", fix="cast it to float16 or float32 in the model")
    return np.dtype(_DTYPES[kind])
