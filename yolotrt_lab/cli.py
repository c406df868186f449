"""The command `yolotrt-lab`.

Each subcommand is one `_add_...` function that registers its options, and one function that does the work with them
and returns the exit status. Whatever is heavy is imported by the latter.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import shlex
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import __version__
from .errors import LabError, NotebookError, SettingsError

_EXAMPLES = """examples:
  yolotrt-lab doctor                        what is here, what is missing, and how to install it
  yolotrt-lab run                           run every notebook and write build/report.html
  yolotrt-lab run --device cuda             the same on the GPU
  yolotrt-lab record overload --out FILE    run one scenario and keep its frames
  yolotrt-lab calibrate --out FILE          measure this GPU for the simulated device
"""
_RUN_EXAMPLES = """examples:
  yolotrt-lab run                           every notebook of the lab, in name order
  yolotrt-lab run 01_reproduce              one of them, by name
  yolotrt-lab run -p frames 2000            with another value for a parameter
  yolotrt-lab run mine.ipynb --out results  a notebook of your own; results in results/
"""

_RECORD_EXAMPLES = """examples:
  yolotrt-lab record                                        list the scenarios
  yolotrt-lab record overload --out overload.parquet        on the GPU if there is one
  yolotrt-lab record copies --device simulated --out copies.parquet
  yolotrt-lab record served-report served-pinned --out folder   in turns, to compare them
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    0 done; 1 a notebook failed, or doctor found that the lab can't run; 2 a LabError or wrong usage; 130 Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a Windows console knows few of the characters in a traceback
    typed = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(typed)
    arguments.command_line = shlex.join(["yolotrt-lab", *typed])
    try:
        return arguments.function(arguments)
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C", file=sys.stderr)
        return 130
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
    _add_doctor(commands)
    _add_run(commands)
    _add_record(commands)
    _add_calibrate(commands)
    return parser


def _add_command(
    commands: Any, name: str, function: Callable[[argparse.Namespace], int], summary: str, examples: str = ""
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(function=function)
    return parser


def _add_doctor(commands: Any) -> None:
    summary = "say what is here, what is missing, and the command that installs it"
    parser = _add_command(commands, "doctor", _doctor, summary)
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def _doctor(arguments: argparse.Namespace) -> int:
    from . import doctor

    findings = doctor.examine()
    print(doctor.as_json(findings) if arguments.json else doctor.as_text(findings))
    return 0 if doctor.can_run(findings) else 1


def _add_run(commands: Any) -> None:
    parser = _add_command(commands, "run", _run, "run notebooks and write one report", _RUN_EXAMPLES)
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


def _run(arguments: argparse.Namespace) -> int:
    from datetime import datetime

    from .doctor import find_driver
    from .execute import Run, chosen_parameters, find_notebooks, run_notebooks
    from .report import write_report

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


def _add_record(commands: Any) -> None:
    parser = _add_command(commands, "record", _record, "run scenarios and save their recordings", _RECORD_EXAMPLES)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="without one, the scenarios are listed")
    parser.add_argument(
        "--out", type=Path, help="a Parquet file; a folder for several scenarios, which then take turns"
    )
    parser.add_argument("--frames", type=int, help="how many frames after the warm-up (default: the scenario's)")
    parser.add_argument("--period-us", type=float, help="the clock's period (default: measured where there is one)")
    _add_device(parser)


def _record(arguments: argparse.Namespace) -> int:
    from . import scenarios
    from .devices import open_device
    from .engines import open_engine
    from .frames import read_images

    names: list[str] = arguments.scenarios
    if not names:
        print(scenarios.listing())
        return 0
    out, frames, command = arguments.out, arguments.frames, arguments.command_line
    together = len(names) > 1
    if together:
        frames = 1_500 if frames is None else frames
        scenarios.check_together(names, frames)
    scenarios.check_name(names[0])
    if out is None:
        raise SettingsError("nowhere to record to", fix="add --out FILE, or --out FOLDER for several scenarios")
    if together and arguments.period_us is not None:
        raise SettingsError("loops on a clock cannot take turns", fix="run one scenario, or leave out --period-us")
    device = open_device(arguments.device, preset=arguments.preset)
    engine = open_engine(device)
    images = read_images("synthetic", 8) if engine.computes else None
    if together:
        recorded = scenarios.run_together(names, device, engine, images, frames=frames, command=command)
        recordings = {out / f"{name}.parquet": recording for name, recording in recorded.items()}
        for path, recording in recordings.items():
            recording.save(path)
    else:
        period_us = arguments.period_us
        recordings = {
            out: scenarios.run_scenario(
                names[0], device, engine, images, frames=frames, period_us=period_us, path=out, command=command
            )
        }
    for path, recording in recordings.items():
        print(f"{len(recording)} rows, {recording.source.stamp}: {path}")
    return 0


def _add_calibrate(commands: Any) -> None:
    parser = _add_command(commands, "calibrate", _calibrate, "measure a preset of this GPU for the simulated device")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the preset, a JSON file named after it"
    )
    _add_device(parser)


def _calibrate(arguments: argparse.Namespace) -> int:
    from .calibration import calibrate
    from .devices import open_device
    from .engines import open_engine
    from .frames import read_images

    if arguments.out.suffix != ".json":
        raise SettingsError(f"{arguments.out} is no name of a preset", fix=f"call it {arguments.out.name}.json")
    device = open_device(arguments.device, preset=arguments.preset)
    engine = open_engine(device)
    preset = calibrate(
        device,
        "yolov8n-fp16",
        engine,
        read_images("synthetic", 8) if engine.computes else None,
        name=arguments.out.stem,
        command=arguments.command_line,
        progress=lambda step: print(f"measuring {step}", flush=True),
    )
    preset.save(arguments.out)
    print(f"preset of {preset.gpu}: {arguments.out}")
    return 0


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=["auto", "cuda", "simulated"], default="auto", help="default: auto")
    parser.add_argument("--preset", default="h200", help="what the simulated device runs on: a name or a JSON file")
