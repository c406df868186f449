"""Record the public report's curve, cameras, their traces and what the notebooks show, one after the other on one GPU:
`python scripts/record_report.py FOLDER`, about 8 minutes on an H200. Everything is in FOLDER/recordings.tar.gz too.

`--only` runs some of the steps, each of which is a process of its own (`report` and `traces` share one, so that the
traces are taken while the same other processes run). What a step has recorded is saved at once.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from yolotrt_lab import nsight
from yolotrt_lab.causes import shared_gpu
from yolotrt_lab.causes.catalogue import SCENARIOS
from yolotrt_lab.causes.faults import Run
from yolotrt_lab.causes.running import run_scenario, run_together, with_telemetry
from yolotrt_lab.causes.shared_gpu import Group, group_of
from yolotrt_lab.cuda import DOMAIN
from yolotrt_lab.device import Device, open_device
from yolotrt_lab.engine import Engine, LendingEngine, open_engine
from yolotrt_lab.errors import LabError
from yolotrt_lab.frames import read_images
from yolotrt_lab.loop import FrameLoop, LoopSettings
from yolotrt_lab.recording import Recording
from yolotrt_lab.simulate import Conditions, SimulatedDevice
from yolotrt_lab.telemetry import Telemetry
from yolotrt_lab.types import Stage

NEEDED = ("PATH", "HOME", "PYTHONPATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
ENVIRONMENT = {name: os.environ[name] for name in NEEDED if name in os.environ}
"""Of this process's environment only what a CUDA program needs to start."""

STEPS = ("report", "traces", "cameras", "served")
TOGETHER = ("report", "traces")
FRAMES = {"report": 250, "cameras": 400}
TRACED_FRAMES, TWIN_FRAMES = 40, 200

_PAGEABLE = SCENARIOS["report"].settings
LOOPS: dict[str, LoopSettings] = {
    "report-a": _PAGEABLE,  # alone
    "report-b": _PAGEABLE,  # beside all
    "report-c": _PAGEABLE,  # beside all, and then pinned
    "graph-pageable": SCENARIOS["graph-pageable"].settings,
    "graph-pinned": SCENARIOS["graph-pinned"].settings,
}
SMALL_OUTPUT = ("report-a", "report-b", "report-c")
PROFILED = ("report-a", "graph-pageable", "graph-pinned")
MEASURED = (Stage.PREPROCESS, Stage.UPLOAD, Stage.INFER, Stage.SYNCHRONIZE)

TURNS = (
    ("served-report", "served-pageable", "served-copied", "served-pinned", "trap-allocate", "trap-bypass"),
    ("graph-pageable", "graph-pinned", "moved-wait", "plain-pageable", "plain-pinned", "served-boxes"),
)
SAME_CLOCK = (("overload", "overload-pinned"), ("clocked", "clocked-fixed"))
ALONE = {
    **dict.fromkeys(("late", "late-pinned", "steady", "shared-stream", "shared-stream-event", "leak", "leak-released")),
    **dict.fromkeys(("launch-queue", "launch-queue-bounded"), 1_000),
    "copies": None,
    "clock-drop": 200,
    "clock-drop-busy": 1_500,
    "shared-gpu": 1_200,
    "shared-gpu-pinned": 1_200,
}
"""Frames of the loops that run by themselves; None: the scenario's."""

WARM_UP_FRAMES = 600
PART_BYTES = 15 << 20
"""A file that comes back from a borrowed machine may have 16 MiB."""


class Lab:
    """The device of one step, its engines and images, and where recordings go. `frames` shortens everything."""

    def __init__(self, folder: Path, device: str, frames: int | None) -> None:
        self.folder, self.frames = folder, frames
        self.device: Device = open_device(device)
        self.engine: Engine = LendingEngine(open_engine(self.device))
        self.images: Any = None if self.simulated else read_images("synthetic", 8)
        self.failed: list[str] = []

    @property
    def simulated(self) -> bool:
        """True on the simulated device."""
        return isinstance(self.device, SimulatedDevice)

    def boxes(self) -> Engine:
        """The engine with a small output."""
        return LendingEngine(open_engine(self.device, boxes=shared_gpu.BOXES))

    def save(self, recording: Recording, name: str = "") -> Recording:
        """Under its label, or that name."""
        path = self.folder / f"{name or recording.label}.parquet"
        replace(recording, command=command_line()).save(path)
        print(f"  {len(recording)} rows, {path.stat().st_size:,} bytes: {path.name}", flush=True)
        return recording

    def attempt(self, name: str, work: Callable[[], Any]) -> Any:
        """What `work` returns; where it fails, None, and the others go on."""
        start = time.perf_counter()
        try:
            return work()
        except Exception as error:  # the others are worth having
            self.failed.append(name)
            print(f"FAILED {name}: {type(error).__name__}: {error}", flush=True)
            return None
        finally:
            print(f"{name}: {time.perf_counter() - start:.1f} s", flush=True)


def command_line() -> str:
    """What goes into the recordings; no path of this machine."""
    return shlex.join(["python", "scripts/record_report.py", "FOLDER"])


# The steps


