"""Reading and attributing a long report, against pandas: `python benchmarks/bench_nsight.py [FRAMES]`.

The report is synthetic (`make_report.py`): 100,000 frames are 1.1 million CUDA calls, 0.2 million copies, 0.8 million
kernels and 0.2 million NVTX ranges. Each time is the shortest of several runs after the imports, and each peak of
memory that of a process of its own. pandas reads the same columns by `read_sql`, joins them the same way and sums them
by frame; it leaves out what waits are split into and where the GPU idles.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parent))
from make_report import write_report

from yolotrt_lab.nsight.attribution import Attribution, attribute
from yolotrt_lab.nsight.reports import read_trace
from yolotrt_lab.nsight.trace_findings import findings

RUNS = 5


def with_pandas(path: Path) -> Any:
    """Per-frame times by pandas, as one would write it."""
    import pandas

    with closing(sqlite3.connect(path)) as database:
        tables = {name: pandas.read_sql(query, database) for name, query in _QUERIES.items()}
    strings = tables["strings"].set_index("id")["value"]
    calls = tables["calls"].assign(name=lambda table: table["nameId"].map(strings)).sort_values("start")
    ranges = tables["ranges"].assign(name=lambda table: table["textId"].map(strings)).sort_values("start")
    frames = ranges[ranges["name"] == "frame"].reset_index(drop=True)
    frames["frame"] = frames.index
    edges = frames[["start", "end", "frame", "globalTid"]].rename(columns={"end": "frame_end"})
    calls = pandas.merge_asof(calls, edges, on="start", by="globalTid")
    calls = calls[calls["start"] < calls["frame_end"]].assign(pid=lambda table: table["globalTid"] // 2**24)
    stages = pandas.merge_asof(ranges[ranges["name"] != "frame"], edges, on="start", by="globalTid")
    keys = calls[["pid", "correlationId", "frame"]]
    work = {
        name: tables[name]
        .assign(pid=lambda table: table["globalPid"] // 2**24)
        .merge(keys, on=["pid", "correlationId"])
        for name in ("kernels", "copies")
    }
    waits = calls[calls["name"].str.contains("Synchronize")]
    by_frame = {
        "kernels_ns": _total(work["kernels"], ["frame"]),
        "copies_ns": _total(work["copies"], ["frame", "copyKind", "srcKind"]),
        "bytes": work["copies"].groupby(["frame", "copyKind", "srcKind"])["bytes"].sum(),
        "synchronize_ns": _total(waits, ["frame"]),
        "stages_ns": _total(stages, ["frame", "name"]),
    }
    return by_frame


_QUERIES = {
    "calls": 'SELECT start, "end", globalTid, correlationId, nameId FROM CUPTI_ACTIVITY_KIND_RUNTIME',
    "kernels": 'SELECT start, "end", deviceId, streamId, correlationId, globalPid, shortName, graphNodeId'
    " FROM CUPTI_ACTIVITY_KIND_KERNEL",
    "copies": 'SELECT start, "end", deviceId, streamId, correlationId, globalPid, bytes, copyKind, srcKind, dstKind'
    " FROM CUPTI_ACTIVITY_KIND_MEMCPY",
    "ranges": 'SELECT start, "end", globalTid, textId FROM NVTX_EVENTS WHERE eventType = 59',
    "strings": "SELECT id, value FROM StringIds",
}


def _total(table: Any, by: list[str]) -> Any:
    return (table["end"] - table["start"]).groupby([table[name] for name in by]).sum()


def with_lab(path: Path) -> Attribution:
    """The same, and more, by the lab."""
    return attribute(read_trace(path))


def in_turns(works: dict[str, Callable[[], object]], runs: int = RUNS) -> dict[str, float]:
    """The shortest time of each, in seconds, run in turn: a machine whose speed drifts favours none."""
    times = dict.fromkeys(works, np.inf)
    for _ in range(runs):
        for name, work in works.items():
            begin = time.perf_counter()
            work()
            times[name] = min(times[name], time.perf_counter() - begin)
    return times


def peak_mb(path: Path) -> float:
    """Peak resident memory of a process that reads and attributes the report, in MB; Linux tells it in /proc."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]; from pathlib import Path; import bench_nsight;"
        "bench_nsight.with_lab(Path(sys.argv[3]));"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    here = Path(__file__).parent
    command = [sys.executable, "-c", code, str(here.parent), str(here), str(path)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1_000


def main() -> None:
    """Print the figures of reports of 1,000, a tenth, and all of the frames."""
    frames = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        paths = {count: Path(folder) / f"{count}.sqlite" for count in (1_000, frames // 10, frames)}
        for count, path in paths.items():
            write_report(path, count)
        small, tenth, whole = (paths[count] for count in (1_000, frames // 10, frames))
        check(small)
        times = in_turns(
            {
                "pandas": lambda: with_pandas(whole),
                "lab": lambda: with_lab(whole),
                "lab, a tenth": lambda: with_lab(tenth),
                "lab, 1,000 frames": lambda: with_lab(small),
            }
        )
        for name, seconds in times.items():
            print(f"{name:18} {seconds:6.2f} s")
        print(f"the lab is {times['pandas'] / times['lab']:.1f} times as fast as pandas")
        print(f"10 times the rows take {times['lab'] / times['lab, a tenth']:.1f} times as long")
        trace = read_trace(whole)
        print(f"findings of it     {in_turns({'': lambda: findings(trace)}, 2)['']:6.2f} s")
        print(f"peak memory        {peak_mb(whole):.0f} MB")


def check(path: Path) -> None:
    """Both must say the same of the same report."""
    pandas, lab = with_pandas(path), with_lab(path).frames
    assert (pandas["kernels_ns"].to_numpy() == lab["kernels_ns"]).all()
    assert (pandas["copies_ns"].groupby("frame").sum().to_numpy() == lab["copies_ns"]).all()
    assert (pandas["synchronize_ns"].to_numpy() == lab["in_synchronize_ns"]).all()
    assert (pandas["stages_ns"].to_numpy() == lab["infer_ns"]).all()


if __name__ == "__main__":
    main()
