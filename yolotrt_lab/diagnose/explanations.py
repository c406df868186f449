"""What can explain a loop's times: each cause with what proves it, excludes it, or leaves it possible.

A rule yields verdicts with the number that decides, the strongest first; the first one holds, and without any the cause
was not measured. What is there from the first frame on leaves a series flat: that a wait stays as it is excludes no
clock, no heat and no other work. An exclusion rests on what a cause would have to show in every frame, such as a clock
that was measured or a call too short to hold it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..types import Cause, Stage
from . import thresholds as at
from .look import HOST_WORK, QUEUE, Look, from_to, ms, number
from .series import Change

ALL_ALONG = "from the first frame on would look the same"
"""How the number ends of a cause that nothing speaks for, and that a series which stays as it is can't exclude."""
Verdict = Literal["proven", "possible", "excluded", "not_measured"]
Verdicts = Iterator[tuple[Verdict, str]]


@dataclass(frozen=True, slots=True)
class Explanation:
    """One cause."""

    cause: Cause
    words: str
    """It in words, for a reader who does not know its name."""
    rule: Callable[[Look], Verdicts]
    needs: str
    """What would have to be measured."""
    fix: str
    next: str
    """The experiment or the command that decides."""

    def judge(self, look: Look) -> tuple[Verdict, str]:
        """The verdict, and the number it rests on."""
        few = self.cause in (Cause.PREPROCESS, Cause.HOST_CONTENTION) and 0 < look.frames < at.FEWEST_FRAMES
        needs = f"needs {self.needs}" + (f", of {at.FEWEST_FRAMES} frames or more" if few else "")
        return next(self.rule(look), ("not_measured", needs))


# A queue in front of the loop.


def _queueing(look: Look) -> Verdicts:
    if look.queue is not None and not _waits_for_others(look):
        why = f"a frame is {ms(look.excess_ms)} too long for its clock"
        frames = number(look.queue.size / look.service_ms)
        yield "proven", f"latency beyond the stages climbs {from_to(look.queue)}, {frames} frames' work; {why}"
    yield from _no_queue(look)
    if look.sees_queue or _beyond(look):
        yield "possible", _beyond_text(look)
    if look.frames and not look.stages and look.grew(look.whole):
        yield "possible", f"{look.whole} grows, and no stage was measured"


def _no_queue(look: Look) -> Verdicts:
    if look.sees_queue and look.frames >= at.FEWEST_FRAMES:
        most = max(look.shape(QUEUE).highest, 0.0)
        if most < look.service_ms:
            yield "excluded", f"latency holds at most {ms(most)} beyond the stages"


def _beyond(look: Look) -> bool:
    return QUEUE in look.series and look.shape(QUEUE).change.to > at.QUEUED_FRAMES * look.service_ms


def _beyond_text(look: Look) -> str:
    """What lies beyond the stages, which without instants may as well be in the frame as in front of it."""
    late, most = look.shape(QUEUE).late, max(look.shape(QUEUE).highest, look.shape(QUEUE).late)
    whole = "latency" if look.sees_queue else look.whole
    held = (
        f"{whole} holds up to {ms(most)} beyond the stages, {ms(late)} at the end, of a frame of {ms(look.service_ms)}"
    )
    return held if look.has_instants else f"{held}: a queue, or work that no column covers"


