"""Letterbox, decode and draw, against plain ways to do the same."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolotrt_lab.device import HostBuffer
from yolotrt_lab.errors import DtypeError, ModelError, SettingsError, ShapeError
from yolotrt_lab.types import Detections, TensorSpec
from yolotrt_lab.vision import (
    Letterbox,
    PixelWork,
    class_name,
    decode,
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


def greedy(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, iou: float) -> list[int]:
    """Non-maximum suppression as it is defined, box by box; boxes are left, top, right, bottom."""
    kept: list[int] = []
    for index in sorted(range(len(scores)), key=lambda i: -scores[i]):
        for other in kept:
            low, high = np.maximum(boxes[index, :2], boxes[other, :2]), np.minimum(boxes[index, 2:], boxes[other, 2:])
            shared = np.prod(np.maximum(high - low, 0))
            union = sum(np.prod(boxes[i, 2:] - boxes[i, :2]) for i in (index, other)) - shared
            if classes[index] == classes[other] and shared > iou * union:
                break
        else:
            kept.append(index)
    return kept


@st.composite
def outputs(draw: st.DrawFn) -> np.ndarray:
    """Network outputs (1, 4 + classes, n) on a coarse grid, so that ties, twins and boxes without area are common."""
    count, classes = draw(st.integers(0, 40)), draw(st.integers(1, 4))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    output = np.empty((1, 4 + classes, count), np.float32)
    output[0, :2] = generator.integers(-10, 25, (2, count))
    output[0, 2:4] = generator.integers(0, draw(st.integers(2, 30)), (2, count))
    output[0, 4:] = generator.integers(0, draw(st.integers(2, 21)), (classes, count)) / 20
    return output


@given(outputs(), st.integers(1, 45), st.sampled_from([0.0, 0.0917, 0.4567, 0.7123, 1.0]))
def test_decode_agrees_with_greedy_suppression_box_by_box(output, most, iou):
    # The thresholds are no ratio of areas that these boxes can have: rounding cannot decide.
    centres, sizes, scores = output[0, :2].T, output[0, 2:4].T, output[0, 4:]
    boxes = np.hstack([centres - sizes / 2, centres + sizes / 2]).astype(np.float64)
    candidates = np.flatnonzero((scores.max(axis=0) > 0.3) & (sizes > 0).all(axis=1))
    best, classes = scores.max(axis=0)[candidates], scores.argmax(axis=0)[candidates]
    kept = greedy(boxes[candidates], best, classes, iou)[:most]
    found = decode(output, confidence=0.3, iou=iou, max_detections=most)
    np.testing.assert_array_equal(found.boxes, boxes[candidates][kept])
    np.testing.assert_array_equal(found.scores, best[kept])
    np.testing.assert_array_equal(found.classes, classes[kept])
    assert (found.boxes.dtype, found.scores.dtype, found.classes.dtype) == (np.float32, np.float32, np.int64)


def test_decode_of_thousands_of_candidates_keeps_the_best():
    generator = np.random.default_rng(0)
    output = np.zeros((1, 5, 2000), np.float32)
    output[0, :2] = generator.integers(0, 640, (2, 2000))
    output[0, 2:4] = 8
    output[0, 4] = generator.uniform(0.3, 1, 2000)
    everything = decode(output, iou=0.4567, max_detections=2000)
    assert len(everything) > 700
    for most in (1, 10, 300, 600):
        some = decode(output, iou=0.4567, max_detections=most)
        np.testing.assert_array_equal(some.boxes, everything.boxes[:most])


@given(
    st.tuples(st.integers(8, 3000), st.integers(8, 3000)),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
def test_boxes_come_back_to_the_frame(frame, target, sides):
    geometry = letterbox_geometry(frame, (32 * target[0], 32 * target[1]))
    height, width = frame
    left, right = sorted((sides[0] * width, sides[1] * width))
    top, bottom = sorted((sides[2] * height, sides[3] * height))
    placed = np.array([left, top, right, bottom]) * (geometry.scales * 2) + [geometry.left, geometry.top] * 2
    middle, size = (placed[:2] + placed[2:]) / 2, placed[2:] - placed[:2]
    output = np.array([*middle, *size, 0.9], np.float32).reshape(1, 5, 1)
    found = decode(output, geometry)
    if (output[0, 2:4] > 0).all():
        np.testing.assert_allclose(found.boxes, [[left, top, right, bottom]], atol=0.001 / min(geometry.scales))
    else:
        assert len(found) == 0


@pytest.mark.parametrize("frame", [(4000, 6000), (3024, 4032), (333, 1000)])
@pytest.mark.parametrize("end2end", [False, True])
def test_a_box_around_the_whole_letterboxed_frame_is_the_whole_frame(frame, end2end):
    geometry = letterbox_geometry(frame, (640, 640))
    left, top, right, bottom = geometry.left, geometry.top, geometry.left + 640, geometry.top + geometry.height
    inside = (left + 1, top + 1, right - 1, bottom - 1)  # which no clipping touches
    for box, off in (((left, top, right, bottom), 0), (inside, 1)):
        centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1])
        output = np.array([[*box, 0.9, 0]] if end2end else np.array([[*centre, 0.9]]).T, np.float32)
        x, y = off / geometry.scales[0], off / geometry.scales[1]
        [found] = decode(output, geometry, end2end=end2end).boxes
        np.testing.assert_allclose(found, [x, y, frame[1] - x, frame[0] - y], atol=1e-3, rtol=1e-6)


def test_end2end_output_is_taken_as_it_is_best_first():
    rows = [(1, 2, 3, 4, 0.5, 7), (10, 10, 20, 20, 0.9, 2), (10, 10, 20, 20, 0.8, 2), (5, 5, 5, 9, 0.7, 0), (0,) * 6]
    output = np.array([rows], np.float32)
    found = decode(output, end2end=True)
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.5])  # overlapping ones stay, one without area goes
    assert found.boxes.tolist() == [[10, 10, 20, 20], [10, 10, 20, 20], [1, 2, 3, 4]]
    assert (found.classes.tolist(), found.boxes.dtype, found.classes.dtype) == ([2, 2, 7], np.float32, np.int64)
    assert len(decode(output, end2end=True, max_detections=1)) == 1
    assert decode(output[0].astype(np.float16), end2end=True, confidence=0.6).classes.tolist() == [2, 2]
    assert decode(output, end2end=True, classes=[7]).classes.tolist() == [7]


def test_only_the_classes_that_are_asked_for():
    output = np.zeros((1, 7, 4), np.float32)
    output[0, :4] = (10, 10, 4, 4)
    output[0, [4, 5, 6, 4], range(4)] = (0.9, 0.8, 0.7, 0.6)
    assert decode(output, classes={1, 2}, max_detections=1).classes.tolist() == [1]
    assert decode(output, classes=[]).boxes.shape == (0, 4)


@pytest.mark.parametrize("wrong", [799.0, 1.01, -0.5])
@pytest.mark.parametrize("end2end", [False, True])
def test_a_score_that_none_can_be_proves_another_layout(wrong, end2end):
    output = np.array([[10, 10, 40, 40, wrong, 0]], np.float32)
    with pytest.raises(ModelError, match=f"scores must be from 0 to 1, got {wrong:g}"):
        decode(output if end2end else output[0, :5, None], end2end=end2end)
    output[0, 4] = 1.0005  # a score of 1 that was rounded
    assert len(decode(output if end2end else output[0, :5, None], end2end=end2end)) == 1


def test_names_of_any_text_are_drawn():
    found = Detections(np.array([[10, 30, 40, 60]], np.float32), np.array([0.5], np.float32), np.array([0]))
    for name in ("\udc80", "\x1b[2J", "\x00", "螺栓", "n" * 100_000):
        assert draw(np.zeros((80, 80, 3), np.uint8), found, [name]).any()


def test_boxes_are_clipped_to_the_frame():
    geometry = letterbox_geometry((100, 200), (64, 64))
    output = np.array([32, 32, 200, 200, 0.9], np.float32).reshape(1, 5, 1)
    np.testing.assert_array_equal(decode(output, geometry).boxes, [[0, 0, 200, 100]])
    np.testing.assert_array_equal(decode(output).boxes, [[-68, -68, 132, 132]])


def test_scores_that_are_not_numbers_are_no_candidates_and_no_cells_give_no_boxes():
    output = np.full((1, 6, 3), np.nan, np.float32)
    output[0, :, 1] = (10, 10, 4, 4, 0.5, 0.1)
    assert decode(output).scores.tolist() == [0.5]
    assert decode(output[0, :, :0], letterbox_geometry((10, 10), (32, 32))).boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("output", "settings", "error"),
    [
        (np.zeros((1, 84, 10), np.float64), {}, DtypeError),
        (np.zeros((2, 84, 10), np.float32), {}, ShapeError),
        (np.zeros((1, 4, 10), np.float32), {}, ShapeError),
        (np.zeros(84, np.float32), {}, ShapeError),
        (np.zeros((1, 84, 10), np.float32), {"confidence": 25}, SettingsError),
        (np.zeros((1, 84, 10), np.float32), {"iou": -0.1}, SettingsError),
        (np.zeros((1, 84, 10), np.float32), {"max_detections": 0}, SettingsError),
        (np.zeros((1, 300, 7), np.float32), {"end2end": True}, ShapeError),
        (np.zeros((2, 300, 6), np.float32), {"end2end": True}, ShapeError),
        (np.zeros(6, np.float32), {"end2end": True}, ShapeError),
    ],
)
def test_decode_refuses_what_it_cannot_use(output, settings, error):
    with pytest.raises(error) as caught:
        decode(output, **settings)
    assert caught.value.fix


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


def test_half_precision_networks_take_and_give_float16():
    frame = np.random.default_rng(3).integers(0, 256, (270, 480, 3), np.uint8)
    single, half = np.empty((1, 3, 320, 320), np.float32), np.empty((1, 3, 320, 320), np.float16)
    Letterbox()(frame, single)
    Letterbox()(frame, half)
    assert np.array_equal(half, single.astype(np.float16))
    output = np.zeros((1, 6, 2), np.float32)
    output[0, :, 0] = (100, 80, 40, 20, 0.9, 0.1)
    kept = decode(output.astype(np.float16))
    assert kept.boxes.tolist() == [[80, 70, 120, 90]]
    assert kept.boxes.dtype == np.float32
    assert kept.scores[0] == pytest.approx(0.9, abs=1e-3)


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_a_network_without_floats_gets_no_black_images(dtype):
    spec = TensorSpec("images", (1, 3, 64, 64), np.dtype(dtype))
    work, slot = PixelWork(spec, [GOOD_FRAME]), HostBuffer(np.zeros(spec.shape, dtype))
    for fill in (lambda: work.fresh(0), lambda: work.fresh(0, slot), lambda: work.letterbox(0, slot)):
        with pytest.raises(DtypeError, match=f"the network input must be float32 or float16, got {dtype}"):
            fill()
