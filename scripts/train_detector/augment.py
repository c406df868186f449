"""Batches of training images, cut, moved, mirrored and tinted on the device that trains.

An image is one frame in its letterbox, or a stack: two frames, one above the other, each larger or smaller than it was
and shifted at random. A stack has twice the objects, and parts cut at its edges.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .assignment import Truth
from .store import Store

_GREY = 114 / 255
_SCALES = (0.7, 1.4)
_VISIBLE = 0.3  # as the scene has it: a part of which less is in the image is left out


class Panes(NamedTuple):
    """Where two frames lie in each image, all (batch, 2): a point x of the unmirrored frame is at `x * scale + left` of
    the image, y at `y * scale + top`; the frame shows in the rows from `first` to `last`."""

    scale: Tensor
    left: Tensor
    top: Tensor
    first: Tensor
    last: Tensor
    mirror_x: Tensor
    mirror_y: Tensor


class Batch(NamedTuple):
    """`images` float32 (batch, 3, side, side), RGB from 0 to 1, and what is in them."""

    images: Tensor
    truth: Truth


def draw_batch(store: Store, count: int, side: int, stacked: float, generator: torch.Generator) -> Batch:
    """`count` images of frames drawn from the store, a share of `stacked` of them stacks; mirrored and tinted."""
    device = store.images.device
    picks = torch.randint(len(store), (count, 2), device=device, generator=generator)
    panes = draw_panes(count, store.images.shape[-2:], side, stacked, generator)
    gain, shift = _tint(count, device, generator)
    images = cut_images(store.images[picks], panes, side, gain, shift)
    truth = move_truth(Truth(*(tensor[picks] for tensor in store.truth)), panes, store.images.shape[-2:], side)
    return Batch(images, truth)


def plain_panes(count: int, shape: tuple[int, int], side: int, device: torch.device) -> Panes:
    """One frame of (height, width) in its letterbox, as it is; the second is nowhere."""
    height, width = shape
    one, none = torch.ones((count, 2), device=device), torch.zeros((count, 2), device=device)
    left, top = (float(round((side - size) / 2 - 0.1)) for size in (width, height))
    first = torch.tensor([0.0, side], device=device).expand(count, 2)
    last = torch.full((count, 2), float(side), device=device)
    mirror = none.bool()
    return Panes(one, none + left, none + top, first, last, mirror, mirror)


def draw_panes(count: int, shape: tuple[int, int], side: int, stacked: float, generator: torch.Generator) -> Panes:
    """Letterboxed frames and stacks, mixed and mirrored."""
    device = generator.device

    def uniform(low: float, high: float, columns: int) -> Tensor:
        return torch.rand((count, columns), device=device, generator=generator) * (high - low) + low

    height, width = shape
    plain = plain_panes(count, shape, side, device)
    cut = (uniform(0.35, 0.65, 1) * side).round()
    first, last = torch.cat([0 * cut, cut], dim=1), torch.cat([cut, 0 * cut + side], dim=1)
    scale = uniform(*_SCALES, 2)
    left = uniform(0, 1, 2) * (side - width * scale)
    top = first + uniform(0, 1, 2) * (last - first - height * scale)
    stack = uniform(0, 1, 1) < stacked
    chosen = [torch.where(stack, *pair) for pair in zip((scale, left, top, first, last), plain[:5], strict=True)]
    return Panes(*chosen, uniform(0, 1, 2) < 0.5, uniform(0, 1, 2) < 0.5)


def cut_images(frames: Tensor, panes: Panes, side: int, gain: Tensor, shift: Tensor) -> Tensor:
    """The images (batch, 3, side, side) of frames uint8 (batch, 2, 3, height, width); grey where there is none.

    A pixel p of a frame becomes `p * gain + shift`, both (batch, 3, 1, 1).
    """
    height, width = frames.shape[-2:]
    at = torch.arange(side, device=frames.device) + 0.5
    lower = at >= panes.first[:, 1:]  # (batch, side): which rows are of the second frame
    scale, left, top, mirror_x, mirror_y = (
        torch.where(lower, value[:, 1:], value[:, :1])
        for value in (panes.scale, panes.left, panes.top, panes.mirror_x, panes.mirror_y)
    )
    x = (at - left[..., None]) / scale[..., None]
    y = (at - top) / scale
    inside = (x >= 0) & (x <= width) & ((y >= 0) & (y <= height))[..., None]
    x = torch.where(mirror_x[..., None], width - x, x)
    y = torch.where(mirror_y, height - y, y).clamp(0.5, height - 0.5) + lower * height
    grid = torch.stack([x * (2 / width) - 1, (y / height - 1)[..., None].expand_as(x)], dim=-1)
    both = frames.transpose(1, 2).flatten(2, 3).float() / 255
    images = nn.functional.grid_sample(both, grid, padding_mode="border", align_corners=False)
    return torch.where(inside[:, None], (images * gain + shift).clamp(0, 1), _GREY)


def move_truth(truth: Truth, panes: Panes, shape: tuple[int, int], side: int) -> Truth:
    """The truth of two frames (batch, 2, n, ...) in pixels of the image (batch, 2 n, ...), clipped to what shows."""
    height, width = shape
    x1, y1, x2, y2 = truth.boxes.unbind(dim=-1)
    mirror_x, mirror_y = panes.mirror_x[..., None], panes.mirror_y[..., None]
    x1, x2 = torch.where(mirror_x, width - x2, x1), torch.where(mirror_x, width - x1, x2)
    y1, y2 = torch.where(mirror_y, height - y2, y1), torch.where(mirror_y, height - y1, y2)
    scale, left, top, first, last = (value[..., None] for value in panes[:5])
    x1, x2 = (x * scale + left for x in (x1, x2))
    y1, y2 = (y * scale + top for y in (y1, y2))
    shown = torch.stack([x1.clamp(0, side), y1.clamp(first, last), x2.clamp(0, side), y2.clamp(first, last)], dim=-1)
    size = shown[..., 2:] - shown[..., :2]
    large = (size.prod(dim=-1) >= _VISIBLE * (x2 - x1) * (y2 - y1)) & (size > 1).all(dim=-1)
    return Truth(shown.flatten(1, 2), truth.classes.flatten(1, 2), (truth.valid & large).flatten(1, 2))


def _tint(count: int, device: torch.device, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Contrast and brightness of the image, and a little more or less of each colour."""

    def normal(spread: float, channels: int) -> Tensor:
        return torch.randn((count, channels, 1, 1), device=device, generator=generator) * spread

    gain = torch.exp(normal(0.12, 1) + normal(0.05, 3))
    return gain, normal(0.04, 1) + 0.4 * (1 - gain)
