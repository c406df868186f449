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


def faults(notebook: Any) -> Iterator[str]:
    """What is wrong with a notebook, one line each."""
    cells = notebook.cells
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "its kernel is not python3"
    if not cells or cells[0].cell_type != "markdown" or not cells[0].source.startswith("# "):
        yield "it does not begin with a title"
    code = [(number, cell) for number, cell in enumerate(cells, start=1) if cell.cell_type == "code"]
    if not code or not asserts(code[-1][1].source):
        yield "its last code cell asserts nothing"
    tagged = [(number, cell) for number, cell in code if "parameters" in cell.metadata.get("tags", ())]
    if len(tagged) != 1:
        yield f"{len(tagged)} cells are tagged parameters"
    for number, cell in code:
        if cell.outputs or cell.execution_count is not None or {"execution", "papermill"} & set(cell.metadata):
            yield f"cell {number} is committed as it was run"
        yield from (f"cell {number} {fault}" for fault in code_faults(cell.source, (number, cell) in tagged))


def asserts(source: str) -> bool:
    try:
        return any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(source)))
    except SyntaxError:
        return False


def code_faults(source: str, parameters: bool) -> Iterator[str]:
    try:
        tree = ast.parse(source)
    except SyntaxError:
        yield "is not plain Python"
        return
    if any(isinstance(node, DEFINITIONS) for node in ast.walk(tree)):
        yield "defines something: put it into the package"
    if parameters and not all(map(assigns_literal, tree.body)):
        yield "is tagged parameters and does more than assign literals"


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


@pytest.fixture
def notebook():
    parameters = new_code_cell("# how long\nframes = 400\nscale: float = -1.5\nsizes = (1, 2)")
    parameters.metadata.tags = ["parameters"]
    cells = [new_markdown_cell("# Title\n\nText."), parameters, new_code_cell("x = 1"), new_code_cell("assert x == 1")]
    return new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


def test_a_notebook_in_order_has_no_faults(notebook):
    assert list(faults(notebook)) == []


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("def f():\n    return 1", "cell 3 defines something: put it into the package"),
        ("class A: pass", "cell 3 defines something: put it into the package"),
        ("values = sorted([1], key=lambda x: -x)", "cell 3 defines something: put it into the package"),
        ("%matplotlib inline", "cell 3 is not plain Python"),
    ],
)
def test_code_that_has_no_place_in_a_notebook(notebook, source, fault):
    notebook.cells[2].source = source
    assert list(faults(notebook)) == [fault]


@pytest.mark.parametrize(
    "source", ["frames = 2 * 200", "import numpy", "frames = len('ab')", "frames += 1", "x.y = 1", "frames: int", "f()"]
)
def test_parameters_are_assignments_of_literals(notebook, source):
    notebook.cells[1].source = source
    assert list(faults(notebook)) == ["cell 2 is tagged parameters and does more than assign literals"]


def test_a_notebook_is_committed_clean(notebook):
    notebook.cells[2].outputs = [new_output("stream", text="1")]
    notebook.cells[3].execution_count = 3
    expected = ["cell 3 is committed as it was run", "cell 4 is committed as it was run"]
    assert list(faults(notebook)) == expected


def test_title_assertion_kernel_and_parameters_are_there(notebook):
    notebook.cells[0].source = "Text without a title."
    notebook.cells[3].source = "x  # assert x == 1"
    notebook.metadata.kernelspec.name = "conda-env-mine"
    notebook.cells[1].metadata.tags = []
    assert list(faults(notebook)) == [
        "its kernel is not python3",
        "it does not begin with a title",
        "its last code cell asserts nothing",
        "0 cells are tagged parameters",
    ]


def test_two_parameter_cells_are_one_too_many(notebook):
    notebook.cells[2].metadata.tags = ["parameters"]
    assert list(faults(notebook)) == ["2 cells are tagged parameters"]
