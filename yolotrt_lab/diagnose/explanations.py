"""What can explain a loop's times: each cause with what proves it, excludes it, or leaves it possible.

A rule is a function that returns the number which decides, as text, or '' where nothing does. They are asked in the
order proof, exclusion, room; where none has an answer, the cause was not measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..types import Cause, Stage
from . import thresholds as at
from .look import HOST_WORK, QUEUE, Look, from_to, ms, number
from .series import Change

Verdict = Literal["proven", "possible", "excluded", "not_measured"]
Rule = Callable[[Look], str]


@dataclass(frozen=True, slots=True)
class Explanation:
    """One cause."""

    cause: Cause
    words: str
    """It in words, for a reader who does not know its name."""
    proof: Rule
    exclusion: Rule
    room: Rule
    needs: str
    """What would have to be measured."""
    fix: str
    next: str
    """The experiment or the command that decides."""

    def judge(self, look: Look) -> tuple[Verdict, str]:
        """The verdict, and the number it rests on."""
        if because := self.proof(look):
            return "proven", because
        if because := self.exclusion(look):
            return "excluded", because
        if because := self.room(look):
            return "possible", because
        if self.cause in (Cause.PREPROCESS, Cause.HOST_CONTENTION) and 0 < look.frames < at.FEWEST_FRAMES:
            return "not_measured", f"needs {self.needs}, of {at.FEWEST_FRAMES} frames or more"
        return "not_measured", f"needs {self.needs}"


def _never(look: Look) -> str:
    return ""


def _telemetry(look: Look, name: str, change: Change | None) -> tuple[float, float]:
    """A column of telemetry before and after a change; NaN where it was not measured."""
    if change is None or name not in look.telemetry:
        return float("nan"), float("nan")
    return look.level(name, change.before), look.level(name, change.after)


def _wait_text(look: Look) -> str:
    """How the wait for the GPU changed; '' where it did not."""
    if look.wait is None:
        return ""
    name, change = look.wait
    what = "the calls that wait for the GPU go" if name == "gpu" else f"{name} goes"
    return f"{what} {from_to(change)}"


def _waits_stay(look: Look) -> str:
    """How the calls that wait for the GPU stay as they are; '' where they don't, are no wait, or were not measured."""
    if look.wait is not None or not look.waits_measured or look.frames < at.FEWEST_FRAMES:
        return ""
    wait = look.median("gpu")
    if sum(look.median(s) for s in (Stage.SYNCHRONIZE, Stage.DOWNLOAD) if s in look.stages) < wait / 2:
        return ""  # the host submits for longer than it waits: a slower GPU would hide behind it
    shows = look.shape("gpu").shows_ms
    if shows > at.COMES_BACK * wait:  # too loud to show anything
        return ""
    return f"the calls that wait for the GPU stay at {ms(wait)}, and this run could show {ms(shows)}"


# A queue in front of the loop.


def _queueing_proof(look: Look) -> str:
    if look.queue is None or _stream_proof(look):
        return ""
    why = (
        f"a frame is {ms(look.excess_ms)} too long for its clock" if look.has_instants else "its stages add up to less"
    )
    return (
        f"latency beyond the stages climbs {from_to(look.queue)}, {number(look.queue.size / look.service_ms)} frames' "
        f"work; {why}"
    )


def _queueing_exclusion(look: Look) -> str:
    if look.sees_queue and look.frames >= at.FEWEST_FRAMES:
        most = max(look.shape(QUEUE).change.to, look.shape(QUEUE).late)
        return f"latency holds at most {ms(max(most, 0.0))} beyond the stages" if most < look.service_ms else ""
    if QUEUE not in look.series and (grown := look.grew("stages")) is not None and grown.size > grown.start:
        return f"the calls themselves grow by {ms(grown.size)}; a queue in front of the loop leaves them as they are"
    return ""


def _queueing_room(look: Look) -> str:
    if look.sees_queue or _beyond(look):
        return f"latency holds {ms(look.shape(QUEUE).late)} beyond the stages, of a frame of {ms(look.service_ms)}"
    if look.frames and not look.stages and look.grew(look.whole):
        return f"{look.whole} grows, and no stage was measured"
    return ""


