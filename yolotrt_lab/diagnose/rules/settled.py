"""What does not grow: frames that only start slowly, and a loop in which nothing is the matter."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ...types import Cause, HostMemory, Stage
from ..findings import Evidence, Finding
from ..growth.shape import Shape
from ..symptoms import FIRST_FRAMES, Symptoms, Window
from .arrival import HELD_MS, backlog_climbs
from .belief import PROVEN, TELLS, falls_from_the_start, fell, material, shared_between

ALLOCATION = (
    "allocate once, before the loop: a pool of slots that frames take turns with",
    "look for cudaHostAlloc, cudaMalloc and cudaFree in the frames of a trace of Nsight Systems",
)
LEAK = (
    "release or reuse what each frame makes: cudaHostUnregister, buffers and events made once, no list of results",
    "run on with the memory of the process beside the frames, then restart it: if a leak is the cause, memory "
    "climbs with the wait and both start again from the bottom",
)
"""A cure and the experiment that proves the cause."""

LEAST_LEAK = 0.02
LEAST_LEAK_BYTES = 4e6
_PAGE_BYTES = 4_096
_FIFTHS = 5
_STEADY = 0.5

_ALLOCATION_MS = 1.0
"""`cudaHostAlloc` of a 640 x 640 float32 image takes 0.7 to 1.1 ms on an H200; a shorter stage has no room for one."""
_SLOW_START = 1.2
_SLOW_FIRST = 4.0
_SPIKE = 2.0
_SPIKE_OF_FRAME = 0.5
_FEWEST_SPIKES = 4
_MIDDLE = (0.25, 0.6)
_LEFT_IN_BETWEEN = 0.25
_LEAST_SPIKES = 0.005
"""Of the frames: an H200 with nothing the matter had 3 in 1,500 that took 2 ms more (`data/recordings`)."""
_NOT_ITS_OWN = (Stage.WAIT, "interval", "backlog")
"""How long the loop waits for a frame, a frame for the loop, and how often results come: none is a stage's work."""


def shape_change(symptoms: Symptoms) -> Finding | None:
    """Submitting the network takes several times as long in a few frames, each time by about as much.

    Where no synchronize was measured, the wait for the GPU may be in there, which has more reasons to be long.
    """
    found = _spikes(symptoms, Stage.INFER)
    if found is None:
        return None
    height, confidence, evidence = found
    if Stage.SYNCHRONIZE not in symptoms.series:
        confidence = min(confidence, shared_between(1)[0])
    return Finding(
        Cause.SHAPE_CHANGE,
        confidence,
        0.0,
        height,
        evidence,
        "fixed shapes (pad or letterbox to one), or an engine and a context for each shape that comes",
        "log the input's shape beside the frames: it changes at each spike if this is the cause; if it does not, look "
        "for allocations in a trace",
    )


def allocation(symptoms: Symptoms) -> Finding | None:
    """Preprocessing or the upload take several times as long in a few frames: memory is made and freed in the loop.

    Or the process keeps more memory with every frame, which each of them then has made; of how long that takes only a
    trace can tell.
    """
    for stage in (Stage.PREPROCESS, Stage.UPLOAD):
        found = _spikes(symptoms, stage)
        if found is not None:
            height, confidence, evidence = found
            return Finding(
                Cause.ALLOCATION,
                confidence,
                0.0,
                height,
                evidence,
                *ALLOCATION,
            )
    kept = _kept_a_frame(symptoms)
    if kept < _PAGE_BYTES or Stage.PREPROCESS not in symptoms.series:
        return None
    stage = symptoms.level(Stage.PREPROCESS, symptoms.run)
    evidence = (
        symptoms.evidence("host memory kept a frame", kept / 1e6, "MB"),
        symptoms.evidence("preprocess, in which it may be made", stage, "ms"),
    )
    return Finding(Cause.ALLOCATION, shared_between(1)[0], 0.0, stage, evidence, *ALLOCATION)


def leak(symptoms: Symptoms) -> Finding | None:
    """Host memory climbs steadily from the first frame to the last, though no wait shows it yet."""
    kept = _kept_a_frame(symptoms) * symptoms.frames
    if not kept > max(LEAST_LEAK_BYTES, LEAST_LEAK * symptoms.level("host_memory_bytes", Window(0, FIRST_FRAMES))):
        return None
    evidence = (symptoms.evidence("host memory kept meanwhile", kept / 1e6, "MB"),)
    return Finding(Cause.LEAK, PROVEN, 0.0, 0.0, evidence, *LEAK)


def _kept_a_frame(symptoms: Symptoms) -> float:
    """Bytes by which host memory grows from frame to frame; 0 where it does not climb in every fifth of the run."""
    if "host_memory_bytes" not in symptoms.telemetry:
        return 0.0
    edges = np.linspace(0, symptoms.frames, _FIFTHS + 1).astype(int).tolist()
    rises = np.diff([symptoms.level("host_memory_bytes", Window(*piece)) for piece in pairwise(edges)])
    return float(rises.mean()) * _FIFTHS / symptoms.frames if rises.min() > _STEADY * rises.mean() > 0 else 0.0


