"""Copies on the simulated device in exact virtual time, on the preset of round numbers."""

from __future__ import annotations

import numpy as np
import pytest
from call_times import time_of

from yolotrt_lab.errors import DeviceError
from yolotrt_lab.simulate import spin
from yolotrt_lab.simulate.simulated import SimulatedDevice
from yolotrt_lab.types import HostMemory

MB = 1_000_000
PAGEABLE, PINNED = HostMemory.PAGEABLE, HostMemory.PINNED


def copy_times(device, direction, memory, nbytes, backlog_ns=0):
    """(call, synchronize) in ns of one copy behind a backlog."""
    stream = device.stream()
    host, buffer = device.empty_host((nbytes,), np.uint8, memory), device.empty_device(nbytes)
    if backlog_ns:
        spin(device, backlog_ns, stream)
    copy = (
        (lambda: device.upload(host, buffer, stream))
        if direction == "h2d"
        else (lambda: device.download(buffer, host, stream))
    )
    return time_of(device, copy), time_of(device, stream.synchronize)


@pytest.mark.parametrize("direction", ["h2d", "d2h"])
def test_pinned_copy_returns_at_once_and_the_wait_is_in_synchronize(device, direction):
    # 5 us to submit, 1 us fixed, 100 us at 50 bytes/ns, 3 us to wake up; the call itself was 5 us of it
    assert copy_times(device, direction, PINNED, 5 * MB) == (5_000, 104_000)


@pytest.mark.parametrize("direction", ["h2d", "d2h"])
def test_pinned_copy_behind_a_backlog_moves_all_of_it_into_synchronize(device, direction):
    call, synchronize = copy_times(device, direction, PINNED, 5 * MB, backlog_ns=1 * MB)
    assert call == 6_000
    # the kernel began 5 us after its launch, which took 4 us: 1,001 us from the copy call on
    assert synchronize == 1_001_000 + 101_000 + 3_000 - 6_000


def test_small_pageable_upload_returns_once_staged_whatever_the_backlog(device):
    idle, _ = copy_times(device, "h2d", PAGEABLE, 1 * MB)
    behind, synchronize = copy_times(device, "h2d", PAGEABLE, 1 * MB, backlog_ns=1 * MB)
    assert idle == behind == 2_000 + 50_000
    assert synchronize == 1_001_000 - 52_000 + 21_000 + 3_000


def test_large_pageable_upload_waits_for_the_backlog(device):
    assert copy_times(device, "h2d", PAGEABLE, 5 * MB) == (510_000, 8_000 + 3_000)
    call, synchronize = copy_times(device, "h2d", PAGEABLE, 5 * MB, backlog_ns=1 * MB)
    assert call == 1_001_000 + 510_000
    assert synchronize == 11_000


@pytest.mark.parametrize("nbytes", [1_000, 5 * MB])
def test_pageable_download_of_any_size_takes_the_whole_wait(device, nbytes):
    call, synchronize = copy_times(device, "d2h", PAGEABLE, nbytes, backlog_ns=1 * MB)
    assert call == 1_001_000 + 10_000 + nbytes // 10
    assert synchronize == 2_000  # nothing is left: this is where '0.004 ms' comes from


def test_two_uploads_share_one_copy_engine(device):
    first, second = device.stream(), device.stream()
    host = device.empty_host((5 * MB,), np.uint8, PINNED)
    device.upload(host, device.empty_device(5 * MB), first)
    device.upload(host, device.empty_device(5 * MB), second)
    second.synchronize()
    uploads = [span for span in device.spans if span.row == "upload"]
    assert [(span.start_ns, span.end_ns) for span in uploads] == [(5_000, 106_000), (106_000, 207_000)]


def test_copy_that_does_not_fit_is_refused(device):
    stream = device.stream()
    with pytest.raises(DeviceError, match="must fit device memory"):
        device.upload(device.empty_host((10,), np.uint8, PINNED), device.empty_device(9), stream)


def test_jitter_is_seeded_and_off_by_default(preset):
    def run(**settings):
        device = SimulatedDevice(preset, **settings)
        return [copy_times(device, "h2d", PINNED, MB) for _ in range(5)]

    assert run() == [(5_000, 24_000)] * 5
    assert run(jitter=0.1, seed=1) == run(jitter=0.1, seed=1)
    assert run(jitter=0.1, seed=1) != run(jitter=0.1, seed=2)
