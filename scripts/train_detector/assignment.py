"""Task-aligned assignment of Feng et al.: which cells learn which object, by how well they classify and locate it.

"TOOD: Task-aligned One-stage Object Detection", ICCV 2021, https://arxiv.org/abs/2108.07755, sections 3.2 and 3.3.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .boxes import overlaps
from .network import Cells

_ALPHA, _BETA, _MOST = 0.5, 6.0, 10
_REACH = 8.0  # pixels: the finest grid has a centre in every box that is at least this wide and high
_TINY = 1e-9


class Truth(NamedTuple):
    """Objects of a batch, padded to one number: `boxes` (batch, n, 4) left, top, right, bottom in pixels, `classes`
    (batch, n) int64, `valid` (batch, n) False for padding."""

    boxes: Tensor
    classes: Tensor
    valid: Tensor


class Assignment(NamedTuple):
    """For each cell: the box it is to learn (batch, cells, 4), and the score that each class is to get (batch, cells,
    classes), all 0 for background."""

    boxes: Tensor
    scores: Tensor


@torch.no_grad()
def assign(scores: Tensor, boxes: Tensor, cells: Cells, truth: Truth) -> Assignment:
    """Give each object the 10 cells of the best alignment t = s^0.5 u^6 among those whose centre lies in its box.

    `scores` (batch, cells, classes) and `boxes` (batch, cells, 4) are what the network says now; s is the score of the
    object's class, u the overlap with it. A cell wanted by several objects goes to the one it overlaps most. The target
    score is t, scaled so that an object's best cell gets its best overlap. A box narrower or lower than 8 pixels may
    have no centre in it, and takes those in the box widened to 8 pixels.
    """
    count, classes = truth.boxes.shape[1], scores.shape[-1]
    overlap = overlaps(boxes[:, None], truth.boxes[:, :, None])
    wanted = truth.classes[..., None].expand(-1, -1, scores.shape[1])
    alignment = scores.transpose(1, 2).gather(1, wanted).pow(_ALPHA) * overlap.pow(_BETA)
    candidates = _inside(cells.centres, truth.boxes) & truth.valid[..., None]
    best = alignment.masked_fill(~candidates, -1).topk(min(_MOST, scores.shape[1]), dim=-1)
    chosen = torch.zeros_like(candidates).scatter(-1, best.indices, best.values >= 0)
    owner = overlap.masked_fill(~chosen, -1).argmax(dim=1)
    chosen = chosen & (owner[:, None] == torch.arange(count, device=owner.device)[:, None])
    alignment = alignment * chosen
    peak = (overlap * chosen).amax(dim=-1, keepdim=True) / (alignment.amax(dim=-1, keepdim=True) + _TINY)
    target = (alignment * peak).amax(dim=1)
    label = truth.classes.gather(1, owner)[..., None] == torch.arange(classes, device=owner.device)
    return Assignment(truth.boxes.gather(1, owner[..., None].expand(-1, -1, 4)), label * target[..., None])


def _inside(centres: Tensor, boxes: Tensor) -> Tensor:
    """Which centres (cells, 2) lie in which boxes (batch, n, 4), widened to the reach: (batch, n, cells)."""
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2
    half = ((boxes[..., 2:] - boxes[..., :2]) / 2).clamp(min=_REACH / 2)
    return ((centres - middle[..., None, :]).abs() <= half[..., None, :]).all(dim=-1)
