"""Where the frames of the overlapped loop come from, and how they get into its slots."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..device import Device
from ..engine import Engine
from ..errors import SettingsError, ShapeError
from ..frames import FrameSource
from ..loop import Loop, LoopSettings, check_images
from ..recording import Recording
from ..types import Detections, Stage
from ..vision import Fill, Letterbox, check_frame
from .lanes import Lane, Lanes

DEFAULT_FRAME = (1080, 1920)
"""Height and width of the frames where there are no images."""


class Feed:
    """Images in turn, or sources in turn until each has ended; or nothing, for an engine that reads no pixel.

    With `raw` frames go into the slots as they are, by the source itself where it is one, else letterboxed.
    `frame_shape` is (height, width). ShapeError or DtypeError for images that are no frames, or of several sizes,
    SettingsError for images beside sources.
    """

    def __init__(
        self,
        device: Device,
        images: Sequence[np.ndarray] | FrameSource | Sequence[FrameSource] | None,
        *,
        raw: bool,
    ) -> None:
        self._device, self._raw = device, raw
        self._letterbox = Letterbox()
        given = [images] if isinstance(images, FrameSource) else [] if images is None else list(images)
        self._sources = [each for each in given if isinstance(each, FrameSource)]
        self._images = [each for each in given if not isinstance(each, FrameSource)]
        if self._sources and self._images:
            raise SettingsError("images and sources together", fix="pass images, or sources of frames")
        for image in self._images:
            check_frame(image)
        shapes = {each.size[::-1] for each in self._sources} | {each.shape[:2] for each in self._images}
        if len(shapes) > 1:
            raise ShapeError(f"frames of several sizes, {sorted(shapes)}", fix="resize them, or run a loop for each")
        self.frame_shape: tuple[int, int] = shapes.pop() if shapes else DEFAULT_FRAME
        self._live = list(range(len(self._sources)))
        self._turn = 0
        self.cameras: list[int] = []
        """Which source each frame of the run came from, where there are several."""

    def fill(self, index: int, batch: np.ndarray, item: int) -> bool:
        """Write frame `index` into place `item` of a slot's batch; False where every source has ended."""
        target = batch[item]
        if self._sources:
            return self._from_sources(target)
        with self._device.host_work("copy_frame" if self._raw else "letterbox"):
            if self._images:
                self._write(self._images[index % len(self._images)], target)
        return True

    def _from_sources(self, target: np.ndarray) -> bool:
        while self._live:
            self._turn %= len(self._live)
            camera = self._live[self._turn]
            if self._read(self._sources[camera], target):
                self._turn = (self._turn + 1) % len(self._live)
                if len(self._sources) > 1:
                    self.cameras.append(camera)
                return True
            self._live.remove(camera)
        return False

    def _read(self, source: FrameSource, target: np.ndarray) -> bool:
        if self._raw:
            return source.read_into(target)
        frame = source.read()
        if frame is None:
            return False
        with self._device.host_work("letterbox"):
            self._write(frame, target)
        return True

    def _write(self, frame: np.ndarray, target: np.ndarray) -> None:
        if frame.shape[:2] != self.frame_shape:
            raise ShapeError(f"a frame of {frame.shape} among frames of {self.frame_shape}", fix="resize it")
        if self._raw:
            np.copyto(target, frame)
        else:
            self._letterbox(frame, target)


# The overlapped loop: several batches on their way at once, each in a lane of its own, results collected by events.
#
# The host only fills a slot, submits it, and takes up the result that has waited longest; a batch of one frame is the
# usual case. What the GPU does with a slot is `lanes.py`.
#
# A range `frame` is one turn of the host, as in `frame.py`: the wait for the clock, the frame taken up, its batch
# submitted once it is full, and the results collected meanwhile, which are those of earlier frames. The GPU works on a
# frame after its range has ended, beside others; what it did belongs to the range that submitted it, which for a batch
# is that of its last frame. Outside of all ranges lie what is collected after the last frame, and the submit of a batch
# that the frames did not fill. A source that ends is found out in one range more.


