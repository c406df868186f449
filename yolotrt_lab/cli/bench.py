"""`yolotrt-lab bench`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from ..errors import SettingsError
from .common import add_command, add_device

_EXAMPLES = """examples:
  yolotrt-lab bench                          the ladder, rung by rung, beside the limits of this GPU
  yolotrt-lab bench --full --json FILE       also what is claimed of it: some minutes
  yolotrt-lab bench --rungs 6 7 8 --frames 20000
  yolotrt-lab bench --peers --plot FILE.png  other packages beside it, and which resource bounds each rung
"""


def add(commands: Any) -> None:
    """Register the subcommand."""
    parser = add_command(commands, "bench", _bench, "measure the ladder beside the limits of the hardware", _EXAMPLES)
    parser.add_argument("--frames", type=int, default=5_000, help="frames of each rung (default: 5000)")
    parser.add_argument("--rungs", type=int, nargs="+", metavar="N", help="which rungs (default: all)")
    parser.add_argument("--full", action="store_true", help="measure what is claimed of the ladder too")
    parser.add_argument(
        "--peers", action="store_true", help="measure other packages too, those installed: ultralytics, torch, trtutils"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw there which resource bounds each rung")
    add_device(parser)


def _bench(arguments: argparse.Namespace) -> int:
    from .. import ladder
    from ..devices import open_device
    from ..frames import read_images

    rungs = [rung.number for rung in ladder.checked_rungs(arguments.rungs or [each.number for each in ladder.RUNGS])]
    ladder.check_frames(arguments.frames)
    device = open_device(arguments.device, preset=arguments.preset)
    engines = ladder.open_engines(device, _progress)
    images = read_images("synthetic", 8) if engines[1].computes else None
    climbed = ladder.climb(device, engines, images, frames=arguments.frames, rungs=rungs, progress=_progress)
    try:
        print(climbed.table(), flush=True)
        _save(climbed, arguments)
        if arguments.full:
            bench = ladder.Bench(device, engines, images, climbed.confidence)
            measured = ladder.measure_claims(bench, climbed, frames=arguments.frames, progress=_progress)
            for claim in chain(measured, ladder.result_claims(bench, climbed.limits, progress=_progress)):
                climbed = replace(climbed, claims=(*climbed.claims, claim))
                _save(climbed, arguments)
            print(climbed.claims_table(), flush=True)
        if arguments.peers:  # last: what they import must not burden what is measured of the ladder
            climbed = replace(climbed, peers=_peers(images))
        print(climbed.limits_table())
    finally:  # what was measured is kept whatever comes
        _save(climbed, arguments)
    if arguments.plot is not None:
        _plot(climbed, arguments.plot)
    return 0


def _save(climbed: Any, arguments: argparse.Namespace) -> None:
    """Write the figures so far, where a file is named for them."""
    if arguments.json is not None:
        figures = {**climbed.as_dict(), "command": arguments.command_line}
        _write(arguments.json, json.dumps(figures, indent=1) + "\n")


def _progress(step: str) -> None:
    print(f"... {step}", file=sys.stderr, flush=True)


def _peers(images: Any) -> dict[str, float | str]:
    from .. import ladder
    from ..yolov8 import build_model

    if images is None:
        return {"all": "they need a GPU"}
    _progress("measuring peers")
    return ladder.measure_peers(images[0], build_model("n", precision="fp16"))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error}", fix="name another place") from error


def _plot(climbed: Any, path: Path) -> None:
    from .. import plots

    drawn, ax = plots.figure(height=1.2 + 0.6 * len(climbed.steps))
    plots.bounds(ax, {f"{s.rung.number} {s.rung.name}": (s.together.frame_us, s.bounds_us) for s in climbed.steps})
    plots.stamp(drawn, climbed.source)
    try:
        drawn.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be drawn: {error}", fix="name a file such as ladder.png") from error
