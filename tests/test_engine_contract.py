"""What all engines have in common: their inputs are checked, their memory stays bound, their contexts can be lent."""

import numpy as np
import pytest
from toy_engine import toy_engine, toy_frame

from yolotrt_lab.engine import LendingEngine, checked, open_engine
from yolotrt_lab.errors import DtypeError, SettingsError, ShapeError
from yolotrt_lab.simulate.timed_engine import SpinEngine
from yolotrt_lab.speed.overlap import OverlappedLoop, OverlapSettings
from yolotrt_lab.types import TensorSpec

IMAGES = TensorSpec("images", (1, 3, 2, 4), np.dtype(np.float32))


def test_fitting_array_passes_without_a_copy_and_a_strided_one_becomes_contiguous():
    array = np.zeros((1, 3, 2, 4), np.float32)
    assert np.shares_memory(checked(IMAGES, {"images": array, "other": None}), array)
    strided = np.arange(24, dtype=np.float32).reshape(1, 2, 4, 3).transpose(0, 3, 1, 2)
    result = checked(IMAGES, {"images": strided})
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, strided)


@pytest.mark.parametrize(
    ("tensors", "kind", "words"),
    [
        ({}, ShapeError, "pass images"),
        ({"images": np.zeros((1, 3, 4, 2), np.float32)}, ShapeError, "letterbox the frame to"),
        ({"images": np.zeros((1, 3, 2, 4))}, DtypeError, r"astype\(np.float32\)"),
    ],
)
def test_misfit_says_the_fix(tensors, kind, words):
    with pytest.raises(kind, match=words):
        checked(IMAGES, tensors)


@pytest.mark.parametrize("engine", [SpinEngine(1_000), toy_engine()], ids=lambda engine: engine.label)
def test_bound_memory_cannot_be_bound_again(device, engine):
    """A captured graph would go on with the memory of its capture, without a word."""
    context = engine.context(device)
    for spec in (*engine.inputs, *engine.outputs):
        assert context.buffers[spec.name].nbytes == spec.nbytes
        with pytest.raises(TypeError, match="does not support item assignment"):
            context.buffers[spec.name] = device.empty_device(spec.nbytes)


def test_lent_context_comes_back_when_nobody_holds_it(device):
    engine = LendingEngine(toy_engine())
    first, second = engine.context(device), engine.context(device)
    assert first.buffers is not second.buffers
    memory = first.buffers
    first.enqueue(device.stream())
    del first
    assert engine.context(device).buffers is memory


def test_a_lending_engine_gives_raw_contexts_too(device):
    engine = toy_engine()
    assert type(LendingEngine(engine).raw_context(device)) is type(engine.raw_context(device))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"boxes": 0}, "boxes must be 1 or more, got 0"),
        ({"boxes": "100"}, "boxes must be a whole number, got '100'"),
        ({"boxes": 9_000}, "boxes must divide 8,400 cells, got 9,000"),
        ({"boxes": 1_000}, "boxes must divide 8,400 cells, got 1,000"),
        ({"batch": 0}, "batch must be 1 or more, got 0"),
        ({"batch": 1.5}, r"batch must be a whole number, got 1\.5"),
    ],
)
def test_boxes_and_batches_that_no_engine_has_are_refused(device, values, message):
    with pytest.raises(SettingsError, match=message):
        open_engine(device, **values)


def test_boxes_are_the_last_dimension_of_the_output(device):
    assert [open_engine(device, boxes=boxes).outputs[0].shape[2] for boxes in (None, 1, 8_400)] == [8_400, 1, 8_400]


def test_lent_context_comes_back_after_its_siblings(device):
    engine = LendingEngine(toy_engine())
    first = engine.context(device)
    memory, sibling = first.buffers, first.sibling(device)
    youngest = sibling.sibling(device)
    del first, sibling
    assert engine.context(device).buffers is not memory
    del youngest
    assert engine.context(device).buffers is memory


def test_loops_after_each_other_run_in_the_same_lent_contexts(device):
    engine, memory = LendingEngine(toy_engine()), []
    settings = OverlapSettings(frames=6, graph=True, contexts=3, collect_after=2, postprocess=True)
    for _ in range(2):
        loop = OverlappedLoop(device, engine, settings, [toy_frame(0)])
        loop.run()
        memory.append({id(lane.context.buffers) for lane in loop.lanes.lanes})
        del loop
    assert len(memory[0]) == 3
    assert memory[0] == memory[1]
