"""The driver probe, against a stand-in for libcuda that fills in what it is asked for."""

import pytest

from yolotrt_lab import cuda as driver
from yolotrt_lab.cuda import Gpu, find_gpu
from yolotrt_lab.errors import NoGpuError


class FakeCuda:
    """Two GPUs; `current` is the one with a context in this thread, if any."""

    gpus = ((b"first GPU", (8, 9)), (b"second GPU", (9, 0)))

    def __init__(self, current=None, init=0, get=0):
        self.current, self.init, self.get = current, init, get

    def cuInit(self, flags):
        return self.init

    def cuCtxGetDevice(self, device):
        if self.current is None:
            return 201
        device._obj.value = self.current
        return 0

    def cuDeviceGet(self, device, ordinal):
        device._obj.value = ordinal
        return self.get

    def cuDeviceGetName(self, name, size, device):
        name.value = self.gpus[device.value][0]
        return 0

    def cuDeviceGetAttribute(self, number, attribute, device):
        number._obj.value = self.gpus[device.value][1][attribute - 75]
        return 0


@pytest.mark.parametrize(
    ("current", "gpu"),
    [(None, Gpu("first GPU", (8, 9))), (0, Gpu("first GPU", (8, 9))), (1, Gpu("second GPU", (9, 0)))],
)
def test_gpu_of_the_context_or_the_first(monkeypatch, current, gpu):
    monkeypatch.setattr(driver, "libcuda", lambda: FakeCuda(current))
    assert find_gpu() == gpu


@pytest.mark.parametrize(("fault", "words"), [({"init": 100}, "cuInit returned CUDA error 100"), ({"get": 101}, "101")])
def test_driver_without_a_gpu(monkeypatch, fault, words):
    monkeypatch.setattr(driver, "libcuda", lambda: FakeCuda(**fault))
    with pytest.raises(NoGpuError, match=words):
        find_gpu()


def test_no_driver(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(driver.ctypes, "CDLL", missing)
    with pytest.raises(NoGpuError, match="install the NVIDIA driver"):
        find_gpu()
