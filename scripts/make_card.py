"""Write the card of the lab's own detector, data/models/lab-yolov8n.md, from what was measured: `make_card.py`.

Every number comes from the model or from the files beside it: `lab-yolov8n.training.json`, which the training wrote,
and `lab-yolov8n.evaluation.json`, a list of what `python -m scripts.evaluation --json` printed, the longest first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path
from typing import Any

from scripts.evaluation.run import HEADER, cells, rows
from yolotrt_lab.detector.yolov8 import weight_shapes
from yolotrt_lab.errors import SettingsError
from yolotrt_lab.onnxruntime import OnnxRuntimeEngine

FOLDER = Path(__file__).resolve().parent.parent / "data" / "models"
NAME = "lab-yolov8n"


def card(folder: Path) -> str:
    """The card of the model in that folder; SettingsError if an evaluation is one of another model."""
    model = folder / f"{NAME}.onnx"
    content = model.read_bytes()
    training, evaluations = (read(folder / f"{NAME}.{part}.json") for part in ("training", "evaluation"))
    digest = hashlib.sha256(content).hexdigest()
    for each in evaluations:
        if each["sha256"] != digest:
            what = f"the evaluation of {each['date']} must be of this {model.name}"
            raise SettingsError(f"{what}, got one of {each['sha256']}", fix="evaluate it again")
    engine = OnnxRuntimeEngine(content)
    info, (*_, height, width) = engine.describe(), engine.inputs[0].shape
    return f"""# {NAME}

The lab's own detector: a YOLOv8n that finds the parts of `SyntheticScene`, trained from scratch on nothing else. It is
here so that frames of the lab show boxes whose truth is known. It has never seen a photograph: for those, use a model
of your own, `yolotrt-lab detect SOURCE --model FILE --out DIR`.

| | |
|---|---|
| file | `{model.name}`, {len(content):,} bytes, SHA-256 `{digest}` |
| parameters | {sum(map(prod, weight_shapes("n", info.classes).values())):,} in float16; input and output are float32 |
| input | `images` (batch, 3, {height}, {width}), RGB from 0 to 1, letterboxed |
| output | `output0` (batch, {4 + info.classes}, cells): centre x and y, width, height, a score for each class |
| classes | {", ".join(info.names)} |
| data | frames of `SyntheticScene` alone: no photograph, no weights and no labels of others |
| license | that of the lab |

## How well it sees

{conditions(evaluations[0])}

{table(HEADER, rows(evaluations[0]))}

mAP as COCO defines it. Small, medium and large go by the area of the true box in pixels of the 1080p frame, at COCO's
bounds of 32 x 32 and 96 x 96; the network sees a frame at a third of its size. A part counts where 30 % of it or more
are visible.

## Engine by engine

{engines(evaluations)}

## Training

{table(["what", "value"], flat(training))}
"""


def conditions(evaluation: dict[str, Any]) -> str:
    """How an evaluation was made."""
    return f"""On {evaluation["frames"]:,} held-out frames, of the scenes with the seeds from {evaluation["seed"]} on,
by {evaluation["engine"]} on {evaluation["runs_on"]}, {evaluation["date"]}, scored by {evaluation["scorer"]}:
`{evaluation["command"]}`."""


def engines(evaluations: Iterable[dict[str, Any]]) -> str:
    """A row for each evaluation."""
    lines = [(each["engine"], each["runs_on"], f"{each['frames']:,}", *cells(each["overall"])) for each in evaluations]
    return table(["engine", "on", "frames", *HEADER[1:]], lines)


def flat(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Every text and number in nested dictionaries, under the names that lead to it; lists (curves) are left out."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{above}{name}, ")
        elif not isinstance(value, list):
            yield above + name.replace("_", " "), f"{value:.5g}" if isinstance(value, float) else str(value)


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    lines = [list(header), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def read(path: Path) -> Any:
    """What a JSON file holds."""
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    (FOLDER / f"{NAME}.md").write_text(card(FOLDER), encoding="utf-8")
