"""The frame loop: what the public report ran, and what fixes it, by settings of one object.

Every stage is timed by the host and is an NVTX range of the same name, inside a range `frame`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import numpy as np

from .devices.base import Device, HostBuffer, Stream
from .engines.base import Engine
from .errors import SettingsError
from .memory import Slot, SlotPool
from .recording import FrameRecorder, Recording, machine_info
from .types import HostMemory, Stage

_E = TypeVar("_E", bound=StrEnum)


class Fill(StrEnum):
    """How the pixels of a frame get to the bytes that are uploaded."""

    FRESH = "fresh"
    """Preprocessing makes a fresh pageable array each frame, which is uploaded: the loop of the public report."""
    COPY = "copy"
    """The fresh array is copied into the slot, which is uploaded."""
    IN_PLACE = "in_place"
    """Preprocessing writes into the slot, which is uploaded: nothing is copied on the host."""
    READY = "ready"
    """The slot is uploaded as it is: there is no preprocessing in this loop."""
    ALLOCATE = "allocate"
    """A trap: preprocessing writes into memory of the slot's kind that is allocated anew each frame."""
    BYPASS = "bypass"
    """A trap: the slot is filled, but the upload is made from the fresh array."""


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """One loop. SettingsError for values that no loop can have.

    `frames` are recorded after `warmup` frames that are recorded too and marked. With `period_us` frames are due on a
    clock that starts after the warm-up; without it the next frame begins when the last is done. The result of a frame
    is collected `collect_after` frames later (0: synchronize each frame). `graph` replays the engine as a CUDA graph.
    `postprocess` decodes boxes from the output, as part of the frame.
    """

    frames: int = 1_500
    warmup: int = 50
    period_us: float | None = None
    input_memory: HostMemory = HostMemory.PAGEABLE
    output_memory: HostMemory = HostMemory.PINNED
    fill: Fill = Fill.FRESH
    collect_after: int = 0
    graph: bool = False
    postprocess: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_memory", _member(HostMemory, self.input_memory))
        object.__setattr__(self, "output_memory", _member(HostMemory, self.output_memory))
        object.__setattr__(self, "fill", _member(Fill, self.fill))
        if self.frames < 1 or self.warmup < 0 or self.collect_after < 0:
            raise SettingsError(
                f"frames={self.frames}, warmup={self.warmup}, collect_after={self.collect_after}",
                fix="use at least one frame, and no negative number",
            )
        if self.period_us is not None and self.period_us <= 0:
            raise SettingsError(f"a period of {self.period_us} us", fix="use a positive period, or None for no clock")
        if self.fill is Fill.FRESH and self.input_memory.page_locked:
            raise SettingsError(
                f"a fresh array each frame is pageable, not {self.input_memory}",
                fix="use fill='in_place' (or 'copy') to upload from page-locked memory",
            )


def _member(kind: type[_E], value: str) -> _E:
    try:
        return kind(value)
    except ValueError:
        raise SettingsError(f"no {kind.__name__} {value!r}", fix=f"use one of {', '.join(kind)}") from None


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


class _Filler:
    """Brings a frame's pixels to the bytes that are uploaded, in one of the ways of `Fill`."""

    def __init__(self, device: Device, engine: Engine, memory: HostMemory, images: Sequence[np.ndarray] | None) -> None:
        self._device = device
        self._spec = engine.inputs[0]
        self._memory = memory
        self._images = images
        self._blank = device.empty_host(self._spec.shape, self._spec.dtype, HostMemory.PAGEABLE)
        if images is not None:
            from . import vision

            self._letterbox = vision.Letterbox()
            self._naive_letterbox = vision.naive_letterbox

    def fresh(self, index: int, slot: Slot) -> HostBuffer:
        """A fresh pageable array."""
        with self._device.host_work("naive_letterbox"):
            if self._images is None:
                return self._blank
            height, width = self._spec.shape[2:]
            return HostBuffer.over(self._naive_letterbox(self._images[index % len(self._images)], (height, width)))

    def copy(self, index: int, slot: Slot) -> HostBuffer:
        """The slot, filled from a fresh array."""
        self._copy(self.fresh(index, slot), slot)
        return slot.inputs[self._spec.name]

    def in_place(self, index: int, slot: Slot) -> HostBuffer:
        """The slot, written by preprocessing itself."""
        return self._write(index, slot.inputs[self._spec.name])

    def ready(self, index: int, slot: Slot) -> HostBuffer:
        """The slot, as it is."""
        return slot.inputs[self._spec.name]

    def allocate(self, index: int, slot: Slot) -> HostBuffer:
        """Memory of the slot's kind, allocated for this frame alone."""
        return self._write(index, self._device.empty_host(self._spec.shape, self._spec.dtype, self._memory))

    def bypass(self, index: int, slot: Slot) -> HostBuffer:
        """The fresh array, although the slot was filled from it."""
        fresh = self.fresh(index, slot)
        self._copy(fresh, slot)
        return fresh

    def _write(self, index: int, target: HostBuffer) -> HostBuffer:
        with self._device.host_work("letterbox"):
            if self._images is not None:
                self._letterbox(self._images[index % len(self._images)], target.array)
        return target

    def _copy(self, fresh: HostBuffer, slot: Slot) -> None:
        with self._device.host_work("copy_to_slot"):
            if self._images is not None:
                np.copyto(slot.inputs[self._spec.name].array, fresh.array)


