"""The simulated device in exact virtual time, on the preset of round numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from yolotrt_lab.devices import open_device
from yolotrt_lab.devices.preset import EngineCost
from yolotrt_lab.devices.simulated import SimulatedDevice
from yolotrt_lab.errors import CaptureError, DeviceError, HazardError
from yolotrt_lab.types import HostMemory, SourceKind

MB = 1_000_000
PAGEABLE, PINNED = HostMemory.PAGEABLE, HostMemory.PINNED
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


def time_of(device, call):
    begin = device.now_ns()
    call()
    return device.now_ns() - begin


def copy_times(device, direction, memory, nbytes, backlog_ns=0):
    """(call, synchronize) in ns of one copy behind a backlog."""
    stream = device.stream()
    host, buffer = device.empty_host((nbytes,), np.uint8, memory), device.empty_device(nbytes)
    if backlog_ns:
        device.spin(backlog_ns, stream)
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


def test_kernel_and_upload_on_two_streams_overlap(device):
    compute, copies = device.stream(), device.stream()
    host, buffer = device.empty_host((5 * MB,), np.uint8, PINNED), device.empty_device(5 * MB)
    device.spin(1 * MB, compute)
    device.upload(host, buffer, copies)
    copies.synchronize()
    assert device.now_ns() == 4_000 + 5_000 + 101_000 + 3_000
    compute.synchronize()
    assert device.now_ns() == 5_000 + 1 * MB + 3_000


def test_two_uploads_share_one_copy_engine(device):
    first, second = device.stream(), device.stream()
    host, buffer = device.empty_host((5 * MB,), np.uint8, PINNED), device.empty_device(5 * MB)
    device.upload(host, buffer, first)
    device.upload(host, buffer, second)
    second.synchronize()
    uploads = [span for span in device.spans if span.row == "upload"]
    assert [(span.start_ns, span.end_ns) for span in uploads] == [(5_000, 106_000), (106_000, 207_000)]


def test_work_that_waits_for_an_event_does_not_hold_the_engine_from_other_streams(device):
    slow, waiting, other = device.stream(), device.stream(), device.stream()
    event = device.event()
    host, buffer = device.empty_host((5 * MB,), np.uint8, PINNED), device.empty_device(5 * MB)
    device.spin(1 * MB, slow)
    slow.record(event)
    waiting.wait(event)
    device.upload(host, buffer, waiting)
    device.upload(host, buffer, other)
    waiting.synchronize()
    kernel_end = 5_000 + 1 * MB
    starts = sorted(span.start_ns for span in device.spans if span.row == "upload")
    # launch, record, wait and the first copy call (6 us: its stream is busy), then 5 us to submit
    assert starts == [4_000 + 1_000 + 1_000 + 6_000 + 5_000, kernel_end]


def test_launch_queue_holds_the_host_once_it_is_full(device):
    stream = device.stream()
    durations = [time_of(device, lambda: device.spin(1 * MB, stream)) for _ in range(105)]
    assert durations[:100] == [4_000] * 100
    assert durations[100] == 5_000 + 1 * MB - 400_000  # until the first kernel has made room
    assert durations[101:] == [1 * MB] * 4


def test_engine_is_not_done_while_the_host_still_launches(device):
    stream = device.stream()
    device.run_kernels("engine", ENGINE, stream)
    assert time_of(device, stream.synchronize) == 10_000 + 3_000
    graph = device.capture(lambda: device.run_kernels("engine", ENGINE, stream), stream)
    assert time_of(device, lambda: graph.launch(stream)) == 2_000
    assert time_of(device, stream.synchronize) == 3_000 + 390_000 + 3_000


def test_calls_are_cold_once_after_the_host_has_moved_megabytes(preset):
    device = SimulatedDevice(preset)
    stream = device.stream()
    host, buffer = device.empty_host((5 * MB,), np.uint8, PAGEABLE), device.empty_device(5 * MB)
    times = []
    for move in (False, False, True, False):
        if move:
            device.upload(host, buffer, stream)
        stream.synchronize()
        times.append(time_of(device, lambda: device.run_kernels("engine", ENGINE, stream)))
    assert times == [600_000, 600_000, 700_000, 600_000]


def test_events_mark_a_place_and_measure_device_time(device):
    stream, begin, end = device.stream(), device.event(timing=True), device.event(timing=True)
    assert end.done
    stream.record(begin)
    device.spin(1 * MB, stream)
    stream.record(end)
    assert begin.done
    assert not end.done
    with pytest.raises(DeviceError, match="not been reached"):
        end.elapsed_ns(begin)
    end.synchronize()
    assert end.done
    assert end.elapsed_ns(begin) == 1 * MB + 5_000  # it began 5 us after its submission


def test_waiting_for_an_event_that_is_never_recorded_is_an_error_and_not_a_hang(device):
    first, second = device.stream(), device.stream()
    one, two = device.event(), device.event()
    device.spin(1_000, first)
    first.record(one)
    second.wait(one)
    second.record(two)
    second.synchronize()
    assert two.done


def test_pageable_copies_cannot_be_captured(device):
    stream = device.stream()
    host, buffer = device.empty_host((MB,), np.uint8, PAGEABLE), device.empty_device(MB)
    with pytest.raises(CaptureError, match="pinned"):
        device.capture(lambda: device.upload(host, buffer, stream), stream)
    device.upload(host, buffer, stream)  # the capture is over: this is an ordinary copy again
    stream.synchronize()


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


def test_copy_that_does_not_fit_is_refused(device):
    stream = device.stream()
    with pytest.raises(DeviceError, match="does not fit"):
        device.upload(device.empty_host((10,), np.uint8, PINNED), device.empty_device(9), stream)


def test_jitter_is_seeded_and_off_by_default(preset):
    def run(**settings):
        device = SimulatedDevice(preset, **settings)
        return [copy_times(device, "h2d", PINNED, MB) for _ in range(5)]

    assert run() == [(5_000, 24_000)] * 5
    assert run(jitter=0.1, seed=1) == run(jitter=0.1, seed=1)
    assert run(jitter=0.1, seed=1) != run(jitter=0.1, seed=2)


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
            device.spin(100_000, stream)

    def wait():
        device.wait_until_ns(9_000)  # after the second launch, in the middle of the third
        stream.synchronize()
        ends.append(device.now_ns())

    threads = [device.start_thread(submit), device.start_thread(wait)]
    for thread in threads:
        thread.join()
    assert ends == [5_000 + 300_000 + 3_000]


def test_queue_hands_over_in_virtual_time(device):
    queue, log = device.queue(), []

    def consumer():
        for _ in range(2):
            item = queue.get()
            log.append((item, device.now_ns()))

    thread = device.start_thread(consumer)
    device.wait_until_ns(1_000)
    queue.put("first")
    device.wait_until_ns(5_000)
    queue.put("second")
    thread.join()
    assert log == [("first", 1_000), ("second", 5_000)]


def test_deadlock_between_threads_is_an_error(device):
    thread = device.start_thread(lambda: None)
    with pytest.raises(DeviceError, match="deadlock"):
        device.queue().get()
    thread.join()


def test_exception_of_a_thread_is_raised_by_join(device):
    def fail():
        raise ValueError("from the thread")

    with pytest.raises(ValueError, match="from the thread"):
        device.start_thread(fail).join()


def test_range_and_spans_tell_what_happened_when(device):
    stream = device.stream()
    with device.range("infer"):
        device.spin(1_000, stream)
    stream.synchronize()
    assert [(s.row, s.name, s.start_ns, s.end_ns) for s in device.spans] == [
        ("api", "cudaLaunchKernel", 0, 4_000),
        ("range", "infer", 0, 4_000),
        ("kernel", "spin", 5_000, 6_000),
        ("api", "cudaStreamSynchronize", 4_000, 9_000),
    ]


def test_source_says_simulated_and_names_the_preset(device, preset):
    assert device.source.kind is SourceKind.SIMULATED
    assert device.source.stamp.startswith("simulated, preset round")
    other = SimulatedDevice(replace(preset, name="other"))
    assert "preset other" in other.source.stamp


def test_simulated_by_name_never_asks_for_a_gpu():
    assert open_device("simulated").kind == "simulated"


def test_device_synchronize_is_one_call_that_waits_for_the_last_stream(device):
    first, second = device.stream(), device.stream()
    device.spin(1 * MB, first)
    device.spin(2 * MB, second)  # one compute engine: behind the first
    device.synchronize()
    assert device.now_ns() == 5_000 + 3 * MB + 3_000
    assert [span.name for span in device.spans if "Synchronize" in span.name] == ["cudaDeviceSynchronize"]
