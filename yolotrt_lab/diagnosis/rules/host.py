"""What the host does itself: preprocessing that grows, memory made in the loop."""

from __future__ import annotations

from ...types import Cause, Stage
from ..findings import Finding
from ..symptoms import Symptoms
from .belief import TELLS, material


def preprocess(symptoms: Symptoms) -> Finding | None:
    """The preprocessing stage itself climbs; it touches no GPU, so nothing there can be the reason."""
    if not material(symptoms, Stage.PREPROCESS):
        return None
    change = symptoms.change(Stage.PREPROCESS)
    evidence = (
        *symptoms.both_sides(Stage.PREPROCESS, change),
        *symptoms.both_sides("gpu", change),
    )
    return Finding(
        Cause.PREPROCESS,
        TELLS + 0.05,
        change.rise,
        change.high,
        evidence,
        "make the stage smaller, or move it: to the GPU, or to a thread that works a frame ahead",
        "run it alone on the same frames, without the GPU: it climbs there too if it is the cause; if it does not, "
        "something else uses the cores",
    )
