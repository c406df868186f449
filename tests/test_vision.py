"""Letterbox and draw, against plain ways to do the same."""

import tracemalloc

import numpy as np
import pytest

from yolotrt_lab.device import HostBuffer
from yolotrt_lab.errors import DtypeError, ShapeError
from yolotrt_lab.types import Detections, TensorSpec
from yolotrt_lab.vision import (
    Letterbox,
    PixelWork,
    class_name,
    draw,
    letterbox_geometry,
    naive_letterbox,
    overlaps,
)


def random_frame(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("frame", "scales", "left", "top", "width", "height"),
    [
        ((1080, 1920), (1 / 3, 1 / 3), 0, 140, 640, 360),
        ((640, 640), (1, 1), 0, 0, 640, 640),
        ((427, 640), (1, 1), 0, 106, 640, 427),  # an odd rest: Ultralytics puts the smaller part on top
        ((1000, 333), (213 / 333, 0.64), 213, 0, 213, 640),
        ((4000, 6000), (640 / 6000, 427 / 4000), 0, 106, 640, 427),
        ((160, 320), (2, 2), 0, 160, 640, 320),
        ((1, 5000), (0.128, 1), 0, 319, 640, 1),
    ],
)
def test_geometry(frame, scales, left, top, width, height):
    geometry = letterbox_geometry(frame, (640, 640))
    assert geometry.scales == pytest.approx(scales)
    assert (geometry.left, geometry.top, geometry.width, geometry.height) == (left, top, width, height)
    assert geometry.frame_shape == frame


@pytest.mark.parametrize(
    ("shape", "target"),
    [
        ((1080, 1920), (640, 640)),  # an odd whole factor: pixels are picked
        ((600, 1000), (640, 200)),  # the factor 5
        ((720, 1280), (640, 640)),
        ((481, 333), (640, 640)),
        ((100, 37), (64, 128)),
        ((64, 64), (64, 64)),
        ((3, 900), (96, 96)),
        ((1921, 1079), (320, 512)),
    ],
)
def test_letterbox_agrees_with_the_usual_way(shape, target):
    frame, out = random_frame(*shape), np.full((1, 3, *target), np.nan, np.float32)
    geometry = Letterbox()(frame, out)
    expected = naive_letterbox(frame, target)
    assert expected.shape == out.shape
    assert expected.dtype == np.float32
    assert np.abs(out - expected).max() < 1 / 255
    assert out.max() <= 1
    assert geometry == letterbox_geometry(shape, target)


def test_letterbox_writes_rgb_from_0_to_1_on_grey_and_into_the_given_memory_only():
    memory = np.full((3, 3, 64, 64), 7, np.float32)
    Letterbox()(np.full((50, 100, 3), (0, 51, 255), np.uint8), memory[1])
    rgb = np.broadcast_to([[[1.0]], [[0.2]], [[0.0]]], (3, 32, 64))
    np.testing.assert_allclose(memory[1, :, 16:48], rgb, atol=1e-6)
    np.testing.assert_allclose(memory[1][:, [*range(16), *range(48, 64)]], 114 / 255, atol=1e-6)
    assert (memory[[0, 2]] == 7).all()


def test_one_letterbox_serves_frames_of_any_size():
    letterbox, out = Letterbox(), np.empty((1, 3, 64, 64), np.float32)
    for shape in ((100, 50), (50, 100), (100, 50), (48, 96)):
        letterbox(random_frame(*shape), out)
        np.testing.assert_allclose(out, naive_letterbox(random_frame(*shape), (64, 64)), atol=1 / 255)


def test_letterbox_allocates_no_image_after_the_first_call():
    letterbox, frame, out = Letterbox(), random_frame(1080, 1920), np.empty((1, 3, 640, 640), np.float32)
    letterbox(frame, out)
    tracemalloc.start()
    try:
        letterbox(frame, out)
        assert tracemalloc.get_traced_memory()[1] < 200_000  # a resized frame has 691,200 bytes
    finally:
        tracemalloc.stop()


GOOD_FRAME, GOOD_OUT = np.zeros((8, 8, 3), np.uint8), np.zeros((1, 3, 64, 64), np.float32)


