"""Overlap of boxes: plain, and the complete IoU loss of Zheng et al.

"Distance-IoU Loss: Faster and Better Learning for Bounding Box Regression", AAAI 2020, https://arxiv.org/abs/1911.08287.
Boxes are left, top, right, bottom.
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

_TINY = 1e-7


def overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4) with others (..., 4) that broadcast with them."""
    low = torch.maximum(boxes[..., :2], others[..., :2])
    high = torch.minimum(boxes[..., 2:], others[..., 2:])
    shared = (high - low).clamp(min=0).prod(dim=-1)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1) + (others[..., 2:] - others[..., :2]).prod(dim=-1)
    return shared / (areas - shared + _TINY)


def ciou_loss(boxes: Tensor, truth: Tensor) -> Tensor:
    """1 - IoU + (distance of the centres / diagonal of the hull)^2 + alpha v, for pairs of boxes (..., 4).

    v = 4 / pi^2 (atan(w / h) - atan(w' / h'))^2 compares the aspects; alpha = v / (1 - IoU + v) is held constant in the
    gradient, as in the paper.
    """
    overlap = overlaps(boxes, truth)
    hull = torch.maximum(boxes[..., 2:], truth[..., 2:]) - torch.minimum(boxes[..., :2], truth[..., :2])
    centres = ((boxes[..., :2] + boxes[..., 2:]) - (truth[..., :2] + truth[..., 2:])) / 2
    distance = centres.square().sum(dim=-1) / (hull.square().sum(dim=-1) + _TINY)
    aspect = 4 / pi**2 * (_slope(boxes) - _slope(truth)).square()
    with torch.no_grad():
        alpha = aspect / (1 - overlap + aspect + _TINY)
    return 1 - overlap + distance + alpha * aspect


def _slope(boxes: Tensor) -> Tensor:
    size = boxes[..., 2:] - boxes[..., :2]
    return torch.atan(size[..., 0] / (size[..., 1] + _TINY))
