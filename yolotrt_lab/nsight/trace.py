"""What the host and the GPU did, as tables: one schema for a report of Nsight Systems and for the simulated device.

`write_perfetto` writes them for ui.perfetto.dev, as JSON in Chrome's Trace Event Format: complete events (`ph` X) are
the bars, in microseconds; metadata events (M) name the tracks; flow events (s and f) draw an arrow from a CUDA call to
what the GPU did for it. https://perfetto.dev/docs/getting-started/other-formats
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..errors import TraceError
from ..files import write_file
from ..packages import arrow_stream
from ..types import HostMemory, Source, Span
from .intervals import look_up

if TYPE_CHECKING:
    from ..plots.timelines import Row

DIRECTIONS = ("h2d", "d2h", "d2d", "p2p", "h2h", "other")
"""Which way a copy went; column `direction` holds places in this tuple."""

MEMORIES = (*map(str, HostMemory), "device", "array", "managed", "unknown")
"""Kinds of memory; column `host_memory` holds places in this tuple."""

DEVICE_WAITS = frozenset(("cudaDeviceSynchronize", "cudaThreadSynchronize", "cuCtxSynchronize"))
"""The calls that wait for every stream; a trace does not say which one the others wait for."""

CLOCK_SLACK_NS = 5_000
"""How much later than a call's return the work may seem to end that the call waited for."""


class Graph(IntEnum):
    """How GPU work was launched; column `graph` holds one."""

    NO = 0
    """Singly."""
    NODE = 1
    """As a node of a CUDA graph."""
    WHOLE = 2
    """A whole graph that the report shows as one block."""


_Types = dict[str, type[np.integer[Any]]]
_TIMES: _Types = {"start_ns": np.int64, "end_ns": np.int64}
_HOST: _Types = {"name": np.int32, "pid": np.int32, "tid": np.int32}
_GPU: _Types = {"device": np.int32, "stream": np.int32, "pid": np.int32, "correlation": np.int64, "graph": np.int8}
SCHEMA: Mapping[str, _Types] = {
    "api": _TIMES | _HOST | {"correlation": np.int64},
    "copies": _TIMES | {"direction": np.int8, "host_memory": np.int8, "bytes": np.int64} | _GPU,
    "kernels": _TIMES | {"name": np.int32} | _GPU,
    "memsets": _TIMES | {"bytes": np.int64} | _GPU,
    "ranges": _TIMES | _HOST,
}
"""The tables of a trace, their columns and the type of each."""

_TABLE_OF = {"api": "api", "upload": "copies", "download": "copies", "kernel": "kernels", "range": "ranges"}

_GPU_PID = 1 << 22  # Linux numbers its processes below this
_CATEGORIES = {
    **{"range": "nvtx", "api": "cuda", "kernel": "kernels", "graph": "kernels", "memset": "memsets"},
    **dict.fromkeys(("upload", "download", "copy"), "copies"),
}


class Columns(dict[str, np.ndarray]):
    """Named columns, NumPy arrays of shape (rows,). pandas, Polars, DuckDB and PyArrow take them as a table.

    >>> import pyarrow
    >>> pyarrow.table(Columns(start_ns=np.array([0, 5]))).num_rows
    2
    """

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return arrow_stream(self, requested_schema)


def empty_table(table: str) -> Columns:
    """A table of that name without rows."""
    return Columns({name: np.empty(0, dtype) for name, dtype in SCHEMA[table].items()})


