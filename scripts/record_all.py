"""Record every scenario on this machine's GPU: `python scripts/record_all.py data/recordings/h200`.

Loops that are compared stage by stage take turns. Of two loops on one clock the first measures the period, and the
second gets it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from yolotrt_lab.recording import Recording

TOGETHER = (
    ("served-report", "served-pageable", "served-copied", "served-pinned", "trap-allocate", "trap-bypass"),
    ("graph-pageable", "graph-pinned", "moved-wait", "plain-pageable", "plain-pinned", "served-boxes"),
)
SAME_CLOCK = (("clocked", "clocked-fixed"), ("overload", "overload-pinned"))
ALONE = ("late", "late-pinned", "copies")


def record(*names: str, out: Path, options: tuple[str, ...] = ()) -> None:
    """Run `yolotrt-lab record`."""
    command = [sys.executable, "-m", "yolotrt_lab", "record", *names, "--device", "cuda", "--out", str(out), *options]
    subprocess.run(command, check=True)


def main() -> None:
    """Fill the folder."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for first, second in SAME_CLOCK:
        record(first, out=folder / f"{first}.parquet")
        period_us = Recording.load(folder / f"{first}.parquet").settings["period_us"]
        record(second, out=folder / f"{second}.parquet", options=("--period-us", str(period_us)))
    for names in TOGETHER:
        record(*names, out=folder)
    for name in ALONE:
        record(name, out=folder / f"{name}.parquet")


if __name__ == "__main__":
    main()