@pytest.mark.parametrize(
    ("frame", "out", "error", "message"),
    [
        (np.zeros((8, 8), np.uint8), GOOD_OUT, ShapeError, "GRAY2BGR"),
        (np.zeros((8, 8, 4), np.uint8), GOOD_OUT, ShapeError, r"\(8, 8, 4\)"),
        (np.zeros((0, 8, 3), np.uint8), GOOD_OUT, ShapeError, r"\(0, 8, 3\)"),
        (np.zeros((8, 8, 3), np.float32), GOOD_OUT, DtypeError, "before normalisation"),
        (GOOD_FRAME, GOOD_OUT.astype(np.float64), DtypeError, "float64"),
        (GOOD_FRAME, np.zeros((2, 3, 64, 64), np.float32), ShapeError, "of a batch"),
        (GOOD_FRAME, np.zeros((64, 64, 3), np.float32), ShapeError, r"\(64, 64, 3\)"),
        (GOOD_FRAME, np.zeros((64, 64), np.float32), ShapeError, r"\(64, 64\)"),
        (GOOD_FRAME, np.zeros((3, 64, 128), np.float32)[..., ::2], ShapeError, "must be C-contiguous"),
    ],
)
def test_letterbox_refuses_what_it_cannot_use(frame, out, error, message):
    with pytest.raises(error, match=message) as caught:
        Letterbox()(frame, out)
    assert caught.value.fix


def test_names_of_any_text_are_drawn():
    found = Detections(np.array([[10, 30, 40, 60]], np.float32), np.array([0.5], np.float32), np.array([0]))
    for name in ("\udc80", "\x1b[2J", "\x00", "螺栓", "n" * 100_000):
        assert draw(np.zeros((80, 80, 3), np.uint8), found, [name]).any()


def test_overlaps_by_hand():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 0, 0]], np.float32)
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 10, 20, 20], [2, 2, 4, 7], [0, 0, 0, 0]], np.float32)
    np.testing.assert_allclose(overlaps(boxes, others), [[1, 50 / 150, 0, 10 / 100, 0], [0, 0, 0, 0, 0]], rtol=1e-6)
    assert overlaps(boxes[:0], others).shape == (0, 5)


def drawn(size: tuple[int, int], *boxes: tuple[float, ...], classes: tuple[int, ...] = ()) -> np.ndarray:
    frame, scores = np.zeros((*size, 3), np.uint8), np.full(len(boxes), 0.5, np.float32)
    found = Detections(np.array(boxes, np.float32).reshape(-1, 4), scores, np.array(classes, np.int64))
    image = draw(frame, found, ["nut", "bolt"])
    assert image is not frame
    assert not frame.any()
    return image


def test_draw_marks_the_boxes_on_a_copy():
    image = drawn((200, 300), (50, 80, 150, 160), classes=(1,))
    for y, x in ((120, 50), (120, 150), (160, 100)):
        assert image[y, x].any()
    assert not image[100:150, 60:140].any()
    assert image[60:80, 50:90].any(axis=2).mean() > 0.5  # the label's ground
    assert not image[170:, :].any()
    assert not drawn((40, 60)).any()


def test_draw_keeps_labels_inside_the_frame_and_tells_classes_apart():
    image = drawn((120, 160), (150, 0, 159, 90), classes=(7,))
    assert image[:20, 100:].any(axis=2).mean() > 0.5
    image = drawn((100, 300), (10, 50, 90, 90), (110, 50, 190, 90), classes=(0, 1))
    assert (image[70, 10] != image[70, 110]).any()
    assert [class_name(kind, ["nut", "bolt"]) for kind in range(3)] == ["nut", "bolt", "class 2"]


def test_half_precision_networks_take_float16():
    frame = np.random.default_rng(3).integers(0, 256, (270, 480, 3), np.uint8)
    single, half = np.empty((1, 3, 320, 320), np.float32), np.empty((1, 3, 320, 320), np.float16)
    Letterbox()(frame, single)
    Letterbox()(frame, half)
    assert np.array_equal(half, single.astype(np.float16))


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_a_network_without_floats_gets_no_black_images(dtype):
    spec = TensorSpec("images", (1, 3, 64, 64), np.dtype(dtype))
    work, slot = PixelWork(spec, [GOOD_FRAME]), HostBuffer(np.zeros(spec.shape, dtype))
    for fill in (lambda: work.fresh(0), lambda: work.fresh(0, slot), lambda: work.letterbox(0, slot)):
        with pytest.raises(DtypeError, match=f"the network input must be float32 or float16, got {dtype}"):
            fill()
