"""What the rules look at: every series with its shape, and its level before and after it rose.

Nothing here knows a cause. A level is the median of many frames, so that a rare slow frame cannot make a change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ..types import Stage
from .findings import Evidence
from .growth.shape import Growth, measure_growth
from .growth.slope import MIN_FRAMES
from .measurements import Measurements

GPU_STAGES = (Stage.INFER, Stage.DOWNLOAD, Stage.SYNCHRONIZE)
FEWEST_FRAMES = 4 * MIN_FRAMES
FIRST_FRAMES = 8
_LABELS = {
    "gpu": "calls that wait for the GPU",
    "backlog": "wait for the loop",
    Stage.UPLOAD: "upload call",
    Stage.DOWNLOAD: "download call",
}
_STEPS = 40
_LEVEL_PART = 7 / _STEPS
_NEARLY = 0.98


@dataclass(frozen=True, slots=True)
class Window:
    """The frames from `first` up to, not with, `end`."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Change:
    """Where a series is high, where it was lowest before, and its levels there.

    Of a fall, `before` is where it is lowest afterwards: what made it high is then gone.
    """

    before: Window
    after: Window
    low: float
    high: float

    @property
    def rise(self) -> float:
        """How much it went up."""
        return self.high - self.low


class Growths(Mapping[str, Growth]):
    """The shape of every series with frames enough to have one, from its finite values; measured when asked for."""

    def __init__(self, series: Mapping[str, np.ndarray]) -> None:
        finite = {name: np.isfinite(values) for name, values in series.items()}
        self._series = {name: series[name][kept] for name, kept in finite.items() if kept.sum() >= FEWEST_FRAMES}
        self._measured: dict[str, Growth] = {}

    def __getitem__(self, name: str) -> Growth:
        if name not in self._measured:
            self._measured[name] = measure_growth(self._series[name])
        return self._measured[name]

    def __contains__(self, name: object) -> bool:
        return name in self._series

    def __iter__(self) -> Iterator[str]:
        return iter(self._series)

    def __len__(self) -> int:
        return len(self._series)


