"""`yolotrt-lab record`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import SettingsError
from .common import add_command, add_device

_RECORD_EXAMPLES = """examples:
  yolotrt-lab record                                        list the scenarios
  yolotrt-lab record overload --out overload.parquet        on the GPU if there is one
  yolotrt-lab record copies --device simulated --out copies.parquet
  yolotrt-lab record served-report served-pinned --out folder   in turns, to compare them
  yolotrt-lab record shared-gpu --severity 0.5 --out shared.parquet    with half as many neighbours
"""


def add(commands: Any) -> None:
    """Register the subcommand."""
    parser = add_command(commands, "record", _record, "run scenarios and save their recordings", _RECORD_EXAMPLES)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="without one, the scenarios are listed")
    parser.add_argument(
        "--out", type=Path, help="a Parquet file; a folder for several scenarios, which then take turns"
    )
    parser.add_argument("--frames", type=int, help="how many frames after the warm-up (default: the scenario's)")
    parser.add_argument("--period-us", type=float, help="the clock's period (default: measured where there is one)")
    parser.add_argument("--severity", type=float, default=1.0, help="how strong the cause is (default: 1)")
    parser.add_argument("--no-telemetry", action="store_true", help="leave out the GPU's clocks, power and so on")
    add_device(parser)


def _record(arguments: argparse.Namespace) -> int:
    from .. import scenarios
    from ..devices import open_device
    from ..engines import open_engine
    from ..frames import read_images

    names: list[str] = arguments.scenarios
    if not names:
        print(scenarios.listing())
        return 0
    out, frames, command = arguments.out, arguments.frames, arguments.command_line
    together, telemetry = len(names) > 1, not arguments.no_telemetry
    if together:
        frames = 1_500 if frames is None else frames
        scenarios.check_together(names, frames)
    scenarios.check_name(names[0])
    if out is None:
        raise SettingsError("nowhere to record to", fix="add --out FILE, or --out FOLDER for several scenarios")
    if together and arguments.period_us is not None:
        raise SettingsError("loops on a clock cannot take turns", fix="run one scenario, or leave out --period-us")
    if together and arguments.severity != 1.0:
        raise SettingsError("a severity is for one scenario", fix="run one scenario, or leave out --severity")
    device = open_device(arguments.device, preset=arguments.preset)
    engine = open_engine(device)
    images = read_images("synthetic", 8) if engine.computes else None
    if together:
        recorded = scenarios.run_together(
            names, device, engine, images, frames=frames, telemetry=telemetry, command=command
        )
        recordings = {out / f"{name}.parquet": recording for name, recording in recorded.items()}
        for path, recording in recordings.items():
            recording.save(path)
    else:
        period_us = arguments.period_us
        recordings = {
            out: scenarios.run_scenario(
                names[0],
                device,
                engine,
                images,
                frames=frames,
                period_us=period_us,
                severity=arguments.severity,
                telemetry=telemetry,
                path=out,
                command=command,
            )
        }
    for path, recording in recordings.items():
        print(f"{len(recording)} rows, {recording.source.stamp}: {path}")
    return 0
