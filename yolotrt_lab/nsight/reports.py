"""Integer columns of an SQLite file as NumPy arrays: fast where the file is sound, careful where it is not."""

from __future__ import annotations

import re
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import NsysError, ReportError, TraceError
from ..packages import shipped_file
from ..types import Source, SourceKind
from .capture import export_sqlite
from .intervals import distinct, places
from .trace import DIRECTIONS, MEMORIES, Graph, Trace

_SIZE_FOR_ADBC = 8_000_000
_BATCH_ROWS = str(1 << 24)  # a table in one piece becomes NumPy's without being copied
_UNREADABLE = (sqlite3.Error, UnicodeDecodeError)  # the latter where SQLite's own message quotes damaged bytes


class Database:
    """An SQLite file, opened for reading; ReportError where it is none, or damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._uri = f"{path.resolve().as_uri()}?mode=ro"
        self._fast = path.stat().st_size >= _SIZE_FOR_ADBC
        # Text that is no UTF-8 must not keep a report from being read.
        self._decode = lambda raw: raw.decode("utf-8", "replace")

    @cached_property
    def tables(self) -> dict[str, tuple[str, ...]]:
        """The columns of every table, by the table's name."""
        names = [name for (name,) in self.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: tuple(row[1] for row in self.rows(f"PRAGMA table_info({_quoted(name)})")) for name in names}

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a small query."""
        try:
            with closing(self._connect()) as connection:
                return connection.execute(query).fetchall()
        except _UNREADABLE as error:
            raise self._damaged(error) from error

    def integers(
        self, table: str, needed: Sequence[str], optional: Mapping[str, int], where: str = "TRUE"
    ) -> tuple[dict[str, np.ndarray], int]:
        """Columns as int64 of shape (rows,), and how many rows were left out.

        Rows are left out where one of `needed` holds no integer; one of `optional` that holds none becomes the value
        given there. `where` is an SQL condition.
        """
        names = [*needed, *optional]
        taken = [_quoted(name) for name in needed] + [f"IFNULL({_quoted(name)}, {optional[name]})" for name in optional]
        source = f"FROM {_quoted(table)} WHERE {where}"
        columns = self._by_adbc(f"SELECT {', '.join(taken)} {source}", names) if self._fast else None
        if columns is not None:
            return columns, 0
        wrong = " OR ".join(f"typeof({column}) <> 'integer'" for column in taken)
        if not self.rows(f"SELECT 1 {source} AND ({wrong}) LIMIT 1"):
            return self._by_stdlib(f"SELECT {', '.join(taken)} {source}", names), 0
        return self._carefully(source, needed, optional)

    def _carefully(
        self, source: str, needed: Sequence[str], optional: Mapping[str, int]
    ) -> tuple[dict[str, np.ndarray], int]:
        """The same from a table that holds something else than integers somewhere."""
        sound = " AND ".join(f"typeof({_quoted(name)}) = 'integer'" for name in needed)
        checked = [
            f"CASE typeof({_quoted(name)}) WHEN 'integer' THEN {_quoted(name)} ELSE {value} END"
            for name, value in optional.items()
        ]
        taken = ", ".join([*map(_quoted, needed), *checked])
        columns = self._by_stdlib(f"SELECT {taken} {source} AND {sound}", [*needed, *optional])
        [(rows,)] = self.rows(f"SELECT COUNT(*) {source}")
        return columns, rows - len(columns[needed[0]])

    def _by_stdlib(self, query: str, names: Sequence[str]) -> dict[str, np.ndarray]:
        try:
            with closing(self._connect()) as connection:
                values = np.fromiter(chain.from_iterable(connection.execute(query)), np.int64)
        except _UNREADABLE as error:
            raise self._damaged(error) from error
        return {name: values[place :: len(names)].copy() for place, name in enumerate(names)}

    def _by_adbc(self, query: str, names: Sequence[str]) -> dict[str, np.ndarray] | None:
        """The same by the ADBC driver, three times as fast; None where it is not installed or stumbles."""
        try:
            pyarrow, driver, manager = map(import_module, ("pyarrow", "adbc_driver_sqlite", "adbc_driver_manager"))
        except ImportError:
            self._fast = False
            return None
        try:
            with (
                driver.connect(self._uri) as database,
                manager.AdbcConnection(database) as connection,
                manager.AdbcStatement(connection) as statement,
            ):
                statement.set_options(**{"adbc.sqlite.query.batch_rows": _BATCH_ROWS})
                statement.set_sql_query(query)
                stream, _ = statement.execute_query()
                table = pyarrow.RecordBatchReader.from_stream(stream).read_all()
        except (manager.Error, pyarrow.ArrowException, OSError):
            return None
        if any(column.null_count or str(column.type) != "int64" for column in table.columns):
            return None
        return {name: column.to_numpy() for name, column in zip(names, table.columns, strict=True)}

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._uri, uri=True)
        connection.text_factory = self._decode
        return connection

    def _damaged(self, error: Exception) -> ReportError:
        return ReportError(
            f"{self.path} cannot be read as SQLite: {error}",
            fix="it is damaged, cut off or something else: export the report again",
        )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# Driver calls that are made inside a runtime call: one call, not two.


_Table = dict[str, np.ndarray]


def is_runtime(name: str) -> bool:
    """True for the CUDA runtime's calls, such as cudaMemcpyAsync."""
    return name.startswith("cuda")


