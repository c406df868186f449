"""Frames come faster than they are served: every frame is later than the last, though none takes longer."""

from __future__ import annotations

import numpy as np

from ...types import Cause, HostMemory, Stage
from ..findings import Finding
from ..symptoms import Symptoms, Window
from .belief import PROVEN, TELLS, shared_between

_CURE = "pinned memory, filled in place (a pool of slots, made once), so that the upload does not hold the host"
_EXPERIMENT = (
    "run the same loop on the same clock with pinned input, filled in place: the climb ends if this is the cause"
)
HELD_MS = 0.04
"""An upload call from page-locked memory takes 3 to 30 us on an H200, with neighbours too. One that takes longer holds
the host while the bytes are copied, or for the work in front of it, and is a pageable one, whatever its loop says: a
pinned buffer that the copy bypasses is a common mistake."""
_LEAST_SHARE = 0.2
_CLIMBS = 2.0
_SEVERAL = 3.0


def pageable_overload(symptoms: Symptoms) -> Finding | None:
    """The backlog climbs, a frame is served more slowly than the next one comes, and the upload call is part of why.

    Or, where results are collected later, the upload call itself climbs and the waits for the GPU do not: a pageable
    upload waits for all that lies in front of it in the stream, a page-locked one never does.
    """
    memory = symptoms.measured.memory.get("input")
    if Stage.UPLOAD not in symptoms.series or (memory is not None and HostMemory(memory).page_locked):
        return None
    return _climbing_backlog(symptoms) or _climbing_upload(symptoms)


def _climbing_backlog(symptoms: Symptoms) -> Finding | None:
    if not backlog_climbs(symptoms):
        return None
    change = symptoms.change("backlog")
    frames = (change.after.first + change.after.end - change.before.first - change.before.end) / 2
    served = symptoms.level("interval" if "interval" in symptoms.series else "stages", change.before)
    period = _period_ms(symptoms)
    excess = served - period if period is not None else change.rise / frames
    upload = symptoms.level(Stage.UPLOAD, change.before)
    share = min(1.0, upload / excess) if excess > 0 else 0.0
    if upload < HELD_MS or share < _LEAST_SHARE:
        return None
    late = min(change.rise, excess * frames)
    evidence = (
        *symptoms.both_sides("backlog", change),
        symptoms.evidence("a frame comes every", served - excess, "ms"),
        symptoms.evidence("a frame is served in", served, "ms", change.before),
        symptoms.evidence("of that the upload call holds the host for", upload, "ms", change.before),
    )
    confidence = PROVEN if period is not None else TELLS if _waits_are_known(symptoms) else shared_between(1)[0]
    if share < 1:  # without the upload call a frame would still take longer than the next one waits
        confidence = min(confidence, shared_between(1)[0])
    return Finding(Cause.PAGEABLE_OVERLOAD, confidence, late * share, late + upload, evidence, _CURE, _EXPERIMENT)


def _waits_are_known(symptoms: Symptoms) -> bool:
    """False where what no stage accounts for may be a wait for the GPU that was not measured, and no backlog at all."""
    return Stage.SYNCHRONIZE in symptoms.series or Stage.DOWNLOAD in symptoms.series


def backlog_climbs(symptoms: Symptoms) -> bool:
    """True where frames come to lie for several frames' time before they are taken up, and it does not pass.

    The shape of a backlog is not asked for: it adds up the noise of all frames before, and so looks like a random walk.
    """
    if "backlog" not in symptoms.series:
        return False
    change, end = symptoms.change("backlog"), Window(symptoms.frames - symptoms.frames // 10, symptoms.frames)
    several = _SEVERAL * symptoms.level("stages", change.before)
    return change.rise > several and symptoms.level("backlog", end) - change.low > change.rise / 2


def _period_ms(symptoms: Symptoms) -> float | None:
    due = symptoms.measured.instants_ns.get("due")
    return float(np.median(np.diff(due))) / 1e6 if due is not None and len(due) > 1 else None


def _climbing_upload(symptoms: Symptoms) -> Finding | None:
    change = symptoms.since_start(Stage.UPLOAD)
    waits = symptoms.level("gpu", change.after) - symptoms.level("gpu", change.before)
    if change.high < max(HELD_MS, _CLIMBS * change.low) or waits > change.rise / 2:
        return None
    evidence = (
        *symptoms.both_sides(Stage.UPLOAD, change),
        *symptoms.both_sides("gpu", change),
    )
    return Finding(Cause.PAGEABLE_OVERLOAD, TELLS, change.rise, change.high, evidence, _CURE, _EXPERIMENT)
