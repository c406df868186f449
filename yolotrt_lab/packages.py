"""Heavy packages, imported at first use: a missing one is an error that says what to install."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from .errors import LabError, MissingPackageError, SettingsError

_INSTALL = {"cv2": "opencv-python-headless"}


def load(module: str, *, needed_for: str, install: str = "") -> Any:
    """The module of that name; MissingPackageError where it, or something it needs, is not installed.

    `install` is the command that mends it; without it, `pip install` of the package.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        package = _INSTALL.get(package, package)
        fix = install or f"python -m pip install {package}"
        raise MissingPackageError(package, needed_for=needed_for, install=fix) from error


def import_cv2() -> Any:
    """OpenCV, which most of what touches an image needs."""
    return load("cv2", needed_for="images and videos")


# Where the lab's own files lie: `data/` and `notebooks/`, in a checkout and in an installed wheel.


_PACKAGE = Path(__file__).resolve().parent


def lab_path(*parts: str) -> Path:
    """A file or folder of the lab, such as `lab_path("data", "presets")`; SettingsError where it does not exist.

    An installed wheel carries `data/` and `notebooks/` inside the package, a checkout beside it.
    """
    for root in (_PACKAGE, _PACKAGE.parent):
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise SettingsError(
        f"the lab has no {'/'.join(parts)}", fix="run inside a checkout of the lab, or name a file that exists"
    )


def shipped_file(kind: str, file: str, error: type[LabError] = SettingsError) -> Path:
    """`data/<kind>/<gpu>/<file>`, whichever GPU it is of; an `error` that names those there are where it isn't one."""
    folder = lab_path("data", kind)
    found = sorted(folder.glob(f"*/{file}"))
    if not found:
        names = sorted({path.stem for path in folder.glob(f"*/*{Path(file).suffix}")})
        raise error(f"no {file} ships with the lab", fix=f"use one of {', '.join(names)}")
    return found[0]


def shipped_model() -> Path:
    """The ONNX file of the detector that comes with the lab: a YOLOv8n for the parts of the synthetic scene.

    Its class names are those of `SyntheticScene`, and stand in its metadata too. SettingsError where it is missing.
    """
    try:
        return lab_path("data", "models", "lab-yolov8n.onnx")
    except SettingsError as error:
        fix = "name a YOLOv8 detector of your own, an ONNX file, or run inside a checkout of the lab that has it"
        raise SettingsError(error.message, fix=fix) from None


def install_command(extra: str) -> str:
    """The pip command that adds one of the lab's extras, such as "cuda13", to this Python."""
    if (_PACKAGE.parent / "pyproject.toml").is_file():
        return f'python -m pip install -e ".[{extra}]"'
    return f'python -m pip install "yolotrt-lab[{extra}]"'
