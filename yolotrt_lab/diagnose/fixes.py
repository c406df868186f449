"""What each fix can take off a frame at most: a bound from the numbers, or the measurement that would tell.

Where there is a trace, the numbers are those of `trace show`. A fix ends a queue only if it takes more off a frame than
the frame is too long by for its clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..types import Cause, Stage
from . import thresholds as at
from .explanations import Verdict
from .look import QUEUE, Look, ms


@dataclass(frozen=True, slots=True)
class Fix:
    """What a fix can buy."""

    fix: str
    at_most_ms: float | None
    """Off a frame; None where that was not measured."""
    because: str


_Found = tuple[float | None, str]
_Verdicts = dict[Cause, Verdict]


def fixes(look: Look, verdicts: _Verdicts) -> Iterator[Fix]:
    """All fixes, each with its bound."""
    for name, bound in _FIXES.items():
        at_most, because = bound(look, verdicts)
        if at_most is not None and name != "fewer_frames" and look.queue is not None:
            ends = "it ends the queue" if at_most > look.excess_ms else "it does not end the queue"
            because += f"; a frame is {ms(look.excess_ms)} too long for its clock: {ends}"
        yield Fix(name, at_most, because)


def _late(look: Look, name: str) -> float:
    """The level of a time where it is highest."""
    shape = look.shape(name)
    return max(shape.late, shape.grew.to if shape.grew else 0.0)


def _by_the_trace(look: Look, kind: str, nothing: str) -> _Found | None:
    """What a finding of the trace is worth; None where there is no trace of frames, or one that lacks what it needs."""
    if not look.traced or not look.traced.has_frames or look.traced.seen.missing:
        return None
    found = look.traced.finding(kind)
    return (found.numbers["gain_ns"] / 1e6, found.text) if found else (0.0, f"by the trace, {nothing}")


def _pinned(look: Look, side: str, stage: Stage, way: str) -> _Found:
    """What page-locked memory on one side can take off, where no other call waits in its copy call."""
    copy = {"input": "h2d", "output": "d2h"}[side]
    if look.traced and look.traced.has_frames:
        saved = look.traced.pinning_ms(copy)
        return saved, f"by the trace, pageable {stage}s hold the host for {ms(saved)} that pinned memory saves"
    if look.page_locked(side):
        return 0.0, f"the {side} is page-locked already"
    if stage in look.series:
        return (took := _late(look, stage)), f"the {stage} call takes {ms(took)}"
    if copy in look.measured.facts:
        return (took := look.measured.facts[copy]), f"the copy {way} the GPU takes {ms(took)}"
    return None, f"not measured: time the {stage} call"


def _pinned_input(look: Look, verdicts: _Verdicts) -> _Found:
    at_most, because = _pinned(look, "input", Stage.UPLOAD, "to")
    return at_most, because + (
        "; from pinned memory it returns at once" if because.startswith("the upload call") else ""
    )


def _pinned_output(look: Look, verdicts: _Verdicts) -> _Found:
    at_most, because = _pinned(look, "output", Stage.DOWNLOAD, "from")
    moved = verdicts[Cause.MOVED_WAIT] in ("proven", "possible") and look.holds(Stage.DOWNLOAD)
    if moved and because.startswith("the download call"):
        what = "how much of it is the copy and how much the network's, a synchronize in front of it would tell"
        return None, f"not measured: {because}; {what}"
    return at_most, because


def _cuda_graph(look: Look, verdicts: _Verdicts) -> _Found:
    if found := _by_the_trace(look, "launch_bound", "no frame waits for launches"):
        return found
    facts = look.measured.facts
    if {"enqueue", "gpu_compute"} <= facts.keys():
        saved = max(0.0, facts["enqueue"] - facts["gpu_compute"])
        return saved, f"enqueue takes {ms(facts['enqueue'])}, the GPU {ms(facts['gpu_compute'])}"
    if Stage.INFER not in look.series:
        return None, "not measured: time the enqueue call"
    infer = _late(look, Stage.INFER)
    if not look.waits_measured:
        apart = "a synchronize behind it would tell the wait from the launches"
        return None, f"not measured: infer takes {ms(infer)}, and {apart}"
    return infer, f"submitting takes {ms(infer)}; what the GPU needs meanwhile moves to synchronize"


def _overlap(look: Look, verdicts: _Verdicts) -> _Found:
    if found := _by_the_trace(look, "serial_copies", "nothing to gain is left"):
        return found
    if len(look.stages) < 2:
        return None, "not measured: time the stages of a frame"
    levels = {str(stage): _late(look, stage) for stage in look.stages}
    longest = max(levels, key=levels.__getitem__)
    as_long = f"with all stages of different frames at once, a frame takes as long as {longest}, {ms(levels[longest])}"
    together, frame = look.median("stages"), look.median("frame")
    if together > (1 + at.OF_FRAME) * frame:
        as_long += f"; the stages add up to {ms(together)}, more than the frame of {ms(frame)}: some overlap already"
        return max(0.0, frame - levels[longest]), as_long
    return sum(levels.values()) - levels[longest], as_long


def _gpu_alone(look: Look, verdicts: _Verdicts) -> _Found:
    if verdicts[Cause.SHARED_GPU] == "excluded":
        return 0.0, "no other process is on the GPU"
    if look.traced and (found := look.traced.finding("unexplained_wait")):
        return found.numbers["nothing_ns"] / 1e6, found.text
    if look.wait is not None:
        name, change = look.wait
        what = "the calls that wait for the GPU" if name == "gpu" else name
        return change.size, f"{what} change by {ms(change.size)} in the run; what was there all along is not in it"
    return None, "not measured: run the same frames once with nothing else on the GPU"


def _fewer_frames(look: Look, verdicts: _Verdicts) -> _Found:
    if not look.sees_queue and look.queue is None:
        return None, "not measured: when each frame was due, and when its result came"
    late = max(0.0, look.shape(QUEUE).late)
    if look.queue is not None:
        slowest = max(look.service_ms, look.late(look.work))
        needed = f"a frame every {ms(slowest)} or more ends the queue"
        return late, f"latency holds {ms(late)} beyond the stages at the end; {needed}"
    return late, f"latency holds {ms(late)} beyond the stages"


_FIXES: dict[str, Callable[[Look, _Verdicts], _Found]] = {
    "pinned_input": _pinned_input,
    "pinned_output": _pinned_output,
    "cuda_graph": _cuda_graph,
    "overlap": _overlap,
    "gpu_alone": _gpu_alone,
    "fewer_frames": _fewer_frames,
}
"""Each fix with its bound. A bound is of one fix alone: two don't add up."""
