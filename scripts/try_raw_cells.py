"""Run the notebooks' raw cells: `python scripts/try_raw_cells.py --device cuda`, from a checkout of the lab.

The cells are those of the notebooks, read by tests/simulate/raw_cells.py. It prints JSON: for each cell whether it ran,
what it printed, and what it measured in ms (medians over its frames). Exit status 1 where one failed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np

import yolotrt_lab as lab

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "simulate"))

import raw_cells


def main() -> int:
    """Run them in order, as a notebook does, and go on after one that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "simulated"))
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=list(raw_cells.CELLS), help="names of cells")
    arguments = parser.parse_args()
    device = lab.open_device(arguments.device)
    engine = lab.open_engine(device)
    names = raw_cells.names_for(device, engine, lab.read_images("synthetic", 8), arguments.frames)
    cells = {name: try_cell(name, names) for name in arguments.only}
    print(json.dumps({"source": device.source.stamp, "engine": engine.label, "cells": cells}, indent=2))
    return int(any("err" in cell for cell in cells.values()))


def try_cell(name: str, names: dict[str, Any]) -> dict[str, Any]:
    """'ok' or 'err', with what it printed and measured."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            measured = raw_cells.run(name, names)
    except Exception:
        return {"err": traceback.format_exc(limit=-2), "printed": printed.getvalue().splitlines()}
    return {"ok": True, "printed": printed.getvalue().splitlines(), "ms": medians(measured)}


def medians(measured: Any) -> Any:
    """A row for each frame as one row of medians; other measurements as they are."""
    if isinstance(measured, list):
        return np.median(measured, axis=0).round(4).tolist()
    if isinstance(measured, dict):
        return {name: np.round(each, 4).tolist() for name, each in measured.items()}
    return measured


if __name__ == "__main__":
    sys.exit(main())
