"""The ladder of one run: limits, steps and claims, as tables for reading and as JSON for keeping."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..errors import SettingsError
from ..paths import shipped_file
from ..tables import Table
from ..types import Source
from .limits import Limits
from .measure import Figures
from .rungs import RUNGS, Rung, checked_rungs


@dataclass(frozen=True, slots=True)
class Step:
    """What was measured of a rung. `bounds_us` is what a frame asks of each resource, in microseconds.

    For the engine and the copies that is at their limits in this run; 'host' is what the host's calls and its work on
    pixels took in this loop, a call that waits for the GPU among them.
    """

    rung: Rung
    together: Figures
    alone: Figures | None
    bounds_us: Mapping[str, float]

    @property
    def bound(self) -> str:
        """The resource that a frame asks most of."""
        return max(self.bounds_us, key=lambda name: self.bounds_us[name])


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim and what was measured: it holds where `value` is at most `limit` (or at least, with `at_least`)."""

    name: str
    value: float
    limit: float
    at_least: bool = False
    detail: str = ""

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return bool(self.value >= self.limit if self.at_least else self.value <= self.limit)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "name": self.name,
            "value": self.value,
            "limit": self.limit,
            "relation": ">=" if self.at_least else "<=",
            "holds": self.holds,
            "detail": self.detail,
        }


@dataclass(frozen=True, slots=True)
class Ladder:
    """The ladder of one run. `peers` maps each to microseconds a frame, or to the reason why it took no part."""

    limits: Limits
    steps: tuple[Step, ...]
    source: Source
    confidence: float
    peers: Mapping[str, float | str] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "source": self.source.as_dict(),
            "confidence": self.confidence,
            "limits": self.limits.as_dict(),
            "rungs": [
                {
                    "rung": step.rung.number,
                    "name": step.rung.name,
                    "adds": step.rung.adds,
                    "together": step.together.as_dict(),
                    "alone": step.alone and step.alone.as_dict(),
                    "bounds_us": dict(step.bounds_us),
                    "bound": step.bound,
                }
                for step in self.steps
            ],
            "peers": dict(self.peers),
            "claims": [claim.as_dict() for claim in self.claims],
        }

    @classmethod
    def load(cls, path: str | Path) -> Ladder:
        """From what `yolotrt-lab bench --json` wrote; SettingsError where a file is none of it.

        A ladder that was measured live is a recording then, and says so.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(
                Limits.from_dict(values["limits"]),
                tuple(_step(step) for step in values["rungs"]),
                Source.read_back(values["source"]),
                values["confidence"],
                values["peers"],
                tuple(_claim(claim) for claim in values["claims"]),
            )
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise SettingsError(
                f"{path} holds no ladder: {error}", fix="make one: yolotrt-lab bench --json FILE"
            ) from error

    @classmethod
    def shipped(cls) -> Ladder:
        """The one that comes with the lab, measured on a real GPU."""
        return cls.load(shipped_file("ladders", "bench.json"))

    def gains(self) -> dict[int, float]:
        """How many times faster each measured rung is than the measured one before it, by the rung's number."""
        return {
            step.rung.number: before.together.frame_us / step.together.frame_us for before, step in pairwise(self.steps)
        }

    def table(self) -> Table:
        """A row a rung, with its gain over the one before and the fraction of the limit that it reaches."""
        header = ["rung", "us a frame", "frames/s", "of limit", "gain", "alone us", "p50 us", "p99 us", "p99.9 us"]
        rows, gains = [], self.gains()
        for step in self.steps:
            made, rung = step.together, step.rung
            many = rung.settings.contexts > 1 or rung.batch > 1
            limit_us = self.limits.many_us if many else self.limits.engine_us
            row = [f"{rung.number} {rung.name}", f"{made.frame_us:,.1f}", f"{made.frames_per_second:,.0f}"]
            row += [f"{limit_us / made.frame_us:.0%}", f"x{gains[rung.number]:.2f}" if rung.number in gains else ""]
            row += [f"{step.alone.frame_us:,.0f}" if step.alone else ""]
            rows.append([*row, *(f"{each:,.0f}" for each in (made.p50_us, made.p99_us, made.p999_us)), step.bound])
        return Table([*header, "bound"], rows, self.source)

    def limits_table(self) -> Table:
        """The limits, and what the peers took."""
        limits = self.limits
        rows = [
            ["engine alone, one frame at a time", f"{limits.engine_us:,.1f}"],
            ["pinned upload of a 1080p frame", f"{limits.upload_us:,.1f}"],
            ["engine at its best rate", f"{limits.best_engine_us:,.1f}"],
            ["limit for many frames", f"{limits.many_us:,.1f}"],
        ]
        rows += [[f"peer: {name}", f"{us:,.0f}" if isinstance(us, float) else us] for name, us in self.peers.items()]
        return Table(["limit", "us a frame"], rows, self.source)

    def claims_table(self) -> Table:
        """What was claimed, what was measured, and whether it holds."""
        rows = []
        for each in self.claims:
            limit = f"{'>=' if each.at_least else '<='} {each.limit:.4g}"
            verdict = "holds" if each.holds else "FAILS"
            rows.append([each.name, f"{each.value:.4g}", limit, verdict, each.detail])
        return Table(["claim", "measured", "limit", "", ""], rows, self.source)


def side_by_side(*ladders: Ladder) -> Table:
    """For each rung what a frame takes in each of the ladders, and the rung's gain there over the one before it."""
    header, columns = ["rung"], [[f"{rung.number} {rung.name}" for rung in RUNGS]]
    for each in ladders:
        kind, found = each.source.kind, {step.rung.number: step.together.frame_us for step in each.steps}
        header += [f"{kind}, us a frame", "gain"]
        columns.append([f"{found[rung.number]:,.1f}" if rung.number in found else "" for rung in RUNGS])
        gains = each.gains()
        columns.append([f"x{gains[rung.number]:.2f}" if rung.number in gains else "" for rung in RUNGS])
    return Table(header, list(zip(*columns, strict=True)), *(each.source for each in ladders))


def _step(values: Mapping[str, Any]) -> Step:
    (rung,) = checked_rungs([values["rung"]])
    alone = values["alone"] and _figures(values["alone"])
    return Step(rung, _figures(values["together"]), alone, values["bounds_us"])


def _figures(values: Mapping[str, Any]) -> Figures:
    return Figures(**{field.name: values[field.name] for field in fields(Figures)})


def _claim(values: Mapping[str, Any]) -> Claim:
    return Claim(values["name"], values["value"], values["limit"], values["relation"] == ">=", values["detail"])
