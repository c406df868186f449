"""Threads and queues of the simulated device, and what its spans tell."""

from __future__ import annotations

import numpy as np
import pytest

from yolotrt_lab.simulate import spin
from yolotrt_lab.simulate.simulated import SimulatedDevice
from yolotrt_lab.types import HostMemory


def test_two_threads_take_turns_in_virtual_time(device):
    log = []

    def worker(name, step):
        for _ in range(3):
            device.wait_until_ns(device.now_ns() + step)
            log.append((name, device.now_ns()))

    threads = [device.start_thread(worker, "a", 10), device.start_thread(worker, "b", 25)]
    for thread in threads:
        thread.join()
    assert log == [("a", 10), ("a", 20), ("b", 25), ("a", 30), ("b", 50), ("b", 75)]
    assert device.now_ns() == 75


def test_thread_that_synchronizes_waits_for_work_another_thread_submits_meanwhile(device):
    stream = device.stream()
    ends = []

    def submit():
        for _ in range(3):
            spin(device, 100_000, stream)

    def wait():
        device.wait_until_ns(9_000)  # after the second launch, in the middle of the third
        stream.synchronize()
        ends.append(device.now_ns())

    threads = [device.start_thread(submit), device.start_thread(wait)]
    for thread in threads:
        thread.join()
    assert ends == [5_000 + 300_000 + 3_000]


def test_range_and_spans_tell_what_happened_when(device):
    stream = device.stream()
    with device.range("infer"):
        spin(device, 1_000, stream)
    stream.synchronize()
    assert [(s.row, s.name, s.start_ns, s.end_ns) for s in device.spans] == [
        ("api", "cudaLaunchKernel", 0, 4_000),
        ("range", "infer", 0, 4_000),
        ("kernel", "spin", 5_000, 6_000),
        ("api", "cudaStreamSynchronize", 4_000, 9_000),
    ]


@pytest.mark.parametrize(
    ("memory", "name"), [(HostMemory.PINNED, "cudaHostAlloc"), (HostMemory.REGISTERED, "cudaHostRegister")]
)
def test_page_locked_memory_is_in_the_spans_only_where_it_is_made_in_a_range(device, memory, name):
    device.empty_host((16,), np.uint8, memory)
    assert device.spans == []
    begin = device.now_ns()
    with device.range("preprocess"):
        device.empty_host((16,), np.uint8, memory)
        device.empty_host((16,), np.uint8, HostMemory.PAGEABLE)
    taken_ns = 600_000 if memory is HostMemory.REGISTERED else 0
    assert [(s.name, s.start_ns, s.end_ns) for s in device.spans] == [
        (name, begin, begin + taken_ns),
        ("preprocess", begin, begin + taken_ns),
    ]


def test_spans_are_kept_with_trace_alone_and_name_the_call_that_submitted(preset, device):
    quiet = SimulatedDevice(preset)
    for each in (quiet, device):
        stream = each.stream()
        spin(each, 1_000, stream)
        spin(each, 1_000, stream)
        stream.synchronize()
    assert quiet.spans == []
    assert quiet.now_ns() == device.now_ns()
    calls = {span.start_ns: span.correlation for span in device.spans if span.name == "cudaLaunchKernel"}
    assert [span.correlation for span in device.spans if span.row == "kernel"] == [calls[0], calls[4_000]] == [1, 2]
