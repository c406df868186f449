"""What a loop does, as one frozen object: each rung of the ladder is one setting more than the one below it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import inf
from operator import index
from typing import TypeVar

from ..errors import SettingsError
from ..pixels import Fill
from ..types import HostMemory

_E = TypeVar("_E", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """One loop. SettingsError for values that no loop can have.

    `frames` are recorded after `warmup` frames that are recorded too and marked. With `period_us` frames are due on a
    clock that starts after the warm-up; without it the next frame begins when the last is done. The result of a frame
    is collected `collect_after` frames later (0: synchronize each frame), or batches where the engine takes several
    frames at once. `graph` replays the work of the GPU as a CUDA graph. `postprocess` decodes boxes from the output,
    as part of the frame; those above `confidence`.

    The rest is the overlapped loop's. `overlap` gives uploads and downloads streams of their own. `gpu_letterbox`
    uploads the uint8 frame and preprocesses it on the GPU; `gpu_decode` finds the boxes there and downloads nothing
    else. With `contexts` above 1 that many inferences run at once, each in a stream of its own; as many frames are in
    flight, or a multiple of it. On a clock, a batch goes without the frames that would come more than `deadline_us`
    after its first; without a clock, or from a source that sets its own pace, it waits until it is full or the source
    ends. `timers` off leaves out the stages' times and ranges.
    """

    frames: int = 1_500
    warmup: int = 50
    period_us: float | None = None
    input_memory: HostMemory = HostMemory.PAGEABLE
    output_memory: HostMemory = HostMemory.PINNED
    fill: Fill = Fill.FRESH
    collect_after: int = 0
    graph: bool = False
    postprocess: bool = False
    confidence: float = 0.25
    overlap: bool = False
    gpu_letterbox: bool = False
    gpu_decode: bool = False
    contexts: int = 1
    deadline_us: float = 1_000.0
    timers: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_memory", _member(HostMemory, self.input_memory))
        object.__setattr__(self, "output_memory", _member(HostMemory, self.output_memory))
        object.__setattr__(self, "fill", _member(Fill, self.fill))
        for name in ("frames", "warmup", "collect_after", "contexts"):
            object.__setattr__(self, name, _whole(name, getattr(self, name)))
        if self.frames < 1 or self.warmup < 0 or self.collect_after < 0:
            raise SettingsError(
                f"frames={self.frames}, warmup={self.warmup}, collect_after={self.collect_after}",
                fix="use at least one frame, and no negative number",
            )
        if self.period_us is not None and not 0 < self.period_us < inf:
            raise SettingsError(f"a period of {self.period_us:g} us", fix="use a positive period, or None for no clock")
        if self.fill is Fill.FRESH and self.input_memory.page_locked:
            raise SettingsError(
                f"a fresh array each frame is pageable, not {self.input_memory}",
                fix="use fill='in_place' (or 'copy') to upload from page-locked memory",
            )
        if not 0 <= self.confidence <= 1 or not 0 <= self.deadline_us < inf:
            raise SettingsError(
                f"confidence={self.confidence}, deadline_us={self.deadline_us}",
                fix="a confidence goes from 0 to 1, and a deadline is neither negative nor infinite",
            )
        if self.contexts < 1 or (self.collect_after + 1) % self.contexts:
            raise SettingsError(
                f"{self.contexts} contexts for {self.collect_after + 1} frames in flight",
                fix="use collect_after=contexts - 1, or 2 * contexts - 1, so that each context has as many",
            )
        if self.overlapped:
            self.check_overlapped()

    @property
    def overlapped(self) -> bool:
        """True where it takes the overlapped loop to run this."""
        return self.overlap or self.gpu_letterbox or self.gpu_decode or self.contexts > 1

    def check_overlapped(self) -> None:
        """SettingsError where the overlapped loop cannot run this."""
        if self.fill not in (Fill.IN_PLACE, Fill.READY):
            raise SettingsError(
                f"fill={str(self.fill)!r} in the overlapped loop", fix="use fill='in_place' or 'ready': it fills slots"
            )
        if not (self.input_memory.page_locked and self.output_memory.page_locked):
            raise SettingsError(
                "a pageable copy holds the host until the GPU is done: it overlaps with nothing",
                fix="use input_memory='pinned' and output_memory='pinned'",
            )
        if self.gpu_decode and not self.postprocess:
            raise SettingsError("gpu_decode finds boxes, and postprocess is off", fix="use postprocess=True with it")


def _whole(name: str, value: int) -> int:
    """As Python's own int, which JSON knows; NumPy's are taken too."""
    try:
        return index(value)
    except TypeError:
        raise SettingsError(f"{name}={value!r}", fix="use a whole number") from None


def _member(kind: type[_E], value: str) -> _E:
    try:
        return kind(value)
    except ValueError:
        raise SettingsError(f"no {kind.__name__} {value!r}", fix=f"use one of {', '.join(kind)}") from None
