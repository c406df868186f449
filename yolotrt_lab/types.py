"""The words of the lab, as types. Nothing here does anything but hold values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from math import prod
from typing import Any, NamedTuple

import numpy as np


class HostMemory(StrEnum):
    """What kind of host memory a buffer lives in; it decides how a copy to the GPU behaves."""

    PAGEABLE = "pageable"
    PINNED = "pinned"
    REGISTERED = "registered"
    WRITE_COMBINED = "write_combined"

    page_locked: bool
    """True where the GPU can copy by itself while the host goes on."""

    def __init__(self, value: str) -> None:
        self.page_locked = value != "pageable"


class Fill(StrEnum):
    """How the pixels of a frame get to the bytes that are uploaded."""

    FRESH = "fresh"
    """Preprocessing creates a pageable array in each frame, which is uploaded: the loop of the public report."""
    COPY = "copy"
    """That array is copied into the slot, which is uploaded."""
    IN_PLACE = "in_place"
    """Preprocessing writes into the slot, which is uploaded: the host copies nothing."""
    READY = "ready"
    """The slot is uploaded as it is: it was filled before the loop, which has no preprocessing."""


class Pixels(StrEnum):
    """How the pixels of a frame lie in memory. NV12 is what decoders and cameras deliver: half the bytes of BGR.

    >>> Pixels.BGR.shape((1080, 1920)), Pixels.NV12.shape((1080, 1920))
    ((1080, 1920, 3), (1620, 1920))
    """

    BGR = "bgr"
    """uint8 (height, width, 3), as OpenCV reads images."""
    NV12 = "nv12"
    """uint8 (height + height / 2, width): a plane of luma, below it one of U and V in turns, a pair for 2 x 2 pixels.

    Colours are those of BT.601 in limited range, as OpenCV's `COLOR_YUV2BGR_NV12` takes them."""
    NV12_709 = "nv12_709"
    """The same with the colours of BT.709 in limited range: most video from 720 lines on."""

    @property
    def planar(self) -> bool:
        """True for NV12."""
        return self is not Pixels.BGR

    def shape(self, frame_shape: tuple[int, int]) -> tuple[int, ...]:
        """The shape of the array of a frame of that height and width."""
        height, width = frame_shape
        return (height * 3 // 2, width) if self.planar else (height, width, 3)

    def frame_shape(self, frame: np.ndarray) -> tuple[int, int]:
        """Height and width of the frame in such an array."""
        height, width = frame.shape[:2]
        return (height * 2 // 3 if self.planar else height, width)


class Stage(StrEnum):
    """The stages of one frame, in order. A recording has one column of host time for each."""

    WAIT = "wait"
    PREPROCESS = "preprocess"
    UPLOAD = "upload"
    INFER = "infer"
    DOWNLOAD = "download"
    SYNCHRONIZE = "synchronize"
    POSTPROCESS = "postprocess"


class Cause(StrEnum):
    """Why latency grows (or seems to). Scenarios label the truth with it, diagnosis gives its verdict in it."""

    PAGEABLE_OVERLOAD = "pageable_overload"
    SHARED_GPU = "shared_gpu"
    SHARED_STREAM = "shared_stream"
    LAUNCH_QUEUE = "launch_queue"
    MOVED_WAIT = "moved_wait"
    CLOCK_DROP = "clock_drop"
    HEAT = "heat"
    ALLOCATION = "allocation"
    LEAK = "leak"
    PREPROCESS = "preprocess"
    SHAPE_CHANGE = "shape_change"
    WARM_UP = "warm_up"
    QUEUEING = "queueing"
    """Frames arrive faster than they are served, whoever is at fault."""
    HOST_CONTENTION = "host_contention"
    """Other work on this machine takes the processor cores or the memory bandwidth of the loop."""
    DEVICE_LEAK = "device_leak"
    """The process keeps more memory of the GPU with every frame."""
    LAUNCH_BOUND = "launch_bound"
    """The host takes longer to launch a frame's kernels than the GPU to run them."""
    NONE = "none"


THROTTLE_REASONS = (
    *("gpu_idle", "applications_clocks_setting", "sw_power_cap", "hw_slowdown", "sync_boost"),
    *("sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown", "display_clock_setting"),
)
"""Why the GPU's clocks are lower than they could be, as NVML names it (`nvmlClocksThrottleReason...`)."""

TELEMETRY_COLUMNS = (
    *(
        "sm_clock_mhz",
        "sm_clock_max_mhz",
        "memory_clock_mhz",
        "power_w",
        "temperature_c",
        "pcie_generation",
        "pcie_width",
    ),
    *("gpu_utilisation_percent", "gpu_memory_used_bytes", "gpu_processes", "host_memory_bytes"),
    *(f"throttle_{reason}" for reason in THROTTLE_REASONS),
)
"""What telemetry adds to a recording of frames: float64, the latest sample at each frame's end, NaN where the GPU does
not tell. `gpu_processes` counts the other processes on the GPU, `host_memory_bytes` is what this process has in memory,
`throttle_*` are 1 while that reason holds and 0 while it does not."""


class SourceKind(StrEnum):
    """Where a number comes from. A figure without it is a defect."""

    LIVE = "live"
    RECORDED = "recorded"
    SIMULATED = "simulated"


@dataclass(frozen=True, slots=True)
class Source:
    """Where numbers come from: a GPU now, a recording of one, or the simulation with a preset.

    `gpu`, `driver` and `date` (ISO 8601) describe the GPU that was measured; for a simulation they describe the GPU
    that its `preset` was measured on.
    """

    kind: SourceKind
    gpu: str = ""
    driver: str = ""
    date: str = ""
    preset: str = ""

    @property
    def stamp(self) -> str:
        """One line for a figure's corner, such as 'recorded on NVIDIA H200, driver 580.159.04, 2026-11-23'."""
        measured = ", ".join(filter(None, [self.gpu, self.driver and f"driver {self.driver}", self.date]))
        if self.kind is SourceKind.SIMULATED:
            return f"simulated, preset {self.preset}" + (f" (measured on {measured})" if measured else "")
        return f"{self.kind} on {measured}"

    def as_dict(self) -> dict[str, str]:
        """The fields as plain strings, for metadata."""
        return {name: str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Source:
        """The inverse of `as_dict`; ValueError or TypeError where the fields are not those of a source."""
        return cls(**{**fields, "kind": SourceKind(fields["kind"])})

    @classmethod
    def read_back(cls, fields: dict[str, Any]) -> Source:
        """The same for what lay in a file: what was live when it was written is a recording now."""
        source = cls.from_dict(fields)
        return replace(source, kind=SourceKind.RECORDED) if source.kind is SourceKind.LIVE else source


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, shape and dtype of one engine tensor; -1 marks a dynamic dimension."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def dynamic(self) -> bool:
        """True where a dimension is still open."""
        return any(size < 0 for size in self.shape)

    @property
    def nbytes(self) -> int:
        """Size in bytes; ValueError while a dimension is open."""
        if self.dynamic:
            raise ValueError(f"{self.name} has open dimensions {self.shape}: it has no size yet")
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Detections:
    """The boxes of one frame.

    `boxes` is float32 (n, 4), left, top, right, bottom in pixels of the frame; `scores` float32 (n,) from 0 to 1;
    `classes` int64 (n,).
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


class Span(NamedTuple):
    """One bar of a trace. `row` is 'range' (NVTX), 'api' (a CUDA call, host time) or what the GPU did: 'upload',
    'kernel', 'download'. Times are nanoseconds on the device's clock; `nbytes` is 0 but for copies. `correlation` is
    the number of the call, and what the GPU did has that of the call that asked for it; `thread` is the number of the
    host thread that a range or call is of.
    """

    row: str
    name: str
    start_ns: int
    end_ns: int
    stream: int = 0
    nbytes: int = 0
    correlation: int = 0
    thread: int = 0
