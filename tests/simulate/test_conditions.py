"""Conditions of the simulated device, in exact virtual times: what other processes, clocks and heat do to its work."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from call_times import time_of

from yolotrt_lab.engine import open_engine
from yolotrt_lab.errors import SettingsError
from yolotrt_lab.loop import LoopSettings, run_loop
from yolotrt_lab.simulate import spin
from yolotrt_lab.simulate.conditions import TICK_NS, Clocks, Conditions, Heat
from yolotrt_lab.simulate.preset import OtherProcessesCost, Preset
from yolotrt_lab.simulate.simulated import SimulatedDevice
from yolotrt_lab.types import TELEMETRY_COLUMNS, Fill, HostMemory, Stage

SECOND = 1_000_000_000


def kernels(device):
    """(start, end) of every kernel, in microseconds."""
    return [(span.start_ns / 1e3, span.end_ns / 1e3) for span in device.spans if span.row == "kernel"]


def spin_us(device, duration_us, stream):
    """Run one kernel and wait for it."""
    spin(device, duration_us * 1_000, stream)
    stream.synchronize()


def run_under(device, conditions, duration_us, times=1):
    """(start, end) of kernels that run one after the other under these conditions."""
    device.use(conditions)
    stream = device.stream()
    for _ in range(times):
        spin_us(device, duration_us, stream)
    return kernels(device)


def test_conditions_that_change_nothing_change_no_time(preset):
    recordings = []
    for conditions in (None, Conditions()):
        device = SimulatedDevice(preset, jitter=0.05, seed=3)
        device.use(conditions)
        recordings.append(run_loop(device, open_engine(device), LoopSettings(frames=50)))
    plain, under = recordings
    assert all(np.array_equal(plain.columns[name], under.columns[name]) for name in plain.columns)


def test_conditions_can_be_taken_away(device):
    device.use(Conditions(other_processes=2))
    assert device.conditions.other_processes == 2
    assert run_under(device, None, 100) == [(5, 105)]
    assert device.conditions is None


# Other processes: two of them have the GPU for 4 ms between two turns, four for 6 ms; a slice is 2 ms


def test_work_that_arrives_after_its_turn_waits_for_the_others(device):
    # The turns come every 4 ms from the begin on, and every 4 ms from the end of the first kernel on.
    assert run_under(device, Conditions(other_processes=2), 100, times=2) == [(5, 4_100), (4_108, 8_200)]


def test_work_that_lies_ready_runs_on_in_its_slice(device):
    device.use(Conditions(other_processes=2))
    stream = device.stream()
    for _ in range(2):
        spin(device, 100_000, stream)
    stream.synchronize()
    assert kernels(device) == [(5, 4_100), (4_100, 4_200)]


@pytest.mark.parametrize(
    ("others", "length_us", "end_us"),
    [
        *[(2, 2_000, 6_000), (2, 2_500, 10_500), (2, 6_000, 18_000)],  # work longer than a slice is interrupted
        # turns lie on a line between those measured, and grow in proportion beyond them
        *[(1, 100, 2_100), (2, 100, 4_100), (3, 100, 5_100), (4, 100, 6_100), (8, 100, 12_100)],
    ],
)
def test_others_and_slices_say_when_work_ends(device, others, length_us, end_us):
    assert run_under(device, Conditions(other_processes=others), length_us) == [(5, end_us)]


@pytest.mark.parametrize(
    ("memory", "call_ns", "copy_ns"),
    [
        (HostMemory.PINNED, 5_000 + 4 * 1_000, (1_000 + 100_000) * 14 // 10),
        (HostMemory.PAGEABLE, (10_000 + 500_000 + 8_000) * 14 // 10 - 8_000, (10_000 + 500_000 + 8_000) * 14 // 10),
    ],
)
def test_others_stretch_uploads_and_page_locked_calls(device, memory, call_ns, copy_ns):
    device.use(Conditions(other_processes=4))
    stream, target = device.stream(), device.empty_device(5_000_000)
    source = device.empty_host((5_000_000,), np.uint8, memory)
    assert time_of(device, lambda: device.upload(source, target, stream)) == call_ns
    stream.synchronize()
    assert [span.end_ns - span.start_ns for span in device.spans if span.row == "upload"] == [copy_ns]


TIMES = {"2": 1.5, "4": 2.0}


def beside_measured(preset, others, **fields):
    """The device beside so many others, for which the preset says how many times as long things take."""
    device = SimulatedDevice(replace(preset, other_processes=replace(preset.other_processes, **fields)), trace=True)
    device.use(Conditions(other_processes=others))
    return device


# from 1 at none on a line to 1.5 at two and 2 at four, and on in proportion
@pytest.mark.parametrize(("others", "factor"), [(0, 1.0), (1, 1.25), (2, 1.5), (3, 1.75), (4, 2.0), (8, 3.0)])
@pytest.mark.parametrize(
    ("memory", "call_ns", "copy_ns"),
    [(HostMemory.PINNED, 5_000, 101_000), (HostMemory.PAGEABLE, 518_000, 518_000)],  # 5 MB at 50 and at 10 GB/s
)
def test_measured_times_stretch_uploads_instead_of_the_share(preset, memory, call_ns, copy_ns, others, factor):
    device = beside_measured(preset, others, upload_times=TIMES, call_ns=0)
    stream, target = device.stream(), device.empty_device(5_000_000)
    source = device.empty_host((5_000_000,), np.uint8, memory)
    took = time_of(device, lambda: device.upload(source, target, stream))
    assert took == (call_ns if memory is HostMemory.PINNED else call_ns * factor - 8_000)
    stream.synchronize()
    assert [span.end_ns - span.start_ns for span in device.spans if span.row == "upload"] == [copy_ns * factor]


@pytest.mark.parametrize(("others", "factor"), [(0, 1.0), (1, 1.25), (4, 2.0), (8, 3.0)])
def test_measured_times_stretch_the_enqueue_and_the_hosts_work(preset, others, factor):
    device = beside_measured(preset, others, enqueue_times=TIMES, host_work_times=TIMES)
    context, stream = open_engine(device).context(device), device.stream()
    assert time_of(device, lambda: context.enqueue(stream)) == 600_000 * factor
    device.conditions.host_factor = 2.0

    def work():
        device.host_work("letterbox")

    assert time_of(device, work) == 2 * 100_000 * factor


@pytest.mark.parametrize(
    ("share", "memory", "copy_ns"),
    [
        (0.0, HostMemory.PINNED, 101_000),
        (0.5, HostMemory.PINNED, 101_000 * 4 // 3),  # half of what kernels lose at half the clock
        (1.0, HostMemory.PINNED, 2 * 101_000),
        (1.0, HostMemory.PAGEABLE, 2 * 518_000),
    ],
)
def test_clocks_slow_copies_by_their_share(device, share, memory, copy_ns):
    device.use(Conditions(clocks=Clocks(start_share=0.5, down_s=1e15, copies_share=share)))
    stream, target = device.stream(), device.empty_device(5_000_000)
    source = device.empty_host((5_000_000,), np.uint8, memory)
    for copy in (lambda: device.upload(source, target, stream), lambda: device.download(target, source, stream)):
        copy()
        stream.synchronize()
    took = {span.row: span.end_ns - span.start_ns for span in device.spans if span.row in ("upload", "download")}
    assert took["upload"] == copy_ns
    if memory is HostMemory.PINNED:
        assert took["download"] == copy_ns


def test_wait_ends_at_once_when_the_others_leave(device):
    device.use(Conditions(other_processes=4))
    stream = device.stream()
    spin_us(device, 100, stream)
    device.set_other_processes(0)
    spin_us(device, 100, stream)
    assert kernels(device)[1] == (6_108, 6_208)


def test_others_that_were_not_measured_are_refused(preset):
    device = SimulatedDevice(replace(preset, other_processes=None))
    with pytest.raises(SettingsError, match="does not say what other processes"):
        device.use(Conditions(other_processes=1))
    device.use(Conditions())
    with pytest.raises(SettingsError, match="does not say what other processes") as caught:
        device.set_other_processes(1)
    assert "h200" in caught.value.fix
    spin_us(device, 100, device.stream())  # which runs without any


MEASURED_MS = {0: 0.057, 2: 1.9, 4: 4.6, 6: 10.8, 8: 14.8, 10: 18.4, 12: 23.1}
"""Synchronize by other processes: NVIDIA H200, driver 580.159.04, 2026-11-23, the plain loop with pageable input."""
TURNS_MS = {2: 2.68, 4: 5.42, 6: 11.67, 8: 15.71, 10: 19.35, 12: 24.1}
"""Fitted to these waits. The processes uploaded 32 MB in turn with their products."""


def beside(others, memory):
    turns_ns = {str(count): round(turn_ms * 1e6) for count, turn_ms in TURNS_MS.items()}
    cost = OtherProcessesCost(turns_ns, 2_000_000, 1_900, "that day", upload_times={"12": 1.67})
    device = SimulatedDevice(replace(Preset.load("h200"), other_processes=cost))
    device.use(Conditions(other_processes=others))
    settings = LoopSettings(frames=60, warmup=5, fill=Fill.READY, input_memory=memory)
    steady = run_loop(device, open_engine(device), settings).steady
    return [float(np.median(steady.stage_ns(stage))) / 1e6 for stage in (Stage.UPLOAD, Stage.SYNCHRONIZE)]


@pytest.mark.parametrize(("others", "measured_ms"), MEASURED_MS.items())
def test_waits_beside_others_on_an_h200_are_reproduced(others, measured_ms):
    assert beside(others, HostMemory.PAGEABLE)[1] == pytest.approx(measured_ms, rel=0.15)


def test_what_pinning_buys_beside_twelve_others_is_reproduced():
    upload_ms, synchronize_ms = beside(12, HostMemory.PAGEABLE)
    assert upload_ms == pytest.approx(0.55, rel=0.15)
    pinned_upload_ms, pinned_synchronize_ms = beside(12, HostMemory.PINNED)
    assert pinned_upload_ms == pytest.approx(0.03, rel=0.15)
    assert pinned_synchronize_ms == pytest.approx(23.5, rel=0.15)
    assert upload_ms / pinned_upload_ms > 10
    assert abs(pinned_synchronize_ms / synchronize_ms - 1) < 0.1


# Clocks


def test_gpu_that_idles_falls_to_its_idle_clock_and_every_kernel_stretches(device):
    device.use(Conditions(clocks=Clocks(idle_share=0.25, down_s=2.0)))
    stream = device.stream()
    for second in range(4):
        device.wait_until_ns(second * SECOND)
        spin_us(device, 100, stream)
    # A step for each tick, the one at 0 s among them; 100 ticks to the floor.
    lengths = [end - start for start, end in kernels(device)]
    assert lengths == pytest.approx([100 / (1 - 0.0075), 100 / (1 - 51 * 0.0075), 400, 400], abs=0.001)


@pytest.mark.parametrize(
    "conditions",
    [Conditions(clocks=Clocks(idle_share=0.25, down_s=2.0, idle_below=0.0)), Conditions(heat=Heat(full_c=80))],
    ids=["busy", "cool"],
)
def test_gpu_that_is_busy_and_cool_keeps_its_clock(device, conditions):
    assert {end - start for start, end in run_under(device, conditions, 1_000_000, times=20)} == {1_000_000}


def test_clock_comes_up_again_while_the_gpu_is_busy(device):
    ran = run_under(device, Conditions(clocks=Clocks(idle_share=0.5, start_share=0.5, up_s=0.2)), 10_000, times=50)
    lengths = [round(end - start) for start, end in ran]
    assert (lengths[0], lengths[-1]) == (20_000, 10_000)
    assert lengths == sorted(lengths, reverse=True)


# Heat


def test_clock_falls_once_the_gpu_is_too_hot_until_temperature_and_power_agree(device):
    heat = Heat(full_c=110, limit_c=85, time_constant_s=2.0)
    lengths = np.diff(run_under(device, Conditions(heat=heat), 10_000, times=2_000))
    assert (lengths[:100] == 10_000).all()
    clock = 10_000 / lengths[-1, 0]
    told = device.telemetry(np.array([device.now_ns()]))
    assert told["temperature_c"][0] == pytest.approx(85 + (1 - clock) / 0.05, abs=0.1)
    share = (told["temperature_c"][0] - 30) / 80  # the power that keeps it at this temperature, of 450 W
    assert told["power_w"][0] == pytest.approx(450 * share, rel=0.01)
    assert told["sm_clock_mhz"][0] == pytest.approx(1980 * clock, rel=1e-3)
    assert told["throttle_sw_thermal_slowdown"][0] == 1


# The host, leaks, telemetry


def test_busy_host_stretches_its_own_work_and_nothing_else(device):
    device.use(Conditions(host_factor=1.5))
    device.host_work("letterbox")
    assert device.now_ns() == 150_000


def test_memory_that_stays_registered_lengthens_every_wait(device):
    kept, stream = [], device.stream()
    register = partial(device.empty_host, (1_000,), np.uint8, HostMemory.REGISTERED)
    for number in (1, 2, 3):
        assert time_of(device, lambda: kept.append(register())) == 600_000
        assert time_of(device, lambda: spin_us(device, 100, stream)) == 108_000 + 100 * number
    kept.clear()
    assert time_of(device, lambda: spin_us(device, 100, stream)) == 108_000


def test_telemetry_holds_every_column_and_nan_before_the_conditions(device):
    device.wait_until_ns(SECOND)
    device.use(Conditions(other_processes=2))
    kept = device.empty_host((1_000,), np.uint8, HostMemory.PINNED)
    buffer = device.empty_device(1_000)
    told = device.telemetry(np.array([SECOND - 1, SECOND, 2 * SECOND]))
    assert tuple(told) == TELEMETRY_COLUMNS
    for values in told.values():
        assert values.shape == (3,) and values.dtype == np.float64
        assert np.isnan(values).tolist() == [True, False, False]
    assert told["gpu_processes"][1:].tolist() == [2, 2]
    assert told["gpu_memory_used_bytes"][1] == 3 * 700e6 + buffer.nbytes
    assert told["host_memory_bytes"][1] == 400e6 + kept.nbytes
    assert told["gpu_utilisation_percent"][2] == pytest.approx(100, abs=1)


def test_telemetry_without_conditions_knows_nothing(device):
    assert all(np.isnan(values).all() for values in device.telemetry(np.array([0, 1])).values())


def test_utilisation_is_the_share_of_time_that_kernels_take(device):
    device.use(Conditions())
    stream = device.stream()
    for index in range(200):
        device.wait_until_ns(index * TICK_NS)
        spin_us(device, TICK_NS // 4_000, stream)
    told = device.telemetry(np.array([device.now_ns()]))
    assert told["gpu_utilisation_percent"][0] == pytest.approx(25, abs=0.1)
    assert told["power_w"][0] == pytest.approx(75 + 375 * 0.25, abs=1)


def test_telemetry_sees_device_memory_that_is_freed(device):
    device.use(Conditions())
    buffer, used = device.empty_device(1_000), []
    for second in (1, 2):
        device.wait_until_ns(second * SECOND)
        used.append(device.telemetry(np.array([second * SECOND]))["gpu_memory_used_bytes"][0])
        buffer = None
    assert (used, buffer) == ([700_001_000, 700_000_000], None)


@pytest.mark.parametrize("settings", [{"other_processes": -1}, {"host_factor": 0}, {"host_factor": float("nan")}])
def test_conditions_that_cannot_be_are_refused(settings):
    with pytest.raises(SettingsError, match="other_processes must be 0 or more and host_factor positive, got"):
        Conditions(**settings)


def test_others_come_to_a_device_under_conditions_alone(device):
    with pytest.raises(SettingsError) as caught:
        device.set_other_processes(2)
    assert "use(Conditions())" in caught.value.fix
    device.use(Conditions())
    with pytest.raises(SettingsError, match="-2"):
        device.set_other_processes(-2)