def _pageable_overload(look: Look) -> Verdicts:
    if look.pageable_input and look.queue is not None and look.holds(Stage.UPLOAD):
        upload = look.level(Stage.UPLOAD, look.queue.before)
        if upload > look.excess_ms > 0:
            too_long = f"a frame is {ms(look.excess_ms)} too long for its clock"
            yield "proven", f"{too_long}, and its pageable upload call takes {ms(upload)}"
    if (lone := _grows_alone(look)) is not None:
        yield "proven", f"the pageable upload call {from_to(lone)}, and no other call with it"
    if look.memory("input"):
        yield "excluded", "the input is page-locked"
    if Stage.UPLOAD not in look.series:
        return
    if look.pageable_input is False and not look.holds(Stage.UPLOAD, look.shape(Stage.UPLOAD).highest):
        yield (
            "excluded",
            f"the upload call takes {ms(look.median(Stage.UPLOAD))}, no longer than a call that does not wait",
        )
    grown, stages = look.grew(Stage.UPLOAD), look.grew("stages")
    if (
        stages is not None
        and look.has_instants
        and look.queue is None
        and (grown is None or grown.size < stages.size / 5)
    ):
        part = ms(grown.size if grown else 0.0)
        yield "excluded", f"the upload call accounts for {part} of {ms(stages.size)} of growth"
    if grown is None:
        yield from _no_queue(look)
    if look.holds(Stage.UPLOAD, look.shape(Stage.UPLOAD).highest):
        clock = "" if look.sees_queue else "; if that makes a frame too long for its clock was not measured"
        yield "possible", f"the upload call holds the host for {ms(look.shape(Stage.UPLOAD).late)}{clock}"


def _grows_alone(look: Look) -> Change | None:
    """The rise of a pageable upload call that waits for what lies in front of it, and no other call with it."""
    grown = look.grew(Stage.UPLOAD)
    if not look.pageable_input or grown is None or grown.to < 2 * grown.start or not look.waits_measured:
        return None
    others = [s for s in look.stages if s is not Stage.UPLOAD]
    rest = sum(look.level(s, grown.after) - look.level(s, grown.before) for s in others)
    return grown if rest < grown.size / 2 else None


def _shared_stream(look: Look) -> Verdicts:
    if found := _waits_for_others(look):
        yield "proven", found
    if len(look.in_flight) and look.in_flight.max() <= 1:
        yield "excluded", "one frame is in flight at a time"
    if look.traced and look.traced.alone:
        yield "excluded", "no synchronize call in the trace waits for work of others"
    if look.traced and look.traced.waits_outside:
        calls = f"{look.traced.waits_outside} synchronize calls of the trace are in no frame"
        yield "possible", f"{calls}: another thread makes them"
    if _beyond(look):
        times = number(look.shape(QUEUE).late / look.service_ms)
        yield "possible", f"latency is {times} times what the stages add up to"
    if Stage.SYNCHRONIZE in look.series or not look.waits_measured:
        yield from _wait_changes(look)
    if Stage.SYNCHRONIZE in look.series:
        yield from _wait_is(look, "work of another thread in front of it")


def _waits_for_others(look: Look) -> str:
    flight, span = look.in_flight, 32
    if len(flight) <= span or Stage.SYNCHRONIZE not in look.series:
        return ""
    more = flight[span:] - flight[:-span]
    first = int(np.argmax(more))
    waits = look.series[Stage.SYNCHRONIZE]
    usual, during = float(np.median(waits)), float(np.median(waits[first : first + span]))
    if more[first] < at.CLIMB * span or during < at.FAST_START * usual:
        return ""
    frames = f"frames in flight go from {flight[first]} to {flight.max()} within {span} frames"
    return f"{frames}, and synchronize then takes {ms(during)} instead of {ms(usual)}: it waits for frames of others"


# Where the wait is.


def _launch_queue(look: Look) -> Verdicts:
    grown, flight = look.grew(Stage.INFER), look.in_flight
    if grown is not None and Stage.SYNCHRONIZE in look.series and len(flight):
        deep = float(np.median(flight[grown.after.first : grown.after.end]))
        waited = look.level(Stage.SYNCHRONIZE, grown.after)
        if deep >= at.IN_FLIGHT and waited <= at.NO_WAIT * grown.to and grown.to >= at.FAST_START * grown.start:
            submitting = f"submitting goes {from_to(grown)} with {number(deep)} frames in flight"
            yield "proven", f"{submitting}, and synchronize waits for nothing"
    if len(flight) and flight.max() < at.IN_FLIGHT:
        yield "excluded", f"at most {flight.max()} frames are in flight"
    if look.waits_measured and look.stays(Stage.INFER) and not look.holds(Stage.INFER, look.shape(Stage.INFER).highest):
        yield "excluded", f"submitting takes {ms(look.shape(Stage.INFER).highest)} at most: it waits for nothing"
    if grown is not None:
        yield "possible", f"submitting goes {from_to(grown)}"
    if Stage.INFER in look.stages and look.waits_measured:
        yield "possible", f"submitting takes {ms(look.median(Stage.INFER))}, be it work or a wait"


