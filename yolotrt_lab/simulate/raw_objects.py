"""CuPy's memory, streams, events and graphs on the simulated device.

What begins with an underscore is the simulation's own; every other name is the library's. Calls find streams by handle
and memory by address, as CUDA's do: `Space` knows which there are.
"""

from __future__ import annotations

import ctypes
import weakref
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from copy import copy
from difflib import get_close_matches
from functools import cache, partial
from itertools import count
from typing import Any, SupportsIndex

import numpy as np

from ..device import HostBuffer
from ..errors import DeviceError, HazardError, MissingNameError, SettingsError
from ..types import HostMemory, TensorSpec
from .hazards import WatchedBuffer
from .host_arrays import array_at
from .machine import SimulatedBuffer
from .simulated import SimulatedDevice
from .streams import SimulatedGraph, SimulatedStream
from .virtual_time import Line, calling_line

TO_DEVICE, TO_HOST = 1, 2  # cudaMemcpyKind
_SMALLEST_BLOCK = 512  # bytes, of CuPy's pool


class Space:
    """The streams and the memory of one simulated device, by handle and by address, and copies between addresses."""

    _handles = count(0x5000_0000, 16)  # for all devices: a stream of another is found by none

    def __init__(self, device: SimulatedDevice) -> None:
        self.device, self.machine = device, device.machine
        self.captured: defaultdict[SimulatedGraph, list[weakref.ref[Any]]] = defaultdict(list)
        self._streams: weakref.WeakValueDictionary[int, SimulatedStream] = weakref.WeakValueDictionary()
        self._device_memory: weakref.WeakValueDictionary[int, SimulatedBuffer] = weakref.WeakValueDictionary()
        self._page_locked: weakref.WeakValueDictionary[int, PinnedMemory] = weakref.WeakValueDictionary()
        self._registered: dict[int, PinnedMemory] = {}
        self._freed: deque[PinnedMemory] = deque(maxlen=8)
        self._current: dict[Any, Stream] = {}
        self.reused: Counter[tuple[Line | None, int]] = Counter()
        """How often a pool gave page-locked memory again: on which line of the program, and how many bytes of it."""
        self.captured_cold: list[Line | None] = []
        """The lines on which a capture took the first run of an execution context."""

    # Streams

    def stream(self, priority: int) -> tuple[int, SimulatedStream]:
        """A new stream, and its handle."""
        handle, stream = next(self._handles), self.device.stream(priority=priority)
        self._streams[handle] = stream
        return handle, stream

    def find_stream(self, handle: int) -> SimulatedStream:
        """The stream of that handle."""
        if (stream := self._streams.get(handle)) is None:
            raise DeviceError(
                f"a stream must be the .ptr of a live stream, got {handle}", fix="hold cupy.cuda.Stream()"
            )
        return stream

    def swap_current(self, stream: Stream | None) -> Stream | None:
        """From now on this is the running thread's stream; returns the one before. None is the default stream."""
        thread = self.machine.threads.running
        before = self._current.pop(thread, None)
        if stream is not None:
            self._current[thread] = stream
        return before

    def current_stream(self) -> Stream:
        """That of the running thread: it entered or uses it."""
        if (stream := self._current.get(self.machine.threads.running)) is None:
            raise DeviceError("a stream must be given or entered, got the default stream", fix="use `with stream:`")
        return stream

    def capture(self) -> SimulatedGraph | None:
        """The graph that takes what the running thread submits."""
        return self.machine.captures.get(self.machine.threads.running)

    # Memory

    def device_alloc(self, size: int) -> SimulatedBuffer:
        """`cudaMalloc`."""
        buffer = self.device.empty_device(size)
        self._device_memory[buffer.address] = buffer
        return buffer

    def find_device_memory(self, address: int, nbytes: int) -> tuple[SimulatedBuffer, int]:
        """The device memory that has so much room at that address, and how far into it that is."""
        found = [(each, address - start) for start, each in list(self._device_memory.items()) if start <= address]
        buffer, offset = max(found, key=lambda each: each[0].address, default=(None, 0))
        if buffer is None or offset >= buffer.nbytes or offset + nbytes > buffer.nbytes:
            room = "none" if buffer is None or offset >= buffer.nbytes else f"{buffer.nbytes - offset:,} bytes"
            raise DeviceError(
                f"device memory at {address:#x} must have {nbytes:,} bytes, got {room}",
                fix="pass the .ptr of cupy.cuda.alloc(nbytes), or the .data.ptr of cupy.empty(shape), and hold it",
            )
        return buffer, offset

    def host_alloc(self, size: int) -> PinnedMemory:
        """`cudaHostAlloc`."""
        memory = PinnedMemory(self.device.empty_host((size,), np.uint8, HostMemory.PINNED))
        self._page_locked[memory.ptr] = memory
        return memory

    def host_free(self, memory: PinnedMemory) -> None:
        """`cudaFreeHost`. Its bytes are kept for a while, so that nothing else gets the address and a copy is found."""
        memory._buffer.forget()
        self._freed.append(memory)

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

    def host_register(self, ptr: int, size: int, flags: int) -> None:
        """`cudaHostRegister`."""
        self.machine.memory.register()
        array, raw = _bytes_at(ptr, size)
        buffer = WatchedBuffer(raw, HostMemory.REGISTERED, self.machine.hazards)
        buffer.owner = array  # a program that drops it leaks it, and ends by no fault of memory
        self._registered[ptr] = self._page_locked[ptr] = PinnedMemory(buffer)

    def host_unregister(self, ptr: int) -> None:
        """`cudaHostUnregister`; what it costs was not measured."""
        if ptr not in self._registered:
            raise DeviceError(
                f"memory must be registered to be unregistered, got {ptr:#x}", fix="hostRegister it first"
            )
        self.machine.memory.registered -= 1
        self.machine.hazards.freed(self._registered.pop(ptr)._buffer)

    def page_locked(self) -> list[PinnedMemory]:
        """All page-locked memory that a copy can use."""
        return list(self._page_locked.values())

    def page_locked_at(self, address: int) -> PinnedMemory | None:
        """That which has this address; None for any other memory."""
        return next((each for each in self.page_locked() if each.ptr <= address < each.ptr + each.size), None)

    # Copies

    def memcpy_async(self, dst: int, src: int, size: int, kind: int, stream: int) -> None:
        """`cudaMemcpyAsync`."""
        if kind not in (TO_DEVICE, TO_HOST):
            raise SettingsError(
                f"kind must be {TO_DEVICE} or {TO_HOST}, got {kind}", fix="use runtime.memcpyHostToDevice"
            )
        host_address, device_address = (src, dst) if kind == TO_DEVICE else (dst, src)
        lane, (device, offset) = self.find_stream(stream), self.find_device_memory(device_address, size)
        host, hazards, moves_bytes = self._find_host(host_address, size), self.machine.hazards, self.machine.moves_bytes
        at_once = host.memory.page_locked and self.capture() is None
        if kind == TO_DEVICE:
            self.device.upload(host, device, lane, offset)
            if at_once and not moves_bytes and (work := lane.lane.last) is not None:
                hazards.compare(host, work)  # as a device that moves bytes has done already
        else:
            if at_once and moves_bytes:
                hazards.write(host.raw, partial(host.raw.fill, 0xFF))
            self.device.download(device, host, lane, offset)

    def _find_host(self, address: int, nbytes: int) -> HostBuffer:
        if (memory := self.page_locked_at(address)) is None:
            array, raw = _bytes_at(address, nbytes)
            return HostBuffer(raw, owner=array)
        if (graph := self.capture()) is not None:
            self.captured[graph].append(memory._holder)
        return memory._part(address, nbytes)


