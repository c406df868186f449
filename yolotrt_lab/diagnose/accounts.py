"""The bill of a loop: where its time goes, what grew, what can explain it, what each fix can buy, what to measure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..types import Cause, Stage
from . import thresholds as at
from .explanations import ALL_ALONG, EXPLANATIONS, Verdict
from .look import GPU_CALLS, QUEUE, UNCOVERED, Look, ms, number
from .measured import Kind, Measured
from .series import Change, Window, edge
from .slope import in_blocks, median

if TYPE_CHECKING:
    from ..nsight.trace import Trace


@dataclass(frozen=True, slots=True)
class Spent:
    """Where a frame's time goes: medians of the first and of the last frames, and the mean of all, in ms."""

    stage: str
    early_ms: float
    late_ms: float
    mean_ms: float
    """What stalls, or repeats, is in this alone."""


@dataclass(frozen=True, slots=True)
class Grew:
    """A level that changed."""

    stage: str
    from_ms: float
    to_ms: float
    shape: str
    """'ramp', 'step', 'plateau' (a ramp that ends) or 'wave' (it comes down again)."""
    since: int
    """The frame from which on it changes, within 2 % of the run for most steps and even ramps, later for growth that
    accelerates; 0: as far as can be told, from the start."""
    every: int = 1
    """Of how many frames one changes so: 8 where it is every eighth."""


@dataclass(frozen=True, slots=True)
class Stalled:
    """Frames far above the level around them."""

    stage: str
    frames: int
    median_ms: float
    longest_ms: float
    share: float
    """What they take beyond the level around them, of all time that frames are worked on."""
    first: int
    in_a_row: int
    second_half: int
    """The first of them, the most that follow each other, and how many are in the second half of the run."""

    @property
    def more_often(self) -> bool:
        """True where clearly more are in the second half; of single ones so many are by chance in 1 of 700 runs."""
        return bool(2 * self.second_half - self.frames > 3 * self.frames**0.5)


@dataclass(frozen=True, slots=True)
class Judged:
    """A cause, its verdict, and the number that it rests on."""

    cause: Cause
    verdict: Verdict
    because: str


@dataclass(frozen=True, slots=True)
class Fix:
    """What a fix can buy."""

    fix: str
    at_most_ms: float | None
    """Off a frame; None where that was not measured."""
    because: str


