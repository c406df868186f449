"""Telemetry: an NVML that is whole, one that refuses, and none; samples beside frames; the simulated device's."""

from __future__ import annotations

import os
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from yolotrt_lab import telemetry
from yolotrt_lab.errors import SettingsError, plain
from yolotrt_lab.simulate import spin
from yolotrt_lab.simulate.conditions import Conditions
from yolotrt_lab.telemetry import Nvml, Telemetry, driver_version, host_memory_bytes
from yolotrt_lab.types import TELEMETRY_COLUMNS, THROTTLE_REASONS

BUS_ID = "0000:65:00.0"
TOLD = {
    "sm_clock_mhz": 1_980,
    "memory_clock_mhz": 2_619,
    "power_w": 418.641,
    "sm_clock_max_mhz": 1_980,
    "temperature_c": 45,
    "pcie_generation": 5,
    "pcie_width": 16,
    "gpu_utilisation_percent": 99,
    "gpu_memory_used_bytes": 2_420_000_000,
    "gpu_processes": 2,
    "throttle_gpu_idle": 1,
    "throttle_sw_power_cap": 1,
    "throttle_hw_slowdown": 0,
}
OF_THE_GPU = set(TELEMETRY_COLUMNS) - {"host_memory_bytes"}


class Refused(Exception):
    """What NVML raises."""


