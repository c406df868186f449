"""Notebooks run from top to bottom with papermill, in this very interpreter; `page` shows them."""

from __future__ import annotations

import time
from ast import literal_eval
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryFile
from typing import Any

from .errors import SettingsError, closest
from .files import lock, read_file
from .packages import install_command, lab_path, load
from .terminal import stopped_by

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
_TITLE = b"<title>yolotrt-lab report</title>"  # of page.html.j2
_ADDED_CELLS = {"injected-parameters", "papermill-error-cell-tag"}


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
    stopped: int = 0
    """The signal that ended it, or kept it from starting."""

    @property
    def name(self) -> str:
        """The notebook's file name without its ending."""
        return self.notebook.stem


def find_notebooks(names: Sequence[str] = ()) -> list[Path]:
    """The notebooks with these paths, names or numbers; without any, all of the lab's in name order.

    SettingsError for an unknown name, for two notebooks of one name, and where there is no notebook at all.

    >>> [path.stem for path in find_notebooks(["1", "04_nsight"])]
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
    number = name.zfill(2) if name else ""
    fits = [path for path in own if name in (path.name, path.stem) or number == path.stem[:2]]
    for path in (Path(name), *fits):
        if path.is_file():
            return path
    known = ", ".join(path.stem for path in own)
    meant = closest(name, [path.stem for path in own])
    raise SettingsError(f"there is no notebook {name}{meant}", fix=f"name a file, or one of {known}")


def declared_parameters(notebook: Path) -> dict[str, Any]:
    """Names and defaults in the notebook's cell tagged `parameters`; a default that is no literal reads as None.

    SettingsError where papermill cannot read the notebook, or it is too large (`limit_bytes`).
    """
    papermill, nbformat = _library("papermill"), _library("nbformat")
    read_file(notebook)  # one that is too large is refused before it fills the memory
    try:
        nbformat.validate(nbformat.read(notebook, as_version=4))
        found = papermill.inspect_notebook(notebook)
    except Exception as error:  # nbformat passes on what its readers and jsonschema raise
        guessed = isinstance(error, AttributeError | TypeError | LookupError)
        why = "its parts are not those of one" if guessed else str(error).partition("\n")[0]
        raise SettingsError(f"{notebook} is not a notebook: {why}", fix="name an .ipynb file") from error
    return {name: _literal(each["default"], otherwise=None) for name, each in found.items()}


def _library(module: str) -> Any:
    return load(module, needed_for="running notebooks", install=install_command("notebooks"))


def _literal(text: str, otherwise: Any) -> Any:
    try:
        return literal_eval(text)
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

    SettingsError where something in it can't be written, another run has it, or its `report.html` is of something else.
    """
    try:
        for place in (out, out / "notebooks"):
            place.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=place).close()
        if (out / "report.html").exists():
            with (out / "report.html").open("r+b") as report:
                start = report.read(2_000)
            if _TITLE not in start:
                what = f"{out / 'report.html'} is no report of notebooks, and stays as it is"
                raise SettingsError(what, fix="choose another --out, or move the file away")
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
    progress: bool = False,
    done: Callable[[Run], None] = lambda run: None,
) -> list[Run]:
    """Run notebooks, up to `jobs` at a time, and save their executed copies in `folder`; a failure stops only its own.

    `parameters` holds one mapping a notebook, as `chosen_parameters` returns them. The largest notebooks start first
    where several run at a time. `done` is called as each ends; the runs are returned in the order of `notebooks`. With
    `progress` bars on standard error count the cells. Ctrl-C ends all that run; those and the rest are `stopped`.

    MissingPackageError where papermill or ipykernel is not installed; SettingsError where a copy would overwrite its
    notebook.
    """
    for notebook in notebooks:
        if notebook.resolve() == (folder / notebook.name).resolve():
            raise SettingsError(f"{notebook} would be overwritten by its executed copy", fix="choose another --out")
    # papermill changes the current folder, of all threads, as it writes: nothing depends on that
    kernels, here = list[Any](), Path.cwd()
    how = {"kernel_manager_class": _kernel_manager(kernels), "resources": {"metadata": {"path": str(here)}}}
    from jupyter_core.utils import ensure_event_loop

    folder.mkdir(parents=True, exist_ok=True)
    places = SimpleQueue[int]()
    for place in range(jobs):
        places.put(place)

    def run(notebook: Path, values: Mapping[str, Any]) -> Run:
        place = places.get()
        bar = {"desc": notebook.stem, "leave": False, "position": place} if progress else False
        try:
            with closing(ensure_event_loop(prefer_selector_loop=True)):  # this thread's, which papermill takes
                return _run(notebook, folder / notebook.name, values, here, progress_bar=bar, **how)
        finally:
            places.put(place)

    work = list(zip(notebooks, parameters, strict=True))
    if jobs > 1:
        work.sort(key=lambda each: -each[0].stat().st_size)
    runs: dict[Path, Run] = {}
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(run, *each) for each in work]
        try:
            for future in as_completed(futures):
                runs[future.result().notebook] = future.result()
                done(future.result())
        except BaseException as error:
            ended = {future for future in futures if future.done()}
            _stop(futures, kernels)
            if not isinstance(error, KeyboardInterrupt):
                raise
            for future, (notebook, _) in zip(futures, work, strict=True):
                if future.cancelled():
                    runs[notebook] = _stopped(Run(notebook, folder / notebook.name, 0), error)
                else:
                    killed = future.result().failure and future not in ended
                    runs[notebook] = _stopped(future.result(), error) if killed else future.result()
    return [runs[notebook] for notebook in notebooks]