def _moved_wait(look: Look) -> Verdicts:
    if look.traced and look.traced.moved_ms:
        yield "proven", f"copy calls wait {ms(look.traced.moved_ms)} in a traced frame for other work than their copy"
    download, wait = look.median(Stage.DOWNLOAD), look.median(Stage.SYNCHRONIZE)
    if not look.memory("output") and wait <= at.NO_WAIT * download and look.holds(Stage.DOWNLOAD):
        waited = f"a download call of {ms(download)}, which has waited for the GPU"
        yield "proven", f"synchronize takes {ms(wait)} behind {waited}"
    if look.memory("output"):
        yield "excluded", "the output is page-locked"
    late = look.shape(Stage.SYNCHRONIZE).late if Stage.SYNCHRONIZE in look.series else float("nan")
    if Stage.DOWNLOAD not in look.series:
        if late > at.HOLDS * at.CALL_FLOOR_MS:
            yield "excluded", f"synchronize itself waits {ms(late)}"
        if Stage.SYNCHRONIZE in look.series:
            yield "possible", "synchronize waits for nothing, and no download call was measured"
        return
    highest = look.shape(Stage.DOWNLOAD).highest
    if late > at.HOLDS * at.CALL_FLOOR_MS and not late < highest:
        yield "excluded", f"synchronize itself waits {ms(late)}"
    if not look.holds(Stage.DOWNLOAD, highest):
        yield "excluded", f"the download call takes {ms(download)}: it waits for nothing"
    yield "possible", f"the download call takes {ms(download)}"


def _launch_bound(look: Look) -> Verdicts:
    if look.traced and (found := look.traced.finding("launch_bound")):
        yield "proven", found.text
    if look.traced and look.traced.has_frames:
        yield "excluded", "in the trace the GPU idles between the launches of a frame for less than is worth telling"
    gpu = look.median("gpu")
    most = look.shape(Stage.INFER).highest if Stage.INFER in look.series else float("nan")
    if look.waits_measured and most < at.LAUNCH_SHARE * gpu:
        yield "excluded", f"submitting takes at most {ms(most)} of the {ms(gpu)} until the GPU is done"
    facts = look.measured.facts
    if facts.get("enqueue", 0.0) > facts.get("gpu_compute", float("inf")):
        yield "possible", f"enqueue takes {ms(facts['enqueue'])}, the GPU {ms(facts['gpu_compute'])}"
    if Stage.INFER in look.series:
        yield "possible", f"submitting takes {ms(look.median(Stage.INFER))}"


# A slower GPU.


def _wait_text(look: Look) -> str:
    """How the wait for the GPU changed; '' where it did not."""
    if look.wait is None:
        return ""
    name, change = look.wait
    return f"{'the calls that wait for the GPU go' if name == 'gpu' else f'{name} goes'} {from_to(change)}"


def _wait_changes(look: Look) -> Verdicts:
    if text := _wait_text(look):
        yield "possible", text


def _wait_is(look: Look, what: str) -> Verdicts:
    """What a wait that stays as it is leaves open."""
    then = f"{what} {ALL_ALONG}"
    if look.waits_measured:
        yield "possible", f"the calls that wait for the GPU take {ms(look.median('gpu'))}; {then}"
    elif look.frames and (not look.stages or Stage.INFER in look.stages):
        name = Stage.INFER if look.stages else look.whole
        yield "possible", f"{name} takes {ms(look.median(name))}; {then}"


