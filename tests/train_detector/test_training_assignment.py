"""Which cells learn which object, on an image of 64 x 64: 64 cells of 8 pixels, 16 of 16, 4 of 32."""

import pytest

torch = pytest.importorskip("torch")

from scripts.train_detector.assignment import Truth, assign  # noqa: E402
from scripts.train_detector.network import make_cells  # noqa: E402

CELLS = make_cells((64, 64))
COUNT = len(CELLS.centres)


def boxes_about_centres(half):
    return torch.cat([CELLS.centres - half, CELLS.centres + half], dim=1)[None]


def truth(*rows):
    """Rows of (left, top, right, bottom, class)."""
    table = torch.tensor([[float(value) for value in row] for row in rows])[None]
    return Truth(table[..., :4], table[..., 4].long(), torch.ones(1, len(rows), dtype=torch.bool))


def even_scores(classes=2, value=0.25):
    return torch.full((1, COUNT, classes), value)


def chosen(assignment):
    return [tuple(centre) for centre in CELLS.centres[assignment.scores[0].sum(dim=-1) > 0].tolist()]


def test_the_cells_of_the_best_alignment_learn():
    # all boxes are 16 x 16; one cell, at (20, 20), says just the object, those beside it less
    found = assign(even_scores(), boxes_about_centres(8), CELLS, truth((12, 12, 28, 28, 1)))
    best = found.scores[0].max(dim=0)
    assert best.values.tolist() == pytest.approx([0, 1])  # class 1; the best cell gets its overlap, 1
    assert CELLS.centres[best.indices[1]].tolist() == [20, 20]


@pytest.mark.parametrize(("score", "factor"), [(0.25, 1), (1.0, 2)])
def test_target_scores_fall_with_the_overlap_and_grow_with_the_root_of_the_score(score, factor):
    # the cell at (28, 20) overlaps by 16 * 8 of 384 pixels: u = 1/3, t / t_best = u^6, times 2 at four times the score
    scores = even_scores()
    index = CELLS.centres[:64].tolist().index([28, 20])
    scores[0, index, 1] = score
    found = assign(scores, boxes_about_centres(8), CELLS, truth((12, 12, 28, 28, 1)))
    assert found.scores[0, index, 1].item() == pytest.approx(factor * 3.0**-6, rel=1e-3)


def test_an_object_gets_ten_cells_at_most():
    found = assign(even_scores(), boxes_about_centres(16), CELLS, truth((0, 0, 64, 64, 0)))
    assert len(chosen(found)) == 10


def test_cells_outside_the_box_do_not_learn():
    found = assign(even_scores(), boxes_about_centres(16), CELLS, truth((0, 0, 15, 15, 0)))
    assert chosen(found) == [(4, 4), (12, 4), (4, 12), (12, 12), (8, 8)]


def test_a_cell_wanted_by_two_objects_goes_to_the_one_it_overlaps_more():
    objects = truth((8, 8, 24, 24, 0), (10, 8, 26, 24, 1))
    found = assign(even_scores(), boxes_about_centres(8), CELLS, objects)
    cells = CELLS.centres[:64].tolist()
    assert found.boxes[0, cells.index([12, 12])].tolist() == [8, 8, 24, 24]
    assert found.boxes[0, cells.index([20, 20])].tolist() == [10, 8, 26, 24]
    assert found.scores[0, cells.index([20, 20]), 0] == 0
    assert (found.scores[0] > 0).sum(dim=-1).max() == 1


@pytest.mark.parametrize("left", [0, 5.5, 13, 57])
def test_a_tiny_object_has_a_cell_wherever_it_lies(left):
    # 5 x 2 pixels, without a centre in it
    found = assign(even_scores(), boxes_about_centres(8), CELLS, truth((left, 13.5, left + 5, 15.5, 0)))
    assert len(chosen(found)) >= 1


def test_padding_takes_no_cell():
    objects = truth((8, 8, 24, 24, 0), (8, 8, 24, 24, 1))
    objects = objects._replace(valid=torch.tensor([[True, False]]))
    found = assign(even_scores(), boxes_about_centres(8), CELLS, objects)
    assert found.scores[..., 1].max() == 0
    assert found.scores[..., 0].max() > 0
