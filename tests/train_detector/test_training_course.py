"""The schedule, the average of the weights, average precision, and one step of learning."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from scripts.train_detector import schedule  # noqa: E402
from scripts.train_detector.__main__ import falls, options  # noqa: E402
from scripts.train_detector.assignment import Truth  # noqa: E402
from scripts.train_detector.learner import Average, Learner  # noqa: E402
from scripts.train_detector.network import Detector  # noqa: E402
from scripts.train_detector.settings import SMOKE, Settings  # noqa: E402
from scripts.train_detector.store import Store  # noqa: E402
from scripts.train_detector.validate import average_precision  # noqa: E402
from yolotrt_lab.types import Detections  # noqa: E402

TINY = replace(SMOKE, input_size=64, batch=2, objects=1)


def test_the_rate_rises_and_falls():
    settings = Settings(learning_rate=1.0, warm_up=0.1)
    assert schedule.learning_rate(0, settings) == 0
    assert schedule.learning_rate(0.05, settings) == pytest.approx(0.5, abs=0.01)
    assert schedule.learning_rate(0.5, settings) == pytest.approx(0.505)
    assert schedule.learning_rate(1.2, settings) == pytest.approx(0.01)


def test_progress_goes_by_what_is_left_of_the_minutes(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(schedule, "monotonic", lambda: clock.now)
    progress = schedule.Progress(Settings(minutes=2), started=40.0)  # 60 s of the 120 s are over
    clock.now = 115.0
    assert (progress.seconds, progress.done) == (15, 0.25)
    counted = schedule.Progress(Settings(steps=8), started=40.0)
    counted.steps = 2
    assert counted.done == 0.25


def test_the_average_moves_by_the_share_that_its_updates_allow():
    live = Detector("n", 2)
    average = Average(live, 0.5)
    with torch.no_grad():
        for tensor in live.state_dict().values():
            tensor.add_(1)
    start = average.detector.model["0"].bn.weight[0].item()
    average.update()  # keeps 1/10 in the first update
    assert average.detector.model["0"].bn.weight[0].item() == pytest.approx(start + 0.9)
    for _ in range(12):
        average.update()
    assert average.detector.model["0"].bn.running_mean[0].item() == pytest.approx(1, abs=1e-3)
    assert not average.detector.training


def test_a_step_changes_the_weights_and_their_average():
    torch.set_num_threads(1)
    images = torch.randint(0, 256, (2, 3, 36, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[[8.0, 4, 40, 30]]]).repeat(2, 1, 1)
    store = Store(images, Truth(boxes, torch.ones(2, 1, dtype=torch.int64), torch.ones(2, 1, dtype=torch.bool)))
    learner = Learner(TINY, 3, torch.device("cpu"))
    before = learner.detector.model["0"].conv.weight.clone()
    parts = learner.step(store, 1e-3, 0.5)
    assert parts.shape == (3,)
    assert parts.isfinite().all()
    assert not torch.equal(learner.detector.model["0"].conv.weight, before)
    assert not torch.equal(learner.average.detector.model["0"].conv.weight, before)


@pytest.mark.parametrize("broken", ["", "RuntimeError", "ZeroDivisionError"])
def test_compiling_leaves_the_weights_and_training_goes_on_where_it_fails(monkeypatch, broken):
    def compile_with(function, **settings):
        if broken == "RuntimeError":
            raise RuntimeError("there is no compiler")
        return (lambda *inputs: 1 / 0) if broken else function

    monkeypatch.setattr(torch, "compile", compile_with)
    learner = Learner(TINY, 3, torch.device("cpu"))
    before = {name: tensor.clone() for name, tensor in learner.detector.state_dict().items()}
    learner.compile()
    assert (learner.compiled is None) == bool(broken)
    assert learner.note.startswith(f"compiling failed: {broken}" if broken else "")
    after = learner.detector.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in learner.detector.parameters())


def detections(*rows):
    """Rows of (left, top, right, bottom, score, class)."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def test_average_precision_by_hand():
    truth = [detections((0, 0, 10, 10, 1, 0), (50, 0, 60, 10, 1, 0), (20, 0, 30, 10, 1, 1))]
    # a hit of overlap 0.8, a miss, then a second box on the first object, which is a miss too; class 1 is perfect
    found = [detections((0, 0, 10, 8, 0.9, 0), (80, 0, 90, 10, 0.8, 0), (0, 0, 10, 10, 0.7, 0), (20, 0, 30, 10, 1, 1))]
    row, perfect, absent = average_precision(found, truth, 3)
    half = 51 / 101  # precision 1 up to recall 0.5, the 51 recalls 0 to 0.50; nothing beyond
    assert row[:6] == pytest.approx([half] * 6)
    # from 0.8 on (0.80000001 in float32) the third box is the hit: precision 1/3 up to recall 0.5
    assert row[7:] == pytest.approx([half / 3] * 3)
    assert (perfect == 1).all()
    assert np.isnan(absent).all()


def test_the_command_tells_a_falling_loss_and_is_kept_without_the_folder():
    assert falls([4, 4, 3, 3, 2, 2, 2, 2])
    assert not falls([4, 4, 3, 3, 3, 3, 3, 3])
    assert options(["here/out", "--minutes", "8"], Path("here/out")) == ["--minutes", "8"]