def _overload_proof(look: Look) -> str:
    if look.pageable_input and look.queue is not None:
        upload = look.level(Stage.UPLOAD, look.queue.before)
        if look.holds(Stage.UPLOAD) and upload > look.excess_ms > 0:
            too_long = f"a frame is {ms(look.excess_ms)} too long for its clock"
            return f"{too_long}, and its pageable upload call takes {ms(upload)}"
    return f"the pageable upload call {from_to(grown)}, and no other call with it" if (grown := _lone(look)) else ""


def _lone(look: Look) -> Change | None:
    """The rise of a pageable upload call that waits for what lies in front of it, and no other call with it."""
    grown = look.grew(Stage.UPLOAD)
    if not look.pageable_input or grown is None or grown.to < 2 * grown.start or not look.waits_measured:
        return None
    others = [s for s in look.stages if s is not Stage.UPLOAD]
    rest = sum(look.level(s, grown.after) - look.level(s, grown.before) for s in others)
    return grown if rest < grown.size / 2 else None


def _overload_exclusion(look: Look) -> str:
    if look.memory("input"):
        return "the input is page-locked"
    if Stage.UPLOAD not in look.series:
        return ""
    upload = look.median(Stage.UPLOAD)
    if look.pageable_input is False:
        return f"the upload call takes {ms(upload)}, no longer than a call that does not wait"
    grown, stages = look.grew(Stage.UPLOAD), look.grew("stages")
    if stages is not None and look.queue is None and (not grown or grown.size < stages.size / 5):
        return f"the upload call accounts for {ms(grown.size if grown else 0.0)} of {ms(stages.size)} of growth"
    return _queueing_exclusion(look) if grown is None else ""


def _overload_room(look: Look) -> str:
    if Stage.UPLOAD not in look.series or not look.holds(Stage.UPLOAD):
        return ""
    return f"the upload call holds the host for {ms(look.shape(Stage.UPLOAD).late)}"


def _stream_proof(look: Look) -> str:
    flight, span = look.in_flight, 32
    if len(flight) <= span or Stage.SYNCHRONIZE not in look.series:
        return ""
    more = flight[span:] - flight[:-span]
    first = int(np.argmax(more))
    waits = look.series[Stage.SYNCHRONIZE]
    usual, during = float(np.median(waits)), float(np.median(waits[first : first + span]))
    if more[first] < at.CLIMB * span or during < at.FAST_START * usual:
        return ""
    return (
        f"frames in flight go from {flight[first]} to {flight.max()} within {span} frames, and synchronize then takes "
        f"{ms(during)} instead of {ms(usual)}: it waits for frames of others"
    )


def _stream_exclusion(look: Look) -> str:
    if len(look.in_flight) and look.in_flight.max() <= 1:
        return "one frame is in flight at a time"
    if look.traced and look.traced.alone:
        return "no synchronize call in the trace waits for work of others"
    stays = _waits_stay(look)
    return stays if stays and not _beyond(look) else ""


def _beyond(look: Look) -> bool:
    return QUEUE in look.series and look.shape(QUEUE).change.to > at.QUEUED_FRAMES * look.service_ms


def _stream_room(look: Look) -> str:
    if look.traced and look.traced.waits_outside:
        return f"{look.traced.waits_outside} synchronize calls of the trace are in no frame: another thread makes them"
    if _beyond(look):
        return f"latency is {number(look.shape(QUEUE).late / look.service_ms)} times what the stages add up to"
    return _wait_text(look) if Stage.SYNCHRONIZE in look.series or not look.waits_measured else ""


# Where the wait is.


def _queue_of_launches_proof(look: Look) -> str:
    grown = look.grew(Stage.INFER)
    if Stage.SYNCHRONIZE not in look.series or grown is None or not len(look.in_flight):
        return ""
    deep = float(np.median(look.in_flight[grown.after.first : grown.after.end]))
    waited = look.level(Stage.SYNCHRONIZE, grown.after)
    if deep < at.IN_FLIGHT or waited > at.NO_WAIT * grown.to or grown.to < at.FAST_START * grown.start:
        return ""
    return f"submitting goes {from_to(grown)} with {number(deep)} frames in flight, and synchronize waits for nothing"


