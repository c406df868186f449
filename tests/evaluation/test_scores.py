"""Average precision against cases worked out by hand."""

import sys

import numpy as np
import pytest

from scripts.evaluation.scores import score_boxes
from yolotrt_lab.detector.scene import SyntheticScene
from yolotrt_lab.errors import MissingPackageError, SettingsError
from yolotrt_lab.types import Detections


def boxes(*rows):
    """Rows of left, top, right, bottom, class and score (1 where it is left out)."""
    table = np.array([row if len(row) == 6 else (*row, 1) for row in rows], np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 5], table[:, 4].astype(np.int64))


A, B, C = (0, 0, 100, 100, 0), (200, 0, 300, 100, 0), (0, 200, 100, 300, 0)
NOWHERE = (900, 900, 999, 999, 0)


def moved(box, pixels):
    left, top, right, bottom, kind = box
    return (left + pixels, top, right + pixels, bottom, kind)


def overall(truth, found):
    return score_boxes(truth, found, ["nut"])["overall"]


def test_precision_and_recall_by_hand():
    """Three true boxes in two frames; by falling score: right, wrong, right. The third is never found.

    Recall and precision go (1/3, 1), (1/3, 1/2), (2/3, 2/3). COCO takes, at each recall of 0, 0.01 to 1, the best
    precision from there on: 1 at the 34 up to 0.33, 2/3 at the 33 up to 0.66, 0 at the other 34.
    """
    scores = score_boxes([boxes(A, B), boxes(C)], [boxes((*A, 0.9), (*NOWHERE, 0.8)), boxes((*C, 0.7))], ["nut"])
    expected = pytest.approx((34 * 1 + 33 * 2 / 3) / 101)
    assert scores["overall"] == {"objects": 3, "map50": expected, "map50_95": expected}
    assert scores["by_class"] == {"nut": scores["overall"]}


@pytest.mark.parametrize(("pixels", "passed"), [(0, 10), (5, 9), (10, 7), (15, 5), (20, 4), (30, 1), (33, 1), (34, 0)])
def test_a_shift_costs_the_thresholds_of_overlap_above_it(pixels, passed):
    """Two boxes of 100 px, `pixels` apart, overlap by (100 - pixels) / (100 + pixels); the thresholds are 0.5 to 0.95.

    At 10 px that is 0.818: 0.5, 0.55, 0.6, 0.65, 0.7, 0.75 and 0.8 are passed.
    """
    score = overall([boxes(A, B)], [boxes(moved(A, pixels), moved(B, pixels))])
    assert score["map50_95"] == pytest.approx(passed / 10)
    assert score["map50"] == pytest.approx(1.0 if passed else 0.0)


def test_a_second_box_on_one_object_is_wrong():
    """Right, wrong, right: precision 1 up to a recall of 1/2 (51 of 101 points), then 2/3."""
    score = overall([boxes(A, B)], [boxes((*A, 0.9), (*moved(A, 1), 0.8), (*B, 0.7))])
    assert score["map50"] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_classes_are_averaged_and_one_without_objects_is_not():
    truth = [boxes(A, (*B[:4], 1))]
    found = [boxes(A, (*B[:4], 2), (*C[:4], 2))]
    scores = score_boxes(truth, found, ["nut", "bolt", "cog"])
    assert [scores["by_class"][name]["map50"] for name in ("nut", "bolt")] == [1.0, 0.0]
    assert scores["by_class"]["cog"] == {"objects": 0, "map50": None, "map50_95": None}
    assert scores["overall"]["map50"] == 0.5


def test_sizes_are_areas_in_pixels_of_the_frame():
    small, medium, large = (0, 0, 31, 33, 0), (100, 0, 133, 33, 0), (300, 0, 397, 97, 0)
    scores = score_boxes([boxes(small, medium, large)], [boxes((*small, 0.9), (*large, 0.8))], ["nut"])
    found = {size: (score["objects"], score["map50"]) for size, score in scores["by_size"].items()}
    assert found == {"small": (1, 1.0), "medium": (1, 0.0), "large": (1, 1.0)}


def test_the_truth_of_the_scene_is_perfect_and_every_part_counts():
    scene = SyntheticScene(seed=3, size=(640, 480))
    truth = [scene.truth(index) for index in range(0, 100, 10)]
    scores = score_boxes(truth, truth, scene.names)
    for score in (scores["overall"], *scores["by_class"].values(), *scores["by_size"].values()):
        assert (score["map50"], score["map50_95"]) == ((1.0, 1.0) if score["objects"] else (None, None))
    counts = [score["objects"] for score in scores["by_class"].values()]
    assert scores["overall"]["objects"] == sum(map(len, truth)) == sum(counts) > 0


def test_nothing_found_is_zero_and_nothing_to_find_is_none():
    assert overall([boxes(A)], [boxes()]) == {"objects": 1, "map50": 0, "map50_95": 0}
    assert overall([boxes()], [boxes(A)])["map50"] is None
    assert overall([boxes()], [boxes()])["map50_95"] is None


def test_frames_are_not_mixed_up():
    assert overall([boxes(A), boxes(B)], [boxes(B), boxes(A)])["map50"] == 0.0


@pytest.mark.parametrize(
    ("truth", "found", "message"),
    [
        ([boxes(A)], [], "got 1 frames and 0 results"),
        ([], [], "got 0 frames and 0 results"),
        ([boxes((*A[:4], 1))], [boxes(A)], "below 1, the number of names"),
        ([boxes(A)], [boxes((*A[:4], 1))], "below 1, the number of names"),
    ],
)
def test_what_does_not_fit_is_refused(truth, found, message):
    with pytest.raises(SettingsError, match=message):
        overall(truth, found)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(MissingPackageError, match=r"\[test\]"):
        overall([boxes(A)], [boxes(A)])
