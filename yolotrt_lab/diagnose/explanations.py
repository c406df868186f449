"""What can explain a loop's times: each cause with what proves it, excludes it, or leaves it possible.

A rule yields verdicts with the number that decides, the strongest first; the first one holds, and without any the cause
was not measured. Proven takes evidence that no other cause gives. An exclusion rests on what a cause would have to show
in every frame, such as a clock that was measured or a call too short to hold it: what is there from the first frame on
leaves a series flat, so that a wait which stays as it is excludes no clock, no heat and no other work. A cause that is
itself a growth, as that of the host's own work, is excluded where the whole frame was measured and nothing of it grew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..types import Cause, Stage
from . import thresholds as at
from .look import DEVICE_MEMORY, HOST_MEMORY, HOST_WORK, QUEUE, THERMAL, Look, from_to, ms, number
from .series import edge
from .slope import in_blocks, median

ALL_ALONG = "what is there from the first frame on would not show"
"""How the number ends of a cause that nothing speaks for, and that a series which stays as it is can't exclude."""
Verdict = Literal["proven", "possible", "excluded", "not_measured"]
Verdicts = Iterator[tuple[Verdict, str]]


@dataclass(frozen=True, slots=True)
class Explanation:
    """One cause."""

    cause: Cause
    words: str
    """It in words, for a reader who does not know its name."""
    next: str
    """The experiment or the commands that decide, for any shell, one a line."""
    needs: str
    """What would have to be measured."""
    fix: str
    rule: Callable[[Look], Verdicts]

    def judge(self, look: Look) -> tuple[Verdict, str]:
        """The verdict, and the number it rests on. Without frames only the facts of a summary are judged."""
        if look.frames or (self.cause is Cause.LAUNCH_BOUND and look.measured.facts):
            for verdict, because in self.rule(look):
                return verdict, because
        return "not_measured", f"needs {self.needs}"

    def to_measure(self, look: Look) -> str:
        """What decides, less the telemetry that was given; '' where all of it was, or a trace."""
        if self.next == _TRACE and look.traced:
            return ""
        gives = _GIVES.get(self.next, {})
        lacks = [asked for column, asked in gives.items() if column not in look.measured.telemetry]
        return self.next.replace("COLUMNS", ",".join(lacks)) if lacks or not gives else ""


EXPLANATIONS: list[Explanation] = []
"""All causes, in the order of a bill."""


def _explains(cause: Cause, words: str, next: str, needs: str, fix: str) -> Callable[..., Callable[[Look], Verdicts]]:
    """Add a cause with the rule that follows."""

    def add(rule: Callable[[Look], Verdicts]) -> Callable[[Look], Verdicts]:
        EXPLANATIONS.append(Explanation(cause, words, next, needs, fix, rule))
        return rule

    return add


_STAGES = "time every call of a frame: preprocess, upload, infer, download, synchronize, and when the frame was due"
_TRACE = "yolotrt-lab trace capture --out mine -- python loop.py\nyolotrt-lab diagnose mine.sqlite"
_APPS = "nvidia-smi --query-compute-apps=timestamp,pid,used_memory --format=csv -l 1 -f apps.csv\n"
_APPS += "yolotrt-lab diagnose FRAMES.csv --telemetry apps.csv"
_RSS = "print psutil.Process().memory_info().rss / 1e6 as rss_mb in each frame"
_SMI = "nvidia-smi --query-gpu=timestamp,COLUMNS --format=csv -lms 100 -f gpu.csv\n"
_SMI += "yolotrt-lab diagnose FRAMES.csv --telemetry gpu.csv"
_LIMITS = (
    *("applications_clocks_setting", "gpu_idle", "sw_power_cap", "hw_slowdown"),
    *("hw_thermal_slowdown", "sw_thermal_slowdown"),
)
"""What may keep a GPU below its highest clock."""
_GIVES = {
    _APPS: {"compute_processes": ""},
    _RSS: {HOST_MEMORY: ""},
    _SMI: {"sm_clock_mhz": "clocks.sm", "sm_clock_max_mhz": "clocks.max.sm", "temperature_c": "temperature.gpu"}
    | {"memory_clock_mhz": "clocks.mem", DEVICE_MEMORY: "memory.used"}
    | {f"throttle_{limit}": f"clocks_throttle_reasons.{limit}" for limit in _LIMITS},
}
"""The telemetry that a command gives, and by which name it asks for it."""

# What several rules ask.


def _wait_text(look: Look) -> str:
    """How the wait for the GPU changed; '' where it did not."""
    if look.wait is None:
        return ""
    name, change = look.wait
    if name == "gpu":
        return f"{'the calls that wait for the GPU go' if look.waits_measured else 'infer goes'} {from_to(change)}"
    return f"{name} goes {from_to(change)}"


