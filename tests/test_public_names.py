"""The names that `yolotrt_lab` offers."""

from __future__ import annotations

from importlib import import_module

import pytest

import yolotrt_lab as lab


@pytest.mark.parametrize("name", lab.__all__)
def test_every_public_name_is_that_of_its_home(name):
    value = getattr(lab, name)
    home = lab._HOMES.get(name)
    if home is not None:
        assert value is getattr(import_module(f"yolotrt_lab.{home}"), name)
        assert value.__name__ == name
        assert value.__doc__


def test_public_names_are_listed_once_and_sorted():
    assert len(set(lab.__all__)) == len(lab.__all__)
    assert list(lab._HOMES) == sorted(lab._HOMES)


def test_dir_and_star_import_give_the_public_names():
    assert dir(lab) == sorted(lab.__all__)
    names = {}
    exec("from yolotrt_lab import *", names)
    assert set(lab.__all__) <= set(names)


@pytest.mark.parametrize("name", ["run_lopp", "loops_", "__path_of_nothing__"])
def test_name_that_is_none_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=f"module 'yolotrt_lab' has no attribute '{name}'"):
        getattr(lab, name)
    with pytest.raises(ImportError, match=name):
        exec(f"from yolotrt_lab import {name}")


def test_example_at_the_top_of_the_package_runs(monkeypatch, capsys):
    simulated = lab.open_device("simulated")
    monkeypatch.setattr(lab, "open_device", lambda: simulated, raising=False)
    _, example = lab.__doc__.split("\n\n", 1)
    assert "import yolotrt_lab as lab" in example
    exec(example, {})
    assert capsys.readouterr().out.startswith("Slope(value=")
