"""What a trace shows to be slow, with its numbers and what mending it can gain at most.

A gain is a bound, not a promise, and is of the traced run: a profiler makes every call longer, launches most of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np

from ..errors import TraceError
from .attribution import Attribution, attribution_of, joined
from .intervals import Cover, sums
from .trace import DIRECTIONS, MEMORIES, Trace
from .traced_frames import KINDS, Call, Joined, taken

_MINIMAL_SHARE = 0.05
_MINIMAL_NS = 20_000
_MANY_LAUNCHES = 4


class FindingKind(StrEnum):
    """What a trace can show."""

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
    """One thing that a trace shows.

    `text` says it in one or two sentences; `numbers` has what it says, the unit in the name: `*_ns` is the median over
    all frames (of a trace without frames, the whole), `total_*` the sum over the trace. `gain_ns`, where it is there,
    is what a frame can gain at most. `rows` are the rows of the trace's `copies` that a finding about copies means.
    """

    kind: FindingKind
    text: str
    numbers: Mapping[str, float]
    rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))


def findings(trace: Trace, frame_range: str | None = "frame") -> tuple[TraceFinding, ...]:
    """What a trace shows, pageable copies first; of a trace without GPU work, nothing.

    - `pageable_copies`: all copies from or to pageable memory, one finding for each direction. Pinning saves at most
      the time that the host is held in their calls, less what the GPU meanwhile does for this loop: that wait only
      moves to the synchronize call. (The host's next calls run a little faster too, with caches that no copy has
      swept; that is not in it.)
    - `backlog_copies`: copy calls that hold the host while work in front of the copy runs.
    - `moved_wait`: copy calls that hold the host for longer than the synchronize calls do, while kernels run: a short
      synchronize does not mean that there is nothing to wait for.
    - `serial_copies`: copies and kernels that take turns. With copies of one frame under kernels of another, a frame
      takes as long as the longest of uploads, kernels and downloads; but what the host does not wait for, in copy and
      synchronize calls, is no gain.
    - `launch_bound`: the GPU idles between the first and the last launch of a frame, because the host has not launched
      more. A CUDA graph gains at most that.
    - `gaps`: the GPU idles in a frame outside of that, while the host does not wait for it.
    - `other_work`: synchronize calls that wait for work of other frames or streams. With several frames in flight a
      call collects an earlier frame, so that there only other streams count.
    - `unexplained_wait`: synchronize calls that wait while the trace shows nothing on the GPU.

    All but the first are told where the median frame loses 20 us and 5 % of its time in that way. Where no range is
    named `frame_range`, frames are cut at synchronize calls; where that fails too, only the first is told.
    """
    joints = _joined_somehow(trace, frame_range)
    found = _pageable(trace, joints)
    if joints is not None and len(joints.work):
        seen = _Seen(joints)
        for look in (_backlog, _moved_wait, _serial, _launch_bound, _gaps, _other_work, _unexplained):
            found += look(seen)
    return tuple(found)


def _joined_somehow(trace: Trace, frame_range: str | None) -> Joined | None:
    for choice in dict.fromkeys((frame_range, None)):
        try:
            return joined(trace, choice)
        except TraceError:
            continue
    return None


class _Seen:
    """A trace with frames, and what several findings ask of it."""

    def __init__(self, joints: Joined) -> None:
        self.joints = joints
        self.trace = joints.trace

    @cached_property
    def attribution(self) -> Attribution:
        return attribution_of(self.joints)

    @property
    def frames(self) -> Mapping[str, np.ndarray]:
        return self.attribution.frames

    @cached_property
    def frame_ns(self) -> float:
        return median(self.frames["end_ns"] - self.frames["start_ns"])

    def matters(self, lost_ns: float) -> bool:
        """True where a frame loses enough to be told."""
        return lost_ns >= max(_MINIMAL_NS, _MINIMAL_SHARE * self.frame_ns)

    def by_frame(self, per_copy: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """The sum over the chosen copies of each frame."""
        return sums(np.where(chosen, self.joints.copy_frame, -1), per_copy, len(self.joints.frames))


def median(values: np.ndarray) -> float:
    """The median over frames; 0 without any."""
    return float(np.median(values)) if len(values) else 0.0


def _held(joints: Joined) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each copy: the host's time in its call, how much of it the GPU worked for this loop, and that up to the copy.

    0 where the copy has no copy call of its own. The copy itself is no work here.
    """
    trace, call = joints.trace, joints.copy_call
    start, end = taken(trace.api["start_ns"], call), taken(trace.api["end_ns"], call)
    ours = (call >= 0) & (taken(joints.call_kind, call) == KINDS.index(Call.COPY))
    begin = np.clip(trace.copies["start_ns"], start, end)
    finish = np.clip(trace.copies["end_ns"], begin, end)
    before, after = np.zeros(len(call), np.int64), np.zeros(len(call), np.int64)
    thread = taken(joints.call_thread, call)
    for each in np.unique(thread[ours]):
        loop, mine = joints.loop_of(each), np.flatnonzero(ours & (thread == each))
        cover = Cover(joints.work.start[loop], joints.work.end[loop])
        before[mine] = cover.measure(start[mine], begin[mine])
        after[mine] = cover.measure(finish[mine], end[mine])
    return np.where(ours, end - start, 0), before + after, before