def _queue_of_launches_exclusion(look: Look) -> str:
    if len(look.in_flight) and look.in_flight.max() < at.IN_FLIGHT:
        return f"at most {look.in_flight.max()} frames are in flight"
    if Stage.INFER not in look.series or look.frames < at.FEWEST_FRAMES:
        return ""
    if look.waits_measured and look.grew(Stage.INFER) is None:
        return f"submitting stays at {ms(look.median(Stage.INFER))}"
    return ""


def _queue_of_launches_room(look: Look) -> str:
    grown = look.grew(Stage.INFER)
    return f"submitting goes {from_to(grown)}" if grown else ""


def _moved_proof(look: Look) -> str:
    if look.traced and look.traced.moved_ms:
        return f"copy calls wait {ms(look.traced.moved_ms)} in a traced frame for other work than their copy"
    download, wait = look.median(Stage.DOWNLOAD), look.median(Stage.SYNCHRONIZE)
    if look.memory("output") or not wait <= at.NO_WAIT * download or not look.holds(Stage.DOWNLOAD):
        return ""
    return f"synchronize takes {ms(wait)} behind a download call of {ms(download)}, which has waited for the GPU"


def _moved_exclusion(look: Look) -> str:
    if look.memory("output"):
        return "the output is page-locked"
    late = look.shape(Stage.SYNCHRONIZE).late if Stage.SYNCHRONIZE in look.series else float("nan")
    if late > at.HOLDS * at.CALL_FLOOR_MS and not late < look.median(Stage.DOWNLOAD):
        return f"synchronize itself waits {ms(late)}"
    if Stage.DOWNLOAD in look.series and not look.holds(Stage.DOWNLOAD):
        return f"the download call takes {ms(look.median(Stage.DOWNLOAD))}: it waits for nothing"
    return ""


def _moved_room(look: Look) -> str:
    if Stage.DOWNLOAD in look.series:
        return f"the download call takes {ms(look.median(Stage.DOWNLOAD))}"
    return (
        "synchronize waits for nothing, and no download call was measured" if Stage.SYNCHRONIZE in look.series else ""
    )


def _launch_bound_proof(look: Look) -> str:
    found = look.traced.finding("launch_bound") if look.traced else None
    return found.text if found else ""


def _launch_bound_exclusion(look: Look) -> str:
    if look.traced and look.traced.has_frames:
        return "in the trace the GPU idles between the launches of a frame for less than is worth telling"
    infer, gpu = look.median(Stage.INFER), look.median("gpu")
    if look.waits_measured and infer < at.LAUNCH_SHARE * gpu:
        return f"submitting takes {ms(infer)} of the {ms(gpu)} until the GPU is done"
    return ""


def _launch_bound_room(look: Look) -> str:
    facts = look.measured.facts
    if facts.get("enqueue", 0.0) > facts.get("gpu_compute", float("inf")):
        return f"enqueue takes {ms(facts['enqueue'])}, the GPU {ms(facts['gpu_compute'])}"
    return f"submitting takes {ms(look.median(Stage.INFER))}" if Stage.INFER in look.series else ""


# A slower GPU.


def _shared_proof(look: Look) -> str:
    if look.wait is None or "gpu_processes" not in look.telemetry or "sm_clock_mhz" not in look.telemetry:
        return ""
    name, change = look.wait
    before, after = _telemetry(look, "gpu_processes", change)
    came = (after - before) * (1 if change.to > change.start else -1)
    levels = len(np.unique(look.telemetry["gpu_processes"][change.before.first : change.after.end]))
    if levels < 3 and change.form != "step":  # one that came once, while the wait changed bit by bit
        return ""
    if came < 1 or look.follows(name, "gpu_processes") < at.FOLLOWS or _by_clock(look) > at.EXPLAINED * change.size:
        return ""
    if look.climbs("host_memory_bytes") > max(at.LEAK_BYTES, at.LEAK_SHARE * look.telemetry["host_memory_bytes"][0]):
        return ""
    clock = look.level("sm_clock_mhz", change.after)
    return (
        f"{_wait_text(look)} as other processes go from {number(before)} to {number(after)} in step; the SM "
        f"clock of {number(clock)} MHz accounts for {ms(_by_clock(look))}"
    )