def _shared_gpu(look: Look) -> Verdicts:
    others = look.telemetry.get("gpu_processes")
    if look.wait is not None and others is not None and "sm_clock_mhz" in look.telemetry and not _leaks(look):
        name, change = look.wait
        before, after = (look.level("gpu_processes", window) for window in (change.before, change.after))
        came = (after - before) * (1 if change.to > change.start else -1)
        in_steps = len(np.unique(others[change.before.first : change.after.end])) > 2 or change.form == "step"
        by_clock = _by_clock(look)
        follows = came >= 1 and in_steps and look.follows(name, "gpu_processes") >= at.FOLLOWS
        if follows and by_clock <= at.EXPLAINED * change.size:
            came_text = f"{_wait_text(look)} as other processes go from {number(before)} to {number(after)} in step"
            clock = number(look.level("sm_clock_mhz", change.after))
            yield "proven", f"{came_text}; the SM clock of {clock} MHz accounts for {ms(by_clock)}"
    if others is not None and np.all(others == 0):
        yield "excluded", "no other process is on the GPU in any frame"
    if look.traced and (found := look.traced.finding("unexplained_wait")):
        yield "possible", found.text
    yield from _wait_changes(look)
    if others is not None:
        yield "possible", f"processes listed on the GPU: up to {number(np.nanmax(others))}"
    yield from _wait_is(look, "others that are there")


def _leaks(look: Look) -> bool:
    return look.kept_bytes("host_memory_bytes") > 0


def _by_clock(look: Look) -> float:
    """How much of the change of the wait the SM clock accounts for, in ms: the calls before, times its factor."""
    if look.wait is None:
        return 0.0
    name, change = look.wait
    clocks = [look.level("sm_clock_mhz", window) for window in (change.before, change.after)]
    slow, fast = min(clocks), max(clocks)
    right_way = (clocks[0] > clocks[1]) == (change.to > change.start)
    busy = max(min(change.start, change.to), look.level("gpu", change.before) if name != "gpu" else 0.0)
    return busy * (fast / slow - 1) if right_way and slow > 0 and fast / slow - 1 > at.CLOCK else 0.0


def _clock_explains(look: Look) -> str:
    """How the clock accounts for the change of the wait; '' where it does not. One that comes up is a warm-up."""
    if look.wait is None:
        return ""
    change = look.wait[1]
    warms_up = change.to < change.start and change.before.first < look.frames // 4
    if warms_up or not at.EXPLAINED <= _by_clock(look) / change.size <= 1 / at.EXPLAINED:
        return ""
    before, after = (number(look.level("sm_clock_mhz", window)) for window in (change.before, change.after))
    clocks = f"{_wait_text(look)} as the SM clock goes from {before} to {after} MHz"
    by_clock = _by_clock(look)
    part = f"all of {ms(change.size)}" if by_clock >= change.size else f"{ms(by_clock)} of {ms(change.size)}"
    return f"{clocks}; that accounts for {part}"


def _throttled(look: Look, reasons: tuple[str, ...]) -> float | None:
    """The share of the frames for which the GPU gives one of the reasons; None where it does not tell."""
    told = [look.telemetry[name] for name in reasons if name in look.telemetry]
    return max(float(np.nanmean(each)) for each in told) if told else None


_THERMAL = ("throttle_sw_thermal_slowdown", "throttle_hw_thermal_slowdown")


def _heat_follows(look: Look) -> bool:
    """True where the GPU gives heat as its reason for much longer after the change of the wait, or for much less."""
    windows = () if look.wait is None else (look.wait[1].before, look.wait[1].after)
    told = [[float(np.nanmean(look.telemetry[name][w.first : w.end])) for w in windows]
            for name in _THERMAL if name in look.telemetry]  # fmt: skip
    return any(shares and abs(shares[1] - shares[0]) > at.THROTTLED for shares in told)


def _is_cool(look: Look) -> str:
    """Why heat is no reason in any frame; '' where it may be one."""
    heat, share = look.telemetry.get("temperature_c"), _throttled(look, _THERMAL)
    warm = f"; it is at most {number(float(np.nanmax(heat)))} degrees warm" if heat is not None else ""
    if share == 0 if share is not None else heat is not None and np.nanmax(heat) < at.HOT_C:
        return f"the GPU does not slow down for heat{warm}"
    return ""


