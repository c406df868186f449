"""What subcommands share: how one is registered, and the options that name a device."""

from __future__ import annotations

import argparse
from collections.abc import Callable
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