def _shared_exclusion(look: Look) -> str:
    if "gpu_processes" in look.telemetry and np.nanmax(look.telemetry["gpu_processes"]) == 0:
        return "no other process is on the GPU in any frame"
    return ""


def _shared_room(look: Look) -> str:
    if look.traced and (found := look.traced.finding("unexplained_wait")):
        return found.text
    if text := _wait_text(look):
        return text
    others = look.telemetry.get("gpu_processes")
    return f"processes listed on the GPU: up to {number(np.nanmax(others))}" if others is not None else ""


def _by_clock(look: Look) -> float:
    """How much of the change of the wait the SM clock accounts for, in ms: the calls before, times its factor."""
    if look.wait is None:
        return 0.0
    name, change = look.wait
    clocks = _telemetry(look, "sm_clock_mhz", change)
    slow, fast = min(clocks), max(clocks)
    right_way = (clocks[0] > clocks[1]) == (change.to > change.start)
    busy = max(min(change.start, change.to), look.level("gpu", change.before) if name != "gpu" else 0.0)
    return busy * (fast / slow - 1) if right_way and slow > 0 and fast / slow - 1 > at.CLOCK else 0.0


def _clock_explains(look: Look) -> str:
    share = _by_clock(look) / look.wait[1].size if look.wait else 0.0
    if look.wait and look.wait[1].to < look.wait[1].start and look.wait[1].before.first < look.frames // 4:
        return ""  # clocks that come up at the start are a warm-up
    if not at.EXPLAINED <= share <= 1 / at.EXPLAINED:
        return ""
    before, after = _telemetry(look, "sm_clock_mhz", look.wait[1] if look.wait else None)
    return (
        f"{_wait_text(look)} as the SM clock goes from {number(before)} to {number(after)} MHz; that accounts for "
        f"{ms(_by_clock(look))}"
    )


def _hot(look: Look) -> bool | None:
    """Whether the GPU slows down for heat where the wait changes; None where nothing tells."""
    change = look.wait[1] if look.wait else None
    flags = [f"throttle_{kind}_thermal_slowdown" for kind in ("sw", "hw")]
    told = [(_mean(look, flag, change, 0), _mean(look, flag, change, 1)) for flag in flags if flag in look.telemetry]
    if told and change is not None:
        return any(abs(after - before) > at.THROTTLED for before, after in told)
    heat = look.telemetry.get("temperature_c")
    return False if heat is not None and np.nanmax(heat) < at.HOT_C else None


def _mean(look: Look, name: str, change: Change | None, side: int) -> float:
    if change is None:
        return float("nan")
    window = (change.before, change.after)[side]
    return float(np.nanmean(look.telemetry[name][window.first : window.end]))


def _clock_proof(look: Look) -> str:
    return _clock_explains(look) if _hot(look) is False else ""


def _heat_proof(look: Look) -> str:
    told = any(f"throttle_{kind}_thermal_slowdown" in look.telemetry for kind in ("sw", "hw"))
    explained = _clock_explains(look) if _hot(look) and told else ""
    return f"{explained}, and the GPU gives heat as the reason" if explained else ""


def _clock_stays(look: Look) -> str:
    clock = look.telemetry.get("sm_clock_mhz")
    if clock is not None:
        stays = np.nanmin(clock) > (1 - at.CLOCK) * np.nanmax(clock)
        return f"the SM clock stays at {number(float(np.nanmedian(clock)))} MHz" if stays else ""
    if look.traced and (kernels := look.traced.kernels_stay()):
        return kernels
    return _waits_stay(look)


