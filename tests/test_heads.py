"""From the output of a detector to boxes: which layouts are read, and what the others are told to be."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from yolotrt_lab.errors import DtypeError, ModelError, SettingsError, ShapeError
from yolotrt_lab.heads import decode, describe
from yolotrt_lab.types import TensorSpec
from yolotrt_lab.vision import letterbox_geometry

EIGHTY, ONE = str(dict(enumerate(map(str, range(80))))), {"names": "{0: 'person'}"}
IMAGE = (1, 3, 640, 640)


def described(outputs, metadata=None, inputs=(IMAGE,), dtype="float32"):
    """What is said of a model of these shapes."""
    specs = [[TensorSpec(f"tensor{n}", shape, np.dtype(dtype)) for n, shape in enumerate(x)] for x in (inputs, outputs)]
    return describe("mine", *specs, metadata or {})


@pytest.mark.parametrize(
    ("shape", "metadata", "classes", "end2end"),
    [
        ((1, 84, 8400), {}, 80, False),
        ((1, 84, 8400), {"names": EIGHTY, "task": "detect", "end2end": "False"}, 80, False),
        ((1, 84, 34000), {}, 80, False),  # P2
        ((1, 84, 8500), {}, 80, False),  # P6
        ((1, 84, 123), {"names": EIGHTY}, 80, False),
        ((1, 84, 2000), {}, 80, False),  # P4 and P5 alone, as YOLOv3-tiny has them
        ((1, 84, 100), {"boxes": "100"}, 80, False),
        ((1, 84, 8400), {"names": EIGHTY.replace("{0", "{'0'")}, 80, False),  # as JSON has numbers
        ((1, 300, 6), {"names": EIGHTY}, 80, True),
        ((4, 100, 6), {}, 0, True),
        ((1, 8400, 6), {"task": "detect"}, 0, True),
        ((1, 84, 8400), {"names": "{0: 'a'", "boxes": "x", "end2end": "?"}, 80, False),  # unreadable
    ],
)
def test_outputs_that_are_read(shape, metadata, classes, end2end):
    info = described([shape], metadata)
    assert (info.classes, info.end2end) == (classes, end2end)
    assert len(info.names) == (80 if "79" in metadata.get("names", "") else 0)


@pytest.mark.parametrize(
    ("outputs", "metadata", "words", "fix"),
    [
        *(([(1, 84, 8400)], {"task": task}, f"'detect', got '{task}'", "yolo11n.pt") for task in ("pose", "obb")),
        ([(1, 300, 6)], {"head": "RTDETRDecoder", "names": EIGHTY}, "RT-DETR", "yolo11n.pt"),
        ([(1, 300, 6)], {"description": "Ultralytics rtdetr-l model "}, "RT-DETR", "yolo11n.pt"),
        ([(1, 1000)], {}, "classifier", "yolo11n.pt"),
        ([(1, 1000, 1, 1)], {}, "classifier", "yolo11n.pt"),
        ([(1, 25200, 85)], {}, "the layout of YOLOv5", "yolov5nu.pt"),
        ([(1, 25200, 85)], {"names": EIGHTY}, "the layout of YOLOv5", "yolov5nu.pt"),
        ([(1, 100, 85)], {"names": EIGHTY}, "the layout of YOLOv5", "yolov5nu.pt"),
        ([(1, 25200, 6)], ONE, "the layout of YOLOv5", "yolov5nu.pt"),  # one class: in the shape of an end-to-end head
        ([(1, 25500, 6)], {}, "the layout of YOLOv5", "yolov5nu.pt"),
        ([(1, 25200, 85), (1, 3, 80, 80, 85), (1, 3, 40, 40, 85)], {}, "the layout of YOLOv5", "yolov5nu.pt"),
        ([(1, 8400, 84)], {}, "cells first", "nms=None"),
        ([(1, 8400, 6)], ONE, "cells first", "nms=None"),  # YOLOX of one class
        ([(100, 7)], {}, "number of their image", "nms=None"),
        ([(1, 300, 7)], {}, "an angle", "nms=None"),
        ([(1, 300, 84)], {"names": EIGHTY}, "RT-DETR", "yolo11n.pt"),
        ([(1, 116, 8400), (1, 32, 160, 160)], {}, "masks", "yolo11n.pt"),
        ([(1, 1), (1, 100, 4), (1, 100), (1, 100)], {}, "plugin of TensorRT", "without the plugin"),
        ([(1, 20, 8400)], {"names": "{0: 'a', 1: 'b'}"}, "2 class names do not fit 16 rows", "yolo11n.pt"),  # oriented
        ([(1, 21, 640, 640)], {}, "a map of the image", "yolo11n.pt"),
        ([(1, 144, 80, 80), (1, 144, 40, 40), (1, 144, 20, 20)], {}, "feature maps", "nms=None"),
        ([(1, 8400, 4), (1, 8400, 80)], {}, "boxes and scores apart", "yolo11n.pt"),
        ([(10, 4), (10,), (10,)], {}, "boxes and scores apart", "yolo11n.pt"),
        ([(1, 84, 8399)], {}, "no detector of Ultralytics", "yolo11n.pt"),
        ([(1, 4, 8400)], {}, "no detector of Ultralytics", "yolo11n.pt"),
        ([], {}, "no detector of Ultralytics", "yolo11n.pt"),
    ],
)
def test_outputs_that_are_not_read_say_what_they_are(outputs, metadata, words, fix):
    with pytest.raises(ModelError, match=f"mine must .*{words}") as caught:
        described(outputs, metadata)
    assert caught.value.fix.startswith("export a detector ")
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    ("inputs", "dtype", "words"),
    [
        ([(1, 1, 640, 640)], "float32", r"take images \(batch, 3, .*: images of 1 channels"),
        ([(1, 640, 640, 3)], "float32", "channels last"),
        ([(1, 3)], "float32", "no image"),
        ([], "float32", "0 inputs"),
        ([IMAGE, (1, 2)], "float32", "2 inputs"),
        ([IMAGE], "uint8", "float32 or float16, got tensor0 of uint8, tensor0 of uint8"),
        ([IMAGE], "float64", "float32 or float16, got tensor0 of float64"),
    ],
)
def test_inputs_that_no_frame_fits_are_refused(inputs, dtype, words):
    with pytest.raises(ModelError, match=f"mine must .*{words}"):
        described([(1, 84, 8400)], {}, inputs, dtype)


@given(st.text() | st.sampled_from(["[" * 3_000, "{0: 'a'", "None", "{0: 'a', 2: 'b'}", "{'a': 0}", "7"]))
def test_metadata_that_cannot_be_read_refuse_no_model(text):
    metadata = dict.fromkeys(("imgsz", "names", "stride", "boxes", "end2end", "description"), text)
    info = described([(1, 84, 8400)], metadata)
    assert (info.classes, info.names) == (80, ())


def test_names_hold_nothing_that_moves_a_terminal_or_is_no_character():
    names = ["\x1b]0;title\x07nut", "\udc80", "a\nb", "\u202eexe", "Schraube ä 螺栓", "n" * 5_000]
    info = described([(1, 10, 8400)], {"names": str(dict(enumerate(names)))})
    assert info.names == ("?]0;title?nut", "?", "a?b", "?exe", "Schraube ä 螺栓", "n" * 100)


def test_boxes_that_overlap_by_more_than_iou_are_one():
    """The second covers 0.7 of the union of the two."""
    table = np.array([[50.0, 57.5], [50, 50], [100, 85], [100, 100 * 14 / 17], [0.9, 0.8]], np.float32)
    shared, both = 85 * 100 * 14 / 17, 100 * 100
    assert shared / both == pytest.approx(0.7)
    assert [len(decode(table, iou=iou)) for iou in (0.69, 0.71)] == [1, 2]


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
    output[0, :2] = generator.integers(2, 37, (2, count))
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
    assume(output[0, :4].max() > 1)
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


@pytest.mark.parametrize("end2end", [False, True])
def test_boxes_in_fractions_of_the_image_prove_another_layout(end2end):
    output = np.array([[0.1, 0.2, 0.3, 0.9, 0.9, 0]], np.float32)
    with pytest.raises(ModelError, match="boxes must be in pixels of the network input, got fractions"):
        decode(output if end2end else output[0, :5, None], end2end=end2end)
    assert len(decode(output, end2end=True, confidence=0.95)) == 0  # no box, and no proof


def test_a_column_of_other_numbers_is_none_of_classes():
    output = np.array([[5, 5, 9, 9, 0.9, 0.7]], np.float32)  # YOLOv5 of one class
    with pytest.raises(ModelError, match=r"classes must be whole numbers, got 0\.7"):
        decode(output, end2end=True)


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


def test_half_precision_is_read():
    output = np.zeros((1, 6, 2), np.float16)
    output[0, :, 0] = (100, 80, 40, 20, 0.9, 0.1)
    kept = decode(output)
    assert kept.boxes.tolist() == [[80, 70, 120, 90]]
    assert kept.boxes.dtype == np.float32
    assert kept.scores[0] == pytest.approx(0.9, abs=1e-3)