def _clock_stays(look: Look) -> Verdicts:
    clock = look.telemetry.get("sm_clock_mhz")
    reasons = tuple(name for name in look.telemetry if name.startswith("throttle_"))
    if clock is not None and np.isfinite(clock).all() and not _throttled(look, reasons):
        if clock.min() > (1 - at.CLOCK) * clock.max():
            yield "excluded", f"the SM clock stays at {number(float(np.median(clock)))} MHz"
    elif look.traced and look.wait is not None and (kernels := look.traced.kernels_stay()):
        yield "excluded", kernels


def _clock_moves(look: Look) -> Verdicts:
    clock, low = look.telemetry.get("sm_clock_mhz"), "a clock that is low"
    if look.wait is None and clock is not None:
        least, most = number(float(np.nanmin(clock))), number(float(np.nanmax(clock)))
        told = [name for name, values in look.telemetry.items() if name.startswith("throttle_") and values.any()]
        reasons = f"; the GPU gives {', '.join(told).replace('throttle_', '')} as the reason" if told else ""
        yield "possible", f"the SM clock goes down to {least} of {most} MHz{reasons}"
    yield from _wait_changes(look)
    if look.traced and (kernels := look.traced.kernels_stay()):
        yield "possible", f"{kernels}; {low} {ALL_ALONG}"
    yield from _wait_is(look, low)


def _clock_drop(look: Look) -> Verdicts:
    explained = _clock_explains(look)
    if explained and _is_cool(look):
        yield "proven", explained
    yield from _clock_stays(look)
    if explained and _heat_follows(look):
        yield "excluded", "the GPU gives heat as the reason"
    yield from _clock_moves(look)


def _heat(look: Look) -> Verdicts:
    explained = _clock_explains(look)
    if explained and _heat_follows(look):
        yield "proven", f"{explained}, and the GPU gives heat as the reason"
    if cool := _is_cool(look):
        yield from _clock_stays(look)
        yield "excluded", cool
    if share := _throttled(look, _THERMAL):
        yield "possible", f"the GPU gives heat as a reason for its clock in {share:.0%} of the frames"
    yield from _clock_stays(look)
    yield from _clock_moves(look)


# Memory and the host.


def _allocation(look: Look) -> Verdicts:
    if look.traced and look.traced.has_frames:
        took = f"calls that allocate or free memory take {ms(look.traced.allocate_ms)} of a traced frame"
        if look.traced.allocate_ms > at.TRACE_SHARE * look.traced.frame_ms:
            yield "proven", took
        if look.traced.allocate_share < at.TRACE_SHARE:
            yield "excluded", took
        yield (
            "possible",
            f"calls that allocate or free memory take {look.traced.allocate_share:.0%} of all traced frames",
        )
    stalls, rooms = _stalling(look, (Stage.PREPROCESS, Stage.UPLOAD)), look.roomy
    whole = look.stages and (Stage.PREPROCESS in look.series or QUEUE in look.series)
    if whole and not (rooms or stalls or _stalling(look, (Stage.INFER,))):
        least = f"no stage takes {ms(at.ALLOCATION_MS)}, the least that an allocation takes"
        yield "excluded", f"{least}, but for the waits"
    if rooms:
        longest = max(rooms, key=look.median)
        room = f"{longest} takes {ms(look.median(longest))}, long enough to hold one in every frame"
        yield "possible", "; ".join(filter(None, [room, stalls]))
    if stalls:
        yield "possible", stalls
    if look.frames:
        yield "possible", f"what {look.whole} of {ms(look.median(look.whole))} holds was not measured"


def _stalling(look: Look, stages: tuple[Stage, ...], share: float = at.OF_STAGE) -> str:
    """The first stage with stalls by more than a share of the frame, in words; '' without one."""
    for stage in stages:
        stalls = look.shape(stage).stalls if stage in look.stages else None
        if stalls and stalls.longest - look.median(stage) > share * look.whole_ms:
            times = f"{stalls.frames} frames" if stalls.frames > 1 else "one frame"
            return f"{stage} takes up to {ms(stalls.longest)} in {times}, in most {ms(look.median(stage))}"
    return ""