def _wait_as(look: Look, column: str, what: str) -> str:
    """How it changed beside a column of telemetry; '' where either did not."""
    if look.wait is None or column not in look.telemetry:
        return ""
    before, after = map(number, look.around_wait(column))
    return f"{_wait_text(look)} as {what} from {before} to {after}" if before != after else ""


def _wait(look: Look) -> Verdicts:
    """What the wait for the GPU leaves open: it changes, stalls, or may have been too long all along."""
    stalls_of = {stage: look[stage].stalls for stage in (Stage.SYNCHRONIZE, Stage.DOWNLOAD)}
    lasts = {
        s: each and (each.share > at.STALLS_SHARE or each.in_a_row >= at.IN_A_ROW) for s, each in stalls_of.items()
    }
    often = [stage for stage in stalls_of if lasts[stage]]
    if speaks := _wait_text(look) or _stalling(look, *often, share=at.STALL_TIMES - 1):
        yield "possible", speaks
    elif look.waits_measured:
        yield "possible", f"the calls that wait for the GPU take {ms(look['gpu'].median)}; {ALL_ALONG}"
    elif not look.stages or Stage.INFER in look.stages:
        name = Stage.INFER if look.stages else look.whole
        yield "possible", f"{name} takes {ms(look[name].median)}; {ALL_ALONG}"


def _stalling(look: Look, *stages: Stage, share: float = at.OF_STAGE) -> str:
    """The first stage with stalls by more than a share of the frame, in words; '' without one."""
    for stage in stages:
        stalls = look[stage].stalls if stage in look.stages else None
        if stalls and stalls.longest - look[stage].median > share * look.whole_ms:
            times = f"{stalls.frames} frames" if stalls.frames > 1 else "one frame"
            return f"{stage} takes up to {ms(stalls.longest)} in {times}, in most {ms(look[stage].median)}"
    return ""


def _whole_stalls(look: Look) -> Verdicts:
    if stalls := look[look.whole].stalls:
        yield "possible", f"{look.whole} takes {ms(stalls.median)} in {stalls.frames} frames"


def _call(look: Look, stage: str, words: str, too_short: str, unknown: str = "") -> Verdicts:
    """A call that is too short throughout excludes what it would wait for, or do; else that is possible."""
    if stage not in look.series:
        return
    if look.waits_measured and look.stays(stage) and not look.ever_holds(stage):
        yield "excluded", f"{words} takes {ms(look[stage].highest)} at most: {too_short}"
    if grown := look[stage].grew:
        yield "possible", f"{words} goes {from_to(grown)}"
    yield "possible", f"{words} takes {ms(look[stage].median)}{unknown}"


def _grows_beside(look: Look) -> str:
    """What else changes where the wait does, as larger frames, another network or memory would have it; '' for nothing.

    Uploads and launches take longer beside other processes as well, but by less than the wait does (shipped: 2.5 times
    beside 22).
    """
    if look.measured.unread:
        return f"what was not read may have changed as well: {', '.join(look.measured.unread[:4])}"
    for stage in (*HOST_WORK, Stage.UPLOAD, Stage.INFER):
        if look.wait and look[stage].grew:
            (before, after), change = look.around_wait(stage), look.wait[1]
            as_much = stage in HOST_WORK or change.to * before < at.FAST_START * change.start * after
            if after > at.FAST_START * before and as_much:
                return f"{stage} goes from {number(before)} to {ms(after)} with it: frames may be larger"
    if look.wait and "memory_clock_mhz" in look.telemetry:
        before, after = look.around_wait("memory_clock_mhz")
        if after < (1 - at.CLOCK) * before:
            return f"the memory clock goes from {number(before)} to {number(after)} MHz with it"
    return ""


def _most_queued(look: Look) -> float:
    """The longest time that any frame has beyond its stages."""
    return float(np.max(look.queued_ms, initial=0.0))


def _no_queue(look: Look) -> Verdicts:
    most = _most_queued(look)
    if look.has_instants and look.frames >= at.FEWEST_FRAMES and most < look.service_ms:
        yield "excluded", f"latency holds at most {ms(most)} {look.queued_where}"


def _alone(look: Look) -> bool:
    """True where no frame has another process on the GPU."""
    others = look.telemetry.get("gpu_processes")
    return others is not None and look.sampled and bool(np.all(others == 0))


_PROCESSES = {"gpu_processes": "other processes", "compute_processes": "other processes that compute"}
"""Telemetry that counts other processes: all, or all but those that draw, such as a browser."""


# A queue in front of the loop.


@_explains(Cause.QUEUEING, "frames arrive faster than they are served", _STAGES,
           needs="when each frame was due, and its result came",
           fix="bring fewer frames, drop all but the latest, or shorten the longest stage")  # fmt: skip
