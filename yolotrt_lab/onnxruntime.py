"""ONNX Runtime: the reference, which runs on any CPU."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .device import Device
from .engine import Context, Engine, checked
from .errors import DtypeError, EngineError, ModelError
from .model import OnnxModel, printable
from .packages import load
from .types import TensorSpec

_DTYPES = {"float": "float32", "float16": "float16", "double": "float64", "bool": "bool"}
_DTYPES |= {name: name for name in ("int8", "uint8", "int32", "int64")}
_ERRORS_ONLY, _FATAL_ONLY = 3, 4  # ONNX Runtime's severities; errors of a session are raised as exceptions too


class OnnxRuntimeEngine(Engine):
    """A model in ONNX Runtime on the CPU, which has no device memory and so no contexts: use `run`."""

    def __init__(
        self, onnx: bytes | str | Path | OnnxModel, *, batch: int = 1, image_size: int | tuple[int, int] | None = None
    ) -> None:
        """Load a model. `batch` and `image_size` are for sizes that it leaves open, as in `open_engine`.

        Raises MissingPackageError, ModelError or DtypeError.
        """
        runtime = load("onnxruntime", needed_for="running ONNX models")
        runtime.set_default_logger_severity(_ERRORS_ONLY)
        runtime.disable_telemetry_events()
        model = OnnxModel.read(onnx, batch=batch, image_size=image_size)
        self.model, self.metadata = model.name, model.metadata
        self._session = _session(runtime, model.content)
        self.inputs = tuple(_spec(tensor) for tensor in self._session.get_inputs())
        self.outputs = tuple(_spec(tensor) for tensor in self._session.get_outputs())
        self.label = ", ".join(filter(None, [f"ONNX Runtime {runtime.__version__} CPU", model.precision]))

    def run(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All outputs of one inference, from one array for each input.

        Raises ShapeError or DtypeError if an array does not fit its input, and ModelError where the model can't be run.
        """
        feed = {spec.name: checked(spec, tensors) for spec in self.inputs}
        names = [spec.name for spec in self.outputs]
        try:
            return dict(zip(names, self._session.run(names, feed), strict=True))
        except Exception as error:  # its exception classes are private
            what = f"ONNX Runtime cannot run {self.model}: {printable(str(error))}"
            raise ModelError(what, fix="export it again: a node of it has sizes that do not fit") from error

    def infer(self, device: Device, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The same as `run`, whatever the device."""
        return self.run(tensors)

    def context(self, device: Device) -> Context:
        """EngineError: there is none."""
        raise EngineError(f"{self.label} has no device memory to run in", fix="call engine.run(arrays)")


def _session(runtime: Any, content: bytes) -> Any:
    options = runtime.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # else its threads wait at full load
    try:
        return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exception classes are private
        fix = "export it again, with an older opset for instance, and check it with onnx.checker"
        if plugin := re.search(r"\w+_TRT\b", str(error)):
            fix = f"export the model without {plugin[0]}: plugins of TensorRT, such as its NMS, run in TensorRT alone"
        raise ModelError(f"ONNX Runtime cannot load the model: {error}", fix=fix) from error


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
