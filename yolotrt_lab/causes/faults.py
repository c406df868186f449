"""A run of a scenario, and how each cause is made to happen in it: on the simulated device and, where a GPU can show
it, there too.

`severity` is 1 where a scenario is as its description says; from 0.5 to 2 it stays recognisable. Causes without a size
(the moved wait, an allocation in the loop) ignore it. Sizes that nobody measured are assumptions, said so here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import count
from math import sqrt

import numpy as np

from ..device import Device, HostBuffer, Stream
from ..engine import Engine
from ..errors import SettingsError
from ..loop import FrameLoop, LoopSettings, Preprocess
from ..memory import Slot
from ..packages import import_cv2
from ..simulate import Clocks, Conditions, Heat, SimulatedDevice, SpinEngine
from ..types import TensorSpec
from ..vision import HostWork

SMALL_IMAGE = TensorSpec("images", (1, 3, 32, 32), np.dtype(np.float32))
"""12 KB: a slot for every frame that is in flight costs nothing."""

BYTE_IMAGE = TensorSpec("images", (1, 3, 640, 640), np.dtype(np.uint8))
"""1,228,800 bytes, which is what was leaked when leaks were measured."""

_SMOOTHED_OVER = (3, 3)


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


def late(run: Run) -> None:
    """A 1 ms kernel, and its period: severity 1 is half way between what pinned and pageable input allow on an H200."""
    run.engine = SpinEngine(1_000_000)
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
    """The loop that leaks were measured with: a 100 us kernel and an image of bytes.

    SettingsError on a preset that does not say what registered memory costs.
    """
    if run.trap and isinstance(run.device, SimulatedDevice) and run.device.preset.registration is None:
        raise SettingsError(
            "this preset does not say what memory that stays registered costs, which calibrate does not measure",
            fix="use preset 'h200', or another scenario",
        )
    run.engine = SpinEngine(100_000, image=BYTE_IMAGE)


def preprocess(run: Run) -> None:
    """Frames grow to 1 + 2 * severity times the first image's pixels, and the work on all of these with them; on the
    simulated device only the work does.
    """
    growth = 2 * run.severity
    frames = run.settings.frames
    if run.simulated:
        conditions = run.conditions = Conditions()

        def grow(index: int) -> None:
            conditions.host_factor = 1 + growth * max(index, 0) / frames

        run.before = grow
    elif run.images is not None:
        run.images = GrowingImages(run.images[0], 1 + growth, frames, run.settings.warmup)


def allocates(run: Run) -> Preprocess:
    """A trap: preprocessing writes into page-locked memory that is allocated in each frame."""

    def preprocess(work: HostWork, index: int, slot: Slot) -> HostBuffer:
        spec = run.engine.inputs[0]
        buffer = run.device.empty_host(spec.shape, spec.dtype, run.settings.input_memory)
        work.letterbox(index, buffer)
        return buffer

    return preprocess


def leaks(run: Run) -> Preprocess:
    """A trap: memory is allocated in each frame, and never released. Nothing is written into it."""
    kept: list[HostBuffer] = []

    def preprocess(work: HostWork, index: int, slot: Slot) -> HostBuffer:
        spec = run.engine.inputs[0]
        kept.append(run.device.empty_host(spec.shape, spec.dtype, run.settings.input_memory))
        return kept[-1]

    return preprocess


def bypasses(run: Run) -> Preprocess:
    """A trap: the slot is filled, and the upload is made from the fresh array that it was filled from."""

    def preprocess(work: HostWork, index: int, slot: Slot) -> HostBuffer:
        source = work.fresh(index)
        work.copy(source, slot.input)
        return source

    return preprocess


class GrowingImages(Sequence[np.ndarray]):
    """One image in 16 sizes, from 1 to `factor` times its pixels, in the order of a run's frames and its warm-up.

    Each is smoothed when it is asked for, as one does before shrinking: that work grows with its pixels. Letterboxing
    alone does not, since a bilinear one reads four pixels for each that it writes; with frames that grew threefold it
    stayed at 0.95 ms beside an H100.
    """

    def __init__(self, image: np.ndarray, factor: float, frames: int, warmup: int) -> None:
        cv2 = self._cv2 = import_cv2()
        scales = [sqrt(1 + (factor - 1) * step / 15) for step in range(16)]
        self._sizes = [cv2.resize(image, None, fx=scale, fy=scale) for scale in scales]
        self._smoothed = [np.empty_like(each) for each in self._sizes]
        self._frames, self._length = frames, frames + warmup

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        if not 0 <= index < self._length:
            raise IndexError(index)
        size = 16 * index // self._frames if index < self._frames else 0
        smoothed: np.ndarray = self._smoothed[size]
        self._cv2.blur(self._sizes[size], _SMOOTHED_OVER, dst=smoothed)
        return smoothed


def shape_change(run: Run) -> None:
    """Every 60 frames the input's shape changes to another of as many pixels, and the engine allocates anew: it waits
    for the GPU, and takes 5 ms at severity 1 (assumed).
    """
    device = run.device
    if not isinstance(device, SimulatedDevice):
        fix = "run it on the simulated device: --device simulated"
        raise SettingsError("a change of shape is simulated only", fix=fix)
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
