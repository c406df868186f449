"""Why does `cudaStreamSynchronize` get slower as a YOLOv8-TensorRT loop runs, and what really fixes it?

import yolotrt_lab as lab

device = lab.open_device()                 # the GPU if there is one, else the simulation; says which by .source
engine = lab.open_engine(device)           # YOLOv8n, built on first use
images = lab.read_images("synthetic", 8)
loop = lab.LoopSettings(input_memory="pinned", fill="in_place", period_us=2_000)
recording = lab.run_loop(device, engine, loop, images)
print(lab.slope(recording.steady.latency_ns))
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Where each public name lives. Modules load at first use: importing the lab needs NumPy at most.
_HOMES = {
    "Cause": "types",
    "Conditions": "devices",
    "Detector": "detector",
    "Fill": "pixels",
    "FrameLoop": "loops",
    "HostMemory": "types",
    "LoopSettings": "loops",
    "Measurements": "diagnosis",
    "OverlappedLoop": "loops",
    "Preset": "devices",
    "Recording": "recording",
    "SlotPool": "memory",
    "Source": "types",
    "Stage": "types",
    "Table": "tables",
    "Telemetry": "telemetry",
    "calibrate": "calibration",
    "diagnose": "diagnosis",
    "evaluate": "evaluation",
    "lab_path": "paths",
    "measure_copies": "copies",
    "measure_growth": "growth",
    "open_detector": "detector",
    "open_device": "devices",
    "open_engine": "engines",
    "open_frames": "frames",
    "period_between_us": "scenarios",
    "read_images": "frames",
    "read_measurements": "diagnosis",
    "require_frames": "scenarios",
    "run_loop": "loops",
    "run_scenario": "scenarios",
    "run_together": "scenarios",
    "shipped_model": "paths",
    "slope": "growth",
    "stage_table": "tables",
    "trace_table": "tables",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """Load what is asked for (PEP 562)."""
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
