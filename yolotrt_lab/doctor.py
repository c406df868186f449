"""What this machine has of what the lab can use, what is missing, and the command that installs it.

No check may crash, whatever is broken: one that raises becomes a finding that says so. So even NumPy is imported by the
checks alone.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import ModuleType

from .errors import LabError, NoGpuError
from .packages import install_command, lab_path

_MODULES = {
    "numpy": "numpy",
    "opencv-python-headless": "cv2",
    "onnx": "onnx.onnx_cpp2py_export",
    "onnxruntime": "onnxruntime.capi.onnxruntime_pybind11_state",
    "pyarrow": "pyarrow",
    "matplotlib": "matplotlib._path",
}
"""Packages, and what is imported of each."""
_NOTEBOOKS = ("papermill", "ipykernel", "jinja2", "beautifulsoup4", "markdown-it-py")
_CORE = ("Python", "numpy", "opencv-python-headless", "onnx", "pyarrow", "lab data")
_USES = {
    "record": _CORE,
    "diagnose": _CORE,
    "bench": _CORE,
    "compare": _CORE,
    "trace show": _CORE,
    "detect": (*_CORE, "onnxruntime"),
    "run": (*_CORE, "onnxruntime", "matplotlib", *_NOTEBOOKS, "lab notebooks"),
    "trace capture": ("GPU", "nsys"),
    "calibrate": (*_CORE, "GPU", "CuPy"),
}
"""What each command cannot do without. The lab can run where `record`, `diagnose` and `bench` can."""
_TENSORRT = {"TensorRT": "tensorrt", "TensorRT-RTX": "tensorrt_rtx"}
_NO_USE = "it has no use without a GPU"

Cuda = tuple[int, int] | None  # the newest that the driver offers; None without a GPU
Found = tuple["State", str, str]  # state, detail and fix of a finding
Checks = dict[str, Callable[[], Found | None]]


class State(StrEnum):
    """How a thing was found."""

    OK = "ok"
    ABSENT = "absent"
    """Not there, and nothing to fix: the lab runs without it."""
    MISSING = "missing"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    name: str
    state: State
    detail: str
    """Its version, or what is wrong with it."""
    fix: str = ""
    needed: bool = False
    """True where the lab cannot run without it."""


def examine() -> list[Finding]:
    """Look at everything, first at what the lab cannot run without; raises nothing and changes nothing."""
    cuda, gpu = _gpu()
    installed, extra = _distributions(), install_command("notebooks")

    def version(package: str, without: State, detail: str, fix: str) -> Found:
        return (State.OK, installed[package], "") if package in installed else (without, detail, fix)

    checks: Checks = {
        "Python": _python,
        **{package: partial(_imported, package, module, installed, cuda) for package, module in _MODULES.items()},
        **{each: partial(version, each, State.MISSING, "`run` needs it", extra) for each in _NOTEBOOKS},
        **{f"lab {folder}": partial(_folder, folder) for folder in ("data", "notebooks")},
        "system": lambda: (State.OK, f"{platform.platform()}, {os.cpu_count()} cores", ""),
        "GPU": lambda: gpu,
        "CuPy": partial(_cupy, installed, cuda),
        **{name: partial(_tensorrt, name, installed, cuda) for name in _TENSORRT},
        "nsys": partial(_nsys, cuda),
        "nvtx": partial(version, "nvtx", State.MISSING, "traces show no frames", "python -m pip install nvtx"),
        "jupyterlab": partial(version, "jupyterlab", State.ABSENT, "only `make lab` needs it", install_command("lab")),
    }
    looked = {name: _guarded(check) for name, check in checks.items()}
    return [Finding(name, *found, needed=name in _CORE) for name, found in looked.items() if found]


def _guarded(check: Callable[[], Found | None]) -> Found | None:
    try:
        return check()
    except LabError as error:
        return State.MISSING, error.message, error.fix
    except Exception as error:
        return State.BROKEN, _reason(error), ""


def can_run(findings: Sequence[Finding]) -> bool:
    """True where everything that the lab needs is there; a GPU is not among it.

    >>> can_run([Finding("GPU", State.ABSENT, "no NVIDIA GPU"), Finding("numpy", State.OK, "2.4", needed=True)])
    True
    """
    return all(finding.state is State.OK for finding in findings if finding.needed)


def lacking(findings: Sequence[Finding]) -> dict[str, list[str]]:
    """For each command what it lacks: nothing where it works.

    >>> lacking([Finding("GPU", State.ABSENT, "none"), Finding("nsys", State.OK, "2025.3")])["trace capture"]
    ['GPU']
    """
    bad = {finding.name for finding in findings if finding.state is not State.OK}
    return {command: [name for name in names if name in bad] for command, names in _USES.items()}


def as_text(findings: Sequence[Finding]) -> str:
    """A line for each finding, its fix under it, and the verdict as the last line.

    >>> print(as_text([Finding("numpy", State.MISSING, "none", "python -m pip install numpy", needed=True)]))
    missing  numpy  none
                    > python -m pip install numpy
    <BLANKLINE>
    works: trace capture
    does not: record (needs numpy), ...
    The lab cannot run; fix first: numpy.
    """
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:7}  {finding.name:{width}}  {finding.detail}")
        if finding.fix:
            lines.append(f"{'':7}  {'':{width}}  > {finding.fix}")
    commands = lacking(findings)
    lines += ["", f"works: {', '.join(name for name, lack in commands.items() if not lack) or 'nothing'}"]
    if fails := [f"{name} (needs {', '.join(lack)})" for name, lack in commands.items() if lack]:
        lines.append(f"does not: {', '.join(fails)}")
    broken = ", ".join(each.name for each in findings if each.needed and each.state is not State.OK)
    live = {"GPU", "CuPy"} <= {each.name for each in findings if each.state is State.OK}
    where = "on the GPU and simulated" if live else "on the simulated device"
    verdict = f"The lab cannot run; fix first: {broken}." if broken else f"The lab can run, {where}."
    return "\n".join([*lines, verdict])


def as_json(findings: Sequence[Finding]) -> str:
    """The findings and the verdict as JSON, for scripts.

    >>> json.loads(as_json([Finding("numpy", State.OK, "2.4")]))["can_run"]
    True
    """
    found = [asdict(finding) for finding in findings]
    return json.dumps({"can_run": can_run(findings), "lacking": lacking(findings), "findings": found}, indent=2)


def _reason(error: BaseException) -> str:
    first_line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__


def _distributions() -> dict[str, str]:
    """The version of each installed distribution, by its name: as the folders are called, which is read at once."""
    found: dict[str, str] = {}
    for folder in map(Path, sys.path):
        for each in [*folder.glob("*.dist-info"), *folder.glob("*.egg-info")]:
            name, version, *_ = *each.stem.split("-"), ""
            if any((each / text).is_file() for text in ("METADATA", "PKG-INFO")) or each.is_file():
                found.setdefault(name.lower().replace("_", "-").replace(".", "-"), version)
    return {name: version for name, version in found.items() if version}


def _python() -> Found:
    fits = (3, 11) <= sys.version_info[:2] < (3, 14)
    state, fix = (State.OK, "") if fits else (State.BROKEN, "create an environment with Python 3.11, 3.12 or 3.13")
    return state, f"{platform.python_version()} at {sys.executable}", fix


def _gpu() -> tuple[Cuda, Found]:
    try:
        from . import cuda, telemetry

        gpu, offered, driver = cuda.find_gpu(), cuda.cuda_version(), telemetry.driver_version()
    except NoGpuError as error:
        detail = f"no NVIDIA GPU: everything runs on the simulated device ({error.message})"
        return None, (State.ABSENT, detail, error.fix)
    except Exception as error:
        return None, (State.BROKEN, _reason(error), "check what nvidia-smi says")
    capability, newest = (".".join(map(str, pair)) for pair in (gpu.compute_capability, offered))
    detail = f"{gpu.name}, compute capability {capability}, driver {driver or 'of unknown version'}, CUDA {newest}"
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        detail += f" (CUDA_VISIBLE_DEVICES={visible})"
    if offered < (12, 0):
        return offered, (State.BROKEN, detail, "install driver 525 or newer: CuPy needs CUDA 12")
    return offered, (State.OK, detail, "")


def _imported(package: str, module: str, installed: Mapping[str, str], cuda: Cuda) -> Found:
    """Import a package, or of one that takes long its `module` alone: only that shows whether its libraries load.

    That of ONNX Runtime is loaded and not started where no GPU is there for it.
    """
    name, _, library = module.partition(".")
    try:
        spec = importlib.util.find_spec(name) if library and name not in sys.modules else None
        if spec is not None and package in installed:
            sys.modules[name] = stand_in = ModuleType(name)
            stand_in.__path__ = list(spec.submodule_search_locations or ())
            try:
                where = importlib.util.find_spec(module)
                if name == "onnxruntime" and cuda is None and where and where.origin:
                    ctypes.CDLL(where.origin)
                    return State.OK, installed[package], ""
                loaded, detail = importlib.import_module(module), installed[package]
            finally:
                del sys.modules[name]
        else:
            loaded = importlib.import_module(name)
            detail = str(loaded.__version__)
        if name == "onnxruntime":
            detail += f", {', '.join(loaded.get_available_providers())}"
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == name
        state, option = (State.MISSING, "") if missing else (State.BROKEN, "--force-reinstall --no-deps ")
        return state, _reason(error), f"python -m pip install {option}{package}"
    return State.OK, detail, ""


def _cupy(installed: Mapping[str, str], cuda: Cuda) -> Found:
    found = {name: version for name, version in installed.items() if re.fullmatch(r"cupy(-cuda\d+x)?", name)}
    names = " and ".join(f"{package} {version}" for package, version in found.items())
    if cuda is None:
        return State.ABSENT, f"{names or 'none'}; {_NO_USE}", ""
    install = install_command("cuda13" if cuda >= (13, 0) else "cuda12")
    if not found:
        return State.MISSING, "the GPU cannot be used without it", install
    again = f"python -m pip uninstall -y {' '.join(found)}, then {install}"
    if len(found) > 1:
        return State.BROKEN, f"{names}: they overwrite each other", again
    built_for = re.search(r"(?<=cuda)\d+", names)
    if built_for and int(built_for[0]) > cuda[0]:
        return State.BROKEN, f"{names}: built for CUDA {built_for[0]}, and the driver offers CUDA {cuda[0]}", again
    try:  # its wheels leave out NVRTC, which a CUDA toolkit or the extra brings
        importlib.import_module("cupy").cuda.nvrtc.getVersion()
    except (Exception, SystemExit) as error:
        return State.BROKEN, f"{names}: {_reason(error)}", install
    return State.OK, names, ""


def _tensorrt(name: str, installed: Mapping[str, str], cuda: Cuda) -> Found | None:
    """TensorRT or TensorRT-RTX; one of them is enough, so that only the first is missed where neither is there."""
    install = f"{install_command('tensorrt')}, or for TensorRT-RTX {install_command('rtx')}"
    if cuda and cuda < (13, 0):
        install = 'python -m pip install "tensorrt-cu12>=10,<12"'
    there = [each for each, module in _TENSORRT.items() if importlib.util.find_spec(module)]
    if not there and name == "TensorRT":
        return (State.MISSING, "no engine can run on it", install) if cuda else (State.ABSENT, f"none; {_NO_USE}", "")
    if name not in there:
        return None
    pattern = _TENSORRT[name].replace("_", "-") + r"(-cu\d+)?(-bindings)?"
    found = {each: version for each, version in installed.items() if re.fullmatch(pattern, each)}
    detail = ", ".join(f"{package} {version}" for package, version in found.items()) or "version unknown"
    if cuda and cuda < (13, 0) and "cu13" in detail:
        fix = f"python -m pip uninstall -y {' '.join(found)}, then {install}"
        return State.BROKEN, f"{detail}: built for CUDA 13, and the driver offers CUDA {cuda[0]}", fix
    return State.OK, detail, ""


def _nsys(cuda: Cuda) -> Found:
    from .nsight.capture import Nsys, find_nsys

    if cuda is None and not find_nsys():
        return State.ABSENT, f"none; {_NO_USE}", ""
    nsys = Nsys.open()
    return State.OK, f"{'.'.join(map(str, nsys.version)) or 'version unknown'} at {nsys.path}", ""


def _folder(folder: str) -> Found:
    path = lab_path(folder)
    return State.OK, f"{sum(each.is_file() for each in path.rglob('*'))} files in {path}", ""
