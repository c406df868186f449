"""The contract of a CUDA device: what a frame loop may ask for, on a GPU and in the simulation alike.

Calls have the semantics of the CUDA runtime: a stream runs its work in order, `upload` and `download` are
`cudaMemcpyAsync`, and how long such a call blocks the host depends on the memory behind the array. Times are integer
nanoseconds on one clock, `now_ns`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from .errors import OutOfMemoryError, SettingsError
from .types import HostMemory, Source


class HostBuffer:
    """Host memory of a known kind, as a NumPy array. `owner` keeps it alive; it is released with the last reference."""

    __slots__ = ("__weakref__", "_array", "address", "memory", "nbytes", "owner")

    def __init__(self, array: np.ndarray, memory: HostMemory = HostMemory.PAGEABLE, owner: Any = None) -> None:
        if not array.flags.c_contiguous:
            fix = "pass np.ascontiguousarray(array)"
            raise SettingsError(f"the array must be C-contiguous, got strides {array.strides}", fix=fix)
        self._array = array
        self.memory = memory
        self.address: int = array.__array_interface__["data"][0]
        self.nbytes = array.nbytes
        self.owner = owner

    @property
    def array(self) -> np.ndarray:
        """The memory, for the host to read and write."""
        return self._array

    @property
    def raw(self) -> np.ndarray:
        """Its bytes, uint8 (nbytes,), for the device."""
        return self._array.reshape(-1).view(np.uint8)


class DeviceBuffer(Protocol):
    """Memory on the device. `address` is its device pointer."""

    address: int
    nbytes: int


class Event(Protocol):
    """A mark in a stream."""

    @property
    def done(self) -> bool:
        """True once everything in front of the mark has run (`cudaEventQuery`); True if never recorded."""

    def synchronize(self) -> None:
        """Block the host until `done`."""

    def elapsed_ns(self, earlier: Event) -> int:
        """Device time from `earlier` to this mark; both created with timing and both done."""


class Stream(Protocol):
    """Work in order."""

    @property
    def handle(self) -> int:
        """The `cudaStream_t` as an integer (0 in the simulation)."""

    def synchronize(self) -> None:
        """Block the host until everything submitted so far has run (`cudaStreamSynchronize`)."""

    def record(self, event: Event) -> None:
        """Put the event behind everything submitted so far."""

    def wait(self, event: Event) -> None:
        """What is submitted from here on starts after the event (`cudaStreamWaitEvent`)."""


class Range(Protocol):
    """An NVTX range, which times what is inside."""

    payload: int | None
    """A number that it carries when it is entered next, such as the frame's."""
    ns: int
    """The host's time in it, once it is left."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: object, trace: object, /) -> None: ...


class Graph(Protocol):
    """A captured piece of stream work."""

    def launch(self, stream: Stream) -> None:
        """Submit all of it by one call (`cudaGraphLaunch`)."""


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """A kernel twice: CUDA C for a GPU, and NumPy for the simulation."""

    name: str
    """The function's name in `source`, and the name of its cost in a preset."""
    source: str
    reference: Callable[..., None]
    """Gets the arguments of a launch, device memory as uint8 arrays."""
    block: tuple[int, int, int]
    """The size of a thread block."""
    duration_ns: Callable[..., int] | None = None
    """For a kernel that takes a given time: that time, from the arguments of a launch."""


@contextmanager
def memory_errors(what: str) -> Iterator[None]:
    """OutOfMemoryError where memory for `what` can't be had, instead of Python's MemoryError."""
    try:
        yield
    except MemoryError as error:
        raise OutOfMemoryError(f"no room for {what}: {error}", fix="use fewer slots or a smaller batch") from error


