from . import causes, detector, diagnose, gym, nsight, plots, simulate, speed
from .causes import period_between_us, require_frames, run_scenario, run_together
from .detector import Detector, open_detector
from .device import open_device
from .diagnose import Measured, slope
from .engine import open_engine
from .frames import VideoPlanes, open_frames, read_images
from .gym import check
from .loop import FrameLoop, LoopSettings, run_loop
from .memory import SlotPool
from .nsight import trace_table
from .packages import lab_path, shipped_model
from .recording import Recording
from .simulate import Conditions, Preset, calibrate, measure_copies
from .speed import OverlappedLoop
from .tables import Table, stage_table
from .telemetry import Telemetry
from .types import Cause, Fill, HostMemory, Pixels, Source, Stage

__all__ = [
    "Cause",
    "Conditions",
    "Detector",
    "Fill",
    "FrameLoop",
    "HostMemory",
    "LoopSettings",
    "Measured",
    "OverlappedLoop",
    "Pixels",
    "Preset",
    "Recording",
    "SlotPool",
    "Source",
    "Stage",
    "Table",
    "Telemetry",
    "VideoPlanes",
    "calibrate",
    "causes",
    "check",
    "detector",
    "diagnose",
    "gym",
    "lab_path",
    "measure_copies",
    "nsight",
    "open_detector",
    "open_device",
    "open_engine",
    "open_frames",
    "period_between_us",
    "plots",
    "read_images",
    "require_frames",
    "run_loop",
    "run_scenario",
    "run_together",
    "shipped_model",
    "simulate",
    "slope",
    "speed",
    "stage_table",
    "trace_table",
]

__version__: str
