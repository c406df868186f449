import numpy as np
import pytest

from yolotrt_lab.engines.base import checked, require_gpu
from yolotrt_lab.errors import DtypeError, EngineError, ShapeError
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
