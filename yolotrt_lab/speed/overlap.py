"""The overlapped loop: several batches on their way at once, each in a lane of its own, results collected by events.

The host only fills a slot, submits it, and takes up the result that has waited longest; a batch of one frame is the
usual case.

A range `frame` is one turn of the host: the wait for the clock, the frame taken up, its batch submitted once it is
full, and the results collected meanwhile, which are those of earlier frames. The GPU works on a frame after its range
has ended, beside others; what it did belongs to the range that submitted it, which for a batch is that of its last
frame. Outside of all ranges lie what is collected after the last frame, and the submit of a batch that the frames did
not fill. A source that ends is found out in one range more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from ..device import Device, Event, Range, Stream
from ..engine import Context, Engine, captured
from ..errors import SettingsError, member, whole
from ..heads import decode
from ..loop import Loop, LoopSettings, OnBoxes
from ..memory import Slot, SlotPool
from ..recording import Recording
from ..types import Detections, Fill, HostMemory, Pixels, Stage
from ..vision import Images, letterbox_geometry, pixel_work
from .kernels import Decoder, Letterboxer, unpack

_NOTHING = nullcontext()
_POLL_NS = 5_000  # how often the host looks whether a result has come while it waits for the clock
_Submit = Callable[[Stream], None]


@dataclass(frozen=True, slots=True)
class OverlapSettings(LoopSettings):
    """An overlapped loop: slots in page-locked memory, several of them in flight. SettingsError for what it can't be.

    `collect_after` counts batches where the engine takes several frames at once.

    >>> OverlapSettings(overlap=True, graph=True, collect_after=2).input_memory
    <HostMemory.PINNED: 'pinned'>
    """

    input_memory: HostMemory = HostMemory.PINNED
    fill: Fill = Fill.IN_PLACE
    overlap: bool = False
    """Uploads and downloads have streams of their own."""
    gpu_letterbox: bool = False
    """Upload the uint8 frame, and preprocess it on the GPU."""
    pixels: Pixels = Pixels.BGR
    """How they lie in the frames. NV12 needs `gpu_letterbox`; its upload has half the bytes of BGR's."""
    gpu_decode: bool = False
    """Find the boxes on the GPU, and download nothing else."""
    contexts: int = 1
    """So many inferences run at once, each in a stream of its own; as many frames are in flight, or a multiple."""
    deadline_us: float = 1_000.0
    """On a clock, a batch goes without the frames that would come more than this after its first.

    Without a clock, or from a source that sets its own pace, it waits until it is full or the source ends.
    """
    timers: bool = True
    """Time the stages, and mark them as ranges."""

    def __post_init__(self) -> None:
        LoopSettings.__post_init__(self)
        object.__setattr__(self, "contexts", whole("contexts", self.contexts, 1))
        if self.fill not in (Fill.IN_PLACE, Fill.READY):
            raise SettingsError(
                f"fill must be 'in_place' or 'ready' in the overlapped loop, got {str(self.fill)!r}",
                fix="it fills slots",
            )
        if not (self.input_memory.page_locked and self.output_memory.page_locked):
            raise SettingsError(
                "input_memory and output_memory must be page-locked: a pageable copy overlaps with nothing",
                fix="use input_memory='pinned' and output_memory='pinned'",
            )
        object.__setattr__(self, "pixels", member("pixels", Pixels, self.pixels))
        if self.pixels.planar and not self.gpu_letterbox:
            raise SettingsError(
                f"gpu_letterbox must be on with pixels={str(self.pixels)!r}: the host letterboxes BGR alone",
                fix="use gpu_letterbox=True",
            )
        if self.gpu_decode and not self.postprocess:
            raise SettingsError("postprocess must be on with gpu_decode, which finds boxes", fix="use postprocess=True")
        if not 0 <= self.deadline_us < inf:
            raise SettingsError(f"deadline_us must be 0 or more, got {self.deadline_us}", fix="1000 is usual")
        if (self.collect_after + 1) % self.contexts:
            raise SettingsError(
                f"collect_after + 1 must be a multiple of contexts, got {self.collect_after + 1} and {self.contexts}",
                fix="use collect_after=contexts - 1, or 2 * contexts - 1, so that each context has as many",
            )

    def loop(
        self, device: Device, engine: Engine, images: Any = None, *, on_boxes: OnBoxes | None = None
    ) -> OverlappedLoop:
        """The loop that these settings are for, ready to run."""
        return OverlappedLoop(device, engine, self, images, on_boxes=on_boxes)


