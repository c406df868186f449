"""What changes while a simulated device runs: clocks, heat, other processes on its GPU, and what they do to its work.

Other processes take turns with this one: once its work has run dry, or its time slice is over, each of them has the GPU
for a turn before this process has it again. How long they have it altogether, by their number, is fitted to measured
waits (`OtherProcessesCost` in the preset), and so is how much longer uploads, enqueues and the host's own work take.
Nobody measured a clock governor or a heat sink for the lab: `Clocks` and `Heat` are assumptions, good for the shape of
what they cause and not for its size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import SettingsError
from ..types import TELEMETRY_COLUMNS
from .preset import OtherProcessesCost, by_count
from .timeline import COMPUTE_ENGINE, DOWNLOAD_ENGINE, DRIVER, UPLOAD_ENGINE

TICK_NS = 20_000_000
"""The step of the governor, the temperature and telemetry."""

_AVERAGED_TICKS = 10

# What telemetry says of the card besides what is simulated: assumed, in the order of an H200's figures
_SM_CLOCK_MHZ, _MEMORY_CLOCK_MHZ = 1980.0, 3201.0
_IDLE_POWER_W, _BUSY_POWER_W = 75.0, 450.0
_AMBIENT_C, _WARM_C = 30.0, 60.0  # the second where no `Heat` is simulated
_PCIE_GENERATION, _PCIE_WIDTH = 5.0, 16.0
_PROCESS_BYTES = 700e6  # of device memory, for this process and for each other one
_HOST_BYTES = 400e6
_COPYING = (UPLOAD_ENGINE, DRIVER, DOWNLOAD_ENGINE)


@dataclass(frozen=True, slots=True)
class Clocks:
    """An assumed governor, which lowers the clock of a GPU that idles.

    >>> Conditions(clocks=Clocks(idle_share=0.5)).clocks.idle_share
    0.5
    """

    idle_share: float = 0.2
    """The clock of an idle GPU, as a share of the full one. It falls there within `down_s`, and rises within `up_s`."""
    down_s: float = 10.0
    up_s: float = 0.6
    idle_below: float = 0.1
    """The clock falls while the GPU is busy for less than this share of the time, and rises above `busy_above`."""
    busy_above: float = 0.2
    start_share: float = 1.0
    copies_share: float = 0.0
    """Copies lose this share of what the clock loses: 0 none of it, 1 as much as kernels. With the SM clock alone they
    lose nothing; where the memory clock and the PCIe link step down too, nobody measured how much for the lab."""


@dataclass(frozen=True, slots=True)
class Heat:
    """An assumed heat sink, and the clock of a GPU that is too hot.

    >>> Conditions(heat=Heat(limit_c=80)).heat.limit_c
    80
    """

    full_c: float = 110.0
    """The temperature of a GPU that is always busy at its full clock."""
    limit_c: float = 85.0
    time_constant_s: float = 10.0
    share_per_degree: float = 0.05
    """The clock is lower by this share of the full one for each degree above `limit_c`."""


@dataclass(slots=True)
class Conditions:
    """The conditions that a simulated device runs under. SettingsError for values that cannot be.

    >>> from yolotrt_lab import open_device
    >>> device = open_device("simulated")
    >>> device.use(Conditions(other_processes=2))
    >>> device.telemetry([device.now_ns()])["gpu_processes"]
    array([2.])
    """

    other_processes: int = 0
    """Other processes that keep the GPU busy, to start with (`SimulatedDevice.set_other_processes`)."""
    host_factor: float = 1.0
    """The host's own work takes so many times as long. It may be changed at any time."""
    clocks: Clocks | None = None
    heat: Heat | None = None

    def __post_init__(self) -> None:
        if self.other_processes < 0 or not self.host_factor > 0:
            raise SettingsError(
                "other_processes must be 0 or more and host_factor positive, "
                f"got {self.other_processes} and {self.host_factor}",
                fix="use 0 other processes or more, and 1 for a host at its own speed",
            )


