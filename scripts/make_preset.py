"""Make the preset that ships with the lab: `python scripts/make_preset.py h200`, on the GPU that was recorded.

Its loops are the recordings in data/recordings, so that the simulation can be held against them; its copies are the
copy table in tests/data, which was measured with an independent program on a GPU of the same kind. Single calls,
contexts, batches and kernels are measured now. `--refit` takes those from the preset that is there, and needs no GPU.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from yolotrt_lab.device import open_device
from yolotrt_lab.frames import read_images
from yolotrt_lab.packages import lab_path
from yolotrt_lab.recording import Recording
from yolotrt_lab.simulate.calibration import calibrate
from yolotrt_lab.simulate.concurrency import BATCHES, Concurrency
from yolotrt_lab.simulate.fit import Measurements, fit_preset
from yolotrt_lab.simulate.preset import Preset
from yolotrt_lab.speed.ladder import open_engines
from yolotrt_lab.types import Source

ROOT = Path(__file__).resolve().parent.parent
MODEL = "yolov8n-fp16"
INPUT_BYTES, OUTPUT_BYTES = 4 * 3 * 640 * 640, 4 * 84 * 8400
SCENARIO_OF_LOOP = {
    "pageable": "plain-pageable",
    "pinned": "plain-pinned",
    "pageable graph": "overload",
    "pinned graph": "overload-pinned",
    "fresh": "report",
    "in place": "report-fixed",
    "copied": "served-copied",
    "allocated": "trap-allocate",
    "boxes": "served-boxes",
}


def copy_table(source: Source) -> Recording:
    """tests/data/copy-semantics.csv as a recording."""
    with (ROOT / "tests" / "data" / "copy-semantics.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = {name: np.array([row[name] for row in rows]) for name in ("direction", "host_memory")}
    columns["bytes"] = np.array([int(row["bytes"]) for row in rows])
    units = (("backlog_ms", "backlog_ns", 1e6), ("call_us", "call_ns", 1e3), ("sync_us", "sync_ns", 1e3))
    for name, column, unit in units:
        columns[column] = np.array([round(float(row[name]) * unit) for row in rows])
    return Recording("copies", columns, source)


def refit(name: str, copies: Recording, loops: dict[str, Recording]) -> Preset:
    """The preset that is there, with new fits."""
    old = Preset.load(name)
    cost = old.engine(MODEL)
    at_once = (cost.frame_ns_by_contexts, cost.frame_ns_by_batch, cost.measured, old.kernel_ns, old.kernel_sharing)
    measured = Measurements(
        launch_ns=old.launch_ns,
        wake_up_ns=old.wake_up_ns,
        synchronize_ns=old.synchronize_ns,
        record_ns=old.record_ns,
        query_ns=old.query_ns,
        copies=copies,
        staging_bytes=old.pageable_upload.staging_bytes,
        launch_queue_depth=old.launch_queue_depth,
        kernels=cost.kernels,
        input_bytes=INPUT_BYTES,
        output_bytes=OUTPUT_BYTES,
        loops=loops,
        concurrency=Concurrency(*at_once),
    )
    return fit_preset(measured, copies.source, name=name, model=MODEL, cpu=old.cpu, command=old.command)


def measure(name: str, copies: Recording, loops: dict[str, Recording]) -> Preset:
    """A preset with the rest measured on this GPU."""
    device = open_device("cuda")
    batches = open_engines(device, print, batches=(1, *BATCHES))
    return calibrate(
        device,
        MODEL,
        batches.pop(1),
        read_images("synthetic", 8),
        name=name,
        command=f"python scripts/make_preset.py {name}",
        batches=batches,
        copies=copies,
        loops=loops,
        progress=print,
    )


def main() -> None:
    """Fit and save."""
    name, make = sys.argv[1], refit if "--refit" in sys.argv else measure
    folder = lab_path("data", "recordings", name)
    loops = {loop: Recording.load(folder / f"{scenario}.parquet") for loop, scenario in SCENARIO_OF_LOOP.items()}
    old, preset = Preset.load(name), make(name, copy_table(loops["pinned"].source), loops)
    preset = replace(preset, neighbours=old.neighbours, registration=old.registration)  # not measured by this
    preset.save(ROOT / "data" / "presets" / f"{name}.json")


if __name__ == "__main__":
    main()
