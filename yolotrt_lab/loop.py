"""What a loop does, as one frozen object: each rung of the ladder is one setting more than the one below it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from itertools import product
from math import inf
from operator import index
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .device import Device, HostBuffer, Stream
from .engine import Engine
from .errors import CaptureError, EngineError, ModelError, SettingsError
from .frames import FrameSource
from .memory import Slot, SlotPool
from .recording import FrameRecorder, Recording, joined, machine_info
from .types import Detections, HostMemory, Stage
from .vision import Fill, Pixels

if TYPE_CHECKING:
    from .speed.overlap import OverlappedLoop

_E = TypeVar("_E", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """One loop. SettingsError for values that no loop can have.

    `frames` are recorded after `warmup` frames that are recorded too and marked. With `period_us` frames are due on a
    clock that starts after the warm-up; without it the next frame begins when the last is done. The result of a frame
    is collected `collect_after` frames later (0: synchronize each frame), or batches where the engine takes several
    frames at once. `graph` replays the work of the GPU as a CUDA graph. `postprocess` decodes boxes from the output,
    as part of the frame; those above `confidence`.

    The rest is the overlapped loop's. `overlap` gives uploads and downloads streams of their own. `gpu_letterbox`
    uploads the uint8 frame and preprocesses it on the GPU; `gpu_decode` finds the boxes there and downloads nothing
    else. With `contexts` above 1 that many inferences run at once, each in a stream of its own; as many frames are in
    flight, or a multiple of it. On a clock, a batch goes without the frames that would come more than `deadline_us`
    after its first; without a clock, or from a source that sets its own pace, it waits until it is full or the source
    ends. `timers` off leaves out the stages' times and ranges.
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
    confidence: float = 0.25
    overlap: bool = False
    gpu_letterbox: bool = False
    gpu_decode: bool = False
    contexts: int = 1
    deadline_us: float = 1_000.0
    timers: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_memory", _member(HostMemory, self.input_memory))
        object.__setattr__(self, "output_memory", _member(HostMemory, self.output_memory))
        object.__setattr__(self, "fill", _member(Fill, self.fill))
        for name in ("frames", "warmup", "collect_after", "contexts"):
            object.__setattr__(self, name, _whole(name, getattr(self, name)))
        if self.frames < 1 or self.warmup < 0 or self.collect_after < 0:
            raise SettingsError(
                f"frames={self.frames}, warmup={self.warmup}, collect_after={self.collect_after}",
                fix="use at least one frame, and no negative number",
            )
        if self.period_us is not None and not 0 < self.period_us < inf:
            raise SettingsError(f"a period of {self.period_us:g} us", fix="use a positive period, or None for no clock")
        if self.fill is Fill.FRESH and self.input_memory.page_locked:
            raise SettingsError(
                f"a fresh array each frame is pageable, not {self.input_memory}",
                fix="use fill='in_place' (or 'copy') to upload from page-locked memory",
            )
        if not 0 <= self.confidence <= 1 or not 0 <= self.deadline_us < inf:
            raise SettingsError(
                f"confidence={self.confidence}, deadline_us={self.deadline_us}",
                fix="a confidence goes from 0 to 1, and a deadline is neither negative nor infinite",
            )
        if self.contexts < 1 or (self.collect_after + 1) % self.contexts:
            raise SettingsError(
                f"{self.contexts} contexts for {self.collect_after + 1} frames in flight",
                fix="use collect_after=contexts - 1, or 2 * contexts - 1, so that each context has as many",
            )
        if self.overlapped:
            self.check_overlapped()

    @property
    def overlapped(self) -> bool:
        """True where it takes the overlapped loop to run this."""
        return self.overlap or self.gpu_letterbox or self.gpu_decode or self.contexts > 1

    def check_overlapped(self) -> None:
        """SettingsError where the overlapped loop cannot run this."""
        if self.fill not in (Fill.IN_PLACE, Fill.READY):
            raise SettingsError(
                f"fill={str(self.fill)!r} in the overlapped loop", fix="use fill='in_place' or 'ready': it fills slots"
            )
        if not (self.input_memory.page_locked and self.output_memory.page_locked):
            raise SettingsError(
                "a pageable copy holds the host until the GPU is done: it overlaps with nothing",
                fix="use input_memory='pinned' and output_memory='pinned'",
            )
        if self.gpu_decode and not self.postprocess:
            raise SettingsError("gpu_decode finds boxes, and postprocess is off", fix="use postprocess=True with it")


def _whole(name: str, value: int) -> int:
    """As Python's own int, which JSON knows; NumPy's are taken too."""
    try:
        return index(value)
    except TypeError:
        raise SettingsError(f"{name}={value!r}", fix="use a whole number") from None


def _member(kind: type[_E], value: str) -> _E:
    try:
        return kind(value)
    except ValueError:
        raise SettingsError(f"no {kind.__name__} {value!r}", fix=f"use one of {', '.join(kind)}") from None


# What all loops have in common: a run, from the recorder to the recording, however it ends, and captures.