class FrameLoop:
    """A loop that is ready to run: memory allocated, engine bound, graph captured.

    `images` are uint8 BGR arrays (height, width, 3), used in turn. Without them (an engine that does not compute looks
    at no pixel) preprocessing writes nothing; the simulated device charges its cost all the same.
    """

    def __init__(
        self, device: Device, engine: Engine, settings: LoopSettings, images: Sequence[np.ndarray] | None = None
    ) -> None:
        if engine.computes and not images:
            raise SettingsError("this engine reads its input, and there are no images", fix="pass images=[frame, ...]")
        self.device, self.engine, self.settings = device, engine, settings
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
        self._filler = _Filler(device, engine, settings.input_memory, images if engine.computes else None)
        self._fill: Callable[[int, Slot], HostBuffer] = getattr(self._filler, settings.fill)
        self._enqueue = self._capture() if settings.graph else self._context.enqueue
        self._frame_range = device.range("frame")
        self._timers = {stage: _Timer(device, stage) for stage in Stage}
        self._in_flight: deque[_Frame] = deque()

    def _capture(self) -> Callable[[Stream], None]:
        """The engine as a CUDA graph. It runs once before: engines allocate and choose kernels on their first run."""
        self._context.enqueue(self._stream)
        self._stream.synchronize()
        return self.device.capture(lambda: self._context.enqueue(self._stream), self._stream).launch

    def run(self, path: str | Path | None = None, *, label: str = "", command: str = "") -> Recording:
        """Run the loop to its end and return every frame; the warm-up is numbered from -`warmup` and marked.

        With `path` the recording is saved there, a long one bit by bit: a full disk or Ctrl-C leaves what was recorded
        so far.
        """
        recorder = self._recorder = self._open_recorder(path, label, command)
        try:
            self._run()
        finally:
            recording = recorder.finish()
        return recording

    def _run(self) -> None:
        settings, now = self.settings, self.device.now_ns
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
                self._postprocess(frame)
        done = self.device.now_ns()
        self._recorder.add(
            (frame.index, frame.due, frame.start, done, *frame.host_ns, synchronize.ns, postprocess.ns, frame.index < 0)
        )

    def _collect_all(self) -> None:
        while self._in_flight:
            self._collect()

    def _postprocess(self, frame: _Frame) -> None:
        output = frame.slot.outputs[self._output_name]
        self.device.reads(output)
        with self.device.host_work("decode"):
            if self._filler.images is not None:
                self.detections = self._filler.decode(frame.index, output.array)

    def _open_recorder(self, path: str | Path | None, label: str, command: str) -> FrameRecorder:
        return FrameRecorder(
            path,
            source=self.device.source,
            machine=machine_info(),
            settings={**asdict(self.settings), "engine": self.engine.label},
            label=label,
            command=command,
        )


def run_loop(
    device: Device,
    engine: Engine,
    settings: LoopSettings | None = None,
    images: Sequence[np.ndarray] | None = None,
) -> Recording:
    """Make a `FrameLoop` and run it once."""
    return FrameLoop(device, engine, settings or LoopSettings(), images).run()
