"""Record every scenario on this machine's GPU into data/recordings: `python scripts/record_all.py PREFIX`.

The two loops of a clock get the same period: the first measures it, the second is given it. PREFIX names the GPU, such
as 'h200'.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from yolotrt_lab import Recording
from yolotrt_lab.paths import lab_path
from yolotrt_lab.scenarios import COPIES, SCENARIOS

SAME_CLOCK = {"report-fixed": "report", "overload-pinned": "overload"}


def main() -> None:
    """Run `yolotrt-lab record` once for each scenario."""
    prefix = sys.argv[1]
    folder = lab_path("data", "recordings")
    for name in [*SCENARIOS, COPIES]:
        out = _file(folder, prefix, name)
        command = [sys.executable, "-m", "yolotrt_lab", "record", name, "--device", "cuda", "--out", str(out)]
        if name in SAME_CLOCK:
            clock = Recording.load(_file(folder, prefix, SAME_CLOCK[name]))
            command += ["--period-us", str(clock.settings["period_us"])]
        subprocess.run(command, check=True)


def _file(folder: Path, prefix: str, name: str) -> Path:
    return folder / f"{prefix}-{name}.parquet"


if __name__ == "__main__":
    main()
