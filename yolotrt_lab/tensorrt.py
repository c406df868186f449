"""TensorRT 10, TensorRT 11 and TensorRT-RTX behind one engine: the module decides, and is asked what it can do.

TensorRT reports failures as None or False and a log line; here each is an error of `errors.py` with the lines in `log`.
One name stands for each kind of TensorRT object in these modules (`trt`, `builder`, `engine`, ...): a test looks up
every attribute that is reached from these names in the tables of the versions.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .cuda import Gpu, find_gpu
from .device import Device, DeviceBuffer, Stream
from .engine import Context, Engine, OneThread, bound_memory, require_gpu
from .errors import (
    DtypeError,
    EngineError,
    ForeignPlanError,
    PlanError,
    PlanVersionError,
    ShapeError,
    UnsupportedGpuError,
)
from .model import parse_onnx, precision_of, read_onnx
from .plans import (
    MODULES,
    PlanHeader,
    Profile,
    Shape,
    build_plan,
    build_targets,
    cache_folder,
    cached_plan,
    capability_bit,
    import_tensorrt,
    log_of,
    plan_name,
    read_header,
    read_plan,
    target_of,
)
from .types import TensorSpec

_DTYPES = {"FLOAT": "float32", "HALF": "float16", "BOOL": "bool"}
_DTYPES |= {name: name.lower() for name in ("INT8", "UINT8", "INT32", "INT64")}


class TensorRTEngine(Engine):
    """A deserialized plan at fixed shapes.

    With fixed input shapes in the plan any number of contexts may live at once. With dynamic inputs each context would
    need an optimisation profile to itself, and plans have one here: one context at a time.
    """

    def __init__(self, engine: Any, trt: Any, *, label: str, shapes: Mapping[str, Shape] | None = None) -> None:
        """Wrap an `ICudaEngine` of the module `trt`; `load` and `from_onnx` are the usual ways in."""
        self.label = label
        self._engine, self._trt = engine, trt
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self.dynamic = any(-1 in tuple(engine.get_tensor_shape(name)) for name in inputs)
        self._runtime_cache: Any = None  # outlives the contexts, which hold the engine
        self._live: weakref.ref[_Execution] | None = None
        chosen = _chosen_shapes(engine, inputs, shapes or {})
        self.inputs = tuple(TensorSpec(name, chosen[name], _dtype(engine, name)) for name in inputs)
        context = self._new_context() if self.dynamic else None  # only a context knows what follows from the shapes
        shape_of = engine.get_tensor_shape if context is None else context.get_tensor_shape
        outputs = [name for name in names if name not in chosen]
        self.outputs = tuple(TensorSpec(name, tuple(shape_of(name)), _dtype(engine, name)) for name in outputs)
        if open_outputs := [spec.name for spec in self.outputs if spec.dynamic]:
            raise ShapeError(
                f"the size of {open_outputs} depends on the data",
                fix="export the model without its NMS: the lab does that",
            )

    @classmethod
    def load(
        cls,
        plan: bytes | str | Path,
        *,
        module: str = "",
        shapes: Mapping[str, Shape] | None = None,
        precision: str = "",
    ) -> TensorRTEngine:
        """Load a plan on the GPU, with the module that wrote it.

        A plan file is checked against the `.sha256` beside it, if there is one. `shapes` fixes the dynamic inputs;
        without it they take the shape that the plan was optimised for. `precision`, such as 'fp16', goes into the
        label: a plan doesn't tell. Plans have to be of the version that is installed, version-compatible ones too.

        Raises PlanError, or the subclass of it that says what is wrong with the plan; NoGpuError without a GPU.
        """
        name = "the plan" if isinstance(plan, bytes) else f"the plan {plan}"
        content = plan if isinstance(plan, bytes) else read_plan(plan)
        header = read_header(content, name)
        trt = import_tensorrt(module or header.module)
        _check_maker(header, trt, name)
        gpu = find_gpu()  # without a driver a Runtime of TensorRT crashes the process
        check_gpu(header, trt, gpu, name)
        log = log_of(trt)
        log.clear()
        runtime = trt.Runtime(log)
        engine = runtime.deserialize_cuda_engine(content)
        if engine is None:
            raise refusal(name, gpu, log.reason, log.lines)
        label = f"{MODULES[trt.__name__]} {trt.__version__}"
        return cls(engine, trt, label=f"{label}, {precision}" if precision else label, shapes=shapes)

    @classmethod
    def from_onnx(
        cls,
        onnx: bytes | str | Path,
        *,
        module: str = "",
        profile: Profile | None = None,
        shapes: Mapping[str, Shape] | None = None,
        cache_dir: str | Path | None = None,
    ) -> TensorRTEngine:
        """Build for this machine's GPU, or take the plan from the cache (`cache_folder`), and load it.

        Raises what `build_plan` and `load` raise.
        """
        trt = import_tensorrt(module)
        model = read_onnx(onnx)
        gpu = find_gpu()
        target = target_of(gpu.compute_capability)
        if target not in build_targets(trt):
            target = ""
        name = plan_name(
            model,
            builder=f"{trt.__name__}-{trt.__version__}",
            target=target or f"{gpu.name} {gpu.compute_capability}",
            options=repr(sorted((profile or {}).items())),
        )
        plan = cached_plan(
            cache_folder(cache_dir) / name,
            lambda: build_plan(model, module=trt.__name__, profile=profile, target=target),
        )
        return cls.load(plan, module=trt.__name__, shapes=shapes, precision=precision_of(parse_onnx(model)))

    def context(self, device: Device) -> Context:
        """See `Engine.context`. EngineError on a simulated device, and for a second context on dynamic inputs."""
        require_gpu(device, self.label)
        if self.dynamic and self._live is not None and self._live() is not None:
            raise EngineError(
                "an engine with dynamic inputs has one context at a time",
                fix="drop the other context first, or export the model with fixed input shapes",
            )
        execution = _Execution(self, self._new_context())
        self._live = weakref.ref(execution)
        return TensorRTContext(execution, device)

    def _compiled_before(self) -> tuple[Any, ...]:
        """TensorRT-RTX compiles kernels for each context, some seconds long, unless contexts share a runtime cache.

        (https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/work-with-runtime-cache.html)
        """
        if not hasattr(self._engine, "create_runtime_config"):
            return ()
        runtime_config = self._engine.create_runtime_config()
        if not hasattr(runtime_config, "create_runtime_cache"):
            return ()
        if self._runtime_cache is None:
            self._runtime_cache = runtime_config.create_runtime_cache()
        runtime_config.set_runtime_cache(self._runtime_cache)
        return (runtime_config,)

    def _new_context(self) -> Any:
        log = log_of(self._trt)
        log.clear()
        context = self._engine.create_execution_context(*self._compiled_before())
        if context is None:
            raise EngineError(
                f"there is no execution context: {log.reason}",
                fix="free device memory, or use fewer contexts",
                log=log.lines,
            )
        for spec in self.inputs:
            if not context.set_input_shape(spec.name, spec.shape):
                raise ShapeError(
                    f"{spec.name} refuses the shape {spec.shape}: {log.reason}",
                    fix="choose a shape inside the plan's profile",
                    log=log.lines,
                )
        return context


class _Execution:
    """An `IExecutionContext`, and whose buffers are bound to it."""

    def __init__(self, owner: TensorRTEngine, context: Any) -> None:
        self.context = context
        self.owner = owner  # after `context`, so that it goes after it: contexts must not outlive the cache
        self.thread = OneThread()
        self.bound: Mapping[str, DeviceBuffer] = {}

    def bind(self, buffers: Mapping[str, DeviceBuffer]) -> None:
        """From here on run with these."""
        context, log = self.context, log_of(self.owner._trt)
        self.bound = {}
        for name, buffer in buffers.items():
            if not context.set_tensor_address(name, buffer.address):
                raise EngineError(
                    f"{name} refuses its device memory: {log.reason}", fix="read all lines in .log", log=log.lines
                )
        self.bound = buffers


class TensorRTContext(Context):
    """An `IExecutionContext` with device memory that is bound once; siblings, which have one of them, bind in turn.

    Enqueue once before a CUDA graph capture: what TensorRT sets up at the first inference cannot be captured.
    Synchronize its streams before dropping it: the memory goes with it.
    """

    def __init__(self, execution: _Execution, device: Device) -> None:
        owner, context = execution.owner, execution.context
        self.buffers = bound_memory(device, owner)
        self._log = log_of(owner._trt)
        self._execute = context.execute_async_v3
        self._execution = execution
        execution.bind(self.buffers)

    def sibling(self, device: Device) -> TensorRTContext:
        """See `Context.sibling`."""
        return TensorRTContext(self._execution, device)

    def enqueue(self, stream: Stream) -> None:
        """Submit one inference to `stream` and return; EngineError where TensorRT refuses it."""
        execution = self._execution
        execution.thread.check()
        if execution.bound is not self.buffers:
            execution.bind(self.buffers)
        if not self._execute(stream.handle):
            raise EngineError(
                f"the inference was not submitted: {self._log.reason}",
                fix="read all lines in .log; before a capture, enqueue once",
                log=self._log.lines,
            )


def _check_maker(header: PlanHeader, trt: Any, name: str) -> None:
    if header.module != trt.__name__:
        raise ForeignPlanError(
            f"{name} was made by {MODULES[header.module]}, and {MODULES[trt.__name__]} was asked to load it",
            fix=f"build it again with {trt.__name__}, or load it with module={header.module!r}",
        )
    installed = tuple(int(number) for number in re.findall(r"\d+", trt.__version__)[:4])
    if header.version[: len(installed)] != installed:
        made = ".".join(map(str, header.version))
        raise PlanVersionError(
            f"{name} was made by {MODULES[trt.__name__]} {made}, and {trt.__version__} is installed",
            fix=f"build it again from the ONNX file, or install version {made}",
        )


def check_gpu(header: PlanHeader, trt: Any, gpu: Gpu, name: str) -> None:
    """UnsupportedGpuError where the plan's mask leaves the GPU out; a GPU without a bit is left to the runtime."""
    bit = capability_bit(trt, gpu.compute_capability)
    if header.capabilities is not None and bit is not None and not header.capabilities >> bit & 1:
        raise UnsupportedGpuError(
            f"{name} was not built for {gpu.name}, compute capability {'.'.join(map(str, gpu.compute_capability))}",
            fix=f"build it again with target={target_of(gpu.compute_capability)!r}",
        )


