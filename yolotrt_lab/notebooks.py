"""Notebooks run from top to bottom, several at a time, in this very interpreter; `page` shows them."""

from __future__ import annotations

import ast
import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from .errors import SettingsError, closest
from .files import lock
from .packages import install_command, lab_path, load

_KERNEL_ENVIRONMENT = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "PYTHONWARNINGS": "",
}
_KERNEL_OPTIONS = [
    "--log-level=CRITICAL",
    # The lab's figures fill their size: looking for a tight frame around what is drawn would draw each once more.
    "--InlineBackend.print_figure_kwargs={'bbox_inches': None}",
    "--InlineBackend.figure_formats=svg",  # sharp at any size, and their text is text
    "--InlineBackend.rc=svg.fonttype=none",
]
STOPPED = "stopped by Ctrl-C"
"""The error of a notebook that Ctrl-C ended, or kept from starting."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Where and why a notebook stopped."""

    cell: int
    """The cell, counted from 1 in the notebook as written; 0 where it stopped before its first cell."""
    line: str
    """The first line of that cell."""
    error: str
    """The type and the message of the exception, at most its last 8 lines."""

    def __str__(self) -> str:
        where = f"cell {self.cell}: {self.line}" if self.cell else "before its first cell"
        return f"{where}\n{self.error}"


@dataclass(frozen=True, slots=True)
class Run:
    """One notebook that was run."""

    notebook: Path
    output: Path
    """The executed copy; it does not exist where the kernel never started."""
    seconds: float
    failure: Failure | None = None

    @property
    def name(self) -> str:
        """The notebook's file name without its ending."""
        return self.notebook.stem

    @property
    def stopped(self) -> bool:
        """Ctrl-C ended it, or kept it from starting."""
        return self.failure is not None and self.failure.error == STOPPED