def _queueing(look: Look) -> Verdicts:
    if look.queue is not None and not _waits_for_others(look):
        frames = number(look.queue.size / look.service_ms)
        climbs = f"latency beyond the stages climbs {from_to(look.queue)}, {frames} frames' work"
        yield "proven", f"{climbs}; a frame is {ms(look.excess_ms)} too long for its clock"
    yield from _no_queue(look)
    if look.has_instants or look.is_late or look[QUEUE].highest >= look.service_ms:
        late, most = float(median(look.queued_ms[-edge(look.frames) :])), _most_queued(look)
        held = f"holds up to {ms(most)} {look.queued_where}, {ms(late)} at the end, of a frame of {ms(look.service_ms)}"
        unclear = "" if look.has_instants else ": a queue, or work that no column covers"
        if look.rest_ms > at.OF_STAGE * look.service_ms:
            unclear = f"; the loop rests for {ms(look.rest_ms)} a frame while the next one is due"
        yield "possible", f"{'latency' if look.sees_queue else look.whole} {held}{unclear}"
    if not look.stages and look[look.whole].grew:
        yield "possible", f"{look.whole} grows, and no stage was measured"


@_explains(Cause.PAGEABLE_OVERLOAD, "pageable uploads are why frames are served too slowly", _STAGES,
           needs="the upload call, and when each frame was due",
           fix="pinned memory, filled in place")  # fmt: skip
def _pageable_overload(look: Look) -> Verdicts:
    grown, stages, others = look[Stage.UPLOAD].grew, look["stages"].grew, set(look.stages) - {Stage.UPLOAD}
    part = grown.size if grown else 0.0
    if look.pageable_input and look.queue is not None and look.holds(Stage.UPLOAD):
        upload = look.level(Stage.UPLOAD, look.queue.before)
        by_others = stages.size - part if stages else 0.0
        if upload > look.excess_ms > by_others:  # else it would be served in time, had the others not grown
            too_long = f"a frame is {ms(look.excess_ms)} too long for its clock"
            yield "proven", f"{too_long}, and its pageable upload call takes {ms(upload)}"
    if look.pageable_input and grown and grown.to > 2 * grown.start and look.waits_measured:
        alone = sum(look.level(s, grown.after) - look.level(s, grown.before) for s in others) < grown.size / 2
        if alone and grown.form != "step":  # at once, it may be of larger frames
            yield "proven", f"the pageable upload call goes {from_to(grown)}, and no other call with it"
    if look.page_locked("input"):
        yield "excluded", "the input is page-locked"
    if Stage.UPLOAD not in look.series:
        return
    if look.pageable_input is False and not look.ever_holds(Stage.UPLOAD):
        takes = f"the upload call takes {ms(look[Stage.UPLOAD].median)}"
        yield "excluded", f"{takes}, no longer than a call that does not wait"
    if stages and look.has_instants and look.queue is None and part < stages.size / 5:
        yield "excluded", f"the upload call accounts for {ms(part)} of {ms(stages.size)} of growth"
    if grown is None:
        yield from _no_queue(look)
    if look.ever_holds(Stage.UPLOAD):
        clock = "" if look.sees_queue else "; if that makes a frame too long for its clock was not measured"
        yield "possible", f"the upload call holds the host for up to {ms(look[Stage.UPLOAD].highest)}{clock}"


# A GPU or a stream that others use.


@_explains(Cause.SHARED_GPU, "other processes use this GPU", _APPS,
           needs="the processes on the GPU beside the frames, a column compute_processes",
           fix="fewer processes on this GPU, or one process for all")  # fmt: skip
def _shared_gpu(look: Look) -> Verdicts:
    column = next((name for name in _PROCESSES if name in look.telemetry), "")
    others, came = look.telemetry.get(column), _wait_as(look, column, f"{_PROCESSES.get(column)} go")
    if came and look.wait and "sm_clock_mhz" in look.telemetry:
        change, by_clock = look.wait[1], _by_clock(look)
        in_step = look.in_step(column, at.JUMPS) >= at.EXPLAINED
        alone = by_clock <= at.EXPLAINED * change.size and not _grows_beside(look)
        if in_step and alone and look.waits_measured:
            clock = number(look.level("sm_clock_mhz", change.after))
            yield "proven", f"{came}, in the same frames; the SM clock of {clock} MHz accounts for {ms(by_clock)}"
    if _alone(look):
        yield "excluded", "no other process is on the GPU in any frame"
    if found := look.trace_finding("unexplained_wait"):
        yield "possible", found.text
    if came:
        beside = _grows_beside(look)
        yield "possible", f"{came}; {beside or 'that it does so in the same frames is not shown'}"
    if others is not None and not look.wait:
        most = float(np.nanmax(others))
        told = f"up to {number(most)} of them are on the GPU"
        yield "possible", told if most else "none of them computes, and those that draw are not counted"
    yield from _wait(look)


@_explains(Cause.SHARED_STREAM, "synchronize waits for what another thread has submitted", _TRACE,
           needs="synchronize, and when each frame starts and ends",
           fix="wait for an event of the frame's own instead of the stream")  # fmt: skip