def _run(notebook: Path, output: Path, values: Mapping[str, Any], here: Path, **how: Any) -> Run:
    written = here / output
    written.unlink(missing_ok=True)
    start, failure = time.perf_counter(), None
    how |= {"parameters": dict(values), "kernel_name": "python3", "language": "python", "start_timeout": 300}
    try:
        _library("papermill").execute_notebook(here / notebook, written, **how)
    except Exception as error:  # a cell that fails, a kernel that dies or never starts
        failure = _failure(written, error)
    return Run(notebook, output, time.perf_counter() - start, failure)


def _stop(futures: Sequence[Future[Run]], kernels: Sequence[Any]) -> None:
    """End what runs, and start nothing more: papermill comes back when its kernel is dead."""
    for future in futures:
        future.cancel()
    while wait(futures, timeout=0.1).not_done:
        for kernel in list(kernels):  # one that has just started too
            if process := getattr(kernel.provisioner, "process", None):
                process.kill()


def _stopped(run: Run, by: KeyboardInterrupt) -> Run:
    number, why = stopped_by(by)
    return replace(run, failure=replace(run.failure or Failure(0, "", ""), error=why), stopped=number)


def _kernel_manager(kernels: list[Any]) -> type:
    """A kernel manager for this interpreter, listing its kernels; a `python3` registered for another has no say."""
    for module in ("papermill", "ipykernel"):
        _library(module)
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class LabKernelManager(AsyncKernelManager):
        kernel_spec = KernelSpec(**get_kernel_dict(_KERNEL_OPTIONS), env=_KERNEL_ENVIRONMENT)
        transport_encryption = "auto"  # unencrypted, ipykernel warns about it in the first cell's output

        def __init__(self, *positional: Any, **named: Any) -> None:
            super().__init__(*positional, **named)
            kernels.append(self)

    return LabKernelManager


def _failure(output: Path, error: Exception) -> Failure:
    """The error, at the last cell of the executed copy that was started."""
    nbformat = _library("nbformat")
    name, message = getattr(error, "ename", type(error).__name__), getattr(error, "evalue", str(error))
    text = "\n".join(f"{name}: {message}".strip().splitlines()[-8:])
    try:
        cells = nbformat.read(output, as_version=4).cells
    except (OSError, ValueError):  # there is none, or a full disk cut it off
        output.unlink(missing_ok=True)
        cells = []
    written = [cell for cell in cells if not _ADDED_CELLS & set(cell.metadata.get("tags", ()))]
    for number, cell in reversed(list(enumerate(written, start=1))):
        if cell.cell_type == "code" and cell.metadata.get("papermill", {}).get("start_time"):
            return Failure(number, cell.source.strip().partition("\n")[0], text)
    return Failure(0, "", text)
