"""What a trace shows: where a frame's time goes, and what is slow, with its numbers and what a fix can gain at most.

A gain is a bound, not a promise, and is of the traced run: a profiler makes every call longer, launches most of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np

from ..errors import TraceError
from ..tables import Table
from .attribution import WAITS, Attribution, attribution_of, moved_wait_ns
from .intervals import Cover, each, sums
from .trace import DIRECTIONS, MEMORIES, Trace
from .traced_frames import KINDS, Call, Joined, frames_of

_MINIMAL_SHARE = 0.05
_MINIMAL_NS = 20_000
_MANY_LAUNCHES = 4
_NO_ROWS = np.empty(0, np.int64)
_WAYS = {"h2d": "to the GPU from", "d2h": "from the GPU to"}


class FindingKind(StrEnum):
    """What a trace can show; `findings` says when it is which."""

    PAGEABLE_COPIES = "pageable_copies"
    BACKLOG_COPIES = "backlog_copies"
    MOVED_WAIT = "moved_wait"
    SERIAL_COPIES = "serial_copies"
    LAUNCH_BOUND = "launch_bound"
    GAPS = "gaps"
    OTHER_WORK = "other_work"
    UNEXPLAINED_WAIT = "unexplained_wait"


@dataclass(frozen=True, eq=False)
class TraceFinding:
    """One thing that a trace shows."""

    kind: FindingKind
    text: str
    """What it shows, in one or two sentences."""
    numbers: Mapping[str, float]
    """The numbers in the text and others, the unit in the name: `*_ns` is the median over all frames (of a trace
    without frames, the whole), `total_*` the sum over the trace. `gain_ns`, where there is one, is what a frame can
    gain at most."""
    rows: np.ndarray = field(default_factory=lambda: _NO_ROWS)
    """The rows of the trace's `copies` that a finding about copies means."""


def trace_table(traces: Mapping[str, Attribution], *, skip: int = 3) -> Table:
    """Where the time of a traced frame goes: medians over its frames but the first `skip`, in us, one column a trace.

    First the host: the frame and its stages. Then the GPU: copies, how much of them lay under kernels, kernels, and how
    long it was idle in the frame. Then what the synchronize calls waited for. Left out is what takes less than 2 us in
    every trace, and what a trace that lacks calls, kernels or copies can't tell. Where frames go in batches most of
    them submit nothing, and means take the place of medians; a note says so.

    >>> from yolotrt_lab import nsight
    >>> table = trace_table({"pinned": nsight.attribute(nsight.shipped_trace("graph-pinned"))})
    >>> table.header, table.rows[0][0]
    (['us', 'pinned'], 'frame')
    """
    typical = {label: _typical_us(attribution, skip) for label, attribution in traces.items()}
    names = dict.fromkeys(name for times in typical.values() for name, time in times.items() if time > 2)
    order = dict.fromkeys(name for times in typical.values() for name in times)
    rows = [[name, *(f"{times.get(name, 0.0):,.1f}" for times in typical.values())] for name in order if name in names]
    table = Table(["us", *traces], rows, *(attribution.source for attribution in traces.values()))
    if batched := [label for label, attribution in traces.items() if attribution.batched]:
        table.notes.append(f"{', '.join(batched)}: means over frames, which go in batches")
    return table


def _typical_us(attribution: Attribution, skip: int) -> dict[str, float]:
    frames = attribution.frames
    times = {"frame": frames["end_ns"] - frames["start_ns"]}
    times |= {f"host: {stage}": frames[f"{stage}_ns"] for stage in attribution.stages}
    for way, code in (("in", "h2d"), ("out", "d2h")):
        times[f"GPU: copies {way}"] = attribution.copied("gpu_ns", code)
        times[f"GPU: copies {way}, under kernels"] = attribution.copied("under_kernels_ns", code)
    times["GPU: kernels"] = frames["kernels_ns"]
    if not attribution.missing:
        times["GPU: idle"] = frames["idle_ns"]
        times |= {f"synchronize: {wait.replace('_', ' ')}": attribution.waits_ns(wait) for wait in WAITS}
    average = np.mean if attribution.batched else np.median
    return {name: float(average(values[min(skip, len(values) - 1) :])) / 1e3 for name, values in times.items()}