@dataclass(frozen=True, eq=False)
class Trace:
    """What happened, as tables of integer columns, read-only and sorted by `start_ns`; `SCHEMA` has their types.

    Times are in ns, on one clock for the host and the GPU. In every table `name` is a place in `names`, `pid` the
    process, and `correlation` joins GPU work to the call in `api` with the same `pid`.

    TraceError where a column is missing, columns differ in length, or a code is outside its tuple.

    >>> import yolotrt_lab as lab
    >>> device = lab.open_device("simulated", trace=True)
    >>> _ = lab.run_loop(device, lab.open_engine(device), lab.LoopSettings(frames=3, warmup=0))
    >>> trace = Trace.from_spans(device.spans, device.source)
    >>> trace.count("copies"), MEMORIES[trace.copies["host_memory"][0]]
    (6, 'pageable')
    """

    api: Columns
    """CUDA calls, each with its thread: `pid` and `tid`."""
    copies: Columns
    """Copies. `host_memory` is the memory on the host's side, and for copies without one the memory that is read."""
    kernels: Columns
    """Kernels, and whole CUDA graphs that the report shows as one block."""
    ranges: Columns
    """NVTX ranges (push/pop and start/end), each with its thread."""
    names: tuple[str, ...]
    source: Source
    """Where the trace was recorded, or that it was simulated."""
    notes: tuple[str, ...] = ()
    """What the report lacks, or holds in doubt."""
    memsets: Columns = field(default_factory=lambda: empty_table("memsets"))
    """Memory that the GPU filled."""

    def __post_init__(self) -> None:
        for table in SCHEMA:
            object.__setattr__(self, table, _checked(table, getattr(self, table), len(self.names)))

    @property
    def begin_ns(self) -> int:
        """When the first row begins; 0 without rows."""
        return min((int(self.table(name)["start_ns"][0]) for name in SCHEMA if self.count(name)), default=0)

    @property
    def end_ns(self) -> int:
        """When the last row ends; 0 without rows."""
        return max((int(self.table(name)["end_ns"].max()) for name in SCHEMA if self.count(name)), default=0)

    def table(self, name: str) -> Columns:
        """The table of that name, such as "api"."""
        return cast("Columns", getattr(self, name))

    def count(self, table: str) -> int:
        """The number of rows of a table."""
        return len(self.table(table)["start_ns"])

    def where(self, table: str, keep: np.ndarray) -> Trace:
        """The trace with only those rows of one table; `keep` is a mask or row numbers in rising order."""
        changed: dict[str, Any] = {table: rows_of(self.table(table), keep)}
        return replace(self, **changed)

    def named(self, table: str, choose: Callable[[str], bool]) -> np.ndarray:
        """A mask of the rows of a table whose name `choose` takes, bool of shape (rows,); it is asked once a name."""
        chosen = np.fromiter(map(choose, self.names), bool, len(self.names))
        return np.take(chosen, self.table(table)["name"]) if len(chosen) else np.zeros(self.count(table), bool)

    def between(self, start_ns: int, end_ns: int) -> Trace:
        """What happened from `start_ns` up to `end_ns`: the rows that overlap it, whole."""
        cut: dict[str, Any] = {}
        for name in SCHEMA:
            table = self.table(name)
            cut[name] = rows_of(table, (table["start_ns"] < end_ns) & (table["end_ns"] >= start_ns))
        return replace(self, **cut)

    @classmethod
    def from_spans(cls, spans: Iterable[Span], source: Source) -> Trace:
        """The trace of what a simulated device kept in `spans`: one process, its threads numbered from 0."""
        rows: dict[str, list[Span]] = {table: [] for table in ("ranges", "api", "kernels", "copies")}
        for span in spans:
            rows[_TABLE_OF[span.row]].append(span)
        named = (span.name for table in ("ranges", "api", "kernels") for span in rows[table])
        codes = {name: code for code, name in enumerate(dict.fromkeys(named))}
        tables: dict[str, Any] = {table: _of_spans(table, of_table, codes) for table, of_table in rows.items()}
        return cls(**tables, names=tuple(codes), source=source)

    def spans(self) -> Iterator[tuple[int, Span]]:
        """Each row of each table as a span, with the GPU that it ran on, -1 for the host.

        `thread` is the process and the thread, as `packed` has them; for GPU work the process that asked for it.
        """
        for table in SCHEMA:
            columns = self.table(table)
            for values in zip(*(column.tolist() for column in columns.values()), strict=True):
                line = dict(zip(columns, values, strict=True))
                row, name = _row_and_name(table, line, self.names)
                thread = (line["pid"] << 32) + line.get("tid", 0)
                stream, nbytes, correlation = (line.get(column, 0) for column in ("stream", "bytes", "correlation"))
                span = Span(row, name, line["start_ns"], line["end_ns"], stream, nbytes, correlation, thread)
                yield line.get("device", -1), span

    def rows(self, begin_ns: int | None = None, end_ns: int | None = None, depth: int = 2) -> list[Row]:
        """The rows of a timeline from `begin_ns` to `end_ns`, the whole trace without them; see `plots.timeline`.

        Ranges that lie deeper than `depth` in others are left out.
        """
        from ..plots.timelines import span_rows

        begin, end = (self.begin_ns if begin_ns is None else begin_ns), (self.end_ns if end_ns is None else end_ns)
        by_gpu = defaultdict[int, list[Span]](list)
        for gpu, span in self.between(begin, end + (end_ns is None)).spans():
            by_gpu[gpu].append(span)
        labels = {gpu: f"GPU {gpu} " if gpu >= 0 and len(by_gpu.keys() - {-1}) > 1 else "" for gpu in sorted(by_gpu)}
        return [row for gpu, label in labels.items() for row in span_rows(by_gpu[gpu], depth, gpu=label)]