def _shared_stream(look: Look) -> Verdicts:
    if found := _waits_for_others(look):
        yield "proven" if _as_fast_as_before(look) else "possible", found
    if look.traced and look.traced.alone:
        yield "excluded", "no synchronize call in the trace waits for work of others"
    if look.traced and look.traced.waits_outside:
        calls = f"{look.traced.waits_outside} synchronize calls of the trace are in no frame"
        yield "possible", f"{calls}: another thread makes them"
    if look.is_late and not (len(look.in_flight) and look.in_flight.max() <= 1):
        yield "possible", f"latency is {number(look[QUEUE].late / look.service_ms)} times what the stages add up to"
    if Stage.SYNCHRONIZE in look.series or (look.wait and not look.waits_measured):
        yield from _wait(look)


def _waits_for_others(look: Look) -> str:
    """How frames in flight pile up, and synchronize waits for them; '' where they don't."""
    flight, span = look.in_flight, 32
    if len(flight) <= span or Stage.SYNCHRONIZE not in look.series:
        return ""
    if np.any(np.diff(look.measured.instants_ns["done"]) < 0):  # results of one stream come in order
        return ""
    more, waits = flight[span:] - flight[:-span], look.series[Stage.SYNCHRONIZE]
    first, usual = int(np.argmax(more)), look[Stage.SYNCHRONIZE].median
    during = float(median(waits[first : first + span]))
    if more[first] < at.CLIMB * span or during < at.FAST_START * usual:
        return ""
    frames = f"frames in flight go from {flight[first]} to {flight[first + span]} within {span} frames"
    return f"{frames}, and synchronize then takes {ms(during)} instead of {ms(usual)}: it waits for frames of others"


def _as_fast_as_before(look: Look) -> bool:
    """True where no slower GPU made frames pile up: each wait is longer than the last until no more can be in flight,
    and then as short as usual; no other process is there, and the clock stays.
    """
    flight, waits = look.in_flight, look.series[Stage.SYNCHRONIZE]
    top = int(np.argmax(flight >= (1 - at.OF_STAGE) * flight.max()))
    low = int(np.argmax(flight[: top + 1] > flight.max() / 10))
    climb, behind = np.array_split(waits[low:top], 3), waits[top + 1 :][flight[top + 1 :] > flight.max() / 2]
    if top - low < at.EDGE_FRAMES or len(behind) < at.FEWEST_FRAMES:
        return False
    longer = median(climb[2]) > at.FAST_START * median(climb[0])
    clock = look.telemetry.get("sm_clock_mhz", np.array([np.nan]))
    stays = bool(np.min(clock) > (1 - at.CLOCK) * np.max(clock))
    return bool(longer and median(behind) < median(climb[0]) and stays and _alone(look))


# Calls that wait where nobody looks for it.


@_explains(Cause.LAUNCH_QUEUE, "the queue of launches is full, and every launch waits", _TRACE,
           needs="the enqueue call",
           fix="let few frames be in flight")  # fmt: skip
def _launch_queue(look: Look) -> Verdicts:
    grown, flight = look[Stage.INFER].grew, look.in_flight
    if grown and Stage.SYNCHRONIZE in look.series and len(flight):
        deep = float(median(flight[grown.after.first : grown.after.end]))
        waited = look.level(Stage.SYNCHRONIZE, grown.after)
        fills = deep > at.FAST_START * median(look.submitted_behind[grown.before.first : grown.before.end])
        full = deep >= at.IN_FLIGHT and fills and look.one_by_one(grown.after) and not look.holds(Stage.DOWNLOAD)
        if full and waited <= at.NO_WAIT * grown.to and grown.to >= at.FAST_START * grown.start:
            submitting = f"submitting goes {from_to(grown)} with {number(deep)} frames in flight"
            verdict: Verdict = "proven" if look.measured.of_the_lab else "possible"  # it may wait for a buffer instead
            yield verdict, f"{submitting}, and synchronize meanwhile waits for nothing"
    if len(flight) and flight.max() <= 1 and not grown:
        yield "excluded", "at most 1 frame is in flight"
    yield from _call(look, look.submit, "submitting", "it waits for nothing", ", be it work or a wait")


@_explains(Cause.MOVED_WAIT, "the download call waits in synchronize's place", _STAGES,
           needs="the download and the synchronize call",
           fix="pinned output; the wait for the network then shows in synchronize")  # fmt: skip
