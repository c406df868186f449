"""The machine that a recording was made on."""

from __future__ import annotations

import os
import platform
import sys
from contextlib import suppress
from pathlib import Path

_PACKAGES = (
    *("yolotrt-lab", "numpy", "scipy", "pyarrow", "opencv-python", "opencv-python-headless", "onnx", "onnxruntime"),
    *("onnxruntime-gpu", "cupy", "cupy-cuda12x", "cupy-cuda13x", "tensorrt", "tensorrt-rtx", "tensorrt-rtx-cu12"),
    *("tensorrt-rtx-cu13", "nvtx", "nvidia-ml-py"),
)


def machine_info() -> dict[str, str]:
    """Operating system, CPU, logical cores, Python and package versions; nothing that names a person or a host."""
    from importlib.metadata import PackageNotFoundError, version  # takes 20 ms to import

    info = {
        "os": f"{platform.system()} {platform.release()}",
        "cpu": _cpu_name(),
        "cpu_count": str(os.cpu_count()),
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            info[package] = version(package)
    return info


def _cpu_name() -> str:
    """The model's name where the system tells it, else the architecture."""
    if sys.platform == "win32":
        import winreg

        with (
            suppress(OSError),
            winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"HARDWARE\DESCRIPTION\System\CentralProcessor\0") as key,
        ):
            return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