@dataclass(eq=False, slots=True)
class Lane:
    """One batch on its way, from a slot through an execution context and back into the slot.

    No buffer of a lane is another's too, so no graph is ever replayed on the memory of another frame.
    """

    slot: Slot
    context: Context
    streams: tuple[Stream, Stream, Stream]
    """Of the upload, the inference and the download."""
    submits: tuple[_Submit, _Submit, _Submit]
    """What submits each of them to its stream; in a single graph all is submitted as the inference."""
    events: tuple[Event, Event] | None
    """After the upload and after the inference, where they have streams of their own."""
    first: int = 0
    """The number of the batch's first frame."""
    due: list[int] = field(default_factory=list)
    """When each frame was due, and in `start` when it was taken up."""
    start: list[int] = field(default_factory=list)
    host_ns: list[int] = field(default_factory=list)
    """The host's time in each stage up to the download, of all frames together."""

    def begin(self, first: int) -> None:
        """Start a batch with that frame."""
        self.first, self.due, self.start, self.host_ns = first, [], [], [0, 0, 0, 0, 0]

    def upload(self) -> None:
        """Submit the upload."""
        self.submits[0](self.streams[0])

    def infer(self) -> None:
        """Submit the inference, which waits for the upload."""
        upload, compute, _ = self.streams
        if self.events:
            upload.record(self.events[0])
            compute.wait(self.events[0])
        self.submits[1](compute)

    def download(self) -> None:
        """Submit the download, which waits for the inference; the slot is free once it is over."""
        _, compute, download = self.streams
        if self.events:
            compute.record(self.events[1])
            download.wait(self.events[1])
        self.submits[2](download)
        self.slot.submitted(download)