def _moved_wait(look: Look) -> Verdicts:
    download, synchronize, grown = look[Stage.DOWNLOAD], look[Stage.SYNCHRONIZE], look[Stage.SYNCHRONIZE].grew
    if look.traced and look.traced.moved_ms:
        yield "proven", f"copy calls wait {ms(look.traced.moved_ms)} in a traced frame for other work than their copy"
    infer_waits = look[Stage.INFER].highest > at.SUBMITS * download.median  # it may be why synchronize does not
    short = synchronize.highest <= at.NO_WAIT * download.median and not infer_waits
    alone = look.longest_other < at.NO_WAIT * download.median  # a wait of another name may stand in front of it
    alone &= look.host_ms < download.median / 2  # else the GPU may be done when the call is made
    if look.download_first and not look.page_locked("output") and short and alone and look.holds(Stage.DOWNLOAD):
        waited = f"a download call of {ms(download.median)}, which has waited for the GPU"
        yield "proven", f"synchronize takes {ms(synchronize.highest)} behind {waited}"
    if look.page_locked("output"):
        yield "excluded", "the output is page-locked"
    waits = grown.to if grown else synchronize.lowest
    came = grown and (download.fell or not look[look.whole].changed)  # from elsewhere: the frame is as long
    if waits > at.HOLDS * at.CALL_FLOOR_MS and not came and not waits < download.highest:
        yield "excluded", f"synchronize itself waits {ms(waits)}"
    behind = " (behind synchronize, as the columns are ordered)" if look.download_first is False else ""
    yield from _call(look, Stage.DOWNLOAD, f"the download call{behind}", "it waits for nothing")
    if grown:
        yield "possible", f"synchronize goes {from_to(grown)}, and the frame not as much"
    if Stage.SYNCHRONIZE in look.series:
        takes = ms(synchronize.lowest)
        yield "possible", f"synchronize takes no more than {takes} at times, and no download call was measured"


# A slower GPU.


@_explains(Cause.CLOCK_DROP, "the GPU runs at a lower clock", _SMI,
           needs="the SM clock beside the frames",
           fix="no gaps between frames, or locked clocks (nvidia-smi -lgc)")  # fmt: skip
def _clock_drop(look: Look) -> Verdicts:
    explained = _clock_explains(look)
    beside = "" if look.waits_measured else "no call that waits for the GPU was measured"
    if explained and look.cool and not (beside := beside or _grows_beside(look)):
        yield "proven", explained
    if explained and look.cool:
        yield "possible", f"{explained}; {beside}"
    if explained and look.heat_follows:
        yield "excluded", "the GPU gives heat as the reason"
    yield from _clock(look)


@_explains(Cause.HEAT, "the GPU is too hot and lowers its clock", _SMI,
           needs="temperature and throttle reasons beside the frames",
           fix="better cooling, or a lower power limit")  # fmt: skip
def _heat(look: Look) -> Verdicts:
    explained = _clock_explains(look)
    if explained and look.heat_follows and look.waits_measured and not _grows_beside(look):
        yield "proven", f"{explained}, and the GPU gives heat as the reason"
    if look.cool:
        yield "excluded", look.cool
    if share := max(look.throttled(*THERMAL).values(), default=0.0):
        yield "possible", f"the GPU gives heat as a reason for its clock in {share:.0%} of the frames"
    yield from _clock(look)


def _by_clock(look: Look) -> float:
    """How much of the change of the wait the SM clock accounts for, in ms: the calls before, times its factor."""
    if look.wait is None:
        return 0.0
    name, change = look.wait
    before, after = (look.level("sm_clock_mhz", window) for window in (change.before, change.after))
    slow, fast = min(before, after), max(before, after)
    right_way = (before > after) == (change.to > change.start)
    busy = max(min(change.start, change.to), look.level("gpu", change.before) if name != "gpu" else 0.0)
    return busy * (fast / slow - 1) if right_way and slow > 0 and fast / slow - 1 > at.CLOCK else 0.0


def _clock_explains(look: Look) -> str:
    """How the clock accounts for the change of the wait; '' where it does not. One that comes up is a warm-up."""
    goes = _wait_as(look, "sm_clock_mhz", "the SM clock goes")
    if look.wait is None or not goes:
        return ""
    change, by_clock = look.wait[1], _by_clock(look)
    warms_up = change.to < change.start and change.before.first < look.frames // 4
    explains = at.EXPLAINED <= by_clock / change.size <= 1 / at.EXPLAINED
    if warms_up or not explains or look.follows_clock() < at.FOLLOWS:
        return ""
    part = f"all of {ms(change.size)}" if by_clock >= change.size else f"{ms(by_clock)} of {ms(change.size)}"
    return f"{goes} MHz; that accounts for {part}"


