"""How each cause is made to happen: changes to a run, on the simulated device and, where a GPU can show it, there too.

`severity` is 1 where a scenario is as its description says; from 0.5 to 2 it stays recognisable. Causes without a size
(the moved wait, an allocation in the loop) ignore it. Sizes that nobody measured are assumptions, said so here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..devices.conditions import Clocks, Conditions, Heat
from ..engines.spin import SpinEngine
from ..types import TensorSpec
from .base import Run, simulated_only

SMALL_IMAGE = TensorSpec("images", (1, 3, 32, 32), np.dtype(np.float32))
"""12 KB: a slot for every frame that is in flight costs nothing."""

BYTE_IMAGE = TensorSpec("images", (1, 3, 640, 640), np.dtype(np.uint8))
"""1,228,800 bytes, which is what was leaked when leaks were measured."""


def late(run: Run) -> None:
    """The period of a 1 ms kernel: severity 1 is half way between what pinned and pageable input allow on an H200."""
    run.settings = replace(run.settings, period_us=1_330 - 180 * run.severity)


def clock_drop(run: Run) -> None:
    """A governor that lets an idle GPU fall to a share of its clock that nobody measured: 1/5 at severity 1."""
    run.conditions = Conditions(clocks=Clocks(idle_share=1 / (1 + 4 * run.severity)))


def heat(run: Run) -> None:
    """A heat sink (assumed) that the limit is reached with after a third of the run, or so."""
    run.engine = SpinEngine(5_000_000)
    run.conditions = Conditions(heat=Heat(full_c=85 + 25 * run.severity, time_constant_s=_heating_s(run)))


def cooled(run: Run) -> None:
    """The same with a heat sink that is large enough."""
    run.engine = SpinEngine(5_000_000)
    run.conditions = Conditions(heat=Heat(full_c=75, time_constant_s=_heating_s(run)))


def _heating_s(run: Run) -> float:
    return 0.005 * run.settings.frames / 4


def launch_queue(run: Run) -> None:
    """Eight kernels of 40 us a frame, which are launched faster than they run: after 125 frames or so the queue is
    full. The frames' results are asked for so late that they have long been there.
    """
    run.engine = SpinEngine(round(40_000 * max(run.severity, 0.5)), kernels=8, image=SMALL_IMAGE)


def leak(run: Run) -> None:
    """The loop that leaks were measured with: a 100 us kernel and an image of bytes."""
    run.engine = SpinEngine(100_000, image=BYTE_IMAGE)


def preprocess(run: Run) -> None:
    """The host's work on a frame grows to 1 + 2 * severity times what it is at first, as on a core that others use too.

    Larger frames do not show it: 3 times the pixels, letterboxed bilinearly, took no longer on the host of an H100.
    """
    simulated_only(run, "a host that gets busier")
    conditions = run.conditions = Conditions()
    growth, frames = 2 * run.severity, run.settings.frames

    def grow(index: int) -> None:
        conditions.host_factor = 1 + growth * max(index, 0) / frames

    run.before = grow


def shape_change(run: Run) -> None:
    """Every 60 frames the input's shape changes to another of as many pixels, and the engine allocates anew: it waits
    for the GPU, and takes 5 ms at severity 1 (assumed).
    """
    device = simulated_only(run, "a change of shape")
    cost_ns = round(5_000_000 * run.severity)

    def change(index: int) -> None:
        if index > 0 and index % 60 == 0:
            device.synchronize()
            device.wait_until_ns(device.now_ns() + cost_ns)

    run.before = change


def warm_up(run: Run) -> None:
    """The first frames count. Simulated: the first takes 50 ms more, and clocks come up from 1/3 (both assumed)."""
    if not run.simulated:
        return
    device = run.device
    share = 1 / (1 + 2 * run.severity)
    run.conditions = Conditions(clocks=Clocks(idle_share=share, start_share=share, up_s=0.4))

    def load(index: int) -> None:
        if index == 0:
            device.wait_until_ns(device.now_ns() + round(50_000_000 * run.severity))

    run.before = load
