"""The synthetic scene: a source like any other, and its truth."""

from itertools import pairwise

import numpy as np
import pytest

from yolotrt_lab.detector import scene as scene_module
from yolotrt_lab.detector.scene import SyntheticScene
from yolotrt_lab.errors import SettingsError


@pytest.fixture(scope="module")
def scene() -> SyntheticScene:
    return SyntheticScene(7, (640, 480), objects=16)


def test_a_frame_depends_on_seed_and_index_alone(scene):
    again, other = (SyntheticScene(seed, (640, 480), objects=16) for seed in (7, 8))
    for index in (500, 3, 0):
        np.testing.assert_array_equal(again.render(index), scene.render(index))
        np.testing.assert_array_equal(again.truth(index).boxes, scene.truth(index).boxes)
    assert (other.render(3) != scene.render(3)).mean() > 0.5
    assert (scene.render(4) != scene.render(3)).mean() > 0.5


def test_the_scene_is_a_source_like_any_other(scene):
    frames, out = SyntheticScene(7, (640, 480), objects=16), np.zeros((480, 640, 3), np.uint8)
    np.testing.assert_array_equal(frames.read(), scene.render(0))
    assert frames.read_into(out)
    np.testing.assert_array_equal(out, scene.render(1))
    np.testing.assert_array_equal(next(iter(frames)), scene.render(2))
    assert frames.index == 3
    assert scene.render(5, out) is out
    np.testing.assert_array_equal(out, scene.render(5))


def test_the_default_scene_is_full_hd_of_ten_classes():
    scene = SyntheticScene()
    assert scene.read().shape == (1080, 1920, 3)
    assert len(set(scene.names)) == 10
    truths = [scene.truth(index) for index in range(0, 3000, 100)]
    assert {int(kind) for truth in truths for kind in truth.classes} == set(range(10))
    assert min(len(truth) for truth in truths) >= 5
    boxes = np.concatenate([truth.boxes for truth in truths])
    longest = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    assert longest.min() < 32
    assert 400 <= longest.max() <= 600
    assert 40 < np.median(longest) < 160


def test_truth_has_the_form_of_detections_inside_the_frame(scene):
    for truth in map(scene.truth, range(0, 1000, 40)):
        assert (truth.boxes.dtype, truth.scores.dtype, truth.classes.dtype) == (np.float32, np.float32, np.int64)
        assert (truth.scores == 1).all()
        assert (truth.boxes[:, :2] >= 0).all()
        assert (truth.boxes[:, 2:] <= (640, 480)).all()
        assert (truth.boxes[:, 2:] > truth.boxes[:, :2]).all()


def test_truth_is_where_the_part_is_drawn():
    """Against the same frame without its only part: inside the box it differs, outside there is only shadow."""
    scene, checked = SyntheticScene(1, (640, 480), objects=1), 0
    for index in range(0, 1500, 100):
        truth, frame = scene.truth(index), scene.render(index).astype(int)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scene, "_placements", lambda index: [])
            empty = scene.render(index).astype(int)
        if not len(truth):
            continue
        changed = np.abs(frame - empty).max(axis=2) > 12
        left, top, right, bottom = truth.boxes[0].astype(int)
        for side in (changed[top:bottom, left], changed[top:bottom, right - 1]):
            assert side.any() or left == 0 or right == 640
        for side in (changed[top, left:right], changed[bottom - 1, left:right]):
            assert side.any() or top == 0 or bottom == 480
        brighter = frame - empty
        rim = 8  # of a part out of focus
        brighter[max(top - rim, 0) : bottom + rim, max(left - rim, 0) : right + rim] = 0
        assert brighter.max() <= 2
        checked += 1
    assert checked >= 6


def test_covered_and_cut_off_parts_follow_the_rule(scene, monkeypatch):
    sprite = scene_module.make_sprite(7, 200, np.random.default_rng(2))  # a chip
    rows, columns = (np.flatnonzero(sprite.mask.any(axis=axis)) for axis in (1, 0))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    width = box[2] - box[0]

    def truth(*places: tuple[int, int]):
        monkeypatch.setattr(scene, "_placements", lambda index: [(sprite, x, y) for x, y in places])
        return scene.truth(0)

    np.testing.assert_array_equal(truth((100, 50)).boxes, [box + np.tile([100, 50], 2)])
    np.testing.assert_array_equal(truth((100, 50)).classes, [7])
    assert len(truth((100, 50), (101, 50))) == 1
    assert len(truth((100, 50), (100 + width // 2, 50))) == 2
    half = truth((-box[0] - width // 2, 50)).boxes
    np.testing.assert_array_equal(half[:, [0, 2]], [[0, width - width // 2]])
    assert len(truth((-box[0] - width * 9 // 10, 50))) == 0
    assert len(truth()) == 0


@pytest.mark.parametrize("settings", [{"size": (640, 40)}, {"objects": 0}, {"objects": 256}, {"seed": -1}])
def test_a_scene_that_cannot_be_is_refused(settings):
    with pytest.raises(SettingsError, match="64 x 64"):
        SyntheticScene(**settings)


def test_a_small_scene_works():
    small = SyntheticScene(0, (64, 65), objects=3)
    assert small.render(0).shape == (65, 64, 3)
    assert small.render(12_345).std() > 3


def test_the_noise_is_new_in_each_frame_and_the_light_changes():
    scene = SyntheticScene(0, (320, 240), objects=1)
    scene._placements = lambda index: []
    scene._belt[:] = 90
    frames = [scene.render(index)[20:-20].astype(float) for index in range(0, 140, 7)]
    steps = [np.std(after - before) for before, after in pairwise(frames)]
    assert min(steps) > 3
    means = [frame.mean() for frame in frames]
    assert max(means) - min(means) > 5
