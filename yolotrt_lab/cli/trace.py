"""`yolotrt-lab trace`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..errors import SettingsError
from .common import add_command

_CAPTURE_EXAMPLES = """examples:
  yolotrt-lab trace capture --out mine -- python loop.py
  yolotrt-lab trace capture --out mine -- yolotrt-lab record served-pinned --frames 50 --out mine.parquet
  yolotrt-lab trace capture --ranges --out mine -- python loop.py    only what runs in `with nsight.profiled():`
  yolotrt-lab trace capture --graphs node --out mine -- python loop.py    each copy and kernel of a CUDA graph by itself
"""


def add(commands: Any) -> None:
    """Register the subcommand and those under it."""
    parser = commands.add_parser("trace", help="take, read and export traces of Nsight Systems")
    below = parser.add_subparsers(metavar="COMMAND", required=True)
    capture = add_command(below, "capture", _capture, "run a command under nsys and keep its trace", _CAPTURE_EXAMPLES)
    capture.add_argument("--out", type=Path, default=Path("trace"), metavar="NAME", help="default: trace")
    capture.add_argument("--ranges", action="store_true", help="record only the first `with nsight.profiled():`")
    capture.add_argument(
        "--graphs",
        choices=["graph", "node"],
        default="graph",
        help="a CUDA graph as one block, or each of its nodes, at more cost (default: graph)",
    )
    capture.add_argument("--frames", type=int, help="see that the trace holds that many whole frames at its end")
    capture.add_argument("--batches", type=int, help="in so many batches, where frames go in batches")
    capture.add_argument("--keep-report", action="store_true", help="keep the .nsys-rep, with the environment in it")
    capture.add_argument("command", nargs="+", metavar="COMMAND", help="what to run, after --")
    show = add_command(below, "show", _show, "print where the time of a frame goes, and what that means")
    show.add_argument("report", type=Path, help="a .sqlite, or a .nsys-rep where there is an nsys")
    export = add_command(below, "export", _export, "write a trace for ui.perfetto.dev")
    export.add_argument("report", type=Path, help="a .sqlite, or a .nsys-rep where there is an nsys")
    export.add_argument("--perfetto", type=Path, metavar="FILE", help="a .json to write")


def _capture(arguments: argparse.Namespace) -> int:
    from ..nsight import capture_trace, check_trace, read_trace

    command = arguments.command
    if command[0] == "yolotrt-lab":
        command = [sys.executable, "-m", "yolotrt_lab", *command[1:]]  # this lab, wherever the command is
    options = {"ranges": arguments.ranges, "graphs": arguments.graphs, "keep_report": arguments.keep_report}
    report = capture_trace(command, arguments.out, **options)
    trace = read_trace(report)
    check_trace(trace, frames=arguments.frames, batches=arguments.batches)
    print(f"{trace.count('kernels')} kernels, {trace.count('copies')} copies: {report}")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from ..diagnosis.traced import attribution_of
    from ..nsight import read_trace
    from ..nsight.findings import findings
    from ..tables import trace_table

    trace = read_trace(arguments.report)
    attribution = attribution_of(trace)
    print(trace_table({arguments.report.stem: attribution}))
    for way, direction in (("uploads", "h2d"), ("downloads", "d2h")):
        print(f"of the time of {way}, kernels run during {attribution.overlap_share(direction):.1%}")
    for finding in findings(trace):
        print(f"\n{finding.kind}: {finding.text}")
    for note in attribution.notes:
        print(f"\nnote: {note}")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from ..nsight import read_trace, write_perfetto

    if arguments.perfetto is None:
        raise SettingsError("nowhere to export to", fix="add --perfetto FILE.json")
    print(f"open with ui.perfetto.dev: {write_perfetto(read_trace(arguments.report), arguments.perfetto)}")
    return 0
