"""Loading packages at first use, and what a missing one says."""

from __future__ import annotations

import math
import sys

import pytest

from yolotrt_lab.errors import MissingPackageError
from yolotrt_lab.packages import import_cv2, load


def test_module_that_is_there_is_loaded():
    assert load("math", needed_for="sums") is math
    assert load("os.path", needed_for="paths").sep


def test_missing_module_says_what_for_and_how_to_install_it():
    with pytest.raises(MissingPackageError, match=r"no_such_package is not installed.*for nothing") as caught:
        load("no_such_package.part", needed_for="nothing")
    assert caught.value.fix == "python -m pip install no_such_package"
    assert isinstance(caught.value, ImportError)


def test_install_command_can_be_given():
    with pytest.raises(MissingPackageError) as caught:
        load("no_such_package", needed_for="nothing", install="apt install it")
    assert caught.value.fix == "apt install it"


def test_opencv_is_installed_under_another_name_than_it_is_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingPackageError, match="opencv-python-headless is not installed"):
        import_cv2()
