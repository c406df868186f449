"""Capture the traces that ship with the lab: `python scripts/capture_traces.py data/traces/h200`, on a GPU with nsys.

Each loop runs in a process of its own, with next to no environment, warm before nsys begins to record. Beside each
trace, scrubbed, lies the loop's own recording of the same frames, and for two of them what `nsys analyze` says.
README.md in the folder says how each was made.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from yolotrt_lab import nsight
from yolotrt_lab.causes.catalogue import SCENARIOS
from yolotrt_lab.causes.running import run_scenario
from yolotrt_lab.causes.shared_gpu import OtherProcesses
from yolotrt_lab.device import open_device
from yolotrt_lab.engine import open_engine
from yolotrt_lab.errors import TraceError
from yolotrt_lab.frames import read_images
from yolotrt_lab.loop import LoopSettings
from yolotrt_lab.recording import Recording
from yolotrt_lab.speed.ladder import RUNGS
from yolotrt_lab.speed.limits import confidence_for

GRAPHS = ("graph-pageable", "graph-pinned", "moved-wait")
CALL_BY_CALL = ("plain-pageable", "plain-pinned")  # some 450 calls a frame, and 140 ranges of TensorRT's own
LADDER = {"overlap": (6, 60), "contexts": (7, 120)}
"""Rungs, and so many frames that enough are left once the lanes are full. Their graphs hold copies: traced by node."""
TRACES: dict[str, tuple[LoopSettings, int]] = {
    **{name: (replace(SCENARIOS[name].settings, frames=60), 0) for name in GRAPHS},
    **{name: (replace(SCENARIOS[name].settings, frames=30), 0) for name in CALL_BY_CALL},
    **{name: (replace(RUNGS[rung - 1].settings, frames=frames), 0) for name, (rung, frames) in LADDER.items()},
    "shared-gpu": (replace(SCENARIOS["graph-pinned"].settings, frames=60), 4),
    "shared-stream": (replace(SCENARIOS["shared-stream"].settings, frames=60), 0),
}
"""Each trace: its loop, and how many other processes use the GPU meanwhile."""

SHARED_STREAM_US = 396.0
"""A frame of the scenario is a kernel of 400 us: on this clock it is overfed by a little."""

NEEDED = ("PATH", "HOME", "PYTHONPATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
ENVIRONMENT = {name: os.environ[name] for name in NEEDED if name in os.environ}
"""Of this process's environment only what a CUDA program needs to start."""

ANALYZED = ("graph-pageable", "graph-pinned")
DOMAIN = "yolotrt_lab"  # of the lab's own ranges
HEAD = """# Traces

nsys {version}, {stamp}.

Each .sqlite is scrubbed of the environment, and lies beside the loop's own recording of the same frames. A .nsys-rep
holds the environment too, and nothing can take it out, so none is kept. What `nsys analyze` said is in *.analyze.txt,
its tables cut after five rows.

"""