def report(lab: Lab, steps: Sequence[str]) -> None:
    """The curve; with `traces` among the steps, B and C are traced while the same processes run, and A after them."""
    settings = replace(_PAGEABLE, frames=lab.frames or FRAMES["report"])
    run = Run(lab.device, lab.boxes(), settings, lab.images)
    with run.stack:
        if isinstance(lab.device, SimulatedDevice):
            lab.device.use(Conditions())
        group = group_of(run)
        telemetry = Telemetry(lab.device)
        pieces: list[Recording] = []
        with telemetry:
            if "report" in steps:
                curve = shared_gpu.Curve(run, group)
                levels = curve.levels([*shared_gpu.ARRIVING, *shared_gpu.CURED])
                lab.attempt("arriving", lambda: pieces.extend(levels))
                lab.save(replace(curve.recording(pieces), label="report"))  # the rest may fail
            if "traces" in steps:
                traces_beside(lab, group)
            if "report" in steps:
                lab.attempt("alone again", lambda: pieces.extend(curve.levels(shared_gpu.ALONE_AGAIN)))
        if pieces:
            lab.save(with_telemetry(replace(curve.recording(pieces), label="report"), telemetry))
        group.become(0)
    if "traces" in steps:
        traces_alone(lab)


def cameras(lab: Lab, steps: Sequence[str]) -> None:
    """Threads with a stream each."""
    lab.save(run_scenario("cameras", lab.device, lab.engine, lab.images, frames=lab.frames or FRAMES["cameras"]))


def served(lab: Lab, steps: Sequence[str]) -> None:
    """What the notebooks show today. The warm-up comes first: nothing has run in this process yet."""

    def one(name: str, frames: int | None = None, **how: Any) -> Recording:
        frames = lab.frames or frames
        return lab.save(run_scenario(name, lab.device, lab.engine, lab.images, frames=frames, **how))

    lab.attempt("warm-up", lambda: one("warm-up", WARM_UP_FRAMES))
    for growing, flat in SAME_CLOCK:
        first = lab.attempt(growing, lambda growing=growing: one(growing))
        if first is not None:
            period_us = first.settings["period_us"]
            lab.attempt(flat, lambda flat=flat, period_us=period_us: one(flat, period_us=period_us))
    for names in TURNS:
        lab.attempt("in turns", lambda names=names: in_turns(lab, names))
    for name, frames in ALONE.items():
        lab.attempt(name, lambda name=name, frames=frames: one(name, frames))


def in_turns(lab: Lab, names: Sequence[str]) -> None:
    """Loops that are compared stage by stage."""
    for recording in run_together(names, lab.device, lab.engine, lab.images, frames=lab.frames or 1_500).values():
        lab.save(recording)


RUN: dict[str, Callable[[Lab, Sequence[str]], None]] = {
    "report": report,
    "traces": report,
    "cameras": cameras,
    "served": served,
}


# Traces, each of a process of its own


def traces_beside(lab: Lab, group: Group) -> None:
    """B and C, beside the processes that are there or all of them."""
    if lab.simulated:
        return
    group.become(shared_gpu.CURED[0].processes)
    while not group.busy:
        time.sleep(0.1)
    for name in ("report-b", "report-c"):
        lab.attempt(f"trace {name}", lambda name=name: capture(lab.folder, name, TRACED_FRAMES))