def _row_and_name(table: str, line: Mapping[str, int], names: Sequence[str]) -> tuple[str, str]:
    """What a `Span` says of a row of a table."""
    if table == "copies":
        direction = DIRECTIONS[line["direction"]]
        row = {"h2d": "upload", "d2h": "download"}.get(direction, "copy")
        return row, f"{MEMORIES[line['host_memory']]} {direction}"
    if table == "memsets":
        return "memset", "memset"
    row = "graph" if line.get("graph") == Graph.WHOLE else {"ranges": "range", "kernels": "kernel"}.get(table, table)
    return row, names[line["name"]]


def rows_of(table: Columns, keep: np.ndarray | slice) -> Columns:
    """Those rows of a table, by a mask, by their numbers, or from one to another."""
    if isinstance(keep, slice):
        return Columns({name: values[keep] for name, values in table.items()})
    rows = np.flatnonzero(keep) if keep.dtype == bool else keep
    return Columns({name: np.take(values, rows) for name, values in table.items()})


def packed(table: Mapping[str, np.ndarray], number: str = "tid") -> np.ndarray:
    """One integer for each row's process and a number of 32 bits in it; `>> 32` gives the process again."""
    key: np.ndarray = (table["pid"].astype(np.int64) << 32) | table[number]
    return key


def queue_of(work: Mapping[str, np.ndarray]) -> np.ndarray:
    """One number for a process, a GPU and a stream; a process has 24 bits."""
    queue: np.ndarray = packed(work, "stream") + (work["device"].astype(np.int64) << 56)
    return queue


def calls_of(api: Mapping[str, np.ndarray]) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """A function that finds for GPU work the rows in `api` of the calls that asked for it; -1 where there is none."""
    find = look_up(packed(api, "correlation"))
    return lambda work: find(packed(work, "correlation"))


def _checked(table: str, columns: Columns, names: int) -> Columns:
    """The columns as the schema has them, sorted by start."""
    missing = [name for name in SCHEMA[table] if name not in columns]
    if missing:
        raise TraceError(f"the table {table} of a trace lacks {', '.join(missing)}", fix="fill every column of SCHEMA")
    checked = Columns({name: np.asarray(columns[name], dtype).view() for name, dtype in SCHEMA[table].items()})
    if len({values.shape for values in checked.values()}) > 1:
        raise TraceError(f"the columns of the table {table} differ in length", fix="give every row every column")
    limits = {"name": names, "direction": len(DIRECTIONS), "host_memory": len(MEMORIES), "graph": len(Graph)}
    for name in limits.keys() & checked.keys():
        values = checked[name]
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) < limits[name]:
            raise TraceError(
                f"the table {table} holds a {name} outside 0 to {limits[name] - 1}", fix="export the report again"
            )
    starts = checked["start_ns"]
    if (starts[1:] < starts[:-1]).any():
        checked = rows_of(checked, np.argsort(starts, kind="stable"))
    for values in checked.values():
        values.flags.writeable = False
    return checked