def is_driver(name: str) -> bool:
    """True for the CUDA driver's calls, such as cuMemcpyHtoDAsync."""
    return name.startswith("cu") and name[2:3].isupper()


def without_nested(api: _Table, on_gpu: Mapping[str, _Table], names: Sequence[str]) -> _Table:
    """The calls without the driver calls inside runtime calls.

    What the GPU did for such a driver call gets, in place, the correlation of the runtime call around it.
    """
    runtime, driver = (np.array([test(name) for name in names], bool) for test in (is_runtime, is_driver))
    if not len(api["name"]) or not (runtime[api["name"]].any() and driver[api["name"]].any()):
        return api
    order = np.argsort(api["start_ns"], kind="stable")
    api = {name: values[order] for name, values in api.items()}
    around = _calls_around(api, runtime[api["name"]], driver[api["name"]])
    inner = np.flatnonzero(around >= 0)
    if not len(inner):
        return api
    for table in on_gpu.values():
        table["correlation"] = _of_call_around(table, api, inner, around[inner])
    return {name: np.delete(values, inner) for name, values in api.items()}


def _calls_around(api: _Table, runtime: np.ndarray, driver: np.ndarray) -> np.ndarray:
    """For each call, in order of their start, the runtime call of its thread that it lies in; -1 without one."""
    around = np.full(len(runtime), -1)
    threads = _keys(api["pid"], api["tid"])
    for thread in np.unique(threads):
        rows = np.flatnonzero(threads == thread)
        latest = np.maximum.accumulate(np.where(runtime[rows], np.arange(len(rows)), -1))
        candidates = rows[latest]
        inside = driver[rows] & (latest >= 0) & (api["end_ns"][rows] <= api["end_ns"][candidates])
        around[rows[inside]] = candidates[inside]
    return around


def _of_call_around(table: _Table, api: _Table, inner: np.ndarray, around: np.ndarray) -> np.ndarray:
    """The table's correlations, those of inner calls replaced by that of the call around them."""
    keys = _keys(api["pid"][inner], api["correlation"][inner])
    order = np.argsort(keys)
    keys, replacement = keys[order], api["correlation"][around[order]]
    wanted = _keys(table["pid"], table["correlation"])
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, replacement[places], table["correlation"])


def _keys(pid: np.ndarray, number: np.ndarray) -> np.ndarray:
    """One number for a process and a number of 32 bits in it."""
    return (pid.astype(np.int64) << 32) | number


# The tables of a report, as nsys of 2022 to 2025 exports them, and the trace that they make.
#
# NVIDIA describes the schema in the User Guide of Nsight Systems, "SQLite Schema Reference"; what that leaves open was
# checked on reports of nsys 2023.4 (schema 3.7) and 2025.3 (schema 3.20). Tables without rows are absent, names carry
# version suffixes, and the order of rows is not promised.


