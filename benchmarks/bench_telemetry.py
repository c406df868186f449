"""What telemetry costs a loop: `python benchmarks/bench_telemetry.py [TURNS]`, on a GPU. The goal is under 1 %.

The same loop runs with and without ten samples a second, in turns. The cost is the median over the turns of the ratio
of their mean frame times.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext

import numpy as np

from yolotrt_lab import FrameLoop, Telemetry, open_device, open_engine, read_images
from yolotrt_lab.causes.catalogue import PINNED
from yolotrt_lab.errors import LabError


def main() -> None:
    """Print one line."""
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    try:
        device = open_device("cuda")  # the simulation takes no time to look at
    except LabError as error:
        sys.exit(str(error))
    loop = FrameLoop(device, open_engine(device), PINNED, read_images("synthetic", 1))
    frames_us: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for turn in range(turns):
        for sampled in (True, False) if turn % 2 else (False, True):
            with Telemetry(device) if sampled else nullcontext():
                frames_us[sampled].append(np.diff(loop.run().steady.columns["done_ns"]) / 1e3)
    with_it, without = (np.array(frames_us[sampled]) for sampled in (True, False))
    cost = np.median(with_it.mean(axis=1) / without.mean(axis=1)) - 1
    print(
        f"{device.source.stamp}: telemetry costs {cost:+.2%} of a mean frame over {turns} turns; "
        f"median frame {np.median(without):.1f} us without, {np.median(with_it):.1f} us with it"
    )


if __name__ == "__main__":
    main()
