"""Other processes that come to the GPU in four steps: real ones on a GPU, simulated ones on the simulated device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from ..recording import Recording, joined
from ..simulate import Conditions, SimulatedDevice
from ..telemetry import bus_id
from .other_processes import OtherProcesses
from .scenario import Run

CHUNK = 25
"""So many frames run between two looks at whether the processes are there."""


class Group(Protocol):
    """Other processes whose number changes."""

    @property
    def busy(self) -> bool:
        """True once all of them keep the GPU busy."""

    def become(self, count: int) -> None:
        """Start or end as many as it takes."""


class _Simulated:
    busy = True

    def __init__(self, device: SimulatedDevice) -> None:
        self.become = device.set_other_processes


def prepare(run: Run) -> None:
    """The simulated device gets conditions; a GPU needs no preparation."""
    if run.simulated:
        run.conditions = Conditions()


def group_of(run: Run) -> Group:
    """The other processes of a run: they end with it."""
    if isinstance(run.device, SimulatedDevice):
        return _Simulated(run.device)
    return run.stack.enter_context(OtherProcesses(bus_id(run.device)))


def record(run: Run) -> Recording:
    """A quarter of the frames alone, then each with 1/3, 2/3 and all of 12 * severity other processes.

    On a GPU the loop goes on while they start, so that there are more frames than were asked for.
    """
    group = group_of(run)
    most = max(round(12 * run.severity), 1)
    edges = [run.settings.frames * step // 4 for step in range(5)]
    return record_steps(run, group, [(round(most * step / 3), edges[step + 1] - edges[step]) for step in range(4)])


def record_steps(run: Run, group: Group, steps: Sequence[tuple[int, int]]) -> Recording:
    """One recording of a loop that goes on through all steps: so many other processes, and so many frames once they
    are busy.
    """
    parts = list(_parts(run, group, steps))
    frames = sum(len(part.steady) for part in parts)
    return joined(parts, frames=frames, other_processes=[count for count, _ in steps])


def _parts(run: Run, group: Group, steps: Sequence[tuple[int, int]]) -> Iterator[Recording]:
    """The loop in pieces, each right after the last; only the first has a warm-up."""
    loop, warmup = run.loop(), run.settings.warmup
    for count, frames in steps:
        group.become(count)
        busy = False
        while not busy:
            busy = group.busy
            if piece := frames if busy else CHUNK:
                loop.settings = replace(run.settings, frames=piece, warmup=warmup)
                yield loop.run()
                warmup = 0