def captured(
    device: Device, engine: Engine, submit: Callable[[Stream], None], stream: Stream
) -> Callable[[Stream], None]:
    """What submits the work of `submit(stream)` as one CUDA graph. It has to have run once before.

    CaptureError where the engine, whose work is in it, cannot be captured.
    """
    try:
        return device.capture(partial(submit, stream), stream).launch
    except EngineError as error:
        if isinstance(error, CaptureError):
            raise
        raise CaptureError(
            f"{engine.label} cannot be captured: {error.message}", fix="use graph=False", log=error.log
        ) from error


class Loop(ABC):
    """A loop that is ready to run. With `postprocess` the boxes of the latest frame are in `detections`, and
    `on_boxes(frame, boxes)` is called for every frame after the warm-up.

    ModelError for an engine of several inputs: a loop fills one.
    """

    _recorder: FrameRecorder

    def __init__(
        self,
        device: Device,
        engine: Engine,
        settings: LoopSettings,
        on_boxes: Callable[[int, Detections], None] | None,
    ) -> None:
        if len(engine.inputs) != 1:
            names = ", ".join(spec.name for spec in engine.inputs)
            raise ModelError(f"{engine.label} has the inputs {names}", fix="export a model whose only input are images")
        self.device, self.engine, self.settings = device, engine, settings
        self.on_boxes = on_boxes
        self.detections: Detections | None = None
        self._machine = machine_info()
        self._busy = Lock()

    def run(self, path: str | Path | None = None, *, label: str = "", command: str = "") -> Recording:
        """Run the loop to its end, or to that of its sources, and return every frame; the warm-up is numbered from
        -`warmup` and marked.

        With `path` the recording is saved there, a long one bit by bit. After an error (a full disk, say) or Ctrl-C
        what was recorded is kept and every slot given back, so that the loop can run again. SettingsError while it
        runs already.
        """
        if not self._busy.acquire(blocking=False):
            raise SettingsError("this loop is running already", fix="make a loop for each thread")
        try:
            recorder = self._recorder = FrameRecorder(
                path,
                source=self.device.source,
                machine=self._machine,
                settings=self._recorded_settings(),
                label=label,
                command=command,
            )
            try:
                self._run()
            except BaseException:
                self._abandon()
                raise
            finally:
                recording = recorder.finish()
        finally:
            self._busy.release()
        return recording

    def _recorded_settings(self) -> dict[str, Any]:
        return {**asdict(self.settings), "engine": self.engine.label}

    @abstractmethod
    def _run(self) -> None:
        """All frames, each into the recorder. What belongs to one thread, such as ranges, is made here."""

    @abstractmethod
    def _abandon(self) -> None:
        """After an error: let the GPU finish what it has, and give every slot back."""


# The frame loop: what the public report ran, and what fixes it, by settings of one object.
#
# Every stage is timed by the host and is an NVTX range of the same name, inside a range `frame`.


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


def check_images(engine: Engine, images: Any, *, sources: bool) -> None:
    """SettingsError where an engine that reads its input has no images, or these are none; sources only if allowed."""
    if isinstance(images, str | Path):
        raise SettingsError(
            f"images={str(images)!r} is a name, not images", fix=f"pass read_images({str(images)!r}, 8)"
        )
    if not engine.computes:
        return
    if images is None or (isinstance(images, Sized) and not len(images)):
        raise SettingsError("this engine reads its input, and there are no images", fix="pass images=[frame, ...]")
    if not sources and isinstance(images if isinstance(images, FrameSource) else images[0], FrameSource):
        raise SettingsError(
            "a FrameLoop uses images in turn, and this is a source of frames",
            fix="pass some of its frames, list(islice(source, 8)), or use overlap=True, which reads sources",
        )


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
        for number in range(-settings.warmup, 0):
            self._frame(number, now())
        self._collect_all()
        period_ns = None if settings.period_us is None else round(settings.period_us * 1_000)
        begin = now()
        for number in range(settings.frames):
            self._frame(number, now() if period_ns is None else begin + number * period_ns)
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


# The frame loops, from the naive one to the overlapped one, each by settings of one object. Start with `run_loop`.


Images = Sequence[np.ndarray] | FrameSource | Sequence[FrameSource]
"""Images that are used in turn, a source that fills slots, or several of them: cameras."""


def make_loop(
    device: Device, engine: Engine, settings: LoopSettings | None = None, images: Images | None = None
) -> FrameLoop | OverlappedLoop:
    """The loop that those settings take, ready to run. SettingsError where they don't fit the engine or the images.

    Sources of frames take the overlapped loop.
    """
    settings = settings or LoopSettings()
    if needs_overlap(engine, settings):
        from .speed.overlap import OverlappedLoop

        return OverlappedLoop(device, engine, settings, images)
    return FrameLoop(device, engine, settings, images)  # type: ignore[arg-type]


def run_loop(
    device: Device, engine: Engine, settings: LoopSettings | None = None, images: Images | None = None
) -> Recording:
    """Make the loop for those settings (`make_loop`) and run it once."""
    return make_loop(device, engine, settings, images).run()
