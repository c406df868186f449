"""The tables of a report, as nsys of 2022 to 2025 exports them, and the trace that they make.

NVIDIA describes the schema in the User Guide of Nsight Systems, "SQLite Schema Reference"; what that leaves open was
checked on reports of nsys 2023.4 (schema 3.7) and 2025.3 (schema 3.20). Tables without rows are absent, names carry
version suffixes, and the order of rows is not promised.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ..errors import ReportError
from ..types import Source, SourceKind
from .intervals import distinct, places
from .nested import without_nested
from .sqlite import Database
from .trace import DIRECTIONS, MEMORIES, Graph, Trace

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
