"""Loops made up to show one thing each, and the verdicts that they must get."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import samples
from series import PINNED, PROCESSES, STEADY, loop, only, ramp, start_and_end, step

from yolotrt_lab.diagnose import Measured, bill, read

N = 1_000
FRAME = np.arange(N)
PAGEABLE = {"input": "pageable", "output": "pinned"}
BOTH_PINNED = {"input": "pinned", "output": "pinned"}
SAMPLED = STEADY | {"power_w": 300.0 + FRAME // 40 % 2}  # a sample is of 40 frames
SAMPLED_CLOCK = {"sm_clock_mhz": 1980.0, "power_w": SAMPLED["power_w"]}
GAP = np.where((FRAME > 440) & (FRAME < 600), np.nan, 1.0)
FALLS = 1 - 0.5 * np.clip((FRAME - 450) / 50, 0, 1)
"""A clock that falls to its half over the 5 % of the run in front of the middle."""
SLOWER_AT_ONCE = step(N, 0.5, 1.0)
SLOWER = 0.5 * 1980 / ramp(N, 1980, 660)
FILLS = np.minimum(ramp(N, 0.3, 30.3), 1.2)  # there by frame 30
NOW_AND_THEN = np.where(np.random.default_rng(5).random(N) < 0.1, 0.6, 0.03)
LONG = np.arange(12_000)
CLIMBS = np.clip((LONG - 5_000) / 2_000, 0, 1)
COARSE = {PROCESSES: LONG >= 6_000, "power_w": 300.0 + LONG // 1_000 % 2}  # a sample is of 1,000 frames
ONE_COMES = SAMPLED | {PROCESSES: step(N, 0.0, 1.0)}
HOT = "throttle_sw_thermal_slowdown"
GETS_HOT = {HOT: step(N, 0, 1, 0.3)}


def beside(wait, **telemetry):
    return loop(synchronize=wait, telemetry=STEADY | telemetry)


def sampled(wait, processes):
    return loop(synchronize=wait, telemetry=SAMPLED | {PROCESSES: processes})


def visit(low, high, first=0.5, last=0.8):
    """High for a part of the run."""
    return np.where((first * N <= FRAME) & (last * N > FRAME), high, low)


def every(k, usual, slow):
    """Slow in every k-th frame."""
    return np.where(FRAME % k == 0, slow, usual)


def timed(measured, *, due, start, took):
    """The same on another clock (ms); each frame takes the same."""
    instants = {"due": due * 1e6, "start": start * 1e6, "done": (start + took) * 1e6}
    times = measured.times_ns | {"latency": instants["done"] - instants["due"], "frame": np.full(N, took * 1e6)}
    return replace(measured, times_ns=times, instants_ns=instants)


LATE = 9 + np.maximum(FRAME - N // 2, 0) * 14
"""How long a frame is under way (ms) where one comes every 10 ms and, from the middle on, takes 24."""
SHORT = {"preprocess": 0.02, "upload": 0.005}
NO_LATENCY = ("preprocess", "upload", "infer", "synchronize", "frame")


def with_frame(measured, more_ms):
    """The same, with so much more in each frame that no stage holds."""
    return replace(measured, times_ns=measured.times_ns | {"frame": measured.times_ns["frame"] + more_ms * 1e6})


def with_times(measured, **more_ms):
    """The same with calls of other names."""
    more = {name: np.broadcast_to(each, N) * 1e6 for name, each in more_ms.items()}
    return replace(measured, times_ns=measured.times_ns | more)


def whole_alone(measured):
    """The same without its stages."""
    return replace(measured, times_ns={"frame": measured.times_ns["frame"]}, instants_ns={})


def burst(measured):
    """The same, with five frames that start late all at once."""
    late = np.where((FRAME > 500) & (FRAME <= 505), 50e6, 0)
    instants = {name: each + late * (name != "due") for name, each in measured.instants_ns.items()}
    return replace(
        measured, instants_ns=instants, times_ns=measured.times_ns | {"latency": instants["done"] - instants["due"]}
    )


CASES = {
    # Other processes: the wait must change in the sample in which they come.
    "no process": (loop(telemetry=STEADY), "shared_gpu excluded, allocation possible", ""),
    "one comes and goes": (beside(visit(0.5, 4.0), gpu_processes=visit(0, 1)), "", "shared_gpu"),
    "one comes, and something else may": (
        beside(step(N, 0.5, 4.0), gpu_processes=step(N, 0, 1)),
        "shared_gpu possible, clock_drop possible",
        "",
    ),
    "of those that compute alone none is there": (
        loop(synchronize=step(N, 1, 3), telemetry={"compute_processes": 0.0, "sm_clock_mhz": 1980.0}),
        "shared_gpu possible",
        "",
    ),
    "of those that compute alone one comes and goes": (
        loop(synchronize=visit(1, 3), telemetry=SAMPLED_CLOCK | {"compute_processes": visit(0, 1)}),
        "",
        "shared_gpu",
    ),
    "in three steps": (beside(0.06 + FRAME // 250 * 3, gpu_processes=FRAME // 250 * 3), "", "shared_gpu"),
    "they come as frames get larger": (
        loop(preprocess=step(N, 1, 2), synchronize=step(N, 1, 3), telemetry=SAMPLED | {PROCESSES: step(N, 0, 3)}),
        "shared_gpu possible",
        "",
    ),
    "the clock is unknown": (
        loop(synchronize=0.06 + FRAME // 250 * 3, telemetry={PROCESSES: FRAME // 250 * 3}),
        "shared_gpu possible",
        "",
    ),
    "they come while it climbs": (beside(ramp(N, 0.06, 9), gpu_processes=FRAME // 250 * 3), "shared_gpu possible", ""),
    "one comes while it climbs": (beside(ramp(N, 1, 9), gpu_processes=step(N, 0, 1)), "shared_gpu possible", ""),
    "20 frames before": (beside(step(N, 1, 9), gpu_processes=step(N, 0, 1, 0.48)), "shared_gpu possible", ""),
    "20 frames after": (beside(step(N, 1, 9), gpu_processes=step(N, 0, 1, 0.52)), "shared_gpu possible", ""),
    "in the sample after": (sampled(visit(1, 9, 0.49, 0.77), visit(0, 1, 0.52, 0.8)), "", "shared_gpu"),
    "in the sample before": (sampled(step(N, 1, 9, 0.54), step(N, 0, 1, 0.52)), "shared_gpu possible", ""),
    "they leave": (sampled(step(N, 1, 3), step(N, 2.0, 0.0)), "shared_gpu possible", ""),
    "the memory's clock falls with them": (
        loop(synchronize=step(N, 1, 3), telemetry=ONE_COMES | {"memory_clock_mhz": step(N, 10_501, 5_001)}),
        "shared_gpu possible",
        "",
    ),
    "uploads grow as much": (
        loop(upload=step(N, 0.4, 0.8), synchronize=step(N, 1, 2), telemetry=ONE_COMES),
        "shared_gpu possible",
        "",
    ),
    "uploads grow by less": (
        loop(upload=visit(0.4, 0.8), synchronize=visit(1, 9), telemetry=SAMPLED | {PROCESSES: visit(0, 1)}),
        "",
        "shared_gpu",
    ),
    "a column that is not read": (
        replace(sampled(step(N, 1, 3), step(N, 0, 1)), unread=("batch",)),
        "shared_gpu possible",
        "",
    ),
    "no telemetry then": (sampled(step(N, 1, 3), GAP * step(N, 0, 1)), "shared_gpu possible", ""),
    "memory moves by nothing": (
        loop(
            telemetry={PROCESSES: 1.0, "gpu_memory_used_bytes": 1.38e9 + 1e6 * (FRAME // 500), "sm_clock_mhz": 1980.0}
        ),
        "device_leak excluded",
        "",
    ),
    "memory by 100 MB of 30 GB": (
        loop(telemetry=STEADY | {"gpu_memory_used_bytes": 30e9 + 1e8 * np.clip(FRAME / 400 - 1.5, 0, 1)}),
        "device_leak possible",
        "",
    ),
    "ten sizes take memory once": (
        loop(telemetry=STEADY | {"gpu_memory_used_bytes": 1e9 + 60e6 * (FRAME // 100)}),
        "device_leak possible",
        "",
    ),
    # A clock must account for the change, and change when the wait does.
    "a clock by its factor": (beside(SLOWER, sm_clock_mhz=ramp(N, 1980, 660)), "", "clock_drop"),
    "a larger network draws more power": (
        loop(
            infer=step(N, 0.2, 0.6), synchronize=SLOWER_AT_ONCE, telemetry=STEADY | {"sm_clock_mhz": step(N, 1980, 990)}
        ),
        "clock_drop possible",
        "",
    ),
    "heat, and the host is slower too": (
        loop(preprocess=SLOWER, synchronize=SLOWER, telemetry=STEADY | {"sm_clock_mhz": ramp(N, 1980, 660)} | GETS_HOT),
        "heat possible, host_contention possible",
        "",
    ),
    "a clock with heat": (
        beside(SLOWER, sm_clock_mhz=ramp(N, 1980, 660), **{HOT: step(N, 0, 1, 0.3)}),
        "clock_drop excluded",
        "heat",
    ),
    "it may be heat": (
        beside(SLOWER, sm_clock_mhz=ramp(N, 1980, 660), temperature_c=ramp(N, 50, 87)),
        "clock_drop possible",
        "",
    ),
    "a clock of too small a factor": (beside(SLOWER, sm_clock_mhz=ramp(N, 1980, 1800)), "clock_drop possible", ""),
    "a clock in time": (beside(step(N, 0.5, 1), sm_clock_mhz=step(N, 1980, 990)), "", "clock_drop"),
    "the clock of its memory": (
        loop(
            synchronize=step(N, 0.5, 1),
            telemetry={"sm_clock_mhz": 1980.0, "sm_clock_max_mhz": 1980.0, "memory_clock_mhz": step(N, 2619, 405)},
        ),
        "clock_drop possible, heat possible",
        "",
    ),
    "a clock long before": (beside(step(N, 0.5, 1), sm_clock_mhz=step(N, 1980, 990, 0.25)), "clock_drop possible", ""),
    "a clock before": (beside(step(N, 0.5, 1), sm_clock_mhz=step(N, 1980, 990, 0.46)), "clock_drop possible", ""),
    "a clock after": (beside(step(N, 0.5, 1), sm_clock_mhz=step(N, 1980, 990, 0.53)), "clock_drop possible", ""),
    "a clock slowly": (beside(0.5 / FALLS, sm_clock_mhz=1980 * FALLS), "", "clock_drop"),
    "a clock slowly before": (beside(step(N, 0.5, 1), sm_clock_mhz=1980 * FALLS), "clock_drop possible", ""),
    "no flag of heat": (loop(telemetry=STEADY | {HOT: 0.0}), "heat excluded", ""),
    "memory may be hotter": (loop(telemetry=STEADY | {"temperature_c": 64.0}), "heat possible", ""),
    "a flag in one frame": (loop(telemetry=STEADY | {HOT: FRAME == 500}), "heat possible, clock_drop possible", ""),
    "a longer wait": (
        loop(synchronize=step(N, 0.06, 0.3)),
        "shared_gpu possible, clock_drop possible, heat possible, leak possible, shared_stream possible",
        "",
    ),
    "flat": (
        loop(),
        "clock_drop possible, heat possible, shared_gpu possible, host_contention possible, shared_stream possible",
        "",
    ),
    # Memory.
    "host memory": (loop(telemetry=STEADY | {"host_memory_bytes": ramp(N, 4e8, 2.2e9)}), "", "leak"),
    "host memory at once": (loop(telemetry=STEADY | {"host_memory_bytes": step(N, 1.6e9, 3.1e9)}), "leak possible", ""),
    "falls, then climbs": (
        loop(telemetry=STEADY | {"host_memory_bytes": 4e8 + 1e5 * np.abs(FRAME - N // 2)}),
        "leak possible",
        "",
    ),
    "GPU memory": (loop(telemetry=STEADY | {"gpu_memory_used_bytes": ramp(N, 1e9, 1.7e10)}), "", "device_leak"),
    "whose memory?": (loop(telemetry={"gpu_memory_used_bytes": ramp(N, 1e9, 1.7e10)}), "device_leak possible", ""),
    # Uploads and the queue.
    "an upload that fills": (loop(upload=FILLS, memory=PAGEABLE), "", "pageable_overload"),
    "with the wait": (loop(upload=FILLS, synchronize=FILLS, memory=PAGEABLE), "pageable_overload possible", ""),
    "larger frames": (loop(upload=step(N, 0.3, 1.4), memory=PAGEABLE), "pageable_overload possible", ""),
    "a queue behind the GPU": (
        loop(period_ms=1.6, synchronize=step(N, 0.5, 0.75), memory=PAGEABLE),
        "pageable_overload possible",
        "queueing",
    ),
    "pinned": (
        loop(period_ms=1.15, memory=BOTH_PINNED, **PINNED | {"upload": 0.06}),
        "pageable_overload excluded",
        "queueing",
    ),
    "a wait without a queue": (
        loop(synchronize=ramp(N, 2, 14)),
        "queueing excluded, pageable_overload excluded",
        "",
    ),
    "without due times": (
        only(loop(synchronize=ramp(N, 2, 14)), "preprocess", "upload", "synchronize"),
        "queueing not_measured, pageable_overload possible",
        "",
    ),
    "latency of unknown start": (only(loop(), "latency", *PINNED), "queueing not_measured", ""),
    "upload 0.36 ms": (
        only(loop(upload=0.36, infer=1.0, download=3.0, synchronize=5.0), "upload", "infer", "download", "synchronize"),
        "pageable_overload possible",
        "",
    ),
    "upload 3 us": (
        only(
            loop(upload=0.003, infer=1.0, download=3.0, synchronize=5.0), "upload", "infer", "download", "synchronize"
        ),
        "pageable_overload excluded",
        "",
    ),
    # Calls.
    "infer may wait": (loop(infer=8.0, download=3.0, synchronize=0.004), "moved_wait possible", ""),
    "infer may have waited, and download copies": (
        loop(infer=2.1, download=3.2, synchronize=0.004),
        "moved_wait possible",
        "",
    ),
    "another call may have waited in front of the download": (
        with_times(loop(infer=0.1, download=3.0, synchronize=0.004), kernels_done=8.0),
        "moved_wait possible",
        "",
    ),
    "a camera's stamps, and a GPU that is slower from the middle on": (
        timed(
            loop(infer=step(N, 8, 14), synchronize=0.01, download=0.001), due=FRAME * 10, start=FRAME * 10, took=LATE
        ),
        "launch_queue possible, queueing possible",
        "",
    ),
    "another thread submits, and a GPU that is slower from the middle on": (
        timed(loop(infer=0.1, synchronize=step(N, 8, 24)), due=FRAME * 10, start=FRAME * 10, took=LATE),
        "shared_stream possible, shared_gpu possible",
        "",
    ),
    "as deep from the start": (
        timed(loop(infer=ramp(N, 1, 3), synchronize=0.01, download=0.001), due=FRAME * 10, start=FRAME * 10, took=200),
        "launch_queue possible",
        "",
    ),
    "download waits": (
        loop(infer=step(N, 0.3, 1.9, 0.1), download=20.0, synchronize=0.004),
        "launch_queue possible",
        "moved_wait",
    ),
    "slow in every 4th": (
        loop(preprocess=every(4, 0.02, 5.0), infer=every(4, 0.03, 9.0), upload=every(4, 0.006, 9.0)),
        "allocation possible, host_contention possible, preprocess possible, shape_change possible",
        "",
    ),
    # The host.
    "preprocess": (loop(preprocess=ramp(N, 0.7, 1.7), infer=0.3), "preprocess possible", ""),
    "postprocess": (loop(postprocess=ramp(N, 0.5, 6)), "preprocess possible", ""),
    "drawing, of another name": (
        with_times(loop(), draw=ramp(N, 1, 6)),
        "preprocess possible",
        "",
    ),
    "the work in no column": (with_frame(loop(), ramp(N, 0, 2)), "preprocess possible", ""),
    "0.3 of 21 ms": (loop(preprocess=step(N, 0.5, 0.8), synchronize=20.0), "preprocess possible", ""),
    "larger batches": (
        loop(infer=0.02, synchronize=step(N, 6, 11)),
        "shape_change possible",
        "",
    ),
    "nothing moves": (loop(infer=0.02), "shape_change excluded, preprocess excluded", ""),
    "launches, and a copy as long": (
        loop(infer=2.0, download=4.0, synchronize=0.02),
        "launch_bound possible",
        "",
    ),
    "launches, and a longer wait": (loop(infer=0.5, synchronize=4.0), "launch_bound excluded", ""),
    "the host prepares the next frame meanwhile": (
        loop(preprocess=8.0, infer=0.2, download=3.0, synchronize=0.004),
        "moved_wait possible",
        "",
    ),
    "of a whole frame alone": (
        whole_alone(beside(step(N, 0.5, 1), sm_clock_mhz=step(N, 1980, 990))),
        "clock_drop possible",
        "",
    ),
    "slower cores": (
        loop(preprocess=0.7 * step(N, 1.0, 1.7), infer=0.8 * step(N, 1.0, 1.7)),
        "preprocess possible, host_contention possible",
        "",
    ),
    "a wait may end late where its core is taken": (
        loop(**SHORT, synchronize=step(N, 10, 20), telemetry={"pcie_generation": 4.0}),
        "host_contention possible",
        "",
    ),
    "the host has next to nothing to do": (loop(**SHORT, synchronize=10), "host_contention excluded", ""),
    # Warm-up.
    "the first frame, and one more": (
        loop(synchronize=9.0 + 51 * (FRAME == 0) + 46 * (FRAME == 300)),
        "warm_up possible",
        "",
    ),
    "first frames": (loop(synchronize=np.where(FRAME < 5, 40.0, 0.5)), "", "warm_up"),
    "a late fall": (loop(synchronize=step(N, 18.0, 0.06, 0.7)), "warm_up excluded", ""),
    "60 frames": (loop(infer=np.where(FRAME < 60, 30.0, 0.5)), "warm_up possible", ""),
    "a stall": (loop(preprocess=np.where(FRAME == 6, 300.0, 0.5)), "", ""),
    "equal stalls": (loop(noise=0, synchronize=every(60, 3.0, 8.0)), "warm_up excluded", ""),
    # A start and an end: what has no part in the growth can be read.
    "the public report": (
        start_and_end(preprocess=(1.2, 1.2), upload=(0.3, 1.4), synchronize=(0.004, 24.0)),
        "moved_wait excluded, preprocess excluded, warm_up excluded, queueing not_measured, "
        "pageable_overload possible, clock_drop possible, shared_gpu possible, heat possible",
        "",
    ),
    "preprocess has a part": (
        start_and_end(preprocess=(1.2, 9.2), upload=(0.3, 1.4), synchronize=(0.004, 24.0)),
        "preprocess possible",
        "",
    ),
    # A timer that mostly says 0.
    "coarse": (Measured("frames", "a test", dict.fromkeys(("infer", "latency"), every(3, 0.0, 15.6e6))), "", ""),
    # What an exclusion overlooked.
    "heat without its own flag": (
        beside(SLOWER, sm_clock_mhz=ramp(N, 1980, 660), temperature_c=94.0, throttle_hw_slowdown=1.0, **{HOT: 0.0}),
        "heat possible, clock_drop possible",
        "",
    ),
    "memory climbs by little": (
        beside(0.5, gpu_memory_used_bytes=40e9 + 0.7e6 * FRAME, host_memory_bytes=4e8 + 3e3 * FRAME),
        "device_leak possible, leak possible",
        "",
    ),
    "infer is long in one frame of ten": (
        only(loop(infer=NOW_AND_THEN, preprocess=0.03, upload=0.005), "preprocess", "infer", "synchronize"),
        "allocation possible, shape_change possible, launch_queue possible",
        "",
    ),
    "the wait moves from the download": (
        only(loop(download=step(N, 8, 0.1), synchronize=step(N, 0.005, 8.3)), "download", "synchronize", "frame"),
        "moved_wait possible",
        "",
    ),
    "ten of 20 ms are in no column": (
        only(with_frame(loop(preprocess=0.03, infer=0.02, upload=0.005), ramp(N, 0, 10)), *NO_LATENCY),
        "allocation possible, host_contention possible",
        "",
    ),
    "the loop rests while frames are due": (
        timed(loop(synchronize=8.0, upload=0.005), due=FRAME * 33.2, start=FRAME * 33.3, took=10),
        "queueing possible",
        "",
    ),
    "later by 200 ms, and at rest": (
        timed(loop(), due=FRAME * 33.3, start=FRAME * 33.3 + 0.5 * np.clip(FRAME - 200, 0, 400), took=2),
        "queueing possible, pageable_overload possible",
        "",
    ),
    "a queue of one burst": (burst(loop()), "queueing possible", ""),
    "one comes in a coarse sample of a climb": (
        loop(12_000, synchronize=1 + 2 * CLIMBS, telemetry=STEADY | COARSE),
        "shared_gpu possible",
        "",
    ),
}


BY_ONE_CONDITION = (
    "a queue behind the GPU",
    "the clock of its memory",
    "larger frames",
    "another call may have waited in front of the download",
)


@pytest.mark.parametrize("name", samples.sampled(CASES, [*list(CASES)[::4], *BY_ONE_CONDITION]))
def test_verdicts(name):
    measured, verdicts, proven = CASES[name]
    found = bill(measured)
    assert list(found.proven) == proven.split()
    expected = dict(each.split() for each in verdicts.split(", ") if each)
    assert {cause: found.verdict(cause) for cause in expected} == expected


def moved(download, synchronize):
    calls = loop(download=download, synchronize=synchronize, infer=1.5, noise=0.0)
    return only(calls, "upload", "infer", "download", "synchronize")


def kept(share):
    """Host memory that grows by that share of 1 GB."""
    return loop(telemetry=STEADY | {"host_memory_bytes": ramp(N, 1e9, (1 + share) * 1e9)})


def filling(times):
    """A pageable upload that takes so many times as long from frame 60 on."""
    return loop(upload=0.3 + 0.3 * (times - 1) * np.minimum(FRAME / 60, 1), memory=PAGEABLE)


HALF = {"sm_clock_mhz": step(N, 1980, 990)}


@pytest.mark.parametrize(
    ("inside", "outside", "cause"),
    [
        # half of the clock explains 1 ms: of 1.7 ms more than half, of 2.4 less
        (beside(step(N, 1, 2.7), **HALF), beside(step(N, 1, 3.4), **HALF), "clock_drop"),
        (moved(20, 0.8), moved(20, 1.25), "moved_wait"),  # 4 and 6 % of the call before
        (kept(0.025), kept(0.016), "leak"),
        (filling(2.6), filling(1.8), "pageable_overload"),
    ],
    ids=["EXPLAINED", "NO_WAIT", "LEAK_SHARE", "twice as long"],
)
def test_a_threshold_lies_where_it_is_said_to(inside, outside, cause):
    assert [bill(each).verdict(cause) for each in (inside, outside)] == ["proven", "possible"]


@pytest.mark.parametrize("wait", [0.5, ramp(N, 0.5, 1.5)])
@pytest.mark.parametrize(
    ("most", "verdict", "text"),
    [
        (None, "possible", "stays at 1,980 MHz, maybe below its maximum"),
        (2100.0, "possible", "stays at 1,980 MHz, maybe below its maximum"),
        (1980.0, "excluded", "is at 1,980 MHz or more, its highest"),
    ],
)
def test_a_clock_that_stays_may_be_locked_low_unless_it_is_the_highest(wait, most, verdict, text):
    known = {"throttle_sw_power_cap": 0.0, HOT: 0.0} | ({"sm_clock_max_mhz": most} if most else {})
    known["power_w"] = 300.0 + FRAME % 2
    found = bill(beside(wait, **known, memory_clock_mhz=2619.0))
    unknown = bill(beside(wait, **known))
    assert unknown.verdict("clock_drop") == "possible"  # the memory's may be lower
    judged = next(each for each in found.causes if each.cause == "clock_drop")
    assert judged.verdict == verdict
    assert judged.because.startswith(f"the SM clock {text}")


@pytest.mark.parametrize(
    ("names", "verdict", "pinned_output"),
    [
        ("upload infer download synchronize", "proven", None),
        ("upload infer synchronize download", "possible", 22.0),
        ("download infer synchronize upload", "possible", None),  # in no order of calls
        ("infer download upload synchronize", "possible", None),
    ],
)
def test_a_download_has_waited_in_synchronizes_place_only_where_it_is_in_front_of_it(names, verdict, pinned_output):
    found = bill(only(loop(download=22.0, synchronize=0.05, noise=0.0), *names.split()))
    assert found.verdict("moved_wait") == verdict
    assert next(each.at_most_ms for each in found.fixes if each.fix == "pinned_output") == pinned_output


@pytest.mark.parametrize(
    ("names", "stages"),
    [
        ("infer_ms,wait_ms,download_ms", ["infer", "synchronize", "download"]),
        ("infer_ms,wait_ms,download_ms,sync_ms", ["infer", "wait_ms", "download", "synchronize"]),
        ("wait_ms,infer_ms,sync_ms", ["wait", "infer", "synchronize"]),
    ],
)
def test_a_wait_behind_the_enqueue_is_for_the_gpu(tmp_path, names, stages):
    path = tmp_path / "a.csv"
    path.write_text("\n".join([names, *[",".join("8713"[: names.count(",") + 1])] * 99]), encoding="utf-8")
    assert [*read(path).times_ns] == stages


def test_due_times_that_stand_still_are_none(tmp_path):
    path = tmp_path / "a.csv"
    rows = [f"0,{8 * n},{8 * n + 8},6" for n in range(99)]
    path.write_text("\n".join(["due_ms,start_ms,done_ms,sync_ms", *rows]), encoding="utf-8")
    found = read(path)
    assert ([*found.instants_ns], found.unread, bill(found).proven) == (["start", "done"], ("due_ms",), ())


def test_columns_in_the_order_of_the_alphabet_tell_no_order_of_calls(tmp_path):
    names = "cpu_to_gpu_ms", "exec_ms", "gpu_to_cpu_ms", "sync_ms"
    for order, verdict in ((names, "possible"), (("id", *names), "proven")):
        values = {"id": 1} | dict(zip(names, (0.4, 0.6, 7.0, 0.004), strict=True))
        path = tmp_path / f"{verdict}.jsonl"
        path.write_text((json.dumps({name: values[name] for name in order}) + "\n") * 100, encoding="utf-8")
        assert bill(read(path)).verdict("moved_wait") == verdict


def test_stages_that_hold_each_other_are_not_added():
    inner = only(loop(preprocess=1.0, infer=1.0, synchronize=ramp(N, 4, 12), noise=0.0), "preprocess", "synchronize")
    waits = inner.times_ns["synchronize"]
    found = bill(replace(inner, times_ns=inner.times_ns | {"infer": waits + 1e6, "frame": waits + 2e6}))
    assert not {"beyond the stages", "in no column"} & {each.stage for each in found.spent}
    assert found.at_most_ms("cuda_graph") is None
    assert found.at_most_ms("gpu_alone") == pytest.approx(8, abs=1)
    assert found.at_most_ms("overlap") is None
    assert any(note.startswith("the stages add up to more than a frame") for note in found.notes)


@pytest.mark.parametrize("changed", samples.sampled([slice(8), slice(-8, None), slice(300, 330)], every=3))
@pytest.mark.parametrize(
    ("stage", "cause"), [("preprocess", "preprocess"), ("upload", "pageable_overload"), ("infer", "launch_queue")]
)
def test_what_changes_at_any_time_is_not_excluded(stage, cause, changed):
    short = {"preprocess": 0.7, "upload": 0.005, "infer": 0.006}
    values = np.full(N, short[stage])
    values[changed] += 0.4
    found = bill(only(loop(**short | {stage: values}), *short, "download", "synchronize"))
    assert found.verdict(cause) == "possible"
