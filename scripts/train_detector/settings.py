"""What a training is made of, in full and in miniature."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scenes:
    """`count` synthetic scenes of the seeds from `first_seed` on, `frames` frames of each, far apart in time."""

    first_seed: int
    count: int
    frames: int

    @property
    def seeds(self) -> range:
        return range(self.first_seed, self.first_seed + self.count)


@dataclass(frozen=True, slots=True)
class Settings:
    """A training. `minutes` go from the start to the last step; with `steps` it ends after so many instead.

    `frame_size` is (width, height) of the scenes, `input_size` the side of the network's square input. `render_minutes`
    bounds the time that rendering may take: what is not rendered by then is left out. A share of `stacked` of the
    images is made of two frames, until the last share `plain` of the training; from there on the images are frames as
    the detector will see them.
    """

    minutes: float = 8.0
    steps: int = 0
    seed: int = 0
    frame_size: tuple[int, int] = (1920, 1080)
    input_size: int = 640
    objects: int = 28
    training: Scenes = Scenes(1_000_000, 600, 40)
    held_out: Scenes = Scenes(900_000, 25, 20)
    render_minutes: float = 1.5
    batch: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warm_up: float = 0.04
    average: float = 0.999
    stacked: float = 0.5
    plain: float = 0.15
    compile: bool = True
    report_seconds: float = 20
    checkpoint_seconds: float = 120


SMOKE = Settings(
    minutes=1,
    steps=20,
    frame_size=(384, 216),
    input_size=128,
    objects=8,
    training=Scenes(1_000_000, 2, 12),
    held_out=Scenes(900_000, 1, 8),
    batch=16,
    learning_rate=1e-3,
    warm_up=0.3,
    average=0.9,
    compile=False,
    report_seconds=0,
)
"""Everything that the full training does, in less than a minute on two CPU cores. It learns next to nothing."""
