"""Each loss against cases that are worked by hand."""

from math import atan, log, pi

import pytest

torch = pytest.importorskip("torch")

from scripts.train_detector.assignment import Truth, assign  # noqa: E402
from scripts.train_detector.boxes import ciou_loss, overlaps  # noqa: E402
from scripts.train_detector.loss import detection_loss, distribution_focal_loss  # noqa: E402
from scripts.train_detector.network import Raw, decode_boxes, make_cells  # noqa: E402

ASPECT = 4 / pi**2 * (atan(1) - atan(4)) ** 2  # v of a square and a box four times as wide as it is high


def box(*sides):
    return torch.tensor([float(side) for side in sides])


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ((0, 0, 4, 4), (0, 0, 4, 4), 1),
        ((0, 0, 4, 4), (2, 0, 6, 4), 8 / 24),
        ((0, 0, 4, 4), (4, 0, 8, 4), 0),
        ((0, 0, 4, 4), (1, 1, 3, 3), 4 / 16),
        ((0, 0, 0, 0), (0, 0, 0, 0), 0),
    ],
)
def test_overlaps(one, other, overlap):
    assert overlaps(box(*one), box(*other)).item() == pytest.approx(overlap, abs=1e-6)


@pytest.mark.parametrize(
    ("one", "other", "loss"),
    [
        ((1, 2, 5, 8), (1, 2, 5, 8), 0),
        # overlap 8 of 24; centres 2 apart, hull 6 x 4; the same aspect
        ((0, 0, 4, 4), (2, 0, 6, 4), 1 - 8 / 24 + 4 / 52),
        # apart: no overlap, centres 8 apart, hull 12 x 4
        ((0, 0, 4, 4), (8, 0, 12, 4), 1 + 64 / 160),
        # 4 x 4 over 8 x 2 with one centre: overlap 8 of 24, and the aspects differ
        ((2, -1, 6, 3), (0, 0, 8, 2), 1 - 8 / 24 + ASPECT**2 / (1 - 8 / 24 + ASPECT)),
    ],
)
def test_ciou(one, other, loss):
    assert ciou_loss(box(*one), box(*other)).item() == pytest.approx(loss, abs=1e-5)


def test_ciou_pulls_a_box_that_is_apart():
    far = box(0, 0, 4, 4).requires_grad_()
    ciou_loss(far, box(8, 0, 12, 4)).backward()
    assert far.grad[[0, 2]].sum() < 0  # to the right is down


def test_distribution_focal_loss_shares_between_two_bins():
    bins = torch.log(box(0.1, 0.2, 0.4, 0.3))
    loss = distribution_focal_loss(bins, torch.tensor(1.25))
    assert loss.item() == pytest.approx(-(0.75 * log(0.2) + 0.25 * log(0.4)), abs=1e-6)


@pytest.mark.parametrize(("distance", "bin_"), [(-3.0, 0), (0.0, 0), (2.99, 3), (7.0, 3)])
def test_distances_are_clamped_to_the_bins(distance, bin_):
    bins = torch.full((4,), -50.0)
    bins[bin_] = 0
    assert distribution_focal_loss(bins, torch.tensor(distance)).item() == pytest.approx(0, abs=0.6)


def grid():
    """One image of 32 x 32 (16 + 4 + 1 cells) in which every cell says a box of 2 cells to each side, and score 1/2."""
    cells = make_cells((32, 32))
    bins = torch.full((1, 21, 4, 16), -100.0)
    bins[..., 2] = 0
    return cells, Raw(bins, torch.zeros(1, 21, 2))


def test_without_objects_only_the_scores_count():
    cells, raw = grid()
    truth = Truth(torch.zeros(1, 3, 4), torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 3, dtype=torch.bool))
    box_loss, class_loss, dfl_loss = detection_loss(raw, cells, truth).tolist()
    assert (box_loss, dfl_loss) == (0, 0)
    assert class_loss == pytest.approx(0.5 * 21 * 2 * log(2), rel=1e-6)


def test_a_found_object_costs_its_scores_only():
    cells, raw = grid()
    # the box of the cell at (12, 12) of the finest grid, just as it says; it alone is right, its target score is 1
    truth = Truth(box(-4, -4, 28, 28).reshape(1, 1, 4), torch.tensor([[1]]), torch.tensor([[True]]))
    parts = detection_loss(raw, cells, truth)
    assert parts.isfinite().all()
    only = Truth(truth.boxes, truth.classes, ~truth.valid)
    assert parts[1] < detection_loss(raw, cells, only)[1]  # divided by the sum of target scores, which is above 1
    bins = raw.bins.clone()
    bins[..., 2], bins[..., 5] = -100, 0  # now every box is far too large
    worse = detection_loss(Raw(bins, raw.logits), cells, truth)
    assert worse[0] > parts[0]
    assert worse[2] > parts[2]
    boxes = decode_boxes(bins, cells)
    target = assign(raw.logits.sigmoid(), boxes, cells, truth)
    weights = target.scores.sum(dim=-1) / target.scores.sum().clamp(min=1)
    sides = torch.cat([cells.centres - target.boxes[..., :2], target.boxes[..., 2:] - cells.centres], dim=-1)
    spread = distribution_focal_loss(bins, sides / cells.strides).mean(dim=-1)
    expected = [7.5 * (ciou_loss(boxes, target.boxes) * weights).sum(), 1.5 * (spread * weights).sum()]
    assert worse[[0, 2]].tolist() == pytest.approx([value.item() for value in expected], rel=1e-5)


def test_gradients_are_finite_where_boxes_are_padding():
    cells, raw = grid()
    raw = Raw(raw.bins.requires_grad_(), raw.logits.requires_grad_())
    boxes = torch.stack([box(10, 10, 12, 11), box(0, 0, 0, 0)])[None]
    truth = Truth(boxes, torch.zeros(1, 2, dtype=torch.int64), torch.tensor([[True, False]]))
    detection_loss(raw, cells, truth).sum().backward()
    assert raw.bins.grad.isfinite().all()
    assert raw.logits.grad.isfinite().all()
