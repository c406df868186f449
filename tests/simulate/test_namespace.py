"""CuPy's, TensorRT's and nvtx's names on the simulated device, and the notebooks' raw cells in them."""

from __future__ import annotations

import gc
import time

import numpy as np
import pytest
from raw_cells import CELLS, MEASURED, names_for, run

from yolotrt_lab.device import open_device
from yolotrt_lab.engine import open_engine
from yolotrt_lab.errors import (
    CaptureError,
    DeviceError,
    EngineError,
    HazardError,
    LabError,
    MissingNameError,
    MissingPackageError,
    NoGpuError,
    SettingsError,
)
from yolotrt_lab.loop import LoopSettings, run_loop
from yolotrt_lab.simulate import SPIN, SimulatedEngine, SpinEngine, raw_modules
from yolotrt_lab.simulate.simulated import SimulatedDevice
from yolotrt_lab.types import Fill, HostMemory, Stage, TensorSpec

MB = 1_000_000
IMAGE = np.zeros((1080, 1920, 3), np.uint8)


def doubled(inputs):
    return {"output0": inputs["images"] * 2}


@pytest.fixture
def cells(device):
    """What the cells see on the preset of round numbers, with 'memory' run."""
    names = names_for(device, open_engine(device), [IMAGE], 5)
    run("memory", names)
    return names


class Raw:
    """Raw modules of a device with a stream, and copies of whole arrays."""

    def __init__(self, device):
        self.device = device
        self.cupy, self.cupyx, _, self.nvtx, self.time = raw_modules(device)
        self.runtime = self.cupy.cuda.runtime
        self.stream = self.cupy.cuda.Stream(non_blocking=True)

    def upload(self, array, target):
        kind = self.runtime.memcpyHostToDevice
        self.runtime.memcpyAsync(target.data.ptr, array.ctypes.data, array.nbytes, kind, self.stream.ptr)

    def download(self, source, array):
        kind = self.runtime.memcpyDeviceToHost
        self.runtime.memcpyAsync(array.ctypes.data, source.data.ptr, array.nbytes, kind, self.stream.ptr)

    def timed(self, call, *arguments):
        start = self.time.perf_counter_ns()
        call(*arguments)
        return self.time.perf_counter_ns() - start

    def spin(self, duration_ns):
        with self.stream:
            self.cupy.RawKernel(SPIN.source, SPIN.name)((1,), (1,), (np.uint64(duration_ns),))


@pytest.fixture
def raw(device):
    return Raw(device)


@pytest.fixture
def moving(preset):
    return Raw(SimulatedDevice(preset, moves_bytes=True))


# The cells


def test_cells_are_short():
    assert {name: lines for name, text in CELLS.items() if (lines := len(text.splitlines())) > 25} == {}
    assert max(len(line) for text in CELLS.values() for line in text.splitlines()) <= 120


@pytest.mark.parametrize(
    ("cell", "settings"),
    [
        ("report", LoopSettings(fill=Fill.FRESH, frames=5, warmup=0)),
        ("fixed", LoopSettings(fill=Fill.IN_PLACE, input_memory=HostMemory.PINNED, frames=5, warmup=0)),
    ],
)
def test_raw_loop_takes_the_time_of_the_labs_own(cell, settings, cells, preset):
    device = SimulatedDevice(preset)
    loop = run_loop(device, open_engine(device), settings, [IMAGE])
    by_stage = [loop.stage_ns(stage) / 1e6 for stage in list(Stage)[1:6]]
    raw_ms = np.array(run(cell, cells))
    if cell == "fixed":  # its event is recorded inside the time of the download, the lab's after it
        raw_ms[:, 3] -= preset.record_ns / 1e6
    else:  # it has no event, so its synchronize begins earlier by the record
        raw_ms[:, 4] -= preset.record_ns / 1e6
    np.testing.assert_allclose(raw_ms, np.transpose(by_stage))


def test_probe_shows_which_call_waits(cells):
    probe_ms = run("probe", cells)
    assert probe_ms["pageable"] == pytest.approx([5.001 + 0.010 + 0.49152, 0.008 + 0.003])
    assert probe_ms["pinned"][0] == 0.006
    assert probe_ms["pinned"][1] == pytest.approx(5.001 + 4.9152 / 50 - 0.006 + 0.003 + 0.001)


