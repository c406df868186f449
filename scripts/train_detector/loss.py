"""The loss of YOLOv8: complete IoU and distribution focal loss for boxes, binary cross-entropy for classes.

The gains and the weighting of each cell by its target score are those of Ultralytics 8.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .assignment import Truth, assign
from .boxes import ciou_loss
from .dfl import distribution_focal_loss
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
