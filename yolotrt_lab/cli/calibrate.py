"""`yolotrt-lab calibrate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import SettingsError
from .common import add_command, add_device

_NOTES = """\
It builds engines for batches of up to 16 first, and then measures for a minute or two. It does not measure what other
processes on the GPU cost, nor memory that stays registered: scenarios that need these say so.

examples:
  yolotrt-lab calibrate --out mine.json                        measure this GPU
  yolotrt-lab bench --device simulated --preset mine.json      run the ladder on its simulation
"""


def add(commands: Any) -> None:
    """Register the subcommand."""
    summary = "measure a preset of this GPU for the simulated device"
    parser = add_command(commands, "calibrate", _calibrate, summary, _NOTES)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the preset, a JSON file named after it"
    )
    add_device(parser)


def _calibrate(arguments: argparse.Namespace) -> int:
    from ..calibration import BATCHES, calibrate
    from ..devices import open_device
    from ..frames import read_images
    from ..ladder import open_engines

    if arguments.out.suffix != ".json":
        raise SettingsError(f"{arguments.out} is no name of a preset", fix=f"call it {arguments.out.name}.json")
    device = open_device(arguments.device, preset=arguments.preset)
    batches = open_engines(device, _say, batches=(1, *BATCHES))
    engine = batches.pop(1)
    preset = calibrate(
        device,
        "yolov8n-fp16",
        engine,
        read_images("synthetic", 8) if engine.computes else None,
        name=arguments.out.stem,
        command=arguments.command_line,
        batches=batches,
        progress=lambda step: _say(f"measuring {step}"),
    )
    preset.save(arguments.out)
    print(f"preset of {preset.gpu}: {arguments.out}")
    return 0


def _say(step: str) -> None:
    print(step, flush=True)