def test_allocators_cost_what_the_preset_measured(preset):
    names = names_for(device := open_device("simulated"), open_engine(device), [IMAGE], 5)
    run("memory", names)
    pooled, alone = (device.preset.pinned_allocation.ns(nbytes) / 1e6 for nbytes in (1 << 23, 4_915_200))
    registered = device.preset.registration.call_ns / 1e6
    assert list(run("allocators", names).values()) == [pooled, 0, 0, alone, registered]


def test_events_time_the_gpu_by_stage(cells):
    upload, infer, download = np.median(run("events", cells), axis=0)
    assert download == pytest.approx(0.001 + 2_822_400 / 50e6)
    assert upload < infer  # the host launches for longer than the kernels run


def test_graph_is_one_short_launch(cells):
    launch, synchronize = np.median(run("graph", cells), axis=0)
    assert launch == 0.002
    assert synchronize == pytest.approx((5 + 1 + 98.304 + 400 + 1 + 56.448 + 3 - 2) / 1e3)


def test_synchronize_is_a_remainder(cells):
    enqueue, synchronize = np.transpose(run("remainder", cells))
    gpu_ms, busy_ms = 0.4 + 0.001, cells["busy_ms"]
    floor = synchronize.min()
    assert floor < 0.02
    np.testing.assert_allclose(np.diff(enqueue), 0)
    np.testing.assert_allclose(synchronize[-5:] - synchronize[-1], busy_ms[-5:] - busy_ms[-1])
    assert synchronize[-1] == pytest.approx(busy_ms[-1] + gpu_ms - enqueue[-1], abs=0.02)


def test_trap_is_a_hazard_once(cells):
    assert "1,048,576 bytes of pinned memory are freed" in run("trap", cells)
    cells["stream"].synchronize()  # it was told, and the device can be used again


def test_all_cells_run_on_an_engine_that_computes(preset):
    device = SimulatedDevice(preset)
    specs = [TensorSpec(name, (1, 3, 32, 32), np.dtype(np.float32)) for name in ("images", "output0")]
    engine = SimulatedEngine("doubles", preset.engine("yolov8n-fp16"), specs[:1], specs[1:], doubled)
    names = names_for(device, engine, [IMAGE + 255], 3)
    names["letterbox"] = lambda frame, out=None: (
        np.copyto(out, 1.5) if out is not None else np.full((1, 3, 32, 32), 2.5, "f")
    )
    outputs = {}
    for name in CELLS:
        run(name, names)
        if name in ("report", "fixed", "graph"):
            outputs[name] = names["h_output"].mean()
    assert outputs == {"report": 5, "fixed": 3, "graph": 0}


@pytest.mark.gpu
def test_all_cells_run_on_a_gpu():
    try:
        device = open_device("cuda")
        engine = open_engine(device)
    except (NoGpuError, MissingPackageError) as error:
        pytest.skip(error.message)
    names = names_for(device, engine, [IMAGE], 20)
    measured = {name: run(name, names) for name in CELLS}
    assert all(np.isfinite(np.array(measured[name])).all() for name in MEASURED if isinstance(measured[name], list))
    assert measured["probe"]["pageable"][0] > measured["probe"]["pinned"][0]
    assert "100% of the bytes are 2" in measured["trap"]


# Names


@pytest.mark.parametrize(
    ("code", "there"),
    [
        ("cupy.zeros", "RawKernel, cuda, empty, get_default_pinned_memory_pool"),
        ("cupy.cuda.MemoryPool", "Event, ExternalStream, PinnedMemoryPool, Stream"),
        ("cupy.cuda.runtime.hostAlloc", "hostRegister, hostUnregister, memcpyAsync"),
        ("stream.is_capturing", "begin_capture, done, end_capture, ptr, record, synchronize, use, wait_event"),
        ("block.free", "mem, ptr, size"),
        ("context.execute_v2", "execute_async_v3, get_tensor_shape, set_input_shape, set_tensor_address"),
        ("nvtx.mark", "annotate, pop_range, push_range"),
        ("time.sleep", "perf_counter_ns"),
    ],
)
def test_unknown_name_is_an_error_that_lists_what_there_is(code, there, cells):
    with pytest.raises(MissingNameError, match=there) as raised:
        eval(code, cells)
    assert isinstance(raised.value, LabError)
    assert not hasattr(cells["cupy"], "zeros")


