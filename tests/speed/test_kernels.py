"""The kernels against the host's letterbox and decoding: in NumPy on the simulated device, in CUDA C on a GPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from yolotrt_lab.cuda import has_gpu
from yolotrt_lab.device import HostBuffer, open_device
from yolotrt_lab.errors import DtypeError, ShapeError
from yolotrt_lab.simulate.simulated import SimulatedDevice
from yolotrt_lab.speed.kernels import CAPACITY, Decoder, Letterboxer, unpack
from yolotrt_lab.types import HostMemory, TensorSpec
from yolotrt_lab.vision import Letterbox, decode, letterbox_geometry

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


def letterboxed(device, frames, dtype):
    """The batch by the kernel, and by the host."""
    spec, stream = TensorSpec("images", (len(frames), 3, 640, 640), np.dtype(dtype)), device.stream()
    letterboxer = Letterboxer(device, spec, frames.shape[1:3])
    target = device.empty_device(spec.nbytes)
    letterboxer.launch(uploaded(device, frames, stream), target, stream)
    expected = np.empty(spec.shape, spec.dtype)
    geometries = {Letterbox()(frame, image) for frame, image in zip(frames, expected, strict=True)}
    assert geometries == {letterboxer.geometry}
    return downloaded(device, target, spec, stream), expected


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", [*WHOLE, "720x1280", "481x637", "1200x700", "64x100", "1x1"])
def test_letterbox_is_the_hosts_to_the_bit_at_a_whole_factor_and_else_within_a_grey_level(any_device, dtype, size):
    frames = np.random.default_rng(1).integers(0, 256, (2, *map(int, size.split("x")), 3), np.uint8)
    ours, expected = letterboxed(any_device, frames, dtype)
    if size in WHOLE:
        assert np.array_equal(ours, expected)
    levels = abs(ours.astype(np.float32) * 255 - expected.astype(np.float32) * 255)
    half_precision = 0.13 if dtype == "float16" else 0.0  # of a grey level near 1, at most
    assert levels.max() <= 1.0001 + half_precision
    assert (levels > 0.5).mean() < 0.2


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


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("count", [0, 1, 30, 300, CAPACITY])
def test_boxes_are_the_hosts_to_the_bit(any_device, dtype, ties, count):
    table = scores_table(np.random.default_rng(count), count, ties=ties).astype(dtype)
    for settings in ({}, {"confidence": 0.6, "iou": 0.3}):
        for found, rows in zip(decoded(any_device, table, **settings), table, strict=True):
            expected = decode(rows, GEOMETRY, **settings)
            assert np.array_equal(found.boxes, expected.boxes)
            assert np.array_equal(found.scores, expected.scores)
            assert np.array_equal(found.classes, expected.classes)
            assert (found.boxes.dtype, found.classes.dtype) == (expected.boxes.dtype, expected.classes.dtype)


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
