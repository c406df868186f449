"""The program nsys: where it is, and the export of its reports."""

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

import numpy as np

from ..errors import NsysError, TraceError
from .scrub import scrub
from .trace import DIRECTIONS, Graph, Trace

_EXPORT_TIMEOUT_S = 1_800


def find_nsys() -> str:
    """The path of nsys: the one on the PATH, else the newest in the places where it is installed; '' without one."""
    if on_path := shutil.which("nsys"):
        return on_path
    program_files = Path(os.environ.get("PROGRAMFILES", "C:/Program Files"))
    places = [
        (program_files, "NVIDIA Corporation/Nsight Systems */target-windows-x64/nsys.exe"),
        (Path("/opt/nvidia/nsight-systems"), "*/bin/nsys"),
        (Path("/usr/local/cuda/bin"), "nsys"),
    ]
    found = (sorted(root.glob(pattern)) for root, pattern in places)
    return next((str(paths[-1]) for paths in found if paths), "")


def export_sqlite(report: Path, target: Path) -> None:
    """Let nsys write a .nsys-rep as .sqlite; NsysError where there is no nsys, or none that can read this report."""
    program = find_nsys()
    if not program:
        raise NsysError(
            f"{report} needs nsys to be read, and there is none here",
            fix=f"on a machine with Nsight Systems run: nsys export --type sqlite {report.name}; then name the .sqlite",
        )
    command = [program, "export", "--type", "sqlite", "--force-overwrite", "true", "--output", str(target), str(report)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_EXPORT_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NsysError(f"{program} could not export {report}: {error}", fix="check that nsys itself runs") from error
    if done.returncode or not target.is_file():
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise NsysError(
            f"{program} could not export {report}: {said[-1] if said else f'exit status {done.returncode}'}",
            fix="a report can be read by the nsys that made it or a newer one: export it there, and name the .sqlite",
        )


# Take a trace: run a command under nsys, import and export what it wrote, and scrub that.
#
# Options are those that leave the loop alone: CUDA and NVTX, no sampling, no context switches, no CUDA event trace.


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


# A capture that looks well and is not: nsys exits with 0 although ranges or kernels are missing.


_NO_FRAMES = (
    "mark each frame with an NVTX range called 'frame' (the lab's loops do); under an nsys of 2023 nvtx 0.2.17 loses "
    "every range: python -m pip install nvtx==0.2.10; with ranges, put `with nsight.profiled():` around the loop"
)
_NO_GPU_WORK = (
    "some clouds, virtual GPUs and WSL give nsys no usable GPU times: write the line CuptiUseRawGpuTimestamps=false "
    "into the file that `nsys -z` names, and capture again"
)
_GRAPHS_HIDE_COPIES = (
    "a CUDA graph is shown as one block, and the copies in it are not: capture with graphs='node' (--graphs node)"
)
_TOO_FEW = "capture again with fewer frames: nsys drops what it cannot write in time"


def check_trace(
    trace: Trace, *, frames: int | None = None, batches: int | None = None, uploads: int = 1, downloads: int = 1
) -> None:
    """See that frames, GPU work, copies and synchronizes are there; TraceError says what is missing and what helps.

    With `frames`, the number in the loop's own recording, the last so many frames of the trace are counted: each has
    that many uploads and downloads, at least one synchronize, and as many kernels as any other. Where frames go in
    batches that is said of each of `batches`; frames of one batch are recorded with one and the same `done_ns`. What
    happens between the first frame's begin and the end of the trace counts, in the process that marked them.
    """
    starts = _frame_starts(trace)
    if not len(starts):
        raise TraceError("the trace holds no frames", fix=_NO_FRAMES)
    if not trace.count("kernels") or not trace.count("copies"):
        missing = (
            "kernels" if trace.count("copies") else "copies" if trace.count("kernels") else "kernels and no copies"
        )
        hidden = missing == "copies" and (trace.kernels["graph"] == Graph.WHOLE).any()
        fix = _GRAPHS_HIDE_COPIES if hidden else _NO_GPU_WORK
        raise TraceError(f"the trace holds {len(starts)} frames and no {missing}", fix=fix)
    if not trace.named("api", _waits).any():
        raise TraceError(f"the trace holds {len(starts)} frames and no synchronize call", fix=_NO_FRAMES)
    if frames is not None:
        begin, pid = _first_of_last(trace, starts, frames)
        what = f"{frames} frames" if batches is None else f"{batches} batches"
        _check_counts(trace, begin, pid, frames if batches is None else batches, what, uploads, downloads)


def _frame_starts(trace: Trace) -> np.ndarray:
    return trace.ranges["start_ns"][trace.named("ranges", "frame".__eq__)]


def _first_of_last(trace: Trace, starts: np.ndarray, frames: int) -> tuple[int, int]:
    """When the first of the last so many frames begins, and the process that marked it."""
    if len(starts) < frames:
        raise TraceError(f"the trace holds {len(starts)} of {frames} frames", fix=_TOO_FEW)
    begin = int(starts[len(starts) - frames])
    return begin, int(trace.ranges["pid"][np.flatnonzero(trace.ranges["start_ns"] == begin)[0]])


def _check_counts(trace: Trace, begin: int, pid: int, count: int, what: str, uploads: int, downloads: int) -> None:
    """`count` times so many copies, a synchronize and kernels; `what` says of what."""
    counted = {
        name: (trace.table(name)["start_ns"] >= begin) & (trace.table(name)["pid"] == pid)
        for name in ("copies", "kernels", "api")
    }
    ways = trace.copies["direction"][counted["copies"]]
    found = {way: int((ways == DIRECTIONS.index(way)).sum()) for way in ("h2d", "d2h")}
    if found != {"h2d": uploads * count, "d2h": downloads * count}:
        hidden = (trace.kernels["graph"][counted["kernels"]] == Graph.WHOLE).any()
        raise TraceError(
            f"{what} with {uploads} uploads and {downloads} downloads each, and the trace holds "
            f"{found['h2d']} and {found['d2h']}",
            fix=f"{_TOO_FEW}; {_GRAPHS_HIDE_COPIES}" if hidden else _TOO_FEW,
        )
    waits = int((trace.named("api", _waits) & counted["api"]).sum())
    if waits < count:
        raise TraceError(f"{what}, and the trace holds {waits} synchronize calls", fix=_TOO_FEW)
    kernels = int(counted["kernels"].sum())
    if not kernels or kernels % count:
        raise TraceError(f"{kernels} kernels for {what}: not as many for each", fix=_TOO_FEW)


def _waits(name: str) -> bool:
    return "Synchronize" in name
