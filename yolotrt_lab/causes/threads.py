"""Several host threads of one process, on streams of their own or on one.

Cameras: each thread has an execution context, a stream and a CUDA graph. All pageable uploads of a process take turns
in the driver, whatever the number of threads and streams; pinned ones do not. So the pageable upload call grows with
each camera, and pinned memory is the fix.

One stream: a thread submits frames, another synchronizes and collects them. `cudaStreamSynchronize` waits for all that
the stream has by then, so the collector waits for frames that are not its own: those that were submitted after its
frame. Frames come a little faster than the GPU serves them, and each wait is as long as the backlog that the last wait
let grow. An event behind each frame waits for that frame alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import product
from queue import SimpleQueue
from statistics import median
from typing import Any

import numpy as np

from ..device import Device, Range
from ..engine import LendingEngine
from ..memory import Slot, SlotPool
from ..recording import FrameRecorder, Recording, machine_info
from ..simulate import SimulatedDevice, SpinEngine
from ..tables import Table, in_ms, levels_of
from ..types import HostMemory, Stage
from .faults import SMALL_IMAGE, Run

THREADS = (1, 2, 4, 8)

SWITCH_S = 0.0005
"""Python's threads take turns after this at the latest (5 ms by default, which is longer than a frame)."""

SLOTS = 256
"""So many frames may wait to be collected; then the submitting thread waits too."""


def host_threads(device: Device) -> tuple[Callable[..., Callable[[], Any]], Callable[[], Any]]:
    """What starts a host thread (and returns what waits for its end) and what creates a queue between threads."""
    if isinstance(device, SimulatedDevice):
        return lambda *work: device.start_thread(*work).join, device.queue

    def start(*work: Any) -> Callable[[], Any]:
        return ThreadPoolExecutor(1, initializer=getattr(device, "use", None)).submit(*work).result

    return start, SimpleQueue


def record_cameras(run: Run) -> Recording:
    """Each number of threads with pageable and then with pinned input, `frames` a thread: one recording in the order of
    the frames' ends, with columns `threads`, `camera` (the thread's number) and `pinned` (0 or 1).
    """
    run.engine = LendingEngine(run.engine)  # contexts are lent from one configuration to the next
    parts = [_cameras(run, threads, pinned) for threads, pinned in product(THREADS, (False, True))]
    return _by_end([part for each in parts for part in each], threads=list(THREADS))


def _cameras(run: Run, threads: int, pinned: bool) -> list[Recording]:
    """What each of so many threads recorded; they start at once."""
    memory = HostMemory.PINNED if pinned else HostMemory.PAGEABLE
    loops = [replace(run, settings=replace(run.settings, input_memory=memory)).loop() for _ in range(threads)]
    recorded: dict[int, Recording] = {}

    def serve(camera: int) -> None:
        recorded[camera] = loops[camera].run()

    start, _ = host_threads(run.device)
    with _switching_fast():
        for join in [start(serve, camera) for camera in range(threads)]:
            join()
    about = {"threads": threads, "pinned": int(pinned)}
    return [_marked(recorded[camera], camera=camera, **about) for camera in range(threads)]


def _marked(recording: Recording, **values: int) -> Recording:
    columns = {name: np.full(len(recording), value) for name, value in values.items()}
    return replace(recording, columns={**recording.columns, **columns})


def _by_end(parts: list[Recording], **settings: object) -> Recording:
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
    order = np.argsort(columns["done_ns"], kind="stable")
    columns = {name: values[order] for name, values in columns.items()}
    return replace(parts[0], columns=columns, settings={**parts[0].settings, **settings})


@contextmanager
def _switching_fast() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def camera_levels(recording: Recording) -> dict[tuple[int, bool], dict[str, float]]:
    """Of a recording of the scenario 'cameras', for each (threads, pinned): medians of 'upload' and 'synchronize' and
    the 99th percentile 'upload p99' in ms, and 'frames/s' of all threads together.

    >>> levels = camera_levels(Recording.shipped("cameras"))
    >>> [f"{levels[8, pinned]['frames/s']:,.0f}" for pinned in (False, True)]
    ['2,189', '5,054']
    """
    return {
        (threads, bool(pinned)): {
            "upload": float(np.median(part.columns["upload_ns"])) / 1e6,
            "upload p99": float(np.percentile(part.columns["upload_ns"], 99)) / 1e6,
            "synchronize": float(np.median(part.columns["synchronize_ns"])) / 1e6,
            "frames/s": len(part)
            * 1e9
            / float(np.ptp([part.columns["start_ns"].min(), part.columns["done_ns"].max()])),
        }
        for (threads, pinned), part in levels_of(recording, "threads")
    }


