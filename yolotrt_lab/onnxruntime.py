"""The ONNX Runtime backend: the reference that runs on any CPU, and its CUDA provider on the caller's stream."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .device import Device, Stream
from .engine import Context, Engine, OneThread, checked, require_gpu
from .errors import DtypeError, EngineError, MissingPackageError, ModelError, SettingsError
from .model import OnnxModel
from .packages import load
from .types import TensorSpec

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_DTYPES = {"float": "float32", "float16": "float16", "double": "float64", "bool": "bool"}
_DTYPES |= {name: name for name in ("int8", "uint8", "int32", "int64")}
_ERRORS_ONLY, _FATAL_ONLY = 3, 4  # ONNX Runtime's severities; errors of a session are raised as exceptions too


class OnnxRuntimeEngine(Engine):
    """A model in ONNX Runtime, on the 'cpu' or through the 'cuda' provider.

    The CPU has no device memory and so no contexts: use `run`. On CUDA each context has a session of its own, and with
    it a copy of the weights, because ONNX Runtime ties a session to one stream.
    """

    def __init__(
        self,
        onnx: bytes | str | Path | OnnxModel,
        *,
        provider: str = "cpu",
        batch: int = 1,
        image_size: int | tuple[int, int] | None = None,
    ) -> None:
        """Load a model. `batch` and `image_size` are for sizes that it leaves open, as in `open_engine`.

        Raises MissingPackageError, ModelError, DtypeError, or EngineError if the provider does not load.
        """
        self.ort = _import_onnxruntime(provider)
        found = OnnxModel.read(onnx, batch=batch, image_size=image_size)
        self._model, self.model, self.metadata = found.content, found.name, found.metadata
        self._provider = provider
        self._session = self.session({})
        self.inputs = tuple(_spec(tensor) for tensor in self._session.get_inputs())
        self.outputs = tuple(_spec(tensor) for tensor in self._session.get_outputs())
        runtime = f"ONNX Runtime {self.ort.__version__} {provider.upper()}"
        self.label = ", ".join(filter(None, [runtime, found.precision]))

    def run(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All outputs of one inference, from one array on the host for each input.

        Raises ShapeError or DtypeError if an array does not fit its input.
        """
        feed = {spec.name: checked(spec, tensors) for spec in self.inputs}
        names = [spec.name for spec in self.outputs]
        return dict(zip(names, self._session.run(names, feed), strict=True))

    def infer(self, device: Device, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The same as `run`: ONNX Runtime takes care of the device itself."""
        return self.run(tensors)

    def context(self, device: Device) -> Context:
        """See `Engine.context`; EngineError for the CPU provider, and for a simulated device."""
        if self._provider == "cpu":
            raise EngineError(
                "ONNX Runtime on the CPU has no device memory to run in",
                fix="call engine.run(arrays), or load the model with provider='cuda'",
            )
        require_gpu(device, self.label)
        return OnnxRuntimeContext(self, device)

    def session(self, provider_options: Mapping[str, str]) -> Any:
        """A new session on the provider of this engine, without a fallback to another one."""
        wanted = _PROVIDERS[self._provider]
        options = self.ort.SessionOptions()
        options.log_severity_level = _FATAL_ONLY
        try:
            session = self.ort.InferenceSession(
                self._model, options, providers=[wanted], provider_options=[dict(provider_options)]
            )
        except Exception as error:  # its exception classes are private
            if self._provider == "cpu":
                fix = "export it again, with an older opset for instance, and check it with onnx.checker"
                raise ModelError(f"ONNX Runtime cannot load the model: {error}", fix=fix) from error
            raise EngineError(
                f"ONNX Runtime cannot load the model with CUDA: {error}",
                fix="load it with provider='cpu': if that works, the CUDA installation is the cause",
            ) from error
        session.disable_fallback()
        if wanted not in session.get_providers():
            raise EngineError(
                f"ONNX Runtime did not load {wanted} and fell back to {session.get_providers()}",
                fix="install the CUDA and cuDNN versions that this onnxruntime-gpu was built for",
            )
        return session


class OnnxRuntimeContext(Context):
    """One CUDA session on one stream, that of the first `enqueue`, which loads the model and so takes long.

    ONNX Runtime allocates memory at its first inferences too: enqueue a few times before you time or capture.
    """

    def __init__(self, engine: OnnxRuntimeEngine, device: Device) -> None:
        super().__init__(device, engine)
        self._engine = engine
        self._thread = OneThread()
        self._handle: int | None = None

    def enqueue(self, stream: Stream) -> None:
        """Submit one inference to `stream` and return; EngineError for another stream or thread than the first."""
        self._thread.check()
        if stream.handle != self._handle:
            self._open(stream)
        try:
            self._run(self._binding, self._run_options)
        except Exception as error:  # its exception classes are private
            raise EngineError(
                f"ONNX Runtime did not submit the inference: {error}", fix="before a capture, enqueue a few times"
            ) from error

    def sibling(self, device: Device) -> OnnxRuntimeContext:
        """A context with a session of its own: ONNX Runtime's sessions share no memory."""
        return OnnxRuntimeContext(self._engine, device)

    def _open(self, stream: Stream) -> None:
        if self._handle is not None:
            raise EngineError(
                "an ONNX Runtime context stays on the stream of its first inference", fix="create a context per stream"
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
        raise SettingsError(f"provider must be one of {', '.join(_PROVIDERS)}, got {provider!r}", fix="use 'cpu'")
    package = "onnxruntime-gpu" if provider == "cuda" else "onnxruntime"
    onnxruntime = load("onnxruntime", needed_for="running ONNX models", install=f"pip install {package}")
    if _PROVIDERS[provider] not in onnxruntime.get_available_providers():
        raise MissingPackageError(
            package,
            needed_for=f"the {provider} provider (the installed onnxruntime does not have it)",
            install=f"pip uninstall onnxruntime; pip install {package}",
        )
    onnxruntime.set_default_logger_severity(_ERRORS_ONLY)
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def _spec(tensor: Any) -> TensorSpec:
    """The spec of a session's input or output."""
    dtype = _DTYPES.get(tensor.type.removeprefix("tensor(").removesuffix(")"))
    if dtype is None:
        raise DtypeError(f"{tensor.name} is {tensor.type}, which the lab does not handle", fix="cast it to float32")
    if not all(isinstance(size, int) for size in tensor.shape):
        raise ModelError(
            f"{tensor.name} must have fixed sizes, except for the batch, got {tensor.shape}",
            fix="export the model with fixed sizes (Ultralytics: dynamic=False)",
        )
    return TensorSpec(tensor.name, tuple(tensor.shape), np.dtype(dtype))
