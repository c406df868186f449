"""Capture the traces that ship with the lab: `python scripts/capture_traces.py data/traces/h200`, on a GPU with nsys.

Each loop runs in a process of its own, with next to no environment, warm before nsys begins to record. Beside each
trace, scrubbed, lies the loop's own recording of the same frames, and for two of them what `nsys analyze` says.
README.md in the folder says how each was made.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from yolotrt_lab import FrameLoop, Recording, nsight, open_device, open_engine, period_between_us, read_images
from yolotrt_lab.scenarios import SCENARIOS
from yolotrt_lab.types import HostMemory

FRAMES = 60
FEWER_FRAMES = 30  # of loops that submit the network call by call: some 450 calls a frame
LOOPS = (
    *("graph-pageable", "graph-pinned", "plain-pageable", "plain-pinned", "moved-wait", "overload", "overload-pinned"),
    *("served-report", "served-pinned"),
)
DOMAIN = "yolotrt_lab"  # in those loops TensorRT marks each layer, 140 ranges a frame
SAME_CLOCK = {"overload-pinned": "overload"}
ANALYZED = ("graph-pageable", "graph-pinned")
TRACES = {name: (name, 0) for name in LOOPS} | {"shared-gpu": ("graph-pinned", 4)}
"""Each trace: the scenario whose loop it shows, and how many other processes use the GPU meanwhile."""
SPIN_NS, UPLOAD_BYTES = 2_000_000, 32_000_000


def main() -> None:
    """Capture everything, or be one of the processes that this takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", help="names of traces to capture")
    parser.add_argument("--loop", help="run one loop and record it into the folder")
    parser.add_argument("--label", help="the recording's name")
    parser.add_argument("--period-us", type=float)
    parser.add_argument("--neighbour", action="store_true", help="keep the GPU busy until killed")
    arguments = parser.parse_args()
    if arguments.neighbour:
        be_a_neighbour()
    elif arguments.loop:
        run_loop(arguments.loop, arguments.label, arguments.folder, arguments.period_us)
    else:
        capture_all(arguments.folder, arguments.only)


def capture_all(folder: Path, only: list[str] | None) -> None:
    """Fill the folder, or renew some of it."""
    folder.mkdir(parents=True, exist_ok=True)
    nsys = nsight.Nsys.open()
    for name in TRACES if only is None else only:
        capture_one(nsys, folder, name)
        print(line_of(folder, name), flush=True)
    for name in ANALYZED:
        if (folder / f"{name}.sqlite").exists():
            analyze(nsys, folder / f"{name}.sqlite")
    names = [name for name in TRACES if (folder / f"{name}.sqlite").exists()]
    version, source = ".".join(map(str, nsys.version)), Recording.load(folder / f"{names[0]}.parquet").source
    head = f"# Traces\n\nnsys {version}, {source.stamp}. Each beside the loop's own recording of the same frames.\n\n"
    lines = "\n".join(line_of(folder, name) for name in names)
    (folder / "README.md").write_text(f"{head}{lines}\n", encoding="utf-8")


def capture_one(nsys: nsight.Nsys, folder: Path, name: str) -> None:
    """Capture one loop, and see that the trace is whole."""
    loop, neighbours = TRACES[name]
    command = [sys.executable, str(Path(__file__).resolve()), str(folder.resolve()), "--loop", loop, "--label", name]
    if name in SAME_CLOCK:
        period_us = Recording.load(folder / f"{SAME_CLOCK[name]}.parquet").settings["period_us"]
        command += ["--period-us", str(period_us)]
    environment = nsight.minimal_environment()
    with ExitStack() as stack:
        for _ in range(neighbours):
            stack.enter_context(neighbour(folder))
        domain = "" if SCENARIOS[loop].settings.graph else DOMAIN
        report = nsight.capture_trace(
            command, folder / name, nsys=nsys, ranges=True, domain=domain, environment=environment
        )
    frames = len(Recording.load(folder / f"{name}.parquet"))
    nsight.check_trace(nsight.read_trace(report), frames=frames)


def line_of(folder: Path, name: str) -> str:
    """What the README says of a trace."""
    loop, neighbours = TRACES[name]
    beside = f", beside {neighbours} other processes on the GPU" if neighbours else ""
    frames = len(Recording.load(folder / f"{name}.parquet"))
    kilobytes = (folder / f"{name}.sqlite").stat().st_size / 1e3
    made = f"`python scripts/capture_traces.py FOLDER --only {name}`"
    return f"- `{name}`: the loop of scenario `{loop}`{beside}; {frames} frames, {kilobytes:,.0f} kB. {made}"


def run_loop(name: str, label: str, folder: Path, period_us: float | None) -> None:
    """The traced process: warm up, then run the loop inside the range that nsys records."""
    scenario = SCENARIOS[name]
    device = open_device("cuda")
    engine = open_engine(device)
    images = read_images("synthetic", 2)
    if period_us is None and scenario.other is not None:
        period_us = period_between_us(device, engine, images, scenario.settings, scenario.other)
    frames = FRAMES if scenario.settings.graph else FEWER_FRAMES
    settings = replace(scenario.settings, frames=frames, warmup=3, period_us=period_us)
    FrameLoop(device, engine, replace(settings, frames=100, period_us=None), images).run()
    loop = FrameLoop(device, engine, settings, images)
    with nsight.profiled():
        recording = loop.run(label=label, command=f"python scripts/capture_traces.py FOLDER --only {label}")
    recording.save(folder / f"{label}.parquet")


@contextmanager
def neighbour(folder: Path) -> Iterator[None]:
    """Another process on the GPU, which is busy when this begins."""
    command = [sys.executable, __file__, str(folder), "--neighbour"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "busy\n":
                raise SystemExit("a neighbour did not start")
            yield
        finally:
            process.kill()


def be_a_neighbour() -> None:
    """Kernels and uploads until killed, as another program would run them."""
    device = open_device("cuda")
    stream = device.stream()
    source = device.empty_host((UPLOAD_BYTES,), "uint8", HostMemory.PINNED)
    target = device.empty_device(UPLOAD_BYTES)
    device.spin(SPIN_NS, stream)
    stream.synchronize()
    print("busy", flush=True)
    while True:
        device.upload(source, target, stream)
        device.spin(SPIN_NS, stream)
        stream.synchronize()


def analyze(nsys: nsight.Nsys, report: Path) -> None:
    """Keep what nsys's own rules say, without the paths of its installation, and five rows of each table."""
    done = subprocess.run([nsys.path, "analyze", str(report)], capture_output=True, text=True)
    said = re.sub(r"/\S*/(?=\S+\.(?:py|sqlite))", "", done.stdout)
    said = re.sub(r"((?:^ +[\d,]+  .*\n){5})(?:^ +[\d,]+  .*\n)+", r"\1 [...]\n", said, flags=re.MULTILINE)
    report.with_suffix(".analyze.txt").write_text(said, encoding="utf-8")


if __name__ == "__main__":
    main()
