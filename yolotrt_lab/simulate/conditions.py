"""What changes while a simulated device runs: clocks, heat, neighbours on the same GPU, and what they do to its work.

Neighbours take turns with this process: once its work has run dry, or its time slice is over, each of them has the GPU
for a turn before this process has it again. How long they have it altogether, by their number, is fitted to measured
waits and lies in the preset (`NeighbourCost`). Nobody measured a clock governor or a heat sink for the lab: `Clocks`,
`Heat` and `Card` are assumptions, good for the shape of what they cause and not for its size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..errors import SettingsError
from ..types import TELEMETRY_COLUMNS, THROTTLE_REASONS
from .preset import NeighbourCost
from .timeline import COMPUTE_ENGINE, UPLOAD_ENGINE

TICK_NS = 20_000_000
"""Governor, temperature and telemetry go on in steps of this length."""

_AVERAGED_TICKS = 10


@dataclass(frozen=True, slots=True)
class Clocks:
    """A governor: a GPU that is busy for less than `idle_below` of the time goes from its full clock to `idle_share` of
    it within `down_s`, one that is busy for more than `busy_above` comes up again within `up_s`, every 20 ms a step. It
    begins at `start_share` of the full clock. All of it is assumed.
    """

    idle_share: float = 0.2
    down_s: float = 10.0
    up_s: float = 0.6
    idle_below: float = 0.1
    busy_above: float = 0.2
    start_share: float = 1.0


@dataclass(frozen=True, slots=True)
class Heat:
    """A heat sink: the temperature goes, with `time_constant_s`, to where `Card.ambient_c` and the power would bring
    it, which is `full_c` for a GPU that is always busy at its full clock. Above `limit_c` the clock is lower by
    `share_per_degree` of the full one for each degree. All of it is assumed.
    """

    full_c: float = 110.0
    limit_c: float = 85.0
    time_constant_s: float = 10.0
    share_per_degree: float = 0.05


@dataclass(frozen=True, slots=True)
class Card:
    """What telemetry says of the card besides what is simulated. Assumed, in the order of an H200's figures."""

    sm_clock_mhz: float = 1980.0
    memory_clock_mhz: float = 3201.0
    idle_power_w: float = 75.0
    busy_power_w: float = 450.0
    ambient_c: float = 30.0
    full_c: float = 60.0
    pcie_generation: float = 5.0
    pcie_width: float = 16.0
    base_memory_bytes: float = 700e6
    neighbour_memory_bytes: float = 700e6
    base_host_bytes: float = 400e6


@dataclass(slots=True)
class Conditions:
    """The conditions of a simulated device: how many `neighbours` (other processes that keep the GPU busy) it begins
    with, `host_factor`, by which the host's own work is stretched (it may be changed at any time), and its hardware.
    SettingsError for a negative number of neighbours or a factor that is not positive.
    """

    neighbours: int = 0
    host_factor: float = 1.0
    clocks: Clocks | None = None
    heat: Heat | None = None
    card: Card = field(default_factory=Card)

    def __post_init__(self) -> None:
        if self.neighbours < 0 or not self.host_factor > 0:
            raise SettingsError(
                f"neighbours={self.neighbours}, host_factor={self.host_factor}",
                fix="use 0 neighbours or more, and a positive factor",
            )


