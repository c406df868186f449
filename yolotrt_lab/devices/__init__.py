"""CUDA devices: a GPU through CuPy, and the simulated one. Start with `open_device`."""

from __future__ import annotations

from pathlib import Path

from ..errors import SettingsError
from .base import Device, DeviceBuffer, Event, Graph, HostBuffer, HostQueue, HostThread, Stream
from .conditions import Conditions
from .driver import has_gpu
from .preset import Preset, shipped_presets

__all__ = [
    "Conditions",
    "Device",
    "DeviceBuffer",
    "Event",
    "Graph",
    "HostBuffer",
    "HostQueue",
    "HostThread",
    "Preset",
    "Stream",
    "has_gpu",
    "open_device",
    "shipped_presets",
]

DEFAULT_PRESET = "h200"


def open_device(
    name: str = "auto",
    *,
    preset: str | Path = DEFAULT_PRESET,
    jitter: float = 0.0,
    seed: int = 0,
    trace: bool = False,
    moves_bytes: bool = False,
) -> Device:
    """The device of that name: 'cuda', 'simulated', or 'auto' for the GPU if there is one and the simulation if not.

    By name it is that or an error: NoGpuError or MissingPackageError for 'cuda'. What 'auto' took is its `kind`. The
    keywords are settings of the simulated device (`SimulatedDevice`); a GPU has no use for them.
    """
    if name not in ("auto", "cuda", "simulated"):
        raise SettingsError(f"no device {name!r}", fix="use 'cuda', 'simulated' or 'auto'")
    if name == "cuda" or (name == "auto" and has_gpu()):
        from .cuda import CudaDevice

        return CudaDevice()
    from .simulated import SimulatedDevice

    return SimulatedDevice(Preset.load(preset), jitter=jitter, seed=seed, trace=trace, moves_bytes=moves_bytes)