def _clock(look: Look) -> Verdicts:
    """A clock that stays may have been low all along, unless its own maximum is known."""
    clock, told = look.telemetry.get("sm_clock_mhz"), look.throttled()
    kernels = look.traced.kernels_stay() if look.traced else ""
    memory = look.telemetry.get("memory_clock_mhz", np.ones(1))
    if np.nanmin(memory) < (1 - at.CLOCK) * np.nanmax(memory):
        falls = f"the memory clock goes down to {number(np.nanmin(memory))} of {number(np.nanmax(memory))} MHz"
        yield "possible", f"{text}, and {falls}" if (text := _wait_text(look)) else falls
    if clock is not None and np.isfinite(clock).all() and not told:
        lowest, highest = clock.min(), clock.max()
        stalls = [look[name].stalls for name in (*look.stages, look.whole)]
        brief = any(each and each.share > at.STALLS_SHARE for each in stalls)  # shorter than a sample of the clock
        if (
            look.sampled
            and not brief
            and np.all(clock > (1 - at.CLOCK) * look.telemetry.get("sm_clock_max_mhz", np.inf))
        ):
            highest_all_along = f"the SM clock is at {number(lowest)} MHz or more, its highest"
            if "memory_clock_mhz" in look.telemetry:
                yield "excluded", f"{highest_all_along}, and the memory's stays"
            yield "possible", f"{highest_all_along}; the memory's clock was not measured"
        if lowest > (1 - at.CLOCK) * highest:
            yield "possible", f"the SM clock stays at {number(highest)} MHz, maybe below its maximum; {ALL_ALONG}"
    if kernels and look.wait:
        yield "excluded", kernels
    if clock is not None:
        waits = f"{text}, and " if (text := _wait_text(look)) else ""
        moves = f"{waits}the SM clock goes down to {number(np.nanmin(clock))} of {number(np.nanmax(clock))} MHz"
        reasons = ", ".join(told).replace("throttle_", "")
        yield "possible", f"{moves}; the GPU gives {reasons} as the reason" if told else moves
    if kernels:
        yield "possible", f"{kernels}; {ALL_ALONG}"
    yield from _wait(look)


# Memory.


@_explains(Cause.ALLOCATION, "memory is allocated in the loop", _TRACE,
           needs="a trace, which has every call",
           fix="allocate once, before the loop")  # fmt: skip
def _allocation(look: Look) -> Verdicts:
    if look.traced and look.traced.complete:
        calls, frames = look.traced.seen.frames["in_allocate_ns"], look.traced.took_ns
        takes = f"calls that allocate or free memory take {ms(float(median(calls)) / 1e6)} of a traced frame"
        if median(calls) > at.TRACE_SHARE * median(frames):
            yield "proven", takes
        share = float(calls.sum() / frames.sum())
        yield "excluded" if share < at.TRACE_SHARE else "possible", f"{takes}, {share:.1%} of all time"
    stalls = _stalling(look, Stage.PREPROCESS, Stage.UPLOAD)
    whole = look.stages and look.unseen  # else an allocation may stand between the stages
    if whole and not (look.roomy or stalls or _stalling(look, Stage.INFER)):
        least = f"no stage takes {ms(at.ALLOCATION_MS)}, the least that an allocation takes"
        yield "excluded", f"{least}, but for the waits"
    if look.roomy:
        longest = max(look.roomy, key=look.most)
        lowest, every = look[longest].lowest, look[longest].lowest > at.ALLOCATION_MS
        took = f"at least {ms(lowest)}" if every else f"up to {ms(look.most(longest))}"
        room = f"{longest} takes {took}, long enough to hold one in {'every frame' if every else 'some frames'}"
        yield "possible", f"{room}; {stalls}" if stalls else room
    yield "possible", stalls or f"what {look.whole} of {ms(look[look.whole].median)} holds was not measured"


@_explains(Cause.LEAK, "the process keeps more host memory with every frame", _RSS,
           needs="the memory of the process beside the frames, such as a column rss_mb",
           fix="release, or register once, what each frame keeps")  # fmt: skip
def _leak(look: Look) -> Verdicts:
    yield from _kept(look, HOST_MEMORY, "host memory", "proven")
    if look.wait and look.wait[1].to > look.wait[1].start:
        yield from _wait(look)
    if grown := look[look.whole].grew:
        yield "possible", f"{look.whole} goes {from_to(grown)}"
    yield from _room_for_memory(look)


@_explains(Cause.DEVICE_LEAK, "the process keeps more memory of the GPU with every frame", _SMI,
           needs="the memory in use on the GPU",
           fix="free what each frame allocates, or allocate it once")  # fmt: skip
def _device_leak(look: Look) -> Verdicts:
    alone = _alone(look)
    what = "memory of the GPU, on which no other process is," if alone else "memory of the GPU"
    yield from _kept(look, DEVICE_MEMORY, what, "proven" if alone else "possible")
    yield from _room_for_memory(look)


