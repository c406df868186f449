"""The program nsys: take a trace, export a report, read what it says of one, and check that a trace is whole."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cuda import libcuda
from ..errors import NoGpuError, NsysError, TraceError
from ..files import check_output, lock
from ..packages import shipped_file

if TYPE_CHECKING:  # to look for nsys none of it is needed
    from .trace import Trace

_QUICK_S, _EXPORT_S, _END_S = 60, 1_800, 10
_IMPORTERS = ("../host-linux-*/QdstrmImporter", "../linux-desktop-*/QdstrmImporter", "../Host-*/QdstrmImporter")
_INSTALL = "install Nsight Systems (the CUDA Toolkit brings it too), and put the folder of nsys on the PATH"
# Options that leave the loop alone: no sampling, no context switches, no CUDA event trace.
_OPTIONS = {
    "--trace": "cuda,nvtx",
    "--sample": "none",
    "--cpuctxsw": "none",
    "--cuda-event-trace": "false",
    "--discard-environment": "true",
    "--force-overwrite": "true",
}

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


def find_nsys() -> str:
    """The path of nsys: the one on the PATH, else the newest in the places where it is installed; '' without one.

    >>> isinstance(find_nsys(), str)
    True
    """
    program_files = Path(os.environ.get("PROGRAMFILES", "C:/Program Files"))
    places = [
        (program_files, "NVIDIA Corporation/Nsight Systems */target-windows-x64/nsys.exe"),
        (Path("/opt/nvidia/nsight-systems"), "*/bin/nsys"),
        (Path("/usr/local/cuda/bin"), "nsys"),
    ]
    found = (sorted(root.glob(pattern)) for root, pattern in places)
    return shutil.which("nsys") or next((str(paths[-1]) for paths in found if paths), "")


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
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_EXPORT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NsysError(f"{program} could not export {report}: {error}", fix="check that nsys itself runs") from error
    if done.returncode or not target.is_file():
        said = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise NsysError(
            f"{program} could not export {report}: {said}",
            fix="only the nsys that wrote a report, or a newer one, can read it: export it there, and name the .sqlite",
        )


@dataclass(frozen=True, slots=True)
class Nsys:
    """An nsys on this machine.

    >>> Nsys("/bin/nsys", (2025, 3), frozenset({"--sample"})).command_line("out", ["python", "loop.py"])
    ['/bin/nsys', 'profile', '--sample=none', '--output=out', 'python', 'loop.py']
    """

    path: str
    version: tuple[int, ...]
    """Such as (2025, 3, 2)."""
    options: frozenset[str]
    """The options that its `profile` knows."""

    @classmethod
    def open(cls, path: str = "") -> Nsys:
        """Ask the nsys at `path`, or the one on this machine; NsysError where there is none or it doesn't answer."""
        path = path or find_nsys()
        if not path:
            raise NsysError("there is no nsys on this machine", fix=_INSTALL)
        number = re.search(r"(?a)(?<!\d)\d{1,9}(?:\.\d{1,9})+(?!\d)", _answer(path, "--version"))
        version = tuple(map(int, number[0].split("."))) if number else ()
        options = re.findall(r"(?m)^\s*(?:-\w,\s*)?(--[a-z][a-z0-9-]*)", _answer(path, "profile", "--help"))
        return cls(path, version, frozenset(options))

    def command_line(
        self,
        output: str | Path,
        command: Sequence[str],
        *,
        ranges: bool = False,
        graphs: str = "graph",
        domain: str = "",
    ) -> list[str]:
        """`nsys profile` with the options that this nsys has, writing to `output` plus its own endings.

        With `ranges` it records from the first `profiled()` of the program to its end. `graphs` is
        "graph" (a CUDA graph as one block) or "node" (each of its nodes, at more cost). With `domain` it keeps the NVTX
        ranges of that domain alone; the lab's is "yolotrt_lab".
        """
        wanted = _OPTIONS | {"--cuda-graph-trace": graphs}
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
    environment: Mapping[str, str] | None = None,
    keep_report: bool = False,
    **options: Any,
) -> Path:
    """Run `command` under nsys and return the scrubbed report, `<out>.sqlite`.

    Further options are those of `Nsys.command_line`. `environment` replaces that of the command. With `keep_report` the
    `<out>.nsys-rep` that the Nsight Systems window opens stays too: it holds the environment, the names of the host and
    of its processes, and nothing can take them out. NsysError where nsys or the command fails, or where the report
    could be neither imported nor exported.
    """
    nsys = nsys or Nsys.open()
    out = Path(out).absolute()
    for ending in (".sqlite", *[".nsys-rep"] * keep_report):
        check_output(_with_ending(out, ending), ending)
    out.parent.mkdir(parents=True, exist_ok=True)
    from .scrub import scrub

    with _own_folder(out) as folder:
        inside = folder / out.name
        line = nsys.command_line(inside, command, **options)
        status = _run(line, None if environment is None else dict(environment))
        complete = _with_ending(inside, ".nsys-rep").exists()  # where it is not, the status may be nsys's own
        report = _imported(inside, nsys, out, status)
        exported = _with_ending(inside, ".sqlite")
        export_sqlite(report, exported)
        scrub(exported)
        target = exported.replace(_with_ending(out, ".sqlite"))
        if keep_report:
            report.replace(_with_ending(out, ".nsys-rep"))
    if status and complete:
        raise NsysError(
            f"the traced command ended with status {status}; its trace is in {target}",
            fix="see that the command runs without nsys",
        )
    return target