def _leak(look: Look) -> Verdicts:
    if kept := look.kept_bytes("host_memory_bytes"):
        more = f"{number(kept / 1e6)} MB more of host memory in {look.frames:,} frames"
        yield "proven", f"the process keeps {more}, some in every fifth of the run"
    held = look.telemetry.get("host_memory_bytes")
    if held is not None:
        most = float(np.nanmax(held)) - held[0]
        if most <= at.LEAK_BYTES:
            yield "excluded", f"host memory ends {number((held[-1] - held[0]) / 1e6)} MB from where it starts"
        yield "possible", f"host memory lies up to {number(most / 1e6)} MB above where it starts, not evenly"
    if look.wait and look.wait[1].to > look.wait[1].start:
        yield from _wait_changes(look)
    if look.frames and (grown := look.grew(look.whole)):
        yield "possible", f"{look.whole} goes {from_to(grown)}"
    yield from _room_for_memory(look)


def _room_for_memory(look: Look) -> Verdicts:
    if look.roomy:
        room = f"{look.roomy[0]} takes {ms(look.median(look.roomy[0]))}"
        yield "possible", f"{room}; a call in it that keeps memory {ALL_ALONG}"


def _device_leak(look: Look) -> Verdicts:
    used, others = look.telemetry.get("gpu_memory_used_bytes"), look.telemetry.get("gpu_processes")
    if used is None:
        yield from _room_for_memory(look)
        return
    if kept := look.kept_bytes("gpu_memory_used_bytes"):
        grows = f"memory of the GPU grows by {number(kept / 1e6)} MB in {look.frames:,} frames"
        if others is not None and np.all(others == 0):
            yield "proven", f"{grows}, and no other process is there"
        yield "possible", f"{grows}, whoever keeps it"
    ends = f"memory of the GPU ends {number((used[-1] - used[0]) / 1e6)} MB from where it starts"
    most, jump = float(np.nanmax(used)) - used[0], float(np.nanmax(np.diff(used, prepend=used[0])))
    if most <= max(at.LEAK_BYTES, at.LEAK_SHARE * used[0]):
        yield "excluded", ends
    yield "possible", f"{ends}, by jumps of up to {number(jump / 1e6)} MB"


def _preprocess(look: Look) -> Verdicts:
    grown, fell = look.grew(Stage.PREPROCESS), look.fell(Stage.PREPROCESS)
    if Stage.PREPROCESS not in look.series:
        return
    shape, stages = look.shape(Stage.PREPROCESS), look.grew("stages")
    stalls = _stalling(look, (Stage.PREPROCESS,), at.STALL_TIMES - 1)  # those that make a stall of the frame
    if look.frames < at.FEWEST_FRAMES:  # a start and an end are no series, but what has no part in a growth can be read
        part = max(0.0, shape.late - shape.early)
        if grown is None and fell is None and stages is not None and abs(shape.late - shape.early) <= stages.size / 20:
            yield "excluded", f"preprocess accounts for {ms(round(part, 6))} of {ms(stages.size)} of growth"
    elif look.stays(Stage.PREPROCESS) and not stalls:
        yield "excluded", f"preprocess takes {ms(shape.lowest)} to {ms(shape.highest)}: no growth that the frame feels"
    if change := grown or fell:
        stays = f" while {_host_stays(look, grown)}: no slower cores" if grown and _host_stays(look, grown) else ""
        yield "possible", f"preprocess goes {from_to(change)}{stays}"
    if stalls:
        yield "possible", stalls
    if look.frames >= at.FEWEST_FRAMES:
        yield "possible", f"preprocess takes {ms(shape.lowest)} to {ms(shape.highest)}"


def _host_stays(look: Look, grown: Change) -> str:
    """The other work of the host that does not grow as preprocessing does."""
    part = at.ALIKE * grown.size / max(grown.start, 1e-9)
    for stage in (Stage.INFER, Stage.POSTPROCESS):
        before, after = (look.level(stage, w) for w in (grown.before, grown.after))
        if before > at.ALLOCATION_MS and after / before - 1 < part and (stage != Stage.INFER or look.waits_measured):
            return f"{stage} stays at {ms(after)}"
    return ""


