"""A serialized TensorRT engine, called a plan, as bytes and as a file: its header and its checksum.

The header says, without a GPU and before the runtime sees the plan, who wrote it and for what (little endian): magic
at 0, version at 24 as four bytes; in TensorRT-RTX (seen in 1.4 and 1.7) the file's size at 16 and a mask of compute
capabilities at 32, both 64 bits. Damage further in goes unnoticed, so a plan file has a `.sha256` beside it.
"""

from __future__ import annotations

import hashlib
import os
import struct
import uuid
from dataclasses import dataclass
from pathlib import Path

from ..errors import CorruptPlanError, ForeignPlanError, PlanError

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
