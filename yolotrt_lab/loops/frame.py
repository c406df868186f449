"""The frame loop: what the public report ran, and what fixes it, by settings of one object.

Every stage is timed by the host and is an NVTX range of the same name, inside a range `frame`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from itertools import product

import numpy as np

from ..devices.base import Device, HostBuffer, Stream
from ..engines.base import Engine
from ..errors import SettingsError
from ..memory import Slot, SlotPool
from ..pixels import Fill, Pixels
from ..recording import Recording, joined
from ..types import Detections, Stage
from .base import Loop, captured
from .feed import check_images
from .settings import LoopSettings


class _Timer:
    """One stage: an NVTX range and, inside it, the host's time."""

    __slots__ = ("_begin", "_now", "_range", "ns")

    def __init__(self, device: Device, stage: Stage) -> None:
        self._now = device.now_ns
        self._range: AbstractContextManager[None] = device.range(str(stage))
        self._begin = 0
        self.ns = 0

    def __enter__(self) -> _Timer:
        self._range.__enter__()
        self._begin = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        self.ns = self._now() - self._begin
        self._range.__exit__(None, None, None)


_SUBMITTING = (Stage.WAIT, Stage.PREPROCESS, Stage.UPLOAD, Stage.INFER, Stage.DOWNLOAD)


@dataclass(slots=True)
class _Frame:
    """A frame on its way: what is known of it once it is submitted."""

    index: int
    due: int
    start: int
    slot: Slot
    host_ns: tuple[int, ...]
    keep: HostBuffer


def needs_overlap(engine: Engine, settings: LoopSettings) -> bool:
    """True where it takes the overlapped loop: for its settings, or for an engine of several frames at once."""
    return settings.overlapped or engine.inputs[0].shape[0] > 1


class FrameLoop(Loop):
    """A loop that is ready to run: memory allocated, engine bound, graph captured.

    `images` are uint8 BGR arrays (height, width, 3), used in turn; with `fill='ready'` the first of them alone. Without
    them (an engine that does not compute looks at no pixel) preprocessing writes nothing; the simulated device charges
    its cost all the same. With `postprocess` the boxes of the latest frame are in `detections`, and `on_boxes(frame,
    boxes)` is called for every frame after the warm-up.

    SettingsError where images are missing or none, and for what takes the overlapped loop; CaptureError where the
    engine cannot be captured.
    """

    def __init__(
        self,
        device: Device,
        engine: Engine,
        settings: LoopSettings,
        images: Sequence[np.ndarray] | None = None,
        *,
        on_boxes: Callable[[int, Detections], None] | None = None,
    ) -> None:
        super().__init__(device, engine, settings, on_boxes)
        if needs_overlap(engine, settings):
            raise SettingsError(
                "a FrameLoop has one frame at a time in one stream",
                fix="make_loop and run_loop take the loop that the settings and the engine need",
            )
        check_images(engine, images, sources=False)
        self._input_name, self._output_name = engine.inputs[0].name, engine.outputs[0].name
        self._stream = device.stream()
        self._context = engine.context(device)
        self._pool = SlotPool(
            device,
            engine.inputs,
            engine.outputs,
            slots=settings.collect_after + 1,
            input_memory=settings.input_memory,
            output_memory=settings.output_memory,
        )
        used = images if engine.computes else None
        if used is not None and settings.fill is Fill.READY:
            used = [used[0]]
        self._pixels = Pixels(device, engine, settings.input_memory, used, settings.confidence)
        self._fill: Callable[[int, Slot], HostBuffer] = getattr(self._pixels, settings.fill)
        if settings.fill is Fill.READY:
            for slot in self._pool.slots:
                self._pixels.in_place(0, slot)
        self._enqueue = self._capture() if settings.graph else self._context.enqueue
        self._in_flight: deque[_Frame] = deque()

    def _capture(self) -> Callable[[Stream], None]:
        """The engine as a CUDA graph. It runs once before: engines allocate and choose kernels on their first run."""
        self._context.enqueue(self._stream)
        self._stream.synchronize()
        return captured(self.device, self.engine, self._context.enqueue, self._stream)

    def _run(self) -> None:
        settings, now = self.settings, self.device.now_ns
        self._frame_range = self.device.range("frame")
        self._timers = {stage: _Timer(self.device, stage) for stage in Stage}
        for index in range(-settings.warmup, 0):
            self._frame(index, now())
        self._collect_all()
        period_ns = None if settings.period_us is None else round(settings.period_us * 1_000)
        begin = now()
        for index in range(settings.frames):
            self._frame(index, now() if period_ns is None else begin + index * period_ns)
        self._collect_all()

    def _frame(self, index: int, due: int) -> None:
        timers, device = self._timers, self.device
        with self._frame_range:
            with timers[Stage.WAIT]:
                device.wait_until_ns(due)
            start = device.now_ns()
            slot = self._pool.lease()
            with timers[Stage.PREPROCESS]:
                source = self._fill(index, slot)
            with timers[Stage.UPLOAD]:
                device.upload(source, self._context.buffers[self._input_name], self._stream)
            with timers[Stage.INFER]:
                self._enqueue(self._stream)
            with timers[Stage.DOWNLOAD]:
                for name, target in slot.outputs.items():
                    device.download(self._context.buffers[name], target, self._stream)
            slot.submitted(self._stream)
            host_ns = tuple([timers[stage].ns for stage in _SUBMITTING])
            self._in_flight.append(_Frame(index, due, start, slot, host_ns, source))
            if len(self._in_flight) > self.settings.collect_after:
                self._collect()

    def _collect(self) -> None:
        """Wait for the oldest frame in flight, finish it and record it."""
        frame = self._in_flight.popleft()
        with self._timers[Stage.SYNCHRONIZE] as synchronize:
            if self.settings.collect_after:
                frame.slot.wait()
            else:
                self._stream.synchronize()
                frame.slot.release()
        with self._timers[Stage.POSTPROCESS] as postprocess:
            if self.settings.postprocess:
                output = frame.slot.outputs[self._output_name]
                self.detections = self._pixels.detections(frame.index, output)
                if self.on_boxes is not None and self.detections is not None and frame.index >= 0:
                    self.on_boxes(frame.index, self.detections)
        done = self.device.now_ns()
        self._recorder.add(
            (frame.index, frame.due, frame.start, done, *frame.host_ns, synchronize.ns, postprocess.ns, frame.index < 0)
        )

    def _collect_all(self) -> None:
        while self._in_flight:
            self._collect()

    def _abandon(self) -> None:
        self._in_flight.clear()
        with suppress(Exception):  # a GPU that is lost fails here too, and its first error is on its way up
            self._stream.synchronize()
        for slot in self._pool.slots:
            slot.release()


def run_in_turns(loops: Mapping[str, FrameLoop], turns: int) -> dict[str, Recording]:
    """Run every loop `turns` times, in turn, and join each one's recordings.

    A machine whose speed drifts then favours none of them. Steady frames are numbered on from turn to turn.
    SettingsError for no turn.
    """
    if turns < 1:
        raise SettingsError(f"{turns} turns", fix="use one turn or more")
    parts: dict[str, list[Recording]] = {name: [] for name in loops}
    for _, (name, loop) in product(range(turns), loops.items()):
        parts[name].append(loop.run(label=name))
    return {name: joined(recordings, turns=turns) for name, recordings in parts.items()}
