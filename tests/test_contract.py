"""What every device must do, asked of the simulated one and, where there is a GPU, of a real one."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from yolotrt_lab.cuda import has_gpu
from yolotrt_lab.device import Kernel, open_device
from yolotrt_lab.errors import CaptureError, DeviceError, NoGpuError, OutOfMemoryError, SettingsError
from yolotrt_lab.loop import LoopSettings, run_loop
from yolotrt_lab.simulate import spin
from yolotrt_lab.simulate.timed_engine import SpinEngine
from yolotrt_lab.types import Fill, HostMemory, SourceKind

HAS_GPU = has_gpu()
NBYTES = 1 << 20


@pytest.fixture(params=["simulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def any_device(request):
    if request.param == "cuda" and not HAS_GPU:
        pytest.skip("no NVIDIA GPU")
    return open_device(request.param, moves_bytes=True)


@pytest.mark.parametrize("memory", list(HostMemory))
def test_bytes_come_back_from_every_kind_of_host_memory(any_device, memory):
    device, stream = any_device, any_device.stream()
    there, back = (device.empty_host((4, NBYTES // 4), np.uint8, memory) for _ in range(2))
    buffer = device.empty_device(NBYTES)
    there.array[:] = np.random.default_rng(1).integers(0, 256, (4, NBYTES // 4), np.uint8)
    back.array[:] = 0
    device.upload(there, buffer, stream)
    device.download(buffer, back, stream)
    stream.synchronize()
    assert there.memory is memory
    assert np.array_equal(there.array, back.array)


@pytest.mark.parametrize("memory", [HostMemory.PAGEABLE, HostMemory.PINNED])
def test_host_memory_that_cannot_be_had_is_an_error_with_the_fix(any_device, memory):
    with pytest.raises(OutOfMemoryError, match=f"no room for {1 << 55} bytes of {memory} memory") as caught:
        any_device.empty_host((1 << 55,), np.uint8, memory)
    assert "fewer slots" in caught.value.fix


def test_kind_of_host_memory_may_be_named_and_no_other_kind_is_taken_for_one(any_device):
    for memory in HostMemory:
        assert any_device.empty_host((16,), np.uint8, str(memory)).memory is memory
    with pytest.raises(ValueError, match="'paged' is not a valid HostMemory"):
        any_device.empty_host((16,), np.uint8, "paged")


def test_clock_goes_on_and_waits_until_a_time(any_device):
    begin = any_device.now_ns()
    any_device.wait_until_ns(begin + 3_000_000)
    assert any_device.now_ns() >= begin + 3_000_000


def test_synchronize_waits_for_the_kernel_and_the_event_says_when(any_device):
    device, stream, event = any_device, any_device.stream(), any_device.event()
    spin(device, 1_000, stream)
    stream.synchronize()
    begin = device.now_ns()
    spin(device, 5_000_000, stream)
    stream.record(event)
    assert not event.done
    event.synchronize()
    assert event.done
    assert device.now_ns() - begin >= 5_000_000


ADD_SOURCE = """
extern "C" __global__ void add(int *numbers, int amount) { numbers[blockIdx.z * 4 + threadIdx.x] += amount; }
"""


def add(numbers, amount):
    """The same in NumPy."""
    numbers.view(np.int32)[:] += amount


@pytest.mark.parametrize("graph", [False, True])
def test_kernel_runs_in_its_stream_by_itself_and_in_a_graph(any_device, graph):
    device, stream = any_device, any_device.stream()
    kernel = Kernel("add", ADD_SOURCE, add, (4, 1, 1))
    there, back = (device.empty_host((2, 4), np.int32, HostMemory.PINNED) for _ in range(2))
    there.array[:] = np.arange(8).reshape(2, 4)
    buffer = device.empty_device(there.nbytes)

    def submit():
        device.upload(there, buffer, stream)
        device.launch(kernel, (1, 1, 2), (buffer, np.int32(5)), stream)
        device.launch(kernel, (1, 1, 2), (buffer, np.int32(100)), stream)
        device.download(buffer, back, stream)

    submit()
    stream.synchronize()
    if graph:
        captured = device.capture(submit, stream)
        there.array[:] += 1_000
        captured.launch(stream)
        stream.synchronize()
    assert back.array.tolist() == (there.array + 105).tolist()


def test_stream_waits_for_an_event_of_another(any_device):
    device = any_device
    first, second, done = device.stream(), device.stream(), device.event()
    begin, end = device.event(timing=True), device.event(timing=True)
    first.record(begin)
    spin(device, 5_000_000, first)
    first.record(done)
    second.wait(done)
    second.record(end)
    device.synchronize()
    assert end.elapsed_ns(begin) >= 4_900_000


def test_graph_does_again_what_was_captured(any_device):
    device, stream = any_device, any_device.stream()
    host = device.empty_host((16,), np.uint8, HostMemory.PINNED)
    back = device.empty_host((16,), np.uint8, HostMemory.PINNED)
    buffer = device.empty_device(16)

    def submit():
        device.upload(host, buffer, stream)
        device.download(buffer, back, stream)

    host.array[:] = 1
    graph = device.capture(submit, stream)
    for value in (2, 3):
        host.array[:] = value
        graph.launch(stream)
        stream.synchronize()
        assert (back.array == value).all()


def test_graph_keeps_the_memory_of_its_capture(any_device):
    device, stream = any_device, any_device.stream()
    buffer = device.empty_device(16)

    def capture(buffer):
        host = device.empty_host((16,), np.uint8, HostMemory.PINNED)
        device.upload(host, buffer, stream)
        stream.synchronize()
        return device.capture(lambda: device.upload(host, buffer, stream), stream)

    graph, held = capture(buffer), weakref.ref(buffer)
    del buffer
    gc.collect()
    assert held() is not None
    graph.launch(stream)
    stream.synchronize()


@pytest.mark.parametrize(
    "call",
    [
        lambda device, stream, event: stream.synchronize(),
        lambda device, stream, event: event.synchronize(),
        lambda device, stream, event: event.done,
        lambda device, stream, event: device.synchronize(),
        lambda device, stream, event: device.empty_host((4,), np.uint8, HostMemory.PINNED),
        lambda device, stream, event: device.empty_device(1 << 30),  # more than is left over of what was freed
    ],
    ids=["stream", "event", "query", "device", "pinned memory", "device memory"],
)
def test_nothing_waits_asks_or_allocates_inside_a_capture(any_device, call):
    device, stream, other, event = any_device, any_device.stream(), any_device.stream(), any_device.event()
    spin(device, 1_000, other)
    other.record(event)
    device.synchronize()

    def submit():
        spin(device, 1_000, stream)
        call(device, other, event)

    with pytest.raises(CaptureError) as caught:
        device.capture(submit, stream)
    assert caught.value.fix
    call(device, other, event)
    stream.synchronize()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_capture_that_breaks_leaves_the_thread_and_the_stream_as_they_were(any_device, error):
    device, stream = any_device, any_device.stream()
    host, back = (device.empty_host((16,), np.uint8, HostMemory.PINNED) for _ in range(2))
    host.array[:] = 7
    buffer = device.empty_device(16)

    def breaks():
        device.upload(host, buffer, stream)
        raise error("in the middle")

    with pytest.raises(error, match="in the middle"):
        device.capture(breaks, stream)
    device.upload(host, buffer, stream)
    device.download(buffer, back, stream)
    stream.synchronize()
    device.synchronize()
    assert (back.array == 7).all()


def test_copy_that_does_not_fit_is_refused(any_device):
    host = any_device.empty_host((16,), np.uint8, HostMemory.PINNED)
    with pytest.raises(DeviceError, match="must fit device memory"):
        any_device.upload(host, any_device.empty_device(8), any_device.stream())
    with pytest.raises(DeviceError, match="must fit device memory"):
        any_device.download(any_device.empty_device(8), host, any_device.stream())


def test_loop_runs_the_same_code_on_every_device(any_device):
    settings = LoopSettings(frames=30, warmup=5, input_memory=HostMemory.PINNED, fill=Fill.READY, collect_after=2)
    recording = run_loop(any_device, SpinEngine(200_000), settings)
    assert recording.columns["frame"].tolist() == list(range(-5, 30))
    assert np.diff(recording.steady.columns["done_ns"]).mean() >= 200_000
    kind = SourceKind.SIMULATED if any_device.kind == "simulated" else SourceKind.LIVE
    assert recording.source.kind is kind


def test_cuda_by_name_is_a_gpu_or_an_error():
    if HAS_GPU:
        assert open_device("cuda").kind == "cuda"
    else:
        with pytest.raises(NoGpuError, match="simulated device"):
            open_device("cuda")
        assert open_device().kind == "simulated"


def test_unknown_device_is_refused():
    with pytest.raises(SettingsError, match="got 'gpu'"):
        open_device("gpu")
