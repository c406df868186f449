"""`yolotrt-lab doctor`."""

from __future__ import annotations

import argparse
from typing import Any

from .common import add_command


def add(commands: Any) -> None:
    """Register the subcommand."""
    summary = "say what is here, what is missing, and the command that installs it"
    parser = add_command(commands, "doctor", _doctor, summary)
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def _doctor(arguments: argparse.Namespace) -> int:
    from .. import doctor

    findings = doctor.examine()
    print(doctor.as_json(findings) if arguments.json else doctor.as_text(findings))
    return 0 if doctor.can_run(findings) else 1