def _pageable(trace: Trace, joints: Joined | None) -> list[TraceFinding]:
    found = []
    pageable = trace.copies["host_memory"] == MEMORIES.index("pageable")
    for direction in np.unique(trace.copies["direction"][pageable]):
        chosen = pageable & (trace.copies["direction"] == direction)
        found.append(_pageable_one_way(trace, joints, DIRECTIONS[direction], np.flatnonzero(chosen)))
    return found


def _pageable_one_way(trace: Trace, joints: Joined | None, direction: str, rows: np.ndarray) -> TraceFinding:
    copies, total = trace.copies, int(trace.copies["bytes"][rows].sum())
    numbers: dict[str, float] = {"copies": len(rows), "total_bytes": total}
    text = f"{len(rows)} copies {_WAYS[direction]} pageable memory, {total / 1e6:,.1f} MB in all"
    if joints is not None:
        held, waited, _ = _held(joints)
        frame, count = joints.copy_frame[rows], len(joints.frames)
        outlives = _work_outlives_frames(joints)
        blocked = sums(frame, held[rows], count)
        gain = blocked if outlives else sums(frame, (held - waited)[rows], count)
        concerned = np.isin(np.arange(count), frame)
        numbers |= {
            "frames": int(concerned.sum()),
            "total_call_ns": int(held[rows].sum()),
            "bytes": median(sums(frame, copies["bytes"][rows], count)[concerned]),
            "call_ns": median(blocked[concerned]),
            "gpu_ns": median(sums(frame, (copies["end_ns"] - copies["start_ns"])[rows], count)[concerned]),
            "gain_ns": median(gain[concerned]),
        }
        if concerned.any():
            text += (
                f": in a frame their calls hold the host for {_us(numbers['call_ns'])}; "
                f"pinned memory saves at most {_us(numbers['gain_ns'])} of it"
            )
    return TraceFinding(FindingKind.PAGEABLE_COPIES, f"{text}.", numbers, rows)


_WAYS = {"h2d": "to the GPU from", "d2h": "from the GPU to"} | dict.fromkeys(("d2d", "p2p", "h2h", "other"), "of")


def _work_outlives_frames(joints: Joined) -> bool:
    """True where most frames that submit work end before it does: then several are in flight."""
    mine = joints.work_frame >= 0
    late = joints.work.end[mine] > joints.frames.end[joints.work_frame[mine]]
    return len(np.unique(joints.work_frame[mine][late])) > len(np.unique(joints.work_frame[mine])) / 2


def _us(time_ns: float) -> str:
    return f"{time_ns / 1e3:,.1f} us"


def _backlog(seen: _Seen) -> list[TraceFinding]:
    held, _, before = _held(seen.joints)
    behind = (before >= _MINIMAL_NS) & (seen.joints.copy_frame >= 0)
    waited = median(seen.by_frame(before, behind))
    if not seen.matters(waited):
        return []
    rows = np.flatnonzero(behind)
    call = median(seen.by_frame(held, behind))
    kinds = sorted({MEMORIES[kind] for kind in np.unique(seen.trace.copies["host_memory"][rows])})
    text = (
        f"Copy calls ({' and '.join(kinds)} memory) hold the host for {_us(call)} in a frame, {_us(waited)} of it "
        "while the GPU still works on what was asked for before."
    )
    numbers = {"copies": len(rows), "call_ns": call, "backlog_ns": waited}
    return [TraceFinding(FindingKind.BACKLOG_COPIES, text, numbers, rows)]


def _moved_wait(seen: _Seen) -> list[TraceFinding]:
    held, waited, _ = _held(seen.joints)
    holding = (waited >= _MINIMAL_NS) & (seen.joints.copy_frame >= 0)
    moved, call = median(seen.by_frame(waited, holding)), median(seen.by_frame(held, holding))
    synchronize = median(seen.frames["in_synchronize_ns"])
    if not seen.matters(moved) or moved < synchronize:
        return []
    rows = np.flatnonzero(holding)
    text = (
        f"The wait for the GPU is in copy calls: they hold the host for {_us(call)} in a frame, {_us(moved)} of it for "
        f"other work than the copy, and synchronize calls for {_us(synchronize)}."
    )
    numbers = {"copies": len(rows), "call_ns": call, "moved_ns": moved, "synchronize_ns": synchronize}
    return [TraceFinding(FindingKind.MOVED_WAIT, text, numbers, rows)]


