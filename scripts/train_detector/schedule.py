"""The learning rate over a training: a linear warm-up, then half a cosine down to 1 %.

Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, https://arxiv.org/abs/1608.03983.
"""

from __future__ import annotations

from math import cos, pi
from time import monotonic

from .settings import Settings

_LAST = 0.01


def learning_rate(done: float, settings: Settings) -> float:
    """The rate after the share `done` of the training."""
    falling = _LAST + (1 - _LAST) * (1 + cos(pi * min(done, 1))) / 2
    return settings.learning_rate * min(done / settings.warm_up, 1) * falling


class Progress:
    """The share of a training that is done: by its steps if their number is set, else by the clock.

    The minutes count from `started`, a `time.monotonic()`; the training has what is left of them.
    """

    def __init__(self, settings: Settings, started: float) -> None:
        self.steps = 0
        self._wanted = settings.steps
        self._start = monotonic()
        self._seconds = max(started + 60 * settings.minutes - self._start, 1)

    @property
    def seconds(self) -> float:
        return monotonic() - self._start

    @property
    def done(self) -> float:
        return self.steps / self._wanted if self._wanted else self.seconds / self._seconds
