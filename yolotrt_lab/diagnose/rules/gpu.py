"""The GPU serves more slowly: its clocks fall, it gets too hot, others use it, or the process keeps too much.

To host timers these are one longer wait. Telemetry shares its growth out: to the clocks what they can make of the wait
as it was; the rest to neighbours where some came, or to memory that is kept where that climbs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ...types import Cause, Stage
from ..findings import Evidence, Finding
from ..symptoms import Change, Symptoms
from .belief import PROVEN, early, faint, fell, material, shared_between, slight
from .settled import LEAK, LEAST_LEAK, LEAST_LEAK_BYTES
from .waits import LAUNCH_QUEUE, SHARED_STREAM

_LEAST_CLOCK_FACTOR = 1.04
_LEAST_THROTTLED = 0.2
_HOT_C = 80.0
_HOTTER_C = 3.0
_NEIGHBOUR_BYTES = 100e6
_LEAST_PART = 0.2
_LOOK = (
    "run it again beside `nvidia-smi --query-gpu=clocks.sm,temperature.gpu,"
    "clocks_throttle_reasons.sw_thermal_slowdown,memory.used,timestamp --format=csv -lms 100`, and put its columns "
    "beside the frames in one table, which `yolotrt-lab diagnose` reads under these names"
)


@dataclass(frozen=True, slots=True)
class Wait:
    """The waits for the GPU that grew: `name` is the series, `left_ms` what of its rise no cause accounts for yet.

    One that is `slight` is worth telling only where telemetry proves why. One that `fell` was long at first.
    """

    name: str
    change: Change
    left_ms: float
    slight: bool = False
    fell: bool = False


def longer_wait(symptoms: Symptoms) -> Wait | None:
    """The calls that wait for the GPU, together or one of them, whichever grew most, be it early or faintly.

    Where none grew, the one that fell most after it had been long for more frames than a warm-up takes.
    """
    names = ("gpu", Stage.SYNCHRONIZE, Stage.DOWNLOAD)
    waits = [name for name in names[1:] if name in symptoms.series]
    waits += ["gpu"] if _hides_the_host(symptoms) else []
    grown = [(name, symptoms.change(name)) for name in names if material(symptoms, name)]
    grown += [(name, symptoms.since_start(name)) for name in waits if early(symptoms, name)]
    grown += [(name, symptoms.change(name)) for name in waits if faint(symptoms, name)]
    fallen = [(name, symptoms.fall(name)) for name in names if fell(symptoms, name)] if not grown else []
    is_slight = not grown and not fallen
    grown = grown or fallen or [(name, symptoms.change(name)) for name in waits if slight(symptoms, name)]
    if not grown:
        return None
    name, change = max(grown, key=lambda each: each[1].rise)
    return Wait(name, change, change.rise, is_slight, bool(fallen))


def _hides_the_host(symptoms: Symptoms) -> bool:
    """True where the host submits in less time than it then waits for: all its calls together last as long as the GPU
    needs, however fast the host is.
    """
    waited = sum(symptoms.level(name, symptoms.run) for name in (Stage.SYNCHRONIZE, Stage.DOWNLOAD))
    return waited > symptoms.level("gpu", symptoms.run) / 2


def clock_drop(symptoms: Symptoms, wait: Wait) -> Finding | None:
    """The SM clock falls, and not for heat: every kernel takes longer by one factor, copies do not."""
    return None if _is_hot(symptoms, wait) else _by_clock(symptoms, wait, Cause.CLOCK_DROP)


def heat(symptoms: Symptoms, wait: Wait) -> Finding | None:
    """The SM clock falls, and the GPU says that temperature is the reason, or is hot and getting hotter."""
    return _by_clock(symptoms, wait, Cause.HEAT) if _is_hot(symptoms, wait) else None


def shared_gpu(symptoms: Symptoms, wait: Wait) -> Finding | None:
    """More processes use the GPU, or its memory fills by jumps, while the wait is longer than the clocks make it; or
    they go, its memory empties by jumps, and the wait falls.
    """
    before, after = wait.change.before, wait.change.after
    came = symptoms.level("gpu_processes", after) - symptoms.level("gpu_processes", before)
    if not (came >= 1 or _jump_of_memory(symptoms, wait) >= _NEIGHBOUR_BYTES) or not _worth(wait):
        return None
    evidence = (
        *symptoms.both_sides("gpu_processes", wait.change, "", "other processes on the GPU"),
        *symptoms.both_sides("gpu_memory_used_bytes", wait.change, "GB", "memory used on the GPU"),
        *symptoms.both_sides("gpu_utilisation_percent", wait.change, "%", "GPU utilisation"),
        *symptoms.both_sides(Stage.UPLOAD, wait.change),
        *_clock_evidence(symptoms, wait),
    )
    return Finding(Cause.SHARED_GPU, PROVEN, wait.left_ms, wait.left_ms, evidence, *ADVICE[Cause.SHARED_GPU])


def leak(symptoms: Symptoms, wait: Wait) -> Finding | None:
    """The process keeps more and more host memory, and the wait climbs with it, beyond what clocks and others make."""
    before, after = wait.change.before, wait.change.after
    held = symptoms.level("host_memory_bytes", before)
    kept = symptoms.level("host_memory_bytes", after) - held
    if not kept > max(LEAST_LEAK_BYTES, LEAST_LEAK * held) or not _worth(wait):
        return None
    evidence = (symptoms.evidence("host memory kept meanwhile", kept / 1e6, "MB", after),)
    return Finding(Cause.LEAK, PROVEN, wait.left_ms, wait.left_ms, evidence, *ADVICE[Cause.LEAK])


def slower_gpu(symptoms: Symptoms) -> Iterator[Finding]:
    """What telemetry proves, one cause after the other, each with what those before it leave; then what stays open."""
    wait = longer_wait(symptoms)
    if wait is None:
        return
    for rule in _PROOFS:
        found = rule(symptoms, wait)
        if found is not None:
            yield replace(found, evidence=(*symptoms.both_sides(wait.name, wait.change), *found.evidence))
            wait = replace(wait, left_ms=wait.left_ms - found.explains_ms)
    if _worth(wait) and not wait.slight:
        yield from _open(symptoms, wait)


_PROOFS: tuple[Callable[[Symptoms, Wait], Finding | None], ...] = (heat, clock_drop, shared_gpu, leak)


def _worth(wait: Wait) -> bool:
    """True where what is left is a part of the growth that the clocks' own uncertainty does not make."""
    return wait.left_ms > _LEAST_PART * wait.change.rise


