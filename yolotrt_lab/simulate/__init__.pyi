from .calibration import calibrate
from .conditions import Clocks, Conditions, Heat
from .experiments import BATCHES, CopyProbe, measure_copies
from .machine import SimulatedBuffer
from .namespace import RawModules, open_letterbox, raw_modules
from .preset import (
    Allocation,
    EngineCost,
    OtherProcessesCost,
    PageableCopy,
    PinnedCopy,
    Preset,
    Registration,
    shipped_presets,
)
from .simulated import SimulatedDevice
from .sliders import explore
from .streams import SimulatedEvent, SimulatedGraph, SimulatedStream
from .timed_engine import SPIN, SimulatedEngine, SpinEngine, open_timed_engine, spin

__all__ = [
    "BATCHES",
    "SPIN",
    "Allocation",
    "Clocks",
    "Conditions",
    "CopyProbe",
    "EngineCost",
    "Heat",
    "OtherProcessesCost",
    "PageableCopy",
    "PinnedCopy",
    "Preset",
    "RawModules",
    "Registration",
    "SimulatedBuffer",
    "SimulatedDevice",
    "SimulatedEngine",
    "SimulatedEvent",
    "SimulatedGraph",
    "SimulatedStream",
    "SpinEngine",
    "calibrate",
    "explore",
    "measure_copies",
    "open_letterbox",
    "open_timed_engine",
    "raw_modules",
    "shipped_presets",
    "spin",
]