def main() -> None:
    """Capture everything, or be the process that is traced."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", help="names of traces to capture")
    parser.add_argument("--loop", help="run one loop and record it into the folder")
    arguments = parser.parse_args()
    if arguments.loop:
        run_loop(arguments.loop, arguments.folder)
    else:
        capture_all(arguments.folder, arguments.only)


def capture_all(folder: Path, only: list[str] | None) -> None:
    """Fill the folder, or renew some of it."""
    folder.mkdir(parents=True, exist_ok=True)
    nsys = nsight.Nsys.open()
    failed = []
    for name in TRACES if only is None else only:
        try:
            capture_one(nsys, folder, name)
            print(line_of(folder, name), flush=True)
        except TraceError as error:
            failed.append(name)
            (folder / f"{name}.sqlite").unlink(missing_ok=True)
            print(f"{name}: {error}", flush=True)
    for name in ANALYZED:
        if (folder / f"{name}.sqlite").exists():
            analyze(nsys, folder / f"{name}.sqlite")
    write_readme(nsys, folder)
    if failed:
        raise SystemExit(f"not captured: {', '.join(failed)}")


def write_readme(nsys: nsight.Nsys, folder: Path) -> None:
    """Write README.md of what is in the folder."""
    names = [name for name in TRACES if (folder / f"{name}.sqlite").exists()]
    version, source = ".".join(map(str, nsys.version)), Recording.load(folder / f"{names[0]}.parquet").source
    head = HEAD.format(version=version, stamp=source.stamp)
    lines = "\n".join(line_of(folder, name) for name in names)
    (folder / "README.md").write_text(f"{head}{lines}\n", encoding="utf-8")


def capture_one(nsys: nsight.Nsys, folder: Path, name: str) -> None:
    """Capture one loop, and see that the trace is whole."""
    command = [sys.executable, str(Path(__file__).resolve()), str(folder.resolve()), "--loop", name]
    with OtherProcesses() as others:
        others.become(TRACES[name][1])
        while not others.busy:
            time.sleep(0.1)
        report = nsight.capture_trace(
            command,
            folder / name,
            nsys=nsys,
            ranges=True,
            graphs="node" if name in LADDER else "graph",
            domain=DOMAIN if name in CALL_BY_CALL else "",
            environment=ENVIRONMENT,
        )
    frames = len(Recording.load(folder / f"{name}.parquet"))
    nsight.check_trace(nsight.read_trace(report), frames=frames)


def line_of(folder: Path, name: str) -> str:
    """What the README says of a trace."""
    settings, processes = TRACES[name]
    engine = "as a CUDA graph" if settings.graph else "enqueued call by call"
    loop = f"{settings.input_memory} input, {settings.output_memory} output, the engine {engine}"
    if name in LADDER:
        rung = RUNGS[LADDER[name][0] - 1]
        in_flight = settings.collect_after + 1
        loop += f"; rung {rung.number} of the ladder, {rung.adds}; {in_flight} frames in flight, graphs node by node"
    beside = f", beside {processes} other processes on the GPU" if processes else ""
    frames = len(Recording.load(folder / f"{name}.parquet"))
    kilobytes = (folder / f"{name}.sqlite").stat().st_size / 1e3
    return f"- `{name}`: {loop}{beside}; {frames} frames, {kilobytes:,.0f} kB. `{made_by(name)}`"


def made_by(name: str) -> str:
    """The command that makes one trace."""
    return f"python scripts/capture_traces.py FOLDER --only {name}"


def run_loop(name: str, folder: Path) -> None:
    """The traced process: warm up, then run the loop inside the range that nsys records."""
    device = open_device("cuda")
    engine = open_engine(device)
    images = read_images("synthetic", 2)
    settings = replace(TRACES[name][0], warmup=3)
    if name in LADDER:
        settings = replace(settings, confidence=confidence_for(device, engine, images))
    replace(settings, frames=100).loop(device, engine, images).run()
    if name == "shared-stream":
        with nsight.profiled():
            recording = run_scenario(name, device, engine, frames=60, period_us=SHARED_STREAM_US, telemetry=False)
    else:
        loop = settings.loop(device, engine, images)
        with nsight.profiled():
            recording = loop.run(label=name)
    replace(recording, command=made_by(name)).save(folder / f"{name}.parquet")


def analyze(nsys: nsight.Nsys, report: Path) -> None:
    """Keep what nsys's own rules say, without the paths of its installation, and five rows of each table."""
    done = subprocess.run([nsys.path, "analyze", str(report)], capture_output=True, text=True)
    said = re.sub(r"/\S*/(?=\S+\.(?:py|sqlite))", "", done.stdout)
    said = re.sub(r"((?:^ +[\d,]+  .*\n){5})(?:^ +[\d,]+  .*\n)+", r"\1 [...]\n", said, flags=re.MULTILINE)
    report.with_suffix(".analyze.txt").write_text(said, encoding="utf-8")


if __name__ == "__main__":
    main()
