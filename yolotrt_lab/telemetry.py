"""What the GPU says of itself while a loop runs: clocks, power, temperature, PCIe link, throttle reasons, neighbours.

    with Telemetry(device) as telemetry:
        recording = loop.run()
    columns = telemetry.columns(recording.columns["done_ns"])

On a GPU a thread of its own asks NVML ten times a second. The simulated device is asked for its state at the same
intervals of virtual time once the run is over. A GPU that does not tell something, or no NVML, makes NaN, no error.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from .errors import MissingPackageError, SettingsError
from .packages import load
from .types import TELEMETRY_COLUMNS, THROTTLE_REASONS

INTERVAL_NS = 100_000_000
"""Ten samples a second."""

_NAN = float("nan")
_STATM = Path("/proc/self/statm")


class SampledDevice(Protocol):
    """A device of the lab; one whose `kind` is 'simulated' also has `telemetry(times_ns)`, a GPU its `ordinal`."""

    kind: Any

    def now_ns(self) -> int:
        """The host's clock."""


class Nvml:
    """One GPU as NVML sees it. `bus_id` is its PCI bus id: ordinals of CUDA and NVML need not be the same.

    Whatever fails, from loading NVML to a single field, makes NaN.
    """

    def __init__(self, bus_id: str) -> None:
        self._nvml: Any = None
        self._handle: Any = None
        with suppress(Exception):  # NVML raises errors of its own, and none is worth failing for
            nvml = load("pynvml", needed_for="telemetry")
            nvml.nvmlInit()
            self._nvml = nvml
            self._handle = nvml.nvmlDeviceGetHandleByPciBusId(bus_id)

    def close(self) -> None:
        """`nvmlShutdown`."""
        if self._nvml is not None:
            with suppress(Exception):
                self._nvml.nvmlShutdown()

    def sample(self) -> dict[str, float]:
        """`TELEMETRY_COLUMNS` now."""
        values = dict.fromkeys(TELEMETRY_COLUMNS, _NAN)
        if self._handle is not None:
            for name, read in _READERS.items():
                with suppress(Exception):
                    values[name] = float(read(self._nvml, self._handle))
            with suppress(Exception):
                values |= _throttling(self._nvml, self._handle)
        values["host_memory_bytes"] = host_memory_bytes()
        return values


_READERS: dict[str, Callable[[Any, Any], float]] = {
    "sm_clock_mhz": lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM),
    "memory_clock_mhz": lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM),
    "power_w": lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1e3,
    "temperature_c": lambda nvml, gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
    "pcie_generation": lambda nvml, gpu: nvml.nvmlDeviceGetCurrPcieLinkGeneration(gpu),
    "pcie_width": lambda nvml, gpu: nvml.nvmlDeviceGetCurrPcieLinkWidth(gpu),
    "gpu_utilisation_percent": lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu,
    "gpu_memory_used_bytes": lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
    "gpu_processes": lambda nvml, gpu: _other_processes(nvml.nvmlDeviceGetComputeRunningProcesses(gpu)),
}


def _other_processes(running: list[Any]) -> float:
    """How many processes of the list are not this one; NaN for an empty list, since this one is on the GPU.

    Inside a container NVML may use the host's process ids; then this process is one of those that it can't find.
    """
    if not running:
        return _NAN
    return len(running) - 1