_NOTHING = nullcontext()
_POLL_NS = 5_000  # how often the host looks whether a result has come while it waits for the clock


class _Batch:
    """A batch on its way: when each frame was due and taken up, and the host's time by stage."""

    __slots__ = ("due", "first", "host_ns", "lane", "start")

    def __init__(self, lane: Lane, first: int) -> None:
        self.lane = lane
        self.first = first
        self.due: list[int] = []
        self.start: list[int] = []
        self.host_ns = [0, 0, 0, 0, 0]


class OverlappedLoop(Loop):
    """A loop that is ready to run: slots and contexts allocated, graphs captured.

    `images` are used in turn, each copied into its slot, or are sources that write into the slots themselves: one, or
    several (cameras), which take turns until each has ended. Frames are then numbered in the order in which they were
    read, and each camera's stay in order; the recording has a column `camera`. With `fill='ready'` each slot is filled
    once, before the loop. The engine's first dimension is the batch. With `postprocess` the boxes of the latest frame
    are in `detections`, and `on_boxes(frame, boxes)` is called for every frame after the warm-up.

    SettingsError where images are missing or none, ShapeError where they differ in size.
    """

    def __init__(
        self,
        device: Device,
        engine: Engine,
        settings: LoopSettings,
        images: Sequence[np.ndarray] | FrameSource | Sequence[FrameSource] | None = None,
        *,
        on_boxes: Callable[[int, Detections], None] | None = None,
    ) -> None:
        super().__init__(device, engine, settings, on_boxes)
        settings.check_overlapped()
        check_images(engine, images, sources=True)
        self.batch = engine.inputs[0].shape[0]
        self._feed = Feed(device, images if engine.computes else None, raw=settings.gpu_letterbox)
        self.lanes = Lanes(device, engine, settings, self._feed.frame_shape)
        if settings.fill is Fill.READY:
            self._fill_all()
        self._in_flight: deque[_Batch] = deque()
        self._open: _Batch | None = None
        self._ranges: dict[str, AbstractContextManager[None]] = {}

    def _fill_all(self) -> None:
        for index in range(len(self.lanes.lanes) * self.batch):
            slot, item = divmod(index, self.batch)
            if not self._feed.fill(index, self.lanes.input_of(self.lanes.pool.slots[slot]), item):
                raise SettingsError(
                    f"the sources have {index} frames, and {len(self.lanes.lanes)} slots of {self.batch} are to be "
                    "filled before the loop",
                    fix="use fill='in_place', or fewer slots",
                )

    def run(self, path: str | Path | None = None, *, label: str = "", command: str = "") -> Recording:
        """See `Loop.run`. After an error or Ctrl-C the frames in flight are still collected where the GPU allows."""
        return self._with_cameras(super().run(path, label=label, command=command), path)

    def _recorded_settings(self) -> dict[str, Any]:
        return {**super()._recorded_settings(), "batch": self.batch}

    def _with_cameras(self, recording: Recording, path: str | Path | None) -> Recording:
        """The recording with a column that says which source a frame came from, where there are several."""
        if not self._feed.cameras:
            return recording
        cameras = np.array(self._feed.cameras[: len(recording)], np.int64)
        recording = replace(recording, columns={**recording.columns, "camera": cameras})
        if path is not None:
            recording.save(path)
        return recording

    def _run(self) -> None:
        settings, now = self.settings, self.device.now_ns
        self._ranges = {name: self.device.range(str(name)) for name in ("frame", *Stage)}
        self._feed.cameras.clear()
        if not self._frames(range(-settings.warmup, 0), None, 0):
            return
        period_ns = None if settings.period_us is None else settings.period_us * 1_000
        self._frames(range(settings.frames), period_ns, now())

    def _frames(self, indices: range, period_ns: float | None, begin: int) -> bool:
        """Run these frames and collect them; False where the sources ended before."""
        for index in indices:
            due = None if period_ns is None else begin + round((index - indices.start) * period_ns)
            with self._range("frame"):
                if not self._frame(index, due):
                    break
                if due is not None and self._is_due(due + round(period_ns)):
                    self._submit()
        else:
            index = indices.stop
        self._submit()
        while self._in_flight:
            self._collect()
        return index == indices.stop

    def _is_due(self, following: int) -> bool:
        """True where the open batch must not wait for the frame that is due at `following`."""
        return self._open is not None and following > self._open.due[0] + self.settings.deadline_us * 1_000

    def _frame(self, index: int, due: int | None) -> bool:
        """Take up one frame; the batch that it fills is submitted. False where the sources have ended."""
        now = self.device.now_ns
        waited = 0 if due is None else self._wait_until(due)
        batch = self._open or self._open_batch(index)
        start = now()
        slot, item = batch.lane.slot, len(batch.due)
        if self.settings.fill is not Fill.READY:
            with self._range(Stage.PREPROCESS):
                if not self._feed.fill(index, self.lanes.input_of(slot), item):
                    return False
        batch.due.append(start if due is None else due)
        batch.start.append(start)
        batch.host_ns[0] += waited
        batch.host_ns[1] += now() - start
        if item + 1 == self.batch:
            self._submit()
        return True

    def _open_batch(self, index: int) -> _Batch:
        """A batch in the next free lane; where none is free, the oldest result is waited for."""
        if len(self._in_flight) == len(self.lanes.lanes):
            self._collect()
        batch = self._open = _Batch(self.lanes.of(self.lanes.pool.lease()), index)
        return batch

    def _submit(self) -> None:
        """Submit the open batch, full or not; an empty one gives its slot back."""
        batch, self._open = self._open, None
        if batch is None:
            return
        if not batch.due:
            batch.lane.slot.release()
            return
        if self.settings.timers:
            self._submit_timed(batch)
        else:
            batch.lane.submit()
        self._in_flight.append(batch)

    def _submit_timed(self, batch: _Batch) -> None:
        now = self.device.now_ns
        for place, (stage, acts) in enumerate(batch.lane.by_stage.items(), 2):
            with self._ranges[stage]:
                begin = now()
                for act in acts:
                    act()
                batch.host_ns[place] = now() - begin

    def _wait_until(self, due: int) -> int:
        """Wait for the clock, and take up results that come meanwhile; returns how long nothing was to be done."""
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
            if self._in_flight and not self._in_flight[0].lane.slot.in_flight:
                return True
            self.device.wait_until_ns(min(due, time + _POLL_NS) if self._in_flight else due)
        return False

    def _collect(self) -> None:
        """Wait for the oldest batch in flight, take its boxes and record its frames."""
        now = self.device.now_ns
        batch = self._in_flight.popleft()
        slot = batch.lane.slot
        begin = now()
        with self._range(Stage.SYNCHRONIZE):
            slot.wait()
        arrived = now()
        if self.settings.postprocess:
            with self._range(Stage.POSTPROCESS):
                self._take_boxes(batch)
        done, frames = now(), len(batch.due)
        host_ns = [each // frames for each in (*batch.host_ns, arrived - begin, done - arrived)]
        for item in range(frames):
            index = batch.first + item
            self._recorder.add((index, batch.due[item], batch.start[item], done, *host_ns, index < 0))

    def _take_boxes(self, batch: _Batch) -> None:
        for buffer in batch.lane.slot.outputs.values():
            self.device.reads(buffer)
        if not self.settings.gpu_decode:
            with self.device.host_work("decode"):
                pass
        if not self.engine.computes:
            return
        for item in range(len(batch.due)):
            self.detections = found = self.lanes.detections(batch.lane, item)
            if self.on_boxes is not None and batch.first + item >= 0:
                self.on_boxes(batch.first + item, found)

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