def _bytes_at(address: int, nbytes: int) -> tuple[Any, np.ndarray]:
    """Memory of the host, and the array that has it."""
    if (array := array_at(address, nbytes)) is None:
        raise HazardError(
            f"host memory must be that of a live array, got {nbytes:,} bytes that none has",
            fix="hold the array in a variable until the copy is over; its .ctypes.data alone keeps nothing",
            lines=(calling_line(),),
        )
    return array, np.ctypeslib.as_array((ctypes.c_ubyte * nbytes).from_address(address))


class Names:
    """Answers a public name that it does not have with an error that lists those that it has."""

    def __getattr__(self, name: str) -> Any:
        title = vars(self).get("__name__", type(self).__name__)
        if name.startswith("_"):
            raise AttributeError(f"{title} has no {name}")
        there = [each for each in dir(self) if not each.startswith("_")]
        raise MissingNameError(
            f"the simulated {title} has no {name!r}; it has {', '.join(there)}",
            fix=f"use {(get_close_matches(name, there, 1) or ['one of these'])[0]}; a GPU has the whole library",
        )


class Module(Names):
    """A module of those names."""

    def __init__(self, title: str, **names: Any) -> None:
        vars(self).update(names, __name__=title)


# Memory


class PinnedMemory(Names):
    """Page-locked memory, of `size` bytes at the address `ptr`. `_holder` gives None once nobody holds it any more."""

    def __init__(self, buffer: WatchedBuffer) -> None:
        self._buffer = buffer
        self._holder: weakref.ref[Any] = weakref.ref(self)
        self._copied = False  # by or to the device
        self.ptr, self.size = buffer.address, buffer.nbytes

    def _part(self, address: int, nbytes: int) -> HostBuffer:
        """That part of it, for a copy."""
        offset = address - self.ptr
        if offset + nbytes > self.size:
            raise DeviceError(
                f"a copy must fit the {self.size:,} bytes of pinned memory, got {offset:,} + {nbytes:,}",
                fix="allocate more",
            )
        if self._holder() is None:
            raise HazardError(
                f"a copy must use memory that is still held, got {nbytes:,} bytes that were freed or the pool has back",
                fix="hold what alloc_pinned_memory returned, or an array on it, until the copy is done",
                lines=(calling_line(),),
            )
        self._copied = True
        return self._buffer.part(offset, nbytes)


