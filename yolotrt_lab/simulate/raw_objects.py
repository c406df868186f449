"""The objects behind `namespace.py`: CuPy's memory, streams, events and graphs, and TensorRT's execution context.

What begins with an underscore is the simulation's own; every other name is the library's.
"""

from __future__ import annotations

import ctypes
import weakref
from collections import defaultdict
from collections.abc import Sequence
from copy import copy
from functools import cache, partial
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from ..device import HostBuffer
from ..engine import OneThread
from ..errors import DeviceError, HazardError, MissingNameError, SettingsError
from ..types import TensorSpec
from .hazards import WatchedBuffer
from .machine import SimulatedBuffer
from .streams import SimulatedGraph
from .timed_engine import SPIN, SimulatedEngine, compute_into, touches_of
from .virtual_time import calling_line

if TYPE_CHECKING:
    from .namespace import Namespace

_SMALLEST_BLOCK = 512  # bytes, of CuPy's pool


class Names:
    """Answers a public name that it does not have with an error that lists those that it has."""

    def __getattr__(self, name: str) -> Any:
        title = vars(self).get("__name__", type(self).__name__)
        if name.startswith("_"):
            raise AttributeError(f"{title} has no {name}")
        there = ", ".join(each for each in dir(self) if not each.startswith("_"))
        raise MissingNameError(
            f"a name of the simulated {title} must be one of {there}, got {name!r}",
            fix="use one of these; a GPU has the whole library",
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

    def part(self, address: int, nbytes: int) -> HostBuffer:
        """That part of it, for a copy."""
        offset = address - self.ptr
        if offset + nbytes > self.size:
            raise DeviceError(
                f"a copy must fit the {self.size} bytes of pinned memory, got {offset} + {nbytes}", fix="allocate more"
            )
        if self._holder() is None:
            raise HazardError(
                f"a copy must use memory that is still held, got {nbytes} bytes that were freed or the pool has back",
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

    def __init__(self, space: Namespace) -> None:
        self._space = space
        self._free: defaultdict[int, list[PinnedMemory]] = defaultdict(list)

    def malloc(self, size: int) -> Any:
        """A block from the pool, or a new one."""
        rounded = max(1 << (size - 1).bit_length(), _SMALLEST_BLOCK)
        free = self._free[rounded]
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

    def __init__(self, space: Namespace, size: int) -> None:
        self._buffer = space.device.empty_device(size)
        self.ptr = self._buffer.address
        space.device_memory[self.ptr] = self._buffer

    def _at(self, offset: int) -> DeviceMemory:
        """So many bytes into it: the same memory, and held by this as well."""
        part = copy(self)
        part.ptr += offset
        return part


class DeviceArray(Names):
    """`cupy.ndarray`: its device memory is `data`. An index along the first axis is a view."""

    def __init__(
        self, space: Namespace, shape: int | Sequence[int], dtype: Any = float, data: DeviceMemory | None = None
    ) -> None:
        spec = TensorSpec("", (shape,) if isinstance(shape, int) else tuple(shape), np.dtype(dtype))
        self.shape, self.dtype, self.nbytes = spec.shape, spec.dtype, spec.nbytes
        self.size = self.nbytes // self.dtype.itemsize
        self.data = data or DeviceMemory(space, self.nbytes)
        self._space = space

    def __len__(self) -> int:
        return self.shape[0]

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


# Streams


class Event(Names):
    """`cupy.cuda.Event`."""

    def __init__(
        self, space: Namespace, block: bool = False, disable_timing: bool = False, interprocess: bool = False
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

    def __init__(self, space: Namespace, *, non_blocking: bool = False, priority: int | None = None) -> None:
        self._space = space
        self._stream = space.device.stream(priority=priority or 0)
        self.ptr = next(space.handles)
        space.streams[self.ptr] = self._stream

    def __enter__(self) -> Stream:
        self._space.entered().append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._space.entered().pop()

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


class Graph(Names):
    """`cupy.cuda.Graph`. It knows memory by address alone and keeps none of it."""

    def __init__(self, space: Namespace, graph: SimulatedGraph) -> None:
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


class RawKernel(Names):
    """`cupy.RawKernel` for `simulate.SPIN`, the one kernel whose time is known without measuring it."""

    def __init__(self, space: Namespace, code: str, name: str) -> None:
        if (code, name) != (SPIN.source, SPIN.name):
            raise SettingsError(f"the simulated kernel must be {SPIN.name!r}, got {name!r}", fix="use SPIN.source")
        self._space = space

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...]) -> None:
        """Launch it in the stream that was entered."""
        space = self._space
        space.device.launch(SPIN, (1, 1, 1), args, space.current_stream()._stream)


class ExecutionContext(Names):
    """`IExecutionContext` of a simulated engine, at its cost. As TensorRT's it keeps no memory alive."""

    def __init__(self, space: Namespace, engine: SimulatedEngine) -> None:
        self._space, self._engine, self._thread = space, engine, OneThread()
        self._specs = {spec.name: spec for spec in (*engine.inputs, *engine.outputs)}
        self._bound: dict[str, weakref.ref[SimulatedBuffer]] = {}

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        """False for another shape than the engine's."""
        return any(spec.name == name and spec.shape == tuple(shape) for spec in self._engine.inputs)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """The shape of that tensor."""
        return self._specs[name].shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        """Bind device memory to a tensor; False for a name that the engine lacks."""
        if name not in self._specs:
            return False
        buffer, offset = self._space.find_device_memory(address, self._specs[name].nbytes)
        if offset:
            raise DeviceError(
                f"a tensor must lie at the begin of device memory here, got {offset} bytes into it",
                fix="allocate memory for each tensor",
            )
        self._bound[name] = weakref.ref(buffer)
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        """Submit one inference; False while a tensor has no address."""
        if self._bound.keys() != self._specs.keys():
            return False
        self._thread.check()
        engine, space = self._engine, self._space
        buffers = {name: memory for name, reference in self._bound.items() if (memory := reference()) is not None}
        if len(buffers) < len(self._bound):
            raise HazardError(
                "an inference runs on device memory that was freed", fix="hold the arrays", lines=(calling_line(),)
            )
        capture = space.capture() is not None  # a graph keeps no memory
        kept: Any = weakref.WeakValueDictionary(buffers) if capture else buffers
        action = partial(compute_into, engine, engine.compute, kept) if engine.compute else None
        stream = space.find_stream(stream_handle)
        space.device.run_kernels(engine.label, engine.cost, stream, action, self._thread, touches_of(engine, buffers))
        return True