def _serial(seen: _Seen) -> list[TraceFinding]:
    frames, attribution = seen.frames, seen.attribution
    up, down = (attribution.copied("gpu_ns", direction) for direction in ("h2d", "d2h"))
    longest = np.maximum(frames["kernels_ns"], np.maximum(up, down))
    waited = frames["in_synchronize_ns"] + frames["in_copy_ns"]  # no other time of the host's gets shorter
    gain = median(np.minimum(frames["gpu_ns"] - longest, waited))
    overlap = median(frames["kernels_ns"] + frames["copies_ns"] - frames["gpu_ns"])
    copies = median(frames["copies_ns"])
    if not seen.matters(gain) or overlap > copies / 2 or _work_of_frames_overlaps(seen.joints):
        return []
    kernels = median(frames["kernels_ns"])
    text = (
        f"Copies ({_us(copies)} in a frame) and kernels ({_us(kernels)}) take turns on the GPU. With the copies of one "
        f"frame under the kernels of another, a frame gains at most {_us(gain)}."
    )
    numbers = {"copies_ns": copies, "kernels_ns": kernels, "upload_ns": median(up), "download_ns": median(down)}
    return [TraceFinding(FindingKind.SERIAL_COPIES, text, numbers | {"gain_ns": gain})]


def _work_of_frames_overlaps(joints: Joined) -> bool:
    """True where the work of frames overlaps by a tenth or more: they run side by side already."""
    mine = joints.work_frame >= 0
    union = Cover(joints.work.start[mine], joints.work.end[mine])
    begin, end = np.array([joints.trace.begin_ns]), np.array([joints.trace.end_ns])
    return bool(joints.own_work.totals().sum() > 1.1 * union.measure(begin, end)[0])


def _launch_bound(seen: _Seen) -> list[TraceFinding]:
    launches, span, idle = _launches(seen)
    gain = median(idle)
    if not seen.matters(gain) or median(launches) < _MANY_LAUNCHES:
        return []
    count = median(launches)
    text = (
        f"The GPU waits for launches: it idles for {_us(gain)} of the {_us(median(span))} in which the host makes a "
        f"frame's {count:.0f} launches. A CUDA graph gains at most that."
    )
    numbers = {"launches": count, "span_ns": median(span), "in_launch_ns": median(seen.frames["in_launch_ns"])}
    return [TraceFinding(FindingKind.LAUNCH_BOUND, text, numbers | {"gain_ns": gain})]


def _launches(seen: _Seen) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each frame how many launches it has, how long they take from first to last, and the GPU's idle time in that.

    From the first launch that belongs to the frame to the end of the last one; 0 for a frame without launches.
    """
    joints, count = seen.joints, len(seen.joints.frames)
    rows = np.flatnonzero((joints.call_kind == KINDS.index(Call.LAUNCH)) & (joints.call_frame >= 0))
    frame = joints.call_frame[rows]
    begin, end = joints.frames.end.astype(np.int64), np.zeros(count, np.int64)
    np.minimum.at(begin, frame, seen.trace.api["start_ns"][rows])
    np.maximum.at(end, frame, seen.trace.api["end_ns"][rows])
    end = np.maximum(begin, end)
    idle = end - begin - joints.devices_cover(joints.work_frame >= 0).measure(begin, end)
    return np.bincount(frame, minlength=count), end - begin, idle


def _gaps(seen: _Seen) -> list[TraceFinding]:
    launches, _, launching = _launches(seen)
    launching = np.where(launches >= _MANY_LAUNCHES, launching, 0)
    gap = median(np.maximum(seen.frames["idle_ns"] - launching - seen.frames["idle_in_synchronize_ns"], 0))
    if not seen.matters(gap):
        return []
    places = {f"idle_in_{kind}_ns" for kind in Call} | {"idle_outside_ns"}
    numbers = {name: median(seen.frames[name]) for name in sorted(places)}
    calls = (name for name in seen.attribution.idle_calls if not name.endswith("Synchronize"))
    longest = next(calls, "")
    text = (
        f"The GPU idles for {_us(gap)} of a frame of {_us(seen.frame_ns)}"
        f"{' outside the launches' if launching.any() else ''} "
        "while the host does not wait for it. Of all idle time the host is outside of CUDA calls for "
        f"{_us(numbers['idle_outside_ns'])}{f'; among calls it is most in {longest}' if longest else ''}."
    )
    return [TraceFinding(FindingKind.GAPS, text, numbers | {"gap_ns": gap, "frame_ns": seen.frame_ns})]


def _other_work(seen: _Seen) -> list[TraceFinding]:
    frames, streams = (median(seen.attribution.waits_ns(wait)) for wait in ("other_frames", "other_streams"))
    if _work_outlives_frames(seen.joints):
        frames = 0.0  # the frame that a call collects is an earlier one
    if not seen.matters(frames + streams):
        return []
    text = (
        f"Synchronize calls wait for work that is not their frame's: {_us(frames)} in a frame for other frames and "
        f"others on this loop's streams, {_us(streams)} for other streams."
    )
    return [TraceFinding(FindingKind.OTHER_WORK, text, {"other_frames_ns": frames, "other_streams_ns": streams})]


def _unexplained(seen: _Seen) -> list[TraceFinding]:
    nothing = median(seen.attribution.waits_ns("nothing"))
    if not seen.matters(nothing):
        return []
    text = (
        f"Synchronize calls wait {_us(nothing)} in a frame while the trace shows nothing on the GPU: another process, "
        "which was not traced, has it, or the work has not reached it."
    )
    return [TraceFinding(FindingKind.UNEXPLAINED_WAIT, text, {"nothing_ns": nothing})]