class Lanes:
    """The lanes of a loop and what they share: streams, the pool of slots, and kernels.

    Lanes whose inferences run in the same stream have an execution context in common, each with buffers of its own.

    `frame_shape` is (height, width) of the frames where the GPU letterboxes them. CaptureError where the engine cannot
    be captured, OutOfMemoryError where memory for a slot or a context can't be had.
    """

    def __init__(self, device: Device, engine: Engine, settings: OverlapSettings, frame_shape: tuple[int, int]) -> None:
        self._device, self._engine, self._settings = device, engine, settings
        self._input, self._output = engine.inputs[0], engine.outputs[0]
        height, width = self._input.shape[-2:]
        self.geometry = letterbox_geometry(frame_shape, (height, width))
        self._decoding: dict[str, Any] = {"confidence": settings.confidence}
        self._decoding["end2end"] = settings.postprocess and engine.describe().end2end
        self._letterboxer = (
            Letterboxer(device, self._input, frame_shape, settings.pixels) if settings.gpu_letterbox else None
        )
        self._decoder = Decoder(device, self._output, self.geometry, **self._decoding) if settings.gpu_decode else None
        uploaded = [self._letterboxer.frames if self._letterboxer else self._input]
        downloaded = [self._decoder.result] if self._decoder else list(engine.outputs)
        self.pool = SlotPool(
            device,
            uploaded,
            downloaded,
            slots=settings.collect_after + 1,
            input_memory=settings.input_memory,
            output_memory=settings.output_memory,
        )
        for slot in self.pool.slots:
            for buffer in (*slot.inputs.values(), *slot.outputs.values()):
                buffer.array[...] = 0
        self._compute = [device.stream() for _ in range(settings.contexts)]
        self._copies = [device.stream(), device.stream()] if settings.overlap else None
        self._contexts: list[Context] = []
        self.lanes = [self._lane(slot) for slot in self.pool.slots]

    def detections(self, lane: Lane, item: int, _: Any = None) -> Detections:
        """The boxes of one frame of the lane's batch, whose result has arrived; frames have one size."""
        slot = lane.slot
        if self._decoder is not None:
            found = unpack(slot.outputs[self._decoder.result.name].array, item)
            return self._decode(self._full_output(lane), item) if found is None else found
        return self._decode(slot.outputs[self._output.name].array, item)

    def _decode(self, output: np.ndarray, item: int) -> Detections:
        return decode(output[item : item + 1], self.geometry, **self._decoding)

    def _full_output(self, lane: Lane) -> np.ndarray:
        """The network's whole output, which a lane has until it is submitted again: for a frame of very many boxes."""
        buffer = self._device.empty_host(self._output.shape, self._output.dtype, HostMemory.PAGEABLE)
        stream = self._compute[0]
        self._device.download(lane.context.buffers[self._output.name], buffer, stream)
        stream.synchronize()
        return buffer.array

    def abandon(self) -> None:
        """Let the GPU finish what it has, and give every slot back."""
        self._device.synchronize()
        for slot in self.pool.slots:
            slot.release()

    def _lane(self, slot: Slot) -> Lane:
        """A lane on the streams that its number gives it, with its work captured where graphs are asked for."""
        number = slot.index % len(self._compute)
        compute, context = self._compute[number], self._context(number)
        upload, download = self._copies or (compute, compute)
        streams = (upload, compute, download)
        submits: list[_Submit] = [self._upload(slot, context), context.enqueue, self._download(slot, context, compute)]
        for submit, stream in zip(submits, streams, strict=True):
            submit(stream)  # engines allocate, and kernels compile, when they run for the first time
            stream.synchronize()
        capture = partial(captured, self._device, self._engine, warm=True)
        if self._settings.graph and self._copies:
            submits = [capture(submit, stream) for submit, stream in zip(submits, streams, strict=True)]
        elif self._settings.graph:
            submits = [_nothing, capture(partial(_in_turn, submits), compute), _nothing]
        events = (self._device.event(), self._device.event()) if self._copies else None
        return Lane(slot, context, streams, (submits[0], submits[1], submits[2]), events)

    def _context(self, number: int) -> Context:
        """The execution context of that stream; from the second time on a sibling of it."""
        if number < len(self._contexts):
            return self._contexts[number].sibling(self._device)
        self._contexts.append(self._engine.context(self._device))
        return self._contexts[-1]

    def _upload(self, slot: Slot, context: Context) -> _Submit:
        if (letterboxer := self._letterboxer) is None:
            return partial(context.upload, slot.input)
        device, source, target = self._device, slot.input, context.buffers[self._input.name]
        frames = device.empty_device(source.nbytes)

        def submit(stream: Stream) -> None:
            device.upload(source, frames, stream)
            letterboxer.launch(frames, target, stream)

        return submit

    def _download(self, slot: Slot, context: Context, stream: Stream) -> _Submit:
        device, decoder = self._device, self._decoder
        if decoder is None:
            return partial(context.download, slot.outputs)
        output, scratch = context.buffers[self._output.name], decoder.scratch(stream)
        target = slot.outputs[decoder.result.name]
        results = device.empty_device(target.nbytes)

        def submit(stream: Stream) -> None:
            decoder.launch(output, scratch, results, stream)
            device.download(results, target, stream)

        return submit


def _nothing(_: Stream) -> None:
    """Submits nothing."""


def _in_turn(submits: list[_Submit], stream: Stream) -> None:
    for submit in submits:
        submit(stream)


