"""Kernels and graphs of the simulated device: what they cost the host, and whose work a capture takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from call_times import time_of

from yolotrt_lab.errors import CaptureError
from yolotrt_lab.simulate import spin
from yolotrt_lab.simulate.preset import EngineCost
from yolotrt_lab.simulate.simulated import SimulatedDevice
from yolotrt_lab.simulate.timeline import COMPUTE_ENGINE, Task
from yolotrt_lab.types import HostMemory

MB = 1_000_000
PAGEABLE = HostMemory.PAGEABLE
ENGINE = EngineCost(
    enqueue_ns=600_000,
    cold_enqueue_ns=700_000,
    gpu_ns=400_000,
    tail_ns=10_000,
    graph_launch_ns=2_000,
    graph_submit_ns=5_000,
    cold_graph_launch_ns=7_000,
    graph_gpu_ns=390_000,
    kernels=1,
)
KERNELS = Task(COMPUTE_ENGINE, "engine")


def test_engine_is_not_done_while_the_host_still_launches(device):
    stream = device.stream()
    device.run_kernels(KERNELS, ENGINE, stream)
    assert time_of(device, stream.synchronize) == 10_000 + 3_000
    graph = device.capture(lambda: device.run_kernels(KERNELS, ENGINE, stream), stream)
    assert time_of(device, lambda: graph.launch(stream)) == 2_000
    assert time_of(device, stream.synchronize) == 3_000 + 390_000 + 3_000


def test_a_capture_takes_its_share_of_the_plain_enqueue_and_is_in_the_trace_of_a_loop(preset):
    device = SimulatedDevice(replace(preset, capture_times=0.5), trace=True)
    stream, before = device.stream(), device.now_ns()
    device.capture(lambda: device.run_kernels(KERNELS, ENGINE, stream), stream)
    assert device.now_ns() - before == 300_000
    assert device.spans == []
    with device.range("frame"):
        device.capture(lambda: device.run_kernels(KERNELS, ENGINE, stream), stream)
    (made, _) = device.spans
    assert (made.name, made.end_ns - made.start_ns) == ("cudaGraphInstantiate", 300_000)


def test_calls_are_cold_once_after_the_host_has_moved_megabytes(preset):
    device = SimulatedDevice(preset)
    stream = device.stream()
    host, buffer = device.empty_host((5 * MB,), np.uint8, PAGEABLE), device.empty_device(5 * MB)
    times = []
    for move in (False, False, True, False):
        if move:
            device.upload(host, buffer, stream)
        stream.synchronize()
        times.append(time_of(device, lambda: device.run_kernels(KERNELS, ENGINE, stream)))
    assert times == [600_000, 600_000, 700_000, 600_000]


def test_pageable_copies_cannot_be_captured(device):
    stream = device.stream()
    host, buffer = device.empty_host((MB,), np.uint8, PAGEABLE), device.empty_device(MB)
    with pytest.raises(CaptureError, match="pinned"):
        device.capture(lambda: device.upload(host, buffer, stream), stream)
    device.upload(host, buffer, stream)  # the capture is over: this is an ordinary copy again
    stream.synchronize()


def test_graph_captures_the_work_of_its_own_thread_alone(device):
    """As `cudaStreamCaptureModeThreadLocal` does."""
    mine, others = device.stream(), device.stream()

    def meanwhile():
        device.wait_until_ns(15)
        spin(device, 1_000, others)
        others.synchronize()

    def submit():
        spin(device, 1_000, mine)
        device.wait_until_ns(30)  # the other thread's turn
        spin(device, 1_000, mine)

    thread = device.start_thread(meanwhile)
    device.wait_until_ns(10)
    graph = device.capture(submit, mine)
    thread.join()
    assert [span.row for span in device.spans].count("kernel") == 1
    graph.launch(mine)
    mine.synchronize()
    assert [span.row for span in device.spans].count("kernel") == 3


def test_plain_kernel_leaves_the_launch_of_an_engines_graph_at_its_cost(device):
    stream = device.stream()
    engine = device.capture(lambda: device.run_kernels(KERNELS, ENGINE, stream), stream)

    def submit():
        device.run_kernels(KERNELS, ENGINE, stream)
        spin(device, 1_000, stream)

    both = device.capture(submit, stream)
    took = []
    for graph in (engine, both):
        begin = device.now_ns()
        graph.launch(stream)
        took.append(device.now_ns() - begin)
        stream.synchronize()
    assert took == [ENGINE.graph_launch_ns] * 2
