"""What subcommands share: how one is registered, and the options that name a device."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def add_command(
    commands: Any, name: str, function: Callable[[argparse.Namespace], int], summary: str, examples: str = ""
) -> argparse.ArgumentParser:
    """Register a subcommand whose work `function` does; returns its parser, for options."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(function=function)
    return parser


def add_device(parser: argparse.ArgumentParser) -> None:
    """`--device` and `--preset`."""
    parser.add_argument("--device", choices=["auto", "cuda", "simulated"], default="auto", help="default: auto")
    parser.add_argument("--preset", default="h200", help="what the simulated device runs on: a name or a JSON file")


def add_engine(parser: argparse.ArgumentParser) -> None:
    """`--engine`."""
    parser.add_argument(
        "--engine",
        choices=["auto", "tensorrt", "onnxruntime"],
        default="auto",
        help="what computes the boxes: TensorRT on the GPU, ONNX Runtime on the CPU, or whichever fits (default: auto)",
    )


@contextmanager
def progress_line(what: str) -> Iterator[Callable[[int], None] | None]:
    """A function to call with how much is done, shown on a line of a terminal and wiped at the end.

    None where stderr is no terminal.
    """
    if not sys.stderr.isatty():
        yield None
        return
    try:
        yield lambda done: print(f"\r{done} {what}", end="", file=sys.stderr, flush=True)
    finally:
        print(f"\r{'':79}\r", end="", file=sys.stderr, flush=True)
