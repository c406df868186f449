"""Notebooks of a few cells, for the tests that run some."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook


def write(path: Path, *sources: str, parameters: str | None = None) -> Path:
    """Write a notebook with a title, the cell of parameters if there is one, and cells of code; return its path."""
    cells = [new_markdown_cell("# Title")]
    if parameters is not None:
        cells.append(new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    cells += [new_code_cell(source) for source in sources]
    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernelspec}), path)
    return path
