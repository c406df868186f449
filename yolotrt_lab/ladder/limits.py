"""The speed of the hardware, measured in the same run as what is held against it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..devices.base import Device
from ..engines.base import Engine
from ..throughput import copy_us, engine_us

CHOICES = ((1, 4), (1, 6), (4, 2), (4, 4), (8, 2), (16, 2))
"""Batches and contexts among which the engine's best rate is looked for."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Microseconds a frame: the engine alone, and what bounds many frames. `rates` is by (batch, contexts)."""

    engine_us: float
    upload_us: float
    download_us: float
    rates: Mapping[tuple[int, int], float]

    @property
    def best_engine_us(self) -> float:
        """A frame's share of the engine at its best rate."""
        return min(self.rates.values())

    @property
    def many_us(self) -> float:
        """For many frames: the larger of the bare upload and the engine at its best rate."""
        return max(self.upload_us, self.best_engine_us)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        rates = {f"batch {batch}, contexts {contexts}": value for (batch, contexts), value in self.rates.items()}
        own = {"engine_us": self.engine_us, "upload_us": self.upload_us, "download_us": self.download_us}
        return {**own, "rates_us": rates, "best_engine_us": self.best_engine_us, "many_us": self.many_us}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Limits:
        """From what `as_dict` gave."""
        rates = {}
        for name, value in values["rates_us"].items():
            batch, contexts = map(int, re.findall(r"\d+", name))
            rates[batch, contexts] = value
        return cls(values["engine_us"], values["upload_us"], values["download_us"], rates)


def measure_limits(
    device: Device, engines: Mapping[int, Engine], choices: Sequence[tuple[int, int]] = CHOICES, *, rounds: int = 9
) -> Limits:
    """The limits on this device, medians of `rounds` rounds; `engines` by batch, of which 1 must be there."""
    rates = {
        (batch, contexts): engine_us(device, engines[batch], contexts, rounds=rounds)
        for batch, contexts in choices
        if batch in engines
    }
    alone = engine_us(device, engines[1], 1, rounds=rounds)
    return Limits(alone, copy_us(device, "upload"), copy_us(device, "download"), {(1, 1): alone, **rates})
