"""Shared fixtures: a preset of round numbers, so that tests can state exact virtual times."""

from __future__ import annotations

import pytest

from yolotrt_lab.simulate.preset import EngineCost, OtherProcessesCost, PageableCopy, PinnedCopy, Preset, Registration
from yolotrt_lab.simulate.simulated import SimulatedDevice

collect_ignore = ["rtx_driver.py"]  # a program, which a test starts
collect_ignore_glob = ["*conftest.py"]  # no examples in them

ROUND = Preset(
    name="round",
    gpu="GPU of round numbers",
    driver="0",
    cpu="",
    date="2026-01-01",
    command="",
    pinned_upload=PinnedCopy(call_ns=5_000, busy_call_ns=6_000, fixed_ns=1_000, rate=50.0),
    pinned_download=PinnedCopy(call_ns=5_000, busy_call_ns=6_000, fixed_ns=1_000, rate=50.0),
    pageable_upload=PageableCopy(
        call_ns=10_000, rate=10.0, tail_ns=8_000, staging_bytes=1_000_000, staged_call_ns=2_000, staged_rate=20.0
    ),
    pageable_download=PageableCopy(call_ns=10_000, rate=10.0, tail_ns=0),
    launch_ns=4_000,
    submit_ns=5_000,
    wake_up_ns=3_000,
    synchronize_ns=2_000,
    record_ns=1_000,
    query_ns=500,
    range_ns=0,
    launch_queue_depth=100,
    engines={
        "yolov8n-fp16": EngineCost(
            enqueue_ns=600_000,
            cold_enqueue_ns=600_000,
            gpu_ns=400_000,
            tail_ns=10_000,
            graph_launch_ns=2_000,
            graph_submit_ns=5_000,
            cold_graph_launch_ns=2_000,
            graph_gpu_ns=400_000,
            kernels=1,
        )
    },
    host_work_ns={"letterbox": 100_000, "naive_letterbox": 300_000, "copy_to_slot": 200_000, "decode": 50_000},
    other_processes=OtherProcessesCost(
        turns_ns={"2": 4_000_000, "4": 6_000_000},
        slice_ns=2_000_000,
        call_ns=1_000,
        source="round",
        upload_times={"10": 2.0},
    ),
    registration=Registration(call_ns=600_000, kept_ns=100, source="round"),
)


@pytest.fixture
def preset() -> Preset:
    return ROUND


@pytest.fixture
def device(preset: Preset) -> SimulatedDevice:
    return SimulatedDevice(preset, trace=True)
