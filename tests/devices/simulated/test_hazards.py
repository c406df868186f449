"""Host memory that is touched while a copy still uses it."""

from __future__ import annotations

import numpy as np
import pytest

from yolotrt_lab.devices.base import HostBuffer
from yolotrt_lab.devices.simulated import SimulatedDevice
from yolotrt_lab.errors import HazardError
from yolotrt_lab.types import HostMemory

MB = 1_000_000
PAGEABLE, PINNED = HostMemory.PAGEABLE, HostMemory.PINNED


def test_announced_write_to_bytes_in_flight_is_a_hazard(device):
    stream = device.stream()
    host, buffer = device.empty_host((MB,), np.uint8, PINNED), device.empty_device(MB)
    device.upload(host, buffer, stream)
    with pytest.raises(HazardError, match="1000000 bytes of pinned memory are written"):
        device.writes(host)
    stream.synchronize()
    device.writes(host)


def test_announced_read_of_a_download_in_flight_is_a_hazard(device):
    stream = device.stream()
    host, buffer = device.empty_host((MB,), np.uint8, PINNED), device.empty_device(MB)
    device.download(buffer, host, stream)
    with pytest.raises(HazardError, match="are read"):
        device.reads(host)
    stream.synchronize()
    device.reads(host)


def test_unannounced_write_to_bytes_in_flight_is_found_when_bytes_move(preset):
    device = SimulatedDevice(preset, moves_bytes=True)
    stream = device.stream()
    host, buffer = device.empty_host((16,), np.uint8, PINNED), device.empty_device(16)
    host.array[:] = 1
    device.upload(host, buffer, stream)
    host.array[3] = 9
    with pytest.raises(HazardError, match="were written while they were in flight"):
        stream.synchronize()


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
    again = device.empty_host((MB,), np.uint8, PINNED)
    device.writes(HostBuffer(again.array, PINNED, address, MB))  # as if it lay there, which is the allocator's choice
