"""Streams, events and the launch queue of the simulated device, in exact virtual time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from call_times import time_of

from yolotrt_lab.errors import DeviceError
from yolotrt_lab.simulate import spin
from yolotrt_lab.simulate.simulated import SimulatedDevice
from yolotrt_lab.types import HostMemory

MB = 1_000_000
PINNED = HostMemory.PINNED


def test_kernel_and_upload_on_two_streams_overlap(device):
    compute, copies = device.stream(), device.stream()
    host, buffer = device.empty_host((5 * MB,), np.uint8, PINNED), device.empty_device(5 * MB)
    spin(device, 1 * MB, compute)
    device.upload(host, buffer, copies)
    copies.synchronize()
    assert device.now_ns() == 4_000 + 5_000 + 101_000 + 3_000
    compute.synchronize()
    assert device.now_ns() == 5_000 + 1 * MB + 3_000


def test_work_that_waits_for_an_event_does_not_hold_the_engine_from_other_streams(device):
    slow, waiting, other = device.stream(), device.stream(), device.stream()
    event = device.event()
    host = device.empty_host((5 * MB,), np.uint8, PINNED)
    spin(device, 1 * MB, slow)
    slow.record(event)
    waiting.wait(event)
    device.upload(host, device.empty_device(5 * MB), waiting)
    device.upload(host, device.empty_device(5 * MB), other)
    waiting.synchronize()
    kernel_end = 5_000 + 1 * MB
    starts = sorted(span.start_ns for span in device.spans if span.row == "upload")
    # launch, record, wait and the first copy call (6 us: its stream is busy), then 5 us to submit
    assert starts == [4_000 + 1_000 + 1_000 + 6_000 + 5_000, kernel_end]


def test_launch_queue_holds_the_host_once_it_is_full(device):
    stream = device.stream()
    durations = [time_of(device, lambda: spin(device, 1 * MB, stream)) for _ in range(105)]
    assert durations[:100] == [4_000] * 100
    assert durations[100] == 5_000 + 1 * MB - 400_000  # until the first kernel has made room
    assert durations[101:] == [1 * MB] * 4


def test_events_mark_a_place_and_measure_device_time(device):
    stream, begin, end = device.stream(), device.event(timing=True), device.event(timing=True)
    assert end.done
    stream.record(begin)
    spin(device, 1 * MB, stream)
    stream.record(end)
    assert begin.done
    assert not end.done
    with pytest.raises(DeviceError, match="not been reached"):
        end.elapsed_ns(begin)
    end.synchronize()
    assert end.done
    assert end.elapsed_ns(begin) == 1 * MB + 5_000  # it began 5 us after its submission


def test_event_of_a_stream_that_waits_for_another_is_reached_after_that_one(device):
    first, second = device.stream(), device.stream()
    one, two = device.event(), device.event()
    spin(device, 1 * MB, first)
    first.record(one)
    second.wait(one)
    second.record(two)
    second.synchronize()
    assert two.done
    assert device.now_ns() == 5_000 + 1 * MB + 3_000 + 500  # the last is the query


def test_event_is_marked_for_other_threads_while_its_record_waits_for_the_launch_queue(preset):
    device = SimulatedDevice(replace(preset, launch_queue_depth=2))
    slow, full = device.stream(), device.stream()
    slow_done, event = device.event(), device.event()
    seen = []

    def look():
        device.wait_until_ns(100_000)
        seen.append((event.done, device.now_ns()))

    thread = device.start_thread(look)
    spin(device, 1 * MB, slow)
    slow.record(slow_done)
    full.wait(slow_done)
    full.wait(slow_done)
    full.record(event)
    assert device.now_ns() == 5_000 + 1 * MB
    thread.join()
    assert seen == [(False, 100_500)]


def test_device_synchronize_is_one_call_that_waits_for_the_last_stream(device):
    first, second = device.stream(), device.stream()
    spin(device, 1 * MB, first)
    spin(device, 2 * MB, second)  # one compute engine: behind the first
    device.synchronize()
    assert device.now_ns() == 5_000 + 3 * MB + 3_000
    assert [span.name for span in device.spans if "Synchronize" in span.name] == ["cudaDeviceSynchronize"]


def test_stream_that_nobody_holds_goes_once_its_work_has_run(preset):
    device = SimulatedDevice(preset)
    lanes = lambda: len(device.machine.timeline.lanes)  # noqa: E731
    stream = device.stream()
    spin(device, 1 * MB, stream)
    del stream
    other = device.stream()
    assert lanes() == 2  # its kernel has not run
    device.synchronize()
    assert device.now_ns() > 1 * MB
    del other
    for _ in range(3):
        device.stream()
    assert lanes() == 1


def test_streams_keep_their_number_in_the_spans_when_others_go(device):
    device.stream()  # nobody holds it
    streams = [device.stream() for _ in range(2)]
    for stream in streams:
        spin(device, 1_000, stream)
    device.synchronize()
    assert len({span.stream for span in device.spans if span.row == "kernel"}) == 2
