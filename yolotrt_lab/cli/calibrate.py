"""`yolotrt-lab calibrate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import SettingsError
from .common import add_command, add_device


def add(commands: Any) -> None:
    """Register the subcommand."""
    parser = add_command(commands, "calibrate", _calibrate, "measure a preset of this GPU for the simulated device")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the preset, a JSON file named after it"
    )
    add_device(parser)


def _calibrate(arguments: argparse.Namespace) -> int:
    from ..calibration import calibrate
    from ..devices import open_device
    from ..engines import open_engine
    from ..frames import read_images

    if arguments.out.suffix != ".json":
        raise SettingsError(f"{arguments.out} is no name of a preset", fix=f"call it {arguments.out.name}.json")
    device = open_device(arguments.device, preset=arguments.preset)
    engine = open_engine(device)
    preset = calibrate(
        device,
        "yolov8n-fp16",
        engine,
        read_images("synthetic", 8) if engine.computes else None,
        name=arguments.out.stem,
        command=arguments.command_line,
        progress=lambda step: print(f"measuring {step}", flush=True),
    )
    preset.save(arguments.out)
    print(f"preset of {preset.gpu}: {arguments.out}")
    return 0
