"""What the rules ask of measurements: series in ms with their shapes, and what follows from several of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..types import HostMemory, Stage
from . import thresholds as at
from .measured import Measured
from .series import NO_SHAPE, Change, Shape, Window, edge, find_period, shape_of, some, step_of
from .slope import in_blocks, median

if TYPE_CHECKING:
    from ..nsight.trace_findings import TraceFinding
    from .traced import TracedFrames

GPU_CALLS = (Stage.INFER, Stage.DOWNLOAD, Stage.SYNCHRONIZE)
"""The calls that may wait for the GPU's kernels."""
HOST_WORK = (Stage.PREPROCESS, Stage.POSTPROCESS)
QUEUE, UNCOVERED = "beyond the stages", "in no column"
"""What latency holds beyond the stages, and the part of a frame that no column covers."""
HOST_MEMORY, DEVICE_MEMORY = "host_memory_bytes", "gpu_memory_used_bytes"
THERMAL = ("throttle_sw_thermal_slowdown", "throttle_hw_thermal_slowdown")

_FINE = 0.9  # of the steps of a clock are not 0 that is finer than a frame
_MOST_FRAMES = 2_000  # blocks in which series are shifted against each other


def number(value: float) -> str:
    """Three significant digits without an exponent; thousands are set apart.

    >>> number(23.14), number(0.00412), number(1234.5), number(0)
    ('23.1', '0.00412', '1,234', '0')
    """
    if not math.isfinite(value):
        return "unknown"
    if abs(value) < 5e-7:  # what sums leave
        return "0"
    if value == round(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{min(max(0, 2 - math.floor(math.log10(abs(value)))), 6)}f}"


def ms(value: float) -> str:
    """A time in ms as text."""
    return f"{number(value)} ms"


def from_to(change: Change) -> str:
    """Both levels of a change as text."""
    return f"from {number(change.start)} to {ms(change.to)}"


