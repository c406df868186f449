"""Who may import whom, what `import yolotrt_lab` costs, and that every module says what it is for."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "yolotrt_lab"
LEVELS = {
    0: "errors packages paths types",
    1: "devices frames neighbour nsight recording telemetry vision yolov8",
    2: "copies engines growth kernels memory tables",
    3: "detector diagnosis doctor execute pixels threshold throughput",
    4: "annotate evaluation loops plots report",
    5: "calibration ladder scenarios",
    6: "cli",
    7: "__main__",
}
LEVEL_OF = {name: level for level, names in LEVELS.items() for name in names.split()}
FOR_ALL = set(LEVELS[0].split())
HEAVY = {
    "bokeh",
    "cupy",
    "cv2",
    "faster_coco_eval",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "pandas",
    "polars",
    "pyarrow",
    "scipy",
    "tensorrt",
}


def modules(package: Path = PACKAGE) -> list[Path]:
    return sorted(package.rglob("*.py"))


def unit_of(module: Path, package: Path = PACKAGE) -> str:
    """The top-level module or package that a file belongs to; '' for the package's own __init__."""
    first = module.relative_to(package).parts[0]
    return first.removesuffix(".py").replace("__init__", "")


def imported_units(module: Path, package: Path = PACKAGE) -> Iterator[str]:
    """The units of the package that a file imports, wherever in the file it does so."""
    parents = [package.name, *module.relative_to(package).parent.parts]
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            targets = [[*base, alias.name] for alias in node.names]
        else:
            continue
        for target in targets:
            if target[0] == package.name and len(target) > 1 and not target[1].startswith("__"):
                yield target[1]


def wrong_imports(module: Path, package: Path = PACKAGE) -> list[str]:
    unit = unit_of(module, package)
    if unit and unit not in LEVEL_OF:
        return [f"{unit} is at no level yet: add it to LEVELS, above everything that it imports"]
    wrong = []
    for target in sorted(set(imported_units(module, package)) - FOR_ALL - {unit}):
        if target not in LEVEL_OF:
            wrong.append(f"{target} is at no level yet: add it to LEVELS")
        elif not unit or LEVEL_OF[target] >= LEVEL_OF[unit]:
            wrong.append(f"{unit or '__init__'} imports {target}, which is not at a lower level")
    return wrong


@pytest.mark.parametrize("module", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_from_lower_levels_only(module):
    assert wrong_imports(module) == []


@pytest.mark.parametrize(
    ("path", "source", "wrong"),
    [
        ("growth.py", "from .devices.base import Device", []),
        ("growth.py", "from .errors import LabError\nfrom . import __version__", []),
        ("growth.py", "import numpy\nimport yolotrt_lab.types", []),
        ("engines/base.py", "from ..devices import base\nfrom .cache import load\nfrom . import plan", []),
        ("growth.py", "from .memory import Slot", ["growth imports memory, which is not at a lower level"]),
        ("growth.py", "from . import loops", ["growth imports loops, which is not at a lower level"]),
        ("growth.py", "import yolotrt_lab.cli", ["growth imports cli, which is not at a lower level"]),
        (
            "devices/cuda.py",
            "def f():\n    from ..loops import x",
            ["devices imports loops, which is not at a lower level"],
        ),
        ("__init__.py", "from .growth import x", ["__init__ imports growth, which is not at a lower level"]),
        ("novel.py", "", ["novel is at no level yet: add it to LEVELS, above everything that it imports"]),
    ],
)
def test_the_rule_tells_right_from_wrong(tmp_path, path, source, wrong):
    package = tmp_path / "yolotrt_lab"
    module = package / path
    module.parent.mkdir(parents=True)
    module.write_text(source, encoding="utf-8")
    assert wrong_imports(module, package) == wrong


@pytest.mark.parametrize("module", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_says_what_it_is_for(module):
    assert ast.get_docstring(ast.parse(module.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", ["yolotrt_lab", "yolotrt_lab.cli", "yolotrt_lab.loops", "yolotrt_lab.devices"])
def test_importing_pulls_in_nothing_heavy(name):
    code = f"import {name}, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert HEAVY & set(loaded.stdout.split()) == set()
