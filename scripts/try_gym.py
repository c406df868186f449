"""Run the gym's loops on a GPU: `python scripts/try_gym.py --out gym.json`, from a checkout of the lab.

For each exercise with a loop it prints what a frame of the start and of the solution takes, live and simulated, and the
gain. A start in which the simulated device finds a hazard isn't run. Exit status 1 where a result was wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yolotrt_lab as lab
from yolotrt_lab.device import Device
from yolotrt_lab.gym import Exercise, exercises, try_live, try_loop


def main() -> int:
    """Measure all, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("gym.json"))
    parser.add_argument("--only", nargs="*", default=list(exercises()), help="names of exercises")
    arguments = parser.parse_args()
    device = lab.open_device("cuda")
    found = [
        measure(each, device) for name, each in exercises().items() if name in arguments.only and each.kind == "loop"
    ]
    report = {"source": device.source.as_dict(), "stamp": device.source.stamp, "exercises": found}
    arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    rows = [[each["name"], *(shown(each, kind) for kind in ("live_us", "simulated_us", "gain"))] for each in found]
    print(
        lab.Table(["start, solution", "live [us]", "simulated [us]", "gain, live and simulated"], rows, device.source)
    )
    return int(any(each["wrong"] for each in found))


def measure(exercise: Exercise, device: Device) -> dict[str, Any]:
    """Its start and its solution, in turns; a start with a hazard has no time."""
    loops = {name: exercise.function(getattr(exercise, name)) for name in ("start", "solution")}
    trials = {name: try_loop(loop, exercise) for name, loop in loops.items()}
    simulated = {name: trial.frame_us for name, trial in trials.items() if trial.error is None}
    took = try_live({name: loops[name] for name in simulated}, exercise, device)
    live = {name: us for name, (us, _) in took.items()}
    both = len(simulated) == 2
    return {
        "name": exercise.name,
        "live_us": live,
        "simulated_us": simulated,
        "gain": {"live": live["start"] / live["solution"], "simulated": simulated["start"] / simulated["solution"]}
        if both
        else {},
        "wrong": sum(wrong for _, wrong in took.values()),
    }


def shown(found: dict[str, Any], kind: str) -> str:
    """The two numbers of a cell, '-' where the start was not run."""
    values = found[kind]
    if kind == "gain":
        return f"{values['live']:.2f}, {values['simulated']:.2f}" if values else "-"
    return ", ".join(f"{values[name]:,.0f}" if name in values else "-" for name in ("start", "solution"))


if __name__ == "__main__":
    sys.exit(main())
