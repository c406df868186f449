"""Host memory that is touched while a copy still uses it."""

from __future__ import annotations

import numpy as np
import pytest

from yolotrt_lab.device import HostBuffer
from yolotrt_lab.errors import HazardError
from yolotrt_lab.simulate import spin
from yolotrt_lab.simulate.simulated import SimulatedDevice
from yolotrt_lab.types import HostMemory

MB = 1_000_000
PAGEABLE, PINNED = HostMemory.PAGEABLE, HostMemory.PINNED


@pytest.mark.parametrize("verb", ["written", "read"])
def test_announced_use_of_bytes_in_flight_is_a_hazard(device, verb):
    stream = device.stream()
    host, buffer = device.empty_host((MB,), np.uint8, PINNED), device.empty_device(MB)
    if verb == "written":
        device.upload(host, buffer, stream)
    else:
        device.download(buffer, host, stream)
    with pytest.raises(HazardError, match=f"1,000,000 bytes of pinned memory are {verb}"):
        device.check_idle(host, verb)
    stream.synchronize()
    device.check_idle(host, verb)


def test_array_of_a_download_in_flight_cannot_be_had(device):
    stream = device.stream()
    host, buffer = device.empty_host((MB,), np.uint8, PINNED), device.empty_device(MB)
    device.download(buffer, host, stream)
    with pytest.raises(HazardError, match=r"are used .*download"):
        _ = host.array
    stream.synchronize()
    assert host.array.shape == (MB,)


def test_pageable_bytes_may_be_written_once_the_call_has_returned(preset):
    device = SimulatedDevice(preset, moves_bytes=True)
    stream = device.stream()
    host, buffer = device.empty_host((16,), np.uint8, PAGEABLE), device.empty_device(16)
    host.array[:] = 7
    device.upload(host, buffer, stream)
    host.array[:] = 0
    back = device.empty_host((16,), np.uint8, PAGEABLE)
    device.download(buffer, back, stream)
    stream.synchronize()
    assert (back.array == 7).all()


def test_memory_that_gets_the_address_of_freed_memory_inherits_no_copy(device):
    stream, buffer = device.stream(), device.empty_device(MB)
    host = device.empty_host((MB,), np.uint8, PINNED)
    device.upload(host, buffer, stream)
    address = host.address
    del host
    again = HostBuffer(np.zeros(MB, np.uint8), PINNED)
    again.address = address  # as if it lay there, which is the allocator's choice
    device.check_idle(again, "written")


def test_write_is_a_hazard_while_any_copy_of_the_bytes_is_under_way(device):
    slow, quick = device.stream(), device.stream()
    host, buffer = device.empty_host((MB,), np.uint8, PINNED), device.empty_device(MB)
    spin(device, 5 * MB, slow)
    device.upload(host, buffer, slow)
    device.upload(host, device.empty_device(MB), quick)
    quick.synchronize()
    with pytest.raises(HazardError, match="still uses them"):
        device.check_idle(host, "written")
    slow.synchronize()
    device.check_idle(host, "written")


def test_bytes_may_be_written_after_their_copy_while_an_earlier_one_waits_in_another_stream(preset):
    device = SimulatedDevice(preset, moves_bytes=True)
    slow, quick, done = device.stream(), device.stream(), device.event()
    first, second = (device.empty_host((16,), np.uint8, PINNED) for _ in range(2))
    first.array[:] = second.array[:] = 1
    targets = [device.empty_device(16) for _ in range(2)]
    spin(device, 5 * MB, slow)
    device.upload(first, targets[0], slow)
    device.upload(second, targets[1], quick)
    quick.record(done)
    done.synchronize()
    second.array[:] = 2
    slow.synchronize()  # no hazard here


def test_bytes_may_be_written_once_a_query_has_said_that_their_copy_is_done(preset):
    device = SimulatedDevice(preset, moves_bytes=True)
    stream, event = device.stream(), device.event()
    host = device.empty_host((16,), np.uint8, PINNED)
    host.array[:] = 1
    device.upload(host, device.empty_device(16), stream)
    stream.record(event)
    while not event.done:
        device.wait_until_ns(device.now_ns() + 1_000)
    host.array[:] = 2
    stream.synchronize()  # no hazard here


def test_late_copy_is_watched_although_an_earlier_one_of_another_stream_still_waits(preset):
    device = SimulatedDevice(preset, moves_bytes=True)
    slow, quick = device.stream(), device.stream()
    hosts = [device.empty_host((16,), np.uint8, PINNED) for _ in range(2)]
    spin(device, 5 * MB, slow)
    device.upload(hosts[0], device.empty_device(16), slow)
    hosts[1].array[:] = 1
    device.upload(hosts[1], device.empty_device(16), quick)
    hosts[1].array[:] = 2
    with pytest.raises(HazardError, match="were written while they were in flight"):
        quick.synchronize()
