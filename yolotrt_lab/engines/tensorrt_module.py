"""The TensorRT module that is installed: importing it, its one logger, and what it can be asked about GPUs."""

from __future__ import annotations

import importlib
import re
from collections import deque
from collections.abc import Mapping
from functools import cache
from typing import Any

from ..errors import MissingPackageError, SettingsError

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
