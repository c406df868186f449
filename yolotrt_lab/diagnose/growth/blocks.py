"""Medians of consecutive blocks of frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Blocks:
    """A series cut into blocks: block i holds the frames `edges[i]` to `edges[i + 1]` - 1 and has `medians[i]`."""

    edges: np.ndarray
    medians: np.ndarray

    def __len__(self) -> int:
        return len(self.medians)

    @property
    def frames(self) -> float:
        """How many frames a block holds on average."""
        return float(self.edges[-1] - self.edges[0]) / len(self)

    @property
    def centres(self) -> np.ndarray:
        """The position of the middle of each block, in frames."""
        return (self.edges[:-1] + self.edges[1:] - 1) / 2


def in_blocks(values: np.ndarray, count: int) -> Blocks:
    """`count` blocks of as equal a length as can be."""
    edges = np.linspace(0, len(values), count + 1).astype(np.int64)
    lengths = np.diff(edges)
    medians = np.empty(count)
    for length in np.unique(lengths):
        chosen = np.flatnonzero(lengths == length)
        medians[chosen] = np.median(values[edges[chosen][:, None] + np.arange(length)], axis=1)
    return Blocks(edges, medians)
