"""Telemetry: what the GPU says of itself while a loop runs (clocks, power, temperature, PCIe link, other processes)."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .device import Device
from .errors import MissingPackageError, plain, whole
from .packages import load
from .types import TELEMETRY_COLUMNS, THROTTLE_REASONS

INTERVAL_NS = 100_000_000
"""Ten samples a second."""

_NAN = float("nan")
_STATM = Path("/proc/self/statm")
_T = TypeVar("_T")


class Nvml:
    """NVML while it is open, and in it the GPU at a PCI bus id: its ordinal need not be that of CUDA.

    NVML raises errors of its own, and none is worth failing for: what it does not tell is NaN or a given answer.
    """

    def __init__(self, bus_id: str = "") -> None:
        self._bus_id = bus_id
        self._api: Any = None
        self._gpu: Any = None

    def __enter__(self) -> Nvml:
        with suppress(Exception):
            import pynvml

            pynvml.nvmlInit()
            self._api = pynvml
            self._gpu = pynvml.nvmlDeviceGetHandleByPciBusId(self._bus_id)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(Exception):
            self._api.nvmlShutdown()

    def ask(self, question: Callable[[Any, Any], _T], otherwise: _T) -> _T:
        """What `question` returns for the module `pynvml` and the GPU's handle (None if unknown), or `otherwise`."""
        try:
            return question(self._api, self._gpu)
        except Exception:
            return otherwise

    def sample(self) -> dict[str, float]:
        """`TELEMETRY_COLUMNS` now."""
        values = dict.fromkeys(TELEMETRY_COLUMNS, _NAN)
        if self._gpu is not None:
            for name, read in _READERS.items():
                with suppress(Exception):
                    values[name] = float(read(self._api, self._gpu))
            with suppress(Exception):
                values |= _throttling(self._api, self._gpu)
        return values | {"host_memory_bytes": host_memory_bytes()}


def _other_processes(nvml: Any, gpu: Any) -> float:
    """All that compute or draw but this one, which has another id if NVML is outside its container; NaN if NVML does
    not see this one.
    """
    computes = nvml.nvmlDeviceGetComputeRunningProcesses(gpu)
    draws = {each.pid for each in nvml.nvmlDeviceGetGraphicsRunningProcesses(gpu)} - {each.pid for each in computes}
    return len(computes) + len(draws) - 1 if computes else _NAN


_READERS: dict[str, Callable[[Any, Any], float]] = {
    "sm_clock_mhz": lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM),
    "sm_clock_max_mhz": lambda nvml, gpu: nvml.nvmlDeviceGetMaxClockInfo(gpu, nvml.NVML_CLOCK_SM),
    "memory_clock_mhz": lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM),
    "power_w": lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1e3,
    "temperature_c": lambda nvml, gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
    "pcie_generation": lambda nvml, gpu: nvml.nvmlDeviceGetCurrPcieLinkGeneration(gpu),
    "pcie_width": lambda nvml, gpu: nvml.nvmlDeviceGetCurrPcieLinkWidth(gpu),
    "gpu_utilisation_percent": lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu,
    "gpu_memory_used_bytes": lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
    "gpu_processes": _other_processes,
}


