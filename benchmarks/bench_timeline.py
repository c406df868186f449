"""How long a timeline takes to draw: `python benchmarks/bench_timeline.py`. The goal is 50,000 events in under 2 s."""

from __future__ import annotations

import io
import time

import matplotlib
import numpy as np

from yolotrt_lab import plots
from yolotrt_lab.nsight.trace import SCHEMA, Trace, empty_table
from yolotrt_lab.types import Source, SourceKind

EVENTS = {"ranges": 8_000, "api": 20_000, "copies": 2_000, "kernels": 20_000}
NAMES = ("frame", "upload", "infer", "cudaMemcpyAsync", "cudaLaunchKernel", "cudaStreamSynchronize", "a kernel")


def synthetic() -> Trace:
    """Events one after the other, some under a microsecond apart, in every row that there is."""
    draws = np.random.default_rng(1)
    tables = {}
    for name, count in EVENTS.items():
        start = np.cumsum(draws.integers(1_000, 40_000, count))
        codes = {"name": draws.integers(0, len(NAMES), count), "direction": draws.integers(0, 2, count)}
        given = codes | {"start_ns": start, "end_ns": start + draws.integers(500, 20_000, count)}
        given |= {"host_memory": draws.integers(0, 2, count), "bytes": np.full(count, 4_915_200)}
        tables[name] = {column: given.get(column, np.zeros(count, np.int64)) for column in SCHEMA[name]}
    source = Source(SourceKind.SIMULATED, preset="none: random events")
    return Trace(**tables, memsets=empty_table("memsets"), names=NAMES, source=source)


def main() -> None:
    """Print a line for each kind of timeline."""
    matplotlib.use("Agg")
    trace = synthetic()
    plots.figure()  # imports
    begin = time.perf_counter()
    figure, ax = plots.figure(1, 1, height=3)
    plots.timeline(ax, trace, legend=True)
    figure.savefig(io.BytesIO(), format="png")
    print(f"a picture of {sum(EVENTS.values()):,} events: {time.perf_counter() - begin:.2f} s")
    plots.InteractiveTimeline(trace)  # imports
    begin = time.perf_counter()
    page = plots.InteractiveTimeline(trace)._repr_html_()
    print(f"one that zooms: {time.perf_counter() - begin:.2f} s, {len(page) / 1e6:.1f} MB of HTML")


if __name__ == "__main__":
    main()