class State:
    """Where conditions have brought the device. It takes every piece of the GPU's work, in order, and says how long it
    takes (`elapsed`), and it keeps what telemetry would have read every 20 ms.

    `memory` gives the bytes of device memory and of host memory that the program holds. SettingsError for neighbours
    on a machine for which nobody measured what they cost.
    """

    def __init__(
        self, conditions: Conditions, cost: NeighbourCost | None, begin_ns: int, memory: Callable[[], tuple[int, int]]
    ) -> None:
        self.conditions = conditions
        self._cost = cost
        self.set_neighbours(conditions.neighbours)
        self._memory = memory
        self._next_tick = begin_ns
        self._busy_ns = 0
        self._busy_share = 0.0
        clocks, heat = conditions.clocks, conditions.heat
        self._level = clocks.start_share if clocks else 1.0
        self._cap = 1.0
        self._temperature = conditions.card.ambient_c if heat else conditions.card.full_c
        self._slice_begin = self._released_at = begin_ns
        self._history: list[tuple[float, ...]] = []

    def set_neighbours(self, count: int) -> None:
        """From now on so many of them."""
        if count:
            self._measured()
        self.conditions.neighbours = count

    def elapsed(self, engine: int, start: int, duration: int) -> int:
        """From `start`, when the engine takes up work that would take `duration`, to the end of that work."""
        if start >= self._next_tick:
            self.tick_until(start)
        if engine == COMPUTE_ENGINE:
            clock = min(self._level, self._cap)
            if clock < 1.0:
                duration = int(duration / clock)
            self._busy_ns += duration
            if self.conditions.neighbours:
                return self._in_turns(start, duration)
        elif engine == UPLOAD_ENGINE and self.conditions.neighbours:
            return int(duration * (1 + self._measured().upload_share * self.conditions.neighbours))
        return duration

    def call_ns(self) -> int:
        """How much longer a page-locked copy call holds the host."""
        return self._measured().call_ns * self.conditions.neighbours if self.conditions.neighbours else 0

    def _in_turns(self, start: int, duration: int) -> int:
        cost = self._measured()
        others_ns = cost.others_ns(self.conditions.neighbours)
        begin = start
        if start > self._released_at:
            turns = -(-(start - self._released_at) // others_ns)
            begin = self._slice_begin = self._released_at + turns * others_ns
        while begin + duration > self._slice_begin + cost.slice_ns:
            ran_ns = max(self._slice_begin + cost.slice_ns - begin, 0)
            duration -= ran_ns
            begin = self._slice_begin = begin + ran_ns + others_ns
        self._released_at = max(self._released_at, begin + duration)
        return begin + duration - start

    def _measured(self) -> NeighbourCost:
        if self._cost is None:
            raise SettingsError(
                "this preset does not say what neighbours on the GPU cost, which calibrate does not measure",
                fix="use preset 'h200', or no neighbours",
            )
        return self._cost

    # The governor, the heat sink, and what telemetry reads

    def tick_until(self, time_ns: int) -> None:
        """Let that time pass for the governor, the heat sink and telemetry."""
        while self._next_tick <= time_ns:
            self._tick()
            self._next_tick += TICK_NS

    def _tick(self) -> None:
        conditions = self.conditions
        busy_ns = min(self._busy_ns, TICK_NS)
        self._busy_ns -= busy_ns
        share = 1.0 if conditions.neighbours else busy_ns / TICK_NS
        self._busy_share += (share - self._busy_share) / _AVERAGED_TICKS
        if conditions.clocks is not None:
            self._govern(conditions.clocks)
        clock, card = min(self._level, self._cap), conditions.card
        power = card.idle_power_w + (card.busy_power_w - card.idle_power_w) * self._busy_share * clock**2
        if conditions.heat is not None:
            self._warm(conditions.heat, power)
        self._keep(clock, power)

    def _govern(self, clocks: Clocks) -> None:
        reach = (1.0 - clocks.idle_share) * TICK_NS / 1e9
        if self._busy_share < clocks.idle_below:
            self._level = max(self._level - reach / clocks.down_s, clocks.idle_share)
        elif self._busy_share > clocks.busy_above:
            self._level = min(self._level + reach / clocks.up_s, 1.0)

    def _warm(self, heat: Heat, power: float) -> None:
        card = self.conditions.card
        goal = card.ambient_c + (heat.full_c - card.ambient_c) * power / card.busy_power_w
        self._temperature += (goal - self._temperature) * TICK_NS / 1e9 / heat.time_constant_s
        too_hot = max(self._temperature - heat.limit_c, 0.0)
        self._cap = max(1.0 - heat.share_per_degree * too_hot, 0.1)

    def _keep(self, clock: float, power: float) -> None:
        neighbours, card = self.conditions.neighbours, self.conditions.card
        device_bytes, host_bytes = self._memory()
        clocks = self.conditions.clocks
        idle = clocks is not None and self._level < 1.0 and self._busy_share <= clocks.busy_above
        self._history.append(
            (
                *(self._next_tick, card.sm_clock_mhz * clock, power, self._temperature, 100 * self._busy_share),
                card.base_memory_bytes + device_bytes + neighbours * card.neighbour_memory_bytes,
                *(neighbours, card.base_host_bytes + host_bytes, idle, self._cap < 1.0),
            )
        )

    def telemetry(self, times_ns: np.ndarray) -> dict[str, np.ndarray]:
        """`TELEMETRY_COLUMNS` at these times, float64 (times,); NaN before the conditions began."""
        if len(times_ns):
            self.tick_until(int(times_ns[-1]))
        names = ("sm_clock_mhz", "power_w", "temperature_c", "gpu_utilisation_percent", "gpu_memory_used_bytes")
        names += ("gpu_processes", "host_memory_bytes", "throttle_gpu_idle", "throttle_sw_thermal_slowdown")
        history = np.array(self._history, np.float64).reshape(-1, 1 + len(names))
        latest = np.searchsorted(history[:, 0], times_ns, side="right") - 1
        card = self.conditions.card
        read = {f"throttle_{reason}": np.zeros(len(history)) for reason in THROTTLE_REASONS}
        for name in ("memory_clock_mhz", "pcie_generation", "pcie_width"):
            read[name] = np.full(len(history), getattr(card, name))
        read |= {name: history[:, column] for column, name in enumerate(names, 1)}
        return {name: _taken(read[name], latest) for name in TELEMETRY_COLUMNS}


def _taken(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`values[rows]`, NaN where the row is -1."""
    return np.append(values, np.nan)[rows]
