"""What subcommands share: how one is registered, and the options that name a device."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import NotebookError, SettingsError

if TYPE_CHECKING:
    from .diagnose.findings import Diagnosis
    from .diagnose.measurements import Measurements
import io
import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from . import __version__
from .errors import LabError


def add_command(
    commands: Any, name: str, function: Callable[[argparse.Namespace], int], summary: str, examples: str = ""
) -> argparse.ArgumentParser:
    """Register a subcommand whose work `function` does; returns its parser, for options."""
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


def add_device(parser: argparse.ArgumentParser) -> None:
    """`--device` and `--preset`."""
    parser.add_argument("--device", choices=["auto", "cuda", "simulated"], default="auto", help="default: auto")
    parser.add_argument("--preset", default="h200", help="what the simulated device runs on: a name or a JSON file")


def add_engine(parser: argparse.ArgumentParser) -> None:
    """`--engine`."""
    parser.add_argument(
        "--engine",
        choices=["auto", "tensorrt", "onnxruntime"],
        default="auto",
        help="what computes the boxes: TensorRT on the GPU, ONNX Runtime on the CPU, or whichever fits (default: auto)",
    )


@contextmanager
def progress_line(what: str) -> Iterator[Callable[[int], None] | None]:
    """A function to call with how much is done, shown on a line of a terminal and wiped at the end.

    None where stderr is no terminal.
    """
    if not sys.stderr.isatty():
        yield None
        return
    try:
        yield lambda done: print(f"\r{done} {what}", end="", file=sys.stderr, flush=True)
    finally:
        print(f"\r{'':79}\r", end="", file=sys.stderr, flush=True)


# `yolotrt-lab doctor`.


def _add_doctor(commands: Any) -> None:
    """Register the subcommand."""
    summary = "say what is here, what is missing, and the command that installs it"
    parser = add_command(commands, "doctor", _doctor, summary)
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def _doctor(arguments: argparse.Namespace) -> int:
    from . import doctor

    findings = doctor.examine()
    print(doctor.as_json(findings) if arguments.json else doctor.as_text(findings))
    return 0 if doctor.can_run(findings) else 1


# `yolotrt-lab run`.


_RUN_EXAMPLES = """examples:
  yolotrt-lab run                           every notebook of the lab, in name order
  yolotrt-lab run 01_reproduce              one of them, by name
  yolotrt-lab run -p frames 2000            with another value for a parameter
  yolotrt-lab run mine.ipynb --out results  a notebook of your own; results in results/
  yolotrt-lab run 04_nsight --nsys-ranges   under nsys: the first `with nsight.profiled():`, to build/trace.sqlite
"""


def _add_run(commands: Any) -> None:
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

    from .doctor import find_driver
    from .notebooks import Run, chosen_parameters, find_notebooks, run_notebooks, write_report

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
    from .nsight.capture import capture_trace, check_trace
    from .nsight.reports import read_trace

    again = [each for each in arguments.typed if each not in ("--nsys", "--nsys-ranges")]
    command = [sys.executable, "-m", "yolotrt_lab", *again]
    report = capture_trace(command, arguments.out / "trace", ranges=arguments.nsys_ranges)
    check_trace(read_trace(report))
    print(f"trace: {report}")
    return 0


# `yolotrt-lab record`.


_RECORD_EXAMPLES = """examples:
  yolotrt-lab record                                        list the scenarios
  yolotrt-lab record overload --out overload.parquet        on the GPU if there is one
  yolotrt-lab record copies --device simulated --out copies.parquet
  yolotrt-lab record served-report served-pinned --out folder   in turns, to compare them
  yolotrt-lab record shared-gpu --severity 0.5 --out shared.parquet    with half as many neighbours