def _spikes(symptoms: Symptoms, stage: Stage) -> tuple[float, float, tuple[Evidence, ...]] | None:
    """How high spikes of a stage stand above it, in ms, a confidence, and the evidence; None if they are few or low.

    One thing that is done now and then takes about as long each time, and leaves hardly a frame in between. Spikes of
    all heights are a heavy tail, which has many causes.
    """
    if stage not in symptoms.growth:
        return None
    usual, frame = symptoms.level(stage, symptoms.run), symptoms.change(symptoms.whole()).low
    heights = symptoms.series[stage] - usual
    is_high = heights > max(_SPIKE * usual, _SPIKE_OF_FRAME * frame)
    fewest = max(_FEWEST_SPIKES, _LEAST_SPIKES * symptoms.frames)
    if is_high.sum() < fewest:
        return None
    spikes = np.flatnonzero(np.isfinite(heights))[list(symptoms.growth[stage].spikes)]
    high = heights[spikes][is_high[spikes]]
    if len(high) < fewest:
        return None
    evidence = [
        symptoms.evidence(f"{stage}, most frames", usual, "ms"),
        symptoms.evidence(f"{stage}, spikes above that", float(np.median(high)), "ms"),
        symptoms.evidence("spikes", len(high), "frames"),
    ]
    period = symptoms.growth[stage].period
    if period is not None:
        evidence.append(symptoms.evidence("one every", period, "frames"))
    height = float(np.median(high))
    between = ((heights > _MIDDLE[0] * height) & (heights < _MIDDLE[1] * height)).sum()
    confidence = TELLS if between <= _LEFT_IN_BETWEEN * len(high) else shared_between(1)[0]
    return height, confidence, tuple(evidence)


def warm_up(symptoms: Symptoms) -> Finding | None:
    """The first frames are slower than any later one, or all become faster from the first on, and nothing grows."""
    name = symptoms.whole()
    if name not in symptoms.growth:
        return None
    values = symptoms.series[name]
    first, rest = Window(0, FIRST_FRAMES), Window(symptoms.frames // 2, symptoms.frames)
    slowest, settled = float(values[: first.end].max()), symptoms.level(name, rest)
    falls = symptoms.growth[name].shape is Shape.FALLING and symptoms.level(name, first) > _SLOW_START * settled
    if not (falls and falls_from_the_start(symptoms, name)) and not slowest > max(
        _SLOW_FIRST * settled, values[first.end :].max()
    ):
        return None
    return Finding(
        Cause.WARM_UP,
        TELLS,
        0.0,
        0.0,
        (
            symptoms.evidence("the slowest of the first frames", slowest, "ms", first),
            symptoms.evidence("the first frames", symptoms.level(name, first), "ms", first),
            symptoms.evidence("the second half", settled, "ms", rest),
        ),
        "mark the first frames as warm-up and judge the loop by the others",
        "run it longer: the level after the start stays",
    )


def calm(symptoms: Symptoms, *, traced: bool = False) -> tuple[Finding, ...]:
    """Nothing that was measured grows by more than machines drift: a warm-up at most, or a cost that stays.

    Of a cost that stays, host timers can't say what is in it. A preprocessing stage in front of a page-locked upload
    that is long enough to hold an allocation of page-locked memory may hold one, as long as no trace says otherwise.
    """
    names = [name for name in symptoms.series if name not in _NOT_ITS_OWN]
    if backlog_climbs(symptoms) or any(material(symptoms, name) for name in names):
        late = fed_too_fast(symptoms)
        return (late,) if late else ()
    start = warm_up(symptoms)
    if start is not None:
        return (start,)
    name = symptoms.whole()
    if fell(symptoms, name):
        return ()
    change = symptoms.change(name)
    evidence = (
        symptoms.evidence(f"{name} where it is lowest", change.low, "ms", change.before),
        symptoms.evidence(f"{name} where it is highest after that", change.high, "ms", change.after),
    )
    hidden = None if traced else hidden_allocation(symptoms, symptoms.run)
    none_alone, none_beside = TELLS, shared_between(2, 1)[0]
    calm = Finding(
        Cause.NONE,
        none_beside if hidden else none_alone,
        0.0,
        0.0,
        evidence,
        "nothing to cure: what the frame takes is what this loop costs",
        "run ten times as many frames, to see a growth that is slower than this run could show",
    )
    return (calm, hidden) if hidden else (calm,)


def fed_too_fast(symptoms: Symptoms) -> Finding | None:
    """Frames are later and later although no stage takes longer: they come faster than they are served.

    Whether a loop that does nothing wrong is at fault then is a question of words, so that this is never sure.
    """
    instants = symptoms.measured.instants_ns
    if not {"due", "done"} <= instants.keys() or any(
        material(symptoms, stage) for stage in Stage if stage is not Stage.WAIT
    ):
        return None
    comes, served = (float(np.mean(np.diff(instants[name]))) / 1e6 for name in ("due", "done"))
    if "latency" not in symptoms.series or not served > comes:
        return None
    change = symptoms.change("latency")
    evidence = (
        *symptoms.both_sides("latency", change),
        symptoms.evidence("a frame comes every", comes, "ms"),
        symptoms.evidence("a result comes every", served, "ms"),
    )
    return Finding(
        Cause.NONE,
        shared_between(1)[0],
        change.rise,
        change.rise,
        evidence,
        "no call is at fault: bring fewer frames, or drop all but the latest, or make the slowest stage faster",
        "run the same frames without a clock, each as soon as the last is done: all take as long, if that is all",
    )


def hidden_allocation(symptoms: Symptoms, window: Window) -> Finding | None:
    """A candidate where preprocessing for page-locked memory takes long enough in `window` to hold an allocation."""
    memory = symptoms.measured.memory.get("input", HostMemory.PAGEABLE)
    stage, upload = (symptoms.level(name, window) for name in (Stage.PREPROCESS, Stage.UPLOAD))
    if not HostMemory(memory).page_locked or not stage >= _ALLOCATION_MS or not upload < HELD_MS:
        return None
    evidence = (symptoms.evidence("preprocess, in front of a page-locked upload", stage, "ms", window),)
    confidence = shared_between(2, 1)[1]
    return Finding(Cause.ALLOCATION, confidence, 0.0, stage, evidence, *ALLOCATION)
