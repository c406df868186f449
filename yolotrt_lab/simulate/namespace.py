"""CuPy's, TensorRT's and nvtx's names on the simulated device: those that the notebooks' raw cells use, and no others.

Calls find streams by handle and memory by address, as CUDA's do. A host address in pinned or registered memory is
page-locked; any other is pageable memory. Where the device moves bytes, those of a download into page-locked memory are
0xFF until it has run, which is NaN as a float: who reads them earlier sees that it was too early.
"""

from __future__ import annotations

import ctypes
import time
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from ..device import Device, HostBuffer
from ..errors import DeviceError, SettingsError
from ..packages import load
from ..types import HostMemory
from ..vision import Letterbox, naive_letterbox
from .hazards import WatchedBuffer
from .machine import SimulatedBuffer
from .raw_objects import (
    DeviceArray,
    DeviceMemory,
    Event,
    ExecutionContext,
    Module,
    PinnedMemory,
    PinnedMemoryPool,
    RawKernel,
    Stream,
    get_elapsed_time,
    pointer_type,
)
from .simulated import SimulatedDevice
from .streams import SimulatedGraph, SimulatedStream
from .timed_engine import SimulatedEngine

_TO_DEVICE, _TO_HOST = 1, 2  # cudaMemcpyKind


class RawModules(NamedTuple):
    """What `raw_modules` returns."""

    cupy: Any
    cupyx: Any
    tensorrt: Any
    nvtx: Any
    time: Any


def raw_modules(device: Device) -> RawModules:
    """`cupy`, `cupyx`, `tensorrt`, `nvtx` and `time` for that device, so that code in their own names runs on either.

    On a GPU they are the libraries themselves (`tensorrt` may be TensorRT-RTX), MissingPackageError without one. On the
    simulated device they have the names that the notebooks use; any other is a MissingNameError, which lists them.
    `time.perf_counter_ns` is virtual time there.

    >>> from yolotrt_lab import open_device
    >>> cupy, *_, time = raw_modules(open_device("simulated"))
    >>> start, block = time.perf_counter_ns(), cupy.cuda.alloc_pinned_memory(4_915_200)
    >>> time.perf_counter_ns() - start, block.size()
    (1402043, 8388608)
    """
    if isinstance(device, SimulatedDevice):
        return device.namespace.modules
    from ..plans import import_tensorrt

    cupy, cupyx, nvtx = (load(name, needed_for="raw calls on a GPU") for name in ("cupy", "cupyx", "nvtx"))
    return RawModules(cupy, cupyx, import_tensorrt(), nvtx, time)


