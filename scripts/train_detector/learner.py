"""One training step: draw a batch, predict, compute the loss, update the weights. Nothing in it waits for the GPU."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from time import monotonic
from types import FrameType

import torch
from torch import Tensor, nn

from .assignment import Truth
from .augment import draw_batch
from .loss import detection_loss
from .network import Detector, make_cells
from .settings import Settings
from .store import Store

_STEEPEST = 10.0  # the norm that gradients are clipped to
_COMPILE_SECONDS = 180


class Average:
    """`detector` holds the averages of another detector's weights and normalisation over the last steps.

    It detects better than the weights of any one step (Polyak and Juditsky, "Acceleration of Stochastic Approximation
    by Averaging", 1992; exponential here, as is usual). Each update keeps `share` of the average, less in the first
    updates, when the weights still change fast.
    """

    def __init__(self, live: Detector, share: float) -> None:
        self.detector = deepcopy(live).eval().requires_grad_(False)
        self._live = [tensor for tensor in live.state_dict().values() if tensor.is_floating_point()]
        self._mine = [tensor for tensor in self.detector.state_dict().values() if tensor.is_floating_point()]
        self._share, self._updates = share, 0

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the live weights."""
        self._updates += 1
        share = min(self._share, self._updates / (9 + self._updates))
        torch._foreach_lerp_(self._mine, self._live, 1 - share)


class Learner:
    """A detector in training, its optimiser and its average.

    `compiled` is how many seconds compiling took, None if the steps run uncompiled, for the reason in `note`.
    """

    def __init__(self, settings: Settings, classes: int, device: torch.device) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.device = settings, device
        self.detector = Detector("n", classes).to(device, memory_format=torch.channels_last)
        self.average = Average(self.detector, settings.average)
        self.generator = torch.Generator(device).manual_seed(settings.seed)
        self.cells = make_cells((settings.input_size, settings.input_size), device)
        self.optimiser = _optimiser(self.detector, settings, device)
        self._forward, self._loss = self.detector.forward, detection_loss
        self.compiled: float | None = None
        self.note = "compiling was not asked for"

    def step(self, store: Store, rate: float, stacked: float) -> Tensor:
        """Train on one batch at that learning rate; the parts of the loss (3,), still on the device."""
        batch = draw_batch(store, self.settings.batch, self.settings.input_size, stacked, self.generator)
        parts = self._learn(batch.images, batch.truth)
        nn.utils.clip_grad_norm_(self.detector.parameters(), _STEEPEST)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.average.update()
        return parts.detach()

    def compile(self) -> None:
        """Compile forward, loss and backward for the one shape of a batch; if that fails, leave them as they are."""
        start, before = monotonic(), deepcopy(self.detector.state_dict())
        try:
            self._forward = torch.compile(self.detector, dynamic=False)
            self._loss = torch.compile(detection_loss, dynamic=False)
            with _time_limit(_COMPILE_SECONDS):
                self._rehearse()
            self.compiled, self.note = round(monotonic() - start, 1), ""
        except Exception as error:
            torch.compiler.reset()
            self._forward, self._loss = self.detector.forward, detection_loss
            self.note = f"compiling failed: {type(error).__name__}: {str(error)[:300]}"
        self.detector.load_state_dict(before)
        self.optimiser.zero_grad()

    def _learn(self, images: Tensor, truth: Truth) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            raw = self._forward(images)
        parts = self._loss(raw, self.cells, truth)
        parts.sum().backward()
        return parts

    def _rehearse(self) -> None:
        """A step's compiled parts, on an empty batch of the usual shape."""
        rows, side, objects = self.settings.batch, self.settings.input_size, 2 * self.settings.objects
        classes = torch.zeros((rows, objects), dtype=torch.int64, device=self.device)
        truth = Truth(torch.zeros((rows, objects, 4), device=self.device), classes, classes.bool())
        self._learn(torch.zeros((rows, 3, side, side), device=self.device), truth)


def _optimiser(detector: Detector, settings: Settings, device: torch.device) -> torch.optim.Optimizer:
    """AdamW; biases and normalisation do not decay."""
    trained = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1]},
        {"params": [parameter for parameter in trained if parameter.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=device.type == "cuda"
    )


@contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    """TimeoutError in the block after so many seconds, if the system and the thread can set an alarm."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
