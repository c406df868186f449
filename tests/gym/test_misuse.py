"""Programs that a GPU runs without a word, and gets wrong: each is found, on the line marked `# here`."""

from __future__ import annotations

import ctypes
import linecache
import threading

import numpy as np
import pytest

from yolotrt_lab.device import Kernel
from yolotrt_lab.engine import open_engine
from yolotrt_lab.errors import DeviceError, HazardError, LabError, SlotInFlightError
from yolotrt_lab.memory import SlotPool
from yolotrt_lab.simulate import open_letterbox, raw_modules
from yolotrt_lab.simulate.simulated import SimulatedDevice
from yolotrt_lab.types import HostMemory

MB = 1_000_000


class Bench:
    """A device that keeps its trace, in both ways of calling it."""

    def __init__(self, preset, moves_bytes=False):
        self.device = device = SimulatedDevice(preset, trace=True, moves_bytes=moves_bytes)
        self.engine = open_engine(device)
        self.context = self.engine.context(device)
        self.stream, self.other = device.stream(), device.stream()
        self.image, self.output = (
            device.empty_host(spec.shape, spec.dtype, HostMemory.PINNED)
            for spec in (*self.engine.inputs, *self.engine.outputs)
        )
        self.d_image, self.d_output = self.context.buffers.values()
        self.cupy, self.cupyx, *_ = raw_modules(device)
        self.raw_stream = self.cupy.cuda.Stream(non_blocking=True)

    def copy(self, target, address, nbytes, kind=1):
        pair = (target.data.ptr, address) if kind == 1 else (address, target.data.ptr)
        self.cupy.cuda.runtime.memcpyAsync(*pair, nbytes, kind, self.raw_stream.ptr)


def upload_and_inference_in_two_streams(bench):
    bench.device.upload(bench.image, bench.d_image, bench.other)
    bench.context.enqueue(bench.stream)  # here


def inference_and_download_in_two_streams(bench):
    bench.context.upload(bench.image, bench.stream)
    bench.context.enqueue(bench.stream)
    bench.device.download(bench.d_output, bench.output, bench.other)  # here


def upload_into_the_input_that_is_still_read(bench):
    bench.context.upload(bench.image, bench.stream)
    bench.stream.synchronize()
    bench.context.enqueue(bench.stream)
    bench.device.upload(bench.image, bench.d_image, bench.other)  # here


def inference_into_the_output_that_is_still_downloaded(bench):
    computed = bench.device.event()
    bench.context.upload(bench.image, bench.stream)
    bench.context.enqueue(bench.stream)
    bench.stream.record(computed)
    bench.other.wait(computed)
    bench.device.download(bench.d_output, bench.output, bench.other)
    bench.context.enqueue(bench.stream)  # here


def event_recorded_before_the_upload(bench):
    uploaded = bench.device.event()
    bench.other.record(uploaded)
    bench.device.upload(bench.image, bench.d_image, bench.other)
    bench.stream.wait(uploaded)
    bench.context.enqueue(bench.stream)  # here


def two_downloads_into_the_same_memory(bench):
    bench.device.download(bench.d_output, bench.output, bench.stream)
    bench.device.download(bench.device.empty_device(bench.d_output.nbytes), bench.output, bench.other)  # here


def graph_after_its_device_memory_was_freed(bench):
    memory = [bench.device.empty_device(MB)]
    host = bench.device.empty_host((MB,), np.uint8, HostMemory.PINNED)
    graph = bench.device.capture(lambda: bench.device.upload(host, memory[0], bench.stream), bench.stream)
    memory.clear()
    graph.launch(bench.stream)  # here


def graph_after_its_pinned_memory_was_freed(bench):
    target, array = bench.cupy.empty(MB, np.uint8), bench.cupyx.empty_pinned(MB, np.uint8)
    bench.raw_stream.begin_capture()
    bench.copy(target, array.ctypes.data, MB)
    graph = bench.raw_stream.end_capture()
    del array
    graph.launch(bench.raw_stream)  # here


def graph_of_an_engine_whose_memory_was_freed(bench):
    context = bench.engine.raw_context(bench.device)
    tensors = [bench.cupy.empty(spec.shape, spec.dtype) for spec in (*bench.engine.inputs, *bench.engine.outputs)]
    for spec, tensor in zip((*bench.engine.inputs, *bench.engine.outputs), tensors, strict=True):
        context.set_tensor_address(spec.name, tensor.data.ptr)
    del tensor
    bench.raw_stream.begin_capture()
    context.execute_async_v3(bench.raw_stream.ptr)
    graph = bench.raw_stream.end_capture()
    tensors.clear()
    graph.launch(bench.raw_stream)  # here


