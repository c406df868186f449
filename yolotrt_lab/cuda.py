"""An NVIDIA GPU through CuPy: the CUDA runtime's own calls, on memory whose kind is known, NVTX ranges, driver facts.

The driver is asked directly whether it is there: lean builds of TensorRT crash the process where it is not.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from math import prod
from time import perf_counter_ns
from typing import Any

import numpy as np

from .device import Device, DeviceBuffer, Event, Graph, HostBuffer, Kernel, Range, Stream, memory_errors
from .errors import CaptureError, DeviceError, NoGpuError
from .packages import install_command, load
from .telemetry import driver_version
from .types import HostMemory, Source, SourceKind

_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR = 75, 76  # CUdevice_attribute in cuda.h, part of the stable ABI


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU by name, such as 'NVIDIA H200', and compute capability, such as (9, 0)."""

    name: str
    compute_capability: tuple[int, int]


def find_gpu() -> Gpu:
    """The GPU of this thread's CUDA context, or the first one; NoGpuError without a driver or a GPU."""
    cuda = libcuda()
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
    _call(libcuda(), "cuDriverGetVersion", ctypes.byref(number))
    return number.value // 1000, number.value % 1000 // 10


def libcuda() -> Any:
    """The driver's library; NoGpuError without one."""
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


DOMAIN = "yolotrt_lab"


class NvtxRange:
    """A reusable range. Its attributes belong to one thread: pushing changes them. Without a domain it only times."""

    __slots__ = ("_attributes", "_domain", "_start", "ns", "payload")

    def __init__(self, domain: Any, name: str) -> None:
        self._domain = domain
        self._attributes = domain and domain.get_event_attributes(message=name, category="loop")
        self.payload: int | None = None
        self.ns = self._start = 0

    def __enter__(self) -> None:
        if self._domain is not None:
            if self.payload is None:
                self._domain.push_range(self._attributes)
            else:
                self._domain.push_range(self._attributes, payload=self.payload)
        self._start = perf_counter_ns()

    def __exit__(self, *_: object) -> None:
        self.ns = perf_counter_ns() - self._start
        if self._domain is not None:
            self._domain.pop_range()


class NvtxRanges:
    """The ranges of a program, by thread and name. Without the nvtx package they only time."""

    def __init__(self) -> None:
        self._domain = None
        if importlib.util.find_spec("nvtx") is not None:
            import nvtx

            self._domain = nvtx.get_domain(DOMAIN)
        self._by_thread = threading.local()

    def __call__(self, name: str) -> Range:
        """The range of that name for the calling thread."""
        ranges: dict[str, NvtxRange] = self._by_thread.__dict__
        if name not in ranges:
            ranges[name] = NvtxRange(self._domain, name)
        return ranges[name]


# time.sleep may come back this much late; the rest of a wait is spent on the clock itself. Windows ticks more coarsely.
_SLEEP_SLACK_NS = 20_000_000 if sys.platform == "win32" else 1_000_000


def _import_cupy() -> Any:
    install = f"{install_command('cuda13')} (cuda12 for drivers older than 580)"
    return load("cupy", needed_for="running on a GPU", install=install)


@contextmanager
def _memory_errors(what: str) -> Iterator[None]:
    cupy = _import_cupy()
    with memory_errors(what):
        try:
            yield
        except cupy.cuda.memory.OutOfMemoryError as error:
            raise MemoryError(error) from error
        except cupy.cuda.runtime.CUDARuntimeError as error:
            if "MemoryAllocation" not in str(error):
                raise
            raise MemoryError(error) from error


class CudaEvent:
    """A CUDA event; it waits without spinning only if the driver does."""

    def __init__(self, cupy: Any, timing: bool) -> None:
        self._cupy = cupy
        self._event = cupy.cuda.Event(disable_timing=not timing)
        self.handle: int = self._event.ptr
        self._synchronize = cupy.cuda.runtime.eventSynchronize

    @property
    def done(self) -> bool:
        """True once everything in front of the mark has run; True if never recorded."""
        return bool(self._event.done)

    def synchronize(self) -> None:
        """Hold the host until `done`."""
        self._synchronize(self.handle)

    def elapsed_ns(self, earlier: Event) -> int:
        """Device time from `earlier` to this mark, to about half a microsecond (what CUDA events resolve)."""
        assert isinstance(earlier, CudaEvent)
        elapsed_ms: float = self._cupy.cuda.get_elapsed_time(earlier._event, self._event)
        return round(elapsed_ms * 1e6)


