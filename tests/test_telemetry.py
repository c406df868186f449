"""Telemetry: an NVML that is whole, one that refuses, and none; samples beside frames; the simulated device's."""

from __future__ import annotations

import os
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from yolotrt_lab import telemetry
from yolotrt_lab.errors import SettingsError
from yolotrt_lab.simulate.conditions import Conditions
from yolotrt_lab.telemetry import Nvml, Telemetry, host_memory_bytes
from yolotrt_lab.types import TELEMETRY_COLUMNS, THROTTLE_REASONS

BUS_ID = "0000:65:00.0"
TOLD = {
    "sm_clock_mhz": 1_980,
    "memory_clock_mhz": 2_619,
    "power_w": 418.641,
    "temperature_c": 45,
    "pcie_generation": 5,
    "pcie_width": 16,
    "gpu_utilisation_percent": 99,
    "gpu_memory_used_bytes": 2_420_000_000,
    "gpu_processes": 2,
}


class Refused(Exception):
    """What NVML raises."""


def fake_nvml(*, missing=(), refused=(), processes=(11, 12, 13), reasons=0b101):
    """NVML of one GPU at `BUS_ID`: without the functions in `missing`, and with those in `refused` raising."""
    calls = []

    def handle(bus_id):
        if bus_id != BUS_ID:
            raise Refused(bus_id)
        return "the GPU"

    answers = {
        "nvmlInit": lambda: calls.append("init"),
        "nvmlShutdown": lambda: calls.append("shutdown"),
        "nvmlDeviceGetHandleByPciBusId": handle,
        "nvmlDeviceGetClockInfo": lambda gpu, kind: {1: 1_980, 2: 2_619}[kind],
        "nvmlDeviceGetPowerUsage": lambda gpu: 418_641,
        "nvmlDeviceGetTemperature": lambda gpu, kind: {0: 45}[kind],
        "nvmlDeviceGetCurrPcieLinkGeneration": lambda gpu: 5,
        "nvmlDeviceGetCurrPcieLinkWidth": lambda gpu: 16,
        "nvmlDeviceGetUtilizationRates": lambda gpu: SimpleNamespace(gpu=99, memory=3),
        "nvmlDeviceGetMemoryInfo": lambda gpu: SimpleNamespace(used=2_420_000_000),
        "nvmlDeviceGetComputeRunningProcesses": lambda gpu: [SimpleNamespace(pid=pid) for pid in processes],
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda gpu: reasons,
    }

    def refuse(*_):
        raise Refused("Not Supported")

    answers = {name: refuse if name in refused else answer for name, answer in answers.items() if name not in missing}
    constants = {
        "NVML_CLOCK_SM": 1,
        "NVML_CLOCK_MEM": 2,
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlClocksThrottleReasonGpuIdle": 0b001,
        "nvmlClocksThrottleReasonSwPowerCap": 0b100,
        "nvmlClocksThrottleReasonHwSlowdown": 0b1000,
    }
    return SimpleNamespace(calls=calls, **answers, **constants)


class FakeGpu:
    """A device that is no simulation."""

    kind = "cuda"
    ordinal = 3

    def now_ns(self):
        return time.perf_counter_ns()


@pytest.fixture
def nvml(monkeypatch):
    """Put a fake NVML in the place of the real one, and a CuPy that knows where ordinal 3 is."""

    def install(**settings):
        fake = fake_nvml(**settings)
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        return fake

    runtime = SimpleNamespace(deviceGetPCIBusId={3: BUS_ID}.__getitem__)
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=SimpleNamespace(runtime=runtime)))
    return install


def test_sample_holds_what_nvml_says_in_the_lab_s_units(nvml):
    nvml()
    sample = Nvml(BUS_ID).sample()
    assert tuple(sample) == TELEMETRY_COLUMNS
    assert {name: sample[name] for name in TOLD} == TOLD
    assert sample["host_memory_bytes"] > 0