def _jump_of_memory(symptoms: Symptoms, wait: Wait) -> float:
    """The largest rise of GPU memory from one sample to the next between both windows, or fall where the wait fell; a
    context comes and goes at once.
    """
    first, last = sorted((wait.change.before, wait.change.after), key=lambda window: window.first)
    used = symptoms.telemetry.get("gpu_memory_used_bytes", np.empty(0))[first.first : last.end]
    rises = np.diff(used[np.isfinite(used)]) * (-1 if wait.fell else 1)
    return float(rises.max()) if len(rises) else 0.0


def _clock_factor(symptoms: Symptoms, wait: Wait) -> float:
    """How many times faster the clock was before; NaN where it is unknown."""
    clocks = [symptoms.level("sm_clock_mhz", window) for window in (wait.change.before, wait.change.after)]
    return clocks[0] / clocks[1] if clocks[1] else float("nan")


def _is_hot(symptoms: Symptoms, wait: Wait) -> bool:
    before, after = wait.change.before, wait.change.after
    told = [f"throttle_{kind}_thermal_slowdown" for kind in ("sw", "hw")]
    told = [name for name in told if name in symptoms.telemetry]
    if told:
        return any(symptoms.mean(name, after) - symptoms.mean(name, before) > _LEAST_THROTTLED for name in told)
    warmer = symptoms.level("temperature_c", after) - symptoms.level("temperature_c", before)
    return symptoms.level("temperature_c", after) > _HOT_C and warmer > _HOTTER_C


