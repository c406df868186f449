"""The TensorRT module that is installed: importing it, its one logger, and what it can be asked about GPUs."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import struct
import sys
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .cuda import find_gpu
from .errors import (
    BuildError,
    CorruptPlanError,
    ForeignPlanError,
    MissingPackageError,
    ModelError,
    PlanError,
    ProfileError,
    SettingsError,
    UnsupportedOperatorError,
)
from .model import read_onnx

MODULES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
"""The modules that the backend runs on, and what their products are called."""


def import_tensorrt(module: str = "") -> Any:
    """The module asked for, or the first of `MODULES` that can be imported; MissingPackageError without one."""
    if module and module not in MODULES:
        raise SettingsError(f"{module!r} is no TensorRT module", fix=f"choose one of {', '.join(MODULES)}")
    failures = []
    for name in [module] if module else MODULES:
        try:
            return importlib.import_module(name)
        except (ImportError, OSError) as error:  # OSError: the bindings are there and their libraries are not
            failures.append(str(error))
    raise MissingPackageError(
        module or " or ".join(MODULES),
        needed_for=f"TensorRT engines (importing it said: {'; '.join(failures)})",
        install="pip install tensorrt, or for an RTX GPU pip install tensorrt-rtx-cu13",
    )


@cache
def log_of(trt: Any) -> Any:
    """The process's one logger for this module (TensorRT ignores a second): it keeps the latest warnings and errors.

    `clear()` it before a call, and ask for `lines` and `reason` after one that failed. Threads share it.
    """
    wanted = (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR, trt.ILogger.WARNING)

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._lines: deque[str] = deque(maxlen=200)
            self.clear = self._lines.clear

        def log(self, severity: Any, text: str) -> None:
            if severity in wanted:
                self._lines.append(f"{severity.name}: {text}")

        @property
        def lines(self) -> tuple[str, ...]:
            return tuple(self._lines)

        @property
        def reason(self) -> str:
            """The first error, because those after it are its consequences."""
            errors = (
                text for severity, _, text in (line.partition(": ") for line in self.lines) if "ERROR" in severity
            )
            return next(errors, "nothing was logged")

    return Log()


def build_targets(trt: Any) -> Mapping[str, Any]:
    """The GPUs that TensorRT-RTX can build for, by name ('SM89'); none for TensorRT, which builds for the GPU there."""
    names = getattr(getattr(trt, "ComputeCapability", None), "__members__", {})
    return {name: member for name, member in names.items() if re.fullmatch(r"SM\d+", name)}


def target_of(compute_capability: tuple[int, int]) -> str:
    """The name of a GPU's build target: 'SM89' for (8, 9)."""
    return f"SM{compute_capability[0]}{compute_capability[1]}"


def capability_bit(trt: Any, compute_capability: tuple[int, int]) -> int | None:
    """The bit of a compute capability in the mask of a TensorRT-RTX plan; None where this version doesn't name it."""
    ascending = sorted(build_targets(trt), key=lambda name: int(name[2:]))
    target = target_of(compute_capability)
    return ascending.index(target) if target in ascending else None


# A serialized TensorRT engine, called a plan, as bytes and as a file: its header and its checksum.
#
# The header says, without a GPU and before the runtime sees the plan, who wrote it and for what (little endian): magic
# at 0, version at 24 as four bytes; in TensorRT-RTX (seen in 1.4 and 1.7) the file's size at 16 and a mask of compute
# capabilities at 32, both 64 bits. Damage further in goes unnoticed, so a plan file has a `.sha256` beside it.


_MODULES = {b"ftrt": "tensorrt", b"vtrt": "tensorrt_rtx"}
_HEADER_BYTES = 64


@dataclass(frozen=True, slots=True)
class PlanHeader:
    """What a plan says about itself: the module that loads it, the version that wrote it, and for which GPUs.

    `capabilities` is TensorRT-RTX's mask, one bit for each compute capability that the runtime knows, in ascending
    order; None for TensorRT, whose plans are for the GPU that they were built on.
    """

    module: str
    version: tuple[int, ...]
    capabilities: int | None


