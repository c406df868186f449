"""Rendered frames, and what becomes of them and of their boxes in a batch."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from scripts.train_detector.assignment import Truth  # noqa: E402
from scripts.train_detector.augment import cut_images, draw_batch, draw_panes, move_truth, plain_panes  # noqa: E402
from scripts.train_detector.render import Job, Renderer, render_scene  # noqa: E402
from scripts.train_detector.settings import SMOKE, Scenes, Settings  # noqa: E402
from scripts.train_detector.store import Store, collect  # noqa: E402
from yolotrt_lab.detector.scene import SyntheticScene  # noqa: E402
from yolotrt_lab.vision import Letterbox  # noqa: E402

SIDE = 128
JOB = Job(seed=7, frame_size=(384, 216), objects=8, frames=3, input_size=SIDE)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def rendered():
    return render_scene(JOB)


def as_store(rendered):
    return Store(torch.from_numpy(rendered.images), Truth(*map(torch.from_numpy, rendered[2:])))


def test_a_scene_is_rendered_as_the_detector_will_see_it(rendered):
    scene = SyntheticScene(7, (384, 216), objects=8)
    index = np.random.default_rng(7).integers(0, 1_000_000, 3).tolist()[2]
    square = np.empty((3, SIDE, SIDE), np.float32)
    Letterbox()(scene.render(index), square)
    one, zero = torch.ones(1, 3, 1, 1), torch.zeros(1, 3, 1, 1)
    frames = as_store(rendered).images[2:, None].expand(-1, 2, -1, -1, -1)
    image = cut_images(frames, plain_panes(1, frames.shape[-2:], SIDE, CPU), SIDE, one, zero)
    np.testing.assert_allclose(image[0], square, atol=1e-3)
    truth = scene.truth(index)
    assert rendered.valid[2].sum() == len(truth)
    np.testing.assert_allclose(rendered.boxes[2][rendered.valid[2]], truth.boxes / 3, rtol=1e-6)


def test_other_processes_render_the_same_or_are_late(rendered):
    settings = Settings(
        frame_size=(384, 216), input_size=SIDE, objects=8, training=Scenes(7, 1, 3), held_out=Scenes(9, 1, 2)
    )
    with Renderer([JOB, JOB._replace(seed=9, frames=2)], 2, 60) as renderer:
        training, held_out = collect(renderer, settings, CPU)
    assert len(held_out) == 2
    np.testing.assert_array_equal(training.images, rendered.images)
    np.testing.assert_array_equal(training.truth.boxes, rendered.boxes)
    with Renderer([JOB], 1, 0) as late:
        assert list(late) == []


def test_training_scenes_are_never_held_out():
    for settings in (Settings(), SMOKE):
        assert not set(settings.training.seeds) & set(settings.held_out.seeds)
        assert max(*settings.training.seeds, *settings.held_out.seeds) < 2_000_000


def test_boxes_follow_their_objects():
    """One white object in each black frame: wherever it goes, its box is about its pixels."""
    count, height, width = 64, 72, 128
    frames = torch.zeros((count, 2, 3, height, width), dtype=torch.uint8)
    frames[:, :, :, 20:41, 30:61] = 255
    boxes = torch.tensor([30.0, 20, 61, 41]).expand(count, 2, 1, 4)
    truth = Truth(boxes, torch.zeros(count, 2, 1, dtype=torch.int64), torch.ones(count, 2, 1, dtype=torch.bool))
    panes = draw_panes(count, (height, width), SIDE, 0.7, torch.Generator().manual_seed(1))
    one, zero = torch.ones(count, 3, 1, 1), torch.zeros(count, 3, 1, 1)
    images = cut_images(frames, panes, SIDE, one, zero)
    moved = move_truth(truth, panes, (height, width), SIDE)
    assert moved.valid.sum() > count
    for image, shown, valid in zip(images[:, 0], moved.boxes, moved.valid, strict=True):
        white = image > 0.6
        for left, top, right, bottom in shown[valid].round().int().tolist():
            assert white[top + 1 : bottom - 1, left + 1 : right - 1].all()
            white[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1] = False
        for left, top, right, bottom in shown[~valid].round().int().tolist():  # slivers of the object
            white[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1] = False
        assert not white.any()


def test_a_batch_is_a_function_of_its_seed(rendered):
    batches = [draw_batch(as_store(rendered), 4, SIDE, 0.5, torch.Generator().manual_seed(2)) for _ in range(2)]
    assert torch.equal(batches[0].images, batches[1].images)
    assert batches[0].images.shape == (4, 3, SIDE, SIDE)
    assert batches[0].truth.boxes.shape == (4, 16, 4)
    assert 0 <= batches[0].images.min() < batches[0].images.max() <= 1
