"""The notebooks as they are committed: what papermill, the report and a reader rely on. `make run` runs them."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)

LINES = 25
"""A raw cell fits on a screen, and so does a definition in an exercise."""


def faults(notebook: Any) -> Iterator[str]:
    """What is wrong with a notebook, one line each."""
    cells = notebook.cells
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "its kernel is not python3"
    if not cells or cells[0].cell_type != "markdown" or not cells[0].source.startswith("# "):
        yield "it does not begin with a title"
    code = [(number, cell) for number, cell in enumerate(cells, start=1) if cell.cell_type == "code"]
    trees = {number: parsed(cell.source) for number, cell in code}
    if not any(isinstance(node, ast.Assert) for number in list(trees)[-1:] for node in ast.walk(trees[number])):
        yield "its last code cell asserts nothing"
    tagged = [number for number, cell in code if "parameters" in cell.metadata.get("tags", ())]
    if len(tagged) != 1:
        yield f"{len(tagged)} cells are tagged parameters"
    for number, cell in code:
        if cell.outputs or cell.execution_count is not None or {"execution", "papermill"} & set(cell.metadata):
            yield f"cell {number} is committed as it was run"
        if not trees[number].body:
            yield f"cell {number} is not plain Python"
        if "raw" in cell.metadata.get("tags", ()):  # code to be read, in CUDA's own names
            if (lines := len(cell.source.splitlines())) > LINES:
                yield f"cell {number} is raw and has {lines} lines, more than {LINES}"
        elif "exercise" in cell.metadata.get("tags", ()):
            for node in trees[number].body:
                if isinstance(node, ast.FunctionDef) and (lines := len(ast.unparse(node).splitlines())) > LINES:
                    yield f"cell {number} has a function of {lines} lines, more than {LINES}"
        elif any(isinstance(node, DEFINITIONS) for node in ast.walk(trees[number])):
            yield f"cell {number} defines something: put it into the package"
        if number in tagged and not all(map(assigns_literal, trees[number].body)):
            yield f"cell {number} is tagged parameters and does more than assign literals"


def parsed(source: str) -> ast.Module:
    """The cell's code; none where it is not Python."""
    try:
        return ast.parse(source)
    except SyntaxError:
        return ast.Module([], [])


def assigns_literal(node: ast.stmt) -> bool:
    if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
        return False
    try:
        ast.literal_eval(node.value)
    except ValueError:
        return False
    return all(isinstance(target, ast.Name) for target in getattr(node, "targets", [getattr(node, "target", None)]))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_is_in_order(path):
    assert list(faults(nbformat.read(path, as_version=4))) == []


def test_each_fault_is_found():
    parameters = new_code_cell("frames = 2 * 200", metadata={"tags": ["parameters"]})
    more = new_code_cell("class A: pass", metadata={"tags": ["parameters"]}, outputs=[new_output("stream", text="1")])
    magic = new_code_cell("%matplotlib inline", execution_count=3)
    raw = new_code_cell("def f():\n" + "    pass\n" * 25, metadata={"tags": ["raw"]})
    exercise = new_code_cell(raw.source, metadata={"tags": ["exercise"]})
    cells = [new_markdown_cell("Text."), parameters, more, raw, exercise, magic]
    kernel = {"name": "conda-env-mine", "display_name": "Python 3"}
    assert list(faults(new_notebook(cells=cells, metadata={"kernelspec": kernel}))) == [
        "its kernel is not python3",
        "it does not begin with a title",
        "its last code cell asserts nothing",
        "2 cells are tagged parameters",
        "cell 2 is tagged parameters and does more than assign literals",
        "cell 3 is committed as it was run",
        "cell 3 defines something: put it into the package",
        "cell 3 is tagged parameters and does more than assign literals",
        "cell 4 is raw and has 26 lines, more than 25",
        "cell 5 has a function of 26 lines, more than 25",
        "cell 6 is committed as it was run",
        "cell 6 is not plain Python",
    ]


@pytest.mark.parametrize(
    ("source", "literal"),
    [
        ("frames = 400", True),
        ("scale: float = -1.5", True),
        ("sizes = (1, 2)", True),
        ("import numpy", False),
        ("frames = len('ab')", False),
        ("frames += 1", False),
        ("x.y = 1", False),
        ("frames: int", False),
    ],
)
def test_a_parameter_is_a_name_assigned_a_literal(source, literal):
    assert assigns_literal(ast.parse(source).body[0]) is literal
