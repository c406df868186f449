"""The NVIDIA driver, asked directly: is there one, and which GPU is behind it?

Lean builds of TensorRT crash the process where there is no driver, so this is asked before any of it is made.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import Any

from ..errors import NoGpuError

_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR = 75, 76  # CUdevice_attribute in cuda.h, part of the stable ABI


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU by name, such as 'NVIDIA H200', and compute capability, such as (9, 0)."""

    name: str
    compute_capability: tuple[int, int]


def find_gpu() -> Gpu:
    """The GPU of this thread's CUDA context, or the first one; NoGpuError without a driver or a GPU."""
    cuda = _libcuda()
    _call(cuda, "cuInit", 0)
    device, number, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
    if cuda.cuCtxGetDevice(ctypes.byref(device)) != 0:
        _call(cuda, "cuDeviceGet", ctypes.byref(device), 0)
    _call(cuda, "cuDeviceGetName", name, len(name), device)
    capability = []
    for attribute in (_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR):
        _call(cuda, "cuDeviceGetAttribute", ctypes.byref(number), attribute, device)
        capability.append(number.value)
    return Gpu(name.value.decode(errors="replace"), (capability[0], capability[1]))


def has_gpu() -> bool:
    """True where `find_gpu` finds one."""
    try:
        find_gpu()
    except NoGpuError:
        return False
    return True


def cuda_version() -> tuple[int, int]:
    """The newest CUDA that the driver offers, (13, 0) say; NoGpuError without a driver."""
    number = ctypes.c_int()
    _call(_libcuda(), "cuDriverGetVersion", ctypes.byref(number))
    return number.value // 1000, number.value % 1000 // 10


def driver_version() -> str:
    """The driver's version, such as '580.159.04'; '' where NVML does not tell (Jetson, some containers)."""
    try:
        import pynvml

        pynvml.nvmlInit()
        try:
            return str(pynvml.nvmlSystemGetDriverVersion())
        finally:
            pynvml.nvmlShutdown()
    except Exception:  # NVML raises its own errors; a version is not worth failing for
        return ""


def _libcuda() -> Any:
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise NoGpuError(
            f"there is no NVIDIA driver here: {name} cannot be loaded",
            fix="install the NVIDIA driver, or use the simulated device",
        ) from error


def _call(cuda: Any, function: str, *arguments: Any) -> None:
    if code := getattr(cuda, function)(*arguments):
        raise NoGpuError(
            f"the NVIDIA driver offers no usable GPU: {function} returned CUDA error {code}",
            fix="check what nvidia-smi says and that CUDA_VISIBLE_DEVICES hides no GPU, or use the simulated device",
        )
