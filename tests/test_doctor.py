"""What doctor finds in environments that are whole, bare or broken, and the commands that it names."""

import ctypes
import importlib
import json
import os
import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from yolotrt_lab import cuda as devices_driver
from yolotrt_lab import doctor
from yolotrt_lab.doctor import Driver, Finding, State, as_json, as_text, can_run, examine, find_driver
from yolotrt_lab.errors import NoGpuError, SettingsError
from yolotrt_lab.nsight.capture import find_nsys

H200 = Driver("580.159.04", (13, 0), "NVIDIA H200", (9, 0))
CUDA_12 = Driver("550.54", (12, 4), "NVIDIA L4", (8, 9))
CUDA_11 = Driver("470.82", (11, 4), "Tesla T4", (7, 5))


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine without GPU, nsys and GPU packages, whose parts the tests set."""
    installed = {"papermill": "2.7.0", "ipykernel": "7.4.0", "nbconvert": "7.17", "jupyterlab": "4.6", "nvtx": "0.2.17"}
    parts = SimpleNamespace(driver=None, installed=installed, modules=tmp_path / "modules")

    def find():
        if not parts.driver:
            raise NoGpuError("there is no NVIDIA driver here", fix="install one")
        return parts.driver

    parts.modules.mkdir()
    monkeypatch.syspath_prepend(parts.modules)
    for name in ("cupy", "tensorrt", "tensorrt_rtx"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(doctor, "_NEEDED_MODULES", {"numpy": "numpy"})
    monkeypatch.setattr(doctor, "_version", lambda package: installed.get(package, ""))
    monkeypatch.setattr(doctor, "find_driver", find)
    monkeypatch.setattr(doctor, "find_nsys", lambda: "")
    monkeypatch.setattr(doctor, "lab_path", lambda folder: tmp_path / folder)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for folder in ("data", "notebooks"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").touch()
    yield parts
    for module in parts.modules.glob("*.py"):
        sys.modules.pop(module.stem, None)


def found():
    return {finding.name: finding for finding in examine()}


def module(machine, name, source):
    (machine.modules / f"{name}.py").write_text(source, encoding="utf-8")
    importlib.invalidate_caches()


def test_without_a_gpu_the_lab_runs_on_the_simulated_device(machine):
    findings = examine()
    assert can_run(findings)
    assert as_text(findings).splitlines()[-1] == "The lab can run, on the simulated device."
    by_name = {finding.name: finding for finding in findings}
    assert by_name["GPU"].state is State.ABSENT
    assert by_name["GPU"].detail.startswith("no NVIDIA GPU: everything runs on the simulated device")
    assert {by_name[name].state for name in ("CuPy", "TensorRT", "nsys")} == {State.ABSENT}
    assert [by_name[name].fix for name in ("CuPy", "TensorRT", "nsys")] == ["", "", ""]


def test_a_bare_gpu_machine_is_told_what_to_install_for_its_driver(machine, monkeypatch):
    monkeypatch.setattr(doctor, "install_command", lambda extra: f"install {extra}")
    machine.driver = H200
    by_name = found()
    assert by_name["GPU"].detail == "NVIDIA H200, compute capability 9.0"
    assert by_name["NVIDIA driver"].detail == "580.159.04, CUDA 13.0"
    assert (by_name["CuPy"].state, by_name["CuPy"].fix) == (State.MISSING, "install cuda13")
    assert by_name["TensorRT"].fix == "install tensorrt, or for TensorRT-RTX install rtx"
    assert by_name["nsys"].state is State.MISSING
    machine.driver = CUDA_12
    by_name = found()
    assert by_name["CuPy"].fix == "install cuda12"
    assert by_name["TensorRT"].fix == 'python -m pip install "tensorrt-cu12>=10,<12"'


def test_a_machine_with_everything_runs_live(machine):
    machine.driver = H200
    machine.installed |= {"cupy-cuda13x": "14.2.0", "tensorrt-rtx-cu13": "1.4.0.76"}
    nvrtc = "class cuda:\n    class nvrtc:\n        getVersion = staticmethod(lambda: (13, 0))"
    module(machine, "cupy", nvrtc)
    module(machine, "tensorrt_rtx", "raise SystemError('not imported')")
    by_name = found()
    assert by_name["CuPy"] == Finding("CuPy", State.OK, "cupy-cuda13x 14.2.0")
    assert by_name["TensorRT-RTX"] == Finding("TensorRT-RTX", State.OK, "tensorrt-rtx-cu13 1.4.0.76")
    assert "TensorRT" not in by_name
    assert as_text(examine()).splitlines()[-1] == "The lab can run, on the GPU and simulated."


def test_a_driver_that_is_too_old_is_broken(machine):
    machine.driver = CUDA_11
    assert found()["NVIDIA driver"].state is State.BROKEN
    assert "525" in found()["NVIDIA driver"].fix


def test_hidden_gpus_are_mentioned(machine, monkeypatch):
    machine.driver = H200
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert found()["GPU"].detail.endswith("(CUDA_VISIBLE_DEVICES=3)")


@pytest.mark.parametrize(
    ("installed", "detail"),
    [
        (["cupy-cuda12x", "cupy-cuda13x"], "cupy-cuda12x 14.2.0 and cupy-cuda13x 14.2.0: they overwrite each other"),
        (["cupy-cuda13x"], "cupy-cuda13x 14.2.0: made for CUDA 13, and the driver offers CUDA 12"),
    ],
)
def test_a_cupy_that_does_not_suit_is_replaced(machine, installed, detail):
    machine.driver = CUDA_12
    machine.installed |= dict.fromkeys(installed, "14.2.0")
    finding = found()["CuPy"]
    assert (finding.state, finding.detail) == (State.BROKEN, detail)
    assert finding.fix.startswith(f"python -m pip uninstall -y {' '.join(installed)}, then python -m pip install")
    assert "[cuda12]" in finding.fix


def test_a_cupy_that_cannot_compile_is_broken(machine):
    machine.driver = H200
    machine.installed |= {"cupy-cuda13x": "14.2.0"}
    module(
        machine,
        "cupy",
        "class cuda:\n    class nvrtc:\n        def getVersion():\n            raise OSError('no nvrtc')",
    )
    assert found()["CuPy"].detail == "cupy-cuda13x 14.2.0: OSError: no nvrtc"
    assert found()["CuPy"].state is State.BROKEN


def test_a_tensorrt_for_a_newer_driver_is_broken(machine):
    machine.driver = CUDA_12
    machine.installed |= {"tensorrt": "10.16", "tensorrt-cu13": "10.16"}
    module(machine, "tensorrt", "")
    finding = found()["TensorRT"]
    assert finding.state is State.BROKEN
    assert finding.detail.endswith("made for CUDA 13, and the driver offers CUDA 12")
    assert finding.fix.endswith('pip install "tensorrt-cu12>=10,<12"')


@pytest.mark.parametrize(
    ("source", "state", "detail"),
    [
        ("raise ImportError('libGL.so.1: no such file')", State.BROKEN, "ImportError: libGL.so.1: no such file"),
        ("raise OSError", State.BROKEN, "OSError"),
        ("raise SystemExit('no licence')", State.BROKEN, "SystemExit: no licence"),
        ("import no_such_part", State.BROKEN, "ModuleNotFoundError: No module named 'no_such_part'"),
        ("", State.BROKEN, "AttributeError: module 'needed' has no attribute '__version__'"),
        (None, State.MISSING, "ModuleNotFoundError: No module named 'needed'"),
        ("__version__ = '5.0'", State.OK, "5.0"),
    ],
)
def test_a_needed_package_in_any_condition(machine, monkeypatch, source, state, detail):
    monkeypatch.setattr(doctor, "_NEEDED_MODULES", {"needed": "needed-headless"})
    if source is not None:
        module(machine, "needed", source)
    findings = examine()
    [finding] = [finding for finding in findings if finding.name == "needed-headless"]
    assert (finding.state, finding.detail, finding.needed) == (state, detail, True)
    assert can_run(findings) is (state is State.OK)
    assert finding.fix.endswith(" needed-headless") is (state is not State.OK)
    assert ("--force-reinstall" in finding.fix) is (state is State.BROKEN)


def test_missing_notebook_packages_keep_the_lab_from_running(machine):
    del machine.installed["papermill"]
    findings = examine()
    assert not can_run(findings)
    text = as_text(findings)
    assert text.splitlines()[-1] == "The lab cannot run; mend first: papermill."
    assert "[notebooks]" in text


def test_missing_data_keeps_the_lab_from_running(machine, monkeypatch):
    def nowhere(folder):
        raise SettingsError(f"the lab has no {folder}")

    monkeypatch.setattr(doctor, "lab_path", nowhere)
    findings = examine()
    details = [finding.detail for finding in findings if finding.name.startswith("lab ")]
    assert details == ["the lab has no data", "the lab has no notebooks"]
    assert not can_run(findings)


def test_a_check_that_raises_becomes_a_finding(machine, monkeypatch):
    def explode():
        raise PermissionError("nsys is not yours")

    monkeypatch.setattr(doctor, "find_nsys", explode)
    machine.driver = H200
    assert found()["nsys"] == Finding("nsys", State.BROKEN, "PermissionError: nsys is not yours")


def test_json_holds_every_finding(machine):
    findings = examine()
    read = json.loads(as_json(findings))
    assert read["can_run"] is True
    assert [entry["name"] for entry in read["findings"]] == [finding.name for finding in findings]
    assert read["findings"][0]["state"] == "ok"


@pytest.fixture
def no_nsys_on_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setenv("PROGRAMFILES", str(tmp_path / "Program Files"))
    return tmp_path


def test_nsys_is_found_in_program_files_the_newest_first(no_nsys_on_path):
    for version in ("2024.1.1", "2025.3.2"):
        folder = Path("Program Files", "NVIDIA Corporation", f"Nsight Systems {version}", "target-windows-x64")
        (no_nsys_on_path / folder).mkdir(parents=True)
        (no_nsys_on_path / folder / "nsys.exe").touch()
    assert "Nsight Systems 2025.3.2" in find_nsys()


@pytest.mark.skipif(sys.platform == "win32", reason="makes a shell script")
def test_nsys_is_asked_for_its_version(machine, no_nsys_on_path, monkeypatch):
    program = no_nsys_on_path / "empty" / "nsys"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho NVIDIA Nsight Systems version 2025.3.2.474-25323v0\n", encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(doctor, "find_nsys", find_nsys)
    assert found()["nsys"] == Finding("nsys", State.OK, f"2025.3.2.474 at {program}")
    program.write_text("#!/bin/sh\nexit 3\n", encoding="utf-8")
    assert found()["nsys"].state is State.BROKEN


def test_the_driver_is_read_from_cuda_and_nvml(monkeypatch):
    def version(number):
        number._obj.value = 12_040

    monkeypatch.setattr(devices_driver, "find_gpu", lambda: devices_driver.Gpu("NVIDIA L4", (8, 9)))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(cuDriverGetVersion=version))
    nvml = SimpleNamespace(nvmlInit=int, nvmlShutdown=int, nvmlSystemGetDriverVersion=lambda: "550.54")
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert find_driver() == CUDA_12
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert find_driver() == Driver("", (12, 4), "NVIDIA L4", (8, 9))
    assert CUDA_12.extra == "cuda12"
    assert H200.extra == "cuda13"


def test_this_machine_can_be_examined():
    findings = {finding.name: finding for finding in examine()}
    assert findings["Python"].state is State.OK
    assert findings["Python"].detail.startswith(".".join(map(str, sys.version_info[:3])))
    assert findings["system"].detail.endswith(f"{os.cpu_count()} cores")
    assert "CPUExecutionProvider" in findings["onnxruntime"].detail