def _clock_room(look: Look) -> str:
    clock = look.telemetry.get("sm_clock_mhz")
    if look.wait is None and clock is not None:
        return f"the SM clock goes down to {number(float(np.nanmin(clock)))} of {number(float(np.nanmax(clock)))} MHz"
    return _wait_text(look)


def _clock_exclusion(look: Look) -> str:
    return _clock_stays(look) or ("the GPU gives heat as the reason" if _hot(look) and _clock_explains(look) else "")


def _heat_exclusion(look: Look) -> str:
    if stays := _clock_stays(look):
        return stays
    if _hot(look) is False:
        heat = look.telemetry.get("temperature_c")
        at_most = f"; it is at most {number(float(np.nanmax(heat)))} degrees warm" if heat is not None else ""
        return f"the GPU does not slow down for heat{at_most}"
    return ""


# Memory and the host.


def _allocation_proof(look: Look) -> str:
    if look.traced and look.traced.allocate_ms > at.TRACE_SHARE * look.traced.frame_ms:
        return f"calls that allocate or free memory take {ms(look.traced.allocate_ms)} of a traced frame"
    return ""


def _roomy(look: Look) -> list[str]:
    """The stages, and the time that no column covers, which are long enough to hold an allocation."""
    names = [str(s) for s in look.stages if s not in (Stage.SYNCHRONIZE, Stage.WAIT)]
    names += [name for name in ("in no column",) if name in look.series]
    return [name for name in names if look.shape(name).first_highest > 0 and look.median(name) > at.ALLOCATION_MS]


def _allocation_exclusion(look: Look) -> str:
    if look.traced and look.traced.has_frames:
        return f"calls that allocate or free memory take {ms(look.traced.allocate_ms)} of a traced frame"
    whole = look.stages and (Stage.PREPROCESS in look.series or QUEUE in look.series)
    if whole and not _roomy(look) and not _stalling(look, (Stage.PREPROCESS, Stage.UPLOAD, Stage.INFER)):
        return f"no stage takes {ms(at.ALLOCATION_MS)}, the least that an allocation takes, but for the waits"
    return ""


def _stalling(look: Look, stages: tuple[Stage, ...]) -> str:
    for stage in stages:
        stalls = look.shape(stage).stalls if stage in look.stages else None
        if stalls and stalls.longest > at.OF_STAGE * look.whole_ms:
            times = f"{stalls.frames} frames" if stalls.frames > 1 else "one frame"
            return f"{stage} takes up to {ms(stalls.longest)} in {times}, in most {ms(look.median(stage))}"
    return ""


def _allocation_room(look: Look) -> str:
    stalls, rooms = _stalling(look, (Stage.PREPROCESS, Stage.UPLOAD)), _roomy(look)
    if rooms:
        longest = max(rooms, key=look.median)
        room = f"{longest} takes {ms(look.median(longest))}, long enough to hold one in every frame"
        return "; ".join(filter(None, [room, stalls]))
    if stalls:
        return stalls
    return f"what {look.whole} of {ms(look.median(look.whole))} holds was not measured" if look.frames else ""


def _kept(look: Look, name: str) -> float:
    kept, start = look.climbs(name), look.telemetry.get(name, np.zeros(1))[0]
    return kept if kept > max(at.LEAK_BYTES, at.LEAK_SHARE * start) else 0.0


def _leak_proof(look: Look) -> str:
    kept = _kept(look, "host_memory_bytes")
    per_frame = f"{number(kept / 1e6)} MB more of host memory in {look.frames:,} frames, some in every fifth of the run"
    return f"the process keeps {per_frame}" if kept else ""


def _leak_exclusion(look: Look) -> str:
    held = look.telemetry.get("host_memory_bytes")
    if held is None or held[-1] - held[0] > at.LEAK_BYTES:
        return ""
    return f"host memory ends {number((held[-1] - held[0]) / 1e6)} MB from where it starts"


