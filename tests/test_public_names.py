"""The names that `yolotrt_lab` and its wings offer."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

import yolotrt_lab as lab

PACKAGE = Path(lab.__file__).parent
FACES = ["yolotrt_lab", *sorted(f"yolotrt_lab.{path.parent.name}" for path in PACKAGE.glob("*/__init__.pyi"))]


@pytest.mark.parametrize("face", FACES)
def test_every_public_name_loads_and_says_what_it_is(face):
    module = import_module(face)
    assert dir(module) == sorted(module.__all__)
    for name in module.__all__:
        value = getattr(module, name)
        assert value.__doc__, name


@pytest.mark.parametrize("name", ["run_lopp", "loops_", "__path_of_nothing__"])
def test_name_that_there_is_not_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=f"No yolotrt_lab attribute {name}"):
        getattr(lab, name)
    with pytest.raises(ImportError, match=name):
        exec(f"from yolotrt_lab import {name}")


def test_star_import_gives_the_public_names():
    names = {}
    exec("from yolotrt_lab import *", names)
    assert set(lab.__all__) <= set(names)
