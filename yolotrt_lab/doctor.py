"""What this machine has of what the lab can use, what is missing, and the command that installs it.

Nothing here may crash, whatever is broken: a check that raises becomes a finding that says so.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from importlib import metadata

from .errors import LabError, NoGpuError
from .nsight.capture import find_nsys
from .packages import install_command, lab_path

_NEEDED_MODULES = {"cv2": "opencv-python-headless"} | {
    name: name for name in ("numpy", "scipy", "onnx", "onnxruntime", "pyarrow", "matplotlib")
}
_FOR_NOTEBOOKS = ("papermill", "ipykernel", "nbconvert")
_CUPY = {"cupy-cuda11x": 11, "cupy-cuda12x": 12, "cupy-cuda13x": 13, "cupy": 0}
_TENSORRT = {
    "TensorRT": ("tensorrt", ("tensorrt", "tensorrt-cu13", "tensorrt-cu12")),
    "TensorRT-RTX": (
        "tensorrt_rtx",
        ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12", "tensorrt-rtx", "tensorrt-rtx-cu13-bindings"),
    ),
}


class State(StrEnum):
    """How a thing was found; `absent` is nothing to mend, because the lab runs without it."""

    OK = "ok"
    ABSENT = "absent"
    MISSING = "missing"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: its version, or what is wrong with it and what mends that."""

    name: str
    state: State
    detail: str
    fix: str = ""
    needed: bool = False
    """True where the lab can't run without it."""


@dataclass(frozen=True, slots=True)
class Driver:
    """A working NVIDIA driver: its version ('' where NVML does not tell), the CUDA version it offers, and the GPU."""

    version: str
    cuda: tuple[int, int]
    gpu: str
    compute_capability: tuple[int, int]

    @property
    def extra(self) -> str:
        """The extra of this package that brings a CuPy for this driver."""
        return "cuda13" if self.cuda >= (13, 0) else "cuda12"


def find_driver() -> Driver:
    """The driver and the GPU that CUDA takes; NoGpuError where there is none."""
    from .cuda import cuda_version, driver_version, find_gpu

    gpu = find_gpu()
    return Driver(driver_version(), cuda_version(), gpu.name, gpu.compute_capability)


def examine() -> list[Finding]:
    """Look at everything, in the order in which it is printed; raises nothing and changes nothing."""
    driver, gpu = _gpu()
    checks: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("Python", _python),
        ("GPU", lambda: gpu),
        *((package, partial(_module, module, package)) for module, package in _NEEDED_MODULES.items()),
        *((package, partial(_notebook_package, package)) for package in _FOR_NOTEBOOKS),
        ("jupyterlab", _jupyterlab),
        ("CuPy", lambda: _cupy(driver)),
        ("TensorRT", lambda: _tensorrt(driver)),
        ("nvtx", _nvtx),
        ("nsys", lambda: _nsys(driver)),
        *((f"lab {folder}", partial(_folder, folder)) for folder in ("data", "notebooks")),
    ]
    return [finding for name, check in checks for finding in _guarded(name, check)]


def can_run(findings: Sequence[Finding]) -> bool:
    """True where everything that the lab needs is there; a GPU is not among it."""
    return all(finding.state is State.OK for finding in findings if finding.needed)