def _leak_room(look: Look) -> str:
    held = look.telemetry.get("host_memory_bytes")
    if held is not None:
        return f"host memory ends {number((held[-1] - held[0]) / 1e6)} MB above where it starts, not evenly"
    if look.wait and look.wait[1].to > look.wait[1].start:
        return _wait_text(look)
    grown = look.grew(look.whole) if look.frames else None
    if grown:
        return f"{look.whole} goes {from_to(grown)}"
    rooms = _roomy(look)
    return f"{rooms[0]} takes {ms(look.median(rooms[0]))}, long enough to keep memory in every frame" if rooms else ""


def _device_leak_proof(look: Look) -> str:
    alone = look.telemetry.get("gpu_processes")
    if alone is None or np.nanmax(alone) > 0 or not (kept := _kept(look, "gpu_memory_used_bytes")):
        return ""
    return (
        f"memory of the GPU grows by {number(kept / 1e6)} MB in {look.frames:,} frames, and no other process is there"
    )


def _device_leak_exclusion(look: Look) -> str:
    used = look.telemetry.get("gpu_memory_used_bytes")
    if used is None or _kept(look, "gpu_memory_used_bytes"):
        return ""
    grown, jump = used[-1] - used[0], float(np.nanmax(np.diff(used, prepend=used[0])))
    jumps = f", by jumps of up to {number(jump / 1e6)} MB and not with every frame" if grown > at.LEAK_BYTES else ""
    return f"memory of the GPU ends {number(grown / 1e6)} MB from where it starts{jumps}"


def _device_leak_room(look: Look) -> str:
    kept = _kept(look, "gpu_memory_used_bytes")
    return (
        f"memory of the GPU grows by {number(kept / 1e6)} MB in {look.frames:,} frames, whoever keeps it"
        if kept
        else ""
    )


def _host_changes(look: Look) -> dict[str, Change]:
    """The stages of host work that grew: those that touch no GPU, and submitting where it is work and no wait."""
    grown = {str(s): c for s in HOST_WORK if (c := look.grew(s))}
    infer = look.grew(Stage.INFER)
    if infer and look.waits_measured and look.median(Stage.INFER) > at.HOLDS * look.call_ms:
        grown[str(Stage.INFER)] = infer
    return grown


def _preprocess_proof(look: Look) -> str:
    grown = look.grew(Stage.PREPROCESS)
    if grown is None or grown.size < at.HOST_WANDERS * grown.start:
        return ""
    part = at.ALIKE * grown.size / max(grown.start, 1e-9)
    for stage in (Stage.INFER, Stage.POSTPROCESS):
        before, after = (look.level(stage, w) for w in (grown.before, grown.after))
        if before > at.ALLOCATION_MS and after / before - 1 < part and (stage != Stage.INFER or look.waits_measured):
            return f"preprocess goes {from_to(grown)} while {stage} stays at {ms(after)}: the host itself is not slower"
    return ""


def _preprocess_exclusion(look: Look) -> str:
    if Stage.PREPROCESS not in look.series or look.grew(Stage.PREPROCESS):
        return ""
    if look.fell(Stage.PREPROCESS):
        return ""
    if look.frames < at.FEWEST_FRAMES:
        return _no_part_of_growth(look, Stage.PREPROCESS)
    shape = look.shape(Stage.PREPROCESS)
    if shape.shows_ms > max(at.COMES_BACK * shape.settled, at.OF_STAGE * look.whole_ms):
        return ""
    return f"preprocess takes {ms(shape.early)} early and {ms(shape.late)} late: no growth that the frame feels"


def _no_part_of_growth(look: Look, stage: Stage) -> str:
    """A start and an end are no series; that a stage has no part in a growth between them can be read all the same."""
    shape, stages = look.shape(stage), look.grew("stages")
    if stages is None or abs(shape.late - shape.early) > stages.size / 20:
        return ""
    return f"{stage} accounts for {ms(round(max(0.0, shape.late - shape.early), 6))} of {ms(stages.size)} of growth"


def _preprocess_room(look: Look) -> str:
    grown = look.grew(Stage.PREPROCESS) or look.fell(Stage.PREPROCESS)
    return f"preprocess goes {from_to(grown)}" if grown else ""