def _by_clock(symptoms: Symptoms, wait: Wait, cause: Cause) -> Finding | None:
    factor = _clock_factor(symptoms, wait)
    if not factor > _LEAST_CLOCK_FACTOR:
        return None
    busy = symptoms.level("gpu", wait.change.before)  # at most: the GPU can be done before the host has submitted all
    explains = min(wait.left_ms, busy * (factor - 1))
    return Finding(cause, PROVEN, explains, explains, _clock_evidence(symptoms, wait), *ADVICE[cause])


def _clock_evidence(symptoms: Symptoms, wait: Wait) -> tuple[Evidence, ...]:
    found = symptoms.both_sides("sm_clock_mhz", wait.change, "MHz", "SM clock")
    found += symptoms.both_sides("temperature_c", wait.change, "°C", "temperature")
    return found


def _open(symptoms: Symptoms, wait: Wait) -> Iterator[Finding]:
    """The causes that telemetry does not rule out, by how well the host timers suit them."""
    weights = _weights(symptoms, wait)
    evidence = (
        *symptoms.both_sides(wait.name, wait.change),
        *symptoms.both_sides(Stage.UPLOAD, wait.change),
    )
    first, look = max(weights, key=weights.__getitem__, default=None), "sm_clock_mhz" not in symptoms.telemetry
    for cause, confidence in zip(weights, shared_between(*weights.values()), strict=True):
        cure, experiment = ADVICE[cause]
        experiment = f"{_LOOK}; then {experiment}" if look and cause is first else experiment
        yield Finding(cause, confidence, wait.left_ms, wait.left_ms, evidence, cure, experiment)


def _weights(symptoms: Symptoms, wait: Wait) -> dict[Cause, float]:
    """Relative belief in each cause that is left. A GPU's clocks differ by a factor of 10 at most."""
    factor = wait.change.high / max(wait.change.low, 1e-9)
    before, after = (symptoms.level(Stage.UPLOAD, part) for part in (wait.change.before, wait.change.after))
    weights = {
        Cause.SHARED_GPU: 1.0 + (after > 1.2 * before) + (factor > 10),
        Cause.CLOCK_DROP: 0.5 if factor > 10 else 1.0,
        Cause.HEAT: 0.2 if factor > 3 else 0.6,
        Cause.LEAK: 0.2 if factor > 2 else 0.6,
        Cause.SHARED_STREAM: 0.2,
    }
    if Stage.INFER in symptoms.series and Stage.SYNCHRONIZE not in symptoms.series:
        weights[Cause.LAUNCH_QUEUE] = 0.2
    known = symptoms.telemetry
    if "sm_clock_mhz" in known:
        del weights[Cause.CLOCK_DROP], weights[Cause.HEAT]
    if "gpu_processes" in known:
        del weights[Cause.SHARED_GPU]
    if "host_memory_bytes" in known:
        del weights[Cause.LEAK]
    if len(symptoms.in_flight) or wait.fell:  # its own rule would have seen it
        del weights[Cause.SHARED_STREAM]
    if wait.fell:  # what is kept stays
        weights.pop(Cause.LEAK, None)
    return weights


ADVICE = {
    Cause.SHARED_GPU: (
        "fewer processes on this GPU, or one process for all streams; pinned memory shortens the upload call and "
        "leaves this wait where it is",
        "stop the other processes, or run on a GPU of your own, on the same frames: the wait falls at once if they are "
        "the cause; the SM clock stays where it is, which it does not when the clocks are the cause",
    ),
    Cause.CLOCK_DROP: (
        "keep the GPU busy between frames, or lock its clocks (`nvidia-smi -lgc`; on Windows set the power management "
        "mode to prefer maximum performance)",
        "run the frames without pauses, or with locked clocks: if clocks are the cause every kernel is as fast as at "
        "first; processes on the GPU stay the same, which they do not on a shared GPU",
    ),
    Cause.HEAT: (
        "better cooling, or a lower power limit (`nvidia-smi -pl`) that the cooling can hold",
        "let the GPU cool down and run the same frames: if heat is the cause it starts fast and slows down again, with "
        "a thermal throttle reason; without one, suspect pauses between frames",
    ),
    Cause.LEAK: LEAK,
    Cause.LAUNCH_QUEUE: LAUNCH_QUEUE,
    Cause.SHARED_STREAM: SHARED_STREAM,
}
"""A cure and the experiment that proves the cause, for each."""
