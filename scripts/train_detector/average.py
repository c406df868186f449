"""The average of the weights over the last steps, which detects better than the weights of any one step.

Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; exponential here, as is usual.
"""

from __future__ import annotations

from copy import deepcopy

import torch

from .network import Detector


class Average:
    """`detector` holds the averages of another detector's weights and normalisation, ready to predict.

    Each update keeps `share` of what was, less in the first updates, when the weights still change fast.
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