def _contention_exclusion(look: Look) -> str:
    measured = [s for s in (*HOST_WORK, Stage.INFER) if s in look.stages and look.median(s) > at.ALLOCATION_MS]
    if not measured or look.frames < at.FEWEST_FRAMES:
        return ""
    if _host_changes(look) or any(look.fell(s) or look.shape(s).stalls for s in measured):
        return ""
    return f"the host's own work stays as it is: {measured[0]} at {ms(look.median(measured[0]))}, without stalls"


def _contention_room(look: Look) -> str:
    if grown := _host_changes(look):
        return "; ".join(f"{name} goes {from_to(change)}" for name, change in grown.items())
    if text := _stalling(look, (*HOST_WORK, Stage.INFER, Stage.UPLOAD)):
        return text
    stalls = look.shape(look.whole).stalls if look.frames else None
    return f"{look.whole} takes {ms(stalls.median)} in {stalls.frames} frames" if stalls else ""


def _shapes_exclusion(look: Look) -> str:
    if Stage.INFER not in look.stages or look.frames < at.FEWEST_FRAMES:
        return ""
    shape = look.shape(Stage.INFER)
    if shape.stalls or shape.grew or shape.fell or shape.period:
        return ""
    return f"{Stage.INFER} stays at {ms(shape.settled)}, without stalls"


def _shapes_room(look: Look) -> str:
    if text := _stalling(look, (Stage.INFER,)):
        return text
    if Stage.INFER in look.stages:
        return f"infer takes {ms(look.median(Stage.INFER))}, and the shapes of the inputs are unknown"
    return _contention_room(look) if not look.stages else ""


def _warm_up_proof(look: Look) -> str:
    if not look.frames >= at.FEWEST_FRAMES:
        return ""
    shape, values = look.shape(look.whole), look.series[look.whole]
    later = float(np.nanmax(values[at.EDGE_FRAMES :]))
    if shape.first_highest < at.WARM * shape.settled or shape.first_highest <= later or shape.grew or look.wait:
        return ""
    return f"the slowest of the first {at.EDGE_FRAMES} frames takes {ms(shape.first_highest)}, no later one {ms(later)}"


def _warm_up_exclusion(look: Look) -> str:
    if look.frames < 2:
        return ""
    shape = look.shape(look.whole)
    if look.frames < at.FEWEST_FRAMES:
        grown = look.grew(look.whole)
        return f"it is fast at first, and slow later: {look.whole} goes {from_to(grown)}" if grown else ""
    if shape.fell is not None and shape.fell.form == "step" and shape.fell.since > look.frames // 2:
        return f"it is slow for {shape.fell.since:,} of {look.frames:,} frames, and then at once no more"
    if shape.first_highest < (at.NOT_WARM if shape.fell is None else 1.0) * shape.settled:
        first, rest = ms(shape.first_highest), ms(shape.settled)
        return f"the slowest of the first {at.EDGE_FRAMES} frames takes {first}, half of all later ones {rest}"
    return ""


def _warm_up_room(look: Look) -> str:
    if not look.frames:
        return ""
    shape = look.shape(look.whole)
    if shape.first_highest <= shape.settled:
        return ""
    return f"{look.whole} takes up to {ms(shape.first_highest)} at first, and {ms(shape.settled)} in the second half"


_SMI = (
    "nvidia-smi --query-gpu=timestamp,clocks.sm,clocks.mem,temperature.gpu,memory.used,"
    "clocks_throttle_reasons.sw_thermal_slowdown --format=csv -lms 100 > gpu.csv  # then --telemetry gpu.csv"
)
_APPS = "nvidia-smi --query-compute-apps=pid,used_memory --format=csv -l 1  # who else is on the GPU?"
_TRACE = "yolotrt-lab trace capture --out mine -- python loop.py && yolotrt-lab diagnose mine.sqlite"
_STAGES = "time every call of a frame: preprocess, upload, infer, download, synchronize, and when the frame was due"