def read_header(plan: bytes, name: str = "the plan") -> PlanHeader:
    """Read the header of a plan, called `name` in errors.

    ForeignPlanError where it is no plan at all, CorruptPlanError where it is empty or truncated.
    """
    fix = f"delete {name} and build it again"
    if not plan:
        raise CorruptPlanError(f"{name} is empty", fix=fix)
    module = _MODULES.get(plan[:4])
    if module is None:
        raise ForeignPlanError(
            f"{name} is no TensorRT plan: it starts with {plan[:4]!r}",
            fix="pass a plan, not an ONNX file or an archive that holds one; build_plan makes plans from ONNX",
        )
    if len(plan) < _HEADER_BYTES:
        raise CorruptPlanError(f"{name} is truncated: {len(plan)} bytes do not hold a header", fix=fix)
    version = tuple(plan[24:28])
    if module == "tensorrt":
        return PlanHeader(module, version, None)
    (size,), (capabilities,) = struct.unpack_from("<Q", plan, 16), struct.unpack_from("<Q", plan, 32)
    if size != len(plan):
        raise CorruptPlanError(f"{name} is damaged: it has {len(plan)} bytes and should have {size}", fix=fix)
    return PlanHeader(module, version, capabilities)


def write_plan(path: str | Path, plan: bytes) -> None:
    """Write a plan and its checksum, `<path>.sha256`; each file appears whole or not at all, the checksum first."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(_checksum_file(path), f"{hashlib.sha256(plan).hexdigest()}  {path.name}\n".encode())
    _replace(path, plan)


def read_plan(path: str | Path) -> bytes:
    """Read a plan and check it against `<path>.sha256`, where that exists.

    CorruptPlanError where they differ, PlanError where there is no plan to read.
    """
    path = Path(path)
    try:
        plan = path.read_bytes()
    except OSError as error:
        raise PlanError(f"the plan {path} cannot be read: {error}", fix="check the path") from error
    if _checksum_file(path).exists():
        wanted = _checksum_file(path).read_text(encoding="ascii", errors="replace").split()[:1]
        if wanted != [hashlib.sha256(plan).hexdigest()]:
            raise CorruptPlanError(
                f"the plan {path} is damaged: its checksum is not the one in {_checksum_file(path).name}",
                fix=f"delete {path} and build it again",
            )
    return plan


def _checksum_file(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


# The plan cache: a plan is built once for each model, builder, GPU and set of options.
#
# Nothing is ever evicted; the folder may be deleted at any time. `YOLOTRT_LAB_CACHE` moves it.


def cache_folder(folder: str | Path | None = None) -> Path:
    """`folder` if given, else `$YOLOTRT_LAB_CACHE`, else `yolotrt-lab` in the platform's user cache folder."""
    if chosen := folder or os.environ.get("YOLOTRT_LAB_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        parent = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        parent = Path.home() / "Library" / "Caches"
    else:
        parent = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return parent / "yolotrt-lab"


def plan_name(onnx: bytes, *, builder: str, target: str, options: str) -> str:
    """The file name of a plan: the builder ('tensorrt_rtx-1.4.0.76'), and a hash of all that the plan depends on."""
    digest = hashlib.sha256()
    for part in (onnx, builder.encode(), target.encode(), options.encode()):
        digest.update(hashlib.sha256(part).digest())
    return f"{builder}-{digest.hexdigest()[:32]}.plan"


def cached_plan(path: Path, build: Callable[[], bytes]) -> bytes:
    """The plan at `path`, built and stored first if it is missing or damaged.

    A damaged plan is replaced without a word: it holds nothing that `build` does not make again. SettingsError where
    the folder cannot be written.
    """
    with suppress(PlanError):
        return read_plan(path)
    plan = build()
    try:
        write_plan(path, plan)
    except OSError as error:
        raise SettingsError(
            f"the plan cache {path.parent} cannot be written: {error}",
            fix="set YOLOTRT_LAB_CACHE, or pass cache_dir=, to a folder that can be written",
        ) from error
    return plan


# From an ONNX model to a serialized TensorRT engine, a plan.
#
# Number types come from the model itself (a strongly typed network), so there is no precision switch.


Shape = tuple[int, ...]
Profile = Mapping[str, tuple[Shape, Shape, Shape]]
"""For each dynamic input its smallest, its usual and its largest shape."""


def build_plan(
    onnx: bytes | str | Path, *, module: str = "", profile: Profile | None = None, target: str = ""
) -> bytes:
    """Build a serialized engine from an ONNX model.

    TensorRT builds for the GPU it finds (NoGpuError without one). TensorRT-RTX needs no GPU; it builds for every
    compute capability from 8.0 on, or for one `target` such as 'SM75'. ModelError, UnsupportedOperatorError,
    ProfileError or BuildError where the model cannot be built.
    """
    trt = import_tensorrt(module)
    targets = build_targets(trt)
    if target and target not in targets:
        raise SettingsError(
            f"{trt.__name__} {trt.__version__} has no build target {target!r}",
            fix=f"choose one of {', '.join(targets)}" if targets else "leave it away: the plan is for the GPU there",
        )
    if not targets:
        find_gpu()  # without a driver a Builder of TensorRT crashes the process
    model = read_onnx(onnx)
    log = log_of(trt)
    log.clear()
    builder = trt.Builder(log)
    strongly_typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if strongly_typed is None else 1 << int(strongly_typed))
    parser = trt.OnnxParser(network, log)  # the network uses its memory until the plan is built
    _parse(parser, network, model, log)
    config = builder.create_builder_config()
    _add_profile(builder, config, network, profile or {}, log)
    if target:
        config.num_compute_capabilities = 1
        config.set_compute_capability(targets[target], 0)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildError(f"the builder gave up: {log.reason}", fix="read all of its lines in .log", log=log.lines)
    return bytes(plan)


