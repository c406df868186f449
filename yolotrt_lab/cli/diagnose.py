"""`yolotrt-lab diagnose`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError
from .common import add_command

if TYPE_CHECKING:
    from ..diagnosis import Diagnosis, Measurements

_EXAMPLES = """examples:
  yolotrt-lab diagnose recording.parquet              a recording of the lab
  yolotrt-lab diagnose times.csv --unit ms            a table or a log: one number a frame, or a column a stage
  yolotrt-lab diagnose report.nsys-rep                a report of Nsight Systems, or its .sqlite export
  yolotrt-lab diagnose times.csv --json               for scripts; the package holds the schema
  yolotrt-lab diagnose times.csv --html page.html     one page with the figure, to send to somebody
"""


def add(commands: Any) -> None:
    """Register the subcommand."""
    parser = add_command(commands, "diagnose", _diagnose, "say why a loop gets slower, from its timings", _EXAMPLES)
    parser.add_argument("file", type=Path, metavar="FILE", help="a recording, a table, a log or a trace")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with the figure as well")
    parser.add_argument("--unit", choices=["s", "ms", "us", "ns"], help="the unit of numbers that do not name theirs")


def _diagnose(arguments: argparse.Namespace) -> int:
    from ..diagnosis import diagnose_file

    measurements, diagnosis = diagnose_file(arguments.file, unit=arguments.unit)
    if arguments.html is not None:
        _write_page(arguments.html, arguments.file.name, measurements, diagnosis)
    print(json.dumps(diagnosis.as_dict(), indent=1, ensure_ascii=False) if arguments.json else diagnosis)
    return 0


def _write_page(path: Path, name: str, measurements: Measurements, diagnosis: Diagnosis) -> None:
    from ..diagnosis import as_html
    from ..plots import as_svg, diagnosed

    page = as_html(diagnosis, as_svg(diagnosed(measurements, diagnosis)), f"Why {name} gets slower")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error}", fix="name another place") from error