"""


def _add_record(commands: Any) -> None:
    """Register the subcommand."""
    parser = add_command(commands, "record", _record, "run scenarios and save their recordings", _RECORD_EXAMPLES)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="without one, the scenarios are listed")
    parser.add_argument(
        "--out", type=Path, help="a Parquet file; a folder for several scenarios, which then take turns"
    )
    parser.add_argument("--frames", type=int, help="how many frames after the warm-up (default: the scenario's)")
    parser.add_argument("--period-us", type=float, help="the clock's period (default: measured where there is one)")
    parser.add_argument("--severity", type=float, default=1.0, help="how strong the cause is (default: 1)")
    parser.add_argument("--no-telemetry", action="store_true", help="leave out the GPU's clocks, power and so on")
    add_device(parser)


def _record(arguments: argparse.Namespace) -> int:
    from . import causes as scenarios
    from .device import open_device
    from .engine import open_engine
    from .frames import read_images

    names: list[str] = arguments.scenarios
    if not names:
        print(scenarios.listing())
        return 0
    out, frames, command = arguments.out, arguments.frames, arguments.command_line
    together, telemetry = len(names) > 1, not arguments.no_telemetry
    if together:
        frames = 1_500 if frames is None else frames
        scenarios.check_together(names, frames)
    scenarios.check_name(names[0])
    if out is None:
        raise SettingsError("nowhere to record to", fix="add --out FILE, or --out FOLDER for several scenarios")
    if together and arguments.period_us is not None:
        raise SettingsError("loops on a clock cannot take turns", fix="run one scenario, or leave out --period-us")
    if together and arguments.severity != 1.0:
        raise SettingsError("a severity is for one scenario", fix="run one scenario, or leave out --severity")
    device = open_device(arguments.device, preset=arguments.preset)
    engine = open_engine(device)
    images = read_images("synthetic", 8) if engine.computes else None
    if together:
        recorded = scenarios.run_together(
            names, device, engine, images, frames=frames, telemetry=telemetry, command=command
        )
        recordings = {out / f"{name}.parquet": recording for name, recording in recorded.items()}
        for path, recording in recordings.items():
            recording.save(path)
    else:
        period_us = arguments.period_us
        recordings = {
            out: scenarios.run_scenario(
                names[0],
                device,
                engine,
                images,
                frames=frames,
                period_us=period_us,
                severity=arguments.severity,
                telemetry=telemetry,
                path=out,
                command=command,
            )
        }
    for path, recording in recordings.items():
        print(f"{len(recording)} rows, {recording.source.stamp}: {path}")
    return 0


# `yolotrt-lab diagnose`.


_DIAGNOSE_EXAMPLES = """examples:
  yolotrt-lab diagnose recording.parquet              a recording of the lab
  yolotrt-lab diagnose times.csv --unit ms            a table or a log: one number a frame, or a column a stage
  yolotrt-lab diagnose report.nsys-rep                a report of Nsight Systems, or its .sqlite export
  yolotrt-lab diagnose times.csv --json               for scripts; the package holds the schema
  yolotrt-lab diagnose times.csv --html page.html     one page with the figure, to send to somebody
"""


def _add_diagnose(commands: Any) -> None:
    """Register the subcommand."""
    parser = add_command(
        commands, "diagnose", _diagnose, "say why a loop gets slower, from its timings", _DIAGNOSE_EXAMPLES
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a recording, a table, a log or a trace")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with the figure as well")
    parser.add_argument("--unit", choices=["s", "ms", "us", "ns"], help="the unit of numbers that do not name theirs")


def _diagnose(arguments: argparse.Namespace) -> int:
    from .diagnose.file import judge_file

    measurements, diagnosis = judge_file(arguments.file, unit=arguments.unit)
    if arguments.html is not None:
        _write_page(arguments.html, arguments.file.name, measurements, diagnosis)
    print(json.dumps(diagnosis.as_dict(), indent=1, ensure_ascii=False) if arguments.json else diagnosis)
    return 0


def _write_page(path: Path, name: str, measurements: Measurements, diagnosis: Diagnosis) -> None:
    from .diagnose.page import as_html
    from .plots import diagnosed
    from .plots.style import as_svg

    page = as_html(diagnosis, as_svg(diagnosed(measurements, diagnosis)), f"Why {name} gets slower")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error}", fix="name another place") from error


# `yolotrt-lab trace`.


_CAPTURE_EXAMPLES = """examples:
  yolotrt-lab trace capture --out mine -- python loop.py
  yolotrt-lab trace capture --out mine -- yolotrt-lab record served-pinned --frames 50 --out mine.parquet
  yolotrt-lab trace capture --ranges --out mine -- python loop.py    only what runs in `with nsight.profiled():`
  yolotrt-lab trace capture --graphs node --out mine -- python loop.py    each copy and kernel of a CUDA graph by itself