@dataclass(frozen=True, slots=True)
class Bill:
    """What `bill` says; `str()` of it is the text that the command prints."""

    kind: Kind
    frames: int
    """How many; 0 where the input is no series of frames."""
    spent: tuple[Spent, ...]
    """By stage; 'in no column' is what a frame takes beyond its stages, 'beyond the stages' what latency holds so."""
    grew: tuple[Grew, ...]
    fell: tuple[Grew, ...]
    stalls: tuple[Stalled, ...]
    period: int | None
    """After how many rows the times repeat."""
    steady: bool | None
    """True where the whole series supports it, False where it changed or stalls often; None: that can't be told."""
    causes: tuple[Judged, ...]
    fixes: tuple[Fix, ...]
    next: tuple[str, ...]
    """What to measure next; each can be pasted."""
    unread: tuple[str, ...]
    format: str = ""
    origin: str = ""
    notes: tuple[str, ...] = ()

    def verdict(self, cause: Cause | str) -> Verdict:
        """The verdict on a cause."""
        return next(each.verdict for each in self.causes if each.cause == cause)

    def at_most_ms(self, fix: str) -> float | None:
        """What a fix, such as 'pinned_input', can take off a frame at most; None where that was not measured."""
        return next(each.at_most_ms for each in self.fixes if each.fix == fix)

    @property
    def proven(self) -> tuple[Cause, ...]:
        """The causes that the numbers prove."""
        return tuple(each.cause for each in self.causes if each.verdict == "proven")

    @property
    def possible(self) -> tuple[Cause, ...]:
        """The causes that the numbers leave possible."""
        return tuple(each.cause for each in self.causes if each.verdict == "possible")

    @property
    def beside_medians(self) -> bool:
        """True where much of all time is in frames that repeat, or stall, so that means tell more than medians."""
        return self.period is not None or any(each.share > at.STALLS_SHARE for each in self.stalls)

    def as_dict(self) -> dict[str, Any]:
        """JSON values, which `schema.json` beside this module describes."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    def __str__(self) -> str:
        from .render import as_text

        return as_text(self)


def bill(measured: Measured, trace: Trace | None = None, *, frame_range: str | None = None) -> Bill:
    """The bill of what was measured, and of a trace of the same loop, if there is one.

    A report of Nsight Systems in `measured` is cut into frames: ranges named `frame_range`, else what repeats. A cause
    is proven only by evidence that no other cause gives. TraceError where no range has that name.

    >>> from yolotrt_lab import Recording
    >>> found = bill(Measured.of(Recording.shipped("overload")))
    >>> found.verdict("pageable_overload"), found.verdict("moved_wait"), found.steady
    ('proven', 'excluded', False)
    """
    traced, report = None, trace if measured.trace is None else measured.trace
    if report is not None:
        from .traced import trace_measured, traced_frames

        traced = traced_frames(report, frame_range)
        notes = traced.notes if measured.trace else [f"the trace: {note}" for note in traced.notes]
        measured = replace(measured, notes=tuple(dict.fromkeys((*measured.notes, *notes))))
        measured = trace_measured(measured, traced) if measured.trace else measured
    look = Look(measured, traced)
    causes = tuple(Judged(each.cause, *each.judge(look)) for each in EXPLANATIONS)
    stalls = tuple(_stalls(look))
    return Bill(
        kind=measured.kind,
        frames=look.frames,
        spent=tuple(_spent(look)),
        grew=tuple(_changes((name, look[name].grew) for name in _billed(look))),
        fell=tuple(_changes((name, look[name].fell) for name in _billed(look))),
        stalls=stalls,
        period=look.period or look.stalls_every,
        steady=_steady(look, stalls),
        causes=causes,
        fixes=tuple(_fixes(look, {each.cause: each.verdict for each in causes})),
        next=tuple(_next(look, causes)),
        unread=measured.unread,
        format=measured.format,
        origin=measured.origin,
        notes=(*measured.notes, *_notes(look)),
    )


def _billed(look: Look) -> list[str]:
    """The series of a bill: what was measured, what no column covers, the queue, and where it alone changes, the time
    from one frame to the next.
    """
    names = [name for name in look.named if look.stages == () or name in look.stages or name not in set(Stage)]
    later = "interval" in look.series and not look[look.whole].changed and look["interval"].changed
    return [*names, *(name for name in (UNCOVERED, QUEUE) if name in look.series), *["interval"] * bool(later)]


def _spent(look: Look) -> Iterator[Spent]:
    for name in _billed(look):
        yield Spent(name, look[name].early, look[name].late, float(np.mean(look.series[name])))
    if not look.frames:
        for name, value in look.measured.facts.items():
            yield Spent(name, value, value, value)


def _changes(changes: Iterable[tuple[str, Change | None]]) -> Iterator[Grew]:
    for name, change in changes:
        if change is not None:
            yield Grew(name, change.start, change.to, change.form, change.since, change.before.step)


def _stalls(look: Look) -> Iterator[Stalled]:
    for name in look.named:
        stalls = look[name].stalls if name != Stage.WAIT else None
        if stalls is not None and (name == look.whole or stalls.median > look.whole_ms * at.OF_STAGE):
            of = look.whole if name == look.whole else look.work  # latencies hold the same time several times
            share = stalls.share * float(np.sum(look.series[name]) / np.sum(look.series[of]))
            where = stalls.first, stalls.in_a_row, stalls.second_half
            yield Stalled(name, stalls.frames, stalls.median, stalls.longest, min(share, 1.0), *where)
    highest, usual = (look.measured.facts.get(name, 0.0) for name in ("latency_max", "latency"))
    if highest > at.STALL_TIMES * usual > 0:
        yield Stalled("latency", 1, highest, highest, 0.0, 0, 1, 0)


def _steady(look: Look, stalls: tuple[Stalled, ...]) -> bool | None:
    changed = any(look[name].changed for name in _billed(look))
    if changed or any(each.share > at.STALLS_SHARE or each.in_a_row >= at.IN_A_ROW for each in stalls):
        return False
    enough = look.frames >= at.FEWEST_STEADY and not look.measured.unread
    return True if enough and _within(look) <= at.STEADY * float(np.mean(look.series[look.whole])) else None


def _within(look: Look) -> float:
    """Within how many ms the level of the whole frame, and the mean of each fifth of the run, stay as they are."""
    whole, values = look[look.whole], look.series[look.whole]
    means = [float(np.mean(part)) for part in np.array_split(values, min(5, look.frames))]
    wanders = 0.0 if look.period or look.stalls_every else whole.highest - whole.lowest
    return max(whole.shows_ms, at.OF_FRAME * whole.median, wanders, max(means) - min(means))


def _notes(look: Look) -> Iterator[str]:
    n = edge(look.frames)
    if look.frames > 1:
        yield f"early: {Window(0, n)}; late: {Window(look.frames - n, look.frames)}"
    if look.nested:
        yield "the stages add up to more than a frame: one holds another, or they overlap, and no sum of them is used"
    if Stage.WAIT in look.series and not look.has_instants and look[Stage.WAIT].median > at.OF_FRAME * look.whole_ms:
        yield f"wait takes {ms(look[Stage.WAIT].median)}, and is not billed: it is read as that for the next frame"
    if look.period and look.stages:
        most = max(look.stages, key=lambda stage: look[stage].highest - look[stage].lowest)
        yield f"within {look.period} frames {most} takes {ms(look[most].lowest)} to {ms(look[most].highest)}"
    if not look.frames:
        moving = {name: v[np.isfinite(v)] for name, v in look.telemetry.items()}
        yield from (_range_of(name, values) for name, values in moving.items() if np.ptp(values))
    elif look.frames == 1:
        yield "one frame has no early and no late: it shows where time goes, and nothing that grew"
    elif look.frames == 2:
        yield "two rows are taken as a start and an end"
    elif look.frames < at.FEWEST_FRAMES:
        too_few = f"{look.frames} frames are too few to tell growth from noise: {at.FEWEST_FRAMES} or more do"
        yield f"{too_few}; their first and last third are taken as a start and an end"
    elif not look[look.whole].changed:
        yield f"this run could not show a growth of {look.whole} by less than {ms(_within(look))}"


def _range_of(name: str, values: np.ndarray) -> str:
    scale, unit = (1e6, " MB") if name.endswith("_bytes") else (1.0, "")
    return f"{name} goes from {number(values.min() / scale)} to {number(values.max() / scale)}{unit}"


def _next(look: Look, causes: tuple[Judged, ...]) -> Iterator[str]:
    """What decides most of what is open: of causes that are possible, first those that would slow down a wait which
    changed, then those that something speaks for.
    """
    if look.measured.export:
        yield look.measured.export
    elif look.measured.kind == "telemetry":
        yield "yolotrt-lab diagnose FRAMES.csv --telemetry THIS_FILE"
    if not look.frames:
        return
    slower = (Cause.CLOCK_DROP, Cause.SHARED_GPU, Cause.HEAT, Cause.LEAK) if look.wait is not None else ()
    possible = [each for each in causes if each.verdict == "possible"]
    possible.sort(key=lambda each: (each.cause not in slower, each.because.endswith(ALL_ALONG)))
    asked = {each.cause: each.to_measure(look) for each in EXPLANATIONS}
    wanted = [asked[each.cause] for each in (*possible, *(c for c in causes if c.verdict == "not_measured"))]
    lines = "\n".join([each for each in wanted if each][:3])
    yield from dict.fromkeys(lines.splitlines())
    if not look.telemetry and look.measured.clock_ns is None and "--telemetry" in lines:
        yield "print the time of day in front of each frame: --telemetry joins its file by that"


# What each fix can take off a frame at most: a bound from the numbers, or the measurement that would tell.

_Bound = tuple[float | None, str]


def _fixes(look: Look, verdicts: dict[Cause, Verdict]) -> Iterator[Fix]:
    """Each fix with its bound, which is of that fix alone: two don't add up. Those of a trace are `trace show`'s.

    A fix ends a queue only if it takes more off a frame than the frame is too long by for its clock.
    """
    moved = verdicts[Cause.MOVED_WAIT] in ("proven", "possible") and look.holds(Stage.DOWNLOAD)
    moved = moved and look.download_first is not False
    bounds = {
        "pinned_input": _pinned(look, "input", Stage.UPLOAD, "h2d", "the copy to the GPU"),
        "pinned_output": _pinned(look, "output", Stage.DOWNLOAD, "d2h", "the copy from the GPU", moved=moved),
        "cuda_graph": _cuda_graph(look),
        "overlap": _overlap(look),
        "gpu_alone": _gpu_alone(look, verdicts[Cause.SHARED_GPU]),
        "fewer_frames": _fewer_frames(look),
    }
    frame = look["frame" if "frame" in look.series else look.whole].highest
    for name, (at_most, because) in bounds.items():
        if at_most is not None and name != "fewer_frames":
            if at_most > frame:
                at_most, because = frame, f"{because}; a frame takes {ms(frame)}"
            if look.queue is not None:
                ends = (
                    "if all of it comes off, it ends the queue"
                    if at_most > look.excess_ms
                    else "it does not end the queue"
                )
                because += f"; a frame is {ms(look.excess_ms)} too long for its clock: {ends}"
        yield Fix(name, at_most, because)


def _slowest(look: Look, name: str) -> tuple[float, str]:
    """The level of a time where it is highest; its mean, where a few frames hold most. A level that is told in coarse
    steps may be a step higher.
    """
    shape, mean = look[name], float(np.mean(look.series[name]))
    highest = _highest(look.series[name]) if look.period else shape.highest  # of a period that is of one place in it
    level = max(highest, shape.late, shape.grew.to if shape.grew else 0.0)
    if mean > level + at.OF_FRAME * look.whole_ms:
        return mean, f"{ms(mean)} on average"
    step, level = look.step_ms(name), max(level, mean)
    coarse = step > at.COARSE * level
    return level + coarse * step, f"up to {ms(level)}{f', or a step of {ms(step)} more' * coarse}"


def _highest(values: np.ndarray) -> float:
    """The highest level of a series: of blocks in which the first frames are the fewer."""
    blocks = min(60, len(values) // (2 * at.EDGE_FRAMES + 1))
    return float(np.max(in_blocks(values, blocks)[1] if blocks > 1 else median(values)))


def _by_the_trace(look: Look, kind: str, nothing: str) -> _Bound | None:
    """What a finding of the trace is worth; None where there is no trace of frames, or one that lacks what it needs."""
    if not look.traced or not look.traced.complete:
        return None
    found = look.trace_finding(kind)
    if not found:
        return 0.0, f"by the trace, {nothing}"
    gain_ns = found.numbers.get("gain_ns")
    return (None, f"not measured: {found.text}") if gain_ns is None else (gain_ns / 1e6, found.text)


def _pinned(look: Look, side: str, stage: Stage, way: str, copy: str, *, moved: bool = False) -> _Bound:
    """What page-locked memory on one side can take off, where no wait for the network has moved into its copy call."""
    if look.traced and look.traced.complete:
        saved = look.traced.pinning_ms(way)
        return saved, f"by the trace, pageable {stage}s hold the host for {ms(saved)} that pinned memory saves"
    if look.page_locked(side):
        return 0.0, f"the {side} is page-locked already"
    if stage in look.series:
        took, text = _slowest(look, stage)
        takes = f"the {stage} call takes {text}"
        if moved:
            what = "how much of it is the copy and how much the network's, a synchronize in front of it would tell"
            return None, f"not measured: {takes}; {what}"
        return took, f"{takes}; from pinned memory it returns at once" if side == "input" else takes
    if way in look.measured.facts:
        return (took := look.measured.facts[way]), f"{copy} takes {ms(took)}"
    return None, f"not measured: time the {stage} call"


def _cuda_graph(look: Look) -> _Bound:
    if found := _by_the_trace(look, "launch_bound", "no frame waits for launches"):
        return found
    if look.measured.graph:
        return 0.0, "the loop launches a graph already"
    if {"enqueue", "gpu_compute"} <= (facts := look.facts).keys():
        takes = f"enqueue takes {ms(facts['enqueue'])}, the GPU {ms(facts['gpu_compute'])}"
        if facts["enqueue"] < at.LAUNCH_SHARE * facts["gpu_compute"]:
            return 0.0, f"{takes}: it does not wait for launches"
        return None, f"not measured: {takes}, with gaps between kernels in it; trtexec --useCudaGraph would tell"
    if Stage.INFER not in look.series:
        return None, "not measured: time the enqueue call"
    infer, text = _slowest(look, Stage.INFER)
    if look.nested:
        return None, f"not measured: infer takes {text}, in which other stages may be"
    if not look.waits_measured:
        apart = "a synchronize behind it would tell the wait from the launches"
        return None, f"not measured: infer takes {text}, and {apart}"
    return infer, f"submitting takes {text}; what the GPU needs meanwhile moves to synchronize"


def _overlap(look: Look) -> _Bound:
    if found := _by_the_trace(look, "serial_copies", "nothing to gain is left"):
        return found
    if len(look.stages) < 2:
        return None, "not measured: time the stages of a frame"
    if "frame" not in look.series:
        return None, "not measured: time the whole frame beside its stages"
    host = {stage: _slowest(look, stage) for stage in look.stages if stage not in GPU_CALLS}
    longest = max(host, key=lambda stage: host[stage][0], default=None)
    waits = _slowest(look, "gpu")[0] if "gpu" in look.series else 0.0
    if longest is None or waits > _ENGINES * host[longest][0]:
        return None, f"not measured: copies may be in the {ms(waits)} until the GPU is done; a trace tells them apart"
    as_long = f"with all stages of different frames at once, a frame takes at least as long as {longest}"
    as_long += f", {ms(look[longest].median)}"
    together, frame = sum(look[stage].median for stage in look.stages), look["frame"].median
    if together > (1 + at.OF_FRAME) * frame:
        as_long += f"; the stages add up to {ms(together)}, more than the frame of {ms(frame)}: some overlap already"
        as_long += ", or hold others" if look.nested else ""
    takes = look.series["frame"]
    if "interval" in look.series and not look.nested:  # several frames may be in flight
        takes = np.minimum(takes, np.maximum(np.append(look.series["interval"], 0.0), look.series["stages"]))
    rest = np.maximum(takes - np.max([look.series[stage] for stage in host], axis=0), 0.0)
    return max(_highest(rest), float(np.mean(rest))), as_long


_ENGINES = 3
"""A copy in, the network and a copy out are what a GPU does at once: of a wait for all of it a third is left."""


def _gpu_alone(look: Look, shared: Verdict) -> _Bound:
    if shared == "excluded":
        return 0.0, "no other process is on the GPU"
    if found := look.trace_finding("unexplained_wait"):
        return found.numbers["nothing_ns"] / 1e6, found.text
    if look.wait is not None:
        name, change = look.wait
        what = "the calls that wait for the GPU change" if name == "gpu" else f"{name} changes"
        shape = look[name]
        size = max(change.start, change.to, shape.highest) - min(shape.lowest, change.start, change.to)
        every = change.before.step
        often = f"in one of every {every} frames of " if every > 1 else "in "
        return size / every, f"{what} by {ms(size)} {often}the run; what was there all along is not in it"
    return None, "not measured: run the same frames once with nothing else on the GPU"


def _fewer_frames(look: Look) -> _Bound:
    if not look.sees_queue and look.queue is None:
        return None, "not measured: when each frame was due, and when its result came"
    most = max(0.0, float(np.max(look.queued_ms)))
    held = f"latency holds up to {ms(most)} {look.queued_where}"
    if look.queue is not None:
        slowest = max(look.service_ms, look[look.work].late)
        return most, f"{held}; a frame every {ms(slowest)} or more ends the queue"
    return most, held


def _plain(value: Any) -> Any:
    """Values that JSON has: numbers to six digits, and null for those that are none."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
