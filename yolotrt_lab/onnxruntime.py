"""ONNX Runtime: the reference that computes on any machine, and its CUDA provider on the caller's stream."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .device import Device, Stream
from .engine import Context, Engine, OneThread, bound_memory, checked, require_gpu
from .errors import (
    DtypeError,
    EngineError,
    MissingPackageError,
    ModelError,
    ProfileError,
    SettingsError,
    UnsupportedOperatorError,
)
from .model import parse_onnx, precision_of, read_onnx
from .types import TensorSpec

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
}
_DTYPES |= {f"tensor({name})": name for name in ("int8", "uint8", "int32", "int64")}
_ERRORS_ONLY, _FATAL_ONLY = 3, 4  # ONNX Runtime's severities; a session's errors arrive as exceptions too


class OnnxRuntimeEngine(Engine):
    """A model in ONNX Runtime, on the 'cpu' or through the 'cuda' provider.

    The CPU has no device memory and so no contexts: use `run`. A CUDA context holds a session, and with it the weights,
    of its own, because ONNX Runtime ties a session to one stream.
    """

    def __init__(self, onnx: bytes | str | Path, *, provider: str = "cpu", batch: int = 1, threads: int = 0) -> None:
        """Load a model. `batch` fixes a batch dimension that is left open under a name.

        `threads` is for one operator on the CPU; 0 is ONNX Runtime's choice, one a physical core. Raises
        MissingPackageError, ModelError, UnsupportedOperatorError, ProfileError (another open dimension), DtypeError, or
        EngineError where the provider does not load.
        """
        self.ort = _import_onnxruntime(provider)
        self._model = read_onnx(onnx)
        self._provider = provider
        model = parse_onnx(self._model)
        self._options = self.ort.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.log_severity_level = _FATAL_ONLY
        for name in _batch_names(model):
            self._options.add_free_dimension_override_by_name(name, batch)
        self._session = self.session({})
        self.inputs = tuple(_spec(tensor) for tensor in self._session.get_inputs())
        self.outputs = tuple(_spec(tensor) for tensor in self._session.get_outputs())
        parts = [f"ONNX Runtime {self.ort.__version__} {provider.upper()}", precision_of(model)]
        self.label = ", ".join(filter(None, parts))

    def run(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All outputs of one inference, from arrays on the host; ShapeError or DtypeError where an input misfits."""
        feed = {spec.name: checked(spec, tensors) for spec in self.inputs}
        names = [spec.name for spec in self.outputs]
        return dict(zip(names, self._session.run(names, feed), strict=True))

    def infer(self, device: Device, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`run`; the device is not asked."""
        return self.run(tensors)

    def context(self, device: Device) -> Context:
        """See `Engine.context`; EngineError on the CPU provider, and on a device that is no GPU."""
        if self._provider == "cpu":
            raise EngineError(
                "ONNX Runtime on the CPU has no device memory to run in",
                fix="call engine.run(arrays), or load the model with provider='cuda'",
            )
        require_gpu(device, self.label)
        return OnnxRuntimeContext(self, device)

    def session(self, provider_options: Mapping[str, str]) -> Any:
        """A new session on this engine's provider and no other."""
        wanted = _PROVIDERS[self._provider]
        try:
            session = self.ort.InferenceSession(
                self._model, self._options, providers=[wanted], provider_options=[dict(provider_options)]
            )
        except Exception as error:  # its exception classes are private
            raise _load_error(error, self._provider) from error
        session.disable_fallback()
        if wanted not in session.get_providers():
            raise EngineError(
                f"ONNX Runtime did not load {wanted} and fell back to {session.get_providers()}",
                fix="install the CUDA and cuDNN versions that this onnxruntime-gpu was built for",
            )
        return session


class OnnxRuntimeContext(Context):
    """One CUDA session on one stream: that of the first `enqueue`, which loads the model and so takes long.

    ONNX Runtime allocates at its first inference too: enqueue a few times before timing or capturing.
    """

    def __init__(self, engine: OnnxRuntimeEngine, device: Device) -> None:
        self.buffers = bound_memory(device, engine)
        self._engine = engine
        self._thread = OneThread()
        self._handle: int | None = None

    def enqueue(self, stream: Stream) -> None:
        """Submit one inference to `stream` and return; EngineError for another stream than the first one, or thread."""
        self._thread.check()
        if stream.handle != self._handle:
            self._open(stream)
        try:
            self._run(self._binding, self._run_options)
        except Exception as error:  # its exception classes are private
            raise EngineError(
                f"the inference was not submitted: {error}", fix="before a capture, enqueue a few times"
            ) from error

    def sibling(self, device: Device) -> OnnxRuntimeContext:
        """A session of its own: those of ONNX Runtime have no memory in common."""
        return OnnxRuntimeContext(self._engine, device)

    def _open(self, stream: Stream) -> None:
        if self._handle is not None:
            raise EngineError(
                "an ONNX Runtime context stays on the stream of its first inference", fix="make a context per stream"
            )
        engine = self._engine
        session = engine.session({"user_compute_stream": str(stream.handle)})
        self._binding = session.io_binding()
        for specs, bind in ((engine.inputs, self._binding.bind_input), (engine.outputs, self._binding.bind_output)):
            for spec in specs:
                bind(spec.name, "cuda", 0, spec.dtype, spec.shape, self.buffers[spec.name].address)
        self._run_options = engine.ort.RunOptions()
        self._run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._run = session.run_with_iobinding
        self._handle = stream.handle


def _import_onnxruntime(provider: str) -> Any:
    if provider not in _PROVIDERS:
        raise SettingsError(f"no provider {provider!r}", fix=f"choose one of {', '.join(_PROVIDERS)}")
    package = "onnxruntime-gpu" if provider == "cuda" else "onnxruntime"
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackageError(
            package, needed_for="running ONNX models", install=f"pip install {package}"
        ) from error
    if _PROVIDERS[provider] not in onnxruntime.get_available_providers():
        raise MissingPackageError(
            package,
            needed_for=f"the {provider} provider (the onnxruntime that is installed lacks it)",
            install=f"pip uninstall onnxruntime; pip install {package}",
        )
    onnxruntime.set_default_logger_severity(_ERRORS_ONLY)
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def _batch_names(model: Any) -> set[str]:
    """The names that the first dimensions of the inputs are left open under."""
    shapes = [tensor.type.tensor_type.shape.dim for tensor in model.graph.input]
    return {dimensions[0].dim_param for dimensions in shapes if dimensions and dimensions[0].dim_param}


def _spec(tensor: Any) -> TensorSpec:
    """The spec of a session's input or output; ProfileError while its shape is open, DtypeError for an odd type."""
    if tensor.type not in _DTYPES:
        raise DtypeError(f"{tensor.name} is {tensor.type}, which the lab does not handle", fix="cast it to float32")
    if not all(isinstance(size, int) for size in tensor.shape):
        raise ProfileError(
            f"{tensor.name} has open dimensions {tensor.shape}; only a named batch dimension can be fixed here",
            fix="export the model with fixed sizes, or give its batch dimension a name",
        )
    return TensorSpec(tensor.name, tuple(tensor.shape), np.dtype(_DTYPES[tensor.type]))


def _load_error(error: Exception, provider: str) -> EngineError:
    """The error for a session that could not be made, told by ONNX Runtime's exception: its classes are private."""
    text = str(error)
    if type(error).__name__ == "NotImplemented" or "No Op registered" in text:
        return UnsupportedOperatorError(
            f"ONNX Runtime lacks an operator of the model: {text}",
            fix="export the model with another opset, or update onnxruntime",
        )
    if provider == "cpu":
        return ModelError(f"this is no usable ONNX model: {text}", fix="export it again, check it with onnx.checker")
    return EngineError(
        f"ONNX Runtime could not load the model with CUDA: {text}",
        fix="load it with provider='cpu': where that works, the trouble is the CUDA installation",
    )
