"""The settings of a training, in full and in miniature."""

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
    """A training."""

    minutes: float = 11.0
    """From the start to the last step."""
    steps: int = 0
    """If not 0, the training ends after so many steps, whatever the minutes."""
    seed: int = 0
    frame_size: tuple[int, int] = (1920, 1080)
    """Width and height of the scenes."""
    input_size: int = 640
    """The side of the network's square input."""
    objects: int = 28
    training: Scenes = Scenes(1_000_000, 600, 40)
    held_out: Scenes = Scenes(900_000, 25, 20)
    render_minutes: float = 1.5
    """Frames that are not rendered by then are left out."""
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warm_up: float = 0.04
    average: float = 0.999
    stacked: float = 0.75
    """The share of images that are stacks of two frames."""
    plain: float = 0.15
    """The last share of the training, in which all images are single frames as the detector will see them."""
    compile: bool = True
    report_seconds: float = 20
    checkpoint_seconds: float = 120


SMOKE = Settings(
    minutes=1,
    steps=32,
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
