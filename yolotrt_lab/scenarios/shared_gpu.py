"""Neighbours that come to the GPU in four steps, on the simulated device and as real processes on a real one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from ..devices.conditions import Conditions
from ..neighbour import Neighbours
from ..recording import Recording
from .base import Run

CHUNK = 25
"""So many frames run between two looks at whether the neighbours are there."""


class Group(Protocol):
    """Neighbours whose number grows."""

    @property
    def ready(self) -> bool:
        """True once all keep the GPU busy."""

    def grow_to(self, count: int) -> None:
        """Start as many as are missing."""


class _Simulated:
    ready = True

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions

    def grow_to(self, count: int) -> None:
        self._conditions.neighbours = count


def prepare(run: Run) -> None:
    """The simulated device gets conditions; a GPU needs no preparation."""
    if run.simulated:
        run.conditions = Conditions()


def record(run: Run) -> Recording:
    """A quarter of the frames with none, then each with 1/3, 2/3 and all of 12 * severity neighbours.

    On a GPU the loop goes on while they start, so that there are more frames than were asked for.
    """
    group: Group
    if run.conditions is not None:
        group = _Simulated(run.conditions)
    else:
        group = run.stack.enter_context(Neighbours(bus_id(run)))
    most = max(round(12 * run.severity), 1)
    return record_steps(run, group, [round(most * step / 3) for step in range(4)])


def bus_id(run: Run) -> str:
    """The PCI bus id of the run's GPU."""
    from cupy.cuda import runtime

    return str(runtime.deviceGetPCIBusId(run.device.ordinal))  # type: ignore[attr-defined]


def record_steps(run: Run, group: Group, counts: Sequence[int]) -> Recording:
    """An equal share of the frames with each number of neighbours."""
    parts = list(_parts(run, group, counts))
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
    steady = ~columns["warmup"]
    columns["frame"][steady] = np.arange(steady.sum())
    settings = {**parts[0].settings, "frames": int(steady.sum()), "neighbours": list(counts)}
    return replace(parts[0], columns=columns, settings=settings)


def _parts(run: Run, group: Group, counts: Sequence[int]) -> Iterator[Recording]:
    """The loop in pieces, each right after the last; only the first has a warm-up."""
    loop = run.loop()
    warm = run.settings
    edges = [run.settings.frames * step // len(counts) for step in range(len(counts) + 1)]
    for count, begin, end in zip(counts, edges[:-1], edges[1:], strict=True):
        group.grow_to(count)
        while not group.ready:
            loop.settings = replace(warm, frames=CHUNK)
            yield loop.run()
            warm = replace(warm, warmup=0)
        if end > begin:
            loop.settings = replace(warm, frames=end - begin)
            yield loop.run()
            warm = replace(warm, warmup=0)
