"""What a graded loop sees: a fresh device, the names of the notebooks' raw cells on it, frames, and where results go.

Each frame is of one colour, its number, and the engine's output is the colour of its input. So a result says which
frame it is of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np

from ..device import Device
from ..engine import Engine, open_engine
from ..errors import SettingsError, ShapeError
from ..simulate import Preset, SimulatedDevice, SimulatedEngine, open_letterbox, open_timed_engine, raw_modules
from ..simulate.hazards import READ, WRITE
from .exercise import Exercise

FRAMES = 16
"""Of a simulated run."""

MODEL = "yolov8n-fp16"
READY = 8
"""Images that the camera has in pinned memory, in turn."""


class Names:
    """The names that a loop finds on a device, as the notebooks' raw cells make them, and `new_context`. `engine_of`
    opens the engine for a batch, by default YOLOv8n's.
    """

    def __init__(self, device: Device, engine_of: Callable[[int], Engine] | None = None) -> None:
        self._device = device
        self._engines: dict[int, Engine] = {}
        self._contexts: dict[int, list[tuple[Any, Any, Any]]] = {}
        self._taken: Counter[int] = Counter()
        self._open = engine_of or (lambda batch: open_engine(device, batch=batch))
        cupy, cupyx, tensorrt, nvtx, time = raw_modules(device)
        self.cupy, self.cupyx = cupy, cupyx
        context, d_image, d_output = self.new_context()
        block = cupy.cuda.alloc_pinned_memory(d_output.nbytes)
        runtime = cupy.cuda.runtime
        self.engine = engine = self._engines[1]
        self.all = {
            "np": np, "cupy": cupy, "cupyx": cupyx, "tensorrt": tensorrt, "nvtx": nvtx, "time": time,
            "memcpy_async": runtime.memcpyAsync, "TO_DEVICE": runtime.memcpyHostToDevice,
            "TO_HOST": runtime.memcpyDeviceToHost, "image_spec": engine.inputs[0], "output_spec": engine.outputs[0],
            "stream": cupy.cuda.Stream(non_blocking=True), "context": context, "d_image": d_image, "d_output": d_output,
            "block": block, "h_output": np.frombuffer(block, d_output.dtype, d_output.size).reshape(d_output.shape),
            "letterbox": open_letterbox(device), "new_context": self.new_context,
        }  # fmt: skip

    def new_context(self, batch: int = 1) -> tuple[Any, Any, Any]:
        """An execution context for so many frames at once, and device memory for its input and output, bound to it."""
        made, place = self._contexts.setdefault(batch, []), self._taken[batch]
        self._taken[batch] += 1
        if place == len(made):
            made.append(self._make_context(batch))
        return made[place]

    def start_over(self) -> None:
        """As before the last run: CuPy's own pool, with nothing in it. `new_context` gives the same ones again, since
        creating them may take seconds.
        """
        pool = self.cupy.get_default_pinned_memory_pool()
        pool.free_all_blocks()
        self.cupy.cuda.set_pinned_memory_allocator(pool.malloc)
        self._taken = Counter({1: 1})  # the first one is `context`

    def _make_context(self, batch: int) -> tuple[Any, Any, Any]:
        engine = self._engines.get(batch) or self._engines.setdefault(batch, self._open(batch))
        context, (image, output) = engine.raw_context(self._device), (engine.inputs[0], engine.outputs[0])
        d_image, d_output = (self.cupy.empty(spec.shape, spec.dtype) for spec in (image, output))
        context.set_input_shape(image.name, image.shape)
        context.set_tensor_address(image.name, d_image.data.ptr)
        context.set_tensor_address(output.name, d_output.data.ptr)
        return context, d_image, d_output


class SimulatedRig:
    """Frames and results on the simulated device. `numbers` are those of the results, None for one without a number."""

    def __init__(self, exercise: Exercise | None, preset: Preset) -> None:
        self.device = SimulatedDevice(preset, trace=True, moves_bytes=True)
        self.machine = self.device.machine
        self.trace: Any = self.machine.trace
        self.gpu_ns: dict[str, int] = {}
        self.names = Names(self.device, self._open).all | {"letterbox": self.letterbox}
        self.numbers: list[int | None] = []
        self.spent: list[tuple[str, int, int, tuple[str, int] | None]] = []
        """The host's own work: what it is, and from when to when, on which line."""
        self.held: list[tuple[int, int, int]] = []
        """At each frame: bytes of host and of device memory, and pieces of registered memory."""
        self._ready = exercise is not None and exercise.camera == "ready"
        self._ring: list[np.ndarray] = []
        self._range: Any = self.device.range("a frame of the check")
        self._range.cost_ns = 0
        self.done_ns: list[int] = []
        """When each result was handed over."""

    def _open(self, batch: int) -> Engine:
        timed = open_timed_engine(self.device, MODEL, None, batch)
        self.gpu_ns[timed.label] = timed.cost.gpu_ns
        return SimulatedEngine(timed.label, timed.cost, timed.inputs, timed.outputs, _colours)

    def take(self) -> Iterator[np.ndarray]:
        """The frames, in turn."""
        shape = self.names["image_spec"].shape
        self._ring = [self.names["cupyx"].empty_pinned(shape, np.float32) for _ in range(READY * self._ready)]
        ring = cycle(self._ring)
        memory = self.machine.memory
        for number in range(FRAMES):
            self.held.append((memory.host_bytes, memory.device_bytes, memory.registered))
            if self._ready:
                frame = next(ring)
                self._write(frame, number + 1)
            else:
                frame = np.broadcast_to(np.uint8(number + 1), (1080, 1920, 3))
            with self._range:
                yield frame
        self.held.append((memory.host_bytes, memory.device_bytes, memory.registered))

    def letterbox(self, frame: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """`open_letterbox`, for frames of one colour."""
        kind = "naive_letterbox" if out is None else "letterbox"
        begin = self.device.now_ns()
        target = np.empty(self.names["image_spec"].shape, np.float32) if out is None else out
        self._write(target, int(frame[540, 960, 0]))
        self.device.host_work(kind)
        self.spent.append((kind.replace("_", " "), begin, self.device.now_ns(), self.machine.hazards.line_now()))
        return target

    def _write(self, target: np.ndarray, colour: int) -> None:
        self._check_known(target, WRITE)
        self.machine.hazards.write(target, partial(target.fill, colour / 255))

    def _check_known(self, array: np.ndarray, kind: str) -> None:
        begin = array.__array_interface__["data"][0]
        if (block := self.device.namespace.page_locked_at(begin)) is not None:
            self.machine.hazards.check_known(block._buffer.region, begin, begin + array.nbytes, kind)

    def done(self, result: Any) -> None:
        """Take the result of the frame that is next."""
        array = np.asarray(result)
        spec = self.names["output_spec"]
        if array.nbytes != spec.nbytes:
            raise ShapeError(
                f"done must get the network's output of one frame, {spec.nbytes:,} bytes, got {array.nbytes:,}",
                fix=f"hand over an array of shape {spec.shape[1:]}, or that with a 1 in front, and dtype {spec.dtype}",
            )
        self._check_known(array, READ)
        first, last = float(array.flat[0]) * 255, float(array.flat[-1]) * 255
        good = first == last and 0.5 < first < FRAMES + 0.5
        self.numbers.append(round(first) - 1 if good else None)
        self.done_ns.append(self.device.now_ns())


def _colours(inputs: Any) -> dict[str, np.ndarray]:
    (images,) = inputs.values()
    output = np.empty((len(images), 84, 8400), np.float32)
    for image, result in zip(images, output, strict=True):
        top, bottom = image[0, 150, 320], image[-1, 490, 320]
        result.fill(top if top == bottom else np.nan)
    return {"output0": output}


class LiveRig:
    """Frames and results on a GPU: `images` in turn. What comes back is compared with the engine's own results."""

    def __init__(self, exercise: Exercise | None, device: Device, images: list[np.ndarray]) -> None:
        self._images = images
        self._ready = exercise is not None and exercise.camera == "ready"
        self._device = device
        self._names = names = Names(device)
        self.names, spec = names.all, names.engine.inputs[0]
        self._ring = [names.cupyx.empty_pinned(spec.shape, spec.dtype) for _ in images]
        for pinned, image in zip(self._ring, images, strict=True):
            pinned[:] = self.names["letterbox"](image)
        expected = [names.engine.infer(device, {spec.name: each}) for each in self._ring]
        self._expected = [next(iter(each.values())) for each in expected]

    def run(self, loop: Callable[..., Any], frames: int, *, compare: bool) -> tuple[float, int]:
        """us a frame after the first quarter, and how many results were another frame's (with `compare`)."""
        ends: list[int] = []
        wrong = 0
        now = self._device.now_ns
        source = self._ring if self._ready else self._images

        def take() -> Iterator[np.ndarray]:
            for number in range(frames):
                yield source[number % len(source)]

        def done(result: np.ndarray) -> None:
            nonlocal wrong
            if compare:
                far = [float(np.abs(result.ravel() - each.ravel()).mean()) for each in self._expected]
                wrong += int(np.argmin(far)) != len(ends) % len(self._expected)
            ends.append(now())

        self._names.start_over()
        loop(take(), done)
        end = now()
        if len(ends) != frames:
            fix = "call done once a frame"
            raise SettingsError(f"the loop must hand over {frames} results, got {len(ends)}", fix=fix)
        skipped = frames // 4
        return (end - ends[skipped - 1]) / (frames - skipped) / 1e3, wrong
