"""The files around the package agree with each other and work from a clean checkout."""

import os
import re
import shutil
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from yolotrt_lab import __version__

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]
CONDA_NAMES = {"matplotlib-base": "matplotlib"}
PYTHONS = ("3.11", "3.12", "3.13")


def bounds(requirements):
    """Name to version bounds; markers and extras aside."""
    parsed = [Requirement(requirement) for requirement in requirements]
    return {canonicalize_name(requirement.name): requirement.specifier for requirement in parsed}


REQUIREMENTS = [
    *PROJECT["dependencies"],
    *(each for name in ("notebooks", "lab", "test", "lint") for each in EXTRAS[name]),
]
WANTED = bounds(REQUIREMENTS)
CONSTRAINTS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


def test_the_version_is_that_of_the_package():
    assert PROJECT["version"] == __version__


def test_conda_gets_the_same_packages_and_bounds():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    entries = environment["dependencies"]
    [pip] = [entry["pip"] for entry in entries if isinstance(entry, dict)]
    assert "-e ." in pip
    given = bounds([entry for entry in [*entries, *pip] if isinstance(entry, str) and entry != "-e ."])
    given = {CONDA_NAMES.get(name, name): specifier for name, specifier in given.items()}
    python = SpecifierSet(PROJECT["requires-python"])
    [cupy] = {specifier for extra in ("cuda12", "cuda13") for specifier in bounds(EXTRAS[extra]).values()}
    assert given == WANTED | {"python": python, "pip": SpecifierSet(), "cupy": cupy}


@pytest.mark.parametrize("system", ["linux", "win32", "darwin"])
@pytest.mark.parametrize("python", PYTHONS)
def test_constraints_pin_every_wanted_package_within_its_bounds(python, system):
    environment = default_environment() | {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": system,
        "os_name": "nt" if system == "win32" else "posix",
    }
    applying = [pin for pin in CONSTRAINTS if not pin.marker or pin.marker.evaluate(environment)]
    pinned = {canonicalize_name(pin.name): pin.specifier for pin in applying}
    assert len(pinned) == len(applying)
    markers = {each: Requirement(each).marker for each in REQUIREMENTS}
    wanted = [each for each, marker in markers.items() if marker is None or marker.evaluate(environment)]
    for name, specifier in bounds(wanted).items():
        [pin] = pinned[name]
        assert pin.version in specifier, name


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt", "environment.yml", "Makefile", ".ci/run"])
def test_no_file_names_a_package_index(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"index-url|find-links|trusted-host", text)
    assert set(re.findall(r"\w+://\S+", text)) <= {f'{url}"' for url in PROJECT["urls"].values()}


def test_the_packages_readme_leads_to_nothing_that_only_a_checkout_has():
    text = (ROOT / PROJECT["readme"]).read_text(encoding="utf-8")
    assert not re.search(r"\]\((?!https://)", text)


def test_every_pin_is_a_version_and_suits_the_oldest_python():
    """Debian 12 has Python 3.11.2; not all that suits a later 3.11 suits it."""
    installed = {canonicalize_name(found.name): found for found in metadata.distributions()}
    for pin in CONSTRAINTS:
        assert (pin.url, [specifier.operator for specifier in pin.specifier]) == (None, ["=="])
        found = installed.get(canonicalize_name(pin.name))
        if found and found.version in pin.specifier:
            assert "3.11.2" in SpecifierSet(found.metadata.get("Requires-Python", "")), pin.name


@pytest.mark.skipif(os.name == "nt", reason="Windows has no executable bit")
def test_ci_run_can_be_executed():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.skipif(not shutil.which("make") or os.name == "nt", reason="needs GNU make")
@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("case $2 in *version_info*) exit 1;; esac; echo Python 3.9.2", "Python 3.11, 3.12 or 3.13 is needed"),
        ("case $2 in *ensurepip*) exit 1;; esac", "apt install python3-venv"),
    ],
)
def test_make_says_what_a_bare_machine_lacks(tmp_path, python, message):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\n{python}\n", encoding="utf-8")
    fake.chmod(0o755)
    made = subprocess.run(["make", "run", f"PYTHON={fake}"], cwd=tmp_path, capture_output=True, text=True)
    assert made.returncode != 0
    assert message in made.stdout
    assert not (tmp_path / ".venv").exists()


def test_the_wheel_carries_data_and_notebooks_where_lab_path_looks():
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["only-include"] == ["yolotrt_lab", "data", "notebooks"]
    assert wheel["sources"] == {"data": "yolotrt_lab/data", "notebooks": "yolotrt_lab/notebooks"}
