"""What doctor finds in environments that are whole, bare or broken, and the commands that it names."""

import ctypes
import importlib
import json
import os
import stat
import subprocess
import sys
from types import SimpleNamespace

import pytest

from yolotrt_lab import cuda, doctor, telemetry
from yolotrt_lab.cuda import Gpu
from yolotrt_lab.doctor import Finding, State, as_json, as_text, can_run, examine
from yolotrt_lab.errors import NoGpuError, SettingsError
from yolotrt_lab.nsight import capture
from yolotrt_lab.nsight.capture import find_nsys

H200 = Gpu("NVIDIA H200", (9, 0)), (13, 0), "580.159.04"
H200_DETAIL = "NVIDIA H200, compute capability 9.0, driver 580.159.04, CUDA 13.0"
CUDA_12 = Gpu("NVIDIA L4", (8, 9)), (12, 4), "550.54"
CUDA_12_DETAIL = "NVIDIA L4, compute capability 8.9, driver 550.54, CUDA 12.4"
CUDA_11 = Gpu("Tesla T4", (7, 5)), (11, 4), ""


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine without GPU, nsys and GPU packages, whose parts the tests set."""
    installed = {
        "papermill": "2.7.0",
        "ipykernel": "7.4.0",
        "jinja2": "3.1",
        "beautifulsoup4": "4.15",
        "markdown-it-py": "4.3",
        "jupyterlab": "4.6",
        "nvtx": "0.2.17",
    }
    parts = SimpleNamespace(driver=None, installed=installed, modules=tmp_path / "modules")

    def find():
        if not parts.driver:
            raise NoGpuError("there is no NVIDIA driver here", fix="install one")
        return parts.driver[0]

    parts.modules.mkdir()
    monkeypatch.syspath_prepend(parts.modules)
    for name in ("cupy", "tensorrt", "tensorrt_rtx"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(doctor, "_MODULES", {"numpy": "numpy"})
    monkeypatch.setattr(doctor, "_distributions", lambda: installed)
    monkeypatch.setattr(cuda, "find_gpu", find)
    monkeypatch.setattr(cuda, "cuda_version", lambda: parts.driver[1])
    monkeypatch.setattr(telemetry, "driver_version", lambda: parts.driver[2])
    monkeypatch.setattr(capture, "find_nsys", lambda: "")
    monkeypatch.setattr(doctor, "lab_path", lambda folder: tmp_path / folder)
    monkeypatch.setattr(doctor, "install_command", lambda extra: f"install {extra}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield parts
    for module in parts.modules.glob("*.py"):
        sys.modules.pop(module.stem, None)


def found():
    return {finding.name: finding for finding in examine()}


def module(machine, name, source):
    (machine.modules / f"{name}.py").write_text(source, encoding="utf-8")
    importlib.invalidate_caches()


def test_without_a_gpu_the_lab_runs_on_the_simulated_device(machine):
    assert as_text(examine()).splitlines()[-1] == "The lab can run, on the simulated device."
    assert found()["GPU"].state is State.ABSENT
    assert found()["GPU"].detail.startswith("no NVIDIA GPU: everything runs on the simulated device")
    for name in ("CuPy", "TensorRT", "nsys"):
        assert found()[name] == Finding(name, State.ABSENT, "none; it has no use without a GPU")


@pytest.mark.parametrize(
    ("driver", "gpu", "cupy", "tensorrt"),
    [
        (H200, H200_DETAIL, "install cuda13", "install tensorrt, or for TensorRT-RTX install rtx"),
        (CUDA_12, CUDA_12_DETAIL, "install cuda12", 'python -m pip install "tensorrt-cu12>=10,<12"'),
    ],
)
def test_a_bare_gpu_machine_is_told_what_to_install_for_its_driver(machine, driver, gpu, cupy, tensorrt):
    machine.driver = driver
    by_name = found()
    assert by_name["GPU"] == Finding("GPU", State.OK, gpu)
    assert (by_name["CuPy"].state, by_name["CuPy"].fix) == (State.MISSING, cupy)
    assert (by_name["TensorRT"].state, by_name["TensorRT"].fix) == (State.MISSING, tensorrt)
    assert by_name["nsys"].state is State.MISSING
    assert "install Nsight Systems" in by_name["nsys"].fix


def test_a_machine_with_everything_runs_live(machine):
    machine.driver = H200
    machine.installed |= {"cupy-cuda13x": "14.2.0", "tensorrt-rtx-cu13": "1.4.0.76", "tensorrt-rtx-cu13-libs": "1"}
    module(machine, "cupy", "class cuda:\n    class nvrtc:\n        getVersion = staticmethod(lambda: (13, 0))")
    module(machine, "tensorrt_rtx", "raise SystemError('not imported')")
    assert found()["CuPy"] == Finding("CuPy", State.OK, "cupy-cuda13x 14.2.0")
    assert found()["TensorRT-RTX"] == Finding("TensorRT-RTX", State.OK, "tensorrt-rtx-cu13 1.4.0.76")
    assert "TensorRT" not in found()
    assert as_text(examine()).splitlines()[-1] == "The lab can run, on the GPU and simulated."


def test_a_driver_that_is_too_old_is_broken(machine, monkeypatch):
    machine.driver = CUDA_11
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    gpu = found()["GPU"]
    detail = "Tesla T4, compute capability 7.5, driver of unknown version, CUDA 11.4 (CUDA_VISIBLE_DEVICES=3)"
    assert (gpu.state, gpu.detail) == (State.BROKEN, detail)
    assert "525" in gpu.fix


@pytest.mark.parametrize(
    ("installed", "detail", "fix"),
    [
        (
            ["cupy-cuda12x", "cupy-cuda13x"],
            "cupy-cuda12x 14.2.0 and cupy-cuda13x 14.2.0: they overwrite each other",
            "python -m pip uninstall -y cupy-cuda12x cupy-cuda13x, then install cuda12",
        ),
        (
            ["cupy-cuda13x"],
            "cupy-cuda13x 14.2.0: built for CUDA 13, and the driver offers CUDA 12",
            "python -m pip uninstall -y cupy-cuda13x, then install cuda12",
        ),
        (["cupy-cuda12x"], "cupy-cuda12x 14.2.0: OSError: no nvrtc", "install cuda12"),
    ],
)
def test_a_cupy_that_cannot_be_used_is_broken(machine, installed, detail, fix):
    machine.driver = CUDA_12
    machine.installed |= dict.fromkeys(installed, "14.2.0")
    fails = "class cuda:\n    class nvrtc:\n        def getVersion():\n            raise OSError('no nvrtc')"
    module(machine, "cupy", fails)
    assert found()["CuPy"] == Finding("CuPy", State.BROKEN, detail, fix)


def test_a_tensorrt_for_a_newer_driver_is_broken(machine):
    machine.driver = CUDA_12
    machine.installed |= {"tensorrt": "10.16", "tensorrt-cu13": "10.16"}
    module(machine, "tensorrt", "")
    detail = "tensorrt 10.16, tensorrt-cu13 10.16: built for CUDA 13, and the driver offers CUDA 12"
    fix = 'python -m pip uninstall -y tensorrt tensorrt-cu13, then python -m pip install "tensorrt-cu12>=10,<12"'
    assert found()["TensorRT"] == Finding("TensorRT", State.BROKEN, detail, fix)


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
    monkeypatch.setattr(doctor, "_MODULES", {"needed-headless": "needed"})
    monkeypatch.setattr(doctor, "_CORE", ("needed-headless",))
    if source is not None:
        module(machine, "needed", source)
    findings = examine()
    [finding] = [finding for finding in findings if finding.name == "needed-headless"]
    assert (finding.state, finding.detail, finding.needed) == (state, detail, True)
    assert can_run(findings) is (state is State.OK)
    assert finding.fix.endswith(" needed-headless") is (state is not State.OK)
    assert ("--force-reinstall" in finding.fix) is (state is State.BROKEN)


def test_without_the_notebooks_packages_the_lab_runs_all_but_notebooks(machine):
    del machine.installed["papermill"]
    lines = as_text(examine()).splitlines()
    assert lines[-3:] == [
        "works: record, diagnose, bench, compare, trace show, detect",
        "does not: run (needs papermill), trace capture (needs GPU, nsys), calibrate (needs GPU, CuPy)",
        "The lab can run, on the simulated device.",
    ]
    assert json.loads(as_json(examine()))["lacking"]["run"] == ["papermill"]
    assert any(line.endswith("  > install notebooks") for line in lines)


def test_missing_data_keeps_the_lab_from_running(machine, monkeypatch):
    def nowhere(folder):
        raise SettingsError(f"the lab has no {folder}", fix="check it out anew")

    monkeypatch.setattr(doctor, "lab_path", nowhere)
    for folder in ("data", "notebooks"):
        words = f"the lab has no {folder}", "check it out anew"
        missing = Finding(f"lab {folder}", State.MISSING, *words, needed=folder == "data")
        assert found()[f"lab {folder}"] == missing
    assert not can_run(examine())


def test_a_check_that_raises_becomes_a_finding(machine, monkeypatch):
    def explode():
        raise PermissionError("nsys is not yours")

    monkeypatch.setattr(capture, "find_nsys", explode)
    assert found()["nsys"] == Finding("nsys", State.BROKEN, "PermissionError: nsys is not yours")


def test_json_holds_every_finding(machine):
    findings = examine()
    read = json.loads(as_json(findings))
    assert read["can_run"] is True
    assert [Finding(**entry) for entry in read["findings"]] == findings


@pytest.mark.skipif(sys.platform == "win32", reason="writes a shell script")
def test_nsys_is_asked_for_its_version(machine, tmp_path, monkeypatch):
    program = tmp_path / "nsys"
    program.write_text("#!/bin/sh\necho NVIDIA Nsight Systems version 2025.3.2.474-25323v0\n", encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(capture, "find_nsys", lambda: str(program))
    assert found()["nsys"] == Finding("nsys", State.OK, f"2025.3.2.474 at {program}")
    program.write_text("#!/bin/sh\nexit 3\n", encoding="utf-8")
    assert found()["nsys"].detail.startswith(f"{program} does not run")


def test_nsys_is_found_in_program_files_the_newest_first(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setenv("PROGRAMFILES", str(tmp_path))
    for version in ("2024.1.1", "2025.3.2"):
        folder = tmp_path / "NVIDIA Corporation" / f"Nsight Systems {version}" / "target-windows-x64"
        folder.mkdir(parents=True)
        (folder / "nsys.exe").touch()
    assert "Nsight Systems 2025.3.2" in find_nsys()


def test_the_driver_is_read_from_cuda_and_nvml(monkeypatch):
    def version(number):
        number._obj.value = 12_040

    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(cuDriverGetVersion=version))
    nvml = SimpleNamespace(nvmlInit=int, nvmlShutdown=int, nvmlSystemGetDriverVersion=lambda: "550.54")
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert (cuda.cuda_version(), telemetry.driver_version()) == ((12, 4), "550.54")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert telemetry.driver_version() == ""


def test_a_machine_without_numpy_can_be_examined():
    code = "import sys; sys.modules['numpy'] = None; from yolotrt_lab.cli import main; sys.exit(main(['doctor']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "The lab cannot run; fix first: " in done.stdout
    assert "> python -m pip install numpy\n" in done.stdout


def test_this_machine_can_be_examined():
    findings = found()
    assert findings["Python"].state is State.OK
    assert findings["Python"].detail.startswith(".".join(map(str, sys.version_info[:3])))
    assert findings["system"].detail.endswith(f"{os.cpu_count()} cores")
    assert findings["papermill"].state is State.OK
    assert findings["onnxruntime"].state is State.OK


@pytest.mark.parametrize("driver", [None, H200])
def test_an_onnxruntime_whose_library_does_not_load_is_broken(machine, monkeypatch, driver):
    machine.driver = driver
    monkeypatch.setattr(doctor, "_MODULES", {"onnxruntime": "onnxruntime.capi.onnxruntime_pybind11_state"})
    machine.installed["onnxruntime"] = "1.32.0"
    before = {name: sys.modules.pop(name) for name in [*sys.modules] if name.partition(".")[0] == "onnxruntime"}
    (machine.modules / "onnxruntime" / "capi").mkdir(parents=True)
    module(machine, "onnxruntime/__init__", "")
    ending = importlib.machinery.EXTENSION_SUFFIXES[0]
    module(machine, "onnxruntime/capi/__init__", "")
    (machine.modules / f"onnxruntime/capi/onnxruntime_pybind11_state{ending}").write_bytes(b"half a library")
    assert found()["onnxruntime"].state is State.BROKEN
    monkeypatch.setattr(ctypes, "CDLL", lambda path: None)
    assert found()["onnxruntime"].state is (State.BROKEN if driver else State.OK)
    for name in [name for name in sys.modules if name.partition(".")[0] == "onnxruntime"]:
        del sys.modules[name]
    sys.modules.update(before)
