"""The command `yolotrt-lab`.

Each subcommand is a module with `add`, which registers its options, and one function that does the work with them and
returns the exit status. Whatever is heavy is imported by the latter.
"""

from __future__ import annotations

import argparse
import io
import os
import shlex
import sys
from collections.abc import Sequence

from .. import __version__
from ..errors import LabError, NotebookError
from . import bench, calibrate, detect, diagnose, doctor, evaluate, record, run, trace

_EXAMPLES = """examples:
  yolotrt-lab doctor                        what is here, what is missing, and how to install it
  yolotrt-lab run                           run every notebook and write build/report.html
  yolotrt-lab run --device cuda             the same on the GPU
  yolotrt-lab record overload --out FILE    run one scenario and keep its frames
  yolotrt-lab bench                         measure the ladder beside the limits of this GPU
  yolotrt-lab diagnose FILE                 say why a loop gets slower, from its timings
  yolotrt-lab trace capture -- COMMAND      run it under Nsight Systems and keep its trace
  yolotrt-lab calibrate --out FILE          measure this GPU for the simulated device
  yolotrt-lab detect photos --out boxes     draw the boxes in images or a video, and write them as JSON
  yolotrt-lab evaluate                      the detector's average precision on held-out frames
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    0 done; 1 a notebook failed, or doctor found that the lab can't run; 2 a LabError or wrong usage; 130 Ctrl-C; 141
    the output is not read any more.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a Windows console knows few of the characters in a traceback
    typed = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(typed)
    arguments.typed = list(typed)
    arguments.command_line = shlex.join(["yolotrt-lab", *typed])
    try:
        return arguments.function(arguments)
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what Python flushes at its end goes nowhere
        return 141
    except LabError as error:
        if arguments.debug or os.environ.get("YOLOTRT_LAB_DEBUG"):
            raise
        print(f"yolotrt-lab: {error}", file=sys.stderr)
        return 1 if isinstance(error, NotebookError) else 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="yolotrt-lab",
        description="Why does cudaStreamSynchronize get slower as a YOLOv8-TensorRT loop runs, and what fixes it?",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"yolotrt-lab {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in (doctor, run, record, diagnose, trace, detect, evaluate, bench, calibrate):
        module.add(commands)
    return parser