class _Pointer(Names):
    """What owns a `PinnedMemory`, and is a buffer of its bytes: `np.frombuffer` keeps it alive."""

    ptr: int
    mem: PinnedMemory

    def size(self) -> int:
        """Bytes."""
        return self.mem.size


@cache
def pointer_type(nbytes: int) -> Any:
    """The type of pointers to that many bytes; a buffer's size is part of its type in ctypes."""
    return type("PinnedMemoryPointer", (_Pointer, ctypes.c_ubyte * nbytes), {})


class PinnedMemoryPool(Names):
    """Keeps blocks that were given back, by size: each size is rounded up to a power of two."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._free: defaultdict[int, list[PinnedMemory]] = defaultdict(list)

    def malloc(self, size: int) -> Any:
        """A block from the pool, or a new one."""
        rounded = max(1 << (size - 1).bit_length(), _SMALLEST_BLOCK)
        free = self._free[rounded]
        if free:
            self._space.reused[self._space.machine.hazards.line_now(), size] += 1
        memory = free.pop() if free else self._space.host_alloc(rounded)
        return self._space.point_at(memory, free.append)

    def n_free_blocks(self) -> int:
        """How many blocks wait for the next call."""
        return sum(map(len, self._free.values()))

    def free_all_blocks(self) -> None:
        """Free those."""
        self._free.clear()


class DeviceMemory(Names):
    """`cupy.cuda.MemoryPointer`: device memory at the address `ptr`."""

    def __init__(self, space: Space, size: int) -> None:
        self._buffer = space.device_alloc(size)
        self.ptr = self._buffer.address

    def _at(self, offset: int) -> DeviceMemory:
        """So many bytes into it: the same memory, and held by this as well."""
        part = copy(self)
        part.ptr += offset
        return part


class DeviceArray(Names):
    """`cupy.ndarray`: its device memory is `data`. An index along the first axis is a view."""

    def __init__(
        self, space: Space, shape: int | Sequence[int], dtype: Any = float, data: DeviceMemory | None = None
    ) -> None:
        spec = TensorSpec("", (shape,) if isinstance(shape, int) else tuple(shape), np.dtype(dtype))
        self.shape, self.dtype, self.nbytes = spec.shape, spec.dtype, spec.nbytes
        self.size = self.nbytes // self.dtype.itemsize
        self.data = data or DeviceMemory(space, self.nbytes)
        self._space = space

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed: use .get()")

    def __getitem__(self, index: int | slice) -> DeviceArray:
        places = range(self.shape[0] if self.shape else 0)[index] if isinstance(index, SupportsIndex | slice) else None
        if places is None or (isinstance(places, range) and places.step != 1):
            raise SettingsError(
                f"an index of the simulated cupy.ndarray must be a whole number or a slice of step 1, got {index!r}",
                fix="index the first axis alone; a GPU has the whole library",
            )
        first, shape = (places.start, (len(places),)) if isinstance(places, range) else (places, ())
        row = self.nbytes // self.shape[0] if self.shape[0] else 0
        return DeviceArray(self._space, (*shape, *self.shape[1:]), self.dtype, self.data._at(first * row))

    def set(self, arr: np.ndarray, stream: Stream | None = None) -> None:
        """Copy an array of the host into it."""
        self._check(arr)
        arr, stream = np.ascontiguousarray(arr), stream or self._space.current_stream()
        self._space.memcpy_async(self.data.ptr, arr.ctypes.data, self.nbytes, TO_DEVICE, stream.ptr)

    def get(
        self, stream: Stream | None = None, order: str = "C", out: np.ndarray | None = None, blocking: bool = True
    ) -> np.ndarray:
        """Copy it into an array of the host, and wait for that unless `blocking` is False."""
        out = np.empty(self.shape, self.dtype) if out is None else out
        self._check(out)
        stream = stream or self._space.current_stream()
        self._space.memcpy_async(out.ctypes.data, self.data.ptr, self.nbytes, TO_HOST, stream.ptr)
        if blocking:
            stream.synchronize()
        return out

    def _check(self, array: np.ndarray) -> None:
        if (array.shape, array.dtype) != (self.shape, self.dtype):
            raise SettingsError(
                f"the host's array must be {self.dtype} {self.shape}, got {array.dtype} {array.shape}",
                fix="copy between arrays of one dtype and shape",
            )


# Streams


class Event(Names):
    """`cupy.cuda.Event`."""

    def __init__(
        self, space: Space, block: bool = False, disable_timing: bool = False, interprocess: bool = False
    ) -> None:
        self._space = space
        self._timed = not disable_timing
        self._event = space.device.event()

    @property
    def done(self) -> bool:
        """True once everything in front of it has run."""
        return self._event.done

    def record(self, stream: Stream | None = None) -> None:
        """Put it behind everything submitted so far."""
        self._space.machine.refuse_in_capture("cudaEventRecord")
        (stream or self._space.current_stream())._stream.record(self._event)

    def synchronize(self) -> None:
        """Hold the host until `done`."""
        self._event.synchronize()


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    """Milliseconds of device time between them."""
    if not (start_event._timed and end_event._timed):
        raise DeviceError("both events must be timed, got one with disable_timing", fix="create it by Event()")
    return end_event._event.elapsed_ns(start_event._event) / 1e6


class Stream(Names):
    """`cupy.cuda.Stream`. There is no default stream here, so a blocking one has none to wait for."""

    def __init__(self, space: Space, *, non_blocking: bool = False, priority: int | None = None) -> None:
        self._space, self._before = space, list[Stream | None]()
        self.ptr, self._stream = space.stream(priority or 0)

    def __enter__(self) -> Stream:
        self._before.append(self._space.swap_current(self))
        return self

    def __exit__(self, *_: object) -> None:
        self._space.swap_current(self._before.pop())

    def use(self) -> Stream:
        """From now on it is the running thread's stream."""
        self._space.swap_current(self)
        return self

    @property
    def done(self) -> bool:
        """`cudaStreamQuery`: True once everything submitted so far has run."""
        return self._stream.done

    def synchronize(self) -> None:
        """`cudaStreamSynchronize`."""
        self._stream.synchronize()

    def record(self, event: Event | None = None) -> Event:
        """Put an event behind everything submitted so far."""
        event = Event(self._space) if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """What is submitted from here on starts after the event."""
        self._stream.wait(event._event)

    def begin_capture(self, mode: int | None = None) -> None:
        """From here on the thread's work goes into a graph."""
        self._stream.begin_capture()

    def end_capture(self) -> Graph:
        """The graph."""
        return Graph(self._space, self._stream.end_capture())


class ExternalStream(Stream):
    """`cupy.cuda.ExternalStream`: a stream that is there, by its handle."""

    def __init__(self, space: Space, ptr: int, device_id: int = -1) -> None:
        self._space, self._before = space, []
        self.ptr, self._stream = ptr, space.find_stream(ptr)


class Graph(Names):
    """`cupy.cuda.Graph`. It knows memory by address alone and keeps none of it."""

    def __init__(self, space: Space, graph: SimulatedGraph) -> None:
        self._space, self._graph, self._holders = space, graph, space.captured.pop(graph, [])

    def launch(self, stream: Stream | None = None) -> None:
        """`cudaGraphLaunch`."""
        if any(holder() is None for holder in self._holders):
            raise HazardError(
                "a graph is launched on pinned memory that was freed",
                fix="hold it as long as the graph",
                lines=(calling_line(),),
            )
        self._graph.launch((stream or self._space.current_stream())._stream)
