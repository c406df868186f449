"""Distribution focal loss of Li et al.: a distance between two bins is learnt as a mixture of the two.

"Generalized Focal Loss: Learning Qualified and Distributed Bounding Boxes for Dense Object Detection", NeurIPS 2020,
https://arxiv.org/abs/2006.04388, equation 6.
"""

from __future__ import annotations

import torch
from torch import Tensor


def distribution_focal_loss(bins: Tensor, distances: Tensor) -> Tensor:
    """-((b + 1 - y) log p(b) + (y - b) log p(b + 1)) for logits `bins` (..., n) and distances y (...) in bins.

    b is the bin below y; distances are clamped to what the bins can hold, 0 to n - 1.
    """
    distances = distances.clamp(0, bins.shape[-1] - 1.01)
    below = distances.long()
    share = distances - below
    likely = bins.log_softmax(dim=-1)
    low = likely.gather(-1, below.unsqueeze(-1)).squeeze(-1)
    high = likely.gather(-1, below.unsqueeze(-1) + 1).squeeze(-1)
    return torch.lerp(-low, -high, share)