def findings(
    trace: Trace, frame_range: str = "frame", attribution: Attribution | None = None
) -> tuple[TraceFinding, ...]:
    """What a trace shows, pageable copies first; of a trace without GPU work, nothing.

    - `pageable_copies`: all copies from or to pageable memory, one finding for each direction. Pinning saves at most
      the time that the host is held in their calls, less what the GPU meanwhile does for this loop: that wait only
      moves to the synchronize call. (The host's next calls run a little faster too, with caches that no copy has
      swept; that is not in it.)
    - `backlog_copies`: copy calls that hold the host while work in front of the copy runs.
    - `moved_wait`: copy calls that wait for the GPU for longer than the synchronize calls take (`moved_wait_ns`).
    - `serial_copies`: copies and kernels that take turns. With copies of one frame under kernels of another, a frame
      takes as long as the longest of uploads, kernels and downloads; but what the host does not wait for, in copy and
      synchronize calls, is no gain.
    - `launch_bound`: the GPU idles between the first and the last launch of a frame, because the host has not launched
      more. A CUDA graph gains at most that. With an `unexplained_wait` another process may have had the GPU then: that
      time is no gain.
    - `gaps`: the GPU idles in a frame outside of that, while the host does not wait for it.
    - `other_work`: synchronize calls that wait for work of other frames or streams. With several frames in flight a
      call collects an earlier frame, so that there only other streams count.
    - `unexplained_wait`: synchronize calls that wait while the trace shows nothing on the GPU.

    All but the first are told where the median frame loses 20 us and 5 % of its time in that way; none of them where no
    range is named `frame_range`. Of a trace that lacks calls, kernels or copies, or the work of more than a few of its
    calls, only the first three are.

    The `attribution` is that of the same frames, where it is known already.

    >>> from yolotrt_lab import nsight
    >>> [str(found.kind) for found in findings(nsight.shipped_trace("graph-pageable"))][:2]
    ['pageable_copies', 'serial_copies']
    """
    seen = _seen(trace, frame_range, attribution)
    pageable = trace.copies["host_memory"] == MEMORIES.index("pageable")
    directions = each(np.where(pageable, trace.copies["direction"], -1))
    found = [_pageable(trace, seen, direction, rows) for direction, rows in directions if direction >= 0]
    if seen is not None and len(seen.joints.work["pid"]):
        looks = (_backlog, _moved_wait, _serial, _launch_bound, _gaps, _other_work, _unexplained)
        for look in looks if seen.attribution.shows_all else looks[:2]:
            found += look(seen)
    return tuple(found)