def _kept(look: Look, column: str, what: str, if_kept: Verdict) -> Verdicts:
    """Memory that was measured: every fifth of the run adds to it, or it ends where it starts, or it jumps."""
    held = look.telemetry.get(column, np.empty(0))
    held = held[np.isfinite(held)]
    if not len(held):
        return
    more, climbs = held[-1] - held[0], float(np.max(held - np.minimum.accumulate(held)))
    rises = np.diff(in_blocks(held, min(6, len(held)))[1])
    least = max(at.LEAK_BYTES, at.LEAK_SHARE * held[0])
    if len(held) >= at.FEWEST_FRAMES and 0 < at.LEAK_STEADY * rises.mean() < rises.min():
        grows = f"{what} grows by {_megabytes(more)} in {look.frames:,} frames, some in every fifth of the run"
        often = column == HOST_MEMORY or np.count_nonzero(np.diff(held) > 0) >= at.FEWEST_FRAMES
        yield if_kept if more > least and often else "possible", grows  # few jumps may be of what is taken once
    ends = f"{what} ends {_megabytes(abs(more))} {'below' if more < 0 else 'above'} where it starts"
    if climbs <= at.LEAK_BYTES and look.sampled:
        yield "excluded", ends
    yield "possible", f"{ends}, by jumps of up to {_megabytes(np.max(np.diff(held, prepend=held[0])))}"


def _room_for_memory(look: Look) -> Verdicts:
    for name in look.roomy[:1]:
        takes = f"{name} takes up to {ms(look.most(name))}, which may hold calls that keep memory"
        yield "possible", f"{takes}; {ALL_ALONG}"


def _megabytes(value: float) -> str:
    return f"{number(value / 1e6)} MB"


# The host.


@_explains(Cause.PREPROCESS, "the loop's own work on the host grew",
           "run pre- and postprocessing alone on the same frames: do they grow there too?",
           needs="the time of preprocessing",
           fix="less work in that stage, or move it to the GPU or a thread")  # fmt: skip
def _preprocess(look: Look) -> Verdicts:
    work = [stage for stage in HOST_WORK if stage in look.series]
    if Stage.PREPROCESS not in work:
        return
    longest = max(work, key=lambda stage: look[stage].highest)
    takes = f"{longest} takes {ms(look[longest].lowest)} to {ms(look[longest].highest)}"
    stalls = _stalling(look, *work, share=at.STALL_TIMES - 1)  # those that make a stall of the frame
    stays = all(look.stays(s, at.UNFELT, at.STAYS / 2) for s in (*work, *look.others) if look[s].highest)
    if look.frames < at.FEWEST_FRAMES:  # a start and an end are no series, but what has no part in a growth can be read
        part, stages = look[Stage.PREPROCESS].late - look[Stage.PREPROCESS].early, look["stages"].grew
        if stages and abs(part) <= stages.size / 20:
            part_text = ms(round(max(0.0, part), 6))
            yield "excluded", f"preprocess accounts for {part_text} of {ms(stages.size)} of growth"
    elif look.sees_all and not stalls and stays and look.stays(look.unseen, at.OF_FRAME, 0.0):
        yield "excluded", f"{takes}, and what no column covers stays too"
    for name in (*work, *look.others, look.unseen):
        if grown := look[name].grew:
            yield "possible", f"{name} {'goes' if name in work else 'may be of the host, and goes'} {from_to(grown)}"
    if stalls:
        yield "possible", stalls
    if look.frames >= at.FEWEST_FRAMES:
        yield "possible", takes
    yield "not_measured", f"needs {_ENOUGH}"


@_explains(Cause.HOST_CONTENTION, "other work takes this machine's cores or memory bandwidth",
           "run it once with no other program on the machine: is it as slow?",
           needs="the host's own stages, such as preprocessing",
           fix="fewer programs on the machine, or cores of the loop's own (taskset)")  # fmt: skip
def _host_contention(look: Look) -> Verdicts:
    work = [s for s in (*HOST_WORK, Stage.INFER) if s in look.stages]
    own = [s for s in work if s is not Stage.INFER or (look.waits_measured and look.holds(s))]
    if grown := [f"{s} goes {from_to(change)}" for s in own if (change := look[s].grew)]:
        yield "possible", "; ".join(grown)
    if stalls := _stalling(look, *HOST_WORK, Stage.INFER, Stage.UPLOAD):
        yield "possible", stalls
    yield from _whole_stalls(look)
    if work and look.waits_measured and look.frames >= at.FEWEST_FRAMES:
        most = sum(look[s].highest for s in (*work, *filter(None, [look.unseen])))
        if most < at.OF_STAGE * look.whole_ms and (text := _wait_text(look)):
            yield "possible", f"{text}; a call that waits returns late where its core is taken"
        if most < at.OF_STAGE * look.whole_ms and look.sees_all:
            yield "excluded", f"the host's own work takes at most {ms(most)} of a frame of {ms(look.whole_ms)}"
        longest = max(work, key=lambda name: look[name].median)
        yield "possible", f"{longest} takes {ms(look[longest].median)}; {ALL_ALONG}"
    if work:
        lacks = _ENOUGH if look.waits_measured else "a call that waits for the GPU, such as synchronize"
        yield "not_measured", f"needs {lacks}"


