"""Copies on the simulated device in exact virtual time, on the preset of round numbers."""

from __future__ import annotations

from functools import partial

import numpy as np
from call_times import time_of

from yolotrt_lab.simulate.simulated import SimulatedDevice
from yolotrt_lab.types import HostMemory

MB = 1_000_000
PINNED = HostMemory.PINNED


def test_two_uploads_share_one_copy_engine(device):
    first, second = device.stream(), device.stream()
    host = device.empty_host((5 * MB,), np.uint8, PINNED)
    device.upload(host, device.empty_device(5 * MB), first)
    device.upload(host, device.empty_device(5 * MB), second)
    second.synchronize()
    uploads = [span for span in device.spans if span.row == "upload"]
    assert [(span.start_ns, span.end_ns) for span in uploads] == [(5_000, 106_000), (106_000, 207_000)]


def test_jitter_is_seeded_and_off_by_default(preset):
    def run(**settings):
        """(call, synchronize) in ns of pinned uploads."""
        device = SimulatedDevice(preset, **settings)
        stream, host, buffer = device.stream(), device.empty_host((MB,), np.uint8, PINNED), device.empty_device(MB)
        upload = partial(device.upload, host, buffer, stream)
        return [(time_of(device, upload), time_of(device, stream.synchronize)) for _ in range(5)]

    assert run() == [(5_000, 24_000)] * 5
    assert run(jitter=0.1, seed=1) == run(jitter=0.1, seed=1)
    assert run(jitter=0.1, seed=1) != run(jitter=0.1, seed=2)
