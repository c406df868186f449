"""`yolotrt-lab evaluate`."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

from .common import add_command, add_engine, progress_line

_EXAMPLES = """examples:
  yolotrt-lab evaluate                                   the lab's own detector, on 2,000 frames
  yolotrt-lab evaluate --frames 200 --engine onnxruntime the same on the CPU, a tenth of the frames
  yolotrt-lab evaluate mine.onnx --json > mine.json      a model trained on the scene's parts, for scripts
"""


def add(commands: Any) -> None:
    """Register the subcommand."""
    summary = "measure a detector's average precision on held-out frames of the synthetic scene"
    parser = add_command(commands, "evaluate", _evaluate, summary, _EXAMPLES)
    parser.add_argument("model", nargs="?", type=Path, metavar="MODEL", help="an ONNX file (default: the lab's own)")
    parser.add_argument("--frames", type=int, default=2_000, help="default: 2000")
    parser.add_argument("--seed", type=int, help="of the first scene (default: the first that no training uses)")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    add_engine(parser)


def _evaluate(arguments: argparse.Namespace) -> int:
    from ..detector import open_detector
    from ..evaluation import CONFIDENCE, HELD_OUT_SEED, evaluate
    from ..paths import shipped_model

    model = arguments.model or shipped_model()
    detector = open_detector(model, engine=arguments.engine, confidence=CONFIDENCE)
    seed = HELD_OUT_SEED if arguments.seed is None else arguments.seed
    with progress_line(f"frames of {arguments.frames} evaluated") as progress:
        evaluation = evaluate(detector, frames=arguments.frames, seed=seed, progress=progress)
    if arguments.json:
        about = {"model": model.name, "sha256": hashlib.sha256(model.read_bytes()).hexdigest()}
        print(json.dumps({**about, "command": arguments.command_line, **evaluation.as_dict()}, indent=2))
    else:
        print(f"{model}\n{evaluation}")
    return 0
