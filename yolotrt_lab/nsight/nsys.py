"""The program nsys: where it is, and the export of its reports."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from ..errors import NsysError

_EXPORT_TIMEOUT_S = 1_800


def find_nsys() -> str:
    """The path of nsys: the one on the PATH, else the newest in the places where it is installed; '' without one."""
    if on_path := shutil.which("nsys"):
        return on_path
    program_files = Path(os.environ.get("PROGRAMFILES", "C:/Program Files"))
    places = [
        (program_files, "NVIDIA Corporation/Nsight Systems */target-windows-x64/nsys.exe"),
        (Path("/opt/nvidia/nsight-systems"), "*/bin/nsys"),
        (Path("/usr/local/cuda/bin"), "nsys"),
    ]
    found = (sorted(root.glob(pattern)) for root, pattern in places)
    return next((str(paths[-1]) for paths in found if paths), "")


def export_sqlite(report: Path, target: Path) -> None:
    """Let nsys write a .nsys-rep as .sqlite; NsysError where there is no nsys, or none that can read this report."""
    program = find_nsys()
    if not program:
        raise NsysError(
            f"{report} needs nsys to be read, and there is none here",
            fix=f"on a machine with Nsight Systems run: nsys export --type sqlite {report.name}; then name the .sqlite",
        )
    command = [program, "export", "--type", "sqlite", "--force-overwrite", "true", "--output", str(target), str(report)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_EXPORT_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NsysError(f"{program} could not export {report}: {error}", fix="check that nsys itself runs") from error
    if done.returncode or not target.is_file():
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise NsysError(
            f"{program} could not export {report}: {said[-1] if said else f'exit status {done.returncode}'}",
            fix="a report can be read by the nsys that made it or a newer one: export it there, and name the .sqlite",
        )
