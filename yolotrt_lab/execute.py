"""Run notebooks from top to bottom, with parameters, in this very interpreter.

papermill does the running. This module decides what it is given: which notebooks, which parameters for which of them,
and a kernel that is `sys.executable` whatever the machine knows under the name python3.
"""

from __future__ import annotations

import ast
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import MissingPackageError, SettingsError
from .paths import install_command, lab_path

_KERNEL_ENVIRONMENT = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "PYTHONWARNINGS": "",
}
_ADDED_CELLS = {"injected-parameters", "papermill-error-cell-tag"}


@dataclass(frozen=True, slots=True)
class Failure:
    """Where and why a notebook stopped: `cell` counts the cells of the notebook as written, from 1.

    0 means that it stopped before its first cell. `line` is the cell's first line.
    """

    cell: int
    line: str
    error: str

    def __str__(self) -> str:
        where = f"cell {self.cell}: {self.line}" if self.cell else "before its first cell"
        return f"{where}\n{self.error}"


@dataclass(frozen=True, slots=True)
class Run:
    """One notebook that was run: its executed copy, the seconds it took, and its failure if it has one."""

    notebook: Path
    output: Path
    seconds: float
    failure: Failure | None = None

    @property
    def name(self) -> str:
        """The notebook's file name without its ending."""
        return self.notebook.stem


def find_notebooks(names: Sequence[str] = ()) -> list[Path]:
    """The notebooks meant by paths or by names of the lab's own; without names, all of the lab's in name order.

    SettingsError for a name that is neither, for two notebooks of one name, and where there is no notebook at all.
    """
    own = sorted(lab_path("notebooks").glob("*.ipynb"))
    found = [_find(name, own) for name in names] or own
    if not found:
        raise SettingsError("the lab has no notebooks", fix="name the notebooks to run")
    stems = [path.stem for path in found]
    if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise SettingsError(f"more than one notebook is called {twice[0]}", fix="run them one after the other")
    return found


def _find(name: str, own: Sequence[Path]) -> Path:
    for path in (Path(name), *(path for path in own if name in (path.name, path.stem))):
        if path.is_file():
            return path
    raise SettingsError(
        f"there is no notebook {name}", fix=f"name a file, or one of {', '.join(path.stem for path in own)}"
    )


def declared_parameters(notebook: Path) -> dict[str, Any]:
    """Names and defaults in the notebook's cell tagged `parameters`; a default that is no literal reads as None.

    SettingsError where the file is not a notebook, or that cell is not Python.
    """
    for cell in _read(notebook).cells:
        if "parameters" in cell.metadata.get("tags", ()):
            try:
                return dict(_assignments(ast.parse(cell.source)))
            except SyntaxError as error:
                raise SettingsError(
                    f"{notebook.name}: the cell tagged parameters is not plain Python: {error}",
                    fix="keep nothing but assignments in that cell",
                ) from error
    return {}


