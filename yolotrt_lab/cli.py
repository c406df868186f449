"""The command `yolotrt-lab`: a function for each subcommand, which imports what is heavy, and its options above it."""

from __future__ import annotations

import argparse
import io
import os
import sys
import textwrap
import time
from collections.abc import Sequence
from contextlib import suppress

from .errors import NotebookError, SettingsError, TraceError, plain
from .terminal import Commands, a_path, columns, exit_status, option, say, status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import numpy as np

    from .device import Device
    from .diagnose import Measured

_commands = Commands(
    {"trace": "Take, read and export traces of Nsight Systems."},
    prog="yolotrt-lab",
    description="Why does cudaStreamSynchronize get slower as a YOLOv8-TensorRT loop runs, and what fixes it?",
    epilog="Start with: yolotrt-lab doctor. The help of each command has examples, such as: yolotrt-lab run -h",
)
_command = _commands.register


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status; wrong usage exits with 2.

    >>> main(["record", "served-pinned"])
    2
    """
    typed = list(sys.argv[1:] if argv is None else argv)
    arguments = _commands.parser().parse_args(typed)
    import shlex

    arguments.typed, arguments.command_line = typed, shlex.join(["yolotrt-lab", *typed])
    debug = getattr(arguments, "debug", False) or bool(os.environ.get("YOLOTRT_LAB_DEBUG"))
    return exit_status(lambda: arguments.function(arguments), debug)


_DEVICE = (
    option("--device", choices=["auto", "cuda", "simulated"], default="auto", help="default: auto"),
    option("--preset", default="h200", help="what the simulated device runs on: a name or a JSON file"),
)


def _open_device(arguments: argparse.Namespace) -> tuple[Device, list[np.ndarray] | None]:
    """The device that the options name, and images for its loops; the engine of the simulated device reads none."""
    from .device import open_device
    from .frames import read_images

    device = open_device(arguments.device, preset=arguments.preset)
    return device, None if device.kind == "simulated" else read_images("synthetic", 8)


def _be_quick() -> None:
    """For commands that multiply no large matrices, before NumPy is imported.

    Starting OpenBLAS's threads, one a core, takes 0.11 s of the import's 0.27 s of CPU (two cores). In a virtual
    machine large pages of memory may be slow to get: 0.2 to 1.2 s for the bill of five million frames. Python's end
    looks through all objects for garbage, for 0.03 s.
    """
    import atexit
    import gc

    atexit.register(gc.freeze)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")


def _step(step: str) -> None:
    say(f"... {step}")  # not a spinner: its thread would disturb what is measured


@_command(option("--json", action="store_true", help="print JSON, for scripts"))
def _doctor(arguments: argparse.Namespace) -> int:
    """Say what is here, what is missing, and the command that installs it."""
    _be_quick()
    from . import doctor

    findings = doctor.examine()
    print(doctor.as_json(findings) if arguments.json else doctor.as_text(findings))
    return 0 if doctor.can_run(findings) else 1


@_command(
    option("notebooks", nargs="*", metavar="NOTEBOOK", help="a file, or the name of one of the lab's own"),
    option("-p", dest="given", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a parameter"),
    option("--device", choices=["cuda", "simulated"], help="the device to run on"),
    option("--out", type=a_path, default="build", metavar="FOLDER", help="default: build"),
    option("-j", "--jobs", type=int, metavar="N", help="notebooks at a time (default: all cores; on a GPU 1)"),
    option("--nsys", action="store_true", help="under Nsight Systems, into FOLDER/trace.sqlite"),
    option("--nsys-ranges", action="store_true", help="the same, of the first `with nsight.profiled():`"),
)
def _run(arguments: argparse.Namespace) -> None:
    """Run notebooks and write one report.

    examples:
      yolotrt-lab run 01 -p frames 2000                     one notebook, with another value for a parameter
      yolotrt-lab run mine.ipynb --out results              a notebook of your own; results in results/
      yolotrt-lab run 04_nsight --nsys-ranges               under nsys: the first `with nsight.profiled():`
    """
    if arguments.nsys or arguments.nsys_ranges:
        again = [each for each in arguments.typed if each not in ("--nsys", "--nsys-ranges")]
        options = ["--ranges"] * arguments.nsys_ranges + ["--out", str(arguments.out / "trace")]
        _trace_capture(_commands.parser().parse_args(["trace", "capture", *options, "--", "yolotrt-lab", *again]))
        return
    # jsonschema tries to import this checker of IRIs, which takes 1.5 s and which no notebook needs
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    import logging
    from datetime import datetime

    from .cuda import find_gpu, has_gpu
    from .notebooks import Run, chosen_parameters, find_notebooks, reserved, run_notebooks
    from .page import write_report

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it would log is in the report
    notebooks = find_notebooks(arguments.notebooks)
    parameters = chosen_parameters(notebooks, dict(arguments.given), arguments.device)
    if arguments.device == "cuda":
        find_gpu()
    if arguments.jobs is not None and arguments.jobs < 1:
        raise SettingsError(f"--jobs must be at least 1, got {arguments.jobs}", fix="leave it out to use all cores")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    measures = arguments.device == "cuda" or (arguments.device is None and has_gpu())
    jobs = min(arguments.jobs or (1 if measures else cores), len(notebooks))
    ended = 0

    def tell(run: Run) -> None:
        nonlocal ended
        ended += 1
        line = f"{'FAILED' if run.failure else 'ok':6}  {run.name}  {run.seconds:.1f} s  ({ended} of {len(notebooks)})"
        _write_above_bars(line, sys.stdout)
        if run.failure:
            _write_above_bars(plain(textwrap.indent(str(run.failure), " " * 8)), sys.stderr)

    with reserved(arguments.out):
        print(f"{len(notebooks)} notebooks, {jobs} at a time, into {arguments.out}", flush=True)
        how: dict[str, Any] = {"jobs": jobs, "progress": sys.stderr.isatty(), "done": tell}
        runs = run_notebooks(notebooks, parameters, arguments.out / "notebooks", **how)
        report = arguments.out / "report.html"
        print(f"report: {write_report(runs, report, made=datetime.now())}")
    if number := max(run.stopped for run in runs):
        raise KeyboardInterrupt(number)
    if failed := [run.name for run in runs if run.failure]:
        raise NotebookError(
            f"{len(failed)} of {len(runs)} notebooks failed: {', '.join(failed)}",
            fix=f"see the report, or the executed copies in {arguments.out / 'notebooks'}",
        )


def _write_above_bars(text: str, stream: Any) -> None:
    """Print while bars of progress may be on the screen."""
    from tqdm import tqdm

    tqdm.write(text, file=stream)
    stream.flush()


@_command(
    option("scenarios", nargs="*", metavar="SCENARIO", help="without one, the scenarios are listed"),
    option("--out", type=a_path, help="a Parquet file; a folder for several scenarios, which then take turns"),
    option("--force", action="store_true", help="overwrite recordings that lie there"),
    option("--frames", type=int, help="how many frames after the warm-up (default: the scenario's)"),
    option("--period-us", type=float, help="the clock's period (default: measured where there is one)"),
    option("--severity", type=float, default=1.0, help="how strong the cause is (default: 1)"),
    option("--no-telemetry", action="store_true", help="leave out the GPU's clocks, power and so on"),
    *_DEVICE,
)
def _record(arguments: argparse.Namespace) -> None:
    """Run scenarios and save their recordings.

    examples:
      yolotrt-lab record overload --out overload.parquet            on the GPU if there is one
      yolotrt-lab record served-report served-pinned --out folder   in turns, to compare them
    """
    from . import causes
    from .engine import open_engine
    from .files import check_output

    names, out, frames = arguments.scenarios, arguments.out, arguments.frames
    if not names:
        print(causes.listing())
        return
    together = len(names) > 1
    if together:
        frames = 1_500 if frames is None else frames
        causes.check_together(names, frames)
        if arguments.period_us is not None or arguments.severity != 1.0:
            raise SettingsError("--period-us and --severity are for one scenario", fix="leave them out, or run one")
    causes.check_name(names[0])
    if out is None:
        raise SettingsError("there is no --out to record to", fix="add --out FILE, or --out FOLDER for several")
    paths = {name: out / f"{name}.parquet" for name in names} if together else {names[0]: out}
    for path in paths.values():
        check_output(path, ".parquet", overwrite=arguments.force)
    device, images = _open_device(arguments)
    engine = open_engine(device)
    how = {"frames": frames, "telemetry": not arguments.no_telemetry, "command": arguments.command_line}
    how |= {"overwrite": arguments.force}
    if together:
        recordings = causes.run_together(names, device, engine, images, folder=out, **how)
    else:
        how |= {"period_us": arguments.period_us, "severity": arguments.severity, "path": out}
        recordings = {names[0]: causes.run_scenario(names[0], device, engine, images, **how)}
    for name, recording in recordings.items():
        print(f"{len(recording)} rows, {recording.source.stamp}: {paths[name]}")


_READING = (
    option("--unit", choices=["s", "ms", "us", "ns"], help="the unit of numbers that do not name theirs"),
    option("--pattern", metavar="REGEX", help="of a log line, with a named group for each time: (?P<infer_ms>[0-9.]+)"),
    option("--columns", metavar="NAMES", default="", help="of a table without a header: infer_ms,sync_ms"),
    option("--range", metavar="NAME", help="the NVTX range that is one frame of a trace"),
)


def _measured(arguments: argparse.Namespace, file: str) -> Measured:
    """Read a file, and say how far that is where it takes long; SettingsError for an option that it has no use for."""
    _be_quick()
    from . import diagnose

    told = time.monotonic()

    def progress(share: float) -> None:
        nonlocal told
        if time.monotonic() > told + 2:
            told = time.monotonic()
            _step(f"reading {file}: {share:.0%}")

    is_long = file == "-" or (os.path.exists(file) and os.path.getsize(file) > 1 << 26)  # noqa: PTH110, PTH202
    if is_long:
        _step(f"reading {file}")
    measured = diagnose.read(file, arguments.unit, arguments.pattern, progress if is_long else None, arguments.columns)
    if arguments.range is not None and measured.trace is None:
        what = f"--range must be for a report of Nsight Systems, got {measured.format}"
        raise SettingsError(what, fix="leave --range out")
    if arguments.unit is not None and (measured.trace is not None or measured.format == "recording of the lab"):
        what = f"--unit must be for times that name no unit, got {measured.format}"
        raise SettingsError(what, fix="leave --unit out")
    return measured


def _check_columns(arguments: argparse.Namespace, *read: Measured) -> None:
    """SettingsError for --columns where each file names its own."""
    if arguments.columns and not any(note.startswith("columns as told") for each in read for note in each.notes):
        what = f"--columns must be for a table without a header, got {', '.join(each.format for each in read)}"
        raise SettingsError(what, fix="leave --columns out")


@_command(
    option("file", metavar="FILE", help="a recording, a table, a log or a trace; - reads what comes by a pipe"),
    option("--json", action="store_true", help="print JSON, for scripts; the package holds the schema"),
    option("--html", type=a_path, metavar="FILE", help="write a page with the figure as well"),
    option(
        "--telemetry", type=a_path, metavar="FILE", help="clocks, power, processes with time stamps, as nvidia-smi logs"
    ),
    *_READING,
)
def _diagnose(arguments: argparse.Namespace) -> None:
    """Say where a loop's time goes, what grew, what explains it, and what a fix can buy at most.

    What holds no series of frames is said to be what it is; only what can't be read is an error.

    examples:
      yolotrt-lab diagnose times.csv --unit ms              a table or a log: one number a frame, or a column a stage
      yolotrt-lab diagnose report.nsys-rep --range step     a report of Nsight Systems, or its .sqlite export
      yolotrt-lab diagnose mine.parquet --html page.html    one page with the figure, to send to somebody
      yolotrt-lab diagnose times.csv --telemetry gpu.csv    with what nvidia-smi wrote meanwhile
    """
    from json import dumps as as_json

    from . import diagnose
    from .files import check_output, write_file

    check_output(arguments.html, ".html")
    read = [_measured(arguments, arguments.file)]
    if arguments.telemetry is not None:
        read.append(diagnose.read(arguments.telemetry, columns=arguments.columns))
    _check_columns(arguments, *read)
    measured = diagnose.join(*read) if len(read) > 1 else read[0]
    bill = diagnose.bill(measured, frame_range=arguments.range)
    if arguments.html is not None:
        write_file(arguments.html, diagnose.as_html(bill, measured, arguments.file))
    if arguments.json:
        print(as_json(bill.as_dict(), indent=1, ensure_ascii=False))
    else:
        print(diagnose.as_text(bill, columns(diagnose.WIDTH)))


@_command(
    option("before", metavar="BEFORE", help="a recording, a table, a log or a trace"),
    option("after", metavar="AFTER", help="the same after a fix"),
    *_READING,
)
def _compare(arguments: argparse.Namespace) -> None:
    """Print two bills side by side: what changed, and whether a fix did what the first bill said at most.

    examples:
      yolotrt-lab compare pageable.parquet pinned.parquet
    """
    from . import diagnose

    read = [_measured(arguments, file) for file in (arguments.before, arguments.after)]
    _check_columns(arguments, *read)
    before, after = (diagnose.bill(each, frame_range=arguments.range) for each in read)
    print(diagnose.compare(before, after, columns(diagnose.WIDTH)))


@_command(
    option("--out", type=a_path, default="trace", metavar="NAME", help="default: trace"),
    option("--ranges", action="store_true", help="record only the first `with nsight.profiled():`"),
    option("--graphs", choices=["graph", "node"], default="graph", help="CUDA graphs as one block, or node by node"),
    option("--frames", type=int, help="see that the trace holds that many whole frames at its end"),
    option("--keep-report", action="store_true", help="keep the .nsys-rep, with the environment in it"),
    option("command", nargs="+", metavar="COMMAND", help="what to run, after --"),
)
def _trace_capture(arguments: argparse.Namespace) -> None:
    """Run a command under nsys and keep its trace.

    examples:
      yolotrt-lab trace capture --out mine -- python loop.py
      yolotrt-lab trace capture --out mine -- yolotrt-lab record served-pinned --frames 50 --out mine.parquet
    """
    from .nsight import capture, read_trace

    command = arguments.command
    if command[0] == "yolotrt-lab":
        command = [sys.executable, "-m", "yolotrt_lab", *command[1:]]  # this lab, wherever the command is
    options = {"ranges": arguments.ranges, "graphs": arguments.graphs, "keep_report": arguments.keep_report}
    report = capture.capture_trace(command, arguments.out, **options)
    trace = read_trace(report)
    capture.check_trace(trace, frames=arguments.frames)
    print(f"{trace.count('kernels')} kernels, {trace.count('copies')} copies: {report}")


_REPORT = option("report", type=a_path, help="a .sqlite, or a .nsys-rep where there is an nsys")


@_command(_REPORT, option("--range", metavar="NAME", help="the NVTX range that is one frame"))
def _trace_show(arguments: argparse.Namespace) -> None:
    """Print where the time of a frame goes, and what that means."""
    from .diagnose.traced import traced_frames
    from .nsight.reports import read_trace
    from .nsight.trace_findings import trace_table

    trace = read_trace(arguments.report)
    traced = traced_frames(trace, arguments.range)
    if arguments.range is None and not traced.has_frames:
        with suppress(TraceError):  # a few frames are no loop, and can be shown all the same
            traced = traced_frames(trace, "frame")
    attribution = traced.seen
    print(trace_table({arguments.report.stem: attribution}))
    for way, direction in (("uploads", "h2d"), ("downloads", "d2h")):
        if attribution.missing or not attribution.copied("count", direction).any():
            continue
        print(f"of the time of {way}, kernels run during {attribution.overlap_share(direction):.1%}")
    for finding in traced.findings:
        print(f"\n{finding.kind}: {finding.text}")
    for note in filter(None, [traced.note, *attribution.notes]):
        print(f"\nnote: {note}")


@_command(
    _REPORT,
    option("--perfetto", type=a_path, metavar="FILE", required=True, help="a .json to write"),
)
def _trace_export(arguments: argparse.Namespace) -> None:
    """Write a trace for ui.perfetto.dev."""
    from .files import check_output
    from .nsight import read_trace, write_perfetto

    check_output(arguments.perfetto, ".json")
    print(f"open with ui.perfetto.dev: {write_perfetto(read_trace(arguments.report), arguments.perfetto)}")


@_command(
    option("--frames", type=int, default=5_000, help="frames of each rung (default: 5000)"),
    option("--rungs", type=int, nargs="+", metavar="N", help="which rungs (default: all)"),
    option("--json", type=a_path, metavar="FILE", help="write all figures there"),
    option("--plot", type=a_path, metavar="FILE", help="draw there which resource bounds each rung"),
    *_DEVICE,
)
def _bench(arguments: argparse.Namespace) -> None:
    """Measure the ladder beside the limits of the hardware.

    examples:
      yolotrt-lab bench --json ladder.json --plot ladder.png    all figures, and which resource bounds each rung
      yolotrt-lab bench --rungs 6 7 8 --frames 20000            some rungs, longer
    """
    from . import plots, speed
    from .files import check_output, write_file
    from .speed.ladder import check_frames

    rungs = arguments.rungs or [rung.number for rung in speed.RUNGS]
    speed.checked_rungs(rungs)
    check_frames(arguments.frames)
    check_output(arguments.json, ".json")
    check_output(arguments.plot, ".png", ".svg", ".pdf")
    device, images = _open_device(arguments)
    engines = speed.open_engines(device, _step)
    climbed = speed.climb(device, engines, images, frames=arguments.frames, rungs=rungs, progress=_step)
    print(climbed.table())
    print(climbed.limits_table())
    if climbed.claims:  # of rungs that could not be measured
        print(climbed.claims_table())
    if arguments.json is not None:
        climbed.save(arguments.json, command=arguments.command_line)
    if arguments.plot is not None:
        drawn, ax = plots.figure(height=1.2 + 0.6 * len(climbed.steps))
        speed.bounds(ax, climbed)
        plots.stamp(drawn, climbed.source)
        drawn.savefig(content := io.BytesIO(), dpi=150, format=arguments.plot.suffix[1:])
        write_file(arguments.plot, content.getvalue())


@_command(
    option("source", help='a video, an image, a folder of images, a camera\'s number, or "synthetic"'),
    option("--model", type=a_path, metavar="FILE", help="a YOLO detector in ONNX (default: the lab's own)"),
    option("--out", type=a_path, required=True, metavar="DIR", help="drawn images and boxes.json go here"),
    option("--limit", type=int, metavar="N", help="at most N frames (default: all; 100 of an endless source)"),
    option("--confidence", type=float, default=0.25, help="boxes below it are left out (default: 0.25)"),
    option("--iou", type=float, default=0.7, help="of boxes that overlap by more, the best stays (default: 0.7)"),
    option("--max-detections", type=int, default=300, metavar="N", help="at most N boxes a frame (default: 300)"),
    option("--classes", nargs="+", metavar="CLASS", help="these alone, by name or number (default: all)"),
    option("--imgsz", type=int, nargs="+", metavar="N", help="side, or height and width, for a model of open sizes"),
    option("--labels", action="store_true", help="labels/*.txt for each frame as well, as Ultralytics reads them"),
    option(
        "--engine", choices=["auto", "tensorrt", "onnxruntime"], default="auto", help="default: what fits the machine"
    ),
)
def _detect(arguments: argparse.Namespace) -> None:
    """Draw a detector's boxes in images, a video or a camera's frames, and write them as JSON.

    examples:
      yolotrt-lab detect synthetic --limit 20 --out boxes           the lab's own detector on its own scene
      yolotrt-lab detect clip.mp4 --model yolov8n.onnx --out boxes  a model exported by Ultralytics on a video
      yolotrt-lab detect 0 --model yolov8n.onnx --out boxes         100 frames of the first camera
      yolotrt-lab detect photos --model yolo11n.onnx --classes person dog --labels --out boxes
    """
    from .detector import annotate, open_detector
    from .frames import open_frames
    from .packages import shipped_model

    with open_frames(arguments.source) as source:
        model = arguments.model or shipped_model()
        about = {"source": arguments.source, "model": model.name}
        if arguments.model is None and arguments.source != "synthetic":
            _step("the lab's own model knows machine parts alone; for anything else add --model FILE")
        how = {name: getattr(arguments, name) for name in ("engine", "confidence", "iou", "max_detections", "classes")}
        detector = open_detector(model, image_size=_size(arguments.imgsz), **how)
        frames = annotate(
            source,
            detector,
            arguments.out,
            limit=arguments.limit,
            labels=arguments.labels,
            about=about,
            progress=lambda done: status(f"{done} frames done"),
            on_skip=lambda what: _step(f"left out: {what}"),
        )
        status("")
    count = sum(len(frame["boxes"]) for frame in frames)
    boxes, of = "box" if count == 1 else "boxes", "frame" if len(frames) == 1 else "frames"
    print(f"{count} {boxes} in {len(frames)} {of} by {detector.engine.label}: {arguments.out}")


def _size(sides: list[int] | None) -> tuple[int, int] | None:
    if sides is not None and len(sides) > 2:
        raise SettingsError(f"--imgsz must be one or two numbers, got {len(sides)}", fix="use --imgsz 640")
    return None if sides is None else (sides[0], sides[-1])


@_command(
    option("--out", type=a_path, required=True, metavar="FILE", help="the preset, a JSON file named after it"),
    *_DEVICE,
)
def _calibrate(arguments: argparse.Namespace) -> None:
    """Measure a preset of this GPU for the simulated device, in some minutes.

    examples:
      yolotrt-lab calibrate --out mine.json
      yolotrt-lab bench --device simulated --preset mine.json    the ladder on the simulation of this GPU
    """
    from .files import check_output
    from .simulate import BATCHES, calibrate
    from .speed import open_engines

    out = arguments.out
    check_output(out, ".json")
    if arguments.device == "auto":
        arguments.device = "cuda"  # a preset of the simulation is for those who ask for it by name
    device, images = _open_device(arguments)
    batches = open_engines(device, _step, batches=(1, *BATCHES))
    engine, made = batches.pop(1), {"name": out.stem, "command": arguments.command_line}
    preset = calibrate(device, "yolov8n-fp16", engine, images, batches=batches, progress=_step, **made)
    preset.save(out)
    print(f"preset {preset.label} of {preset.gpu}: {out}")


@_command()
def _completion(arguments: argparse.Namespace) -> None:
    """Print a script that completes what can be typed, for ~/.bashrc or ~/.zshrc: eval "$(yolotrt-lab completion)"."""
    from .causes import COPIES, SCENARIOS
    from .notebooks import find_notebooks

    words = {"record": [*SCENARIOS, COPIES], "run": [path.stem for path in find_notebooks()]}
    print(_commands.completion(words), end="")