def test_throttle_reasons_go_by_their_names_and_those_without_one_are_not_guessed(nvml):
    nvml(reasons=0b101)
    sample = Nvml(BUS_ID).sample()
    told = {reason: sample[f"throttle_{reason}"] for reason in THROTTLE_REASONS}
    assert (told.pop("gpu_idle"), told.pop("sw_power_cap"), told.pop("hw_slowdown")) == (1, 1, 0)
    assert all(np.isnan(value) for value in told.values())


def test_drivers_that_say_event_for_throttle_are_understood(nvml):
    fake = nvml(missing=["nvmlDeviceGetCurrentClocksThrottleReasons"])
    fake.nvmlDeviceGetCurrentClocksEventReasons = lambda gpu: 0b10
    fake.nvmlClocksEventReasonSyncBoost = 0b10
    sample = Nvml(BUS_ID).sample()
    assert (sample["throttle_sync_boost"], sample["throttle_gpu_idle"]) == (1, 0)


def test_real_nvml_has_a_name_for_every_reason():
    """The installed package, which needs no GPU for that."""
    pynvml = pytest.importorskip("pynvml")
    pynvml_names = dir(pynvml)
    for reason in THROTTLE_REASONS:
        name = "".join(word.capitalize() for word in reason.split("_"))
        assert f"nvmlClocksThrottleReason{name}" in pynvml_names or f"nvmlClocksEventReason{name}" in pynvml_names


@pytest.mark.parametrize("how", ["missing", "refused"])
@pytest.mark.parametrize(
    ("function", "lost"),
    [
        ("nvmlDeviceGetPowerUsage", {"power_w"}),
        ("nvmlDeviceGetClockInfo", {"sm_clock_mhz", "memory_clock_mhz"}),
        ("nvmlDeviceGetComputeRunningProcesses", {"gpu_processes"}),
        ("nvmlDeviceGetCurrentClocksThrottleReasons", {f"throttle_{reason}" for reason in THROTTLE_REASONS}),
        ("nvmlDeviceGetHandleByPciBusId", set(TELEMETRY_COLUMNS) - {"host_memory_bytes"}),
        ("nvmlInit", set(TELEMETRY_COLUMNS) - {"host_memory_bytes"}),
    ],
)
def test_field_that_the_gpu_does_not_tell_is_nan_and_costs_no_other(nvml, how, function, lost):
    nvml(**{how: [function]})
    sample = Nvml(BUS_ID).sample()
    assert tuple(sample) == TELEMETRY_COLUMNS
    unknown = {"throttle_applications_clocks_setting", "throttle_sync_boost", "throttle_display_clock_setting"}
    unknown |= {name for name in TELEMETRY_COLUMNS if name.endswith(("thermal_slowdown", "brake_slowdown"))}
    assert {name for name, value in sample.items() if np.isnan(value)} == lost | unknown


def test_field_that_is_none_is_nan(nvml):
    fake = nvml()
    fake.nvmlDeviceGetMemoryInfo = lambda gpu: SimpleNamespace(used=None)
    assert np.isnan(Nvml(BUS_ID).sample()["gpu_memory_used_bytes"])