def test_a_device_has_one_set_of_modules(device):
    assert raw_modules(device) is raw_modules(device)
    assert raw_modules(SimulatedDevice(device.preset)) is not raw_modules(device)


def test_raw_modules_of_a_gpu_are_the_libraries(monkeypatch):
    monkeypatch.setattr("yolotrt_lab.simulate.namespace.load", lambda name, needed_for: name)
    monkeypatch.setattr("yolotrt_lab.plans.import_tensorrt", lambda: "tensorrt_rtx")
    assert raw_modules(object()) == ("cupy", "cupyx", "tensorrt_rtx", "nvtx", time)


def test_ranges_are_in_the_trace(raw):
    with raw.nvtx.annotate("frame", payload=3, category="loop", domain="raw"):
        raw.nvtx.push_range("upload", payload=3)
        raw.nvtx.pop_range()
    assert [span.name for span in raw.device.spans if span.row == "range"] == ["upload", "frame"]


# Memory


@pytest.mark.parametrize(("asked", "got"), [(1, 512), (513, 1_024), (4_096, 4_096), (4_915_200, 8_388_608)])
def test_pool_rounds_up_to_a_power_of_two(asked, got, raw):
    block = raw.cupy.cuda.alloc_pinned_memory(asked)
    assert (block.size(), len(memoryview(block)), block.mem.size) == (got, got, got)


@pytest.mark.parametrize(
    "view", [lambda block: np.frombuffer(block, np.uint8, 4)[1:], lambda b: np.ndarray(4, "u1", b)[2:]]
)
def test_block_goes_back_to_the_pool_with_the_last_array_on_it(view, raw):
    pool = raw.cupy.cuda.PinnedMemoryPool()
    block = pool.malloc(100)
    array, address = view(block), block.ptr
    assert array.ctypes.data > address
    del block
    assert pool.n_free_blocks() == 0
    del array
    assert pool.n_free_blocks() == 1
    assert pool.malloc(200).ptr == address
    pool.free_all_blocks()
    assert pool.n_free_blocks() == 0


def test_memory_without_a_pool_is_freed(raw):
    raw.cupy.cuda.set_pinned_memory_allocator()
    before = raw.device.machine.memory.host_bytes
    block = raw.cupy.cuda.alloc_pinned_memory(MB)
    assert (block.size(), raw.device.machine.memory.host_bytes - before) == (MB, MB)
    del block
    gc.collect()
    assert raw.device.machine.memory.host_bytes == before


def test_copy_call_depends_on_where_the_address_lies(raw):
    target = raw.cupy.empty(4 * MB, np.uint8)
    pageable = np.ones(4 * MB, np.uint8)
    pinned = raw.cupyx.empty_pinned(4 * MB, np.uint8)
    took = [raw.timed(raw.upload, array, target) for array in (pageable, pinned, pinned[MB:])]
    raw.stream.synchronize()
    assert took == [410_000, 6_000, 6_000]
    raw.runtime.hostRegister(pageable.ctypes.data, pageable.nbytes, 0)
    assert raw.timed(raw.upload, pageable, target) == 6_000
    raw.stream.synchronize()
    raw.runtime.hostUnregister(pageable.ctypes.data)
    assert raw.timed(raw.upload, pageable, target) == 410_000
    with pytest.raises(DeviceError, match="must be registered"):
        raw.runtime.hostUnregister(pageable.ctypes.data)


def test_bytes_arrive_where_they_are_moved(moving):
    pinned, pageable, back = moving.cupyx.empty_pinned(8, "f4"), np.arange(8, dtype="f4"), np.empty(8, "f4")
    target = moving.cupy.empty((2, 4), np.float32)
    moving.upload(pageable, target)
    moving.download(target, pinned)
    assert np.isnan(pinned).all()  # too early
    moving.stream.synchronize()
    np.testing.assert_array_equal(pinned, pageable)
    pinned += 1
    moving.upload(pinned[4:], target)
    moving.download(target, back)
    np.testing.assert_array_equal(back, [5, 6, 7, 8, 4, 5, 6, 7])