def fake_nvml(*, missing=(), refused=(), processes=(11, 12, 13), drawing=()):
    """NVML of one GPU at `BUS_ID`: without the functions in `missing`, and with those in `refused` raising."""
    calls = []

    def handle(bus_id):
        if bus_id != BUS_ID:
            raise Refused(bus_id)
        return "the GPU"

    answers = {
        "nvmlInit": lambda: calls.append("init"),
        "nvmlShutdown": lambda: calls.append("shutdown"),
        "nvmlSystemGetDriverVersion": lambda: "580.159.04",
        "nvmlDeviceGetHandleByPciBusId": handle,
        "nvmlDeviceGetClockInfo": lambda gpu, kind: {1: 1_980, 2: 2_619}[kind],
        "nvmlDeviceGetPowerUsage": lambda gpu: 418_641,
        "nvmlDeviceGetTemperature": lambda gpu, kind: {0: 45}[kind],
        "nvmlDeviceGetCurrPcieLinkGeneration": lambda gpu: 5,
        "nvmlDeviceGetMaxClockInfo": lambda gpu, kind: {1: 1980}[kind],
        "nvmlDeviceGetCurrPcieLinkWidth": lambda gpu: 16,
        "nvmlDeviceGetUtilizationRates": lambda gpu: SimpleNamespace(gpu=99, memory=3),
        "nvmlDeviceGetMemoryInfo": lambda gpu: SimpleNamespace(used=2_420_000_000),
        "nvmlDeviceGetComputeRunningProcesses": lambda gpu: [SimpleNamespace(pid=pid) for pid in processes],
        "nvmlDeviceGetGraphicsRunningProcesses": lambda gpu: [SimpleNamespace(pid=pid) for pid in drawing],
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda gpu: 0b101,
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

    ordinal = 3

    def now_ns(self):
        return time.perf_counter_ns()

    def telemetry(self, times_ns):
        return None


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


def sample(bus_id=BUS_ID):
    with Nvml(bus_id) as opened:
        values = opened.sample()
    assert tuple(values) == TELEMETRY_COLUMNS
    return values


def unknown(values):
    return {name for name, value in values.items() if np.isnan(value)}


def test_sample_holds_what_nvml_says_and_guesses_no_throttle_reason_that_nvml_has_no_name_for(nvml):
    fake = nvml()
    values = sample()
    assert {name: values[name] for name in TOLD} == TOLD
    assert values["host_memory_bytes"] > 0
    assert unknown(values) == OF_THE_GPU - set(TOLD)
    assert fake.calls == ["init", "shutdown"]


def test_drivers_that_say_event_for_throttle_are_understood(nvml):
    fake = nvml(missing=["nvmlDeviceGetCurrentClocksThrottleReasons"])
    fake.nvmlDeviceGetCurrentClocksEventReasons = lambda gpu: 0b10
    fake.nvmlClocksEventReasonSyncBoost = 0b10
    assert (sample()["throttle_sync_boost"], sample()["throttle_gpu_idle"]) == (1, 0)


def test_real_nvml_has_a_name_for_every_reason():
    """The installed package, which needs no GPU for that."""
    names = dir(pytest.importorskip("pynvml"))
    for reason in THROTTLE_REASONS:
        name = "".join(word.capitalize() for word in reason.split("_"))
        assert f"nvmlClocksThrottleReason{name}" in names or f"nvmlClocksEventReason{name}" in names


@pytest.mark.parametrize("how", ["missing", "refused"])
@pytest.mark.parametrize(
    ("function", "lost"),
    [
        ("nvmlDeviceGetPowerUsage", {"power_w"}),
        ("nvmlDeviceGetClockInfo", {"sm_clock_mhz", "memory_clock_mhz"}),
        ("nvmlDeviceGetComputeRunningProcesses", {"gpu_processes"}),
        ("nvmlDeviceGetGraphicsRunningProcesses", {"gpu_processes"}),
        ("nvmlDeviceGetCurrentClocksThrottleReasons", {f"throttle_{reason}" for reason in THROTTLE_REASONS}),
        ("nvmlDeviceGetHandleByPciBusId", OF_THE_GPU),
        ("nvmlInit", OF_THE_GPU),
        ("nvmlShutdown", set()),
    ],
)
def test_field_that_the_gpu_does_not_tell_is_nan_and_costs_no_other(nvml, how, function, lost):
    nvml(**{how: [function]})
    assert unknown(sample()) == lost | (OF_THE_GPU - set(TOLD))


def test_field_that_is_none_is_nan(nvml):
    nvml().nvmlDeviceGetMemoryInfo = lambda gpu: SimpleNamespace(used=None)
    assert np.isnan(sample()["gpu_memory_used_bytes"])


def test_without_nvml_everything_of_the_gpu_is_nan_and_the_driver_unknown(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert unknown(sample()) == OF_THE_GPU
    assert driver_version() == ""


@pytest.mark.parametrize("how", ["missing", "refused"])
def test_driver_version_needs_no_gpu_and_is_empty_if_nvml_does_not_tell(nvml, how):
    fake = nvml(**{how: ["nvmlDeviceGetHandleByPciBusId"]})
    assert driver_version() == "580.159.04"
    assert fake.calls == ["init", "shutdown"]
    nvml(**{how: ["nvmlSystemGetDriverVersion"]})
    assert driver_version() == ""


@pytest.mark.parametrize(("processes", "others"), [((os.getpid(),), 0), ((os.getpid(), 7), 1), ((7, 8, 9), 2)])
def test_this_process_is_none_of_the_other_processes(nvml, processes, others):
    nvml(processes=processes)
    assert sample()["gpu_processes"] == others


def test_processes_that_draw_are_other_processes_once(nvml):
    nvml(processes=(os.getpid(), 7), drawing=(7, 8, 9))
    assert sample()["gpu_processes"] == 3


def test_empty_list_of_processes_tells_nothing_since_this_one_is_on_the_gpu(nvml):
    nvml(processes=())
    assert np.isnan(sample()["gpu_processes"])


def test_gpu_is_found_by_its_bus_id_and_not_by_its_ordinal(nvml, monkeypatch):
    fake = nvml()
    with Telemetry(FakeGpu()) as sampled:
        pass
    assert sampled.samples["power_w"].tolist()[:1] == [418.641]
    assert fake.calls == ["init", "shutdown"]
    monkeypatch.setitem(sys.modules, "cupy", None)  # then nothing fails, and the GPU is not known
    with Telemetry(FakeGpu()) as sampled:
        pass
    assert np.isnan(sampled.samples["power_w"]).all()


def test_thread_samples_at_its_interval_and_ends_and_starts_anew_when_it_is_entered_again(nvml):
    nvml()
    sampled = Telemetry(FakeGpu(), interval_ns=2_000_000)
    for _ in range(2):
        start, deadline = time.perf_counter_ns(), time.monotonic() + 600
        with sampled:
            while len(sampled._rows) < 4 and time.monotonic() < deadline:
                time.sleep(0.002)
            assert sampled._thread.is_alive()
        assert not sampled._thread.is_alive()
        times = sampled.samples["time_ns"]
        assert len(times) >= 4
        assert (np.diff(times) >= 2_000_000).all()
        assert all(len(values) == len(times) for values in sampled.samples.values())
        assert times[0] > start


def test_thread_ends_after_an_error_in_the_loop(nvml):
    nvml()
    with pytest.raises(ZeroDivisionError), Telemetry(FakeGpu()) as sampled:
        raise ZeroDivisionError
    assert not sampled._thread.is_alive()


def test_frame_gets_the_latest_sample_at_or_before_its_end(device):
    device.wait_until_ns(50)
    device.use(Conditions())
    with Telemetry(device, interval_ns=100_000_000) as sampled:
        device.wait_until_ns(150_000_000)
        device.set_other_processes(3)
        spin(device, 1_000_000, device.stream())
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


@pytest.mark.parametrize("interval_ns", [0, -1, 2.5, "fast", None])
def test_interval_that_is_none_is_refused(device, interval_ns):
    with pytest.raises(SettingsError, match=f"interval_ns must be .*, got {interval_ns!r}"):
        Telemetry(device, interval_ns=interval_ns)


def test_host_memory_grows_with_what_is_touched_and_is_nan_if_the_system_does_not_tell(monkeypatch):
    before = host_memory_bytes()
    kept = np.ones(64 << 20, np.uint8)
    assert np.isnan(before) or host_memory_bytes() - before > 0.9 * kept.nbytes
    monkeypatch.setattr(telemetry, "_STATM", telemetry.Path("/no/such/file"))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert np.isnan(host_memory_bytes())


WORDS = ["x\x1b[2J", b"\xff\x00", None, [], {}, float("inf"), -1, 2**70, object(), lambda: 1]


@pytest.mark.parametrize("word", WORDS, ids=lambda word: type(word).__name__)
def test_whatever_nvml_answers_a_sample_is_numbers_and_the_version_is_plain_text(nvml, word):
    fake = nvml()
    for name in vars(fake).copy():
        if name.startswith("nvml") and callable(getattr(fake, name)) and name not in ("nvmlInit", "nvmlShutdown"):
            setattr(fake, name, lambda *_: word)
    values = sample()
    assert all(type(value) is float for value in values.values())
    assert driver_version() == plain(driver_version())


def test_a_version_in_bytes_reads_as_text(nvml):
    nvml().nvmlSystemGetDriverVersion = lambda: b"470.82.01"
    assert driver_version() == "470.82.01"
