"""The house: what the core loads, and that the import contracts name every file.

Who may import whom is import-linter's to check, and that modules say what they are for is ruff's (`make lint`).
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "yolotrt_lab"
MODULES = sorted(PACKAGE.rglob("*.py"))
WINGS = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - {"plots"}
APP = {"cli", "doctor", "notebooks", "page", "terminal", "__init__", "__main__"}
HEAVY = {
    *("bokeh", "cupy", "cv2", "duckdb", "matplotlib", "onnx", "onnxruntime"),
    *("pandas", "polars", "pyarrow", "rich", "scipy", "tensorrt"),
}


def loaded_by(*modules: str) -> set[str]:
    """The modules in memory after importing those alone."""
    code = f"import {', '.join(modules)}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    return set(done.stdout.split())


def test_importing_pulls_in_nothing_heavy():
    modules = [f"yolotrt_lab.{name}" for name in ("cli", "loop", "cuda", "nsight", "plots", "simulate")]
    assert HEAVY & loaded_by(*modules) == set()


def test_the_help_of_the_command_loads_argparse_and_little_else():
    code = "import sys, contextlib; there = {*sys.modules}; from yolotrt_lab.cli import main\n"
    code += "with contextlib.suppress(SystemExit): main(['--help'])\nprint('\\n', *{*sys.modules} - there)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    loaded = {name for name in done.stdout.splitlines()[-1].split() if not name.startswith("_")}
    lab = {"yolotrt_lab", *(f"yolotrt_lab.{name}" for name in ("cli", "errors", "terminal"))}
    allowed = {"argparse", "collections.abc", "copyreg", "enum", "errno", "gettext", "itertools", "locale"}
    allowed |= {"re", "re._casefix", "re._compiler", "re._constants", "re._parser", "textwrap", "time"}
    assert lab <= loaded <= lab | allowed | {"warnings"}
    alone = {name for name in loaded_by("yolotrt_lab") - loaded_by("sys") if not name.startswith("_")}
    assert alone == {"yolotrt_lab"}


def test_the_loop_loads_little_of_the_core_and_no_wing():
    loaded = {name.removeprefix("yolotrt_lab.") for name in loaded_by("yolotrt_lab.loop") if name.startswith("yolotrt")}
    assert len(loaded) <= 20
    assert not {name.partition(".")[0] for name in loaded} & WINGS


def test_the_contract_of_the_core_names_each_of_its_files_and_every_wing():
    config = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    core = config["tool"]["importlinter"]["contracts"][0]
    named = {name.removeprefix("yolotrt_lab.") for name in core["source_modules"]}
    assert named == {path.stem for path in PACKAGE.glob("*.py")} - APP | {"plots"}
    forbidden = {name.removeprefix("yolotrt_lab.") for name in core["forbidden_modules"]}
    assert forbidden == WINGS | APP - {"__init__", "__main__"}


def test_no_two_modules_have_one_name():
    counts = Counter(path.stem for path in MODULES if path.stem != "__init__")
    assert [name for name, count in counts.items() if count > 1] == []
