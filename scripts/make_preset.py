"""Measure the preset that ships with the lab: `python scripts/make_preset.py h200`, on the GPU that was recorded.

Its loops are the recordings in data/recordings, so that the simulation can be held against them. Its copies are the
copy table in tests/data, which an independent program measured on a GPU of the same kind. Single calls, contexts,
batches and kernels are measured now. `--refit` takes those from the preset that is there, and needs no GPU.
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
from yolotrt_lab.simulate.calibration import calibrate, fit_fields
from yolotrt_lab.simulate.experiments import BATCHES
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
    "fresh": "clocked",
    "in place": "clocked-fixed",
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


def measure(name: str) -> Preset:
    """A preset of this GPU."""
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
        progress=print,
    )


def refit(preset: Preset, copies: Recording, loops: dict[str, Recording]) -> Preset:
    """The preset, fitted to these recordings."""
    fitted, cost = fit_fields(
        copies,
        loops,
        wake_up_ns=preset.wake_up_ns,
        record_ns=preset.record_ns,
        staging_bytes=preset.pageable_upload.staging_bytes,
        input_bytes=INPUT_BYTES,
        output_bytes=OUTPUT_BYTES,
    )
    engines, source = {**preset.engines, MODEL: replace(preset.engine(MODEL), **cost)}, copies.source
    return replace(preset, gpu=source.gpu, driver=source.driver, date=source.date, engines=engines, **fitted)


def main() -> None:
    """Measure, fit and save."""
    name, old = sys.argv[1], Preset.load(sys.argv[1])
    folder = lab_path("data", "recordings", name)
    loops = {loop: Recording.load(folder / f"{scenario}.parquet") for loop, scenario in SCENARIO_OF_LOOP.items()}
    preset = refit(old if "--refit" in sys.argv else measure(name), copy_table(loops["pinned"].source), loops)
    kept = {
        name: getattr(old, name)
        for name in ("other_processes", "registration", "upload_turn_times", "cold_synchronize_ns", "capture_times")
    }
    engines = {**old.engines, **preset.engines}  # those of scripts/measure_sizes.py stay
    preset = replace(preset, **kept, engines=engines)  # not measured by this
    preset.save(ROOT / "data" / "presets" / f"{name}.json")


if __name__ == "__main__":
    main()