# fmt: off
EXPLANATIONS = (
    Explanation(Cause.QUEUEING, "frames arrive faster than they are served",
                _queueing_proof, _queueing_exclusion, _queueing_room, "when each frame was due, and its result came",
                "bring fewer frames, drop all but the latest, or shorten the longest stage", _STAGES),
    Explanation(Cause.PAGEABLE_OVERLOAD, "pageable uploads are why frames are served too slowly",
                _overload_proof, _overload_exclusion, _overload_room, "the upload call, and when each frame was due",
                "pinned memory, filled in place", _STAGES),
    Explanation(Cause.SHARED_GPU, "other processes use this GPU",
                _shared_proof, _shared_exclusion, _shared_room, "the processes on the GPU beside the frames",
                "fewer processes on this GPU, or one process for all", _APPS),
    Explanation(Cause.SHARED_STREAM, "synchronize waits for what another thread has submitted",
                _stream_proof, _stream_exclusion, _stream_room, "synchronize, and when each frame starts and ends",
                "wait for an event of the frame's own instead of the stream", _TRACE),
    Explanation(Cause.LAUNCH_QUEUE, "the queue of launches is full, and every launch waits",
                _queue_of_launches_proof, _queue_of_launches_exclusion, _queue_of_launches_room, "the enqueue call",
                "let few frames be in flight", _TRACE),
    Explanation(Cause.MOVED_WAIT, "the download call waits in synchronize's place",
                _moved_proof, _moved_exclusion, _moved_room, "the download and the synchronize call",
                "pinned output; the wait for the network then shows in synchronize", _STAGES),
    Explanation(Cause.CLOCK_DROP, "the GPU runs at a lower clock",
                _clock_proof, _clock_exclusion, _clock_room, "the SM clock beside the frames",
                "no gaps between frames, or locked clocks (nvidia-smi -lgc)", _SMI),
    Explanation(Cause.HEAT, "the GPU is too hot and lowers its clock",
                _heat_proof, _heat_exclusion, _clock_room, "temperature and throttle reasons beside the frames",
                "better cooling, or a lower power limit", _SMI),
    Explanation(Cause.ALLOCATION, "memory is allocated in the loop",
                _allocation_proof, _allocation_exclusion, _allocation_room, "a trace, which has every call",
                "allocate once, before the loop", _TRACE),
    Explanation(Cause.LEAK, "the process keeps more host memory with every frame",
                _leak_proof, _leak_exclusion, _leak_room, "the memory of the process beside the frames",
                "release, or register once, what each frame keeps", "ps -o rss= -p PID  # does it climb?"),
    Explanation(Cause.DEVICE_LEAK, "the process keeps more memory of the GPU with every frame",
                _device_leak_proof, _device_leak_exclusion, _device_leak_room, "the memory in use on the GPU",
                "free what each frame allocates, or allocate it once", _APPS),
    Explanation(Cause.PREPROCESS, "the loop's own work on the host takes longer",
                _preprocess_proof, _preprocess_exclusion, _preprocess_room, "the time of preprocessing",
                "make the stage smaller, or move it to the GPU or a thread",
                "run preprocessing alone on the same frames: does it grow there too?"),
    Explanation(Cause.HOST_CONTENTION, "other work takes this machine's cores or memory bandwidth",
                _never, _contention_exclusion, _contention_room, "the host's own stages, such as preprocessing",
                "fewer programs on the machine, or cores of the loop's own (taskset)",
                "vmstat 1  # is the processor full?"),
    Explanation(Cause.SHAPE_CHANGE, "the input's shape changes",
                _never, _shapes_exclusion, _shapes_room, "the enqueue call, and each input's shape",
                "one shape: pad, or letterbox", "log each input's shape"),
    Explanation(Cause.LAUNCH_BOUND, "launching takes the host longer than the GPU needs",
                _launch_bound_proof, _launch_bound_exclusion, _launch_bound_room, "the enqueue call, and a trace",
                "a CUDA graph", _TRACE),
    Explanation(Cause.WARM_UP, "the first frames are slow, and only these",
                _warm_up_proof, _warm_up_exclusion, _warm_up_room, "the first frames of a run",
                "leave the first frames out", "run it longer"),
)
# fmt: on
"""All causes, in the order of a bill."""
