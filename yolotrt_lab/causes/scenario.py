"""What a scenario is, and what one run of it is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from ..device import Device, Stream
from ..engine import Context, Engine
from ..errors import SettingsError
from ..loop import FrameLoop, LoopSettings
from ..recording import Recording
from ..simulate.conditions import Conditions
from ..simulate.simulated import SimulatedDevice
from ..types import Cause


@dataclass(slots=True)
class Run:
    """One run of a scenario before it starts; a scenario's `prepare` changes what makes it what it is.

    `before` is called in front of each frame's inference with the frame's number (negative in the warm-up), inside
    the stage `infer`. `conditions` are those of the simulated device; None: the scenario changes none. What is entered
    into `stack` is left when the run is over, however it ends.
    """

    device: Device
    engine: Engine
    settings: LoopSettings
    images: Sequence[np.ndarray] | None
    severity: float = 1.0
    before: Callable[[int], None] | None = None
    conditions: Conditions | None = None
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def simulated(self) -> bool:
        """True on the simulated device."""
        return isinstance(self.device, SimulatedDevice)

    def loop(self) -> FrameLoop:
        """A loop with these settings that calls `before`; SettingsError with a graph, which would not call it."""
        if self.before is not None and self.settings.graph:
            raise SettingsError("a graph calls nothing in front of an inference", fix="use graph=False")
        engine = self.engine if self.before is None else _Watched(self.engine, self.before, -self.settings.warmup)
        return FrameLoop(self.device, engine, self.settings, self.images)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A loop that shows something. `cause` is the truth about why it is slow (or grows), `cure` names the scenario that
    is the same without the fault.
    """

    name: str
    shows: str
    cause: Cause
    settings: LoopSettings
    other: LoopSettings | None = None
    """Frames come on a clock: half way between what a frame of this loop and one of the other takes."""
    spin_us: int = 0
    """Not 0: the engine is a spin kernel of that length."""
    cure: str = ""
    prepare: Callable[[Run], None] | None = None
    """Makes the cause happen, by changing the run."""
    record: Callable[[Run], Recording] | None = None
    """Runs the loop, where it is not a `FrameLoop` that runs once."""


class _Watched(Engine):
    """An engine that calls `before(index)` in front of each inference."""

    def __init__(self, engine: Engine, before: Callable[[int], None], first: int) -> None:
        self._engine, self._before, self._first = engine, before, first
        self.label, self.inputs, self.outputs = engine.label, engine.inputs, engine.outputs
        self.computes = engine.computes

    def context(self, device: Device) -> Context:
        """The engine's own context, watched."""
        return _WatchedContext(self._engine.context(device), self._before, self._first)


class _WatchedContext(Context):
    def __init__(self, context: Context, before: Callable[[int], None], first: int) -> None:
        self._context, self._before, self._index = context, before, first
        self.buffers = context.buffers

    def enqueue(self, stream: Stream) -> None:
        """Submit one inference."""
        self._before(self._index)
        self._index += 1
        self._context.enqueue(stream)

    def sibling(self, device: Device) -> _WatchedContext:
        """A sibling, watched."""
        return _WatchedContext(self._context.sibling(device), self._before, self._index)


def simulated_only(run: Run, what: str) -> SimulatedDevice:
    """The run's simulated device; SettingsError on a GPU."""
    if not isinstance(run.device, SimulatedDevice):
        raise SettingsError(f"{what} is simulated only", fix="run it on the simulated device: --device simulated")
    return run.device
