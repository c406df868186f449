"""`yolotrt-lab run`."""

from __future__ import annotations

import argparse
import logging
import sys
import textwrap
from pathlib import Path
from typing import Any

from ..errors import NotebookError
from .common import add_command

_RUN_EXAMPLES = """examples:
  yolotrt-lab run                           every notebook of the lab, in name order
  yolotrt-lab run 01_reproduce              one of them, by name
  yolotrt-lab run -p frames 2000            with another value for a parameter
  yolotrt-lab run mine.ipynb --out results  a notebook of your own; results in results/
  yolotrt-lab run 04_nsight --nsys-ranges   under nsys: the first `with nsight.profiled():`, to build/trace.sqlite
"""


def add(commands: Any) -> None:
    """Register the subcommand."""
    parser = add_command(commands, "run", _run, "run notebooks and write one report", _RUN_EXAMPLES)
    parser.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help="a file, or the name of one of the lab's own")
    parser.add_argument(
        "-p",
        dest="parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="a value for a parameter, in every chosen notebook that has it",
    )
    parser.add_argument("--device", choices=["cuda", "simulated"], help="the device to run on")
    parser.add_argument("--out", type=Path, default=Path("build"), metavar="FOLDER", help="default: build")
    traced = parser.add_mutually_exclusive_group()
    traced.add_argument(
        "--nsys", action="store_true", help="under Nsight Systems; the trace goes to FOLDER/trace.sqlite"
    )
    traced.add_argument("--nsys-ranges", action="store_true", help="the same, of the first `with nsight.profiled():`")


def _run(arguments: argparse.Namespace) -> int:
    if arguments.nsys or arguments.nsys_ranges:
        return _run_traced(arguments)
    from datetime import datetime

    from ..doctor import find_driver
    from ..execute import Run, chosen_parameters, find_notebooks, run_notebooks
    from ..report import write_report

    # jsonschema tries to import this checker of IRIs, which takes 1.5 s and which no notebook needs
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it would log is in the report
    notebooks = find_notebooks(arguments.notebooks)
    parameters = chosen_parameters(notebooks, dict(arguments.parameters), arguments.device)
    if arguments.device == "cuda":
        find_driver()
    runs: list[Run] = []
    for run in run_notebooks(notebooks, parameters, arguments.out / "notebooks", progress=sys.stderr.isatty()):
        runs.append(run)
        print(f"{'FAILED' if run.failure else 'ok':6}  {run.name}  {run.seconds:.1f} s", flush=True)
        if run.failure:
            print(textwrap.indent(str(run.failure), " " * 8), file=sys.stderr, flush=True)
    report = write_report(runs, arguments.out / "report.html", made=datetime.now())
    print(f"report: {report}")
    if failed := [run.name for run in runs if run.failure]:
        raise NotebookError(
            f"{len(failed)} of {len(runs)} notebooks failed: {', '.join(failed)}",
            fix=f"see the report, or the executed copies in {arguments.out / 'notebooks'}",
        )
    return 0


def _run_traced(arguments: argparse.Namespace) -> int:
    """The same command once more, as a child of nsys, which follows the notebooks' kernels."""
    from ..nsight import capture_trace, check_trace, read_trace

    again = [each for each in arguments.typed if each not in ("--nsys", "--nsys-ranges")]
    command = [sys.executable, "-m", "yolotrt_lab", *again]
    report = capture_trace(command, arguments.out / "trace", ranges=arguments.nsys_ranges)
    check_trace(read_trace(report))
    print(f"trace: {report}")
    return 0