def traces_alone(lab: Lab) -> None:
    """A, and what the profiler adds: medians of the loop's own timers, untraced and traced."""
    if not lab.simulated:
        lab.attempt("trace report-a", lambda: capture(lab.folder, "report-a", TRACED_FRAMES))
    table: dict[str, dict[str, Any]] = {}
    for name in PROFILED:
        hows = {"untraced": lambda name=name: untraced(lab, name)}
        if not lab.simulated:
            hows |= {
                f"nsys, graphs by {graphs}": lambda name=name, graphs=graphs: twin(lab, name, graphs)
                for graphs in ("graph", "node")
            }
        for how, work in hows.items():
            if (recording := lab.attempt(f"{name}, {how}", work)) is not None:
                table.setdefault(name, {})[how] = medians_us(recording)
        (lab.folder / "profiler.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def medians_us(recording: Recording) -> dict[str, float]:
    """Of the steady frames: the stages that differ, and the frame from its start to its end."""
    steady = recording.steady
    frame = steady.columns["done_ns"] - steady.columns["start_ns"]
    stages = {str(stage): float(np.median(steady.stage_ns(stage))) / 1e3 for stage in MEASURED}
    return {**stages, "frame": float(np.median(frame)) / 1e3, "frames": len(steady)}


def untraced(lab: Lab, name: str) -> Recording:
    """The loop in such a process, without a profiler."""
    out = f"untraced-{name}"
    command = loop_command(lab.folder, name, out, lab.frames or TWIN_FRAMES, lab.device.kind)
    subprocess.run(command, check=True, env=ENVIRONMENT)
    return Recording.load(lab.folder / f"{out}.parquet")


def twin(lab: Lab, name: str, graphs: str) -> Recording:
    """The loop under nsys; its trace is not kept, so it need not be imported."""
    out = f"nsys-{graphs}-{name}"
    command = loop_command(lab.folder, name, out, TWIN_FRAMES, "cuda")
    with tempfile.TemporaryDirectory() as thrown_away:
        line = nsight.Nsys.open().command_line(Path(thrown_away, out), command, ranges=True, graphs=graphs)
        subprocess.run(line, env=ENVIRONMENT)  # without an importer it may end with a status
    return Recording.load(lab.folder / f"{out}.parquet")


def capture(folder: Path, name: str, frames: int) -> None:
    """Trace a loop in an empty environment: the report, its scrubbed .sqlite and the loop's own recording."""
    target = folder / name
    command = loop_command(folder, name, name, frames, "cuda")
    how: dict[str, Any] = {"ranges": True, "keep_report": True, "domain": DOMAIN}
    try:
        nsight.capture_trace(command, target, environment=ENVIRONMENT, **how)
    except LabError:
        if not target.with_suffix(".qdstrm").exists() or not (importer := shutil.which("qdstrm-import")):
            raise
        subprocess.run([importer, str(target)], check=True)
        target.with_suffix(".qdstrm").unlink()
        nsight.scrub(target.with_suffix(".sqlite"))
    recorded = len(Recording.load(folder / f"{name}.parquet"))
    nsight.check_trace(nsight.read_trace(target.with_suffix(".sqlite")), frames=recorded)


def loop_command(folder: Path, name: str, out: str, frames: int, device: str) -> list[str]:
    """The command of a process that runs one loop."""
    command = [sys.executable, str(Path(__file__).resolve()), str(folder.resolve()), "--loop", name, "--out", out]
    return [*command, "--frames", str(frames), "--device", device]


def run_loop(folder: Path, name: str, out: str, frames: int, device_name: str) -> None:
    """Such a process: warm up, then run the loop inside the range that nsys records."""
    device = open_device(device_name)
    engine = LendingEngine(open_engine(device, boxes=shared_gpu.BOXES if name in SMALL_OUTPUT else None))
    images = None if device.kind == "simulated" else read_images("synthetic", 8)
    settings = replace(LOOPS[name], frames=frames, warmup=3)
    if name in SMALL_OUTPUT:
        loop = shared_gpu.report_loop(Run(device, engine, settings, images), pinned=name == "report-c")
    else:
        loop = FrameLoop(device, engine, settings, images)
    loop.run()  # as many frames unrecorded: contexts, caches and clocks are warm
    with nsight.profiled():
        recording = loop.run(label=name)
    replace(recording, command=command_line()).save(folder / f"{out}.parquet")


# Packing, and the program


def pack(folder: Path) -> None:
    """All files of the folder in recordings.tar.gz, cut into parts where it is large."""
    archive = folder / "recordings.tar.gz"
    for old in folder.glob("recordings.tar.gz*"):
        old.unlink()
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    with tarfile.open(archive, "w:gz") as tar:
        for path in files:
            tar.add(path, arcname=path.name, filter=nameless)
    content = archive.read_bytes()
    print(f"packed {len(files)} files, {len(content):,} bytes", flush=True)
    if len(content) > PART_BYTES:  # cat recordings.tar.gz.part* > recordings.tar.gz
        for number, begin in enumerate(range(0, len(content), PART_BYTES)):
            (folder / f"{archive.name}.part{number}").write_bytes(content[begin : begin + PART_BYTES])
        archive.unlink()


def nameless(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the name of the user."""
    member.uname = member.gname = ""
    member.uid = member.gid = 0
    return member


def processes(steps: Iterable[str]) -> list[list[str]]:
    """The steps by the process that runs them."""
    chosen = list(steps)
    together = [step for step in chosen if step in TOGETHER]
    return [each for each in (together, *([step] for step in chosen if step not in TOGETHER)) if each]


def parsed() -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=STEPS, default=STEPS, metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--device", choices=("cuda", "simulated"), default="cuda")
    parser.add_argument("--frames", type=int, help="of every level and loop, for a test")
    parser.add_argument("--here", action="store_true", help="run the steps in this process")
    parser.add_argument("--loop", choices=LOOPS, help="run one loop and record it into the folder")
    parser.add_argument("--out", help="the name of what --loop records")
    return parser.parse_args()


def main() -> int:
    """Fill the folder; 1 if a step failed."""
    arguments = parsed()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.loop:
        run_loop(folder, arguments.loop, arguments.out or arguments.loop, arguments.frames, arguments.device)
        return 0
    if arguments.here:
        lab = Lab(folder, arguments.device, arguments.frames)
        first = arguments.only[0]
        lab.attempt(first, lambda: RUN[first](lab, arguments.only))
        print(f"failed: {', '.join(lab.failed) or 'nothing'}", flush=True)
        return int(bool(lab.failed))
    failed = 0
    options = ["--here", "--device", arguments.device]
    options += [] if arguments.frames is None else ["--frames", str(arguments.frames)]
    for steps in processes(arguments.only):
        command = [sys.executable, str(Path(__file__).resolve()), str(folder), "--only", *steps, *options]
        failed |= subprocess.run(command).returncode
        pack(folder)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
