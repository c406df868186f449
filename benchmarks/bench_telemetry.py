"""What telemetry costs a loop: `python benchmarks/bench_telemetry.py [TURNS]`, on a GPU. The goal is under 1 %.

The same loop runs with telemetry at ten samples a second and without, in turns; the figure is the median over the
turns of the ratio of their mean frame times, and the median frame of each.
"""

from __future__ import annotations

import statistics
import sys
from contextlib import nullcontext

import numpy as np

from yolotrt_lab.causes.catalogue import PINNED
from yolotrt_lab.device import open_device
from yolotrt_lab.engine import open_engine
from yolotrt_lab.frames import read_images
from yolotrt_lab.loop import FrameLoop
from yolotrt_lab.telemetry import Telemetry


def main() -> None:
    """Print one line."""
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    device = open_device()
    engine = open_engine(device)
    loop = FrameLoop(device, engine, PINNED, read_images("synthetic", 1) if engine.computes else None)
    means: dict[bool, list[float]] = {True: [], False: []}
    medians: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(turns):
        for sampled in (True, False) if turn % 2 else (False, True):
            with Telemetry(device) if sampled else nullcontext():
                frame_us = np.diff(loop.run().steady.columns["done_ns"]) / 1e3
            means[sampled].append(float(frame_us.mean()))
            medians[sampled].append(float(np.median(frame_us)))
    cost = statistics.median(with_it / without for with_it, without in zip(means[True], means[False], strict=True)) - 1
    middle = [statistics.median(medians[sampled]) for sampled in (False, True)]
    print(
        f"{device.source.stamp}: telemetry costs {cost:+.2%} of a mean frame over {turns} turns; "
        f"median frame {middle[0]:.1f} us without, {middle[1]:.1f} us with it"
    )


if __name__ == "__main__":
    main()
