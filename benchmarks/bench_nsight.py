"""A long report of Nsight Systems, frame by frame: the lab beside pandas, Polars and DuckDB.

`python benchmarks/bench_nsight.py [FRAMES ...]`, 10,000 100,000 1,000,000 without any. The question: for each frame the
host's time by stage, the GPU's time by kind, and how long each synchronize call waited for kernels and copies. pandas,
Polars and DuckDB join and sum, as one would write it, and read by what is fastest for each; the lab, which measures
what intervals cover, tells idle time and other streams apart too. The report is synthetic (`make_report.py`): 100,000
frames are 1.1 million CUDA calls, 0.2 million copies, 0.8 million kernels and 0.2 million NVTX ranges.

Each run is a process of its own, all in turn; shown are the median of its seconds after the imports, and the highest
peak of its memory. The peers: pip install pandas polars duckdb connectorx
"""

from __future__ import annotations

import importlib.util
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parent))

RUNS = 5
NEEDS = {"lab": (), "polars": ("polars", "connectorx"), "duckdb": ("duckdb", "connectorx"), "pandas": ("pandas",)}
QUERIES = {
    "calls": 'SELECT start, "end", globalTid, correlationId, nameId FROM CUPTI_ACTIVITY_KIND_RUNTIME',
    "kernels": 'SELECT start, "end", correlationId, globalPid FROM CUPTI_ACTIVITY_KIND_KERNEL',
    "copies": 'SELECT start, "end", correlationId, globalPid, copyKind, srcKind, bytes FROM CUPTI_ACTIVITY_KIND_MEMCPY',
    "ranges": 'SELECT start, "end", globalTid, textId AS nameId FROM NVTX_EVENTS WHERE eventType = 59',
    "strings": "SELECT id AS nameId, value AS name FROM StringIds",
}
"""What the peers read: no more than they use."""


def lab(path: Path) -> list[int]:
    """By the lab: frames, stages, kernels, copies, synchronize calls, and what these wait for kernels; ns over all."""
    from yolotrt_lab.nsight.attribution import attribute
    from yolotrt_lab.nsight.reports import read_trace

    seen = attribute(read_trace(path))
    frames = seen.frames
    columns = [frames[name] for name in ("infer_ns", "kernels_ns", "copies_ns", "in_synchronize_ns")]
    columns = [frames["end_ns"] - frames["start_ns"], *columns, seen.waits_ns("kernels")]
    return [int(column.sum()) for column in columns]


