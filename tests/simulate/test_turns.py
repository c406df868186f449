"""Pageable uploads of a process take turns in the driver, which hold no pinned copy, no launch and no download."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from yolotrt_lab.simulate.simulated import SimulatedDevice
from yolotrt_lab.simulate.timed_engine import spin
from yolotrt_lab.types import HostMemory

NBYTES = 5_000_000
CALL_NS = 10_000 + 500_000
"""A pageable upload of 5 MB on the preset of round numbers."""


class Thread:
    """A host thread with a stream of its own, and how long its calls took."""

    def __init__(self, device, memory):
        self.device, self.stream = device, device.stream()
        self.source = device.empty_host((NBYTES,), np.uint8, memory)
        self.target = device.empty_device(NBYTES)
        self.took = []

    def calls(self, *names):
        for name in names:
            begin = self.device.now_ns()
            getattr(self, name)()
            self.took.append(self.device.now_ns() - begin)

    def upload(self):
        self.device.upload(self.source, self.target, self.stream)

    def download(self):
        self.device.download(self.target, self.source, self.stream)

    def launch(self):
        spin(self.device, 1_000, self.stream)

    def synchronize(self):
        self.stream.synchronize()


def run(device, *threads):
    """What the calls of threads took that start at once: pairs of a kind of memory and names of calls."""
    started = [(Thread(device, memory), names) for memory, *names in threads]
    for each in [device.start_thread(thread.calls, *names) for thread, names in started]:
        each.join()
    return [thread.took for thread, _ in started]


@pytest.mark.parametrize("threads", [1, 4])
def test_pageable_uploads_take_turns_whatever_the_number_of_threads(device, threads):
    took = run(device, *[(HostMemory.PAGEABLE, "upload")] * threads)
    assert took == [[CALL_NS * (number + 1)] for number in range(threads)]


@pytest.mark.parametrize("threads", [1, 4])
def test_their_rate_together_is_that_of_one(device, threads):
    run(device, *[(HostMemory.PAGEABLE, *["upload"] * 4)] * threads)
    copies = [span for span in device.spans if span.row == "upload"]
    span_ns = max(span.end_ns for span in copies) - min(span.start_ns for span in copies)
    # alone, each of the four waits for the tail of the one before it; several fill that gap
    assert span_ns == 4 * threads * CALL_NS + (4 if threads == 1 else 1) * 8_000


@pytest.mark.parametrize(("threads", "factors"), [(1, [1]), (2, [1, 1]), (3, [1, 1, 1.25]), (4, [1, 1, 1.25, 1.5])])
def test_measured_turns_take_longer_the_more_take_them(preset, threads, factors):
    device = SimulatedDevice(replace(preset, upload_turn_times={"2": 1.0, "4": 1.5}), trace=True)
    took = run(device, *[(HostMemory.PAGEABLE, "upload")] * threads)
    assert [each for [each] in took] == [sum(factors[: number + 1]) * CALL_NS for number in range(threads)]


def test_pinned_uploads_and_launches_beside_them_are_not_held(device, preset):
    beside = (HostMemory.PINNED, "upload", "launch", "synchronize")
    [*_, among] = run(device, *[(HostMemory.PAGEABLE, "upload")] * 4, beside)
    [alone] = run(SimulatedDevice(preset), beside)
    end_ns = 5_000 + 101_000 + 1_000 + 3_000  # the copy, the kernel of 1 us, and the host awake
    assert alone == [5_000, 4_000, end_ns - 9_000]
    assert among == [6_000, 4_000, end_ns - 10_000]  # the call is cold: the host moves megabytes


def test_downloads_are_not_held(device):
    _, took = run(device, (HostMemory.PAGEABLE, "upload", "upload"), (HostMemory.PAGEABLE, "download"))
    assert took == [CALL_NS]


# A synchronize that has nothing to wait for


@pytest.fixture
def cold(preset):
    """On this preset it takes 7 us after the host has moved megabytes, and 2 us otherwise."""
    return SimulatedDevice(replace(preset, cold_synchronize_ns=7_000))


def test_synchronize_is_cold_once_after_the_host_has_moved_megabytes(cold):
    thread = Thread(cold, HostMemory.PINNED)
    cold.host_work("letterbox")
    thread.calls("synchronize", "synchronize")
    assert thread.took == [7_000, 2_000]


def test_synchronize_behind_a_pageable_download_is_warm_since_that_call_has_waited(cold):
    thread = Thread(cold, HostMemory.PAGEABLE)
    thread.calls("download", "synchronize")
    assert thread.took == [CALL_NS, 2_000]


def test_cold_synchronize_is_no_longer_where_it_waits_for_work(cold, device):
    for each in (cold, device):
        thread = Thread(each, HostMemory.PINNED)
        each.host_work("letterbox")
        thread.calls("upload", "synchronize")
        assert thread.took == [6_000, 100_000 + 5_000 + 1_000 + 3_000 - 6_000]
