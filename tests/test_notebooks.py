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
        if any(isinstance(node, DEFINITIONS) for node in ast.walk(trees[number])):
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


@pytest.fixture
def notebook():
    parameters = new_code_cell("# how long\nframes = 400\nscale: float = -1.5\nsizes = (1, 2)")
    parameters.metadata.tags = ["parameters"]
    cells = [new_markdown_cell("# Title\n\nText."), parameters, new_code_cell("x = 1"), new_code_cell("assert x == 1")]
    return new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


DEFINES = "cell 3 defines something: put it into the package"
NOT_LITERAL = "cell 2 is tagged parameters and does more than assign literals"


@pytest.mark.parametrize(
    ("cell", "source", "fault"),
    [
        (2, "x = 2", None),
        (0, "Text without a title.", "it does not begin with a title"),
        (3, "x  # assert x == 1", "its last code cell asserts nothing"),
        (2, "def f():\n    return 1", DEFINES),
        (2, "class A: pass", DEFINES),
        (2, "values = sorted([1], key=lambda x: -x)", DEFINES),
        (2, "%matplotlib inline", "cell 3 is not plain Python"),
        (1, "frames = 2 * 200", NOT_LITERAL),
        (1, "import numpy", NOT_LITERAL),
        (1, "frames = len('ab')", NOT_LITERAL),
        (1, "frames += 1", NOT_LITERAL),
        (1, "x.y = 1", NOT_LITERAL),
        (1, "frames: int", NOT_LITERAL),
    ],
)
def test_a_cell_out_of_order_is_found(notebook, cell, source, fault):
    notebook.cells[cell].source = source
    assert list(faults(notebook)) == ([fault] if fault else [])


def test_a_notebook_is_committed_clean_with_one_kernel_and_one_cell_of_parameters(notebook):
    notebook.cells[2].outputs = [new_output("stream", text="1")]
    notebook.cells[3].execution_count = 3
    notebook.metadata.kernelspec.name = "conda-env-mine"
    expected = ["its kernel is not python3", "cell 3 is committed as it was run", "cell 4 is committed as it was run"]
    assert list(faults(notebook)) == expected
    notebook.cells[2].metadata.tags = ["parameters"]
    assert "2 cells are tagged parameters" in faults(notebook)
    notebook.cells[1].metadata.tags = notebook.cells[2].metadata.tags = []
    assert "0 cells are tagged parameters" in faults(notebook)
