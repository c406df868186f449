"""What one range costs with no tool attached: `python benchmarks/bench_ranges.py [TURNS]`. The goal is under 1 us.

Each kind of range is timed in turns with an empty `with` block, and that block's time is taken off. Figures are
medians of the turns.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from contextlib import AbstractContextManager, nullcontext

from yolotrt_lab.cuda import NvtxRanges
from yolotrt_lab.device import open_device

REPEATS = 20_000
NESTED = 2


def nested_ns(outer: AbstractContextManager[None], inner: AbstractContextManager[None]) -> float:
    """Nanoseconds for one range of a pair, as a loop uses them: a stage inside a frame."""
    begin = time.perf_counter_ns()
    for _ in range(REPEATS):
        with outer, inner:
            pass
    return (time.perf_counter_ns() - begin) / REPEATS / NESTED


def main(turns: int = 31) -> None:
    """Print one line for each kind of range."""
    simulated = open_device("simulated")
    kinds = {"simulated device": (simulated.range("frame"), simulated.range("infer"))}
    if importlib.util.find_spec("nvtx") is None:
        print("the nvtx package is not installed: its ranges are not timed")
    else:
        ranges = NvtxRanges()
        kinds["NVTX, no tool attached"] = (ranges("frame"), ranges("infer"))
    nothing = nullcontext()
    for name, pair in kinds.items():
        pairs_ns = [(nested_ns(*pair), nested_ns(nothing, nothing)) for _ in range(turns)]
        range_ns, empty_ns = (statistics.median(times) for times in zip(*pairs_ns, strict=True))
        print(f"{name:24} {range_ns:6.0f} ns a range, {range_ns - empty_ns:.0f} ns more than an empty with block")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
