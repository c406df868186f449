"""The frame loop: what the public report ran, and what fixes it, by settings of one object.

Each stage of a frame is timed by the host and is an NVTX range of the same name, inside a range `frame`. Start with
`run_loop`; the frame itself is `FrameLoop._frame`.

With `collect_after=n` the range `frame` of frame k holds the stages up to the download of frame k, and the synchronize
and postprocess of frame k - n. The last n frames, of the warm-up and of the run, are collected after the last range.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import partial
from itertools import product
from numbers import Real
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from .device import Device, HostBuffer, Stream
from .engine import Engine, captured
from .errors import ModelError, SettingsError, member, whole
from .heads import decode
from .memory import Slot, SlotPool
from .recording import FrameRecorder, Recording, joined, machine_info
from .types import Detections, Fill, HostMemory, Stage
from .vision import HostWork, PixelWork, letterbox_geometry

Preprocess = Callable[[HostWork, int, Slot], HostBuffer]
"""Fills a slot with a frame, given by its number, and returns the host memory to upload from."""

OnBoxes = Callable[[int, Detections], None]


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """One loop. SettingsError for values that no loop can have.

    >>> LoopSettings(input_memory="pinned", fill="in_place", period_us=2_000).frames
    1500
    """

    frames: int = 1_500
    """Frames after the warm-up."""
    warmup: int = 50
    """Frames before them, which are recorded too, and marked."""
    period_us: float | None = None
    """Frames are due on a clock that starts after the warm-up; None: the next frame starts when the last is done."""
    input_memory: HostMemory = HostMemory.PAGEABLE
    output_memory: HostMemory = HostMemory.PINNED
    fill: Fill = Fill.FRESH
    """How the pixels get to the bytes that are uploaded."""
    collect_after: int = 0
    """The result of a frame is collected so many frames later; 0: synchronize each frame."""
    graph: bool = False
    """Replay the engine as a CUDA graph."""
    postprocess: bool = False
    """Decode boxes from the output, as part of the frame."""
    confidence: float = 0.25
    """Boxes below this score are dropped."""

    def __post_init__(self) -> None:
        for name, kind in (("input_memory", HostMemory), ("output_memory", HostMemory), ("fill", Fill)):
            object.__setattr__(self, name, member(name, kind, getattr(self, name)))
        for name, least in (("frames", 1), ("warmup", 0), ("collect_after", 0)):
            object.__setattr__(self, name, whole(name, getattr(self, name), least))
        for field in fields(self):
            if field.type == "bool" and not isinstance(value := getattr(self, field.name), bool | np.bool_):
                raise SettingsError(f"{field.name} must be True or False, got {value!r}", fix="use one of these")
        if self.period_us is not None and not (_is_number(self.period_us) and 0.001 <= self.period_us <= 3.6e9):
            what = f"period_us must be from 0.001 to 3.6e9, an hour, got {self.period_us!r}"
            raise SettingsError(what, fix="None is no clock")
        if self.fill is Fill.FRESH and self.input_memory.page_locked:
            raise SettingsError(
                f"input_memory must be 'pageable' for fill='fresh', got {str(self.input_memory)!r}",
                fix="use fill='in_place' (or 'copy') to upload from page-locked memory",
            )
        if not (_is_number(self.confidence) and 0 <= self.confidence <= 1):
            raise SettingsError(f"confidence must be from 0 to 1, got {self.confidence!r}", fix="0.25 is usual")

    def loop(self, device: Device, engine: Engine, images: Any = None, *, on_boxes: OnBoxes | None = None) -> Loop:
        """The loop that these settings are for, ready to run."""
        return FrameLoop(device, engine, self, images, on_boxes=on_boxes)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)  # NumPy's are too


class Loop(ABC):
    """A loop that is ready to run.

    With `postprocess` the boxes of the latest frame are in `detections`, and `on_boxes(frame, boxes)` is called for
    each frame after the warm-up. ModelError for an engine of several inputs: a loop fills one; with `postprocess` also
    for one whose output is none of boxes.
    """

    _recorder: FrameRecorder

    def __init__(self, device: Device, engine: Engine, settings: LoopSettings, on_boxes: OnBoxes | None) -> None:
        if len(engine.inputs) != 1:
            names = ", ".join(spec.name for spec in engine.inputs)
            raise ModelError(
                f"a loop's model must have one input, got {names}", fix="export a model whose only input are images"
            )
        self.device, self.engine, self.settings, self.on_boxes = device, engine, settings, on_boxes
        self.detections: Detections | None = None
        self._end2end = settings.postprocess and engine.describe().end2end
        self._machine = machine_info()
        self._busy = Lock()

    def run(
        self, path: str | Path | None = None, *, label: str = "", command: str = "", overwrite: bool = True
    ) -> Recording:
        """Run the loop to its end, or to that of its sources, and return every frame.

        The warm-up is numbered from -`warmup`, and marked. With `path` the recording is saved there, a long one bit by
        bit; without `overwrite` that is refused where one lies. After an error or Ctrl-C what was recorded is kept,
        with a note, and every slot given back, so that the loop can run again. SettingsError while it runs already.
        """
        if not self._busy.acquire(blocking=False):
            raise SettingsError("this loop is running already", fix="create a loop for each thread")
        try:
            named = {"engine": self.engine.label, "model": self.engine.model}
            settings = {**asdict(self.settings), **named, **self._more_settings()}
            labels = {"label": label, "command": command}
            self._recorder = FrameRecorder(
                path, overwrite=overwrite, source=self.device.source, machine=self._machine, settings=settings, **labels
            )
            notes: list[str] = []
            try:
                self._run()
            except BaseException as error:
                notes.append(f"unfinished: {type(error).__name__} ended the run")
                self._abandon()
                raise
            finally:
                recording = self._recorder.finish(*notes)
        finally:
            self._busy.release()
        return recording

    def _more_settings(self) -> dict[str, Any]:
        return {}

    @abstractmethod
    def _run(self) -> None:
        """All frames, each into the recorder. What belongs to one thread, such as ranges, is created here."""

    @abstractmethod
    def _abandon(self) -> None:
        """After an error: let the GPU finish what it has, and give every slot back."""


class FrameLoop(Loop):
    """One frame at a time in one stream: memory allocated, engine bound, graph captured.

    `images` are uint8 BGR arrays (height, width, 3), used in turn; with `fill='ready'` the first of them alone. An
    engine that only takes time reads none. `preprocess` takes the place of what `settings.fill` says.

    SettingsError where images are missing, and for an engine of several frames at once; CaptureError where the engine
    cannot be captured.
    """

    def __init__(
        self,
        device: Device,
        engine: Engine,
        settings: LoopSettings,
        images: Sequence[np.ndarray] | None = None,
        *,
        preprocess: Preprocess | None = None,
        on_boxes: OnBoxes | None = None,
    ) -> None:
        super().__init__(device, engine, settings, on_boxes)
        if (batch := engine.inputs[0].shape[0]) > 1:
            raise SettingsError(
                f"a FrameLoop's engine must take one frame at a time, got {batch}", fix="use speed.OverlapSettings"
            )
        if settings.fill is Fill.READY and isinstance(images, Sized):  # what has no length `PixelWork` refuses
            images = images[:1]
        self._preprocess = preprocess or FILLS[settings.fill]
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
        self._work = engine.host_work(device, partial(PixelWork, engine.inputs[0], images))
        if settings.fill is Fill.READY:
            for slot in self._pool.slots:
                in_place(self._work, 0, slot)
        self.enqueue: Callable[[Stream], None] = self._context.enqueue
        """Submits one inference."""
        if settings.graph:
            self.enqueue = captured(device, engine, self._context.enqueue, self._stream)
        self._in_flight: deque[Iterator[None]] = deque()

    def _run(self) -> None:
        settings = self.settings
        self._range = self.device.range("frame")
        self._stages = [self.device.range(str(stage)) for stage in Stage]
        self._frames(range(-settings.warmup, 0), None)
        self._frames(range(settings.frames), None if settings.period_us is None else round(settings.period_us * 1_000))

    def _frames(self, indices: range, period_ns: int | None) -> None:
        """Run these frames and collect them."""
        now, start = self.device.now_ns, self.device.now_ns()
        whole_frame, in_flight, collect_after = self._range, self._in_flight, self.settings.collect_after
        for index in indices:
            frame = self._frame(index, now() if period_ns is None else start + index * period_ns)
            whole_frame.payload = index
            with whole_frame:
                next(frame)  # submits it
                in_flight.append(frame)
                if len(in_flight) > collect_after:
                    next(in_flight.popleft(), None)  # collects it, or one that was submitted before
        while in_flight:
            next(in_flight.popleft(), None)

    def _frame(self, index: int, due: int) -> Iterator[None]:
        """One frame, from the clock to its boxes. It pauses once it is submitted, until it is to be collected."""
        device, context, stream = self.device, self._context, self._stream
        wait, preprocess, upload, infer, download, synchronize, postprocess = self._stages
        with wait:
            device.wait_until_ns(due)
        start = device.now_ns()
        slot = self._pool.lease()
        with preprocess:
            source = self._preprocess(self._work, index, slot)
        with upload:
            context.upload(source, stream)
        with infer:
            self.enqueue(stream)
        with download:
            context.download(slot.outputs, stream)
        slot.submitted(stream)
        submitting_ns = wait.ns, preprocess.ns, upload.ns, infer.ns, download.ns
        yield
        with synchronize:
            self._synchronize(slot)
        with postprocess:
            if self.settings.postprocess:
                self._find_boxes(index, slot)
        done, warmup = device.now_ns(), index < 0
        self._recorder.add((index, due, start, done, *submitting_ns, synchronize.ns, postprocess.ns, warmup))

    def _synchronize(self, slot: Slot) -> None:
        """`cudaStreamSynchronize`, as the public report's program; with later frames in the stream the slot's event."""
        if self.settings.collect_after:
            slot.wait()
        else:
            self._stream.synchronize()
            slot.release()

    def _find_boxes(self, index: int, slot: Slot) -> None:
        self.detections = self._work.boxes(index, slot.outputs.values(), partial(self._decode, slot))
        if self.on_boxes is not None and self.detections is not None and index >= 0:
            self.on_boxes(index, self.detections)

    def _decode(self, slot: Slot, frame_shape: tuple[int, int]) -> Detections:
        height, width = self.engine.inputs[0].shape[-2:]
        geometry = letterbox_geometry(frame_shape, (height, width))
        return decode(slot.output.array, geometry, end2end=self._end2end, confidence=self.settings.confidence)

    def _abandon(self) -> None:
        self._in_flight.clear()
        try:
            with suppress(Exception):  # a GPU that is lost fails here too, and its first error is on its way up
                self._stream.synchronize()
        finally:  # after a second Ctrl-C too
            for slot in self._pool.slots:
                slot.release()


def fresh(work: HostWork, index: int, slot: Slot) -> HostBuffer:
    """`Fill.FRESH`."""
    return work.fresh(index)


def copied(work: HostWork, index: int, slot: Slot) -> HostBuffer:
    """`Fill.COPY`."""
    work.copy(work.fresh(index), slot.input)
    return slot.input


def in_place(work: HostWork, index: int, slot: Slot) -> HostBuffer:
    """`Fill.IN_PLACE`."""
    target = slot.input
    work.letterbox(index, target)
    return target


def ready(work: HostWork, index: int, slot: Slot) -> HostBuffer:
    """`Fill.READY`."""
    return slot.input


FILLS: Mapping[Fill, Preprocess] = {
    Fill.FRESH: fresh,
    Fill.COPY: copied,
    Fill.IN_PLACE: in_place,
    Fill.READY: ready,
}


def run_loop(device: Device, engine: Engine, settings: LoopSettings | None = None, images: Any = None) -> Recording:
    """Run the loop for those settings once: `settings.loop(device, engine, images).run()`.

    >>> from yolotrt_lab import open_device, open_engine
    >>> device = open_device("simulated")
    >>> recording = run_loop(device, open_engine(device), LoopSettings(frames=10))
    >>> len(recording.steady)
    10
    """
    return (settings or LoopSettings()).loop(device, engine, images).run()


def run_in_turns(loops: Mapping[str, Loop], turns: int) -> dict[str, Recording]:
    """Run every loop `turns` times, in turn, and join each one's recordings.

    A machine whose speed drifts then favours none of them. Steady frames are numbered on from turn to turn.
    """
    whole("turns", turns, 1)
    parts: dict[str, list[Recording]] = {name: [] for name in loops}
    for _, (name, loop) in product(range(turns), loops.items()):
        parts[name].append(loop.run(label=name))
    return {name: joined(recordings, turns=turns) for name, recordings in parts.items()}