def open_letterbox(device: Device, input_shape: tuple[int, int] = (640, 640)) -> Callable[..., np.ndarray]:
    """`letterbox(frame)`, a fresh pageable array in each call, and `letterbox(frame, out)`, which writes into `out`.

    Both return float32 (1, 3, height, width), RGB from 0 to 1. On the simulated device it takes the time that the
    preset measured, and the pixels are written only where the device moves bytes.

    >>> from yolotrt_lab import open_device
    >>> open_letterbox(open_device("simulated"))(np.zeros((1080, 1920, 3), np.uint8)).shape
    (1, 3, 640, 640)
    """
    into = Letterbox()

    def letterbox(frame: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        work = "naive_letterbox" if out is None else "letterbox"
        if isinstance(device, SimulatedDevice):
            device.host_work(work)
            if not device.machine.moves_bytes:
                return np.empty((1, 3, *input_shape), np.float32) if out is None else out
        if out is None:
            return naive_letterbox(frame, input_shape)
        into(frame, out)
        return out

    return letterbox


class Namespace:
    """The modules of one simulated device, and what their calls find by handle or address."""

    handles = count(0x5000_0000, 16)
    """One for all devices: a stream of another is found by none."""

    def __init__(self, device: SimulatedDevice) -> None:
        self.device, self.machine = device, device.machine
        self.streams: weakref.WeakValueDictionary[int, SimulatedStream] = weakref.WeakValueDictionary()
        self.device_memory: weakref.WeakValueDictionary[int, SimulatedBuffer] = weakref.WeakValueDictionary()
        self._page_locked: weakref.WeakValueDictionary[int, PinnedMemory] = weakref.WeakValueDictionary()
        self._registered: dict[int, PinnedMemory] = {}
        self._freed: deque[PinnedMemory] = deque(maxlen=8)
        self._entered: defaultdict[Any, list[Stream]] = defaultdict(list)
        self._pushed: defaultdict[Any, list[Any]] = defaultdict(list)
        self.captured: defaultdict[SimulatedGraph, list[weakref.ref[Any]]] = defaultdict(list)
        self._pool = PinnedMemoryPool(self)
        self._allocate: Callable[[int], Any] = self._pool.malloc
        self.modules = self._modules()

    def _modules(self) -> RawModules:
        runtime = Module(
            "cupy.cuda.runtime",
            memcpyAsync=self._memcpy_async,
            memcpyHostToDevice=_TO_DEVICE,
            memcpyDeviceToHost=_TO_HOST,
            streamSynchronize=lambda stream: self.find_stream(stream).synchronize(),
            hostRegister=self._host_register,
            hostUnregister=self._host_unregister,
        )
        cuda = Module(
            "cupy.cuda",
            runtime=runtime,
            Stream=partial(Stream, self),
            Event=partial(Event, self),
            get_elapsed_time=get_elapsed_time,
            alloc=partial(DeviceMemory, self),
            alloc_pinned_memory=lambda size: self._allocate(size),
            set_pinned_memory_allocator=self._set_allocator,
            PinnedMemoryPool=partial(PinnedMemoryPool, self),
        )
        cupy = Module(
            "cupy",
            cuda=cuda,
            empty=partial(DeviceArray, self),
            get_default_pinned_memory_pool=lambda: self._pool,
            RawKernel=partial(RawKernel, self),
        )
        return RawModules(
            cupy,
            Module("cupyx", empty_pinned=self._empty_pinned),
            Module("tensorrt", __version__=f"simulated, preset {self.device.preset.name}"),
            Module("nvtx", annotate=self._annotate, push_range=self._push_range, pop_range=self._pop_range),
            Module("time", perf_counter_ns=self.device.now_ns),
        )

    def capture(self) -> SimulatedGraph | None:
        """The graph that takes what the running thread submits."""
        return self.machine.captures.get(self.machine.threads.running)

    def context(self, engine: SimulatedEngine) -> ExecutionContext:
        """A new execution context."""
        return ExecutionContext(self, engine)

    # Streams

    def find_stream(self, handle: int) -> SimulatedStream:
        """The stream of that handle."""
        if (stream := self.streams.get(handle)) is None:
            raise DeviceError(
                f"a stream must be the .ptr of a live stream, got {handle}", fix="hold cupy.cuda.Stream()"
            )
        return stream

    def entered(self) -> list[Stream]:
        """The `with` blocks of streams that the running thread is in."""
        return self._entered[self.machine.threads.running]

    def current_stream(self) -> Stream:
        """The innermost of them."""
        if not self.entered():
            raise DeviceError("a stream must be given or entered, got the default stream", fix="use `with stream:`")
        return self.entered()[-1]

    # Memory

    def find_device_memory(self, address: int, nbytes: int) -> tuple[SimulatedBuffer, int]:
        """The device memory that has so much room at that address, and how far into it that is."""
        found = [(each, address - start) for start, each in list(self.device_memory.items()) if start <= address]
        buffer, offset = max(found, key=lambda each: each[0].address, default=(None, 0))
        if buffer is None or offset >= buffer.nbytes or offset + nbytes > buffer.nbytes:
            room = "none" if buffer is None or offset >= buffer.nbytes else f"{buffer.nbytes - offset} bytes"
            raise DeviceError(
                f"device memory at {address:#x} must have {nbytes} bytes, got {room}",
                fix="pass the .ptr of cupy.cuda.alloc(nbytes), or the .data.ptr of cupy.empty(shape), and hold it",
            )
        return buffer, offset

    def host_alloc(self, size: int) -> PinnedMemory:
        """`cudaHostAlloc`."""
        memory = PinnedMemory(self.device.empty_host((size,), np.uint8, HostMemory.PINNED))
        self._page_locked[memory.ptr] = memory
        return memory

    def point_at(self, memory: PinnedMemory, give_back: Callable[[PinnedMemory], Any]) -> Any:
        """The pointer that owns `memory`, which is given back once it and all arrays on it are gone."""
        pointer = pointer_type(memory.size).from_buffer(memory._buffer.raw)
        pointer.ptr, pointer.mem = memory.ptr, memory
        memory._holder = weakref.ref(pointer)
        weakref.finalize(pointer, self._dropped, memory, give_back).atexit = False
        return pointer

    def _dropped(self, memory: PinnedMemory, give_back: Callable[[PinnedMemory], Any]) -> None:
        self.machine.hazards.freed(memory._buffer)
        give_back(memory)

    def _free(self, memory: PinnedMemory) -> None:
        """`cudaFreeHost`. Its bytes are kept for a while, so that nothing else gets the address and a copy is found."""
        memory._buffer.forget()
        self._freed.append(memory)

    def _set_allocator(self, allocator: Callable[[int], Any] | None = None) -> None:
        self._allocate = allocator or (lambda size: self.point_at(self.host_alloc(size), self._free))

    def _empty_pinned(self, shape: int | Sequence[int], dtype: Any = float) -> np.ndarray:
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return np.ndarray(shape, dtype, buffer=self._allocate(nbytes))

    def _host_register(self, ptr: int, size: int, flags: int) -> None:
        self.machine.memory.register()
        memory = PinnedMemory(WatchedBuffer(_bytes_at(ptr, size), HostMemory.REGISTERED, self.machine.hazards))
        self._registered[ptr] = self._page_locked[ptr] = memory

    def _host_unregister(self, ptr: int) -> None:
        if ptr not in self._registered:
            raise DeviceError(
                f"memory must be registered to be unregistered, got {ptr:#x}", fix="hostRegister it first"
            )
        self.machine.memory.registered -= 1  # what it costs was not measured
        self.machine.hazards.freed(self._registered.pop(ptr)._buffer)

    def page_locked(self) -> list[PinnedMemory]:
        """All page-locked memory that a copy can use."""
        return list(self._page_locked.values())

    # Copies

    def _memcpy_async(self, dst: int, src: int, size: int, kind: int, stream: int) -> None:
        if kind not in (_TO_DEVICE, _TO_HOST):
            raise SettingsError(
                f"kind must be {_TO_DEVICE} or {_TO_HOST}, got {kind}", fix="use runtime.memcpyHostToDevice"
            )
        upload = kind == _TO_DEVICE
        host_address, device_address = (src, dst) if upload else (dst, src)
        lane, (device, offset) = self.find_stream(stream), self.find_device_memory(device_address, size)
        host = self._find_host(host_address, size)
        at_once = host.memory.page_locked and not self.capture()
        if upload:
            self.device.upload(host, device, lane, offset)
            if at_once and not self.machine.moves_bytes and (work := lane.lane.last) is not None:
                self.machine.hazards.compare(host, work)  # as a device that moves bytes has done already
        else:
            if at_once and self.machine.moves_bytes:
                host.raw.fill(0xFF)
                self.machine.hazards.landed(host.raw)
            self.device.download(device, host, lane, offset)

    def _find_host(self, address: int, nbytes: int) -> HostBuffer:
        for memory in self.page_locked():
            if memory.ptr <= address < memory.ptr + memory.size:
                if (graph := self.capture()) is not None:
                    self.captured[graph].append(memory._holder)
                return memory.part(address, nbytes)
        return HostBuffer(_bytes_at(address, nbytes))

    # Ranges

    @contextmanager
    def _annotate(
        self, message: str, color: Any = None, domain: Any = None, category: Any = None, payload: Any = None
    ) -> Iterator[None]:
        with self.device.range(message):
            yield

    def _push_range(
        self, message: str, color: Any = None, domain: Any = None, category: Any = None, payload: Any = None
    ) -> None:
        pushed = self.device.range(message)
        pushed.__enter__()
        self._pushed[self.machine.threads.running].append(pushed)

    def _pop_range(self, domain: Any = None) -> None:
        self._pushed[self.machine.threads.running].pop().__exit__()


def _bytes_at(address: int, nbytes: int) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_ubyte * nbytes).from_address(address))
