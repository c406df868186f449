"""How large a change must be to count, and what a confidence means."""

from __future__ import annotations

import numpy as np

from ...types import Stage
from ..growth.shape import Shape
from ..symptoms import FIRST_FRAMES, GPU_STAGES, Change, Symptoms, Window

PROVEN = 0.95
"""What was measured shows the cause itself, such as a clock that falls."""

TELLS = 0.85
"""The cause itself was not measured, but no other cause that the lab knows makes these numbers."""

_LEAST_PART_OF_FRAME = 0.03
_LEAST_RISE = {Stage.SYNCHRONIZE: 0.1, Stage.DOWNLOAD: 0.15, Stage.INFER: 0.5, "gpu": 0.4}
_LEAST_RISE_OF_OTHERS = 0.2
"""Least rise of a series, as a part of its lower level. An H200 that served one loop for 1,500 frames, with nothing the
matter, let the median of a sixth of them drift by at most 3 % in synchronize and in a download call that waits, 38 % in
submitting a network call by call, and 18 % in all else that takes 3 % of a frame (`data/recordings`)."""

_TENS_OF_FRAMES = 64
_WARM_MS = 1_000.0
"""Clocks that come up are simulated to take 0.4 s (assumed)."""
_BETWEEN = (0.2, 0.8)
_LEAST_BETWEEN = 0.25
_LEAST_SLIGHT = 0.04
_LEAST_EARLY = 1 / 3
_A_WAIT_MS = 0.02
_LEAST_LASTING = 0.5


def material(symptoms: Symptoms, name: str) -> bool:
    """True where a series grows by more than a machine drifts, and by enough to be felt in the frame."""
    if name not in symptoms.series:
        return False
    change = symptoms.change(name)
    return _is_felt(symptoms, name, change) and symptoms.grows(name) and not _moved(symptoms, name, change)


def fell(symptoms: Symptoms, name: str) -> bool:
    """True where a series comes down by as much as is material of a rise, and is no warm-up."""
    if name not in symptoms.growth or symptoms.growth[name].shape is not Shape.FALLING:
        return False
    return _is_felt(symptoms, name, symptoms.fall(name)) and not falls_from_the_start(symptoms, name)


def falls_from_the_start(symptoms: Symptoms, name: str) -> bool:
    """True where half of a fall is over within tens of frames, or within the first second and bit by bit: so does
    everything that warms up.

    What stays slow for longer, and then at once no more, is another speed of the GPU or of the host.
    """
    ends = np.cumsum(np.nan_to_num(symptoms.series[symptoms.whole()]))
    warm = max(int(np.searchsorted(ends, _WARM_MS)), _TENS_OF_FRAMES)
    blocks = [Window(at, at + FIRST_FRAMES) for at in range(0, min(warm, symptoms.frames), FIRST_FRAMES)]
    levels = np.array([symptoms.level(name, block) for block in blocks])
    fallen = (levels[0] - levels) / max(levels[0] - symptoms.fall(name).low, 1e-9)
    half = int(np.argmax(fallen > 0.5))
    if not half:
        return False
    between = int(((fallen > _BETWEEN[0]) & (fallen < _BETWEEN[1])).sum())
    return half * FIRST_FRAMES <= _TENS_OF_FRAMES or between > _LEAST_BETWEEN * half


def _is_felt(symptoms: Symptoms, name: str, change: Change) -> bool:
    least = max(
        _LEAST_RISE.get(name, _LEAST_RISE_OF_OTHERS) * change.low,
        _LEAST_PART_OF_FRAME * symptoms.level(symptoms.whole(), change.before),
    )
    return change.rise > least


def _moved(symptoms: Symptoms, name: str, change: Change) -> bool:
    """True where the calls that wait for the GPU last together as long as before although one of them grows: the host
    submits faster, and waits for that much longer.
    """
    if name not in GPU_STAGES:
        return False
    rise = symptoms.level("gpu", change.after) - symptoms.level("gpu", change.before)
    return rise < _LEAST_LASTING * change.rise


def early(symptoms: Symptoms, name: str) -> bool:
    """True where a wait is longer than in the first frames by more than any was that had nothing the matter (5 %).

    First frames are slow rather than fast, so that this asks for a third and no shape. A call of a few microseconds
    waits for nothing.
    """
    change = symptoms.since_start(name)
    frame = symptoms.level(symptoms.whole(), change.after)
    least = max(_LEAST_EARLY * change.low, _LEAST_PART_OF_FRAME * frame)
    return change.high >= _A_WAIT_MS and change.rise > least and not _moved(symptoms, name, change)


def slight(symptoms: Symptoms, name: str) -> bool:
    """True where a wait grows by more than any did that was measured with nothing the matter, be it felt or not.

    A call of a few microseconds waits for nothing.
    """
    change = symptoms.change(name)
    if change.low < _A_WAIT_MS or _moved(symptoms, name, change):
        return False
    return change.rise > _LEAST_SLIGHT * change.low and symptoms.grows(name)


def faint(symptoms: Symptoms, name: str) -> bool:
    """True where a wait grows slightly, and steadily from the first frame to the last."""
    if not slight(symptoms, name):
        return False
    growth = symptoms.growth[name]
    return growth.shape is not Shape.STEP and growth.rise > symptoms.change(name).rise / 2


def shared_between(*weights: float) -> list[float]:
    """Confidences of causes that the evidence can't tell apart, by weight, beside one of weight 1 that nobody knows."""
    return [weight / (1 + sum(weights)) for weight in weights]
