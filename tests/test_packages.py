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


@pytest.mark.parametrize(
    ("options", "fix"),
    [({}, "python -m pip install no_such_package"), ({"install": "apt install it"}, "apt install it")],
)
def test_missing_module_says_what_for_and_how_to_install_it(options, fix):
    with pytest.raises(MissingPackageError, match=r"no_such_package is not installed.*for nothing") as caught:
        load("no_such_package.part", needed_for="nothing", **options)
    assert caught.value.fix == fix
    assert isinstance(caught.value, ImportError)


def test_opencv_is_installed_under_another_name_than_it_is_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingPackageError, match="opencv-python-headless is not installed"):
        import_cv2()