"""


def _add_trace(commands: Any) -> None:
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
    from .nsight.capture import capture_trace, check_trace
    from .nsight.reports import read_trace

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
    from .diagnose.traced import attribution_of
    from .nsight.findings import findings
    from .nsight.reports import read_trace
    from .tables import trace_table

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
    from .nsight.perfetto import write_perfetto
    from .nsight.reports import read_trace

    if arguments.perfetto is None:
        raise SettingsError("nowhere to export to", fix="add --perfetto FILE.json")
    print(f"open with ui.perfetto.dev: {write_perfetto(read_trace(arguments.report), arguments.perfetto)}")
    return 0


# `yolotrt-lab bench`.


_BENCH_EXAMPLES = """examples:
  yolotrt-lab bench                          the ladder, rung by rung, beside the limits of this GPU
  yolotrt-lab bench --full --json FILE       also what is claimed of it: some minutes
  yolotrt-lab bench --rungs 6 7 8 --frames 20000
  yolotrt-lab bench --peers --plot FILE.png  other packages beside it, and which resource bounds each rung
"""


def _add_bench(commands: Any) -> None:
    """Register the subcommand."""
    parser = add_command(
        commands, "bench", _bench, "measure the ladder beside the limits of the hardware", _BENCH_EXAMPLES
    )
    parser.add_argument("--frames", type=int, default=5_000, help="frames of each rung (default: 5000)")
    parser.add_argument("--rungs", type=int, nargs="+", metavar="N", help="which rungs (default: all)")
    parser.add_argument("--full", action="store_true", help="measure what is claimed of the ladder too")
    parser.add_argument(
        "--peers", action="store_true", help="measure other packages too, those installed: ultralytics, torch, trtutils"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw there which resource bounds each rung")
    add_device(parser)


def _bench(arguments: argparse.Namespace) -> int:
    from .device import open_device
    from .frames import read_images
    from .speed import ladder

    rungs = [rung.number for rung in ladder.checked_rungs(arguments.rungs or [each.number for each in ladder.RUNGS])]
    ladder.check_frames(arguments.frames)
    device = open_device(arguments.device, preset=arguments.preset)
    engines = ladder.open_engines(device, _progress)
    images = read_images("synthetic", 8) if engines[1].computes else None
    climbed = ladder.climb(device, engines, images, frames=arguments.frames, rungs=rungs, progress=_progress)
    try:
        print(climbed.table(), flush=True)
        _save(climbed, arguments)
        if arguments.full:
            bench = ladder.Bench(device, engines, images, climbed.confidence)
            measured = ladder.measure_claims(bench, climbed, frames=arguments.frames, progress=_progress)
            for claim in chain(measured, ladder.result_claims(bench, climbed.limits, progress=_progress)):
                climbed = replace(climbed, claims=(*climbed.claims, claim))
                _save(climbed, arguments)
            print(climbed.claims_table(), flush=True)
        if arguments.peers:  # last: what they import must not burden what is measured of the ladder
            climbed = replace(climbed, peers=_peers(images))
        print(climbed.limits_table())
    finally:  # what was measured is kept whatever comes
        _save(climbed, arguments)
    if arguments.plot is not None:
        _plot(climbed, arguments.plot)
    return 0


def _save(climbed: Any, arguments: argparse.Namespace) -> None:
    """Write the figures so far, where a file is named for them."""
    if arguments.json is not None:
        figures = {**climbed.as_dict(), "command": arguments.command_line}
        _write(arguments.json, json.dumps(figures, indent=1) + "\n")


def _progress(step: str) -> None:
    print(f"... {step}", file=sys.stderr, flush=True)


def _peers(images: Any) -> dict[str, float | str]:
    from .detector.yolov8 import build_model
    from .speed import ladder

    if images is None:
        return {"all": "they need a GPU"}
    _progress("measuring peers")
    return ladder.measure_peers(images[0], build_model("n", precision="fp16"))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error}", fix="name another place") from error


def _plot(climbed: Any, path: Path) -> None:
    from . import plots, speed

    drawn, ax = plots.figure(height=1.2 + 0.6 * len(climbed.steps))
    speed.bounds(ax, {f"{s.rung.number} {s.rung.name}": (s.together.frame_us, s.bounds_us) for s in climbed.steps})
    plots.stamp(drawn, climbed.source)
    try:
        drawn.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be drawn: {error}", fix="name a file such as ladder.png") from error


# `yolotrt-lab detect`.


_DETECT_EXAMPLES = """examples:
  yolotrt-lab detect synthetic --limit 20 --out boxes          the lab's own detector on its own scene
  yolotrt-lab detect clip.mp4 --model yolov8n.onnx --out boxes a model exported by Ultralytics on a video
  yolotrt-lab detect photos --model mine.onnx --out boxes      the images of a folder
  yolotrt-lab detect 0 --model yolov8n.onnx --out boxes        100 frames of the first camera
