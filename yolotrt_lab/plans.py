"""From an ONNX model to a TensorRT plan (a serialized engine): build it, read its header, check it, cache it.

What can be asked of the installed TensorRT module stands here too: its name, its log, and the GPUs that it builds for.
One name stands for each kind of TensorRT object here and in `tensorrt.py` (`trt`, `builder`, `engine`, ...): a test
looks up every attribute that is reached from these names in the tables of TensorRT's versions.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import struct
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import new_class
from typing import Any

import platformdirs

from .cuda import find_gpu
from .errors import EngineError, MissingPackageError, ModelError, PlanError, SettingsError
from .files import read_file, write_file
from .model import find_plan, read_onnx

MODULES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
"""The modules that the backend runs on, and the names of their products."""

_HEADER_BYTES = 64
_FIXES = {
    "_TRT": "export the model without it: plugins run in full TensorRT alone",
    "DynamicQuantizeLinear": "quantize the model statically, with its scales in it",
    "zero point": "quantize the model symmetrically, with zero points of 0",
}
_WITHOUT_IT = "export the model without it (NonZero belongs to an NMS: nms=None), or run it in ONNX Runtime"


def import_tensorrt(module: str = "") -> Any:
    """Import `module`, or the first of `MODULES` that is installed; MissingPackageError without one."""
    if module and module not in MODULES:
        raise SettingsError(f"module must be one of {', '.join(MODULES)}, got {module!r}", fix="choose one of these")
    failures = []
    for name in [module] if module else MODULES:
        try:
            return importlib.import_module(name)
        except (ImportError, OSError) as error:  # OSError: the bindings are installed, their libraries are not
            failures.append(str(error))
    raise MissingPackageError(
        module or " or ".join(MODULES),
        needed_for=f"TensorRT engines (the import failed with: {'; '.join(failures)})",
        install="pip install tensorrt, or for an RTX GPU pip install tensorrt-rtx-cu13",
    )


class Log:
    """A logger for TensorRT, with an `ILogger` as its second base: it keeps the latest lines of `wanted` severities.

    Call `clear()` before a TensorRT call, and raise `error(...)` if that call failed. All threads share the logger.
    """

    def __init__(self, *wanted: Any) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=200)
        self.clear = self.lines.clear
        self._wanted = wanted

    def log(self, severity: Any, text: str) -> None:
        """TensorRT calls this."""
        if severity in self._wanted:
            self.lines.append(f"{severity.name}: {text}")

    def error(self, kind: type[EngineError], message: str, *, fix: str) -> EngineError:
        """The error to raise: it carries all lines, and its message ends with the first one that is an error.

        The errors after the first are its consequences.
        """
        lines = tuple(self.lines)
        reasons = (text for severity, _, text in (line.partition(": ") for line in lines) if "ERROR" in severity)
        return kind(f"{message}: {next(reasons, 'nothing was logged')}", fix=fix, log=lines)


@cache
def log_of(trt: Any) -> Log:
    """The one logger that this process gives to a TensorRT module, which ignores a second one."""
    kind: type[Log] = new_class("TensorRTLog", (Log, trt.ILogger))
    return kind(trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR, trt.ILogger.WARNING)


def build_targets(trt: Any) -> Mapping[str, Any]:
    """The GPUs that TensorRT-RTX can build for, by name ('SM89'); none for TensorRT, which builds for the local GPU."""
    names = getattr(getattr(trt, "ComputeCapability", None), "__members__", {})
    return {name: member for name, member in names.items() if re.fullmatch(r"SM\d+", name)}


def read_header(plan: bytes, name: str = "the plan") -> tuple[str, tuple[int, ...]]:
    """The module and the version that built a plan, which errors call `name`, from its first bytes.

    Raises PlanError for anything but a plan, and for an empty or truncated one.

    >>> read_header(b"ftrt" + bytes(20) + bytes([10, 13, 3, 9]) + bytes(100))
    ('tensorrt', (10, 13, 3, 9))
    """
    # Little endian: the magic at 0, the version at 24 as four bytes; in TensorRT-RTX (seen in 1.4 and 1.7) the size of
    # the file at 16, 64 bits.
    found = find_plan(plan)
    if plan and (found is None or found.start):
        raise PlanError(
            f"{name} is not a TensorRT plan: it starts with {plan[:4]!r}",
            fix="pass a plan, not an ONNX file or an archive that holds a plan; build_plan builds plans from ONNX",
        )
    fix = f"delete {name} and build it again"
    if found is None or len(plan) < _HEADER_BYTES:
        raise PlanError(f"{name} is truncated: a plan must have {_HEADER_BYTES} bytes, got {len(plan)}", fix=fix)
    (size,) = struct.unpack_from("<Q", plan, 16)
    if found.module == "tensorrt_rtx" and size != len(plan):
        raise PlanError(f"{name} is damaged: it must have {size} bytes, got {len(plan)}", fix=fix)
    return found.module, tuple(plan[24:28])


def write_plan(path: Path, plan: bytes) -> None:
    """Write a plan and its checksum, `<path>.sha256`, in the format of `sha256sum`."""
    write_file(f"{path}.sha256", f"{hashlib.sha256(plan).hexdigest()}  {path.name}\n")
    write_file(path, plan)


def read_plan(path: str | Path) -> bytes:
    """Read a plan and check it against `<path>.sha256`, if there is one; PlanError if they differ or it is missing.

    TensorRT itself does not notice damage behind the header.
    """
    path = Path(path)
    try:
        plan = read_file(path, error=PlanError)
    except OSError as error:
        raise PlanError(f"the plan {path} cannot be read: {error}", fix="check the path") from error
    checksum = Path(f"{path}.sha256")
    if checksum.exists() and checksum.read_bytes().split()[:1] != [hashlib.sha256(plan).hexdigest().encode()]:
        raise PlanError(
            f"the plan {path} is damaged: its checksum differs from {checksum.name}",
            fix=f"delete {path} and build it again",
        )
    return plan


def cache_folder(folder: str | Path | None = None) -> Path:
    """The folder of cached plans: `folder`, or `$YOLOTRT_LAB_CACHE`, or `yolotrt-lab` in the user's cache folder.

    Nothing is ever removed from it. You can delete it at any time.

    >>> cache_folder("plans").name
    'plans'
    """
    usual = platformdirs.user_cache_path("yolotrt-lab", appauthor=False)
    return Path(folder or os.environ.get("YOLOTRT_LAB_CACHE") or usual)


def plan_name(onnx: bytes, *, builder: str, target: str) -> str:
    """The file name of a plan: the builder, and a hash of the model and the GPU.

    >>> plan_name(b"", builder="tensorrt_rtx-1.4.0.76", target="SM89")
    'tensorrt_rtx-1.4.0.76-6215e7f9f51bf9f99ae45062443a7838.plan'
    """
    digest = hashlib.sha256(hashlib.sha256(onnx).digest() + target.encode()).hexdigest()
    return f"{builder}-{digest[:32]}.plan"


def cached_plan(path: Path, build: Callable[[], bytes]) -> bytes:
    """The plan at `path`; if it is missing or damaged, it is built and stored first.

    Raises SettingsError if the folder cannot be written.
    """
    with suppress(PlanError):
        return read_plan(path)
    plan = build()
    try:
        write_plan(path, plan)
    except SettingsError as refused:
        fix = "set YOLOTRT_LAB_CACHE, or pass cache_dir=, to a folder that can be written"
        raise SettingsError(f"a plan cannot be cached: {refused.message}", fix=fix) from refused
    return plan


def build_plan(onnx: bytes | str | Path, *, module: str = "", target: str = "", tf32: bool = True) -> bytes:
    """Build a plan from an ONNX model with fixed sizes. Its data types are those of the model.

    Without `tf32`, products of float32 have 24 bits; with it TensorRT may round factors to 11, as it does by default.

    TensorRT builds for the local GPU. TensorRT-RTX needs no GPU: it builds for every compute capability from 8.0 on, or
    for one `target`, such as 'SM75'. Raises NoGpuError (TensorRT without a GPU), SettingsError (an unknown target),
    ModelError (a model that TensorRT cannot use) or EngineError (the builder failed).
    """
    trt = import_tensorrt(module)
    targets = build_targets(trt)
    if target and target not in targets:
        raise SettingsError(
            f"target must be one that {trt.__name__} {trt.__version__} can build for, got {target!r}",
            fix=f"choose one of {', '.join(targets)}" if targets else "leave it out: the plan is for the local GPU",
        )
    if not targets:
        find_gpu()  # without a driver a Builder of TensorRT crashes the process
    model = read_onnx(onnx)
    log = log_of(trt)
    log.clear()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)  # the network uses its memory until the plan is built
    _parse(parser, network, model, log)
    _require_fixed_sizes(network)
    config = builder.create_builder_config()
    if target:
        config.num_compute_capabilities = 1
        config.set_compute_capability(targets[target], 0)
    if not tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        if any("has no runners" in line for line in log.lines):  # such as NonZero in front of an NMS
            raise log.error(ModelError, "TensorRT cannot run an operator of the model", fix=_WITHOUT_IT)
        raise log.error(EngineError, "TensorRT did not build the plan", fix="read all lines in .log")
    return bytes(plan)


def _parse(parser: Any, network: Any, model: bytes, log: Log) -> None:
    if parser.parse(model) and network.num_outputs:  # empty and stray bytes parse to an empty network
        return
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    lines = *(f"{error.node_operator() or 'the file'}: {error.desc()}" for error in errors), *log.lines
    for error in errors:
        operator = error.node_operator()
        if operator and (error.code().name.startswith("UNSUPPORTED") or not parser.supports_operator(operator)):
            raise ModelError(
                f"TensorRT does not support the operator {operator} as node {error.node_name()!r} uses it",
                fix=_fix(operator, _WITHOUT_IT),
                log=lines,
            )
    raise ModelError(
        f"TensorRT cannot read the ONNX model: {lines[0] if lines else 'it holds no graph'}",
        fix=_fix(" ".join(lines), "export the model again, and check it with onnx.checker"),
        log=lines,
    )


def _fix(said: str, otherwise: str) -> str:
    """What to do about what TensorRT said."""
    return next((fix for words, fix in _FIXES.items() if words in said), otherwise)


def _require_fixed_sizes(network: Any) -> None:
    for tensor in (network.get_input(i) for i in range(network.num_inputs)):
        if -1 in tensor.shape:
            raise ModelError(
                f"{tensor.name} must have fixed sizes, got {tuple(tensor.shape)}",
                fix="open it with open_engine(device, model), which fixes them, or export it with dynamic=False",
            )