def find_notebooks(names: Sequence[str] = ()) -> list[Path]:
    """The notebooks with these paths, names or numbers; without any, all of the lab's in name order.

    SettingsError for an unknown name, for two notebooks of one name, and where there is no notebook at all.

    >>> [path.stem for path in find_notebooks(["01", "04_nsight"])]
    ['01_reproduce', '04_nsight']
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
    for path in (Path(name), *(path for path in own if name in (path.name, path.stem, path.stem[:2]))):
        if path.is_file():
            return path
    known = ", ".join(path.stem for path in own)
    meant = closest(name, [path.stem for path in own])
    raise SettingsError(f"there is no notebook {name}{meant}", fix=f"name a file, or one of {known}")


def _read(notebook: Path) -> Any:
    """Its cells and metadata; SettingsError where it is no notebook."""
    try:
        return _library("nbformat").read(notebook, as_version=4)
    except (ValueError, TypeError, LookupError, AttributeError) as error:  # nbformat passes all of them on
        raise SettingsError(f"{notebook} is not a notebook: {error}", fix="name an .ipynb file") from error


def _library(module: str) -> Any:
    # jsonschema tries to import this checker of IRIs, which takes 1.5 s and which no notebook needs
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    return load(module, needed_for="running notebooks", install=install_command("notebooks"))


def _place(notebook: Any) -> int | None:
    """The number of the cell tagged `parameters`, from 0."""
    tagged = (place for place, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ()))
    return next(tagged, None)


def declared_parameters(notebook: Path) -> dict[str, Any]:
    """Names and defaults in the notebook's cell tagged `parameters`; a default that is no literal reads as None.

    SettingsError where it is no notebook.
    """
    read = _read(notebook)
    if (place := _place(read)) is None:
        return {}
    found = {}
    for node in ast.parse(read.cells[place].source).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            [target] = node.targets if isinstance(node, ast.Assign) else [node.target]
            found[ast.unparse(target)] = _literal(ast.unparse(node.value), otherwise=None)
    return found


def _literal(text: str, otherwise: Any) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return otherwise


def chosen_parameters(
    notebooks: Sequence[Path], given: Mapping[str, str], device: str | None = None
) -> list[dict[str, Any]]:
    """The parameters of each notebook: the given values for names that it declares, in its defaults' types.

    `given` holds text, as typed on a command line. `device` counts as given to every notebook that declares `device`.
    SettingsError for a name that no notebook declares, and for a text that does not read as its default's type.
    """
    declared = [declared_parameters(notebook) for notebook in notebooks]
    known = sorted(set().union(*declared))
    if unknown := [name for name in given if name not in known]:
        known_names = ", ".join(known) or "none"
        raise SettingsError(f"no notebook has a parameter {unknown[0]}", fix=f"use one of: {known_names}")
    if device is not None:
        given = {"device": device, **given}
    return [
        {name: _converted(name, text, defaults[name]) for name, text in given.items() if name in defaults}
        for defaults in declared
    ]


def _converted(name: str, text: str, default: Any) -> Any:
    if isinstance(default, str):
        return text
    value = _literal(text.title() if text.lower() in ("true", "false") else text, otherwise=text)
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if default is not None and type(value) is not type(default):
        wanted = type(default).__name__
        raise SettingsError(f"{name} must be of type {wanted}, got {text!r}", fix=f"pass a value like {default!r}")
    return value


@contextmanager
def reserved(out: Path) -> Iterator[None]:
    """Keep the folder of a run for this one until the block ends: its copies in `notebooks`, its `report.html`.

    SettingsError where something in it can't be written, or another run has it.
    """
    try:
        for place in (out, out / "notebooks"):
            place.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=place).close()
        if (out / "report.html").exists():
            (out / "report.html").open("ab").close()
        file = (out / ".lock").open("ab")
    except OSError as error:
        where = error.filename or out
        raise SettingsError(f"{where} can't be written: {error.strerror}", fix="choose another --out") from error
    with file:
        if not lock(file):
            fix = "wait until it ends, or choose another --out"
            raise SettingsError(f"another run writes into {out}", fix=fix)
        yield


def run_notebooks(
    notebooks: Sequence[Path],
    parameters: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    jobs: int = 1,
    show: Callable[[str], None] = lambda text: None,
    done: Callable[[Run], None] = lambda run: None,
) -> list[Run]:
    """Run notebooks, up to `jobs` at a time, and save their executed copies in `folder`; a failure stops only its own.

    `parameters` holds one mapping a notebook, as `chosen_parameters` returns them. The largest notebooks start first
    where several run at a time. `show` gets a line on how far each is, `done` is called as each ends; the runs are
    returned in the order of `notebooks`. Ctrl-C ends all that run; those and the rest are `stopped`.

    MissingPackageError where nbclient or ipykernel is not installed; SettingsError where a copy would overwrite its
    notebook.
    """
    for notebook in notebooks:
        if notebook.resolve() == (folder / notebook.name).resolve():
            raise SettingsError(f"{notebook} would be overwritten by its executed copy", fix="choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    pairs = zip(notebooks, parameters, strict=True)
    running = [_Running(notebook, folder / notebook.name, values) for notebook, values in pairs]
    places = asyncio.Semaphore(jobs)

    def tell() -> None:
        live = [each for each in running if each.cell and each.run is None]
        show(" · ".join(f"{each.notebook.stem} {each.cell} of {each.cells}" for each in live))

    async def run(each: _Running) -> None:
        async with places:
            if not (ended := await each.execute(tell)).stopped:
                done(ended)

    async def run_all() -> None:
        first = sorted(running, key=lambda each: -each.notebook.stat().st_size) if jobs > 1 else running
        await asyncio.gather(*map(run, first))

    with asyncio.Runner(loop_factory=_Loop) as runner:
        try:
            runner.run(run_all())
        except KeyboardInterrupt:
            for each in running:
                each.stop()
    return [each.run or Run(each.notebook, each.output, 0, Failure(0, "", STOPPED)) for each in running]


class _Loop(asyncio.SelectorEventLoop):
    def add_signal_handler(self, *_: Any) -> None:  # type: ignore[override]
        """Refused: nbclient would take Ctrl-C for itself."""
        raise RuntimeError


class _Running:
    """A notebook, before, while and after it runs."""

    def __init__(self, notebook: Path, output: Path, values: Mapping[str, Any]) -> None:
        self.notebook, self.output = notebook, output
        self.run: Run | None = None
        self.cell, self._line = (
            0,
            "",
        )  # the one that runs, counted from 1 in the notebook as written, and its first line
        self._read = _read(notebook)
        self.cells = len(self._read.cells)
        self._injected = _inject(self._read, values)
        self._stopped = False
        self._client = _library("nbclient").NotebookClient(
            self._read,
            kernel_name="python3",
            kernel_manager_class=_kernel_manager(),
            startup_timeout=300,
            timeout=None,
            coalesce_streams=True,
            resources={"metadata": {"path": str(Path.cwd())}},
        )

    async def execute(self, tell: Callable[[], None]) -> Run:
        """Run it to its end, and save the executed copy."""

        def started(cell: Any, cell_index: int) -> None:
            if cell.cell_type == "code":
                self.cell = cell_index + (cell_index < self._injected)
                self._line = cell.source.strip().partition("\n")[0]
                tell()

        self._client.on_cell_start = started
        self.output.unlink(missing_ok=True)
        start, failure = time.perf_counter(), None
        try:
            await self._client.async_execute()
        except (Exception, asyncio.CancelledError) as error:  # a cell that fails, a kernel that dies or never starts
            name, message = getattr(error, "ename", type(error).__name__), getattr(error, "evalue", str(error))
            text = "\n".join(f"{name}: {message}".strip().splitlines()[-8:])
            failure = Failure(self.cell, self._line, STOPPED if self._stopped else text)
        if self.cell:
            _library("nbformat").write(self._read, self.output)
        self.run = Run(self.notebook, self.output, time.perf_counter() - start, failure)
        return self.run

    def stop(self) -> None:
        """What ends it from here on is Ctrl-C, and its kernel is not asked."""
        self._stopped, self._client.shutdown_kernel = True, "immediate"


def _inject(notebook: Any, values: Mapping[str, Any]) -> int:
    """Add a cell with these values behind the one tagged `parameters`; its place, or that behind all cells."""
    place = _place(notebook)
    if not values or place is None:
        return len(notebook.cells)
    source = "\n".join(["# Parameters", *(f"{name} = {value!r}" for name, value in values.items())])
    cell = _library("nbformat").v4.new_code_cell(source, metadata={"tags": ["injected-parameters"]})
    notebook.cells.insert(place + 1, cell)
    return place + 1


def _kernel_manager() -> type:
    """A manager of kernels in this interpreter; a `python3` registered for another has no say."""
    _library("ipykernel")
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class LabKernelManager(AsyncKernelManager):
        kernel_spec = KernelSpec(**get_kernel_dict(_KERNEL_OPTIONS), env=_KERNEL_ENVIRONMENT)
        transport_encryption = "auto"  # unencrypted, ipykernel warns about it in the first cell's output

    return LabKernelManager
