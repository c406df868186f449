"""Make the preset that ships with the lab: `python scripts/make_preset.py h200`, on the GPU that was recorded.

Its loops are the recordings in data/recordings, so that the simulation can be held against them; its copies are the
copy table in tests/data, which was measured with an independent program on a GPU of the same kind.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from yolotrt_lab import Recording, open_device, open_engine
from yolotrt_lab.calibration import calibrate
from yolotrt_lab.paths import lab_path

ROOT = Path(__file__).resolve().parent.parent
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


def copy_table() -> Recording:
    """tests/data/copy-semantics.csv as a recording."""
    with (ROOT / "tests" / "data" / "copy-semantics.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = {name: np.array([row[name] for row in rows]) for name in ("direction", "host_memory")}
    columns["bytes"] = np.array([int(row["bytes"]) for row in rows])
    for name, column, unit in (
        ("backlog_ms", "backlog_ns", 1e6),
        ("call_us", "call_ns", 1e3),
        ("sync_us", "sync_ns", 1e3),
    ):
        columns[column] = np.array([round(float(row[name]) * unit) for row in rows])
    return Recording("copies", columns, open_device("cuda").source)


def main() -> None:
    """Measure what the recordings do not hold, fit, and save."""
    name = sys.argv[1]
    folder = lab_path("data", "recordings", name)
    loops = {loop: Recording.load(folder / f"{scenario}.parquet") for loop, scenario in SCENARIO_OF_LOOP.items()}
    device = open_device("cuda")
    preset = calibrate(
        device,
        "yolov8n-fp16",
        open_engine(device),
        None,
        name=name,
        command=f"python scripts/make_preset.py {name}",
        copies=copy_table(),
        loops=loops,
    )
    preset.save(ROOT / "data" / "presets" / f"{name}.json")


if __name__ == "__main__":
    main()
