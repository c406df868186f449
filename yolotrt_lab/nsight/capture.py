"""Take a trace: run a command under nsys, import and export what it wrote, and scrub that.

Options are those that leave the loop alone: CUDA and NVTX, no sampling, no context switches, no CUDA event trace.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import NsysError
from .nsys import export_sqlite, find_nsys
from .privacy import scrub

_IMPORTERS = ("../host-linux-*/QdstrmImporter", "../linux-desktop-*/QdstrmImporter", "../Host-*/QdstrmImporter")
_NEEDED = ("PATH", "HOME", "PYTHONPATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "SYSTEMROOT", "TEMP")
_QUICK_S = 60  # for calls that only ask nsys something


@dataclass(frozen=True, slots=True)
class Nsys:
    """An nsys: its path, its version, such as (2025, 3, 2), and the options that its `profile` knows."""

    path: str
    version: tuple[int, ...]
    options: frozenset[str]

    @classmethod
    def open(cls, path: str = "") -> Nsys:
        """Ask the nsys at `path`, or the one on this machine; NsysError where there is none or it doesn't answer."""
        path = path or find_nsys()
        if not path:
            raise NsysError(
                "there is no nsys on this machine",
                fix="install Nsight Systems (the CUDA Toolkit brings it too), and put the folder of nsys on the PATH",
            )
        number = re.search(r"\d+(?:\.\d+)+", _answer(path, "--version"))
        version = tuple(map(int, number[0].split("."))) if number else ()
        options = re.findall(r"(?m)^\s*(?:-\w,\s*)?(--[a-z][a-z0-9-]*)", _answer(path, "profile", "--help"))
        return cls(path, version, frozenset(options))

    def command_line(
        self, output: Path, command: Sequence[str], *, ranges: bool = False, graphs: str = "graph", domain: str = ""
    ) -> list[str]:
        """`nsys profile` with the options that this nsys has, writing to `output` plus its own endings.

        With `ranges` it records from the first `profiled()` of the program to its end. `graphs` is
        "graph" (a CUDA graph as one block) or "node" (each of its nodes, at more cost). With `domain` it keeps the NVTX
        ranges of that domain alone; the lab's is "yolotrt_lab".
        """
        wanted = {
            "--trace": "cuda,nvtx",
            "--sample": "none",
            "--cpuctxsw": "none",
            "--cuda-event-trace": "false",
            "--cuda-graph-trace": graphs,
            "--discard-environment": "true",
            "--force-overwrite": "true",
        }
        if ranges:
            wanted |= {"--capture-range": "cudaProfilerApi", "--capture-range-end": "stop"}
        if domain:
            wanted |= {"--nvtx-domain-include": domain}
        options = [f"{name}={value}" for name, value in wanted.items() if name in self.options]
        return [self.path, "profile", *options, f"--output={output}", *command]


def capture_trace(
    command: Sequence[str],
    out: str | Path,
    *,
    nsys: Nsys | None = None,
    ranges: bool = False,
    graphs: str = "graph",
    domain: str = "",
    environment: Mapping[str, str] | None = None,
    keep_report: bool = False,
) -> Path:
    """Run `command` under nsys and return the scrubbed report, `<out>.sqlite`.

    `ranges`, `graphs` and `domain` are those of `Nsys.command_line`. `environment` replaces that of the command
    (`minimal_environment` makes a small one). With `keep_report` the `<out>.nsys-rep` that the Nsight Systems window
    opens stays too: it holds the environment, the names of the host and of its processes, and nothing can take them
    out. NsysError where nsys or the command fails, or where the report could be neither imported nor exported; the
    message says what would.
    """
    nsys = nsys or Nsys.open()
    out = Path(out).absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        inside = Path(folder, out.name)
        line = nsys.command_line(inside, command, ranges=ranges, graphs=graphs, domain=domain)
        finished = subprocess.run(line, env=None if environment is None else dict(environment))
        complete = _with_ending(inside, ".nsys-rep").exists()  # where it is not, the status may be nsys's own
        report = _imported(inside, nsys, out, finished.returncode)
        exported = _with_ending(inside, ".sqlite")
        export_sqlite(report, exported)
        scrub(exported)
        target = exported.replace(_with_ending(out, ".sqlite"))
        if keep_report:
            report.replace(_with_ending(out, ".nsys-rep"))
    if finished.returncode and complete:
        raise NsysError(
            f"the traced command ended with status {finished.returncode}; its trace is in {target}",
            fix="see that the command runs without nsys",
        )
    return target


def minimal_environment(**more: str) -> dict[str, str]:
    """Of this process's environment only what a CUDA program needs to start, and `more`."""
    return {name: os.environ[name] for name in _NEEDED if name in os.environ} | more


@contextlib.contextmanager
def profiled() -> Iterator[None]:
    """What runs inside is what `capture_trace(..., ranges=True)` records: `cudaProfilerStart` and `cudaProfilerStop`.

    Works in a program and in a notebook whose kernel runs under nsys; nsys records the first such range. Waits at its
    end until the GPU has nothing left to do. Without a profiler, or without an NVIDIA driver, it does nothing else.
    """
    driver = _driver()
    if driver is None:
        yield
        return
    driver.cuProfilerStart()
    try:
        yield
    finally:
        driver.cuCtxSynchronize()  # what is still running would be missing
        driver.cuProfilerStop()


def _driver() -> Any:
    """The driver's library, or None. Its calls return an error where this thread has no CUDA context, and no more."""
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def _answer(nsys: str, *arguments: str) -> str:
    try:
        return subprocess.run([nsys, *arguments], capture_output=True, text=True, timeout=_QUICK_S, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise NsysError(f"{nsys} does not run: {error}", fix="install Nsight Systems again") from error


def _imported(inside: Path, nsys: Nsys, out: Path, status: int) -> Path:
    """The .nsys-rep; where nsys left only a .qdstrm, for want of an importer, one is looked for."""
    report, raw = _with_ending(inside, ".nsys-rep"), _with_ending(inside, ".qdstrm")
    if report.exists():
        return report
    if not raw.exists():
        raise NsysError(
            f"nsys left no report (status {status})",
            fix="see what it printed; with ranges, the program must reach `with nsight.profiled():`",
        )
    version = ".".join(map(str, nsys.version))
    importer = _find_importer(nsys)
    failure = "there is no importer beside this nsys or on the PATH"
    if importer:
        done = subprocess.run([importer, "-i", raw, "-o", report], capture_output=True, text=True)
        if report.exists():
            return report
        failure = f"{importer} failed: {(done.stderr or done.stdout).strip()[-300:]}"
    kept = raw.replace(_with_ending(out, ".qdstrm"))
    raise NsysError(
        f"nsys left {kept}, which has to be imported, and {failure}",
        fix=f"put QdstrmImporter of Nsight Systems {version} on the PATH (its host-linux-x64 folder holds it), or open "
        "the file in the Nsight Systems window of that version",
    )


def _find_importer(nsys: Nsys) -> str:
    folder = Path(nsys.path).resolve().parent
    beside = [str(path) for pattern in _IMPORTERS for path in sorted(folder.glob(pattern))]
    return beside[-1] if beside else shutil.which("QdstrmImporter") or ""


def _with_ending(path: Path, ending: str) -> Path:
    """`Path.with_suffix` would cut `v1.5` short."""
    return path.with_name(path.name + ending)