def _assignments(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    yield target.id, _literal(ast.unparse(node.value), otherwise=None)


def _literal(text: str, otherwise: Any) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return otherwise


def chosen_parameters(
    notebooks: Sequence[Path], given: Mapping[str, str], device: str | None = None
) -> list[dict[str, Any]]:
    """What each notebook is to be run with: the values given for names that it declares, in its defaults' types.

    `given` holds text, as typed on a command line; `device` counts as given to every notebook that declares `device`.
    SettingsError for a name that no notebook declares, and for a text that does not read as its default's type.
    """
    declared = [declared_parameters(notebook) for notebook in notebooks]
    known = sorted(set().union(*declared))
    for name in given:
        if name not in known:
            raise SettingsError(f"no notebook has a parameter {name}", fix=f"use one of: {', '.join(known) or 'none'}")
    if device is not None:
        given = {"device": device, **given}
    return [
        {name: _converted(notebook, name, text, defaults[name]) for name, text in given.items() if name in defaults}
        for notebook, defaults in zip(notebooks, declared, strict=True)
    ]


def _converted(notebook: Path, name: str, text: str, default: Any) -> Any:
    try:
        return _value(text, default)
    except (KeyError, ValueError):
        wanted = type(default).__name__
        raise SettingsError(
            f"{notebook.name}: {name} is to be of type {wanted}, and {text!r} is not",
            fix=f"pass a value like its default, {default!r}",
        ) from None


def _value(text: str, default: Any) -> Any:
    match default:
        case bool():
            return {"true": True, "false": False}[text.lower()]
        case int() | float() | str():
            return type(default)(text)
        case None:
            return _literal(text, otherwise=text)
    value = _literal(text, otherwise=text)
    if type(value) is not type(default):
        raise ValueError
    return value


def run_notebooks(
    notebooks: Sequence[Path], parameters: Sequence[Mapping[str, Any]], folder: Path, *, progress: bool = False
) -> Iterator[Run]:
    """Run the notebooks one after the other and save their executed copies in `folder`; a failure stops only its own.

    `parameters` holds one mapping a notebook, as `chosen_parameters` makes them. With `progress` a bar on standard
    error counts the cells. MissingPackageError where papermill or ipykernel is not installed; SettingsError where a
    copy would overwrite its notebook.
    """
    for notebook in notebooks:
        if notebook.resolve() == (folder / notebook.name).resolve():
            raise SettingsError(f"{notebook} would be overwritten by its executed copy", fix="choose another --out")
    manager = _kernel_manager()
    folder.mkdir(parents=True, exist_ok=True)
    for notebook, values in zip(notebooks, parameters, strict=True):
        output = folder / notebook.name
        start = time.perf_counter()
        error = _run(notebook, output, values, manager, progress)
        failure = None if error is None else _failure(output, error)
        yield Run(notebook, output, time.perf_counter() - start, failure)


def _run(notebook: Path, output: Path, values: Mapping[str, Any], manager: type, progress: bool) -> Exception | None:
    import papermill

    output.unlink(missing_ok=True)
    try:
        papermill.execute_notebook(
            notebook,
            output,
            parameters=dict(values),
            kernel_name="python3",
            language="python",
            progress_bar={"desc": notebook.stem, "leave": False} if progress else False,
            kernel_manager_class=manager,
        )
    except Exception as error:  # a cell that fails, a kernel that dies or never starts: all are the notebook's failure
        return error
    return None


def _kernel_manager() -> type:
    """A kernel manager for this interpreter; a `python3` that is registered for another one has no say."""
    try:
        import papermill  # noqa: F401
        from ipykernel.kernelspec import get_kernel_dict
        from jupyter_client.kernelspec import KernelSpec
        from jupyter_client.manager import AsyncKernelManager
    except ImportError as error:
        raise MissingPackageError(
            error.name or "papermill", needed_for="running notebooks", install=install_command("notebooks")
        ) from error

    class LabKernelManager(AsyncKernelManager):
        kernel_spec = KernelSpec(**get_kernel_dict(["--log-level=CRITICAL"]), env=_KERNEL_ENVIRONMENT)
        transport_encryption = "auto"  # unencrypted, ipykernel warns about it in the first cell's output

    return LabKernelManager


def _failure(output: Path, error: Exception) -> Failure:
    """The cell at which the executed copy stops: the one with an error, else the last that was started."""
    number, stopped = 0, Failure(0, "", _last_lines(f"{type(error).__name__}: {error}"))
    if not output.exists():
        return stopped
    for cell in _read(output).cells:
        number += not _ADDED_CELLS & set(cell.metadata.get("tags", ()))
        errors = [o for o in cell.get("outputs", ()) if o.output_type == "error"]
        if errors:
            return Failure(number, _first_line(cell), _last_lines(f"{errors[-1].ename}: {errors[-1].evalue}"))
        if cell.cell_type == "code" and cell.metadata.get("papermill", {}).get("start_time"):
            stopped = Failure(number, _first_line(cell), stopped.error)
    return stopped


def _first_line(cell: Any) -> str:
    return cell.source.strip().partition("\n")[0]


def _last_lines(text: str, count: int = 8) -> str:
    return "\n".join(text.strip().splitlines()[-count:])


def _read(notebook: Path) -> Any:
    try:
        import nbformat
    except ImportError as error:
        raise MissingPackageError(
            "nbformat", needed_for="reading notebooks", install=install_command("notebooks")
        ) from error
    try:
        return nbformat.read(notebook, as_version=4)
    except Exception as error:  # nbformat lets errors of json, jsonschema and its own through
        raise SettingsError(f"{notebook} is not a notebook: {error}", fix="name an .ipynb file") from error
