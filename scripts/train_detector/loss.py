"""The loss of YOLOv8: complete IoU and distribution focal loss for boxes, binary cross-entropy for classes.

The gains and the weighting of each cell by its target score are those of Ultralytics 8. Distribution focal loss is that
of Li et al., "Generalized Focal Loss: Learning Qualified and Distributed Bounding Boxes for Dense Object Detection",
NeurIPS 2020, https://arxiv.org/abs/2006.04388, equation 6.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .assignment import Truth, assign
from .boxes import ciou_loss
from .network import Cells, Raw, decode_boxes

GAINS = {"box": 7.5, "class": 0.5, "dfl": 1.5}


def detection_loss(raw: Raw, cells: Cells, truth: Truth) -> Tensor:
    """The three parts (3,) in the order of GAINS, times their gains; their sum is what is minimised.

    Each part is a sum over cells by the sum of target scores. All cells take part, those of the background with weight
    0, so that shapes are fixed and nothing waits for the GPU.
    """
    bins, logits = raw.bins.float(), raw.logits.float()
    boxes = decode_boxes(bins, cells)
    target = assign(logits.detach().sigmoid(), boxes.detach(), cells, truth)
    weights = target.scores.sum(dim=-1)
    total = weights.sum().clamp(min=1)
    located = (ciou_loss(boxes, target.boxes) * weights).sum()
    classified = nn.functional.binary_cross_entropy_with_logits(logits, target.scores, reduction="sum")
    sides = [cells.centres - target.boxes[..., :2], target.boxes[..., 2:] - cells.centres]
    distances = torch.cat(sides, dim=-1) / cells.strides
    spread = (distribution_focal_loss(bins, distances).mean(dim=-1) * weights).sum()
    parts = zip((located, classified, spread), GAINS.values(), strict=True)
    return torch.stack([part * gain for part, gain in parts]) / total


def distribution_focal_loss(bins: Tensor, distances: Tensor) -> Tensor:
    """-((b + 1 - y) log p(b) + (y - b) log p(b + 1)) for logits `bins` (..., n) and distances y (...) in bins.

    A distance between two bins is learnt as a mixture of the two. b is the bin below y; distances are clamped to what
    the bins can hold, 0 to n - 1.
    """
    distances = distances.clamp(0, bins.shape[-1] - 1.01)
    below = distances.long()
    share = distances - below
    likely = bins.log_softmax(dim=-1)
    low = likely.gather(-1, below.unsqueeze(-1)).squeeze(-1)
    high = likely.gather(-1, below.unsqueeze(-1) + 1).squeeze(-1)
    return torch.lerp(-low, -high, share)