class _Seen:
    """A trace with frames, and what several findings ask of it."""

    def __init__(self, joints: Joined, attribution: Attribution | None) -> None:
        self.joints, self._attribution = joints, attribution
        self.held, self.waited, self.before = joints.copy_held
        ends = joints.frames.end - joints.frames.start
        self.frame_ns = _median(ends)
        mine = joints.work_frame >= 0
        self.of_frames = Cover(joints.work["start_ns"][mine], joints.work["end_ns"][mine])
        late = joints.work["end_ns"][mine] > joints.frames.end[joints.work_frame[mine]]
        submitting = joints.work_frame[mine]
        self.in_flight = len(np.unique(submitting[late])) > len(np.unique(submitting)) / 2
        """Most frames that submit work end before it does: several are in flight."""

    @cached_property
    def attribution(self) -> Attribution:
        return self._attribution or attribution_of(self.joints)

    def ns(self, column: str) -> float:
        """The median of a column of `Attribution.frames`."""
        return _median(self.attribution.frames[column])

    def told(
        self, kind: FindingKind, lost_ns: float, text: str, numbers: Mapping[str, float], rows: np.ndarray = _NO_ROWS
    ) -> list[TraceFinding]:
        """The finding, where a frame loses enough to be told."""
        matters = lost_ns >= max(_MINIMAL_NS, _MINIMAL_SHARE * self.frame_ns)
        return [TraceFinding(kind, text, numbers, rows)] if matters else []

    def by_frame(self, per_copy: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The sum over some copies of each frame."""
        return sums(self.joints.copy_frame[rows], per_copy[rows], len(self.joints.frames))

    def holding(self, per_copy: np.ndarray) -> np.ndarray:
        """The rows of copies in frames for which this time is long enough to be told."""
        return np.flatnonzero((per_copy >= _MINIMAL_NS) & (self.joints.copy_frame >= 0))


def _seen(trace: Trace, frame_range: str, attribution: Attribution | None) -> _Seen | None:
    try:
        return _Seen(Joined(trace, frames_of(trace, frame_range)), attribution)
    except TraceError:
        return None


def _median(values: np.ndarray) -> float:
    """The median over frames; 0 without any."""
    return float(np.median(values)) if len(values) else 0.0


def _time(time_ns: float) -> str:
    return f"{time_ns / 1e3:,.1f} us"  # as in the table beside it


def _pageable(trace: Trace, seen: _Seen | None, direction: int, rows: np.ndarray) -> TraceFinding:
    copies = trace.copies
    total = int(copies["bytes"][rows].sum())
    numbers: dict[str, float] = {"copies": len(rows), "total_bytes": total}
    way = _WAYS.get(DIRECTIONS[direction], "of")
    text = f"{len(rows)} copies {way} pageable memory, {total / 1e6:,.1f} MB in all"
    if seen is not None:
        concerned = np.isin(np.arange(len(seen.joints.frames)), seen.joints.copy_frame[rows])
        saved = seen.held if seen.in_flight else seen.held - seen.waited
        per_copy = {
            "bytes": copies["bytes"],
            "call_ns": seen.held,
            "gpu_ns": copies["end_ns"] - copies["start_ns"],
            "gain_ns": saved,
        }
        numbers |= {"frames": int(concerned.sum()), "total_call_ns": int(seen.held[rows].sum())}
        numbers |= {name: _median(seen.by_frame(values, rows)[concerned]) for name, values in per_copy.items()}
        if concerned.any():
            text += (
                f": in a frame their calls hold the host for {_time(numbers['call_ns'])}; "
                f"pinned memory saves at most {_time(numbers['gain_ns'])} of it"
            )
    return TraceFinding(FindingKind.PAGEABLE_COPIES, f"{text}.", numbers, rows)


def _backlog(seen: _Seen) -> list[TraceFinding]:
    rows = seen.holding(seen.before)
    waited, call = (_median(seen.by_frame(values, rows)) for values in (seen.before, seen.held))
    kinds = sorted({MEMORIES[kind] for kind in np.unique(seen.joints.trace.copies["host_memory"][rows])})
    text = (
        f"Copy calls ({' and '.join(kinds)} memory) hold the host for {_time(call)} in a frame, {_time(waited)} of it "
        "while the GPU still works on what was asked for before."
    )
    numbers = {"copies": len(rows), "call_ns": call, "backlog_ns": waited}
    return seen.told(FindingKind.BACKLOG_COPIES, waited, text, numbers, rows)


def _moved_wait(seen: _Seen) -> list[TraceFinding]:
    moved, synchronize = _median(moved_wait_ns(seen.attribution)), seen.ns("in_synchronize_ns")
    rows = seen.holding(seen.waited)
    call = _median(seen.by_frame(seen.held, rows))
    text = (
        f"The wait for the GPU is in copy calls: they hold the host for {_time(call)} in a frame, {_time(moved)} of it "
        f"for other work than the copy, and synchronize calls for {_time(synchronize)}."
    )
    numbers = {"copies": len(rows), "call_ns": call, "moved_ns": moved, "synchronize_ns": synchronize}
    return seen.told(FindingKind.MOVED_WAIT, moved, text, numbers, rows)


def _serial(seen: _Seen) -> list[TraceFinding]:
    frames = seen.attribution.frames
    up, down = (seen.attribution.copied("gpu_ns", direction) for direction in ("h2d", "d2h"))
    longest = np.maximum(frames["kernels_ns"], np.maximum(up, down))
    waited = frames["in_synchronize_ns"] + frames["in_copy_ns"]  # no other time of the host's gets shorter
    gain = _median(np.minimum(frames["gpu_ns"] - longest, waited))
    overlap = _median(frames["kernels_ns"] + frames["copies_ns"] - frames["gpu_ns"])
    copies, kernels = seen.ns("copies_ns"), seen.ns("kernels_ns")
    together = int((seen.of_frames.ends - seen.of_frames.starts).sum())
    if overlap > copies / 2 or seen.joints.own_work.totals().sum() > 1.1 * together:  # copies or frames overlap already
        return []
    text = (
        f"Copies ({_time(copies)} in a frame) and kernels ({_time(kernels)}) take turns on the GPU. With the copies of "
        f"one frame under the kernels of another, a frame gains at most {_time(gain)}."
    )
    numbers = {"copies_ns": copies, "kernels_ns": kernels, "upload_ns": _median(up), "download_ns": _median(down)}
    return seen.told(FindingKind.SERIAL_COPIES, gain, text, numbers | {"gain_ns": gain})


def _launch_bound(seen: _Seen) -> list[TraceFinding]:
    launches, span, idle = map(_median, _launches(seen.joints))
    if launches < _MANY_LAUNCHES:
        return []
    what = f"for {_time(idle)} of the {_time(span)} in which the host makes a frame's {launches:.0f} launches"
    numbers = {"launches": launches, "span_ns": span, "in_launch_ns": seen.ns("in_launch_ns")}
    if _unexplained(seen):
        text = (
            f"The GPU does nothing for this loop {what}: it waits for launches, or works for another process, as it "
            "may in the synchronize calls. A CUDA graph gains only the first."
        )
        return seen.told(FindingKind.LAUNCH_BOUND, idle, text, numbers)
    text = f"The GPU waits for launches: it idles {what}. A CUDA graph gains at most that."
    return seen.told(FindingKind.LAUNCH_BOUND, idle, text, numbers | {"gain_ns": idle})


def _launches(joints: Joined) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each frame how many launches it has, how long they take from first to last, and the GPU's idle time in that.

    From the first launch that belongs to the frame to the end of the last one; 0 for a frame without launches.
    """
    api, count = joints.trace.api, len(joints.frames)
    rows = np.flatnonzero((joints.call_kind == KINDS.index(Call.LAUNCH)) & (joints.call_frame >= 0))
    frame = joints.call_frame[rows]
    begin, end = joints.frames.end.copy(), np.zeros(count, np.int64)
    np.minimum.at(begin, frame, api["start_ns"][rows])
    np.maximum.at(end, frame, api["end_ns"][rows])
    end = np.maximum(begin, end)
    idle = end - begin - joints.devices_cover(joints.work_frame >= 0).measure(begin, end)
    return np.bincount(frame, minlength=count), end - begin, idle


def _gaps(seen: _Seen) -> list[TraceFinding]:
    frames = seen.attribution.frames
    launches, _, launching = _launches(seen.joints)
    launching = np.where(launches >= _MANY_LAUNCHES, launching, 0)
    gap = _median(np.maximum(frames["idle_ns"] - launching - frames["idle_in_synchronize_ns"], 0))
    numbers = {name: seen.ns(name) for name in sorted(frames) if name.startswith(("idle_in_", "idle_outside_"))}
    longest = next((name for name in seen.attribution.idle_calls if not name.endswith("Synchronize")), "")
    text = (
        f"The GPU idles for {_time(gap)} of a frame of {_time(seen.frame_ns)}"
        f"{' outside the launches' if launching.any() else ''} "
        "while the host does not wait for it. Of all idle time the host is outside of CUDA calls for "
        f"{_time(numbers['idle_outside_ns'])}{f'; among calls it is most in {longest}' if longest else ''}."
    )
    return seen.told(FindingKind.GAPS, gap, text, numbers | {"gap_ns": gap, "frame_ns": seen.frame_ns})


def _other_work(seen: _Seen) -> list[TraceFinding]:
    frames, streams = (_median(seen.attribution.waits_ns(wait)) for wait in ("other_frames", "other_streams"))
    if seen.in_flight:
        frames = 0.0  # the frame that a call collects is an earlier one
    text = (
        f"Synchronize calls wait for work that is not their frame's: {_time(frames)} in a frame for other frames and "
        f"others on this loop's streams, {_time(streams)} for other streams."
    )
    numbers = {"other_frames_ns": frames, "other_streams_ns": streams}
    return seen.told(FindingKind.OTHER_WORK, frames + streams, text, numbers)


def _unexplained(seen: _Seen) -> list[TraceFinding]:
    nothing = _median(seen.attribution.waits_ns("nothing"))
    text = (
        f"Synchronize calls wait {_time(nothing)} in a frame while the trace shows nothing on the GPU: another "
        "process, which was not traced, has it, or the work has not reached it."
    )
    return seen.told(FindingKind.UNEXPLAINED_WAIT, nothing, text, {"nothing_ns": nothing})