class Symptoms:
    """Measurements by name, in milliseconds, with what follows from several of them.

    That is 'gpu', the host's time in the calls that wait for the GPU (infer, download, synchronize; those that were
    measured); 'stages', the sum of all stages but `wait`; 'backlog', how long a frame lay before it was taken up
    (without instants, the latency that no stage accounts for); and 'interval', the time between results. `in_flight`
    counts the frames that were taken up before the result of each one came, itself among them; empty where unknown.
    """

    def __init__(self, measurements: Measurements) -> None:
        self.measured = measurements
        self.frames = len(measurements)
        self.series = {name: np.asarray(values, np.float64) / 1e6 for name, values in measurements.times_ns.items()}
        self.telemetry = {
            name: np.asarray(values, np.float64)
            for name, values in measurements.telemetry.items()
            if np.isfinite(values).any()
        }
        self.in_flight = np.empty(0)
        self._changes: dict[str, Change] = {}
        self._add_sums()
        self._add_from_instants()
        self.growth = Growths(self.series)

    def _add_sums(self) -> None:
        stages = [stage for stage in Stage if stage in self.series and stage is not Stage.WAIT]
        for name, chosen in (("gpu", [stage for stage in stages if stage in GPU_STAGES]), ("stages", stages)):
            if chosen:
                self.series[name] = np.sum([self.series[stage] for stage in chosen], axis=0)

    def _add_from_instants(self) -> None:
        instants = self.measured.instants_ns
        if "due" in instants and "start" in instants:
            self.series["backlog"] = (instants["start"] - instants["due"]) / 1e6
        elif "latency" in self.series and "stages" in self.series:
            self.series["backlog"] = self.series["latency"] - self.series["stages"]
        if "done" in instants and self.frames > 1:
            between = np.diff(instants["done"]) / 1e6
            self.series["interval"] = np.concatenate([between[:1], between])
        if "done" in instants and "start" in instants:
            taken_up = np.searchsorted(np.sort(instants["start"]), instants["done"], side="left")
            self.in_flight = taken_up - np.arange(self.frames)

    def grows(self, name: str) -> bool:
        """True where the series was measured and goes up, be it that it comes down again."""
        return name in self.growth and self.growth[name].shape.grows

    def change(self, name: str) -> Change:
        """Where the series is high against where it was low before; without a rise, both windows are the same.

        A level has to last for a sixth of the run, so that what a machine does for a moment is no change. Of levels
        that are nearly the same, the one in the middle is taken.
        """
        if name not in self._changes:
            self._changes[name] = self._find_change(self.series[name])
        return self._changes[name]

    def fall(self, name: str) -> Change:
        """The same for a series that comes down: where it is high, against where it is lowest after that."""
        turned = self._find_change(self.series[name][::-1])
        before, after = (Window(self.frames - w.end, self.frames - w.first) for w in (turned.before, turned.after))
        return Change(before, after, turned.low, turned.high)

    def _find_change(self, values: np.ndarray) -> Change:
        reach = max(1, round(self.frames * _LEVEL_PART / 2))
        centres = np.linspace(0, self.frames, _STEPS + 1).astype(int).tolist()
        windows = [Window(max(0, at - reach), min(self.frames, at + reach)) for at in centres]
        levels = np.nan_to_num([_median(values[window.first : window.end]) for window in windows])
        gains = levels - np.minimum.accumulate(levels)
        top = _middle(gains >= _NEARLY * gains.max())
        low = levels[: top + 1]
        bottom = _middle(low <= low.min() + (1 - _NEARLY) * gains[top])
        return Change(windows[bottom], windows[top], float(levels[bottom]), float(levels[top]))

    def since_start(self, name: str) -> Change:
        """The highest level against that of the first frames, for what has happened before a run is well under way."""
        first, after = Window(0, min(FIRST_FRAMES, self.frames)), self.change(name).after
        return Change(first, after, self.level(name, first), self.level(name, after))

    @property
    def run(self) -> Window:
        """All frames."""
        return Window(0, self.frames)

    def level(self, name: str, window: Window) -> float:
        """Median of a time (ms) or of a telemetry column in a window; NaN where it was not measured."""
        values = self.series.get(name, self.telemetry.get(name))
        return float("nan") if values is None else _median(values[window.first : window.end])

    def mean(self, name: str, window: Window) -> float:
        """Mean of a telemetry column in a window: of a flag, how much of the time it holds; NaN where unknown."""
        values = self.telemetry.get(name, np.empty(0))[window.first : window.end]
        known = values[np.isfinite(values)]
        return float(known.mean()) if len(known) else float("nan")

    def whole(self) -> str:
        """The series that stands for the whole frame as well as any that was measured."""
        return next((name for name in ("frame", "latency", "stages") if name in self.series), next(iter(self.series)))

    def evidence(self, what: str, value: float, unit: str, window: Window | None = None) -> Evidence:
        """One number, with the frames of a window, or of the whole run."""
        window = window or self.run
        return Evidence(what, float(value), unit, window.first, max(window.end - 1, 0))

    def both_sides(self, name: str, change: Change, unit: str = "ms", what: str = "") -> tuple[Evidence, ...]:
        """The level of a series or of telemetry before and after; nothing where it is unknown. Bytes become "GB"."""
        windows = sorted((change.before, change.after), key=lambda window: window.first)
        levels = [
            (side, window, self.level(name, window)) for side, window in zip(("before", "after"), windows, strict=True)
        ]
        return tuple(
            self.evidence(
                f"{what or _LABELS.get(name, name)} {side}", value / (1e9 if unit == "GB" else 1), unit, window
            )
            for side, window, value in levels
            if np.isfinite(value)
        )


def _median(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _middle(chosen: np.ndarray) -> int:
    """The middle one of those positions that are true."""
    positions = np.flatnonzero(chosen)
    return int(positions[len(positions) // 2])