def camera_table(recordings: Mapping[str, Recording]) -> Table:
    """A row for each number of threads and kind of memory of each recording of 'cameras', by label.

    >>> print(camera_table({"recorded": Recording.shipped("cameras")}).header)
    ['cameras', 'upload call [ms]', 'its p99 [ms]', 'synchronize [ms]', 'frames/s, all']
    """
    rows = []
    for label, recording in recordings.items():
        for (threads, pinned), values in camera_levels(recording).items():
            *times, rate = values.values()
            name = f"{threads}, {'pinned' if pinned else 'pageable'}, {label}"
            rows.append([name, *map(in_ms, times), f"{rate:,.0f}"])
    header = ["cameras", "upload call [ms]", "its p99 [ms]", "synchronize [ms]", "frames/s, all"]
    return Table(header, rows, *(recording.source for recording in recordings.values()))


def prepare_one_stream(run: Run) -> None:
    """A kernel of 0.4 ms, every frame of which comes on a clock that is too fast by 2 % (at severity 1)."""
    run.engine = SpinEngine(400_000, image=SMALL_IMAGE)


def with_stream(run: Run) -> Recording:
    """The collector synchronizes on the stream."""
    return _record(run, event_each_frame=False)


def with_events(run: Run) -> Recording:
    """The collector waits for the event behind its frame."""
    return _record(run, event_each_frame=True)


def _record(run: Run, *, event_each_frame: bool) -> Recording:
    period_us = run.settings.period_us
    if period_us is None:
        period_us = round(_served_us(run) / (1 + 0.02 * run.severity), 1)
    run.settings = replace(run.settings, period_us=period_us)
    recorder = FrameRecorder(
        source=run.device.source,
        machine=machine_info(),
        settings={**asdict(run.settings), "engine": run.engine.label, "event_each_frame": event_each_frame},
    )
    loop = _TwoThreads(run, recorder, event_each_frame)
    loop.run(-run.settings.warmup, 0, None)
    loop.run(0, run.settings.frames, round(period_us * 1_000))
    return recorder.finish()


def _served_us(run: Run) -> float:
    """From result to result of 100 frames as fast as served."""
    recorder = FrameRecorder(source=run.device.source)
    _TwoThreads(run, recorder, True).run(0, 100, None)
    return float(median(np.diff(recorder.recording().columns["done_ns"]).tolist())) / 1e3


class _TwoThreads:
    """The loop of the two threads. The range `frame` is the submitting one's, with its stages; what the other thread
    waits for lies in ranges `synchronize` of its own.
    """

    def __init__(self, run: Run, recorder: FrameRecorder, event_each_frame: bool) -> None:
        device, engine = run.device, run.engine
        self._device, self._recorder, self._event_each_frame = device, recorder, event_each_frame
        self._stream = device.stream()
        self._context = engine.context(device)
        self._slots = SlotPool(device, engine.inputs, engine.outputs, slots=SLOTS).slots

    def run(self, begin: int, end: int, period_ns: int | None) -> None:
        """Frames `begin` to `end`, on a clock from now on, or as fast as served."""
        start, new_queue = host_threads(self._device)
        self._free, self._submitted = new_queue(), new_queue()
        for slot in self._slots:
            self._free.put(slot)
        join = start(self._submitting, begin, end, period_ns)
        try:
            synchronize = self._device.range(str(Stage.SYNCHRONIZE))
            while (submitted := self._submitted.get()) is not None:
                self._collect(synchronize, *submitted)
        finally:
            self._free.put(None)  # if this is an error the other thread must not go on for ever
            join()

    def _submitting(self, begin: int, end: int, period_ns: int | None) -> None:
        try:
            self._submit(begin, end, period_ns)
        finally:
            self._submitted.put(None)

    def _submit(self, begin: int, end: int, period_ns: int | None) -> None:
        device, now, context, stream = self._device, self._device.now_ns, self._context, self._stream
        frame = device.range("frame")  # a range belongs to one thread
        upload, infer, download = (device.range(str(stage)) for stage in (Stage.UPLOAD, Stage.INFER, Stage.DOWNLOAD))
        first = now()
        for index in range(begin, end):
            due = now() if period_ns is None else first + (index - begin) * period_ns
            waits = now()
            device.wait_until_ns(due)
            start = now()
            slot: Slot | None = self._free.get()
            if slot is None:
                return
            with frame:
                with upload:
                    context.upload(slot.input, stream)
                with infer:
                    context.enqueue(stream)
                with download:
                    context.download(slot.outputs, stream)
                    slot.submitted(stream)
            host_ns = (start - waits, 0, upload.ns, infer.ns, download.ns)
            self._submitted.put((index, due, start, slot, host_ns))

    def _collect(
        self, synchronize: Range, index: int, due: int, start: int, slot: Slot, host_ns: tuple[int, ...]
    ) -> None:
        with synchronize:
            if self._event_each_frame:
                slot.wait()
            else:
                self._stream.synchronize()
                slot.release()
            done = self._device.now_ns()
        self._recorder.add((index, due, start, done, *host_ns, synchronize.ns, 0, index < 0))
        self._free.put(slot)