def _of_spans(table: str, spans: Sequence[Span], codes: Mapping[str, int]) -> Columns:
    """A span of a copy is named by its memory, such as 'pinned upload'. Columns that spans do not have are 0."""
    values: dict[str, Callable[[Span], int]] = {
        "start_ns": lambda span: span.start_ns,
        "end_ns": lambda span: span.end_ns,
        "name": lambda span: codes[span.name],
        "tid": lambda span: span.thread,
        "stream": lambda span: span.stream,
        "correlation": lambda span: span.correlation,
        "bytes": lambda span: span.nbytes,
        "direction": lambda span: DIRECTIONS.index("h2d" if span.row == "upload" else "d2h"),
        "host_memory": lambda span: MEMORIES.index(span.name.partition(" ")[0]),
    }
    types = SCHEMA[table].items()
    return Columns({name: np.array([*map(values.get(name, lambda _: 0), spans)], dtype) for name, dtype in types})


def write_perfetto(trace: Trace, path: str | Path) -> Path:
    """Write the trace and return its path; times count from the trace's begin. TraceError where it cannot be written.

    A process on the screen is a process of the host, with a track for each thread, or a GPU, with a track for each
    stream and kind of work.

    >>> import tempfile
    >>> from yolotrt_lab import nsight
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_perfetto(nsight.shipped_trace("graph-pinned"), f"{folder}/trace.json").name
    'trace.json'
    """
    document = {
        "traceEvents": list(_events(trace)),
        "displayTimeUnit": "ns",
        "otherData": {"source": trace.source.stamp, **{f"note {n}": note for n, note in enumerate(trace.notes, 1)}},
    }
    return write_file(path, json.dumps(document, separators=(",", ":")), TraceError)


def _events(trace: Trace) -> Iterator[dict[str, Any]]:
    begin_ns, processes = trace.begin_ns, set[int]()
    tracks: dict[tuple[int, int, str], int] = {}
    calls: dict[tuple[int, int], dict[str, Any]] = {}
    for number, (gpu, span) in enumerate(trace.spans()):  # calls come first
        pid, tid = divmod(span.thread, 1 << 32)
        category = _CATEGORIES[span.row]
        call = calls.get((pid, span.correlation))
        if gpu >= 0:
            pid, tid = _GPU_PID + gpu, tracks.setdefault((gpu, span.stream, category), len(tracks) + 1)
        else:
            processes.add(pid)
        place = {"ts": (span.start_ns - begin_ns) / 1e3, "pid": pid, "tid": tid}
        bar = {"name": span.name, "ph": "X", "cat": category, "dur": (span.end_ns - span.start_ns) / 1e3} | place
        yield bar | _details(span) if span.nbytes else bar
        if span.row == "api":
            calls[pid, span.correlation] = place
        if gpu >= 0 and call:
            flow = {"name": "submits", "cat": "flow", "id": number}
            yield from ({"ph": "s"} | flow | call, {"ph": "f", "bp": "e"} | flow | place)
    for pid in sorted(processes):
        yield _metadata("process_name", pid, 0, {"name": f"host, process {pid}"})
    for gpu in sorted({gpu for gpu, _, _ in tracks}):
        yield _metadata("process_name", _GPU_PID + gpu, 0, {"name": f"GPU {gpu}"})
    for order, ((gpu, stream, category), tid) in enumerate(sorted(tracks.items())):
        yield _metadata("thread_name", _GPU_PID + gpu, tid, {"name": f"stream {stream} {category}"})
        yield _metadata("thread_sort_index", _GPU_PID + gpu, tid, {"sort_index": order})


def _details(span: Span) -> dict[str, Any]:
    details: dict[str, Any] = {"bytes": span.nbytes}
    if span.row != "memset":
        rate = span.nbytes / max(span.end_ns - span.start_ns, 1)
        details |= {"memory": span.name.partition(" ")[0], "GB/s": round(rate, 2)}
    return {"args": details}


def _metadata(name: str, pid: int, tid: int, values: dict[str, object]) -> dict[str, Any]:
    return {"name": name, "ph": "M", "pid": pid, "tid": tid, "args": values}
