"""The rungs: each is one setting more than the one below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import SettingsError
from ..loops import LoopSettings
from ..pixels import Fill
from ..types import HostMemory

NAIVE = LoopSettings(postprocess=True)
"""A fresh pageable array each frame, the engine enqueued call by call, a synchronize each frame, boxes on the host."""

_PINNED = replace(NAIVE, input_memory=HostMemory.PINNED, fill=Fill.IN_PLACE)
_GRAPH = replace(_PINNED, graph=True)
_OVERLAP = replace(_GRAPH, overlap=True, collect_after=1)
_LETTERBOX = replace(_OVERLAP, gpu_letterbox=True, fill=Fill.READY)
_DECODE = replace(_LETTERBOX, gpu_decode=True)
_CONTEXTS = replace(_DECODE, overlap=False, contexts=6, collect_after=5)
_BATCHES = replace(_DECODE, overlap=False, contexts=4, collect_after=3)
_CALLS = replace(_PINNED, fill=Fill.READY)


@dataclass(frozen=True, slots=True)
class Rung:
    """One step. `settings` has all the steps below it too, `alone` this step with no more of them than it needs."""

    number: int
    name: str
    adds: str
    settings: LoopSettings
    alone: LoopSettings
    batch: int = 1


RUNGS = (
    Rung(1, "naive", "fresh pageable arrays, a synchronize each frame", NAIVE, NAIVE),
    Rung(2, "pinned", "a pool of pinned memory, filled in place", _PINNED, _PINNED),
    Rung(3, "graph", "the engine as a CUDA graph", _GRAPH, replace(NAIVE, graph=True)),
    Rung(
        4,
        "overlap",
        "uploads and downloads in streams of their own, results by events",
        _OVERLAP,
        replace(_OVERLAP, graph=False),
    ),
    Rung(
        5, "letterbox", "preprocessing on the GPU, of the uint8 frame", _LETTERBOX, replace(_CALLS, gpu_letterbox=True)
    ),
    Rung(6, "decode", "boxes found on the GPU, nothing else downloaded", _DECODE, replace(_PINNED, gpu_decode=True)),
    Rung(
        7,
        "contexts",
        "several execution contexts at once",
        _CONTEXTS,
        replace(_PINNED, contexts=6, collect_after=5),
    ),
    Rung(8, "batches", "frames that are there anyway go together", _BATCHES, _PINNED, batch=4),
)


def checked_rungs(numbers: Sequence[int]) -> list[Rung]:
    """The rungs of those numbers, in order; SettingsError for one that there is not."""
    if missing := sorted(set(numbers) - {rung.number for rung in RUNGS}):
        raise SettingsError(f"no rung {missing[0]}", fix=f"use 1 to {len(RUNGS)}")
    return [rung for rung in RUNGS if rung.number in numbers]
