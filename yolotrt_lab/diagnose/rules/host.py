"""What the host does itself: preprocessing that grows, memory made in the loop."""

from __future__ import annotations

from ...types import Cause, Stage
from ..findings import Finding
from ..symptoms import Change, Symptoms
from .belief import TELLS, material, shared_between

_ALIKE = 0.5


def preprocess(symptoms: Symptoms) -> Finding | None:
    """The preprocessing stage itself climbs; it touches no GPU, so nothing there can be the reason.

    Where submitting the network takes longer by as much, and the GPU does not, the whole host has become slower.
    """
    if not material(symptoms, Stage.PREPROCESS):
        return None
    change = symptoms.change(Stage.PREPROCESS)
    slower_host = _slower_host(symptoms, change)
    evidence = (
        *symptoms.both_sides(Stage.PREPROCESS, change),
        *symptoms.both_sides("gpu", change),
        *(symptoms.both_sides(Stage.INFER, change, what="submitting the network") if slower_host else ()),
    )
    return Finding(
        Cause.PREPROCESS,
        shared_between(1.5)[0] if slower_host else TELLS + 0.05,
        change.rise,
        change.high,
        evidence,
        "make the stage smaller, or move it: to the GPU, or to a thread that works a frame ahead",
        "run it alone on the same frames, without the GPU: it climbs there too if it is the cause; if it does not, "
        "something else uses the cores",
    )


def _slower_host(symptoms: Symptoms, change: Change) -> bool:
    if any(material(symptoms, name) for name in (Stage.SYNCHRONIZE, Stage.DOWNLOAD)):
        return False
    preprocess, submit = (
        symptoms.level(stage, change.after) / max(symptoms.level(stage, change.before), 1e-9)
        for stage in (Stage.PREPROCESS, Stage.INFER)
    )
    return submit - 1 > _ALIKE * (preprocess - 1)