def test_without_nvml_everything_of_the_gpu_is_nan(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    nvml = Nvml(BUS_ID)
    sample = nvml.sample()
    nvml.close()
    assert [name for name, value in sample.items() if not np.isnan(value)] == ["host_memory_bytes"]


@pytest.mark.parametrize(("processes", "others"), [((os.getpid(),), 0), ((os.getpid(), 7), 1), ((7, 8, 9), 2)])
def test_this_process_is_none_of_its_neighbours(nvml, processes, others):
    nvml(processes=processes)
    assert Nvml(BUS_ID).sample()["gpu_processes"] == others


def test_empty_list_of_processes_tells_nothing_since_this_one_is_on_the_gpu(nvml):
    nvml(processes=())
    assert np.isnan(Nvml(BUS_ID).sample()["gpu_processes"])


def test_gpu_is_found_by_its_bus_id_and_not_by_its_ordinal(nvml):
    fake = nvml()
    with Telemetry(FakeGpu()) as sampled:
        pass
    assert sampled.samples["power_w"].tolist()[:1] == [418.641]
    assert fake.calls == ["init", "shutdown"]


def test_thread_samples_at_its_interval_and_ends(nvml):
    nvml()
    device = FakeGpu()
    with Telemetry(device, interval_ns=2_000_000) as sampled:
        deadline = time.monotonic() + 10
        while len(sampled._rows) < 4 and time.monotonic() < deadline:
            time.sleep(0.002)
        assert sampled._thread.is_alive()
    assert not sampled._thread.is_alive()
    times = sampled.samples["time_ns"]
    assert len(times) >= 4
    assert (np.diff(times) >= 2_000_000).all()
    assert all(len(values) == len(times) for values in sampled.samples.values())


def test_telemetry_that_is_entered_again_begins_anew(nvml):
    nvml()
    sampled = Telemetry(FakeGpu(), interval_ns=1_000_000)
    for _ in range(2):
        with sampled:
            begin = time.perf_counter_ns()
            while len(sampled._rows) < 4 and time.perf_counter_ns() - begin < 10**10:
                time.sleep(0.002)
        assert len(sampled.samples["time_ns"]) >= 4
    assert sampled.samples["time_ns"][1] > begin


def test_thread_ends_after_an_error_in_the_loop(nvml):
    nvml()
    with pytest.raises(ZeroDivisionError), Telemetry(FakeGpu()) as sampled:
        raise ZeroDivisionError
    assert not sampled._thread.is_alive()


def test_without_cupy_the_gpu_is_not_known_and_nothing_fails(nvml, monkeypatch):
    nvml()
    monkeypatch.setitem(sys.modules, "cupy", None)
    with Telemetry(FakeGpu()) as sampled:
        pass
    assert np.isnan(sampled.samples["power_w"]).all()


def test_frame_gets_the_latest_sample_at_or_before_its_end(device):
    device.wait_until_ns(50)
    device.use(Conditions())
    with Telemetry(device, interval_ns=100_000_000) as sampled:
        device.wait_until_ns(150_000_000)
        device.set_neighbours(3)
        device.spin(1_000_000, device.stream())
        device.synchronize()
        device.wait_until_ns(260_000_000)
    assert sampled.samples["time_ns"].tolist() == [50, 100_000_050, 200_000_050]
    columns = sampled.columns(np.array([49, 50, 100_000_049, 200_000_049, 200_000_050, 10**12]))
    assert tuple(columns) == TELEMETRY_COLUMNS
    assert columns["gpu_processes"].tolist()[1:] == [0, 0, 0, 3, 3]
    assert np.isnan(columns["gpu_processes"][0])
    assert columns["gpu_processes"].dtype == np.float64


def test_run_without_a_sample_gives_nan(device):
    assert np.isnan(Telemetry(device).columns(np.array([1, 2]))["power_w"]).tolist() == [True, True]


@pytest.mark.parametrize("interval_ns", [0, -1])
def test_interval_that_is_none_is_refused(device, interval_ns):
    with pytest.raises(SettingsError, match="positive interval"):
        Telemetry(device, interval_ns=interval_ns)


def test_host_memory_grows_with_what_is_touched():
    if np.isnan(host_memory_bytes()):
        pytest.skip("this system does not tell")
    before = host_memory_bytes()
    kept = np.ones(64 << 20, np.uint8)
    assert host_memory_bytes() - before > 0.9 * kept.nbytes


def test_host_memory_is_nan_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.setattr(telemetry, "_STATM", telemetry.Path("/no/such/file"))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert np.isnan(host_memory_bytes())