"""


def _add_detect(commands: Any) -> None:
    """Register the subcommand."""
    summary = "draw a detector's boxes in images, a video or a camera's frames, and write them as JSON"
    parser = add_command(commands, "detect", _detect, summary, _DETECT_EXAMPLES)
    parser.add_argument(
        "source", metavar="SOURCE", help='a video, an image, a folder of images, a camera\'s number, or "synthetic"'
    )
    parser.add_argument("--model", type=Path, metavar="FILE", help="a YOLOv8 detector in ONNX (default: the lab's own)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="drawn images and boxes.json go here")
    parser.add_argument(
        "--limit", type=int, metavar="N", help="at most N frames (default: all; 100 of an endless source)"
    )
    parser.add_argument("--confidence", type=float, default=0.25, help="boxes below it are left out (default: 0.25)")
    parser.add_argument(
        "--iou", type=float, default=0.7, help="of boxes that overlap by more, the best stays (default: 0.7)"
    )
    add_engine(parser)


def _detect(arguments: argparse.Namespace) -> int:
    from .detector.detect import annotate, open_detector
    from .frames import open_frames
    from .packages import shipped_model

    with open_frames(arguments.source) as source:
        model = arguments.model or shipped_model()
        about = {"source": arguments.source, "model": model.name}
        detector = open_detector(model, engine=arguments.engine, confidence=arguments.confidence, iou=arguments.iou)
        with progress_line("frames done") as progress:
            frames = annotate(source, detector, arguments.out, limit=arguments.limit, about=about, progress=progress)
    count = sum(len(frame["boxes"]) for frame in frames)
    print(f"{count} boxes in {len(frames)} frames by {detector.engine.label}: {arguments.out}")
    return 0


# `yolotrt-lab calibrate`.


_NOTES = """\
It builds engines for batches of up to 16 first, and then measures for a minute or two. It does not measure what other
processes on the GPU cost, nor memory that stays registered: scenarios that need these say so.

examples:
  yolotrt-lab calibrate --out mine.json                        measure this GPU
  yolotrt-lab bench --device simulated --preset mine.json      run the ladder on its simulation
"""


def _add_calibrate(commands: Any) -> None:
    """Register the subcommand."""
    summary = "measure a preset of this GPU for the simulated device"
    parser = add_command(commands, "calibrate", _calibrate, summary, _NOTES)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the preset, a JSON file named after it"
    )
    add_device(parser)


def _calibrate(arguments: argparse.Namespace) -> int:
    from .device import open_device
    from .frames import read_images
    from .simulate import BATCHES, calibrate
    from .speed.ladder import open_engines

    if arguments.out.suffix != ".json":
        raise SettingsError(f"{arguments.out} is no name of a preset", fix=f"call it {arguments.out.name}.json")
    device = open_device(arguments.device, preset=arguments.preset)
    batches = open_engines(device, _say, batches=(1, *BATCHES))
    engine = batches.pop(1)
    preset = calibrate(
        device,
        "yolov8n-fp16",
        engine,
        read_images("synthetic", 8) if engine.computes else None,
        name=arguments.out.stem,
        command=arguments.command_line,
        batches=batches,
        progress=lambda step: _say(f"measuring {step}"),
    )
    preset.save(arguments.out)
    print(f"preset of {preset.gpu}: {arguments.out}")
    return 0


def _say(step: str) -> None:
    print(step, flush=True)


# The command `yolotrt-lab`.
#
# Each subcommand is a module with `add`, which registers its options, and one function that does the work with them and
# returns the exit status. Whatever is heavy is imported by the latter.


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
    for add in (_add_doctor, _add_run, _add_record, _add_diagnose, _add_trace, _add_detect, _add_bench, _add_calibrate):
        add(commands)
    return parser