@pytest.mark.parametrize("moves_bytes", [False, True])
def test_write_to_an_upload_in_flight_is_a_hazard(moves_bytes, preset):
    raw = Raw(SimulatedDevice(preset, moves_bytes=moves_bytes))
    array, target = raw.cupyx.empty_pinned(16, np.uint8), raw.cupy.empty(16, np.uint8)
    array[:] = 1
    raw.upload(array, target)
    array[3] = 9
    with pytest.raises(HazardError, match="were written while they were in flight"):
        raw.stream.synchronize()


def test_memory_freed_after_its_copy_is_no_hazard(raw):
    array, target, done = raw.cupyx.empty_pinned(MB, np.uint8), raw.cupy.empty(MB, np.uint8), raw.cupy.cuda.Event()
    raw.upload(array, target)
    done.record(raw.stream)
    raw.spin(5 * MB)
    done.synchronize()
    del array
    raw.stream.synchronize()


@pytest.mark.parametrize("pooled", [True, False])
def test_memory_freed_during_a_download_is_a_hazard(pooled, raw):
    if not pooled:
        raw.cupy.cuda.set_pinned_memory_allocator()
    array, source = raw.cupyx.empty_pinned(MB, np.uint8), raw.cupy.empty(MB, np.uint8)
    raw.spin(5 * MB)
    raw.download(source, array)
    del array
    with pytest.raises(HazardError, match=r"1,000,000 bytes of pinned memory are freed .* download"):
        raw.stream.synchronize()


def test_copy_from_a_block_that_the_pool_has_back_is_a_hazard(raw):
    target, address = raw.cupy.cuda.alloc(16), raw.cupy.cuda.alloc_pinned_memory(16).ptr
    with pytest.raises(HazardError, match="the pool has back"):
        raw.runtime.memcpyAsync(target.ptr, address, 16, raw.runtime.memcpyHostToDevice, raw.stream.ptr)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"dst": 1}, DeviceError, "device memory at 0x1 must have 16 bytes, got none"),
        ({"size": 17}, DeviceError, "must have 17 bytes, got 16 bytes"),
        ({"kind": 3}, SettingsError, "kind must be 1 or 2, got 3"),
        ({"stream": 0}, DeviceError, "live stream, got 0"),
    ],
)
def test_copy_that_a_gpu_would_refuse(change, error, match, raw):
    memory, host = raw.cupy.cuda.alloc(16), np.zeros(32, np.uint8)
    right = {"dst": memory.ptr, "src": host.ctypes.data, "size": 16, "kind": 1, "stream": raw.stream.ptr}
    with pytest.raises(error, match=match):
        raw.runtime.memcpyAsync(*{**right, **change}.values())


def test_copy_beyond_its_block_is_refused(raw):
    block, memory = raw.cupy.cuda.alloc_pinned_memory(512), raw.cupy.cuda.alloc(1_024)
    with pytest.raises(DeviceError, match="fit the 512 bytes of pinned memory, got 100 \\+ 500"):
        raw.runtime.memcpyAsync(memory.ptr, block.ptr + 100, 500, 1, raw.stream.ptr)


# Streams, graphs, contexts


def test_streams_and_events_order_and_time_work(raw):
    events = [raw.cupy.cuda.Event() for _ in range(2)]
    other = raw.cupy.cuda.Stream(non_blocking=True)
    events[0].record(raw.stream)
    raw.spin(MB)
    with raw.stream:
        events[1].record()
    assert not events[1].done
    other.wait_event(events[1])
    third = other.record()
    other.synchronize()
    assert (events[1].done, third.done) == (True, True)
    raw.runtime.streamSynchronize(raw.stream.ptr)
    assert raw.cupy.cuda.get_elapsed_time(*events) == pytest.approx(1.005)  # the kernel starts 5 us after its launch
    with pytest.raises(DeviceError, match="must be timed"):
        raw.cupy.cuda.get_elapsed_time(events[0], raw.cupy.cuda.Event(disable_timing=True))
    with pytest.raises(DeviceError, match="default stream"):
        events[0].record()