class OverlappedLoop(Loop):
    """A loop that is ready to run: slots and contexts allocated, graphs captured.

    `images` are used in turn, each copied into its slot, or are sources that write into the slots themselves: one, or
    several (cameras), which take turns until each has ended. Frames are then numbered in the order in which they were
    read, and each camera's stay in order; the recording has a column `camera`. With `fill='ready'` each slot is filled
    once, before the loop. The engine's first dimension is the batch.

    SettingsError where images are missing, ShapeError where they differ in size.
    """

    settings: OverlapSettings

    def __init__(
        self,
        device: Device,
        engine: Engine,
        settings: OverlapSettings,
        images: Images | None = None,
        *,
        on_boxes: OnBoxes | None = None,
    ) -> None:
        super().__init__(device, engine, settings, on_boxes)
        self.batch = engine.inputs[0].shape[0]
        self._cameras: list[int] = []
        self._work = engine.host_work(
            device, partial(pixel_work, engine.inputs[0], images, self._cameras, settings.pixels)
        )
        self._fill = self._work.copy_frame if settings.gpu_letterbox else self._work.letterbox
        self.lanes = Lanes(device, engine, settings, self._work.frame_shape)
        if settings.fill is Fill.READY:
            self._fill_all()
        self._in_flight: deque[Lane] = deque()
        self._open: Lane | None = None
        self._ranges: dict[str, Range] = {}

    def _fill_all(self) -> None:
        for index in range(len(self.lanes.lanes) * self.batch):
            slot, item = divmod(index, self.batch)
            if not self._fill(index, self.lanes.pool.slots[slot].input, item):
                raise SettingsError(
                    f"the sources must have {len(self.lanes.lanes) * self.batch} frames to fill all slots, got {index}",
                    fix="use fill='in_place', or fewer slots",
                )

    def run(
        self, path: str | Path | None = None, *, label: str = "", command: str = "", overwrite: bool = True
    ) -> Recording:
        """See `Loop.run`. After an error or Ctrl-C the frames in flight are still collected where the GPU allows."""
        recording = super().run(path, label=label, command=command, overwrite=overwrite)
        if not self._cameras:
            return recording
        cameras = np.array(self._cameras[: len(recording)], np.int64)
        recording = replace(recording, columns={**recording.columns, "camera": cameras})
        if path is not None:
            recording.save(path)
        return recording

    def _more_settings(self) -> dict[str, Any]:
        return {"batch": self.batch}

    def _run(self) -> None:
        settings, now = self.settings, self.device.now_ns
        self._ranges = {name: self.device.range(str(name)) for name in ("frame", *Stage)}
        self._cameras.clear()
        if not self._frames(range(-settings.warmup, 0), None, 0):
            return
        period_ns = None if settings.period_us is None else settings.period_us * 1_000
        self._frames(range(settings.frames), period_ns, now())

    def _frames(self, indices: range, period_ns: float | None, begin: int) -> bool:
        """Run these frames and collect them; False where the sources ended before."""
        index = indices.stop
        for index in indices:
            due = None if period_ns is None else begin + round((index - indices.start) * period_ns)
            with self._range("frame"):
                if not self._frame(index, due):
                    break
                if due is not None and period_ns is not None and self._must_go(due + round(period_ns)):
                    self._submit()
        else:
            index = indices.stop
        self._submit()
        while self._in_flight:
            self._collect()
        return index == indices.stop

    def _must_go(self, following: int) -> bool:
        """True where the open batch must not wait for the frame that is due at `following`."""
        return self._open is not None and following > self._open.due[0] + self.settings.deadline_us * 1_000

    def _frame(self, index: int, due: int | None) -> bool:
        """Take up one frame; the batch that it fills is submitted. False where the sources have ended."""
        now = self.device.now_ns
        waited = 0 if due is None else self._wait_until(due)
        lane = self._open or self._open_lane(index)
        start = now()
        if self.settings.fill is not Fill.READY:
            with self._range(Stage.PREPROCESS):
                if not self._fill(index, lane.slot.input, len(lane.due)):
                    return False
        lane.due.append(start if due is None else due)
        lane.start.append(start)
        lane.host_ns[0] += waited
        lane.host_ns[1] += now() - start
        if len(lane.due) == self.batch:
            self._submit()
        return True

    def _open_lane(self, index: int) -> Lane:
        """The next free lane; where none is free, the oldest result is waited for."""
        if len(self._in_flight) == len(self.lanes.lanes):
            self._collect()
        lane = self._open = self.lanes.lanes[self.lanes.pool.lease().index]
        lane.begin(index)
        return lane

    def _submit(self) -> None:
        """Submit the open batch, full or not; an empty one gives its slot back."""
        lane, self._open = self._open, None
        if lane is None:
            return
        if not lane.due:
            lane.slot.release()
            return
        lane.host_ns[2] = self._timed(Stage.UPLOAD, lane.upload)
        lane.host_ns[3] = self._timed(Stage.INFER, lane.infer)
        lane.host_ns[4] = self._timed(Stage.DOWNLOAD, lane.download)
        self._in_flight.append(lane)

    def _timed(self, stage: Stage, submit: Callable[[], None]) -> int:
        """Submit in the range of the stage; returns the host's time, 0 without timers."""
        with self._range(stage):
            submit()
        return self._ranges[stage].ns if self.settings.timers else 0

    def _wait_until(self, due: int) -> int:
        """Wait for the clock, and take up results that come meanwhile; returns how long there was nothing to do."""
        now, waited = self.device.now_ns, 0
        while now() < due:
            with self._range(Stage.WAIT):
                begin = now()
                arrived = self._idle_until(due)
                waited += now() - begin
            if arrived:
                self._collect()
        return waited

    def _idle_until(self, due: int) -> bool:
        """Wait for the clock or for the oldest batch in flight, whichever is first; True where it is the batch."""
        while (time := self.device.now_ns()) < due:
            if self._in_flight and not self._in_flight[0].slot.in_flight:
                return True
            self.device.wait_until_ns(min(due, time + _POLL_NS) if self._in_flight else due)
        return False

    def _collect(self) -> None:
        """Wait for the oldest batch in flight, take its boxes and record its frames."""
        now = self.device.now_ns
        lane = self._in_flight.popleft()
        begin = now()
        with self._range(Stage.SYNCHRONIZE):
            lane.slot.wait()
        arrived = now()
        if self.settings.postprocess:
            with self._range(Stage.POSTPROCESS):
                self._take_boxes(lane)
        done, frames = now(), len(lane.due)
        host_ns = [each // frames for each in (*lane.host_ns, arrived - begin, done - arrived)]
        for item in range(frames):
            index = lane.first + item
            self._recorder.add((index, lane.due[item], lane.start[item], done, *host_ns, index < 0))

    def _take_boxes(self, lane: Lane) -> None:
        outputs = lane.slot.outputs.values()
        for item in range(len(lane.due)):
            index = lane.first + item
            read = partial(self.lanes.detections, lane, item)
            self.detections = found = self._work.boxes(index, outputs, read, on_host=not self.settings.gpu_decode)
            if self.on_boxes is not None and found is not None and index >= 0:
                self.on_boxes(index, found)

    def _range(self, name: str) -> AbstractContextManager[None]:
        return self._ranges[name] if self.settings.timers else _NOTHING

    def _abandon(self) -> None:
        self._open = None
        try:
            with suppress(Exception):
                while self._in_flight:
                    self._collect()
        finally:  # a second Ctrl-C ends the collecting
            self._in_flight.clear()
            with suppress(Exception):  # a GPU that is lost fails here too, and its first error is on its way up
                self.lanes.abandon()
