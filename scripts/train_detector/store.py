"""Rendered frames and their boxes, all of them in the memory of the device that trains."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from .assignment import Truth
from .render import Job, Rendered, content
from .settings import Scenes, Settings


class Store(NamedTuple):
    """`images` uint8 (n, 3, height, width) RGB; `truth` in pixels of them."""

    images: Tensor
    truth: Truth

    def __len__(self) -> int:
        return len(self.images)


def jobs(settings: Settings) -> list[Job]:
    """The scenes to render, those that are held out first."""
    return [
        Job(seed, settings.frame_size, settings.objects, scenes.frames, settings.input_size)
        for scenes in (settings.held_out, settings.training)
        for seed in scenes.seeds
    ]


def collect(rendered: Iterable[Rendered], settings: Settings, device: torch.device) -> tuple[Store, Store]:
    """The frames to train with and the held-out ones, as far as they come."""
    pools = {scenes: _empty(scenes, settings, device) for scenes in (settings.training, settings.held_out)}
    filled = dict.fromkeys(pools, 0)
    for scene in rendered:
        scenes = settings.held_out if scene.seed in settings.held_out.seeds else settings.training
        rows = slice(filled[scenes], filled[scenes] + len(scene.images))
        images, truth = pools[scenes]
        for target, source in zip((images, *truth), scene[1:], strict=True):
            target[rows].copy_(torch.from_numpy(source))
        filled[scenes] = rows.stop
    training, held_out = (
        Store(images[: filled[scenes]], Truth(*(tensor[: filled[scenes]] for tensor in truth)))
        for scenes, (images, truth) in pools.items()
    )
    return training, held_out


def _empty(scenes: Scenes, settings: Settings, device: torch.device) -> Store:
    count, place = scenes.count * scenes.frames, content(settings.frame_size, settings.input_size)
    images = torch.empty((count, 3, place.height, place.width), dtype=torch.uint8, device=device)
    boxes = torch.zeros((count, settings.objects, 4), device=device)
    classes = torch.zeros((count, settings.objects), dtype=torch.int64, device=device)
    return Store(images, Truth(boxes, classes, torch.zeros_like(classes, dtype=torch.bool)))
