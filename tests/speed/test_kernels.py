"""The kernels against the host's letterbox and decoding: in NumPy on the simulated device, in CUDA C on a GPU."""

from __future__ import annotations

import ctypes
import itertools
import re
import shutil
import subprocess
from dataclasses import replace

import cv2
import numpy as np
import pytest
from samples import sampled

from yolotrt_lab.cuda import has_gpu
from yolotrt_lab.device import HostBuffer, open_device
from yolotrt_lab.errors import DtypeError, ModelError, ShapeError
from yolotrt_lab.heads import decode
from yolotrt_lab.simulate.simulated import SimulatedDevice
from yolotrt_lab.speed.kernels import CAPACITY, NV12_WEIGHTS, Decoder, Letterboxer, nv12_to_bgr, unpack
from yolotrt_lab.types import HostMemory, Pixels, TensorSpec
from yolotrt_lab.vision import Letterbox, letterbox_geometry

FLOATS = ["float32", "float16"]
WHOLE = ("1080x1920", "640x640", "1920x1080")  # sizes at a whole factor of the input's
GEOMETRY = letterbox_geometry((1080, 1920), (640, 640))


@pytest.fixture(params=["simulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def any_device(request):
    if request.param == "cuda" and not has_gpu():
        pytest.skip("no NVIDIA GPU")
    return open_device(request.param, moves_bytes=True)


def uploaded(device, array, stream):
    buffer = device.empty_device(array.nbytes)
    device.upload(HostBuffer(np.ascontiguousarray(array)), buffer, stream)
    stream.synchronize()
    return buffer


def downloaded(device, buffer, spec, stream):
    host = device.empty_host(spec.shape, spec.dtype, HostMemory.PAGEABLE)
    device.download(buffer, host, stream)
    stream.synchronize()
    return host.array


def count(height):
    """How many frames are in a batch: a large one is alone."""
    return 1 if height > 1_000 else 2


def letterboxer_of(device, frames, dtype, pixels=Pixels.BGR):
    spec = TensorSpec("images", (len(frames), 3, 640, 640), np.dtype(dtype))
    return Letterboxer(device, spec, pixels.frame_shape(frames[0]), pixels), spec


def by_device(device, frames, dtype, pixels=Pixels.BGR):
    """The batch by the kernel."""
    letterboxer, spec = letterboxer_of(device, frames, dtype, pixels)
    stream, target = device.stream(), device.empty_device(spec.nbytes)
    letterboxer.launch(uploaded(device, frames, stream), target, stream)
    return downloaded(device, target, spec, stream)


def by_host(frames, dtype):
    """The batch of BGR frames by the host's letterbox."""
    out = np.empty((len(frames), 3, 640, 640), dtype)
    for frame, image in zip(frames, out, strict=True):
        Letterbox()(frame, image)
    return out


def levels_apart(ours, expected):
    return abs(ours.astype(np.float32) * 255 - expected.astype(np.float32) * 255)


@pytest.mark.parametrize(
    ("size", "dtype"),
    sampled(
        [(size, "float32") for size in (*WHOLE, "720x1280", "481x637", "1200x700", "64x100", "1x1")]
        + [("640x640", "float16"), ("481x637", "float16")],
        [("1080x1920", "float32"), ("640x640", "float16"), ("481x637", "float16"), ("64x100", "float32")],
    ),
)
def test_letterbox_is_the_hosts_to_the_bit_at_a_whole_factor_and_else_within_a_grey_level(any_device, dtype, size):
    height, width = map(int, size.split("x"))
    frames = np.random.default_rng(1).integers(0, 256, (count(height), height, width, 3), np.uint8)
    ours, expected = by_device(any_device, frames, dtype), by_host(frames, dtype)
    if size in WHOLE:
        assert np.array_equal(ours, expected)
    levels = levels_apart(ours, expected)
    half_precision = 0.13 if dtype == "float16" else 0.0  # of a grey level near 1, at most
    assert levels.max() <= 1.0001 + half_precision
    assert (levels > 0.5).mean() < 0.2


def nv12_frames(size):
    """Frames of every value, those of limited range as likely as those outside of it."""
    height, width = map(int, size.split("x"))
    return np.random.default_rng(2).integers(0, 256, (count(height), height * 3 // 2, width), np.uint8)


@pytest.mark.parametrize(
    ("size", "dtype"),
    sampled(
        [(size, "float32") for size in (*WHOLE, "720x1280", "240x3840", "480x638", "2x2")]
        + [("640x640", "float16"), ("480x638", "float16")],
        [("640x640", "float16"), ("480x638", "float16"), ("2x2", "float32")],
    ),
)
def test_nv12_letterbox_is_opencvs_conversion_and_the_hosts_letterbox(any_device, dtype, size):
    frames = nv12_frames(size)
    converted = np.stack([cv2.cvtColor(frame, cv2.COLOR_YUV2BGR_NV12) for frame in frames])
    ours, expected = by_device(any_device, frames, dtype, Pixels.NV12), by_host(converted, dtype)
    if size in WHOLE:
        assert np.array_equal(ours, expected)
    assert (levels_apart(ours, expected) <= 2).mean() >= 0.999


@pytest.mark.parametrize("pixels", [Pixels.NV12, Pixels.NV12_709])
def test_nv12_colours_are_those_of_the_standard_within_a_grey_level(pixels):
    red, blue = {Pixels.NV12: (0.299, 0.114), Pixels.NV12_709: (0.2126, 0.0722)}[pixels]
    frame = nv12_frames("128x256")[0].clip(16, 235)
    y = (frame[:128].astype(float) - 16) / 219
    u, v = (
        (each.repeat(2, 0).repeat(2, 1).astype(float) - 128) / 224 for each in (frame[128:, ::2], frame[128:, 1::2])
    )
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    g = (y - red * r - blue * b) / (1 - red - blue)
    expected = 255 * np.stack([b, g, r], axis=2).clip(0, 1)
    assert abs(nv12_to_bgr(frame, NV12_WEIGHTS[pixels]) - expected).max() < 1
    if pixels is Pixels.NV12:
        assert np.array_equal(nv12_to_bgr(frame), cv2.cvtColor(frame, cv2.COLOR_YUV2BGR_NV12))


CPP = """
#include <cmath>
#include <cstddef>
#include <cstring>
#define __device__
#define __global__
struct float4 { float x[4]; };
struct ushort4 { unsigned short x[4]; };
struct Index { int x, y, z; };
static Index blockIdx, threadIdx, blockDim = {32, 8, 1};
static void to_half(unsigned short &out, float value) { _Float16 half = value; memcpy(&out, &half, 2); }
"""
MAIN = """
template <typename Kernel, typename... Values>
void launch(Kernel kernel, int x, int y, int z, Values... values) {
    for (blockIdx.z = 0; blockIdx.z < z; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < y; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < x; ++blockIdx.x)
                for (threadIdx.y = 0; threadIdx.y < 8; ++threadIdx.y)
                    for (threadIdx.x = 0; threadIdx.x < 32; ++threadIdx.x) kernel(values...);
}
extern "C" void run(int x, int y, int z, const byte *frames, NUMBER *images, const int *i, const float *f) {
    RUN
}
"""


def compiled(folder, text):
    """The C++ as a library."""
    (folder / "kernel.cpp").write_text(text)
    command = ["g++", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-o", "kernel.so", "kernel.cpp"]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    return ctypes.CDLL(str(folder / "kernel.so"))


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
@pytest.mark.parametrize(
    ("pixels", "dtype"),
    sampled(
        [(Pixels.BGR, "float32"), (Pixels.NV12, "float16"), (Pixels.NV12_709, "float32")], [(Pixels.NV12, "float16")]
    ),
)
def test_letterbox_in_cuda_c_is_its_numpy_reference_to_the_bit(device, tmp_path, dtype, pixels):
    """The source that a GPU compiles, compiled for the processor: one thread after the other."""
    first = letterboxer_of(device, nv12_frames("480x638"), dtype, pixels)[0]._kernel
    source = re.sub(r'asm\("cvt.*\);', "to_half(out, value);", first.source)
    values = ", ".join(["x, y, z, frames, images", *(f"i[{n}]" for n in range(8)), "f[0], f[1]"])
    values += "".join(f", i[{n}]" for n in range(8, 13)) if pixels.planar else ""
    run = compiled(tmp_path, CPP + source + MAIN.replace("RUN", f"launch({first.name}, {values});")).run
    for size in ("360x1920", "480x638"):
        frames = nv12_frames(size)
        if not pixels.planar:
            frames = np.stack([nv12_to_bgr(frame) for frame in frames])
        letterboxer, spec = letterboxer_of(device, frames, dtype, pixels)
        ours, expected = (np.zeros(spec.shape, spec.dtype) for _ in range(2))
        values = letterboxer._values
        letterboxer._reference(frames.reshape(-1), expected.reshape(-1).view(np.uint8), *values)
        whole, steps = np.array([*values[:8], *values[10:]], np.int32), np.array(values[8:10], np.float32)
        run(*letterboxer._grid, *(ctypes.c_void_p(each.ctypes.data) for each in (frames, ours, whole, steps)))
        assert np.array_equal(ours, expected), size


def scores_table(generator, count, *, ties=False, classes=80, items=2):
    """An output with `count` candidates a frame that overlap a lot; the rest is noise below every threshold."""
    table = np.zeros((items, 4 + classes, 8400), np.float32)
    table[:, :2] = generator.uniform(0, 640, (items, 2, 8400))
    table[:, 2:4] = generator.uniform(5, 250, (items, 2, 8400))
    table[:, 4:] = generator.uniform(0, 0.2, (items, classes, 8400))
    for rows in table:
        anchors = generator.choice(8400, count, replace=False)
        kinds = generator.integers(0, min(classes, 4), count)
        rows[4 + kinds, anchors] = generator.uniform(0.26, 1, count).round(1 if ties else 6)
        rows[:2, anchors] = generator.normal(320, 60, (2, count))
        if ties:
            rows[2:4, anchors] = 64
            rows[4 + (kinds + 1) % classes, anchors] = rows[4 + kinds, anchors]
    return table


def decoded(device, table, **settings):
    """What the kernels found in each frame; launched twice, since they must leave nothing behind."""
    spec, stream = TensorSpec("output0", table.shape, table.dtype), device.stream()
    decoder = Decoder(device, spec, GEOMETRY, **settings)
    scratch, results = decoder.scratch(stream), device.empty_device(decoder.result.nbytes)
    outputs = uploaded(device, table, stream)
    for _ in range(2):
        decoder.launch(outputs, scratch, results, stream)
    found = downloaded(device, results, decoder.result, stream)
    return [unpack(found, item) for item in range(len(table))]


def assert_same(found, expected):
    for name in ("boxes", "scores", "classes"):
        ours, wanted = getattr(found, name), getattr(expected, name)
        assert ours.dtype == wanted.dtype and np.array_equal(ours, wanted), name


SEARCH_CPP = """
#include <algorithm>
#define __shared__ static
using std::min;
static void __syncthreads() {}
static int atomicAdd(int *place, int more) { int before = *place; *place += more; return before; }
static float __int_as_float(int bits) { float value; memcpy(&value, &bits, 4); return value; }
static int __float_as_int(float value) { int bits; memcpy(&bits, &value, 4); return bits; }
static void from_half(float &out, unsigned short bits) { _Float16 half; memcpy(&half, &bits, 2); out = half; }
"""
SEARCH_MAIN = """
extern "C" void run(int x, int z, const NUMBER *o, int *scratch, int *results, const int *i, const float *f) {
    for (blockIdx.z = 0; blockIdx.z < z; ++blockIdx.z) {
        blockDim = {1, 1, 1};
        threadIdx = {0, 0, 0};
        if (i[6]) {
            take(o, results, i[0], f[0], i[2], i[3], f[2], f[3], i[4], i[5]);
            continue;
        }
        for (blockIdx.x = 0; blockIdx.x < x; ++blockIdx.x)  // the group that joins the others' finds runs last
            for (threadIdx.y = GROUPS - 1; threadIdx.y >= 0; --threadIdx.y)
                for (threadIdx.x = 0; threadIdx.x < 32; ++threadIdx.x)
                    candidates(o, scratch, i[0], i[1], f[0]);
        threadIdx = {0, 0, 0};
        suppress(o, scratch, results, i[0], i[1], f[1], i[2], i[3], f[2], f[3], i[4], i[5]);
    }
}
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
@pytest.mark.parametrize("dtype", sampled(FLOATS, ["float16"]))
def test_search_in_cuda_c_is_the_hosts_to_the_bit(device, tmp_path, dtype):
    """The source that a GPU compiles, compiled for the processor: the search of a frame in one thread."""
    geometry = letterbox_geometry((4000, 6000), (640, 640))
    library = None
    for end2end, count, ties in itertools.product((False, True), (0, 30, CAPACITY), (False, True)):
        generator = np.random.default_rng(count)
        make = heads_table if end2end else scores_table
        table = make(generator, max(count, 1) if end2end else count, ties=ties).astype(dtype)
        spec = TensorSpec("output0", table.shape, table.dtype)
        decoder = Decoder(device, spec, geometry, end2end=end2end, confidence=0.3)
        if library is None:
            source = re.sub(r'asm\("cvt.*\);', "from_half(value, bits);", decoder._suppress.source)
            library = compiled(tmp_path, CPP + SEARCH_CPP + source + SEARCH_MAIN)
        rows, anchors = (table.shape[1], 0) if end2end else (table.shape[1] - 4, table.shape[2])
        place = (*geometry.frame_shape, geometry.left, geometry.top)
        whole, floats = np.array([rows, anchors, *place, end2end], np.int32), np.array([0.3, 0.7, *geometry.scales])
        scratch, results = np.zeros(decoder._scratch.shape, np.int32), np.zeros(decoder.result.shape, np.int32)
        memory = (table, scratch, results, whole, floats.astype(np.float32))
        library.run(decoder._grid[0], len(table), *(ctypes.c_void_p(each.ctypes.data) for each in memory))
        for item, rows in enumerate(table):
            assert_same(unpack(results, item), decode(rows, geometry, end2end=end2end, confidence=0.3))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("count", sampled([0, 1, 30, 300, CAPACITY], [0, 30, CAPACITY]))
def test_boxes_are_the_hosts_to_the_bit(any_device, dtype, ties, count):
    table = scores_table(np.random.default_rng(count), count, ties=ties).astype(dtype)
    for settings in ({}, {"confidence": 0.6, "iou": 0.3}):
        for found, rows in zip(decoded(any_device, table, **settings), table, strict=True):
            assert_same(found, decode(rows, GEOMETRY, **settings))


def heads_table(generator, rows, *, ties=False, items=2):
    """An end-to-end output: boxes in any order, some below every threshold, some flat, the last rows empty."""
    table = np.zeros((items, rows, 6), np.float32)
    used = rows - rows // 10
    table[:, :used, :2] = generator.uniform(-20, 640, (items, used, 2))
    table[:, :used, 2:4] = table[:, :used, :2] + generator.uniform(-5, 200, (items, used, 2))
    table[:, :used, 4] = generator.uniform(0.1, 1, (items, used)).round(1 if ties else 6)
    table[:, :used, 5] = generator.integers(0, 80, (items, used))
    return table


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("rows", [1, 30, 300, CAPACITY])
def test_boxes_of_an_end_to_end_head_are_the_hosts_to_the_bit(any_device, dtype, ties, rows):
    table = heads_table(np.random.default_rng(rows), rows, ties=ties).astype(dtype)
    for settings in ({}, {"confidence": 0.6}):
        found = decoded(any_device, table, end2end=True, **settings)
        for one, heads in zip(found, table, strict=True):
            assert_same(one, decode(heads, GEOMETRY, end2end=True, **settings))


@pytest.mark.parametrize("end2end", [False, True])
def test_each_side_is_scaled_back_by_its_own_factor(any_device, monkeypatch, end2end):
    monkeypatch.setitem(globals(), "GEOMETRY", letterbox_geometry((4000, 6000), (640, 640)))
    table = heads_table(np.random.default_rng(3), 30) if end2end else scores_table(np.random.default_rng(3), 30)
    for found, rows in zip(decoded(any_device, table, end2end=end2end), table, strict=True):
        assert np.array_equal(found.boxes, decode(rows, GEOMETRY, end2end=end2end).boxes)


def test_a_score_above_1_that_the_gpu_found_is_an_error(any_device):
    table = np.zeros((1, 5, 64), np.float32)
    table[0, :, 0] = (50, 50, 20, 20, 799)
    with pytest.raises(ModelError, match="got 799"):
        decoded(any_device, table)


def test_flat_boxes_and_a_threshold_that_is_just_met_are_no_candidates(any_device):
    table = np.zeros((1, 5, 64), np.float32)
    table[0, :4] = 50
    table[0, 4, :3] = 0.5, 0.5, 0.75
    table[0, 2, 1] = 0
    (found,) = decoded(any_device, table, confidence=0.5)
    assert found.scores.tolist() == [0.75]


def test_more_candidates_than_there_is_room_for_are_said_to_be_too_many(any_device):
    table = scores_table(np.random.default_rng(0), CAPACITY + 1)
    table[1, 4:] = 0
    first, second = decoded(any_device, table)
    assert first is None
    assert len(second) == 0


@pytest.mark.parametrize(
    ("kernel", "shape", "dtype", "error"),
    [
        (Letterboxer, (1, 3, 640, 642), "float32", ShapeError),
        (Letterboxer, (1, 1, 640, 640), "float32", ShapeError),
        (Letterboxer, (1, 3, 640, 640), "uint8", DtypeError),
        (Decoder, (1, 300, 6, 1), "float32", ShapeError),
        (Decoder, (1, 4, 8400), "float32", ShapeError),
        (Decoder, (1, 84, 8400), "int8", DtypeError),
    ],
)
def test_tensor_that_a_kernel_is_not_for_is_refused(device, kernel, shape, dtype, error):
    with pytest.raises(error, match="the_tensor must be"):
        kernel(
            device, TensorSpec("the_tensor", shape, np.dtype(dtype)), GEOMETRY if kernel is Decoder else (1080, 1920)
        )


def test_kernels_cost_what_the_preset_says_for_each_frame_of_a_batch(preset):
    device = SimulatedDevice(replace(preset, kernel_ns={"letterbox": 7_000}), trace=True)
    spec = TensorSpec("images", (3, 3, 640, 640), np.dtype(np.float32))
    stream = device.stream()
    Letterboxer(device, spec, (1080, 1920)).launch(device.empty_device(1), device.empty_device(1), stream)
    stream.synchronize()
    (kernel,) = [span for span in device.spans if span.row == "kernel"]
    assert (kernel.name, kernel.end_ns - kernel.start_ns) == ("letterbox", 21_000)