class Device(ABC):
    """A CUDA device as the lab's loops see it."""

    kind: ClassVar[str]
    """'cuda' or 'simulated'."""
    source: Source
    """What figures of this device are stamped with."""

    @abstractmethod
    def now_ns(self) -> int:
        """The host's clock: `perf_counter_ns` on a GPU, virtual time in the simulation."""

    @abstractmethod
    def wait_until_ns(self, time_ns: int) -> None:
        """Block the host until `now_ns() >= time_ns`, without a call to the GPU (frames on a clock)."""

    @abstractmethod
    def range(self, name: str) -> Range:
        """An NVTX range (the simulation logs it). It belongs to the thread that asks; do not nest one in itself."""

    @abstractmethod
    def stream(self, *, priority: int = 0) -> Stream:
        """A new stream that does not wait for the default stream; a lower number is more urgent."""

    @abstractmethod
    def event(self, *, timing: bool = False) -> Event:
        """A new event. Create events once and record them again; created in a loop they pile up."""

    @abstractmethod
    def empty_host(self, shape: tuple[int, ...], dtype: Any, memory: HostMemory) -> HostBuffer:
        """Uninitialised host memory of that kind. OutOfMemoryError where it can't be had, ValueError for a kind that
        `HostMemory` does not have.
        """

    @abstractmethod
    def empty_device(self, nbytes: int) -> DeviceBuffer:
        """Uninitialised device memory. OutOfMemoryError where it can't be had."""

    @abstractmethod
    def upload(self, source: HostBuffer, target: DeviceBuffer, stream: Stream) -> None:
        """`cudaMemcpyAsync` host to device, `source.nbytes` bytes, straight from `source`: there is no copy between."""

    @abstractmethod
    def download(self, source: DeviceBuffer, target: HostBuffer, stream: Stream) -> None:
        """`cudaMemcpyAsync` device to host, `target.nbytes` bytes, straight into `target`."""

    @abstractmethod
    def launch(
        self, kernel: Kernel, grid: tuple[int, int, int], arguments: Sequence[DeviceBuffer | np.generic], stream: Stream
    ) -> None:
        """Submit a kernel (`cudaLaunchKernel`); the grid's third size is the frames of a batch.

        Launch it once before a capture: it is compiled at its first launch.
        """

    @abstractmethod
    def capture(self, submit: Callable[[], None], stream: Stream) -> Graph:
        """Run `submit`, which submits work to `stream`, as a capture: nothing runs, the graph is returned.

        CaptureError where something in it cannot be captured: a pageable copy; and in that thread nothing may wait, or
        ask an event, or allocate memory that the GPU sees, until the capture is over.
        The graph keeps `submit`, and so all memory that it refers to, for as long as it lives.
        """

    def telemetry(self, times_ns: np.ndarray) -> dict[str, np.ndarray] | None:
        """`TELEMETRY_COLUMNS` at these times, float64 (times,); None for a device that NVML samples as it runs."""
        return None

    @abstractmethod
    def synchronize(self) -> None:
        """Block the host until the device has nothing left to do (`cudaDeviceSynchronize`)."""


def open_device(
    name: str = "auto",
    *,
    preset: str | Path = "h200",
    jitter: float = 0.0,
    seed: int = 0,
    trace: bool = False,
    moves_bytes: bool = False,
) -> Device:
    """The device of that name: 'cuda', 'simulated', or 'auto' for the GPU if there is one and the simulation if not.

    By name it is that or an error: NoGpuError or MissingPackageError for 'cuda'. What 'auto' took is its `kind`. The
    keywords are settings of the simulated device (`SimulatedDevice`); a GPU has no use for them.

    >>> open_device("simulated").source.stamp
    'simulated, preset h200 (measured on NVIDIA H200, driver 580.159.04, 2026-11-29)'
    """
    if name not in ("auto", "cuda", "simulated"):
        raise SettingsError(f"the device must be 'cuda', 'simulated' or 'auto', got {name!r}", fix="use one of these")
    if name != "simulated":
        from .cuda import CudaDevice, has_gpu

        if name == "cuda" or has_gpu():
            return CudaDevice()
    from .simulate import Preset, SimulatedDevice

    return SimulatedDevice(Preset.load(preset), jitter=jitter, seed=seed, trace=trace, moves_bytes=moves_bytes)