def _throttling(nvml: Any, gpu: Any) -> dict[str, float]:
    """1 or 0 for each reason that this NVML has a name for; drivers since 535 say 'event' for 'throttle'."""
    ask = getattr(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", None)
    bits = int((ask or nvml.nvmlDeviceGetCurrentClocksEventReasons)(gpu))
    flags = {}
    for reason in THROTTLE_REASONS:
        name = reason.title().replace("_", "")
        bit = getattr(nvml, f"nvmlClocksThrottleReason{name}", getattr(nvml, f"nvmlClocksEventReason{name}", None))
        if bit is not None:
            flags[f"throttle_{reason}"] = float(bits & bit != 0)
    return flags


def driver_version() -> str:
    """The version of the NVIDIA driver, such as '580.159.04'; '' if NVML does not tell (Jetson, some containers)."""
    with Nvml() as nvml:
        return nvml.ask(lambda api, _: _text(api.nvmlSystemGetDriverVersion()), "")


def _text(value: str | bytes) -> str:
    """Bytes as older versions of nvidia-ml-py give them, and no more than a version."""
    return plain(value if isinstance(value, str) else value.decode("utf-8", "replace"))[:40]


def bus_id(device: Device) -> str:
    """The PCI bus id of a CUDA device, which CUDA_VISIBLE_DEVICES does not change; '' if CuPy is not installed."""
    try:
        runtime = load("cupy", needed_for="telemetry").cuda.runtime
    except MissingPackageError:
        return ""
    return str(runtime.deviceGetPCIBusId(getattr(device, "ordinal", 0)))


class Telemetry:
    """Samples a device every `interval_ns` inside a `with` block: a GPU through NVML, by a thread of its own.

    The simulated device tells afterwards what it was like at these times. NaN stands for what a GPU does not tell.
    SettingsError if the interval is not positive.

    >>> import yolotrt_lab as lab
    >>> device = lab.open_device("simulated")
    >>> device.use(lab.Conditions())
    >>> with Telemetry(device) as telemetry:
    ...     device.wait_until_ns(250_000_000)
    >>> telemetry.samples["time_ns"].tolist()
    [0, 100000000, 200000000]
    >>> telemetry.columns(done_ns=np.array([150_000_000]))["gpu_processes"]
    array([0.])
    """

    def __init__(self, device: Device, *, interval_ns: int = INTERVAL_NS) -> None:
        interval_ns = whole("interval_ns", interval_ns, 1)
        self.samples = {"time_ns": np.empty(0, np.int64)} | dict.fromkeys(TELEMETRY_COLUMNS, np.empty(0))
        """`time_ns` on the device's clock, int64 (samples,), and `TELEMETRY_COLUMNS`, float64 (samples,)."""
        self._device = device
        self._interval_ns = interval_ns
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Telemetry:
        self._start_ns = self._device.now_ns()
        self._rows: list[tuple[int, dict[str, float]]] = []
        self._stop.clear()
        if self._device.telemetry(np.empty(0, np.int64)) is None:
            ready, bus = threading.Event(), bus_id(self._device)
            self._thread = threading.Thread(target=self._run, args=(bus, ready), name="telemetry", daemon=True)
            self._thread.start()
            ready.wait()  # the first sample takes milliseconds, for which no frame should wait
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is None:
            times = np.arange(self._start_ns, self._device.now_ns() + 1, self._interval_ns)
            self.samples = {"time_ns": times, **(self._device.telemetry(times) or {})}
            return
        self._stop.set()
        self._thread.join()
        self.samples = {"time_ns": np.array([time for time, _ in self._rows], np.int64)}
        self.samples |= {name: np.array([row[name] for _, row in self._rows]) for name in TELEMETRY_COLUMNS}

    def _run(self, bus: str, ready: threading.Event) -> None:
        with Nvml(bus) as nvml:
            while True:
                values = nvml.sample()
                self._rows.append((self._device.now_ns(), values))
                ready.set()
                if self._stop.wait(self._interval_ns / 1e9):
                    return

    def columns(self, done_ns: np.ndarray) -> dict[str, np.ndarray]:
        """`TELEMETRY_COLUMNS` at the ends of frames, float64 (frames,): the latest sample, NaN before the first."""
        rows = np.searchsorted(self.samples["time_ns"], done_ns, side="right") - 1
        return {name: np.append(self.samples[name], _NAN)[rows] for name in TELEMETRY_COLUMNS}


def host_memory_bytes() -> float:
    """What this process has in physical memory (its resident or working set); NaN if the system does not tell."""
    if sys.platform == "win32":
        # `WorkingSetSize` of PROCESS_MEMORY_COUNTERS (psapi.h): the second SIZE_T of eight, after two DWORDs
        kernel32, counters = ctypes.windll.kernel32, (ctypes.c_size_t * 10)()
        kernel32.GetCurrentProcess.restype = ctypes.c_void_p
        process, size = ctypes.c_void_p(kernel32.GetCurrentProcess()), ctypes.sizeof(ctypes.c_size_t) * 9
        told = kernel32.K32GetProcessMemoryInfo(process, ctypes.byref(counters), ctypes.c_ulong(size))
        return float(counters[2]) if told else _NAN
    try:
        return float(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return _NAN
