"""The notebooks' raw cells: code in CuPy's, TensorRT's and nvtx's own names, which runs on a GPU and simulated alike.

They stand in notebooks, in cells whose id begins with 'raw-'; a cell that stands in several is the same in each.
`run` executes them in order in one namespace, as a notebook does. Each needs 'setup' and 'memory' before it. MEASURED
names what a cell leaves behind.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from yolotrt_lab import simulate
from yolotrt_lab.errors import HazardError

MEASURED = {
    "remainder": "remainder_ms",
    "report": "report_ms",
    "fixed": "fixed_ms",
    "probe": "probe_ms",
    "allocators": "alloc_ms",
    "events": "gpu_ms",
    "graph": "graph_ms",
    "trap": "trap",
}


def _in_notebooks() -> dict[str, str]:
    """The text of each raw cell by its name; ValueError where two notebooks have it differently."""
    cells: dict[str, str] = {}
    for path in sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["id"].startswith("raw-"):
                name, text = cell["id"].removeprefix("raw-"), "".join(cell["source"])
                if cells.setdefault(name, text) != text:
                    raise ValueError(
                        f"the raw cell {name!r} must be the same in all notebooks, got another in {path.name}"
                    )
    return cells


_FOUND = _in_notebooks()
SETUP = _FOUND["setup"]
"""`gpu` (a device), `engine` (whose one input is an image), `images` and `frames` are given."""
CELLS = {name: _FOUND[name] for name in ("memory", *MEASURED)}


def names_for(device: Any, engine: Any, images: list[np.ndarray], frames: int) -> dict[str, Any]:
    """What cells see, once SETUP has run."""
    names = {"np": np, "simulate": simulate, "HazardError": HazardError}
    names |= {"gpu": device, "engine": engine, "images": images, "frames": frames}
    exec(compile(SETUP, "SETUP", "exec"), names)
    return names


def run(name: str, names: dict[str, Any]) -> Any:
    """Run a cell; what it measured."""
    exec(compile(CELLS[name], f"cell {name!r}", "exec"), names)
    return names.get(MEASURED.get(name, ""))