class State:
    """Where conditions have brought the device: how long each piece of its work takes, and what telemetry has read.

    It is told every piece of the GPU's work in order (`elapsed`). `memory` gives the bytes of device memory and of host
    memory that the program holds. SettingsError for other processes where the preset has no `cost` of them.
    """

    def __init__(
        self,
        conditions: Conditions,
        cost: OtherProcessesCost | None,
        begin_ns: int,
        memory: Callable[[], tuple[int, int]],
    ) -> None:
        self.conditions = conditions
        self._cost = cost or OtherProcessesCost({}, 0, 0, "")
        self.set_other_processes(conditions.other_processes)
        self._memory = memory
        self._next_tick = begin_ns
        self._busy_ns = 0
        self._busy_share = 0.0
        self._level = conditions.clocks.start_share if conditions.clocks else 1.0
        self._cap = 1.0
        self._temperature = _AMBIENT_C if conditions.heat else _WARM_C
        self._slice_begin = self._released_at = begin_ns
        self._ticks: list[int] = []
        self._readings: list[dict[str, float]] = []

    def set_other_processes(self, count: int) -> None:
        """From now on so many other processes are on the GPU."""
        if count and not self._cost.turns_ns:
            raise SettingsError(
                "this preset does not say what other processes on the GPU cost, which calibrate does not measure",
                fix="use preset 'h200', or no other processes",
            )
        self.conditions.other_processes = count
        cost = self._cost
        self._upload_times = by_count(cost.upload_times, count)
        self._enqueue_times = by_count(cost.enqueue_times, count)
        self._host_work_times = by_count(cost.host_work_times, count)
        self._others_ns = int(by_count(cost.turns_ns, count, 0))

    def elapsed(self, engine: int, start: int, duration: int) -> int:
        """From `start`, when the engine takes up work that would take `duration`, to the end of that work."""
        if start >= self._next_tick:
            self.tick_until(start)
        others = self.conditions.other_processes
        if engine == COMPUTE_ENGINE:
            clock = min(self._level, self._cap)
            if clock < 1.0:
                duration = int(duration / clock)
            self._busy_ns += duration
            return self._in_turns(start, duration) if others else duration
        return self._copy_ns(engine, duration)

    def _copy_ns(self, engine: int, duration: int) -> int:
        """How long a copy takes that would take `duration`."""
        clocks = self.conditions.clocks
        if engine not in _COPYING:
            return duration
        if clocks is not None and clocks.copies_share:
            duration = int(duration / (1 - clocks.copies_share * (1 - min(self._level, self._cap))))
        return duration if engine == DOWNLOAD_ENGINE else int(duration * self._upload_times)

    def call_ns(self) -> int:
        """How much longer a page-locked copy call blocks the host."""
        return self._cost.call_ns * self.conditions.other_processes

    def enqueue_ns(self, duration: int) -> int:
        """How long an enqueue blocks the host that would block it for `duration`."""
        return int(duration * self._enqueue_times)

    def host_work_ns(self, duration: int) -> int:
        """How long the host's own work takes that would take `duration`."""
        return int(duration * self.conditions.host_factor * self._host_work_times)

    def _in_turns(self, start: int, duration: int) -> int:
        """`elapsed` beside others: work waits for the turn of this process, and each end of a slice interrupts it."""
        slice_ns, others_ns = self._cost.slice_ns, self._others_ns
        begin = start
        if start > self._released_at:
            turns = -(-(start - self._released_at) // others_ns)
            begin = self._slice_begin = self._released_at + turns * others_ns
        while begin + duration > self._slice_begin + slice_ns:
            ran_ns = max(self._slice_begin + slice_ns - begin, 0)
            duration -= ran_ns
            begin = self._slice_begin = begin + ran_ns + others_ns
        self._released_at = max(self._released_at, begin + duration)
        return begin + duration - start

    def tick_until(self, time_ns: int) -> None:
        """Let the governor, the heat sink and telemetry go on until then."""
        while self._next_tick <= time_ns:
            self._tick()
            self._next_tick += TICK_NS

    def _tick(self) -> None:
        conditions = self.conditions
        busy_ns = min(self._busy_ns, TICK_NS)
        self._busy_ns -= busy_ns
        share = 1.0 if conditions.other_processes else busy_ns / TICK_NS
        self._busy_share += (share - self._busy_share) / _AVERAGED_TICKS
        if conditions.clocks is not None:
            self._govern(conditions.clocks)
        clock = min(self._level, self._cap)
        power = _IDLE_POWER_W + (_BUSY_POWER_W - _IDLE_POWER_W) * self._busy_share * clock**2
        if conditions.heat is not None:
            self._warm(conditions.heat, power)
        self._read(clock, power)

    def _govern(self, clocks: Clocks) -> None:
        reach = (1.0 - clocks.idle_share) * TICK_NS / 1e9
        if self._busy_share < clocks.idle_below:
            self._level = max(self._level - reach / clocks.down_s, clocks.idle_share)
        elif self._busy_share > clocks.busy_above:
            self._level = min(self._level + reach / clocks.up_s, 1.0)

    def _warm(self, heat: Heat, power: float) -> None:
        goal = _AMBIENT_C + (heat.full_c - _AMBIENT_C) * power / _BUSY_POWER_W
        self._temperature += (goal - self._temperature) * TICK_NS / 1e9 / heat.time_constant_s
        too_hot = max(self._temperature - heat.limit_c, 0.0)
        self._cap = max(1.0 - heat.share_per_degree * too_hot, 0.1)

    def _read(self, clock: float, power: float) -> None:
        """Keep what telemetry reads now."""
        clocks, others = self.conditions.clocks, self.conditions.other_processes
        device_bytes, host_bytes = self._memory()
        self._ticks.append(self._next_tick)
        self._readings.append(
            {
                "sm_clock_mhz": _SM_CLOCK_MHZ * clock,
                "sm_clock_max_mhz": _SM_CLOCK_MHZ,
                "memory_clock_mhz": _MEMORY_CLOCK_MHZ,
                "power_w": power,
                "temperature_c": self._temperature,
                "pcie_generation": _PCIE_GENERATION,
                "pcie_width": _PCIE_WIDTH,
                "gpu_utilisation_percent": 100 * self._busy_share,
                "gpu_memory_used_bytes": device_bytes + (1 + others) * _PROCESS_BYTES,
                "gpu_processes": others,
                "host_memory_bytes": _HOST_BYTES + host_bytes,
                "throttle_gpu_idle": clocks is not None and self._level < 1.0 and self._busy_share <= clocks.busy_above,
                "throttle_sw_thermal_slowdown": self._cap < 1.0,
            }
        )

    def telemetry(self, times_ns: np.ndarray) -> dict[str, np.ndarray]:
        """`TELEMETRY_COLUMNS` at these times, float64 (times,); NaN before the conditions started."""
        if len(times_ns):
            self.tick_until(int(times_ns[-1]))
        latest = np.searchsorted(self._ticks, times_ns, side="right") - 1
        told = {name: [reading.get(name, 0.0) for reading in self._readings] for name in TELEMETRY_COLUMNS}
        return {name: np.array([*values, np.nan])[latest] for name, values in told.items()}  # NaN is at -1