def _host_contention(look: Look) -> Verdicts:
    work = [s for s in (*HOST_WORK, Stage.INFER) if s in look.stages]
    grown = {str(s): look.grew(s) for s in work if s is not Stage.INFER or (look.waits_measured and look.holds(s))}
    stalls = _stalling(look, (*HOST_WORK, Stage.INFER, Stage.UPLOAD))
    if any(grown.values()):
        yield "possible", "; ".join(f"{name} goes {from_to(change)}" for name, change in grown.items() if change)
    if stalls:
        yield "possible", stalls
    if look.frames and (shape := look.shape(look.whole)).stalls:
        yield "possible", f"{look.whole} takes {ms(shape.stalls.median)} in {shape.stalls.frames} frames"
    if work and look.waits_measured and look.frames >= at.FEWEST_FRAMES:
        most = sum(look.shape(s).highest for s in work)
        if most < at.OF_STAGE * look.whole_ms:
            yield "excluded", f"the host's own work takes at most {ms(most)} of a frame of {ms(look.whole_ms)}"
        longest = max(work, key=look.median)
        yield "possible", f"{longest} takes {ms(look.median(longest))}; what takes cores {ALL_ALONG}"


def _shape_change(look: Look) -> Verdicts:
    if look.traced and (found := look.traced.new_sizes()):
        sizes, new_ms, others_ms = found
        uploads = f"uploads are of {len(sizes)} sizes, {number(sizes[0] / 1e6)} to {number(sizes[-1] / 1e6)} MB"
        slow = new_ms > at.FAST_START * others_ms
        takes = f"a frame of a new size takes {ms(new_ms)}, others {ms(others_ms)}"
        yield "proven" if slow else "possible", f"{uploads}; {takes}"
    if stalls := _stalling(look, (Stage.INFER,)):
        yield "possible", stalls
    if Stage.INFER in look.stages:
        highest = look.shape(Stage.INFER).highest
        if look.stays(Stage.INFER) and look.waits_measured and not look.holds(Stage.INFER, highest):
            yield "excluded", f"infer takes {ms(highest)} at most, without stalls: too short to prepare a new shape"
        yield "possible", f"infer takes {ms(look.median(Stage.INFER))}, and the shapes of the inputs are unknown"
    if not look.stages:
        yield from _host_contention(look)


def _warm_up(look: Look) -> Verdicts:
    if look.frames < 2:
        return
    shape, values = look.shape(look.whole), look.series[look.whole]
    first, settled = shape.first_highest, shape.settled
    if look.frames < at.FEWEST_FRAMES:
        if grown := look.grew(look.whole):
            yield "excluded", f"it is fast at first, and slow later: {look.whole} goes {from_to(grown)}"
    else:
        later = float(np.max(values[at.EDGE_FRAMES :]))
        if first >= at.WARM * settled and first > later and not shape.grew and not look.wait:
            yield (
                "proven",
                f"the slowest of the first {at.EDGE_FRAMES} frames takes {ms(first)}, no later one {ms(later)}",
            )
        if shape.fell is not None and shape.fell.form == "step" and shape.fell.since > look.frames // 2:
            yield "excluded", f"it is slow for {shape.fell.since:,} of {look.frames:,} frames, and then at once no more"
        if first < (at.NOT_WARM if shape.fell is None else 1.0) * settled:
            half = f"half of all later ones {ms(settled)}"
            yield "excluded", f"the slowest of the first {at.EDGE_FRAMES} frames takes {ms(first)}, {half}"
        if float(np.sum(values[at.EDGE_FRAMES :] > at.NOT_WARM * settled)) >= 2 and first <= later:
            yield "excluded", f"later frames are as slow: the first ones take up to {ms(first)}, later ones {ms(later)}"
    if first > settled:
        yield "possible", f"{look.whole} takes up to {ms(first)} at first, and {ms(settled)} in the second half"