class CudaStream:
    """A CUDA stream that does not wait for the default stream."""

    def __init__(self, cupy: Any, priority: int) -> None:
        runtime = cupy.cuda.runtime
        self.cupy_stream = cupy.cuda.Stream(non_blocking=True, priority=priority)
        self.handle: int = self.cupy_stream.ptr
        self._synchronize = runtime.streamSynchronize
        self._record = runtime.eventRecord
        self._wait = runtime.streamWaitEvent

    def synchronize(self) -> None:
        """`cudaStreamSynchronize`."""
        self._synchronize(self.handle)

    def record(self, event: Event) -> None:
        """`cudaEventRecord`."""
        self._record(event.handle, self.handle)  # type: ignore[attr-defined]

    def wait(self, event: Event) -> None:
        """`cudaStreamWaitEvent`."""
        self._wait(self.handle, event.handle)  # type: ignore[attr-defined]


class CudaGraph:
    """A captured graph. It replays on addresses, so it keeps `submit`, and with that the memory behind them."""

    def __init__(self, graph: Any, submit: Callable[[], None]) -> None:
        self._launch = graph.launch
        self._submit = submit

    def launch(self, stream: Stream) -> None:
        """`cudaGraphLaunch`."""
        self._launch(stream.cupy_stream)  # type: ignore[attr-defined]


class CudaBuffer:
    """Device memory of CuPy's pool."""

    def __init__(self, cupy: Any, nbytes: int) -> None:
        self._memory = cupy.cuda.alloc(nbytes)
        self.address: int = self._memory.ptr
        self.nbytes = nbytes


