"""What a scenario is, what one run of it consists of, and the levels of its recording."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np

from ..device import Device, Stream
from ..engine import Engine
from ..errors import SettingsError
from ..loop import FrameLoop, LoopSettings, Preprocess
from ..recording import Recording
from ..simulate import Conditions, SimulatedDevice
from ..types import Cause


@dataclass(slots=True)
class Run:
    """One run of a scenario before it starts; the scenario's `prepare` changes what makes it what it is."""

    device: Device
    engine: Engine
    settings: LoopSettings
    images: Sequence[np.ndarray] | None
    severity: float = 1.0
    trap: Callable[[Run], Preprocess] | None = None
    """Creates what takes the place of the preprocessing that the settings name."""
    before: Callable[[int], None] | None = None
    """Called in front of each frame's inference with the frame's number (negative in the warm-up), inside `infer`."""
    conditions: Conditions | None = None
    """Of the simulated device; None: the scenario changes none."""
    stack: ExitStack = field(default_factory=ExitStack)
    """What is entered here is left when the run is over, however it ends."""

    @property
    def simulated(self) -> bool:
        """True on the simulated device."""
        return isinstance(self.device, SimulatedDevice)

    def loop(self) -> FrameLoop:
        """A loop with these settings that calls `before`; SettingsError with a graph, which would not call it."""
        preprocess = self.trap and self.trap(self)
        loop = FrameLoop(self.device, self.engine, self.settings, self.images, preprocess=preprocess)
        if (before := self.before) is not None:
            if self.settings.graph:
                raise SettingsError("a graph calls nothing in front of an inference", fix="use graph=False")
            numbers, enqueue = count(-self.settings.warmup), loop.enqueue

            def watched(stream: Stream) -> None:
                before(next(numbers))
                enqueue(stream)

            loop.enqueue = watched
        return loop


@dataclass(frozen=True, slots=True)
class Scenario:
    """A loop that shows something."""

    name: str
    settings: LoopSettings
    cause: Cause = Cause.NONE
    """The truth about why it is slow, or grows."""
    cure: str = ""
    """The scenario that is the same without the fault."""
    prepare: Callable[[Run], None] | None = None
    """Makes the cause happen, by changing the run."""
    record: Callable[[Run], Recording] | None = None
    """Runs the loop, where it is not a `FrameLoop` that runs once."""
    trap: Callable[[Run], Preprocess] | None = None
    """Creates the preprocessing that has the fault."""
    other: LoopSettings | None = None
    """Frames come on a clock: half way between what a frame of this loop and one of the other takes."""


def simulated_only(run: Run, what: str) -> SimulatedDevice:
    """The run's simulated device; SettingsError on a GPU."""
    if not isinstance(run.device, SimulatedDevice):
        raise SettingsError(f"{what} is simulated only", fix="run it on the simulated device: --device simulated")
    return run.device


def levels_of(recording: Recording, column: str) -> list[tuple[tuple[int, int], Recording]]:
    """The frames after the warm-up by the values of a column and of 'pinned', in the order in which they occur."""
    columns = recording.steady.columns
    levels = dict.fromkeys(zip(columns[column].tolist(), columns["pinned"].tolist(), strict=True))
    chosen = {(value, pinned): (columns[column] == value) & (columns["pinned"] == pinned) for value, pinned in levels}
    return [
        (level, replace(recording, columns={name: values[mask] for name, values in columns.items()}))
        for level, mask in chosen.items()
    ]


def in_ms(value: float | None) -> str:
    """Three digits that tell, at most four decimals."""
    if value is None:
        return "-"
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 10 else f"{value:.1f}"