def capture_that_submits_to_another_stream(bench):
    def submit():
        bench.context.upload(bench.image, bench.stream)
        bench.context.enqueue(bench.other)  # here

    bench.device.capture(submit, bench.stream)


def float16_array_into_a_float32_input(bench):
    half = bench.device.empty_host(bench.image.array.shape, np.float16, HostMemory.PINNED)
    bench.context.upload(half, bench.stream)
    bench.context.enqueue(bench.stream)  # here


def view_of_pinned_memory_that_was_freed(bench):
    bench.cupy.cuda.set_pinned_memory_allocator()  # no pool
    block = bench.cupy.cuda.alloc_pinned_memory(MB)
    view = np.ctypeslib.as_array((ctypes.c_ubyte * MB).from_address(block.ptr))
    target, stream = bench.cupy.empty(MB, np.uint8), bench.raw_stream
    del block
    bench.cupy.cuda.runtime.memcpyAsync(target.data.ptr, view.ctypes.data, MB, 1, stream.ptr)  # here


def pinned_local_dropped_while_its_upload_waits(bench):
    def submit(target):
        local = bench.cupyx.empty_pinned(MB, np.uint8)
        bench.copy(target, local.ctypes.data, MB)

    target = bench.cupy.empty(MB, np.uint8)
    submit(target)  # here
    bench.raw_stream.synchronize()


def stale_slot_released_and_leased_twice(bench):
    pool = SlotPool(bench.device, bench.engine.inputs, bench.engine.outputs, slots=1)
    stale = pool.lease()
    stale.release()
    pool.lease()
    stale.release()  # here
    pool.lease()


def two_threads_on_one_device(bench):
    errors, called, ended = [], threading.Event(), threading.Event()

    def call(first):
        try:
            bench.device.upload(bench.image, bench.d_image, bench.stream)  # here
        except LabError as error:
            errors.append(error)
        called.set()
        assert not first or ended.wait(10)

    threads = [threading.Thread(target=call, args=[first]) for first in (True, False)]
    threads[0].start()
    assert called.wait(10)
    threads[1].start()
    threads[1].join(10)
    ended.set()
    threads[0].join(10)
    raise errors[0]


PROGRAMS = {
    upload_and_inference_in_two_streams: "nothing orders the two",
    inference_and_download_in_two_streams: "nothing orders the two",
    upload_into_the_input_that_is_still_read: "nothing orders the two",
    inference_into_the_output_that_is_still_downloaded: "nothing orders the two",
    event_recorded_before_the_upload: "nothing orders the two",
    two_downloads_into_the_same_memory: "of pinned memory that",
    graph_after_its_device_memory_was_freed: "device memory that was freed",
    graph_after_its_pinned_memory_was_freed: "pinned memory that was freed",
    graph_of_an_engine_whose_memory_was_freed: "device memory that was freed",
    capture_that_submits_to_another_stream: "another stream than the one under capture",
    float16_array_into_a_float32_input: "must be written whole, got 2,457,600 of 4,915,200 bytes",
    view_of_pinned_memory_that_was_freed: "memory that is still held",
    pinned_local_dropped_while_its_upload_waits: "are freed",
    stale_slot_released_and_leased_twice: "the slot was leased again",
    two_threads_on_one_device: "one Python thread at a time",
}


@pytest.mark.parametrize("moves_bytes", [False, True], ids=["timed", "moves bytes"])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_misuse_is_found_on_its_line(program, moves_bytes, preset):
    with pytest.raises((HazardError, SlotInFlightError, DeviceError), match=PROGRAMS[program]) as caught:
        program(Bench(preset, moves_bytes))
    if isinstance(caught.value, HazardError):
        file, line = caught.value.lines[0]
    else:
        step = [each for each in caught.traceback if each.path.name == "test_misuse.py"][-1]
        file, line = str(step.path), step.lineno + 1
    assert "# here" in linecache.getline(file, line)


def test_host_write_into_a_download_under_way_is_found_where_bytes_move(preset):
    bench = Bench(preset, moves_bytes=True)
    array, source = bench.cupyx.empty_pinned(MB, np.uint8), bench.cupy.empty(MB, np.uint8)
    bench.copy(source, array.ctypes.data, MB, kind=2)
    array[:10] = 1
    with pytest.raises(HazardError, match=r"were written while they were in flight \(pinned download\)"):
        bench.raw_stream.synchronize()


def test_the_other_line_is_named_too(preset):
    with pytest.raises(HazardError) as caught:
        upload_and_inference_in_two_streams(Bench(preset))
    assert "bench.device.upload(" in linecache.getline(*caught.value.lines[1])