class CudaDevice(Device):
    """The GPU with that ordinal. NoGpuError or MissingPackageError where there is none, or no CuPy."""

    kind = "cuda"

    def __init__(self, ordinal: int = 0) -> None:
        find_gpu()
        self._cupy = cupy = _import_cupy()
        self.ordinal = ordinal
        self.use()
        self._runtime = runtime = cupy.cuda.runtime
        properties = runtime.getDeviceProperties(ordinal)
        self.compute_capability: tuple[int, int] = (properties["major"], properties["minor"])
        gpu = properties["name"].decode()
        self.source = Source(SourceKind.LIVE, gpu, driver_version(), datetime.now(UTC).date().isoformat())
        self._range = NvtxRanges()
        self._memcpy = runtime.memcpyAsync
        self._to_device: int = runtime.memcpyHostToDevice
        self._to_host: int = runtime.memcpyDeviceToHost
        self._kernels: dict[tuple[str, str], Any] = {}

    def use(self) -> None:
        """Make this GPU that of the calling thread."""
        self._cupy.cuda.Device(self.ordinal).use()

    def now_ns(self) -> int:
        """`time.perf_counter_ns`."""
        return time.perf_counter_ns()

    def wait_until_ns(self, time_ns: int) -> None:
        """Sleep, then spin on the clock for the last stretch: a wake-up alone is late by more than a stage takes."""
        while (left := time_ns - time.perf_counter_ns()) > 0:
            if left > _SLEEP_SLACK_NS:
                time.sleep((left - _SLEEP_SLACK_NS) / 1e9)

    def range(self, name: str) -> Range:
        """An NVTX range."""
        return self._range(name)

    def stream(self, *, priority: int = 0) -> CudaStream:
        """`cudaStreamCreateWithPriority`, non-blocking."""
        return CudaStream(self._cupy, priority)

    def event(self, *, timing: bool = False) -> CudaEvent:
        """`cudaEventCreateWithFlags`."""
        return CudaEvent(self._cupy, timing)

    def empty_host(self, shape: tuple[int, ...], dtype: Any, memory: HostMemory) -> HostBuffer:
        """Host memory of that kind, of exactly that size: each call is a `cudaHostAlloc` of its own where it is pinned.

        CuPy's own pool would round up to a power of two, and hide what an allocation costs; pools are `memory.py`'s.
        """
        memory = HostMemory(memory)
        nbytes = prod(shape) * np.dtype(dtype).itemsize
        with _memory_errors(f"{nbytes} bytes of {memory} memory"):
            raw, owner = self._raw_host(nbytes, memory)
        return HostBuffer(raw.view(dtype).reshape(shape), memory, owner)

    def _raw_host(self, nbytes: int, memory: HostMemory) -> tuple[np.ndarray, Any]:
        if memory in (HostMemory.PINNED, HostMemory.WRITE_COMBINED):
            flags = self._runtime.hostAllocWriteCombined if memory is HostMemory.WRITE_COMBINED else 0
            block = self._cupy.cuda.PinnedMemoryPointer(self._cupy.cuda.PinnedMemory(nbytes, flags), 0)
            return np.frombuffer(block, np.uint8, nbytes), block
        raw = np.empty(nbytes, np.uint8)
        if memory is HostMemory.REGISTERED:
            address = raw.__array_interface__["data"][0]
            self._runtime.hostRegister(address, nbytes, 0)
            weakref.finalize(raw, self._runtime.hostUnregister, address)
        return raw, raw

    def empty_device(self, nbytes: int) -> CudaBuffer:
        """Device memory from CuPy's pool."""
        with _memory_errors(f"{nbytes} bytes of device memory"):
            return CudaBuffer(self._cupy, nbytes)

    def upload(self, source: HostBuffer, target: DeviceBuffer, stream: Stream) -> None:
        """`cudaMemcpyAsync`, host to device."""
        if source.nbytes > target.nbytes:
            raise _too_large(source, target)
        self._memcpy(target.address, source.address, source.nbytes, self._to_device, stream.handle)

    def download(self, source: DeviceBuffer, target: HostBuffer, stream: Stream) -> None:
        """`cudaMemcpyAsync`, device to host."""
        if target.nbytes > source.nbytes:
            raise _too_large(target, source)
        self._memcpy(target.address, source.address, target.nbytes, self._to_host, stream.handle)

    def launch(
        self, kernel: Kernel, grid: tuple[int, int, int], arguments: Sequence[DeviceBuffer | np.generic], stream: Stream
    ) -> None:
        """Compiled once (NVRTC), without fused multiply-add, so that numbers are rounded as on the host."""
        key = (kernel.name, kernel.source)
        compiled = self._kernels.get(key)
        if compiled is None:
            compiled = self._cupy.RawKernel(kernel.source, kernel.name, options=("--fmad=false",))
            compiled.compile()
            self._kernels[key] = compiled
        values = tuple([each if isinstance(each, np.generic) else np.uintp(each.address) for each in arguments])
        with stream.cupy_stream:  # type: ignore[attr-defined]
            compiled(grid, kernel.block, values)

    def capture(self, submit: Callable[[], None], stream: Stream) -> Graph:
        """Capture, in this thread only (`cudaStreamCaptureModeThreadLocal`)."""
        cupy_stream = stream.cupy_stream  # type: ignore[attr-defined]
        error_type = self._runtime.CUDARuntimeError
        fix = "capture only work on this stream, and run it once before it is captured"
        with cupy_stream:
            cupy_stream.begin_capture(self._runtime.streamCaptureModeThreadLocal)
            try:
                submit()
            except BaseException as error:  # Ctrl-C too: this thread could do little else while its capture is open
                with suppress(error_type):  # what made the capture invalid is on its way up already
                    cupy_stream.end_capture()
                if isinstance(error, error_type):
                    raise CaptureError(f"the capture was refused with {error}", fix=fix) from error
                raise
            try:
                return CudaGraph(cupy_stream.end_capture(), submit)
            except error_type as error:
                raise CaptureError(f"the capture ended with {error}", fix=fix) from error

    def synchronize(self) -> None:
        """`cudaDeviceSynchronize`."""
        self._runtime.deviceSynchronize()


def _too_large(host: HostBuffer, device: DeviceBuffer) -> DeviceError:
    what = f"a copy must fit device memory of {device.nbytes} bytes, got {host.nbytes}"
    return DeviceError(what, fix="create device memory for the whole array")