def test_pageable_copy_cannot_be_captured_and_the_capture_can_be_ended(raw):
    array, target = np.ones(16, np.uint8), raw.cupy.empty(16, np.uint8)
    raw.stream.begin_capture()
    with pytest.raises(CaptureError, match="pageable"):
        raw.upload(array, target)
    with pytest.raises(CaptureError, match="cudaEventRecord"):
        raw.stream.record()
    raw.stream.end_capture()
    with pytest.raises(CaptureError, match="got none"):
        raw.stream.end_capture()


def test_context_refuses_what_tensorrt_refuses(cells):
    context, engine, device = cells["context"], cells["engine"], cells["gpu"]
    assert context.get_tensor_shape("images") == (1, 3, 640, 640)
    assert context.set_input_shape("images", [1, 3, 640, 640])
    assert not context.set_input_shape("images", (2, 3, 640, 640))
    assert not context.set_input_shape("output0", (1, 84, 8400))
    assert not context.set_tensor_address("image", cells["d_image"].data.ptr)
    assert not engine.raw_context(device).execute_async_v3(cells["stream"].ptr)
    with pytest.raises(DeviceError, match="must have 4,915,200 bytes, got 2,822,400"):
        context.set_tensor_address("images", cells["d_output"].data.ptr)


def test_inference_on_device_memory_that_was_freed_is_a_hazard(cells):
    del cells["d_image"]
    with pytest.raises(HazardError, match="device memory that was freed"):
        cells["context"].execute_async_v3(cells["stream"].ptr)


def test_raw_context_needs_tensorrt(device):
    with pytest.raises(EngineError, match="must have an engine of TensorRT, got spin kernel"):
        SpinEngine(MB).raw_context(device)


def test_kernel_must_be_the_spin(raw):
    with pytest.raises(SettingsError, match="must be 'spin', got 'add'"):
        raw.cupy.RawKernel("", "add")


def test_an_array_is_indexed_along_its_first_axis_as_cupys(raw):
    images = raw.cupy.empty((4, 3, 5), np.float32)
    one, pair = images[-1], images[1:3]
    assert (one.shape, one.nbytes, one.size, one.dtype) == ((3, 5), 60, 15, np.float32)
    assert one.data.ptr == images.data.ptr + 3 * 60
    assert (pair.shape, pair.nbytes, pair.data.ptr) == ((2, 3, 5), 120, images.data.ptr + 60)
    assert [each.data.ptr for each in pair] == [images[1].data.ptr, images[2].data.ptr]
    assert pair[1][2].data.ptr == images.data.ptr + 2 * 60 + 2 * 20
    assert (len(images), images[3:1].shape, images[np.int64(1)].shape) == (4, (0, 3, 5), (3, 5))


def test_a_view_holds_the_memory_of_its_array(raw):
    space, part = raw.device.namespace, raw.cupy.empty((2, MB), np.uint8)[1]
    assert space.find_device_memory(part.data.ptr, MB)[1] == MB


def test_arrays_are_set_and_got_as_cupys(moving):
    array, given = moving.cupy.empty((2, 3), np.float32), np.arange(6, dtype=np.float32).reshape(2, 3)
    pinned = moving.cupyx.empty_pinned((2, 3), np.float32)
    array.set(given, moving.stream)
    with moving.stream:
        np.testing.assert_array_equal(array.get(), given)
        assert np.isnan(array.get(out=pinned, blocking=False)).all()  # too early
    moving.cupy.cuda.Device().synchronize()
    np.testing.assert_array_equal(pinned, given)
    with pytest.raises(SettingsError, match=r"must be float32 \(2, 3\), got float64 \(2, 3\)"):
        array.set(given.astype(float), moving.stream)


@pytest.mark.parametrize(
    ("index", "error"),
    [(4, IndexError), (-5, IndexError), (slice(None, None, 2), SettingsError), ((0, 1), SettingsError)],
)
def test_an_index_that_is_not_simulated_is_refused(index, error, raw):
    with pytest.raises(error):
        raw.cupy.empty((4, 3), np.float32)[index]
