import numpy as np
import pytest
from toy_engine import toy_engine

from yolotrt_lab.engine import checked, require_gpu
from yolotrt_lab.errors import DtypeError, EngineError, ShapeError
from yolotrt_lab.simulate.timed_engine import SpinEngine
from yolotrt_lab.types import TensorSpec

IMAGES = TensorSpec("images", (1, 3, 2, 4), np.dtype(np.float32))


def test_fitting_array_passes_without_a_copy():
    array = np.zeros((1, 3, 2, 4), np.float32)
    assert np.shares_memory(checked(IMAGES, {"images": array, "other": None}), array)


def test_strided_array_becomes_contiguous():
    array = np.arange(24, dtype=np.float32).reshape(1, 2, 4, 3).transpose(0, 3, 1, 2)
    result = checked(IMAGES, {"images": array})
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, array)


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


def test_simulated_device_is_no_gpu(device):
    with pytest.raises(EngineError, match=r"open_device\('cuda'\)"):
        require_gpu(device, "an engine")


@pytest.mark.parametrize("engine", [SpinEngine(1_000), toy_engine()], ids=lambda engine: engine.label)
def test_bound_memory_cannot_be_bound_again(device, engine):
    """A captured graph would go on with the memory of its capture, without a word."""
    context = engine.context(device)
    for spec in (*engine.inputs, *engine.outputs):
        assert context.buffers[spec.name].nbytes == spec.nbytes
        with pytest.raises(TypeError, match="does not support item assignment"):
            context.buffers[spec.name] = device.empty_device(spec.nbytes)