class Look:
    """Measurements by name, in ms: `look["infer"]` is the shape of that series.

    Beside the measured times: 'gpu', the calls that may wait for the GPU; 'stages', all stages but `wait`; 'beyond the
    stages', how long a frame lay before it was taken up, or, without instants, what latency holds beyond the stages;
    'in no column', what a frame takes beyond its stages; 'interval', the time between results. Where stages are
    `nested` 'gpu' is the longest of its calls, and there is no 'stages', nor what is beyond them.
    """

    def __init__(self, measured: Measured, traced: TracedFrames | None = None) -> None:
        self.measured, self.traced = measured, traced
        self.series = {str(name): np.asarray(values) / 1e6 for name, values in measured.times_ns.items()}
        self.named = tuple(self.series)
        self.telemetry = {name: v for name, v in measured.telemetry.items() if np.isfinite(v).any()}
        self.frames = len(next(iter(self.series.values()))) if self.series else 0
        self.stages = tuple(s for s in Stage if s is not Stage.WAIT and s in self.series and self.series[s].max() > 0)
        self._shapes: dict[str, Shape] = {}
        self._medians: dict[str, float] = {}
        self._derive()

    def _derive(self) -> None:
        """Add the series that follow from the measured ones."""
        series, instants = self.series, self.measured.instants_ns
        calls = [series[stage] for stage in self.stages if stage in GPU_CALLS]
        if calls:
            series["gpu"] = _combined(np.maximum if self.nested else np.add, calls)
        if self.stages and not self.nested:
            series["stages"] = _combined(np.add, [series[stage] for stage in self.stages])
        apart = {"due", "start"} <= instants.keys()
        total = series.get("latency", series.get("frame"))
        if apart:
            series[QUEUE] = (instants["start"] - instants["due"]) / 1e6
        elif "stages" in series and total is not None and self.traced is None:
            series[QUEUE] = self._beyond_stages(total)
        if {"frame", "stages"} <= series.keys() and (apart or "latency" in series or self.traced):
            series[UNCOVERED] = self._beyond_stages(series["frame"])
        clock = instants.get("done", self.measured.clock_ns)
        if clock is not None and self.frames > 1 and ("done" in instants or np.mean(np.diff(clock) > 0) > _FINE):
            series["interval"] = np.diff(clock) / 1e6

    def _beyond_stages(self, total: np.ndarray) -> np.ndarray:
        """What a total holds beyond the stages, and beyond the times of other names where these are beside the stages:
        it is then steadier without them, and not below 0.
        """
        rest = total - self.series["stages"]
        less = rest - _combined(np.add, [self.series[name] for name in self.others]) if self.others else rest
        beside = np.std(less) < np.std(rest) and median(some(less)) >= -at.OF_FRAME * median(some(total))
        return less if beside else rest

    @cached_property
    def nested(self) -> bool:
        """True where the stages add up to clearly more than a frame: one holds another, or they overlap."""
        frame = next((self._median(name) for name in ("frame", "latency") if name in self.named), math.inf)
        return sum(self._median(stage) for stage in self.stages) > at.NESTED * frame

    # One series.

    def __getitem__(self, name: str) -> Shape:
        """The shape of a series, all NaN where it was not measured. A change that the frame does not feel is none."""
        if name not in self.series:
            return NO_SHAPE
        if name not in self._shapes:
            felt = 0.0 if name in ("stages", "latency", "frame") or not self.stages else at.OF_FRAME * self.whole_ms
            self._shapes[name] = shape_of(self.series[name], felt, self.period)
        return self._shapes[name]

    def level(self, name: str, window: Window) -> float:
        """The median of a time (ms) or of telemetry in a window."""
        chosen = slice(window.first, window.end, window.step)
        values = self.series.get(name, self.telemetry.get(name, np.empty(0)))[chosen]
        values = some(values if name in self.series else values[np.isfinite(values)])
        return float(median(values)) if len(values) else math.nan

    def _median(self, name: str) -> float:
        if name not in self.series:
            return math.nan
        if name not in self._medians:
            self._medians[name] = float(median(some(self.series[name])))
        return self._medians[name]

    def step_ms(self, name: str) -> float:
        """The steps in which a time is told: 1 where it is in whole ms. 0 for calls that the lab timed."""
        if self.measured.of_the_lab or self.traced:
            return 0.0
        told = [name] if self.series[name].any() else self.stages
        digits = max((_last_digit(self.series[each]) for each in told if each in self.named), default=0.0)
        return max(digits, step_of(self.series[name])) if len(told) == 1 and self.frames >= at.FEWEST_FRAMES else digits

    def stays(self, name: str, of_frame: float = at.OF_STAGE, of_itself: float = at.STAYS) -> bool:
        """True where a time is as long in every part of the run, the first and the last frames included; it may wander
        by a share of the frame, or of itself.
        """
        if name not in self.series or self.frames < at.FEWEST_FRAMES:
            return False
        wanders = max(of_itself * self[name].settled, of_frame * self.whole_ms)
        shape = self[name]
        return not shape.changed and max(shape.highest - shape.lowest, shape.shows_ms) <= wanders

    # The frame.

    @property
    def has_instants(self) -> bool:
        """True where due and start times were measured."""
        return {"due", "start", "done"} <= self.measured.instants_ns.keys()

    @property
    def whole(self) -> str:
        """The series that stands for the whole frame as well as any that was measured."""
        known = next((name for name in ("latency", "frame") if name in self.series), None)
        if known or not self.named:
            return known or "stages"
        medians = {name: self._median(name) for name in self.named}
        longest = max(medians, key=medians.__getitem__)
        others = sum(medians.values()) - medians[longest]
        total = len(self.named) > 2 and longest not in set(Stage) and medians[longest] > (1 - at.OF_STAGE) * others
        return longest if total or "stages" not in self.series else "stages"

    @cached_property
    def whole_ms(self) -> float:
        """What a frame takes, without a queue: its time or that between results, whichever is less (frames may overlap,
        or wait for a clock); else its stages, or the whole, as they are at the start of the run.
        """
        if self.has_instants and "frame" in self.series:
            return min(self._median("frame"), self._median("interval"))
        values = self.series["stages" if "stages" in self.series else self.whole]
        return float(np.mean(values) if self.period else median(values[: edge(self.frames)]))

    @cached_property
    def period(self) -> int | None:
        """After how many frames the whole frame repeats, or a stage of it; the shortest of these."""
        names = dict.fromkeys([self.whole, *self.stages]) if self.series else ()
        return min(filter(None, (find_period(self.series[name]) for name in names)), default=None)

    @property
    def stalls_every(self) -> int | None:
        """After how many frames the stalls of the whole frame come again, where they do so evenly."""
        stalls = self[self.whole].stalls if self.series else None
        return stalls.every if stalls else None

    # The calls.

    @property
    def waits_measured(self) -> bool:
        """True where a call is among the times that waits for the GPU's kernels."""
        return bool({Stage.SYNCHRONIZE, Stage.DOWNLOAD} & set(self.stages))

    @cached_property
    def wait(self) -> tuple[str, Change] | None:
        """The calls that wait for the GPU, together or one of them, whichever changed most, up or down.

        Not where they last as long together as before: then the wait only moved. Without any of them, 'infer' may hold
        it, and of a frame without stages the frame.
        """
        waits = ("gpu", Stage.SYNCHRONIZE, Stage.DOWNLOAD) if self.stages else (self.whole,) if self.series else ()
        changes = [(str(n), c) for n in waits for c in (self[n].grew, self[n].fell) if c is not None]
        if not any(self[name].changed for name in (self.whole, *self.stages)) or not changes:
            return None  # no change that a bill shows
        name, change = max(changes, key=lambda each: each[1].size)
        together = abs(self.level("gpu", change.after) - self.level("gpu", change.before))
        return None if self.stages and together < change.size / 2 else (name, change)

    def around_wait(self, name: str) -> tuple[float, float]:
        """The levels of a time (ms) or of telemetry before and after the change of the wait; NaN where it has none."""
        change = self.wait[1] if self.wait else NO_SHAPE.change
        return self.level(name, change.before), self.level(name, change.after)

    @cached_property
    def others(self) -> list[str]:
        """The measured times that are called as no stage is."""
        return [name for name in self.named if name not in {*Stage, "frame", "latency"}]

    @property
    def longest_other(self) -> float:
        """The longest of them (ms) in a frame, in the median; 0 without any."""
        return max(map(self._median, self.others), default=0.0)

    @property
    def host_ms(self) -> float:
        """How long the host does other things than to wait for the GPU in a frame, as far as that was measured."""
        return sum(self._median(n) for n in (*HOST_WORK, Stage.UPLOAD, Stage.INFER, self.unseen) if n in self.series)

    @property
    def sees_all(self) -> bool:
        """True where a frame's time was measured beside its stages, and every column was read."""
        return bool(self.unseen) and not self.measured.unread

    def one_by_one(self, window: Window) -> bool:
        """True where a frame is taken up only when the one before is submitted, as by one thread: else its start is a
        stamp of something else, such as a camera.
        """
        start = self.measured.instants_ns["start"][window.first : window.end]
        calls = [s for s in (Stage.PREPROCESS, Stage.UPLOAD, Stage.INFER) if s in self.stages]
        submits = sum(self.level(stage, window) for stage in calls)
        return float(median(np.diff(start))) / 1e6 > (1 - at.OF_STAGE) * submits

    @cached_property
    def download_first(self) -> bool | None:
        """Whether a frame's download call comes before its synchronize, as the columns are ordered.

        None where one is missing, or the columns are in another order than the calls: by name, or a stage such as the
        upload is not in its place.
        """
        named = [name for name in self.measured.times_ns if name in set(Stage) - {Stage.WAIT}]
        last = {Stage.DOWNLOAD, Stage.SYNCHRONIZE}
        in_place = [name for name in named if name not in last] == [s for s in Stage if s in set(named) - last]
        between = named.index(Stage.INFER) + 1 if Stage.INFER in named else len(named)
        if self.measured.by_name or not in_place or set(named[between : between + 2]) != last:
            return None
        return named[between] == Stage.DOWNLOAD

    @cached_property
    def _call_ms(self) -> float:
        """What a call of this loop costs that does not wait: the shortest of its CUDA calls, in the median.

        Where even that one takes long they may all wait, and a call is taken to cost `CALL_MOST_MS`.
        """
        calls = [self._median(stage) for stage in (Stage.UPLOAD, *GPU_CALLS) if stage in self.series]
        shortest = min((c for c in calls if c > 0), default=at.CALL_FLOOR_MS)
        return min(max(at.CALL_FLOOR_MS, shortest), at.CALL_MOST_MS)

    def holds(self, stage: Stage) -> bool:
        """True where a call holds the host much longer than this loop's shortest, or is the only one."""
        return self._is_long(stage, self[stage].median)

    def ever_holds(self, stage: str) -> bool:
        """True where it does so in any part of the run."""
        return self._is_long(stage, self.most(stage))

    def _is_long(self, stage: str, took_ms: float) -> bool:
        only = not {Stage.UPLOAD, *GPU_CALLS} & set(self.stages) - {stage}
        return stage in self.series and (only or took_ms > at.HOLDS * self._call_ms)

    def page_locked(self, side: str) -> bool | None:
        """True where the memory of 'input' or 'output' is page-locked; None where that is unknown."""
        kind = self.measured.memory.get(side)
        return HostMemory(kind).page_locked if kind in set(HostMemory) else None

    @cached_property
    def pageable_input(self) -> bool | None:
        """Whether uploads are from pageable memory, as far as it is said; False where the call is too short to copy."""
        locked = self.page_locked("input")
        if locked is not None:
            return not locked
        return False if Stage.UPLOAD in self.series and not self.holds(Stage.UPLOAD) else None

    @cached_property
    def roomy(self) -> list[str]:
        """The stages, and the time that no column covers, which are long enough to hold an allocation."""
        names = [str(s) for s in self.stages if s is not Stage.SYNCHRONIZE]
        names += [self.unseen] if self.unseen else []
        return [name for name in names if self.most(name) > at.ALLOCATION_MS]

    @property
    def unseen(self) -> str:
        """The series of the time in which the loop does what no column covers; '' where there is none."""
        apart = QUEUE if QUEUE in self.series and not self.sees_queue else ""
        return UNCOVERED if UNCOVERED in self.series else apart

    def most(self, name: str) -> float:
        """The highest level, or what a frame takes that stalls more often than by chance."""
        stalls = self[name].stalls
        often = stalls is not None and stalls.share > at.STALLS_SHARE
        return max(self[name].highest, stalls.median if stalls and often else 0.0)

    # The queue.

    @property
    def sees_queue(self) -> bool:
        """True where a queue in front of the loop would show: in latency, or between due and start."""
        return QUEUE in self.series and (self.has_instants or "latency" in self.series)

    @cached_property
    def queued_ms(self) -> np.ndarray:
        """How long each frame lay: beyond its stages, or, where several are in flight, behind others too."""
        if self.in_flight.max(initial=0) <= 1 or "latency" not in self.series:
            return self.series.get(QUEUE, np.empty(0))
        return self.series["latency"] - self.series.get("stages", self.service_ms)

    @property
    def queued_where(self) -> str:
        """Where that is."""
        several = self.in_flight.max(initial=0) > 1 and "latency" in self.series
        return "behind other frames" if several else "beyond the stages"

    @cached_property
    def _climb(self) -> Change:
        return self[QUEUE].grew or self[QUEUE].change

    @property
    def is_late(self) -> bool:
        """True where latency holds several frames' work beyond the stages."""
        return QUEUE in self.series and self[QUEUE].change.to > at.QUEUED_FRAMES * self.service_ms

    @cached_property
    def service_ms(self) -> float:
        """How long a frame is worked on: its stages, where it is queued before that is long."""
        window = self._climb.before if QUEUE in self.series else Window(0, self.frames)
        return max(self.level(self.work, window), at.CALL_FLOOR_MS)  # a coarse timer may say 0

    @property
    def work(self) -> str:
        """What stands for the work on a frame: its stages, else its time without the queue, else the whole."""
        return next((name for name in ("stages", "frame") if name in self.series), self.whole)

    @property
    def facts(self) -> dict[str, float]:
        """Those of a summary, in ms, and what trtexec measures in a series as such."""
        series = {name: self._median(name) for name in ("enqueue", "gpu_compute") if name in self.series}
        return series | dict(self.measured.facts)

    @property
    def submit(self) -> str:
        """The call that submits the network: infer, or enqueue, as trtexec names it beside the GPU's own times."""
        return "enqueue" if "enqueue" in self.series and Stage.INFER not in self.series else str(Stage.INFER)

    @cached_property
    def queue(self) -> Change | None:
        """The climb of a queue: frames lie for several frames' work before they are taken up, and that does not pass.

        None without instants: latency beyond the stages may then be work that no column covers. And where the loop
        rests while frames lie there, for as long as they come too fast: then it is no work that holds them.
        """
        if QUEUE not in self.series or not self.has_instants or self.frames < at.FEWEST_FRAMES:
            return None
        climb = self._climb
        passes = self[QUEUE].late - climb.start < climb.size / 2
        rests = self.rest_ms >= self._late_ms
        return None if climb.size < at.QUEUED_FRAMES * self.service_ms or passes or rests else climb

    @property
    def excess_ms(self) -> float:
        """What a frame takes longer than the next one waits, where the queue climbs fastest; 0 without a queue."""
        return 0.0 if self.queue is None else self._late_ms

    @cached_property
    def _late_ms(self) -> float:
        """How much later each result is than the one before, as its frame is due, where the queue climbs fastest."""
        due, done = (self.measured.instants_ns[name] for name in ("due", "done"))
        slower = self["stages"].grew
        since = min(slower.since, self.frames - edge(self.frames)) if slower and slower.form == "step" else 0
        return float(np.mean(np.diff(done[since:])) - np.mean(np.diff(due[since:]))) / 1e6

    @cached_property
    def rest_ms(self) -> float:
        """How long no frame is taken up though the next one is due and the last is done, on average."""
        if not self.has_instants or self.frames < 2:
            return 0.0
        due, start, done = (self.measured.instants_ns[name] for name in ("due", "start", "done"))
        return float(np.mean(np.maximum(start[1:] - np.maximum(due[1:], done[:-1]), 0.0))) / 1e6

    @cached_property
    def in_flight(self) -> np.ndarray:
        """How many frames were taken up before the result of each one came; empty where that is unknown."""
        instants = self.measured.instants_ns
        if not {"start", "done"} <= instants.keys():
            return np.empty(0, np.int64)
        return np.searchsorted(np.sort(instants["start"]), instants["done"], side="left") - np.arange(self.frames)

    @cached_property
    def submitted_behind(self) -> np.ndarray:
        """How many frames were in flight when each one was taken up; empty where that is unknown."""
        instants = self.measured.instants_ns
        if not {"start", "done"} <= instants.keys():
            return np.empty(0, np.int64)
        return np.arange(self.frames) - np.searchsorted(np.sort(instants["done"]), instants["start"], side="right")

    # Telemetry and the trace.

    @cached_property
    def sampled(self) -> bool:
        """True where telemetry is of more than one moment, as far as can be told: else it says nothing of a change."""
        moves = any(np.ptp(values[np.isfinite(values)]) > 0 for values in self.telemetry.values())
        return moves or self.measured.of_the_lab or self.stays(self.whole)

    def throttled(self, *reasons: str) -> dict[str, float]:
        """The share of the frames for which the GPU gives each of the reasons (all without any), where it is not 0."""
        names = reasons or tuple(name for name in self.telemetry if name.startswith("throttle_"))
        shares = {name: float(np.nanmean(self.telemetry[name])) for name in names if name in self.telemetry}
        return {name: share for name, share in shares.items() if share}

    @cached_property
    def heat_follows(self) -> bool:
        """True where heat is the GPU's reason for much longer after the change of the wait, or for much less."""
        if self.wait is None:
            return False
        windows = self.wait[1].before, self.wait[1].after
        told = [self.telemetry[name] for name in THERMAL if name in self.telemetry]
        shares = [[np.nanmean(each[window.first : window.end]) for window in windows] for each in told]
        return any(abs(after - before) > at.THROTTLED for before, after in shares)

    @cached_property
    def cool(self) -> str:
        """Why heat is no reason in any frame; '' where it may be one."""
        known = {name: v for name, v in self.telemetry.items() if np.isfinite(v).all()}  # in every frame
        heat = known.get("temperature_c")
        told = all(name in known for name in THERMAL)
        unclear = THERMAL[1] not in known and self.throttled("throttle_hw_slowdown")  # which heat may be the reason of
        cold = heat is not None and heat.max() < at.HOT_C and not self.measured.unread  # such as that of its memory
        if self.throttled(*THERMAL) or unclear or not (told or cold) or not self.sampled:
            return ""
        warm = f"; it is at most {number(float(heat.max()))} degrees warm" if heat is not None else ""
        return f"the GPU does not slow down for heat{warm}"

    def follows_clock(self) -> float:
        """The correlation of the wait with the time of a cycle of the SM clock, over blocks of frames; 0 without them,
        and where it would be much closer if telemetry were earlier, or later by more than a sample.
        """
        column = "sm_clock_mhz"
        if self.wait is None or column not in self.telemetry or self.frames < 4 * at.EDGE_FRAMES:
            return 0.0
        shape, wait = self[self.wait[0]], self.series[self.wait[0]]
        values = 1 / np.maximum(_held(self.telemetry[column]), 1.0)
        length = max(1, len(wait) // _MOST_FRAMES)
        one, two = (in_blocks(each, len(wait) // length)[1] for each in (wait, values))
        one, most = np.clip(one, shape.lowest, shape.highest), len(one) // 10
        apart = np.array([_unlike(one, two, lag) for lag in range(-most, most + 1)])
        in_time = apart[most - 2 : most + 3 + self._sample_frames(column) // length]
        if in_time.min() > at.OUT_OF_TIME * apart.min():
            return 0.0
        one, two = (in_blocks(each, min(40, len(wait) // at.EDGE_FRAMES))[1] for each in (wait, values))
        return float(np.corrcoef(one, two)[0, 1]) if np.ptp(one) and np.ptp(two) else 0.0

    def in_step(self, column: str, least: int) -> float:
        """The share of the wait's change that comes in the frames in which telemetry jumps up with it, or down. 0 where
        it jumps less than `least` times, or so often that there is always a jump nearby.

        A sample may be as old as telemetry's period: what it shows came after the sample before. A few frames in front
        of that and behind the jump, the wait must have its old and its new level.
        """
        if self.wait is None or column not in self.telemetry:
            return 0.0
        (name, change), few, old = self.wait, at.EDGE_FRAMES, self._sample_frames(column)
        values, wait = _held(self.telemetry[column]), self.series[name]
        jumps = np.flatnonzero(np.abs(np.diff(values)) > at.JUMP * np.ptp(values))
        if not len(jumps):
            return 0.0
        apart = np.flatnonzero(np.diff(jumps) > few + old)
        first, last = jumps[np.append(-1, apart) + 1], jumps[np.append(apart, len(jumps) - 1)] + 1
        start, end = first - old - 1, last + 2
        inside = (start >= few) & (end + few <= len(wait))
        inside[inside] = [
            _is_sudden(wait[a - few : b + few], few) for a, b in zip(start[inside], end[inside], strict=True)
        ]
        first, last, start, end = (each[inside] for each in (first, last, start, end))
        moved = values[last] - values[first]
        if np.count_nonzero(moved) < least or (end - start).sum() > at.OFTEN * len(wait):
            return 0.0
        before, after = (median(wait[each[:, None] + np.arange(few)]) for each in (start - few, end))
        by_jump = float((after - before) @ moved / (moved @ moved))
        whole = self.level(column, change.after) - self.level(column, change.before)
        return by_jump * whole / (change.to - change.start) if by_jump > 0 else 0.0

    def _sample_frames(self, column: str) -> int:
        """How many frames a sample of telemetry holds for, by the columns beside this one; 0 where that is unknown."""
        others = [v for name, v in self.telemetry.items() if name not in (column, HOST_MEMORY)]
        new = np.flatnonzero(sum(np.diff(np.nan_to_num(each)) != 0 for each in others))
        return int(median(np.diff(new))) if len(new) > at.EDGE_FRAMES else 0

    def trace_finding(self, kind: str) -> TraceFinding | None:
        """What `trace show` finds of that kind, if there is a trace of frames."""
        return self.traced.finding(kind) if self.traced else None


def _combined(by: np.ufunc, series: Sequence[np.ndarray]) -> np.ndarray:
    """Series added up, or the longest of them; long ones without a copy of them all side by side."""
    total = series[0].copy()
    for each in series[1:]:
        by(total, each, out=total)
    return total


def _last_digit(values: np.ndarray) -> float:
    """The place of the last digit that times have in ms, 0.1 for 8.3 and 14; 0 for more than six."""
    values = some(values)
    places = (10.0**-digits for digits in range(7))
    return next((place for place in places if np.all(np.abs(values / place - np.round(values / place)) < 1e-6)), 0.0)


def _is_sudden(values: np.ndarray, few: int) -> bool:
    """True where half of what the values change by comes within a few of them."""
    levels = median(np.lib.stride_tricks.sliding_window_view(values, few))
    return bool(np.max(np.abs(levels[few:] - levels[:-few])) >= abs(levels[-1] - levels[0]) / 2)


def _unlike(one: np.ndarray, two: np.ndarray, later: int) -> float:
    """The share of the variance of one series that another one, so many values later, does not explain."""
    one, two = one[max(0, -later) : len(one) - max(0, later)], two[max(0, later) : len(two) - max(0, -later)]
    return 1 - float(np.corrcoef(one, two)[0, 1]) ** 2 if np.ptp(one) and np.ptp(two) else 1.0


def _held(values: np.ndarray) -> np.ndarray:
    """Telemetry with the last known value where there is none; in front of the first one, that."""
    known = np.flatnonzero(np.isfinite(values))
    return np.asarray(values[known[np.maximum(np.searchsorted(known, np.arange(len(values)), "right") - 1, 0)]])