_ENOUGH = f"a series of {at.FEWEST_FRAMES} frames or more"


# The network.


@_explains(Cause.SHAPE_CHANGE, "the input's shape changes", "log the shape of each input",
           needs="the enqueue call",
           fix="one shape: pad, or letterbox")  # fmt: skip
def _shape_change(look: Look) -> Verdicts:
    if look.traced and (found := look.traced.new_sizes()):
        sizes, new_ms, others_ms = found
        uploads = f"uploads are of {len(sizes)} sizes, {number(sizes[0] / 1e6)} to {number(sizes[-1] / 1e6)} MB"
        takes = f"{uploads}; a frame of a new size takes {ms(new_ms)}, others {ms(others_ms)}"
        yield "proven" if new_ms > at.FAST_START * others_ms else "possible", takes
    unknown, stalls = ", and the shapes of the inputs are unknown", _stalling(look, Stage.INFER)
    if text := _wait_text(look):
        yield "possible", text
    moves = next((f"{name} goes {from_to(c)}" for name in look.stages if (c := look[name].changed)), stalls)
    if not moves and not look.stays(look.whole):
        moves = f"{look.whole} takes {ms(look[look.whole].lowest)} to {ms(look[look.whole].highest)}"
    if moves:
        yield "possible", f"{moves}{unknown}"
    yield from _call(look, look.submit, look.submit, "too short to prepare a new shape", unknown)
    if not look.stages:
        yield from _whole_stalls(look)


@_explains(Cause.LAUNCH_BOUND, "launching takes the host longer than the GPU needs", _TRACE,
           needs="the enqueue call",
           fix="a CUDA graph")  # fmt: skip
def _launch_bound(look: Look) -> Verdicts:
    if found := look.trace_finding("launch_bound"):
        yield "proven" if "gain_ns" in found.numbers else "possible", found.text
    if look.traced and look.traced.complete:
        yield "excluded", "in the trace the GPU idles between the launches of a frame for less than is worth telling"
    if look.measured.graph:
        yield "excluded", "the loop launches a graph already"
    most, waits = look[Stage.INFER].highest, look[Stage.SYNCHRONIZE].lowest
    if most < at.LAUNCH_SHARE / (1 - at.LAUNCH_SHARE) * waits:  # launched as slowly, the GPU would be done with it
        yield "excluded", f"submitting takes at most {ms(most)}, and then synchronize still waits {ms(waits)} or more"
    if {"enqueue", "gpu_compute"} <= (facts := look.facts).keys():
        enqueue, compute = facts["enqueue"], facts["gpu_compute"]
        verdict: Verdict = "excluded" if enqueue < at.LAUNCH_SHARE * compute else "possible"
        yield verdict, f"enqueue takes {ms(enqueue)}, the GPU {ms(compute)}"
    if Stage.INFER in look.series:
        yield "possible", f"submitting takes {ms(look[Stage.INFER].median)}"


@_explains(Cause.WARM_UP, "the first frames are slow, and only these", "run it longer",
           needs="the first frames of a run",
           fix="leave the first frames out")  # fmt: skip
def _warm_up(look: Look) -> Verdicts:
    if look.frames < 2:
        return
    shape, values = look[look.whole], look.series[look.whole]
    first, settled, fell = shape.first_highest, shape.settled, shape.fell
    later = float(np.max(values[at.EDGE_FRAMES :], initial=0.0))
    slowest = f"the slowest of the first {at.EDGE_FRAMES} frames takes {ms(first)}"
    if look.frames < at.FEWEST_FRAMES:
        if shape.grew:
            yield "excluded", f"it is fast at first, and slow later: {look.whole} goes {from_to(shape.grew)}"
    else:
        slow_first = values[0] > at.NOT_WARM * settled  # else it is a stall
        if slow_first and first >= at.WARM * settled > later and not shape.grew and not look.wait:
            yield "proven", f"{slowest}, no later one more than {ms(later)}"
        if fell and fell.form == "step" and fell.since > look.frames // 2:
            yield "excluded", f"it is slow for {fell.since:,} of {look.frames:,} frames, and then at once no more"
        if first < (1.0 if fell else at.NOT_WARM) * settled:
            yield "excluded", f"{slowest}, the median of the second half {ms(settled)}"
        last = values[look.frames // 2 :]
        if np.sum(last > at.NOT_WARM * settled) >= at.EDGE_FRAMES and first <= last.max():
            slow = f"the first ones take up to {ms(first)}, those of the second half {ms(float(last.max()))}"
            yield "excluded", f"later frames are as slow: {slow}"
    if first > settled and look.frames >= 2 * at.EDGE_FRAMES:
        text = f"{look.whole} takes up to {ms(first)} at first, and {ms(settled)} in the second half"
        yield "possible", text if later < at.WARM * settled else f"{text}; a later frame takes {ms(later)}"
