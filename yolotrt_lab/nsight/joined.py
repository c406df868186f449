"""A trace with its calls, the GPU's work and the frames joined to each other."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from .calls import Call, kind_of
from .frames import Frames, outermost, stages_of, thread_keys
from .intervals import Cover, GroupedCover, distinct, sums
from .trace import Trace
from .work import COPY, KERNEL, Work

KINDS = tuple(Call)
_MOST_STAGES = 64


class Joined:
    """Every join is made once, most at their first use (and again where two threads ask for it at once).

    A name that begins with `call_` holds one value for each row of the trace's `api`, one with `work_` for each row of
    `work`; -1 means none.
    """

    def __init__(self, trace: Trace, frames: Frames) -> None:
        self.trace = trace
        self.frames = frames
        self.work = Work.of(trace)
        self.call_frame = frames.of(trace.api)
        """The frame in which a call was made."""
        self.work_frame = taken(self.call_frame, self.work.call)
        """The frame in which the work was asked for."""
        self._stage_rows, self._stage_of_row, self.stages = self._find_stages()

    def _find_stages(self) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """Which ranges are stages, the place of each in the stages' names, and these, in the order of their begin."""
        ranges = self.trace.ranges
        rows = stages_of(self.trace, self.frames, self.frames.of(ranges))
        codes, first, stage = np.unique(ranges["name"][rows], return_index=True, return_inverse=True)
        chosen = np.argsort(first)
        if len(codes) > _MOST_STAGES:
            lengths = sums(stage, ranges["end_ns"][rows] - ranges["start_ns"][rows], len(codes))
            chosen = np.argsort(-lengths, kind="stable")[:_MOST_STAGES]
        place = np.full(len(codes), -1)
        place[chosen] = np.arange(len(chosen))
        stage = place[stage]
        return rows[stage >= 0], stage[stage >= 0], tuple(self.trace.names[code] for code in codes[chosen])

    @cached_property
    def stage_ns(self) -> np.ndarray:
        """The host's time in each stage of each frame, int64 of shape (frames, stages)."""
        ranges, rows, count = self.trace.ranges, self._stage_rows, len(self.stages)
        frame = self.frames.of({name: ranges[name][rows] for name in ("start_ns", "pid", "tid")})
        lengths = ranges["end_ns"][rows] - ranges["start_ns"][rows]
        total = sums(frame * count + self._stage_of_row, lengths, len(self.frames) * count)
        return total.reshape(len(self.frames), count)

    @cached_property
    def stage_gpu_ns(self) -> np.ndarray:
        """What the GPU did for each stage of each frame, int64 of shape (frames, stages)."""
        count = len(self.stages)
        if not count:
            return np.zeros((len(self.frames), 0), np.int64)
        ranges, rows = self.trace.ranges, self._stage_rows
        stages = Frames(*(ranges[name][rows] for name in ("start_ns", "end_ns", "pid", "tid")), row=rows)
        call_stage = taken(self._stage_of_row, stages.of(self.trace.api))
        stage = taken(call_stage, self.work.call)
        group = np.where((stage >= 0) & (self.work_frame >= 0), self.work_frame * count + stage, -1)
        return self.cover(group, len(self.frames) * count).totals().reshape(len(self.frames), count)

    @cached_property
    def call_kind(self) -> np.ndarray:
        """Places in KINDS."""
        kinds = np.array([KINDS.index(kind_of(name)) for name in self.trace.names], np.int64)
        return kinds[self.trace.api["name"]] if len(kinds) else np.empty(0, np.int64)

    @cached_property
    def call_thread(self) -> np.ndarray:
        """See `thread_keys`."""
        return thread_keys(self.trace.api["pid"], self.trace.api["tid"])

    @cached_property
    def own_kernels(self) -> GroupedCover:
        """The kernels of each frame."""
        return self.cover(np.where(self.work.kind == KERNEL, self.work_frame, -1), len(self.frames))

    @cached_property
    def own_work(self) -> GroupedCover:
        """All work of each frame."""
        return self.cover(self.work_frame, len(self.frames))

    @cached_property
    def outer_calls(self) -> np.ndarray:
        """Rows of `api` that lie in no other call."""
        return outermost(self.trace.api, np.arange(self.trace.count("api")))

    @cached_property
    def copy_frame(self) -> np.ndarray:
        """For each row of the trace's `copies` the frame in which it was asked for."""
        return self._of_copies(self.work_frame)

    @cached_property
    def copy_call(self) -> np.ndarray:
        """For each row of the trace's `copies` the row in `api` of its call."""
        return self._of_copies(self.work.call)

    def _of_copies(self, values: np.ndarray) -> np.ndarray:
        copies = self.work.kind == COPY
        found = np.full(self.trace.count("copies"), -1)
        found[self.work.row[copies]] = values[copies]
        return found

    def cover(self, group: np.ndarray, groups: int) -> GroupedCover:
        """The work of each group."""
        return GroupedCover(group, self.work.start, self.work.end, groups)

    def devices_cover(self, of: np.ndarray) -> Cover:
        """All work on the GPUs that some of the work (a mask) runs on."""
        devices = distinct(self.work.device[of])
        if len(devices) == len(self._devices):
            return self._all_work
        there = np.isin(self.work.device, devices)
        return Cover(self.work.start[there], self.work.end[there])

    @cached_property
    def _devices(self) -> np.ndarray:
        return distinct(self.work.device)

    @cached_property
    def _all_work(self) -> Cover:
        return Cover(self.work.start, self.work.end)

    def of_thread(self, thread: int) -> np.ndarray:
        """A mask of the work of the frames of one thread."""
        mine = np.append(thread_keys(self.frames.pid, self.frames.tid) == thread, False)
        return mine[self.work_frame]

    def loop_of(self, thread: int) -> np.ndarray:
        """A mask of the work of the loop that one thread runs: that of its frames, and all on the streams they use.

        A thread without frames only waits: for the frames of its process, or, without any, for all of its work.
        """
        process = self.work.pid == thread >> 32
        loop = self.of_thread(thread)
        if not loop.any():
            loop = process & (self.work_frame >= 0)
        if not loop.any():
            loop = process
        return loop if loop.all() else loop | np.isin(self.work.lane, distinct(self.work.lane[loop]))


def taken(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """`values[places]`, and -1 where the place is negative."""
    return np.append(values, -1)[places]
