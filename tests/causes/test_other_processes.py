"""Other processes with a CuPy that has no GPU: they start, say when they are busy, and always end."""

from __future__ import annotations

import sys
import threading
import time
from types import SimpleNamespace

import pytest

from yolotrt_lab.causes import shared_gpu
from yolotrt_lab.causes.shared_gpu import MATRIX, READY, UPLOAD_BYTES, OtherProcesses, keep_busy
from yolotrt_lab.errors import DeviceError

FAKE_CUPY = """
import time
import types

float32, uint8 = "float32", "uint8"


class Array:
    def set(self, host):
        pass


def ones(*_):
    return Array()


empty = empty_like = ones


def matmul(left, right, out):
    time.sleep(0.01)


cuda = types.SimpleNamespace(get_current_stream=lambda: types.SimpleNamespace(synchronize=lambda: None))
"""


@pytest.fixture
def fake_cupy(tmp_path, monkeypatch):
    (tmp_path / "cupy.py").write_text(FAKE_CUPY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "cupy.py"


def wait_until(condition):
    deadline = time.monotonic() + 600
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def alive(group):
    return [process._process.poll() is None for process in group._processes]


def test_processes_come_say_that_they_are_busy_and_go(fake_cupy):
    with OtherProcesses() as group:
        assert group.busy  # all of none
        group.become(2)
        assert alive(group) == [True, True]
        wait_until(lambda: group.busy)
        first, second = (each._process for each in group._processes)
        group.become(1)
        assert second.returncode is not None
        assert alive(group) == [True]
    assert first.returncode is not None
    assert group._processes == []


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_processes_end_after_an_error(fake_cupy, error):
    with pytest.raises(error), OtherProcesses() as group:
        group.become(1)
        process = group._processes[0]._process
        raise error
    assert process.returncode is not None


def test_process_that_can_t_run_is_an_error_with_its_last_line(fake_cupy):
    fake_cupy.write_text("raise RuntimeError('out of memory')")
    with OtherProcesses() as group:
        group.become(1)
        group._processes[0]._process.wait(30)
        with pytest.raises(DeviceError, match="another process on the GPU ended: RuntimeError: out of memory"):
            wait_until(lambda: group.busy)


def test_process_that_lacks_a_package_says_how_to_install_it(fake_cupy):
    fake_cupy.write_text("raise ImportError('no cupy')")
    with OtherProcesses() as group:
        group.become(1)
        group._processes[0]._process.wait(30)
        with pytest.raises(DeviceError, match="cupy is not installed") as caught:
            wait_until(lambda: group.busy)
    assert caught.value.fix == "python -m pip install cupy"


def test_process_ends_when_its_standard_input_does(fake_cupy):
    with OtherProcesses() as group:
        group.become(1)
        wait_until(lambda: group.busy)
        process = group._processes[0]._process
        process.stdin.close()
        assert process.wait(30) == 0
        process.stdin = None


def test_work_is_matrix_products_and_uploads_in_turn(monkeypatch, capsys):
    log, stop = [], threading.Event()

    def array(shape, dtype):
        return SimpleNamespace(set=lambda host: log.append(("upload", host.nbytes)), shape=shape)

    def matmul(left, right, out):
        log.append(("product", left.shape))

    def synchronize():
        log.append("synchronize")
        if len(log) == 6:
            stop.set()

    stream = SimpleNamespace(synchronize=synchronize)
    cupy = SimpleNamespace(float32=1, uint8=2, ones=array, empty=array, empty_like=lambda other: other, matmul=matmul)
    cupy.cuda = SimpleNamespace(get_current_stream=lambda: stream)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    keep_busy(stop)
    assert log == [("product", (MATRIX, MATRIX)), ("upload", UPLOAD_BYTES), "synchronize"] * 2
    assert capsys.readouterr().out == f"{READY}\n"


@pytest.mark.parametrize(("told", "visible"), [("GPU-1234", "GPU-1234"), (None, "7")])
def test_processes_see_the_gpu_at_that_address_and_no_other(monkeypatch, told, visible):
    def handle(bus_id):
        if told is None:
            raise RuntimeError("not supported")
        return bus_id

    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByPciBusId=handle,
        nvmlDeviceGetUUID={"0000:65:00.0": told}.__getitem__,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert OtherProcesses("0000:65:00.0")._environment["CUDA_VISIBLE_DEVICES"] == visible


def test_the_same_lab_is_imported(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    path = OtherProcesses()._environment["PYTHONPATH"].split(shared_gpu.os.pathsep)
    assert path == [str(shared_gpu.Path(shared_gpu.__file__).parents[2]), "elsewhere"]