GRAPH_NAME = "CUDA graph"
"""The name in `kernels` of a graph that the report shows as one block."""

_GPU = ("start", "end", "deviceId", "streamId", "correlationId", "globalPid")
_NODE = {"graphNodeId": 0}
_TABLES: Mapping[str, tuple[str, Sequence[str], Mapping[str, int]]] = {
    "kernels": ("CUPTI_ACTIVITY_KIND_KERNEL", (*_GPU, "shortName"), _NODE),
    "api": ("CUPTI_ACTIVITY_KIND_RUNTIME", ("start", "end", "globalTid", "correlationId", "nameId"), {}),
    "copies": ("CUPTI_ACTIVITY_KIND_MEMCPY", (*_GPU, "bytes", "copyKind"), {"srcKind": -1, "dstKind": -1} | _NODE),
    "ranges": ("NVTX_EVENTS", ("start", "end", "globalTid"), {"textId": -1}),
    "memsets": ("CUPTI_ACTIVITY_KIND_MEMSET", (*_GPU, "bytes"), _NODE),
    "graphs": ("CUPTI_ACTIVITY_KIND_GRAPH_TRACE", _GPU, {}),
}
"""For each table its name in the report, the columns that it needs, and what stands for those it may lack."""

_RARE = ("memsets", "graphs")
_RANGE_EVENTS = (59, 60)  # push/pop and start/end, by ENUM_NSYS_EVENT_TYPE
_WARNING = 2  # by ENUM_DIAGNOSTIC_SEVERITY_LEVEL

# By ENUM_CUDA_MEMCPY_OPER; arrays lie on the GPU, unified memory moves like other memory.
_COPY_KINDS = {"h2d": (1, 3, 11), "d2h": (2, 4, 12), "d2d": (5, 6, 7, 8, 13), "h2h": (9,), "p2p": (10,)}
_DIRECTION_OF = {kind: DIRECTIONS.index(direction) for direction, kinds in _COPY_KINDS.items() for kind in kinds}
_OTHER, _UNKNOWN = DIRECTIONS.index("other"), MEMORIES.index("unknown")
_LABELS = {"device static": "device", "managed static": "managed"} | {memory: memory for memory in MEMORIES}
_SUFFIX = re.compile(r"(_ptsz|_ptds)?(_v\d+)?$")