def polars(path: Path) -> list[int]:
    """The same by Polars, which reads with connectorx."""
    import polars as pl

    read = {
        name: pl.read_database_uri(query, f"sqlite://{path}", engine="connectorx") for name, query in QUERIES.items()
    }
    length = pl.col("end") - pl.col("start")
    calls = (
        read["calls"].join(read["strings"], on="nameId").with_columns(pid=pl.col("globalTid") // 2**24).sort("start")
    )
    ranges = read["ranges"].join(read["strings"], on="nameId").sort("start")
    frames = ranges.filter(pl.col("name") == "frame").with_row_index("frame")
    edges = frames.select("start", "globalTid", "frame", frame_end="end")
    how: dict[str, Any] = {"on": "start", "by": "globalTid", "check_sortedness": False}
    inside = pl.col("start") < pl.col("frame_end")
    calls = calls.join_asof(edges, **how).filter(inside)
    stages = ranges.filter(pl.col("name") != "frame").join_asof(edges, **how).filter(inside)
    keys = calls.select("pid", "correlationId", "frame")
    work = {
        name: read[name].with_columns(pid=pl.col("globalPid") // 2**24).join(keys, on=["pid", "correlationId"])
        for name in ("kernels", "copies")
    }
    waits = calls.filter(pl.col("name").str.contains("Synchronize")).select("frame", begin="start", until="end")
    for name, table in work.items():
        part = pl.min_horizontal("end", "until") - pl.max_horizontal("start", "begin")
        waited = (
            table.select("frame", "start", "end")
            .join(waits, on="frame")
            .select("frame", "begin", part.clip(0).alias(name))
        )
        waits = waits.join(waited.group_by("frame", "begin").agg(pl.col(name).sum()), on=["frame", "begin"], how="left")
    by_stage = stages.group_by("frame", "name").agg(length.sum().alias("ns")).sort("frame")
    by_kernel = work["kernels"].group_by("frame").agg(length.sum().alias("ns")).sort("frame")
    by_copy = (
        work["copies"].group_by("frame", "copyKind", "srcKind").agg(length.sum().alias("ns"), pl.col("bytes").sum())
    )
    by_copy = by_copy.sort("frame")
    total = [table["ns"].sum() for table in (by_stage, by_kernel, by_copy)]
    return [
        frames.select(length).sum().item(),
        *total,
        waits.select(pl.col("until") - pl.col("begin")).sum().item(),
        waits["kernels"].sum(),
    ]


def duckdb(path: Path) -> list[int]:
    """The same by DuckDB, which gets what connectorx reads: its own reader of SQLite is downloaded when it runs."""
    import connectorx
    import duckdb as db

    with closing(db.connect()) as database:
        for name, query in QUERIES.items():
            database.register(name, connectorx.read_sql(f"sqlite://{path}", query, return_type="arrow"))
        database.execute(DUCKDB)
        tables = ("by_stage", "by_kernel", "by_copy", "waits")
        sums = [f"(SELECT sum(ns) FROM {table})" for table in tables]
        sums = ['(SELECT sum("end" - start) FROM frames)', *sums, "(SELECT sum(kernels) FROM waits)"]
        [row] = database.execute(f"SELECT {', '.join(sums)}").fetchall()
    return [int(value) for value in row]


DUCKDB = """
CREATE TABLE frames AS SELECT start, "end", globalTid, row_number() OVER (ORDER BY start) AS frame
    FROM ranges JOIN strings USING (nameId) WHERE name = 'frame';
CREATE TABLE called AS SELECT c.start, c."end", c.globalTid // 16777216 AS pid, correlationId, name, frame
    FROM calls AS c JOIN strings USING (nameId)
    ASOF JOIN frames AS f ON c.globalTid = f.globalTid AND c.start >= f.start WHERE c.start < f."end";
CREATE TABLE by_stage AS SELECT frame, name, sum(r."end" - r.start) AS ns FROM ranges AS r JOIN strings USING (nameId)
    ASOF JOIN frames AS f ON r.globalTid = f.globalTid AND r.start >= f.start
    WHERE name <> 'frame' AND r.start < f."end" GROUP BY ALL ORDER BY frame;
CREATE TABLE worked AS SELECT frame, 1 AS kernel, k.start, k."end", 0 AS copyKind, 0 AS srcKind, 0 AS bytes
    FROM kernels AS k JOIN called AS c ON k.globalPid // 16777216 = c.pid AND k.correlationId = c.correlationId
    UNION ALL SELECT frame, 0, k.start, k."end", copyKind, srcKind, bytes
    FROM copies AS k JOIN called AS c ON k.globalPid // 16777216 = c.pid AND k.correlationId = c.correlationId;
CREATE TABLE by_kernel AS SELECT frame, sum("end" - start) AS ns
    FROM worked WHERE kernel = 1 GROUP BY frame ORDER BY frame;
CREATE TABLE by_copy AS SELECT frame, copyKind, srcKind, sum("end" - start) AS ns, sum(bytes) AS bytes
    FROM worked WHERE kernel = 0 GROUP BY ALL ORDER BY frame;
CREATE TABLE waits AS SELECT frame, c.start, any_value(c."end" - c.start) AS ns,
    sum(kernel * greatest(least(w."end", c."end") - greatest(w.start, c.start), 0)) AS kernels,
    sum((1 - kernel) * greatest(least(w."end", c."end") - greatest(w.start, c.start), 0)) AS copies
    FROM called AS c JOIN worked AS w USING (frame) WHERE contains(name, 'Synchronize') GROUP BY frame, c.start;
"""


def pandas(path: Path) -> list[int]:
    """The same by pandas and its own reader."""
    import pandas as pd

    with closing(sqlite3.connect(path)) as database:
        read = {name: pd.read_sql(query, database) for name, query in QUERIES.items()}
    calls = read["calls"].merge(read["strings"], on="nameId").assign(pid=lambda t: t["globalTid"] // 2**24)
    calls, ranges = calls.sort_values("start"), read["ranges"].merge(read["strings"], on="nameId").sort_values("start")
    frames = ranges[ranges["name"] == "frame"].reset_index(drop=True)
    frames["frame"] = frames.index
    edges = frames[["start", "end", "frame", "globalTid"]].rename(columns={"end": "frame_end"})
    calls = pd.merge_asof(calls, edges, on="start", by="globalTid")
    calls = calls[calls["start"] < calls["frame_end"]]
    stages = pd.merge_asof(ranges[ranges["name"] != "frame"], edges, on="start", by="globalTid")
    keys = calls[["pid", "correlationId", "frame"]]
    work = {
        name: read[name].assign(pid=lambda t: t["globalPid"] // 2**24).merge(keys, on=["pid", "correlationId"])
        for name in ("kernels", "copies")
    }
    waits = calls[calls["name"].str.contains("Synchronize")]
    waits = waits[["frame", "start", "end"]].rename(columns={"start": "begin", "end": "until"})
    for name, table in work.items():
        both = table.merge(waits[["frame", "begin", "until"]], on="frame")
        part = both[["end", "until"]].min(axis=1) - both[["start", "begin"]].max(axis=1)
        waited = part.clip(lower=0).groupby([both["frame"], both["begin"]]).sum().rename(name).reset_index()
        waits = waits.merge(waited, on=["frame", "begin"], how="left")
    by_stage = _lengths(stages).groupby([stages["frame"], stages["name"]]).sum()
    by_kernel = _lengths(work["kernels"]).groupby(work["kernels"]["frame"]).sum()
    by_copy = (
        _lengths(work["copies"]).groupby([work["copies"][name] for name in ("frame", "copyKind", "srcKind")]).sum()
    )
    sums = [_lengths(frames), by_stage, by_kernel, by_copy, waits["until"] - waits["begin"], waits["kernels"]]
    return [int(each.sum()) for each in sums]


def _lengths(table: Any) -> Any:
    return table["end"] - table["start"]


def one(name: str, path: Path) -> None:
    """Print the seconds, the peak of memory in MB and the sums of one run in this process."""
    for module in NEEDS[name] or ("yolotrt_lab.nsight.attribution", "yolotrt_lab.nsight.reports"):
        importlib.import_module(module)
    begin = time.perf_counter()
    sums = globals()[name](path)
    seconds = time.perf_counter() - begin
    status = Path("/proc/self/status")
    peak = int(status.read_text().split("VmHWM:")[1].split()[0]) / 1e3 if status.exists() else float("nan")
    print(json.dumps([seconds, peak, sums]))


def main() -> None:
    """Print a table for each number of frames."""
    from make_report import write_report

    here = [name for name, modules in NEEDS.items() if all(map(importlib.util.find_spec, modules))]
    with tempfile.TemporaryDirectory() as folder:
        for frames in [int(text) for text in sys.argv[1:]] or [10_000, 100_000, 1_000_000]:
            path = Path(folder) / "report.sqlite"
            write_report(path, frames)
            found: dict[str, list[Any]] = {name: [] for name in here}
            for _ in range(RUNS if frames >= 10_000 else 1):
                for name in here:
                    command = [sys.executable, __file__, "--one", name, str(path)]
                    ran = subprocess.run(command, capture_output=True, text=True, check=True)
                    found[name].append(json.loads(ran.stdout))
            sums = {name: runs[0][2] for name, runs in found.items()}
            assert all(each == sums["lab"] for each in sums.values()), sums
            print(f"{frames:,} frames")
            own = median(run[0] for run in found["lab"])
            for name, runs in found.items():
                seconds, peak = median(run[0] for run in runs), max(run[1] for run in runs)
                print(f"  {name:8} {seconds:7.2f} s {peak:7.0f} MB   the lab takes {own / seconds:.2f} of its time")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
