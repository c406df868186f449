"""`python -m scripts.train_detector OUT`: train the lab's detector; `--smoke` does all of it in miniature on a CPU."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

from .loss import GAINS
from .settings import SMOKE, Settings
from .training import Training


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m scripts.train_detector", description=__doc__)
    parser.add_argument("out", type=Path, help="folder for lab-yolov8n.onnx and training.json")
    parser.add_argument("--smoke", action="store_true", help="in miniature, on the CPU; fails unless the loss falls")
    parser.add_argument("--minutes", type=float, help="from the start to the last step (default: 11)")
    parser.add_argument("--batch", type=int, help="images a step (default: 64)")
    parser.add_argument("--processes", type=int, default=0, help="that render (default: one a core, 24 at most)")
    parser.add_argument("--no-compile", dest="compile", action="store_const", const=False, help="run without Triton")
    arguments = parser.parse_args()
    given = {name: getattr(arguments, name) for name in ("minutes", "batch", "compile")}
    settings = replace(
        SMOKE if arguments.smoke else Settings(), **{name: value for name, value in given.items() if value is not None}
    )
    if not arguments.smoke and not torch.cuda.is_available():
        parser.error("there is no GPU that PyTorch can use; --smoke needs none")
    device = torch.device("cpu" if arguments.smoke else "cuda")
    if arguments.smoke:
        torch.set_num_threads(
            1
        )  # the steps are small: on a busy machine, waiting for threads costs more than they save
    training = Training(settings, arguments.out, device, arguments.processes)
    training.facts["command"] = " ".join(
        ["python -m scripts.train_detector OUT", *options(sys.argv[1:], arguments.out)]
    )
    facts = training.run()
    if arguments.smoke and not falls([sum(row[part] for part in GAINS) for row in facts["losses"]]):
        parser.exit(1, "the loss did not fall\n")


def options(words: list[str], out: Path) -> list[str]:
    """The words of the command line without the folder, which differs between machines."""
    return [word for word in words if Path(word) != out]


def falls(losses: list[float]) -> bool:
    """True if the mean of the last quarter is less than 70 % of that of the first."""
    quarter = len(losses) // 4
    return sum(losses[-quarter:]) < 0.7 * sum(losses[:quarter])


if __name__ == "__main__":
    main()
