"""Frames at once: what contexts and batches bring the engine, and what the lab's own kernels do beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..devices.base import Device
from ..devices.preset import interpolated
from ..engines.base import Engine
from ..throughput import engine_us
from ..types import Source
from .kernels import LabKernels, kernel_sharing

BATCHES = (2, 4, 8, 16)
"""Those that `calibrate` is best given engines for: what the ladder runs and looks for its limits among."""

_CONTEXTS = (1, 2, 3, 4, 6, 8)
_LAUNCHES, _FEWEST = 240, 24  # of single frames, and of batches: as many in each context


@dataclass(frozen=True, slots=True)
class Concurrency:
    """Fields of `EngineCost` and of `Preset`, by their names there."""

    frame_ns_by_contexts: Mapping[str, int] = field(default_factory=dict)
    frame_ns_by_batch: Mapping[str, Sequence[int]] = field(default_factory=dict)
    measured: str = ""
    kernel_ns: Mapping[str, int] = field(default_factory=dict)
    kernel_sharing: tuple[float, ...] = ()

    @property
    def of_engine(self) -> dict[str, Any]:
        """Those of `EngineCost`."""
        return {name: getattr(self, name) for name in ("frame_ns_by_contexts", "frame_ns_by_batch", "measured")}


def measure_concurrency(
    device: Device,
    engine: Engine,
    batches: Mapping[int, Engine],
    images: Sequence[np.ndarray] | None,
    progress: Callable[[str], None] = lambda step: None,
) -> Concurrency:
    """All of it, of the engine for single frames and of those for batches of so many.

    Where no rates of kernels beside the engine can be had, they are those of contexts, and `measured` says so.
    """
    by_contexts = {}
    for contexts in _CONTEXTS:
        progress(f"contexts at once: {contexts}")
        by_contexts[contexts] = _frame_ns(device, engine, contexts)
    by_batch = {}
    for batch, batched in batches.items():
        progress(f"batches of {batch}")
        by_batch[str(batch)] = [_frame_ns(device, batched, contexts) for contexts in (1, 2)]
    progress("kernels alone and beside the engine")
    kernels = LabKernels(device, engine, images)
    rates = kernel_sharing(device, engine, kernels, by_contexts)
    source = Source.read_back(device.source.as_dict())
    measured = f"{source.stamp}, {engine.label}: CUDA graphs launched back to back"
    if not rates:
        rates = {contexts: by_contexts[1] / frame_ns for contexts, frame_ns in by_contexts.items()}
        measured += "; that the lab's kernels share the GPU as contexts do is assumed"
    return Concurrency(
        {str(contexts): frame_ns for contexts, frame_ns in by_contexts.items()},
        by_batch,
        measured,
        kernels.alone_ns(),
        tuple(round(rate, 3) for rate in interpolated(rates)),
    )


def _frame_ns(device: Device, engine: Engine, contexts: int) -> int:
    launches = max(_LAUNCHES // engine.inputs[0].shape[0], _FEWEST)
    return round(1e3 * engine_us(device, engine, contexts, launches=launches))