def _parse(parser: Any, network: Any, model: bytes, log: Any) -> None:
    if parser.parse(model) and network.num_outputs:  # empty and stray bytes parse to an empty network
        return
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    said = tuple(f"{error.node_operator() or 'the file'}: {error.desc()}" for error in errors) + log.lines
    for error in errors:
        operator = error.node_operator()
        if operator and (error.code().name.startswith("UNSUPPORTED") or not parser.supports_operator(operator)):
            raise UnsupportedOperatorError(
                f"TensorRT does not support the operator {operator} as node {error.node_name()!r} uses it",
                fix="export the model without it, or run the model in ONNX Runtime",
                log=said,
            )
    raise ModelError(
        f"this is no usable ONNX model: {said[0] if said else 'it holds no graph'}",
        fix="export the model again, and check it with onnx.checker",
        log=said,
    )


def _add_profile(builder: Any, config: Any, network: Any, profile: Profile, log: Any) -> None:
    tensors = [network.get_input(i) for i in range(network.num_inputs)]
    check_profile({tensor.name: tuple(tensor.shape) for tensor in tensors}, profile)
    if not profile:
        return
    trt_profile = builder.create_optimization_profile()
    for name, (smallest, usual, largest) in profile.items():
        trt_profile.set_shape(name, smallest, usual, largest)
    if not trt_profile:
        raise ProfileError(f"TensorRT refuses the profile: {log.reason}", fix="give min <= opt <= max", log=log.lines)
    config.add_optimization_profile(trt_profile)


def check_profile(inputs: Mapping[str, Shape], profile: Profile) -> None:
    """ProfileError unless every input with open dimensions (-1) has an entry, and every entry fits its input.

    TensorRT itself accepts most misfits silently and fails later, or reports a different input.
    """
    for name, shape in inputs.items():
        if -1 in shape and name not in profile:
            example = tuple(max(size, 1) for size in shape)
            raise ProfileError(
                f"{name} has open dimensions, {shape}, and no optimisation profile",
                fix=f"pass profile={{{name!r}: (smallest, usual, largest)}}, each a shape such as {example}",
            )
    for name, (smallest, usual, largest) in profile.items():
        if name not in inputs:
            raise ProfileError(f"the profile names {name!r}, which is no input", fix=f"the inputs are {list(inputs)}")
        shape = inputs[name]
        same_rank = len(shape) == len(smallest) == len(usual) == len(largest)
        sizes = zip(shape, smallest, usual, largest, strict=False)
        if not same_rank or not all(0 < a <= b <= c and (size == -1 or a == c == size) for size, a, b, c in sizes):
            raise ProfileError(
                f"the profile {smallest}, {usual}, {largest} does not fit {name}{shape}",
                fix=f"give {len(shape)} sizes with smallest <= usual <= largest; only -1 may vary",
            )
