"""What a diagnosis says: findings with their evidence, and a verdict or none.

`confidence` is the share of belief that the evidence leaves for a cause: near 1 where nothing else the lab knows makes
these numbers, 1 / k where k causes do alike, less where the effect barely stands out of the noise. From `SURE` on a
cause is named; below it, it is a candidate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..types import Cause
from .growth.shape import Growth

SURE = 0.75
"""Findings from this confidence on are named (`Diagnosis.causes`)."""

UNDETERMINED = "undetermined"
"""The verdict, as a word, where no cause is sure."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One number that a finding rests on, from the frames `first` to `last`, counted from 0 after the warm-up."""

    what: str
    value: float
    unit: str
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.what}: {number(self.value)} {self.unit}".rstrip() + f" (frames {self.first:,} to {self.last:,})"

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {"what": self.what, "value": self.value, "unit": self.unit, "frames": [self.first, self.last]}


@dataclass(frozen=True, slots=True)
class Finding:
    """One cause.

    `explains_ms` is how much of the growth, or of a fall, it explains (0 for a constant cost), `cure_limit_ms` what its
    cure can take off the slow frames at most. `cure` is one sentence; `next_experiment` separates it from the next
    candidate, or proves it where it is alone.
    """

    cause: Cause
    confidence: float
    explains_ms: float
    cure_limit_ms: float
    evidence: tuple[Evidence, ...]
    cure: str
    next_experiment: str

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {
            "cause": str(self.cause),
            "confidence": round(self.confidence, 3),
            "explains_ms": round(self.explains_ms, 6),
            "cure_limit_ms": round(self.cure_limit_ms, 6),
            "evidence": [each.as_dict() for each in self.evidence],
            "cure": self.cure,
            "next_experiment": self.next_experiment,
        }


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`verdict` is the sure cause that explains most of the growth; None where no cause is sure.

    `findings` are ranked: the sure ones by what they explain, then the candidates by confidence. `growth` is the shape
    of every series by name, in ms. `slow_ms` is what a frame takes where it is slowest (a median), `pinning_limit_ms`
    what pinned memory can take off it at most, None where the upload call was not measured. `missing` says what was not
    measured and would have told more, `origin` where the measurements come from.
    """

    verdict: Cause | None
    findings: tuple[Finding, ...]
    growth: Mapping[str, Growth]
    slow_ms: float
    pinning_limit_ms: float | None
    missing: tuple[str, ...] = ()
    origin: str = ""

    @property
    def causes(self) -> tuple[Cause, ...]:
        """The causes that are sure: two where two are at work."""
        return tuple(finding.cause for finding in self.findings if finding.confidence >= SURE)

    @property
    def candidates(self) -> tuple[Cause, ...]:
        """The causes that the evidence leaves open."""
        return tuple(finding.cause for finding in self.findings if finding.confidence < SURE)

    def as_dict(self) -> dict[str, Any]:
        """JSON values, which `schema.json` beside this module describes."""
        return {
            "verdict": str(self.verdict or UNDETERMINED),
            "findings": [finding.as_dict() for finding in self.findings],
            "growth": {name: _growth_values(growth) for name, growth in self.growth.items()},
            "slow_ms": round(self.slow_ms, 6),
            "pinning_limit_ms": None if self.pinning_limit_ms is None else round(self.pinning_limit_ms, 6),
            "missing": list(self.missing),
            "origin": self.origin,
        }

    def __str__(self) -> str:
        from .text import as_text

        return as_text(self)


def number(value: float) -> str:
    """Three significant digits without an exponent, none after a whole number; thousands are set apart."""
    if value == round(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 6)}f}"


def _growth_values(growth: Growth) -> dict[str, Any]:
    slope = growth.slope
    return {
        "shape": str(growth.shape),
        "rise_ms": growth.rise,
        "slope_ms_per_frame": {
            "value": slope.value,
            "low": slope.low,
            "high": slope.high,
            "confidence": slope.confidence,
        },
        "change_points": list(growth.change_points),
        "levels_ms": list(growth.levels),
        "spikes": list(growth.spikes),
        "period_frames": growth.period,
    }
