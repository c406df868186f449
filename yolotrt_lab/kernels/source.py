"""Where the CUDA C lies, and how it is fitted to an engine's number type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DtypeError

_NUMBERS = {"float32": ("float", "float4"), "float16": ("unsigned short", "ushort4")}


def cuda_source(file: str, dtype: np.dtype[Any], **constants: int) -> str:
    """The text of `file` for tensors of `dtype`, float32 or float16 (DtypeError for others), with these constants."""
    if dtype.name not in _NUMBERS:
        raise DtypeError(
            f"the kernels take float32 and float16, the engine has {dtype}", fix="export the model with float32 tensors"
        )
    number, four = _NUMBERS[dtype.name]
    lines = [f"typedef {number} NUMBER;", f"typedef {four} FOUR;"]
    lines += [f"#define {name} {value}" for name, value in constants.items()]
    return "\n".join([*lines, Path(__file__).with_name(file).read_text(encoding="utf-8")])