def as_text(findings: Sequence[Finding]) -> str:
    """A line for each finding, its fix under it, and the verdict as the last line."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:7}  {finding.name:{width}}  {finding.detail}")
        if finding.fix:
            lines.append(f"{'':7}  {'':{width}}  > {finding.fix}")
    return "\n".join([*lines, "", _verdict(findings)])


def as_json(findings: Sequence[Finding]) -> str:
    """The findings and the verdict as JSON, for scripts."""
    return json.dumps({"can_run": can_run(findings), "findings": [asdict(finding) for finding in findings]}, indent=2)


def _verdict(findings: Sequence[Finding]) -> str:
    if not can_run(findings):
        lacking = [finding.name for finding in findings if finding.needed and finding.state is not State.OK]
        return f"The lab cannot run; mend first: {', '.join(lacking)}."
    states = {finding.name: finding.state for finding in findings}
    live = states.get("GPU") is State.OK and states.get("CuPy") is State.OK
    return f"The lab can run, {'on the GPU and simulated' if live else 'on the simulated device'}."


def _guarded(name: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:
        yield Finding(name, State.BROKEN, _reason(error))


def _reason(error: BaseException) -> str:
    first_line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__


def _version(package: str) -> str:
    """The version of an installed distribution; '' where there is none, or one without readable metadata."""
    try:
        return metadata.version(package) or ""
    except Exception:
        return ""


def _python() -> Iterator[Finding]:
    fits = (3, 11) <= sys.version_info[:2] < (3, 14)
    state, fix = (State.OK, "") if fits else (State.BROKEN, "make an environment with Python 3.11, 3.12 or 3.13")
    yield Finding("Python", state, f"{platform.python_version()} at {sys.executable}", fix, needed=True)
    yield Finding("system", State.OK, f"{platform.platform()}, {os.cpu_count()} cores")


def _gpu() -> tuple[Driver | None, list[Finding]]:
    try:
        driver = find_driver()
    except NoGpuError as error:
        detail = f"no NVIDIA GPU: everything runs on the simulated device ({error.message})"
        return None, [Finding("GPU", State.ABSENT, detail, error.fix)]
    except Exception as error:
        return None, [Finding("GPU", State.BROKEN, _reason(error), "check what nvidia-smi says")]
    capability = ".".join(map(str, driver.compute_capability))
    version = f"{driver.version or 'version unknown'}, CUDA {driver.cuda[0]}.{driver.cuda[1]}"
    old = driver.cuda < (12, 0)
    state, fix = (State.BROKEN, "install driver 525 or newer: CuPy needs CUDA 12") if old else (State.OK, "")
    return driver, [
        Finding("GPU", State.OK, f"{driver.gpu}, compute capability {capability}{_visible_devices()}"),
        Finding("NVIDIA driver", state, version, fix),
    ]


def _visible_devices() -> str:
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if chosen is None else f" (CUDA_VISIBLE_DEVICES={chosen})"


def _module(module: str, package: str) -> Iterator[Finding]:
    """Import a package that the lab needs: only that shows whether its libraries load."""
    try:
        loaded = importlib.import_module(module)
        detail = str(loaded.__version__)
        if module == "onnxruntime":
            detail += f", {', '.join(loaded.get_available_providers())}"
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == module
        state, option = (State.MISSING, "") if missing else (State.BROKEN, "--force-reinstall --no-deps ")
        yield Finding(package, state, _reason(error), f"python -m pip install {option}{package}", needed=True)
    else:
        yield Finding(package, State.OK, detail, needed=True)


def _notebook_package(package: str) -> Iterator[Finding]:
    if version := _version(package):
        yield Finding(package, State.OK, version, needed=True)
    else:
        yield Finding(package, State.MISSING, "notebooks need it", install_command("notebooks"), needed=True)


def _jupyterlab() -> Iterator[Finding]:
    if version := _version("jupyterlab"):
        yield Finding("jupyterlab", State.OK, version)
    else:
        detail = "only `make lab` needs it; `yolotrt-lab run` does not"
        yield Finding("jupyterlab", State.ABSENT, detail, install_command("notebooks"))


def _cupy(driver: Driver | None) -> Iterator[Finding]:
    found = {package: version for package in _CUPY if (version := _version(package))}
    names = " and ".join(f"{package} {version}" for package, version in found.items())
    if not driver:
        yield Finding("CuPy", State.ABSENT, f"{names or 'none'}; it has no use without a GPU")
    elif not found:
        yield Finding("CuPy", State.MISSING, "the GPU can't be used without it", install_command(driver.extra))
    elif failure := _cupy_conflict(found, driver):
        fix = f"python -m pip uninstall -y {' '.join(found)}, then {install_command(driver.extra)}"
        yield Finding("CuPy", State.BROKEN, f"{names}: {failure}", fix)
    elif failure := _cupy_failure():
        yield Finding("CuPy", State.BROKEN, f"{names}: {failure}", install_command(driver.extra))
    else:
        yield Finding("CuPy", State.OK, names)


def _cupy_conflict(found: Iterable[str], driver: Driver) -> str:
    package, *others = found
    if others:
        return "they overwrite each other"
    if _CUPY[package] > driver.cuda[0]:
        return f"made for CUDA {_CUPY[package]}, and the driver offers CUDA {driver.cuda[0]}"
    return ""


def _cupy_failure() -> str:
    """Why CuPy can't compile a kernel; its wheels leave out NVRTC, which a CUDA toolkit or the extra brings."""
    try:
        importlib.import_module("cupy").cuda.nvrtc.getVersion()
    except (Exception, SystemExit) as error:
        return _reason(error)
    return ""


def _tensorrt(driver: Driver | None) -> Iterator[Finding]:
    found = {name: packages for name, (module, packages) in _TENSORRT.items() if importlib.util.find_spec(module)}
    for name, packages in found.items():
        versions = {package: version for package in packages if (version := _version(package))}
        detail = ", ".join(f"{package} {version}" for package, version in versions.items()) or "version unknown"
        if driver and driver.cuda < (13, 0) and any("cu13" in package for package in versions):
            detail += f": made for CUDA 13, and the driver offers CUDA {driver.cuda[0]}"
            fix = f"python -m pip uninstall -y {' '.join(versions)}, then {_tensorrt_command(driver)}"
            yield Finding(name, State.BROKEN, detail, fix)
        else:
            yield Finding(name, State.OK, detail)
    if not found and driver:
        yield Finding("TensorRT", State.MISSING, "engines can't run on TensorRT", _tensorrt_command(driver))
    elif not found:
        yield Finding("TensorRT", State.ABSENT, "none; it has no use without a GPU")


def _tensorrt_command(driver: Driver) -> str:
    if driver.cuda < (13, 0):
        return 'python -m pip install "tensorrt-cu12>=10,<12"'
    return f"{install_command('tensorrt')}, or for TensorRT-RTX {install_command('rtx')}"


def _nvtx() -> Iterator[Finding]:
    if version := _version("nvtx"):
        yield Finding("nvtx", State.OK, version)
    else:
        yield Finding("nvtx", State.MISSING, "traces will show no frames", "python -m pip install nvtx")


def _nsys(driver: Driver | None) -> Iterator[Finding]:
    program = find_nsys()
    if not program and not driver:
        yield Finding("nsys", State.ABSENT, "none; it has no use without a GPU")
    elif not program:
        fix = "install Nsight Systems (the CUDA Toolkit brings it too), and put the folder of nsys on the PATH"
        yield Finding("nsys", State.MISSING, "no trace can be taken here", fix)
    else:
        output = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
        version = re.search(r"\d+(\.\d+)+", output)
        yield Finding("nsys", State.OK, f"{version[0] if version else output.strip()} at {program}")


def _folder(folder: str) -> Iterator[Finding]:
    try:
        count = sum(path.is_file() for path in lab_path(folder).rglob("*"))
        state, detail = (State.OK if count else State.MISSING), f"{count} files in {lab_path(folder)}"
    except LabError as error:
        state, detail = State.MISSING, error.message
    fix = "" if state is State.OK else "install the lab again, or check it out anew"
    yield Finding(f"lab {folder}", state, detail, fix, needed=True)