_SMI = (
    "nvidia-smi --query-gpu=timestamp,clocks.sm,clocks.mem,temperature.gpu,memory.used,"
    "clocks_throttle_reasons.sw_thermal_slowdown --format=csv -lms 100 > gpu.csv  # then --telemetry gpu.csv"
)
_APPS = "nvidia-smi --query-compute-apps=pid,used_memory --format=csv -l 1  # who else is on the GPU?"
_TRACE = "yolotrt-lab trace capture --out mine -- python loop.py && yolotrt-lab diagnose mine.sqlite"
_STAGES = "time every call of a frame: preprocess, upload, infer, download, synchronize, and when the frame was due"

# fmt: off
EXPLANATIONS = (
    Explanation(Cause.QUEUEING, "frames arrive faster than they are served", _queueing,
                "when each frame was due, and its result came",
                "bring fewer frames, drop all but the latest, or shorten the longest stage", _STAGES),
    Explanation(Cause.PAGEABLE_OVERLOAD, "pageable uploads are why frames are served too slowly", _pageable_overload,
                "the upload call, and when each frame was due", "pinned memory, filled in place", _STAGES),
    Explanation(Cause.SHARED_GPU, "other processes use this GPU", _shared_gpu,
                "the processes on the GPU beside the frames, a column compute_processes",
                "fewer processes on this GPU, or one process for all", _APPS),
    Explanation(Cause.SHARED_STREAM, "synchronize waits for what another thread has submitted", _shared_stream,
                "synchronize, and when each frame starts and ends",
                "wait for an event of the frame's own instead of the stream", _TRACE),
    Explanation(Cause.LAUNCH_QUEUE, "the queue of launches is full, and every launch waits", _launch_queue,
                "the enqueue call", "let few frames be in flight", _TRACE),
    Explanation(Cause.MOVED_WAIT, "the download call waits in synchronize's place", _moved_wait,
                "the download and the synchronize call",
                "pinned output; the wait for the network then shows in synchronize", _STAGES),
    Explanation(Cause.CLOCK_DROP, "the GPU runs at a lower clock", _clock_drop,
                "the SM clock beside the frames",
                "no gaps between frames, or locked clocks (nvidia-smi -lgc)", _SMI),
    Explanation(Cause.HEAT, "the GPU is too hot and lowers its clock", _heat,
                "temperature and throttle reasons beside the frames", "better cooling, or a lower power limit", _SMI),
    Explanation(Cause.ALLOCATION, "memory is allocated in the loop", _allocation,
                "a trace, which has every call", "allocate once, before the loop", _TRACE),
    Explanation(Cause.LEAK, "the process keeps more host memory with every frame", _leak,
                "the memory of the process beside the frames, such as a column rss_mb",
                "release, or register once, what each frame keeps", "ps -o rss= -p PID  # does it climb?"),
    Explanation(Cause.DEVICE_LEAK, "the process keeps more memory of the GPU with every frame", _device_leak,
                "the memory in use on the GPU", "free what each frame allocates, or allocate it once", _APPS),
    Explanation(Cause.PREPROCESS, "the loop's own work on the host takes longer", _preprocess,
                "the time of preprocessing", "make the stage smaller, or move it to the GPU or a thread",
                "run preprocessing alone on the same frames: does it grow there too?"),
    Explanation(Cause.HOST_CONTENTION, "other work takes this machine's cores or memory bandwidth", _host_contention,
                "the host's own stages, such as preprocessing",
                "fewer programs on the machine, or cores of the loop's own (taskset)",
                "vmstat 1  # is the processor full?"),
    Explanation(Cause.SHAPE_CHANGE, "the input's shape changes", _shape_change,
                "the enqueue call, and each input's shape", "one shape: pad, or letterbox", "log each input's shape"),
    Explanation(Cause.LAUNCH_BOUND, "launching takes the host longer than the GPU needs", _launch_bound,
                "the enqueue call, and a trace", "a CUDA graph", _TRACE),
    Explanation(Cause.WARM_UP, "the first frames are slow, and only these", _warm_up,
                "the first frames of a run", "leave the first frames out", "run it longer"),
)
# fmt: on
"""All causes, in the order of a bill."""
