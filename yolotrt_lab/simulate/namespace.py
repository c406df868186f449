"""CuPy's, TensorRT's and nvtx's names on the simulated device: those that raw loops use, and no others.

A host address in pinned or registered memory is page-locked; any other is pageable memory. Where the device moves
bytes, those of a download into page-locked memory are 0xFF until it has run, which is NaN as a float: who reads them
earlier sees that it was too early.
"""

from __future__ import annotations

import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..device import Device
from ..errors import DeviceError, HazardError, SettingsError
from ..packages import load
from ..vision import Letterbox, naive_letterbox
from .machine import SimulatedBuffer
from .raw_objects import (
    TO_DEVICE,
    TO_HOST,
    DeviceArray,
    DeviceMemory,
    Event,
    ExternalStream,
    Module,
    Names,
    PinnedMemoryPool,
    Space,
    Stream,
    get_elapsed_time,
)
from .simulated import SimulatedDevice
from .timed_engine import SPIN, SimulatedEngine, compute_into, inference
from .virtual_time import calling_line


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
    (2390875, 8388608)
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


class RawKernel(Names):
    """`cupy.RawKernel` for `simulate.SPIN`, the one kernel whose time is known without measuring it."""

    def __init__(self, space: Space, code: str, name: str) -> None:
        if (code, name) != (SPIN.source, SPIN.name):
            raise SettingsError(f"the simulated kernel must be {SPIN.name!r}, got {name!r}", fix="use SPIN.source")
        self._space = space

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...]) -> None:
        """Launch it in the stream that was entered."""
        space = self._space
        space.device.launch(SPIN, (1, 1, 1), args, space.current_stream()._stream)


class ExecutionContext(Names):
    """`IExecutionContext` of a simulated engine, at its cost. As TensorRT's it keeps no memory alive."""

    def __init__(self, space: Space, engine: SimulatedEngine) -> None:
        self._space, self._engine = space, engine
        self._specs = {spec.name: spec for spec in (*engine.inputs, *engine.outputs)}
        self._bound: dict[str, weakref.ref[SimulatedBuffer]] = {}
        self._has_run = False

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
        engine, space = self._engine, self._space
        buffers = {name: memory for name, reference in self._bound.items() if (memory := reference()) is not None}
        if len(buffers) < len(self._bound):
            raise HazardError(
                "an inference runs on device memory that was freed", fix="hold the arrays", lines=(calling_line(),)
            )
        capture = space.capture() is not None  # a graph keeps no memory
        if capture and not self._has_run:
            space.captured_cold.append(space.machine.hazards.line_now())
        self._has_run = True
        kept: Any = weakref.WeakValueDictionary(buffers) if capture else buffers
        action = partial(compute_into, engine, engine.compute, kept) if engine.compute else None
        stream = space.find_stream(stream_handle)
        space.device.run_kernels(inference(engine, buffers, self), engine.cost, stream, action)
        return True


class Namespace(Space):
    """The modules of one simulated device."""

    def __init__(self, device: SimulatedDevice) -> None:
        super().__init__(device)
        self._pushed: defaultdict[Any, list[Any]] = defaultdict(list)
        self._pool = PinnedMemoryPool(self)
        self._allocate: Callable[[int], Any] = self._pool.malloc
        self.modules = self._modules()

    def _modules(self) -> RawModules:
        synchronize = self.device.synchronize
        runtime = Module(
            "cupy.cuda.runtime",
            memcpyAsync=self.memcpy_async,
            memcpyHostToDevice=TO_DEVICE,
            memcpyDeviceToHost=TO_HOST,
            streamSynchronize=lambda stream: self.find_stream(stream).synchronize(),
            deviceSynchronize=synchronize,
            hostRegister=self.host_register,
            hostUnregister=self.host_unregister,
        )
        cuda = Module(
            "cupy.cuda",
            runtime=runtime,
            Device=lambda device=0: Module("cupy.cuda.Device", id=0, synchronize=synchronize),
            Stream=partial(Stream, self),
            ExternalStream=partial(ExternalStream, self),
            get_current_stream=self.current_stream,
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
            Module(
                "cupyx",
                empty_pinned=self._pinned,
                zeros_pinned=partial(self._pinned, fill=0),
                empty_like_pinned=lambda array: self._pinned(array.shape, array.dtype),
                zeros_like_pinned=lambda array: self._pinned(array.shape, array.dtype, fill=0),
            ),
            Module("tensorrt", __version__=f"simulated, preset {self.device.preset.name}"),
            Module("nvtx", annotate=self._annotate, push_range=self._push_range, pop_range=self._pop_range),
            Module("time", perf_counter_ns=self.device.now_ns),
        )

    def context(self, engine: SimulatedEngine) -> ExecutionContext:
        """A new execution context."""
        return ExecutionContext(self, engine)

    def _set_allocator(self, allocator: Callable[[int], Any] | None = None) -> None:
        self._allocate = allocator or (lambda size: self.point_at(self.host_alloc(size), self.host_free))

    def _pinned(self, shape: int | Sequence[int], dtype: Any = float, fill: int | None = None) -> np.ndarray:
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        array: np.ndarray = np.ndarray(shape, dtype, buffer=self._allocate(nbytes))
        if fill is not None:
            self.machine.hazards.write(array, partial(array.fill, fill))
        return array

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
