"""Heavy packages, imported at first use: a missing one is an error that says what to install."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .errors import MissingPackageError

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