@contextlib.contextmanager
def _own_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` until the block ends, empty: what a capture left that was killed holds the environment.

    NsysError while another capture has it.
    """
    folder = out.with_name(f".{out.name}.capture")
    folder.mkdir(exist_ok=True)
    with (folder / ".lock").open("ab") as file:
        if not lock(file):
            raise NsysError(f"another capture writes {out}", fix="wait until it ends, or choose another --out")
        try:
            for left in set(folder.iterdir()) - {folder / ".lock"}:
                left.unlink()
            yield folder
        finally:
            if sys.platform == "win32":  # deletes no open file
                file.close()
            shutil.rmtree(folder)


def _run(line: Sequence[str], environment: Mapping[str, str] | None) -> int:
    """Run nsys, and end it with what it traces where this process is told to end."""
    with subprocess.Popen(line, env=environment) as running:
        try:
            return running.wait()
        except BaseException:
            running.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(_END_S)
            running.kill()
            raise


@contextlib.contextmanager
def profiled() -> Iterator[None]:
    """What runs inside is what `capture_trace(..., ranges=True)` records: `cudaProfilerStart` and `cudaProfilerStop`.

    Works in a program and in a notebook whose kernel runs under nsys; nsys records the first such range. Waits at its
    end until the GPU has nothing left to do. Without a profiler, or without an NVIDIA driver, it does nothing else.

    >>> with profiled():
    ...     pass  # the frames to record
    """
    driver = None
    with contextlib.suppress(NoGpuError):
        driver = libcuda()
    if driver is None:
        yield
        return
    driver.cuProfilerStart()  # it and the others return an error in a thread without a CUDA context, and no more
    try:
        yield
    finally:
        driver.cuCtxSynchronize()  # what is still running would be missing
        driver.cuProfilerStop()


def shipped_analysis(name: str) -> str:
    """What `nsys analyze` said of the shipped trace of that name; TraceError names those that it was asked about.

    >>> "Pageable" in shipped_analysis("graph-pageable")
    True
    """
    return shipped_file("traces", f"{name}.analyze.txt", TraceError).read_text(encoding="utf-8")


def rules(said: str) -> Iterator[tuple[str, str]]:
    """Each rule of nsys by its name, such as 'cuda_api_sync', with what `nsys analyze` said by it.

    >>> [rule for rule, _ in rules(shipped_analysis("graph-pageable"))][:2]
    ['cuda_memcpy_async', 'cuda_memcpy_sync']
    """
    for part in said.split("Processing [")[1:]:
        head, _, text = part.partition("\n")
        yield head.partition("] with [")[2].partition(".py]")[0], text.strip("\n") + "\n"


def check_trace(trace: Trace, *, frames: int | None = None, batches: int | None = None) -> None:
    """Check that frames, GPU work, copies and synchronizes are there; TraceError says what is missing and what helps.

    nsys exits with 0 although ranges or kernels are missing. With `frames`, the number in the loop's own recording, the
    last so many frames of the trace are counted: each has one upload, one download, at least one synchronize, and as
    many kernels as any other. Where frames go in batches that is said of each of `batches`; frames of one batch
    are recorded with one and the same `done_ns`. What happens between the first frame's begin and the end of the trace
    counts, in the process that marked them.

    >>> from yolotrt_lab import nsight
    >>> check_trace(nsight.shipped_trace("graph-pinned"), frames=60)
    """
    from .trace import DIRECTIONS

    marked = trace.named("ranges", "frame".__eq__).nonzero()[0]
    if not len(marked):
        raise TraceError("the trace holds no frames", fix=_NO_FRAMES)
    held = f"the trace holds {len(marked)} frames and no"
    if missing := [table for table in ("kernels", "copies") if not trace.count(table)]:
        hidden = missing == ["copies"] and _shows_blocks(trace)
        raise TraceError(f"{held} {' and no '.join(missing)}", fix=_GRAPHS_HIDE_COPIES if hidden else _NO_GPU_WORK)
    if not trace.named("api", _waits).any():
        raise TraceError(f"{held} synchronize call", fix=_NO_FRAMES)
    if frames is None:
        return
    if len(marked) < frames:
        raise TraceError(f"the trace holds {len(marked)} of {frames} frames", fix=_TOO_FEW)
    first = marked[len(marked) - frames]
    begin, pid = trace.ranges["start_ns"][first], trace.ranges["pid"][first]
    for table in ("copies", "kernels", "api"):
        columns = trace.table(table)
        trace = trace.where(table, (columns["start_ns"] >= begin) & (columns["pid"] == pid))
    count, what = (frames, f"{frames} frames") if batches is None else (batches, f"{batches} batches")
    up, down = (int((trace.copies["direction"] == DIRECTIONS.index(way)).sum()) for way in ("h2d", "d2h"))
    if (up, down) != (count, count):
        raise TraceError(
            f"{what} must have an upload and a download each, got {up} and {down}",
            fix=f"{_TOO_FEW}; {_GRAPHS_HIDE_COPIES}" if _shows_blocks(trace) else _TOO_FEW,
        )
    waits = int(trace.named("api", _waits).sum())
    if waits < count:
        raise TraceError(f"{what} must have a synchronize call each, got {waits}", fix=_TOO_FEW)
    kernels = trace.count("kernels")
    if not kernels or kernels % count:
        raise TraceError(f"{what} must have as many kernels each, got {kernels} in all", fix=_TOO_FEW)


def _shows_blocks(trace: Trace) -> bool:
    from .trace import Graph

    return bool((trace.kernels["graph"] == Graph.WHOLE).any())


def _waits(name: str) -> bool:
    return "Synchronize" in name


def _answer(nsys: str, *arguments: str) -> str:
    try:
        return subprocess.run(
            [nsys, *arguments], capture_output=True, text=True, errors="replace", timeout=_QUICK_S, check=True
        ).stdout
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
    folder = Path(nsys.path).resolve().parent
    beside = [str(path) for pattern in _IMPORTERS for path in sorted(folder.glob(pattern))]
    importer = beside[-1] if beside else shutil.which("QdstrmImporter")
    failure = "there is no importer beside this nsys or on the PATH"
    if importer:
        done = subprocess.run([importer, "-i", raw, "-o", report], capture_output=True, text=True)
        if report.exists():
            return report
        failure = f"{importer} failed: {(done.stderr or done.stdout).strip()[-300:]}"
    kept = raw.replace(_with_ending(out, ".qdstrm"))
    raise NsysError(
        f"nsys left {kept}, which has to be imported, and {failure}; it holds the environment",
        fix=f"put QdstrmImporter of Nsight Systems {'.'.join(map(str, nsys.version))} on the PATH (its host-linux-x64 "
        "folder holds it), or open the file in the Nsight Systems window of that version; delete it afterwards",
    )


def _with_ending(path: Path, ending: str) -> Path:
    """`Path.with_suffix` would cut `v1.5` short."""
    return path.with_name(path.name + ending)