@pytest.mark.parametrize("trace", [True, False])
def test_an_instant_is_told_in_ms_where_no_line_is(trace, preset):
    device = SimulatedDevice(preset, trace=trace)
    host, memory = device.empty_host((MB,), np.uint8, HostMemory.PINNED), device.empty_device(MB)
    device.upload(host, memory, device.stream())
    when = "" if trace else rf" at {device.now_ns() / 1e6:.3f} ms"
    with pytest.raises(HazardError, match=f"are written{when} while a copy"):
        device.check_idle(host, "written")
    device.namespace.machine.hazards.freed(host)
    with pytest.raises(HazardError, match=f"are freed{when} while a copy"):
        device.synchronize()


def test_without_a_trace_there_are_no_lines(preset):
    device = SimulatedDevice(preset)
    host, memory = device.empty_host((MB,), np.uint8, HostMemory.PINNED), device.empty_device(MB)
    device.upload(host, memory, device.stream())
    with pytest.raises(HazardError, match="nothing orders the two") as caught:
        device.upload(host, memory, device.stream())
    assert caught.value.lines == ()


# What is in order


def test_streams_that_events_order_are_no_hazard(preset):
    bench = Bench(preset)
    uploaded, computed = bench.device.event(), bench.device.event()
    third = bench.device.stream()
    for _ in range(3):
        bench.device.upload(bench.image, bench.d_image, bench.other)
        bench.other.record(uploaded)
        bench.stream.wait(uploaded)
        bench.context.enqueue(bench.stream)
        bench.stream.record(computed)
        third.wait(computed)
        bench.device.download(bench.d_output, bench.output, third)
        third.record(computed)
        bench.other.wait(computed)  # and, by way of it, the next upload after the inference
    bench.device.synchronize()


def test_a_wait_of_the_host_orders_all_that_was_before_it(preset):
    bench = Bench(preset)
    event = bench.device.event()
    bench.device.upload(bench.image, bench.d_image, bench.other)
    bench.other.record(event)
    bench.stream.wait(event)
    bench.context.enqueue(bench.stream)
    bench.stream.synchronize()  # behind the upload too
    bench.device.upload(bench.image, bench.d_image, bench.device.stream())


def test_a_pageable_download_is_over_when_its_call_returns(preset):
    bench = Bench(preset)
    result = bench.device.empty_host(bench.output.array.shape, np.float32, HostMemory.PAGEABLE)
    bench.context.upload(bench.image, bench.stream)
    bench.context.enqueue(bench.stream)
    bench.device.download(bench.d_output, result, bench.stream)
    bench.device.upload(bench.image, bench.d_image, bench.other)


def test_an_input_that_nobody_wrote_is_no_hazard(preset):
    """A loop that only times the network uploads nothing."""
    bench = Bench(preset)
    bench.context.enqueue(bench.stream)
    bench.stream.synchronize()


def test_a_kernel_may_have_written_what_no_upload_did(preset):
    bench = Bench(preset)
    half = bench.device.empty_host(bench.image.array.shape, np.float16, HostMemory.PINNED)
    bench.context.upload(half, bench.stream)
    bench.device.launch(Kernel("widen", "", lambda image: None, (1, 1, 1)), (1, 1, 1), (bench.d_image,), bench.stream)
    bench.context.enqueue(bench.stream)


@pytest.mark.parametrize("order", [(1, 0), (0, 1)])
def test_an_input_may_be_written_in_parts(preset, order):
    """In two streams at once: the parts lie beside each other."""
    bench = Bench(preset)
    streams = [bench.cupy.cuda.Stream(non_blocking=True) for _ in range(2)]
    images = bench.cupy.empty((2, MB), np.uint8)
    array = bench.cupyx.empty_pinned((2, MB), np.uint8)
    runtime = bench.cupy.cuda.runtime
    for part in order:
        runtime.memcpyAsync(images.data.ptr + part * MB, array[part].ctypes.data, MB, 1, streams[part].ptr)
    bench.cupy.cuda.Device().synchronize()
    buffer, offset = bench.device.namespace.find_device_memory(images.data.ptr + MB, MB)
    assert (offset, buffer.region.written(2 * MB)) == (MB, 2 * MB)
    assert not buffer.region.has_gaps


def test_a_device_may_change_hands(preset):
    bench, errors = Bench(preset), []

    def work():
        try:
            context = bench.engine.context(bench.device)
            context.run({"images": bench.image}, {"output0": bench.output}, bench.stream)
        except LabError as error:
            errors.append(error)

    for _ in range(2):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10)
    bench.device.synchronize()
    assert errors == []


def test_letterbox_of_the_lab_is_no_hazard_between_frames(preset):
    bench = Bench(preset)
    letterbox = open_letterbox(bench.device)
    for _ in range(2):
        letterbox(np.zeros((1080, 1920, 3), np.uint8), out=bench.image.array)
        bench.context.run({"images": bench.image}, {"output0": bench.output}, bench.stream)