@dataclass
class _Report:
    """What is read of a report on the way to its trace."""

    database: Database
    notes: list[str]
    columns: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    strings: dict[int, str] = field(default_factory=dict)
    texts: dict[str, int] = field(default_factory=dict)

    def rows(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        """Those columns of a small table; none where it is absent or lacks one of them."""
        if not set(columns) <= set(self.database.tables.get(table, ())):
            return []
        return self.database.rows(f"SELECT {', '.join(columns)} FROM {table}")

    def codes(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers of StringIds as places in `texts`."""
        different, place_of = places(numbers)
        codes, unknown = np.empty(len(different), np.int64), 0
        for place, number in enumerate(different.tolist()):
            text = self.strings.get(number)
            unknown += text is None and number >= 0
            text = f"string {number}" if text is None and number >= 0 else text or ""
            codes[place] = self.texts.setdefault(text, len(self.texts))
        if unknown:
            self.notes.append("the report lacks the names of some calls, kernels or ranges")
        return codes[place_of]


def trace_of(database: Database, notes: Iterable[str] = ()) -> Trace:
    """The trace that a report holds; ReportError where it holds none or is damaged."""
    if not any(table in database.tables for table, _, _ in _TABLES.values()):
        raise ReportError(
            f"{database.path} is no report of Nsight Systems: it has none of the tables of CUDA and NVTX",
            fix="export a report that was taken with `nsys profile --trace cuda,nvtx`",
        )
    report = _Report(database, list(notes))
    with ThreadPoolExecutor(2) as pool:  # the driver reads without the interpreter's lock
        read = list(pool.map(lambda table: _read_table(database, table), _TABLES))
    for table, (columns, said) in zip(_TABLES, read, strict=True):
        report.columns[table] = columns
        report.notes += said
    _read_strings(report)
    _add_ranges_with_text(report)
    return _trace(report)


def _read_table(database: Database, table: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """One table's columns under the report's names for them, without rows where it can't be used; and notes on it."""
    name, needed, optional = _TABLES[table]
    there, notes = database.tables.get(name, ()), []
    missing = [column for column in needed if column not in there]
    if missing:
        if there:
            notes.append(f"{name} lacks {', '.join(missing)}: it is left out")
        elif table not in _RARE:
            notes.append(f"the report has no {name}")
        return {column: np.empty(0, np.int64) for column in (*needed, *optional)}, notes
    found = {column: value for column, value in optional.items() if column in there}
    where = _ranges_where(there, "NULL") if table == "ranges" else "TRUE"
    columns, left_out = database.integers(name, needed, found, where)
    notes += [f"{name} lacks {column}" for column in optional if column not in (*found, "textId")]
    columns |= {column: np.full(len(columns["start"]), optional[column]) for column in optional.keys() - found.keys()}
    backwards = columns["end"] < columns["start"]
    if backwards.any():
        left_out += int(backwards.sum())
        columns = {column: values[~backwards] for column, values in columns.items()}
    if left_out:
        notes.append(f"{left_out} rows of {name} are damaged and left out")
    return columns, notes


def _ranges_where(columns: Sequence[str], text: str) -> str:
    """SQL for push/pop and start/end ranges that have ended, whose `text` is NULL (the name is in StringIds) or not."""
    conditions = ['"end" IS NOT NULL']
    if "eventType" in columns:
        conditions.append(f"eventType IN {_RANGE_EVENTS}")
    if "text" in columns:
        conditions.append(f"text IS {text}")
    return " AND ".join(conditions)


def _read_strings(report: _Report) -> None:
    for number, value in report.rows("StringIds", "id", "value"):
        if isinstance(number, int) and isinstance(value, str):
            report.strings[number] = value
    if not report.strings:
        report.notes.append("the report has no StringIds: calls, kernels and ranges have no names")


def _add_ranges_with_text(report: _Report) -> None:
    """Ranges whose name is in their own row get a number in `strings`, like the others."""
    there = report.database.tables.get("NVTX_EVENTS", ())
    if not {"start", "end", "globalTid", "text"} <= set(there):
        return
    where = _ranges_where(there, "NOT NULL")
    rows = report.database.rows(f'SELECT start, "end", globalTid, text FROM NVTX_EVENTS WHERE {where}')
    sound = [row for row in rows if all(type(value) is int for value in row[:3]) and row[0] <= row[1]]
    if len(sound) < len(rows):
        report.notes.append(f"{len(rows) - len(sound)} rows of NVTX_EVENTS are damaged and left out")
    first = max(report.strings, default=0) + 1
    numbers: dict[str, int] = {}
    added = [(*row[:3], numbers.setdefault(str(row[3]), first + len(numbers))) for row in sound]
    report.strings |= {number: text for text, number in numbers.items()}
    values, ranges = np.array(added, np.int64).reshape(-1, 4), report.columns["ranges"]
    for place, column in enumerate(("start", "end", "globalTid", "textId")):
        ranges[column] = np.concatenate([ranges[column], values[:, place]])


def _trace(report: _Report) -> Trace:
    columns = report.columns
    on_gpu = {
        "kernels": _kernel_columns(report),
        "copies": _gpu_columns(columns["copies"]) | _copy_columns(report),
        "memsets": _gpu_columns(columns["memsets"]) | {"bytes": columns["memsets"]["bytes"]},
    }
    api = _host_columns(columns["api"]) | {"correlation": columns["api"]["correlationId"]}
    api["name"] = _call_names(report)
    ranges = _host_columns(columns["ranges"]) | {"name": report.codes(columns["ranges"]["textId"])}
    api = without_nested(api, on_gpu, list(report.texts))
    source = _source(report, _number_devices(report, on_gpu))
    report.notes += _warnings(report)
    notes = tuple(dict.fromkeys(report.notes))
    return Trace(api=api, ranges=ranges, **on_gpu, names=tuple(report.texts), source=source, notes=notes)


def _call_names(report: _Report) -> np.ndarray:
    """The calls' names without the suffix of their version; where two become one, they share a place."""
    codes = report.codes(report.columns["api"]["nameId"])
    plain = [report.texts.setdefault(_SUFFIX.sub("", text), len(report.texts)) for text in list(report.texts)]
    return np.array(plain, np.int64)[codes] if len(codes) else codes


def _host_columns(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    thread = columns["globalTid"]
    return _times(columns) | {"pid": _pid(thread), "tid": (thread & 0xFFFFFF).astype(np.int32)}


def _gpu_columns(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    graph = columns["graphNodeId"] != 0 if "graphNodeId" in columns else np.zeros(len(columns["start"]), bool)
    return _times(columns) | {
        "device": columns["deviceId"].astype(np.int32),
        "stream": columns["streamId"].astype(np.int32),
        "pid": _pid(columns["globalPid"]),
        "correlation": columns["correlationId"],
        "graph": graph.astype(np.int8),
    }


def _times(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"start_ns": columns["start"], "end_ns": columns["end"]}


def _pid(number: np.ndarray) -> np.ndarray:
    """A global number is 8 bits of hardware, 8 of the virtual machine, 24 of the process and 24 of the thread."""
    if (number == number[:1]).all():
        return np.full(len(number), int(number[0]) >> 24 & 0xFFFFFF if len(number) else 0, np.int32)
    return (number >> 24 & 0xFFFFFF).astype(np.int32)


def _kernel_columns(report: _Report) -> dict[str, np.ndarray]:
    """Kernels, and after them the graphs that the report shows as one block."""
    columns = report.columns["kernels"]
    kernels = _gpu_columns(columns) | {"name": report.codes(columns["shortName"])}
    graphs = _gpu_columns(report.columns["graphs"])
    count = len(graphs["start_ns"])
    if not count:
        return kernels
    report.notes[:] = [note for note in report.notes if note != f"the report has no {_TABLES['kernels'][0]}"]
    report.notes.append("CUDA graphs are shown as one block: the kernels and copies in them can't be told apart")
    graphs["graph"] = np.full(count, Graph.WHOLE, np.int8)
    graphs["name"] = np.full(count, report.texts.setdefault(GRAPH_NAME, len(report.texts)))
    return {name: np.concatenate([values, graphs[name]]) for name, values in kernels.items()}


def _copy_columns(report: _Report) -> dict[str, np.ndarray]:
    """Direction, memory on the host's side and bytes of every copy."""
    columns, kinds = report.columns["copies"], _memory_kinds(report)
    direction = _mapped(columns["copyKind"], _DIRECTION_OF, _OTHER)
    source, target = (_mapped(columns[side], kinds, _UNKNOWN) for side in ("srcKind", "dstKind"))
    memory = np.where(direction == DIRECTIONS.index("d2h"), target, source)
    return {"direction": direction, "host_memory": memory, "bytes": columns["bytes"]}


def _mapped(numbers: np.ndarray, codes: Mapping[int, int], default: int) -> np.ndarray:
    different, place_of = places(numbers)
    return np.array([codes.get(number, default) for number in different.tolist()], np.int8)[place_of]


def _memory_kinds(report: _Report) -> dict[int, int]:
    """Places in MEMORIES by the number that the report has for a kind: it is resolved by its label alone."""
    rows = report.rows("ENUM_CUDA_MEM_KIND", "id", "label")
    if not rows and len(report.columns["copies"]["start"]):
        report.notes.append("the report has no ENUM_CUDA_MEM_KIND: the kinds of memory are unknown")
    return {number: MEMORIES.index(_LABELS.get(str(label).lower(), "unknown")) for number, label in rows}


def _number_devices(report: _Report, on_gpu: Mapping[str, dict[str, np.ndarray]]) -> set[int]:
    """Turn each process's own numbers of GPUs into the machine's, in place; returns those that are used."""
    known = report.rows("TARGET_INFO_CUDA_DEVICE", "pid", "cudaId", "gpuId")
    used: set[int] = set()
    for table in on_gpu.values():
        own = table["device"].copy()
        for pid, cuda_id, gpu_id in known:
            if cuda_id != gpu_id:
                table["device"][(own == cuda_id) & (table["pid"] == pid)] = gpu_id
        used |= set(distinct(table["device"]).tolist())
    return used


def _source(report: _Report, devices: set[int]) -> Source:
    """Recorded, on the GPUs that are used (all that there are, where none is), with driver and date."""
    gpus = report.rows("TARGET_INFO_GPU", "id", "name")
    names = [str(name) for number, name in gpus if number in devices] or [str(name) for _, name in gpus]
    settings = dict(report.rows("TARGET_INFO_SYSTEM_ENV", "name", "value"))
    started = report.rows("TARGET_INFO_SESSION_START_TIME", "utcEpochNs")
    seconds = started[0][0] / 1e9 if started and isinstance(started[0][0], int) else 0
    date = datetime.fromtimestamp(seconds, UTC).date().isoformat() if 0 < seconds < 1e11 else ""
    driver = str(settings.get("NvDriverVersion", ""))
    return Source(SourceKind.RECORDED, ", ".join(dict.fromkeys(names)), driver, date)


def _warnings(report: _Report) -> list[str]:
    rows = report.rows("DIAGNOSTIC_EVENT", "severity", "text")
    return [f"nsys warned: {text}" for severity, text in rows if isinstance(severity, int) and severity >= _WARNING]


# Reports of Nsight Systems as traces: the .sqlite that `nsys export` writes, or the .nsys-rep itself.


_RAW = (".nsys-rep", ".qdrep")


def read_trace(path: str | Path) -> Trace:
    """Read a report: `.sqlite`, or `.nsys-rep` where a .sqlite lies beside it or an nsys is here that can export it.

    Tables and columns that the report lacks are treated as empty, and `notes` say so. Driver calls that are made
    inside a runtime call are part of that call. `device` is the GPU's number on its machine, where the report tells.

    ReportError where the file does not exist, is no report, or is damaged; NsysError where a .nsys-rep needs an nsys
    that is not here or too old.
    """
    path = Path(path)
    if not path.is_file():
        raise ReportError(f"{path} does not exist, or is a folder", fix="name a .sqlite or .nsys-rep file")
    return _read_raw(path) if path.suffix in _RAW else _read_sqlite(path)


def _read_raw(path: Path) -> Trace:
    """A .nsys-rep: by the .sqlite beside it unless that is older, and by an older one where there is no nsys."""
    beside = path.with_suffix(".sqlite")
    if beside.is_file() and beside.stat().st_mtime >= path.stat().st_mtime:
        return _read_sqlite(beside)
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "report.sqlite"
        try:
            export_sqlite(path, exported)
        except NsysError:
            if beside.is_file():
                return _read_sqlite(beside, f"read from {beside.name}, which is older than {path.name}")
            raise
        return _read_sqlite(exported)


def _read_sqlite(path: Path, *notes: str) -> Trace:
    return trace_of(Database(path), notes)


# The traces of a real GPU that ship with the lab, in `data/traces`.


def shipped_trace(name: str) -> Trace:
    """The trace of that name, such as 'graph-pinned'; TraceError names those there are.

    `Recording.shipped(name, "traces")` is what the loop itself recorded of the same frames.
    """
    return read_trace(shipped_file("traces", f"{name}.sqlite", TraceError))


def shipped_analysis(name: str) -> str:
    """What `nsys analyze` said of the trace of that name; TraceError names those that it was asked about."""
    return shipped_file("traces", f"{name}.analyze.txt", TraceError).read_text(encoding="utf-8")


def rules(said: str) -> Iterator[tuple[str, str]]:
    """Each rule of nsys by its name, such as 'cuda_api_sync', with what `nsys analyze` said by it."""
    for part in said.split("Processing [")[1:]:
        head, _, text = part.partition("\n")
        yield head.partition("] with [")[2].partition(".py]")[0], text.strip("\n") + "\n"