def refusal(name: str, gpu: Gpu, reason: str, log: tuple[str, ...]) -> PlanError:
    """The error for a plan that the runtime did not deserialize, told by what it logged."""
    if any("compute capability" in line or "incompatible device" in line for line in log):
        return UnsupportedGpuError(
            f"{name} cannot run on {gpu.name}: {reason}",
            fix="build it again on this GPU; where TensorRT-RTX does not support the GPU, use module='tensorrt'",
            log=log,
        )
    return PlanError(f"{name} was refused: {reason}", fix="build it again from the ONNX file", log=log)


def _chosen_shapes(engine: Any, inputs: list[str], shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    if unknown := set(shapes) - set(inputs):
        raise ShapeError(f"the plan has no input {sorted(unknown)}", fix=f"its inputs are {inputs}")
    chosen = {}
    for name in inputs:
        low = usual = high = tuple(engine.get_tensor_shape(name))
        if -1 in usual:
            low, usual, high = (tuple(shape) for shape in engine.get_tensor_profile_shape(name, 0))
        shape = tuple(shapes.get(name, usual))
        if len(shape) != len(low) or not all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True)):
            raise ShapeError(
                f"{name} cannot have the shape {shape}: the plan takes {low} to {high}",
                fix="choose a shape in that range, or build the plan with another profile",
            )
        chosen[name] = shape
    return chosen


def _dtype(engine: Any, name: str) -> np.dtype[Any]:
    kind = engine.get_tensor_dtype(name).name
    if kind not in _DTYPES:
        raise DtypeError(f"{name} is {kind}, which NumPy lacks", fix="cast it to float16 or float32 in the model")
    return np.dtype(_DTYPES[kind])
