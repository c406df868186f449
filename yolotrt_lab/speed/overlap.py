"""The overlapped loop: several batches on their way at once, each in a lane of its own, results collected by events.

The host only fills a slot, submits it, and takes up the result that has waited longest; a batch of one frame is the
usual case. What the GPU does with a slot is `lanes.py`.

A range `frame` is one turn of the host: the wait for the clock, the frame taken up, its batch submitted once it is
full, and the results collected meanwhile, which are those of earlier frames. The GPU works on a frame after its range
has ended, beside others; what it did belongs to the range that submitted it, which for a batch is that of its last
frame. Outside of all ranges lie what is collected after the last frame, and the submit of a batch that the frames did
not fill. A source that ends is found out in one range more.
"""

from __future__ import annotations

from collections import deque
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from ..device import Device
from ..engine import Engine
from ..errors import SettingsError, whole
from ..loop import Loop, LoopSettings, OnBoxes, member
from ..recording import Recording
from ..types import Detections, Fill, HostMemory, Pixels, Stage
from .lanes import Lane, Lanes
from .sources import Images, pixel_work

_NOTHING = nullcontext()
_POLL_NS = 5_000  # how often the host looks whether a result has come while it waits for the clock


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
        self._in_flight: deque[_Batch] = deque()
        self._open: _Batch | None = None
        self._ranges: dict[str, AbstractContextManager[None]] = {}

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
        batch = self._open or self._open_batch(index)
        start = now()
        slot, item = batch.lane.slot, len(batch.due)
        if self.settings.fill is not Fill.READY:
            with self._range(Stage.PREPROCESS):
                if not self._fill(index, slot.input, item):
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
            if self._in_flight and not self._in_flight[0].lane.slot.in_flight:
                return True
            self.device.wait_until_ns(min(due, time + _POLL_NS) if self._in_flight else due)
        return False

    def _collect(self) -> None:
        """Wait for the oldest batch in flight, take its boxes and record its frames."""
        now = self.device.now_ns
        batch = self._in_flight.popleft()
        begin = now()
        with self._range(Stage.SYNCHRONIZE):
            batch.lane.slot.wait()
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
        outputs = batch.lane.slot.outputs.values()
        for item in range(len(batch.due)):
            index = batch.first + item
            read = partial(self._read_boxes, batch.lane, item)
            self.detections = found = self._work.boxes(index, outputs, read, on_host=not self.settings.gpu_decode)
            if self.on_boxes is not None and found is not None and index >= 0:
                self.on_boxes(index, found)

    def _read_boxes(self, lane: Lane, item: int, frame_shape: tuple[int, int]) -> Detections:
        return self.lanes.detections(lane, item)

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
