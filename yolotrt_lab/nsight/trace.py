"""What the host and the GPU did, as tables: one schema for a report of Nsight Systems and for the simulated device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from types import MappingProxyType
from typing import Any

import numpy as np

from ..errors import TraceError
from ..types import HostMemory, Source, Span

DIRECTIONS = ("h2d", "d2h", "d2d", "p2p", "h2h", "other")
"""Which way a copy went; column `direction` holds places in this tuple."""

MEMORIES = (*map(str, HostMemory), "device", "array", "managed", "unknown")
"""Kinds of memory; column `host_memory` holds places in this tuple."""


class Graph(IntEnum):
    """How GPU work was launched: singly, as a node of a CUDA graph, or as a whole graph that is shown as one block."""

    NO = 0
    NODE = 1
    WHOLE = 2


_GPU = {"device": np.int32, "stream": np.int32, "pid": np.int32, "correlation": np.int64, "graph": np.int8}
_HOST = {"name": np.int32, "pid": np.int32, "tid": np.int32}
_TIMES = {"start_ns": np.int64, "end_ns": np.int64}
SCHEMA: Mapping[str, Mapping[str, type[np.integer[Any]]]] = {
    "api": _TIMES | _HOST | {"correlation": np.int64},
    "copies": _TIMES | {"direction": np.int8, "host_memory": np.int8, "bytes": np.int64} | _GPU,
    "kernels": _TIMES | {"name": np.int32} | _GPU,
    "memsets": _TIMES | {"bytes": np.int64} | _GPU,
    "ranges": _TIMES | _HOST,
}
"""The tables of a trace, their columns and what these hold."""

Columns = Mapping[str, np.ndarray]


def empty_table(table: str) -> dict[str, np.ndarray]:
    """A table of that name without rows."""
    return {name: np.empty(0, dtype) for name, dtype in SCHEMA[table].items()}


@dataclass(frozen=True, eq=False)
class Trace:
    """Tables as columns: integer arrays of shape (rows,), read-only, sorted by `start_ns`; `SCHEMA` has their types.

    Times are ns on one clock for the host and the GPU. `api` holds CUDA calls, `ranges` the NVTX ranges (push/pop and
    start/end); both belong to a thread, `pid` and `tid`. `copies`, `kernels` and `memsets` hold what the GPU did, with
    the `pid` that asked for it; their `correlation` is that of the call in `api` with the same pid. `name` is a place
    in `names`, `direction` one in `DIRECTIONS`, `graph` a `Graph`. `host_memory` is a place in `MEMORIES`: the kind of
    memory on the host's side of a copy, and for copies without one of the memory that it reads.

    `source` says where it was recorded, or that it was simulated; `notes` what the report lacks or holds in doubt.

    TraceError where a column is missing, columns differ in length, or a code lies outside its tuple.
    """

    api: Columns
    copies: Columns
    kernels: Columns
    ranges: Columns
    names: tuple[str, ...]
    source: Source
    notes: tuple[str, ...] = ()
    memsets: Columns = field(default_factory=lambda: empty_table("memsets"))

    def __post_init__(self) -> None:
        for table in SCHEMA:
            object.__setattr__(self, table, MappingProxyType(_checked(table, getattr(self, table), len(self.names))))

    @property
    def begin_ns(self) -> int:
        """When the first row begins; 0 without rows."""
        return min(
            (int(self.table(name)["start_ns"][0]) for name in SCHEMA if len(self.table(name)["start_ns"])), default=0
        )

    @property
    def end_ns(self) -> int:
        """When the last row ends; 0 without rows."""
        return max(
            (int(self.table(name)["end_ns"].max()) for name in SCHEMA if len(self.table(name)["end_ns"])), default=0
        )

    def table(self, name: str) -> Columns:
        """The table of that name, such as "api"."""
        return getattr(self, name)

    def count(self, table: str) -> int:
        """The number of rows of a table."""
        return len(self.table(table)["start_ns"])

    def where(self, table: str, keep: np.ndarray) -> Trace:
        """The trace with only those rows of one table; `keep` is a mask or row numbers in rising order."""
        return replace(self, **{table: {name: values[keep] for name, values in self.table(table).items()}})

    def named(self, table: str, choose: Callable[[str], bool]) -> np.ndarray:
        """A mask of the rows of a table whose name `choose` takes, bool of shape (rows,); it is asked once a name."""
        return np.fromiter(map(choose, self.names), bool, len(self.names))[self.table(table)["name"]]

    def between(self, start_ns: int, end_ns: int) -> Trace:
        """What happened from `start_ns` up to `end_ns`: the rows that overlap it, whole."""
        cut = {}
        for name in SCHEMA:
            table = self.table(name)
            keep = (table["start_ns"] < end_ns) & (table["end_ns"] >= start_ns)
            cut[name] = {column: values[keep] for column, values in table.items()}
        return replace(self, **cut)

    @classmethod
    def from_spans(cls, spans: Iterable[Span], source: Source) -> Trace:
        """The trace of what a simulated device kept in `spans`: one process, its threads numbered from 0."""
        rows: dict[str, list[Span]] = {"range": [], "api": [], "upload": [], "kernel": [], "download": []}
        for span in spans:
            rows[span.row].append(span)
        names = tuple(dict.fromkeys(span.name for row in ("range", "api", "kernel") for span in rows[row]))
        codes = {name: code for code, name in enumerate(names)}
        return cls(
            api=_host_columns(rows["api"], codes) | {"correlation": _integers(s.correlation for s in rows["api"])},
            copies=_copy_columns([*rows["upload"], *rows["download"]]),
            kernels=_gpu_columns(rows["kernel"]) | {"name": _integers(codes[span.name] for span in rows["kernel"])},
            ranges=_host_columns(rows["range"], codes),
            names=names,
            source=source,
        )


def _checked(table: str, columns: Columns, names: int) -> dict[str, np.ndarray]:
    """The columns as the schema has them, sorted by start."""
    missing = [name for name in SCHEMA[table] if name not in columns]
    if missing:
        raise TraceError(f"the table {table} of a trace lacks {', '.join(missing)}", fix="fill every column of SCHEMA")
    checked = {name: np.asarray(columns[name], dtype) for name, dtype in SCHEMA[table].items()}
    if len({values.shape for values in checked.values()}) > 1:
        raise TraceError(f"the columns of the table {table} differ in length", fix="give every row every column")
    limits = {"name": names, "direction": len(DIRECTIONS), "host_memory": len(MEMORIES), "graph": len(Graph)}
    for name in limits.keys() & checked.keys():
        values = checked[name]
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) < limits[name]:
            raise TraceError(f"the table {table} holds a {name} outside 0 to {limits[name] - 1}")
    starts = checked["start_ns"]
    if (starts[1:] < starts[:-1]).any():
        order = np.argsort(starts, kind="stable")
        checked = {name: values[order] for name, values in checked.items()}
    for name, values in checked.items():
        checked[name] = values.view()
        checked[name].flags.writeable = False
    return checked


def _integers(values: Iterable[int]) -> np.ndarray:
    return np.fromiter(values, np.int64)


def _times(spans: Sequence[Span]) -> dict[str, np.ndarray]:
    return {"start_ns": _integers(span.start_ns for span in spans), "end_ns": _integers(span.end_ns for span in spans)}


def _host_columns(spans: Sequence[Span], codes: Mapping[str, int]) -> dict[str, np.ndarray]:
    threads = {"pid": np.zeros(len(spans)), "tid": _integers(span.thread for span in spans)}
    return _times(spans) | {"name": _integers(codes[span.name] for span in spans)} | threads


def _gpu_columns(spans: Sequence[Span]) -> dict[str, np.ndarray]:
    zeros = np.zeros(len(spans))
    known = {"stream": (span.stream for span in spans), "correlation": (span.correlation for span in spans)}
    columns = {name: _integers(values) for name, values in known.items()}
    return _times(spans) | columns | {"device": zeros, "pid": zeros, "graph": zeros}


def _copy_columns(spans: Sequence[Span]) -> dict[str, np.ndarray]:
    """A copy's span is named by its memory, such as 'pinned upload'."""
    directions = {"upload": DIRECTIONS.index("h2d"), "download": DIRECTIONS.index("d2h")}
    return _gpu_columns(spans) | {
        "direction": _integers(directions[span.row] for span in spans),
        "host_memory": _integers(MEMORIES.index(span.name.partition(" ")[0]) for span in spans),
        "bytes": _integers(span.nbytes for span in spans),
    }
