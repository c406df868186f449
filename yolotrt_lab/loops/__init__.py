"""The frame loops, from the naive one to the overlapped one, each by settings of one object. Start with `run_loop`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..devices.base import Device
from ..engines.base import Engine
from ..frames import FrameSource
from ..recording import Recording
from .frame import FrameLoop, needs_overlap, run_in_turns
from .overlap import OverlappedLoop
from .settings import LoopSettings

__all__ = ["FrameLoop", "LoopSettings", "OverlappedLoop", "make_loop", "run_in_turns", "run_loop"]

Images = Sequence[np.ndarray] | FrameSource | Sequence[FrameSource]
"""Images that are used in turn, a source that fills slots, or several of them: cameras."""


def make_loop(
    device: Device, engine: Engine, settings: LoopSettings | None = None, images: Images | None = None
) -> FrameLoop | OverlappedLoop:
    """The loop that those settings take, ready to run. SettingsError where they don't fit the engine or the images.

    Sources of frames take the overlapped loop.
    """
    settings = settings or LoopSettings()
    kind = OverlappedLoop if needs_overlap(engine, settings) else FrameLoop
    return kind(device, engine, settings, images)  # type: ignore[arg-type]


def run_loop(
    device: Device, engine: Engine, settings: LoopSettings | None = None, images: Images | None = None
) -> Recording:
    """Make the loop for those settings (`make_loop`) and run it once."""
    return make_loop(device, engine, settings, images).run()