def _throttling(nvml: Any, gpu: Any) -> dict[str, float]:
    """1 or 0 for each reason that this NVML has a name for; drivers since 535 say 'event' for 'throttle'."""
    ask = getattr(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", None)
    bits = int((ask or nvml.nvmlDeviceGetCurrentClocksEventReasons)(gpu))
    flags = {}
    for reason in THROTTLE_REASONS:
        name = "".join(word.capitalize() for word in reason.split("_"))
        bit = getattr(nvml, f"nvmlClocksThrottleReason{name}", getattr(nvml, f"nvmlClocksEventReason{name}", None))
        if bit is not None:
            flags[f"throttle_{reason}"] = float(bits & bit != 0)
    return flags


class _Samples:
    """Samples with the time at which each was complete."""

    def __init__(self, times_ns: np.ndarray, values: dict[str, np.ndarray]) -> None:
        self.times_ns = times_ns
        self.values = values

    def at(self, times_ns: np.ndarray) -> dict[str, np.ndarray]:
        """The latest sample at or before each time; NaN before the first."""
        rows = np.searchsorted(self.times_ns, times_ns, side="right") - 1
        return {name: np.append(values, _NAN)[rows] for name, values in self.values.items()}


class Telemetry:
    """Samples a device from `__enter__` to `__exit__`, every `interval_ns`; entered again, it begins anew.

    SettingsError for no positive interval.
    """

    def __init__(self, device: SampledDevice, *, interval_ns: int = INTERVAL_NS) -> None:
        if interval_ns <= 0:
            raise SettingsError(f"a sample every {interval_ns} ns", fix="use a positive interval")
        self._device = device
        self._interval_ns = interval_ns
        self._begin_ns = 0
        self._samples = _Samples(np.empty(0, np.int64), {name: np.empty(0) for name in TELEMETRY_COLUMNS})
        self._rows: list[tuple[int, dict[str, float]]] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Telemetry:
        self._begin_ns = self._device.now_ns()
        self._rows = []
        self._stop.clear()
        if self._device.kind != "simulated":
            self._nvml = Nvml(_bus_id(self._device))
            self._sample()  # the first one takes milliseconds, which no frame should wait for
            self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._thread is None:
            times = np.arange(self._begin_ns, self._device.now_ns() + 1, self._interval_ns)
            self._samples = _Samples(times, self._device.telemetry(times))  # type: ignore[attr-defined]
            return
        self._stop.set()
        self._thread.join()
        self._nvml.close()
        times = np.array([time for time, _ in self._rows], np.int64)
        names = TELEMETRY_COLUMNS
        self._samples = _Samples(times, {name: np.array([row[name] for _, row in self._rows]) for name in names})

    def _run(self) -> None:
        while not self._stop.wait(self._interval_ns / 1e9):
            self._sample()

    def _sample(self) -> None:
        values = self._nvml.sample()
        self._rows.append((self._device.now_ns(), values))

    @property
    def samples(self) -> dict[str, np.ndarray]:
        """All samples: `time_ns` on the device's clock, int64 (samples,), and `TELEMETRY_COLUMNS`, float64."""
        return {"time_ns": self._samples.times_ns, **self._samples.values}

    def columns(self, done_ns: np.ndarray) -> dict[str, np.ndarray]:
        """`TELEMETRY_COLUMNS` for frames that end at these times, float64 (frames,): the latest sample at each end."""
        return self._samples.at(done_ns)


def _bus_id(device: Any) -> str:
    """The PCI bus id of a CUDA device, which CUDA_VISIBLE_DEVICES does not change; '' where CuPy does not tell."""
    try:
        return str(load("cupy", needed_for="telemetry").cuda.runtime.deviceGetPCIBusId(device.ordinal))
    except MissingPackageError:
        return ""


def host_memory_bytes() -> float:
    """What this process has in physical memory (its resident or working set); NaN where the system does not tell."""
    if sys.platform == "win32":
        return _working_set_bytes()
    try:
        return float(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return _NAN


def _working_set_bytes() -> float:
    """`WorkingSetSize` of PROCESS_MEMORY_COUNTERS (psapi.h): the second SIZE_T of eight, after two DWORDs."""
    kernel32 = ctypes.windll.kernel32  # type: ignore[attr-defined]
    counters = (ctypes.c_size_t * 10)()
    kernel32.GetCurrentProcess.restype = ctypes.c_void_p
    process, size = ctypes.c_void_p(kernel32.GetCurrentProcess()), ctypes.sizeof(ctypes.c_size_t) * 9
    if not kernel32.K32GetProcessMemoryInfo(process, ctypes.byref(counters), ctypes.c_ulong(size)):
        return _NAN
    return float(counters[2])
