"""What a diagnosis looks at: one value a frame, by name, whoever measured it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..recording import Recording
from ..types import TELEMETRY_COLUMNS, Stage


@dataclass(frozen=True, eq=False)
class Measurements:
    """Series of float64, shape (frames,), in the order of the frames; the warm-up is not among them.

    `times_ns` holds durations by name: 'latency' (a frame's due time to its result), 'frame' (its start to its result),
    and the values of `Stage`; whatever was not measured is absent. `instants_ns` holds 'due', 'start' and 'done' on one
    clock, where they are known. `telemetry` holds some of `TELEMETRY_COLUMNS`, NaN where the GPU does not tell.
    `memory` is the kind of host memory ('pageable', 'pinned') under 'input' and 'output', where it is known. `origin`
    says in one line where it all comes from.
    """

    times_ns: Mapping[str, np.ndarray]
    instants_ns: Mapping[str, np.ndarray] = field(default_factory=dict)
    telemetry: Mapping[str, np.ndarray] = field(default_factory=dict)
    memory: Mapping[str, str] = field(default_factory=dict)
    origin: str = ""

    def __len__(self) -> int:
        return len(next(iter(self.times_ns.values())))

    @classmethod
    def of(cls, recording: Recording) -> Measurements:
        """What a recording of frames holds."""
        steady = recording.steady
        columns: Mapping[str, Any] = {name: values.astype(np.float64) for name, values in steady.columns.items()}
        times = {"latency": columns["done_ns"] - columns["due_ns"], "frame": columns["done_ns"] - columns["start_ns"]}
        times |= {str(stage): columns[f"{stage}_ns"] for stage in Stage}
        instants = {name: columns[f"{name}_ns"] for name in ("due", "start", "done")}
        telemetry = {name: columns[name] for name in TELEMETRY_COLUMNS if name in columns}
        kinds = {side: recording.settings.get(f"{side}_memory") for side in ("input", "output")}
        memory = {side: kind for side, kind in kinds.items() if isinstance(kind, str)}
        return cls(times, instants, telemetry, memory, recording.source.stamp)
