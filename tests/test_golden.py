"""Whole answers of the lab, held to what they were: bills, traces, simulated recordings, boxes.

`python tests/test_golden.py` writes the files of `tests/golden` anew. A change of one belongs in the CHANGELOG.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from samples import sampled

import yolotrt_lab as lab
from yolotrt_lab.cli import main

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden"
DATA = [
    *sorted((ROOT / "data" / "logs").iterdir()),
    *sorted(path for path in (ROOT / "data" / "recordings").rglob("*.parquet") if path.stem != "copies"),
    *sorted((ROOT / "data" / "traces").rglob("*.sqlite")),
]
TRACES = sorted((ROOT / "data" / "traces").rglob("*.sqlite"))
SAMPLE = {
    *("calls.h200.csv", "chinese.h200.log", "shared-gpu-telemetry.simulated.csv", "shared-gpu.simulated.log"),
    *("clocked.parquet", "launch-queue.parquet", "leak.parquet", "report.parquet", "trap-allocate.parquet"),
    "warm-up.parquet",
    *("contexts.sqlite", "graph-pageable.sqlite", "moved-wait.sqlite", "report-b.sqlite", "shared-stream.sqlite"),
}
"""Each format, each cause that was recorded, and each kind of trace, once."""


def name_of(path: Path) -> str:
    return "-".join(path.relative_to(ROOT / "data").parts)


def printed(*arguments: str) -> str:
    """What a command prints, with the path of this checkout taken out."""
    out = io.StringIO()
    os.environ["COLUMNS"] = "120"
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        main(list(arguments))
    return re.sub(r"[^\s\"]*/(?=data/)", "", out.getvalue())


def rounded(value):
    """Floats to six digits: the last bits differ between processors."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def billed(path: Path) -> str:
    return json.dumps(rounded(json.loads(printed("diagnose", str(path), "--json"))), indent=1, sort_keys=True) + "\n"


def scenario_hash(name: str) -> str:
    """The columns of 120 simulated frames (of cameras 4 a thread), without telemetry, which depends on the host."""
    device, frames = lab.open_device("simulated", jitter=0.05, seed=3), 4 if name == "cameras" else 120
    recording = lab.run_scenario(name, device, lab.open_engine(device), frames=frames, telemetry=False)
    digest = hashlib.sha256()
    for column, values in sorted(recording.columns.items()):
        digest.update(column.encode())
        digest.update(str(values.tolist()).encode())
    return digest.hexdigest()[:16]


def scenario_names() -> list[str]:
    return [line.split()[0] for line in printed("record").splitlines()]


def boxes() -> list:
    detector = lab.open_detector(engine="onnxruntime")
    found = [detector(image) for image in lab.read_images("synthetic", 2)]
    return [
        [[round(float(v), 1) for v in box], round(float(score), 3), int(kind)]
        for each in found
        for box, score, kind in zip(each.boxes, each.scores, each.classes, strict=True)
    ]


@pytest.mark.parametrize("path", sampled(DATA, [path for path in DATA if path.name in SAMPLE]), ids=name_of)
def test_the_bill_of_what_ships(path):
    assert billed(path) == (GOLDEN / "diagnose" / f"{name_of(path)}.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sampled(TRACES, [path for path in TRACES if path.name in SAMPLE]), ids=name_of)
def test_the_table_of_a_trace_that_ships(path):
    golden = (GOLDEN / "trace" / f"{name_of(path)}.txt").read_text(encoding="utf-8")
    assert printed("trace", "show", str(path)) == golden


NAMES = scenario_names()


@pytest.mark.parametrize("name", sampled(NAMES, [name for name in NAMES[::3] if name != "cameras"]))
def test_what_the_simulated_device_records(name):
    golden = json.loads((GOLDEN / "scenarios.json").read_text(encoding="utf-8"))
    assert scenario_hash(name) == golden[name]


def test_the_boxes_of_the_shipped_detector():
    golden = json.loads((GOLDEN / "boxes.json").read_text(encoding="utf-8"))
    found = boxes()
    assert [box[2] for box in found] == [box[2] for box in golden]
    np.testing.assert_allclose([box[0] for box in found], [box[0] for box in golden], atol=0.3)
    np.testing.assert_allclose([box[1] for box in found], [box[1] for box in golden], atol=0.005)


def test_the_public_names():
    assert sorted(lab.__all__) == json.loads((GOLDEN / "names.json").read_text(encoding="utf-8"))


def write_all() -> None:
    for folder in ("diagnose", "trace"):
        (GOLDEN / folder).mkdir(parents=True, exist_ok=True)
    for path in DATA:
        (GOLDEN / "diagnose" / f"{name_of(path)}.json").write_text(billed(path), encoding="utf-8")
    for path in TRACES:
        (GOLDEN / "trace" / f"{name_of(path)}.txt").write_text(printed("trace", "show", str(path)), encoding="utf-8")
    hashes = {name: scenario_hash(name) for name in scenario_names()}
    for name, value in (("scenarios", hashes), ("boxes", boxes()), ("names", sorted(lab.__all__))):
        (GOLDEN / f"{name}.json").write_text(json.dumps(value, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(write_all())
