"""Reports of Nsight Systems as traces: the .sqlite that `nsys export` writes, or the .nsys-rep itself.

NVIDIA describes the schema in the User Guide of Nsight Systems, "SQLite Schema Reference"; what that leaves open was
checked on reports of nsys 2023.4 (schema 3.7) and 2025.3 (schema 3.20). Tables without rows are absent, names carry
version suffixes, and the order of rows is not promised.
"""

from __future__ import annotations

import re
import sqlite3
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import NsysError, ReportError, TraceError
from ..packages import shipped_file
from ..types import Source, SourceKind
from .capture import export_sqlite
from .damage import without_damage
from .intervals import coded, distinct, each, in_turn, look_up, sort_by_start, taken
from .pages import NO_INTEGER, NULL, OddFileError, integer_columns
from .scrub import quoted
from .trace import DIRECTIONS, MEMORIES, Columns, Graph, Trace, calls_of, packed, rows_of
from .traced_frames import outermost

_RAW = (".nsys-rep", ".qdrep")
_GPU = ("start", "end", "deviceId", "streamId", "correlationId", "globalPid")
_NODE = {"graphNodeId": 0}
_TABLES: Mapping[str, tuple[str, Sequence[str], Mapping[str, int]]] = {
    "kernels": ("CUPTI_ACTIVITY_KIND_KERNEL", (*_GPU, "shortName"), _NODE),
    "api": ("CUPTI_ACTIVITY_KIND_RUNTIME", ("start", "end", "globalTid", "correlationId", "nameId"), {}),
    "copies": ("CUPTI_ACTIVITY_KIND_MEMCPY", (*_GPU, "bytes", "copyKind"), {"srcKind": -1, "dstKind": -1} | _NODE),
    "ranges": ("NVTX_EVENTS", ("start", "end", "globalTid", "rowid"), {"textId": -1}),
    "memsets": ("CUPTI_ACTIVITY_KIND_MEMSET", (*_GPU, "bytes"), _NODE),
    "graphs": ("CUPTI_ACTIVITY_KIND_GRAPH_TRACE", _GPU, {}),
}
"""For each table its name in the report, the columns that it needs, and what stands for those it may lack."""

_SCHEMA = """SELECT m.name, IFNULL(m.rootpage, 0), IFNULL(m.sql, ''), c.name, c.type, c.pk, c.hidden
FROM sqlite_master AS m JOIN pragma_table_xinfo(m.name) AS c WHERE m.type = 'table'"""
_USED = ("start", "end", "globalTid", "globalPid", "deviceId", "streamId", "graphNodeId")
_RENAMED = {"correlationId": "correlation"}
_NONE, _DAMAGED, _SOUND = range(3)
_MOST_BYTES = 1 << 50  # of one copy
_RARE = ("memsets", "graphs")
_NO_KERNELS = f"the report has no {_TABLES['kernels'][0]}"
_RANGE_EVENTS = (59, 60)  # push/pop and start/end, by ENUM_NSYS_EVENT_TYPE
_WARNING = 2  # by ENUM_DIAGNOSTIC_SEVERITY_LEVEL

# By ENUM_CUDA_MEMCPY_OPER; arrays lie on the GPU, unified memory moves like other memory.
_COPY_KINDS = {"h2d": (1, 3, 11), "d2h": (2, 4, 12), "d2d": (5, 6, 7, 8, 13), "h2h": (9,), "p2p": (10,)}
_DIRECTION_OF = {kind: DIRECTIONS.index(direction) for direction, kinds in _COPY_KINDS.items() for kind in kinds}
_OTHER, _UNKNOWN = DIRECTIONS.index("other"), MEMORIES.index("unknown")
_LABELS = {"device static": "device", "managed static": "managed"} | {memory: memory for memory in MEMORIES}
_SUFFIX = re.compile(r"(_ptsz|_ptds)?(_v\d+)?$")


def read_trace(path: str | Path) -> Trace:
    """Read a report: `.sqlite`, or `.nsys-rep` where a .sqlite lies beside it or an nsys is here that can export it.

    Tables and columns that the report lacks are treated as empty, and `notes` say so. Driver calls that are made
    inside a runtime call are part of that call. `device` is the GPU's number on its machine, where the report tells.

    ReportError where the file does not exist, is no report, or is damaged; NsysError where a .nsys-rep needs an nsys
    that is not here or too old.

    >>> import yolotrt_lab as lab
    >>> trace = read_trace(lab.lab_path("data", "traces", "h200", "graph-pinned.sqlite"))
    >>> trace.count("copies"), trace.source.gpu
    (126, 'NVIDIA H200')
    """
    path = Path(path)
    if not path.is_file():
        raise ReportError(f"there is no file {path}", fix="name a .sqlite or .nsys-rep file")
    if path.suffix not in _RAW:
        return _trace_of(path)
    beside = path.with_suffix(".sqlite")
    if beside.is_file() and beside.stat().st_mtime >= path.stat().st_mtime:
        return _trace_of(beside)
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "report.sqlite"
        try:
            export_sqlite(path, exported)
        except NsysError:
            if beside.is_file():
                return _trace_of(beside, f"read from {beside.name}, which is older than {path.name}")
            raise
        return _trace_of(exported)


def shipped_trace(name: str) -> Trace:
    """The trace of that name that ships with the lab, such as 'graph-pinned'; TraceError names those there are.

    `Recording.shipped(name, "traces")` is what the loop itself recorded of the same frames.

    >>> shipped_trace("graph-pinned").source.stamp[:23]
    'recorded on NVIDIA H200'
    """
    return read_trace(shipped_file("traces", f"{name}.sqlite", TraceError))


def _trace_of(path: Path, *notes: str) -> Trace:
    # glibc keeps what is freed for the next array only up to the largest size that was freed, and at most 32 MB.
    np.empty(31 << 20, np.uint8)
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            database.text_factory = lambda raw: raw.decode("utf-8", "replace")
            return _Report(path, database, notes).trace()
    except (sqlite3.Error, UnicodeDecodeError) as error:  # SQLite's own message may quote damaged bytes
        if _is_parquet(path):
            what = f"{path} is a Parquet file, as a recording is, and no report of Nsight Systems"
            raise ReportError(what, fix=f"yolotrt-lab diagnose {path}") from None
        raise ReportError(
            f"{path} cannot be read as SQLite: {error}",
            fix="it is damaged, cut off or something else: export the report again",
        ) from error


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


class _Report:
    """What is read of a report on the way to its trace; ReportError where it is none, or damaged."""

    def __init__(self, path: Path, database: sqlite3.Connection, notes: Sequence[str]) -> None:
        self.path = path
        self.database = database
        self.notes = list(notes)
        self.names: dict[str, int] = {}
        """The names of the trace, each with its place."""
        self.tables: dict[str, dict[str, bool]] = {}
        """The columns of every table in the report, and whether each is stored as it is read."""
        self.roots: dict[str, int] = {}
        """The first page of every table that has pages of its own."""
        for table, root, script, *column in database.execute(_SCHEMA):
            name, kind, key, hidden = column
            self.tables.setdefault(table, {"rowid": True})[name] = "INT" in kind.upper() and not key
            self.roots[table] = 0 if hidden or "WITHOUT" in script.upper() else min(root, self.roots.get(table, root))
        if not any(name in self.tables for name, _, _ in _TABLES.values()):
            raise ReportError(
                f"{path} is no report of Nsight Systems: it has none of the tables of CUDA and NVTX",
                fix="export a report that was taken with `nsys profile --trace cuda,nvtx`",
            )
        self.columns = {table: self._read_table(table) for table in _TABLES}
        strings = self._rows("StringIds", "id", "value")
        self.strings = {number: text for number, text in strings if type(number) is int and isinstance(text, str)}
        if not self.strings:
            self.notes.append(
                "the report has no StringIds: calls, kernels and ranges have no names, and copies, launches and waits "
                "can't be told apart"
            )

    def _rows(self, table: str, *columns: str, where: str = "TRUE") -> list[tuple[Any, ...]]:
        """Those columns of a small table; none where it is absent or lacks one of them."""
        if not set(columns) <= self.tables.get(table, {}).keys():
            return []
        return self.database.execute(f"SELECT {', '.join(columns)} FROM {table} WHERE {where}").fetchall()

    def _integers(self, table: str, wanted: Sequence[str], finish: Callable[[Columns], Columns]) -> Columns:
        """What `finish` makes of columns: int64 of shape (rows,), NULL and NO_INTEGER where a row has no integer."""
        if self.roots[table] and all(self.tables[table][name] for name in wanted):
            _, *stored = self.tables[table]
            found = [name for name in stored if name in wanted]
            places = [stored.index(name) for name in found]

            def named(values: list[np.ndarray]) -> Columns:
                return finish(Columns(zip(("rowid", *found), values, strict=True)))

            [(rows,)] = self.database.execute(f"SELECT MAX(rowid) FROM {table}")
            with suppress(OddFileError):
                return Columns(integer_columns(self.path, self.roots[table], rows or 0, places, named))
        cells = (
            f"CASE typeof({cell}) WHEN 'integer' THEN {cell} WHEN 'null' THEN {NULL} ELSE {NO_INTEGER} END"
            for cell in map(quoted, wanted)
        )
        rows = self.database.execute(f"SELECT {', '.join(cells)} FROM {table}").fetchall()
        return finish(Columns(zip(wanted, np.array(rows, np.int64).reshape(-1, len(wanted)).T, strict=True)))

    def _read_table(self, table: str) -> Columns:
        """One table's columns, those that need no names as a trace has them; without rows where it can't be used."""
        name, needed, optional = _TABLES[table]
        there = self.tables.get(name, {})
        if missing := [column for column in needed if column not in there]:
            if there:
                self.notes.append(f"{name} lacks {', '.join(missing)}: it is left out")
            elif table not in _RARE:
                self.notes.append(f"the report has no {name}")
            columns = _finished(table, Columns({column: np.empty(0, np.int64) for column in needed}))
        else:
            lacking = [column for column in optional if column not in there]
            self.notes += [f"{name} lacks {column}" for column in lacking if column != "textId"]
            wanted = [*needed, *optional, *["eventType"] * (table == "ranges")]
            wanted = [column for column in wanted if column in there]
            columns = self._integers(name, wanted, lambda rows: _finished(table, rows))
        fit = columns.pop("fit")
        if damaged := int((fit == _DAMAGED).sum()):
            what = f"{damaged} of {len(fit)} rows of {name}"
            self.notes.append(f"{what} end before they start, or have an impossible number: they are left out")
        if (fit != _SOUND).any():
            columns = rows_of(columns, fit == _SOUND)
        sort_by_start(columns)
        return columns

    def trace(self) -> Trace:
        """The trace that the report holds."""
        on_gpu = {"kernels": self._kernels(), "copies": self._copies(), "memsets": self.columns["memsets"]}
        names = self._call_names()
        api = Columns(self.columns.pop("api") | {"name": names})
        ranges = Columns(self.columns["ranges"] | {"name": self._range_names()})
        tables = {"api": api, **on_gpu, "ranges": ranges}
        titles = {table: _TABLES[table][0] for table in tables}
        if len(self.columns["graphs"]["pid"]):
            titles["kernels"] += f" and {_TABLES['graphs'][0]}"
        self.notes += without_damage(tables, self.names, titles)
        ranges, on_gpu = tables["ranges"], {table: tables[table] for table in on_gpu}
        api = _without_nested(tables["api"], on_gpu)
        if several := _asked_twice(api, on_gpu):
            self.notes.append(
                f"{several} kernels and copies have a correlationId that several calls have: which call asked for "
                "them can't be told"
            )
        source = self._source(self._number_devices(on_gpu))
        warnings = self._rows("DIAGNOSTIC_EVENT", "severity", "text")
        self.notes += [f"nsys warned: {text}" for level, text in warnings if type(level) is int and level >= _WARNING]
        notes = tuple(dict.fromkeys(self.notes))
        return Trace(**on_gpu, api=api, ranges=ranges, names=tuple(self.names), source=source, notes=notes)

    def _place(self, name: str) -> int:
        return self.names.setdefault(name, len(self.names))

    def _codes(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers of StringIds as places in `names`."""
        unique, place_of = coded(numbers)
        different = unique.tolist()
        if any(number >= 0 and number not in self.strings for number in different):
            self.notes.append("the report lacks the names of some calls, kernels or ranges")
        texts = [self.strings.get(number, f"string {number}" if number >= 0 else "") for number in different]
        return _labelled(place_of, [self._place(text) for text in texts])

    def _call_names(self) -> np.ndarray:
        """The calls' names without the suffix of their version; where two become one, they share a place."""
        codes = self._codes(self.columns["api"].pop("nameId"))
        plain = [self._place(_SUFFIX.sub("", text)) for text in list(self.names)]
        return _labelled(codes, plain)

    def _range_names(self) -> np.ndarray:
        """The names of ranges, by their number or, where that is, the text in their row."""
        columns = self.columns["ranges"]
        codes = self._codes(columns["textId"])
        texts = self._rows("NVTX_EVENTS", "rowid", "text", where="text IS NOT NULL AND rowid IS NOT NULL")
        places = look_up(columns["rowid"])(np.array([row for row, _ in texts], np.int64))
        for place, (_, text) in zip(places.tolist(), texts, strict=True):
            if place >= 0:
                codes[place] = self._place(str(text))
        return codes

    def _kernels(self) -> Columns:
        """Kernels, and after them the graphs that the report shows as one block."""
        kernels = self.columns["kernels"]
        kernels["name"] = self._codes(kernels.pop("shortName"))
        graphs = self.columns["graphs"]
        if not (count := len(graphs["start_ns"])):
            return kernels
        self.notes = [note for note in self.notes if note != _NO_KERNELS]
        self.notes.append("CUDA graphs are shown as one block: the kernels and copies in them can't be told apart")
        graphs |= {"graph": np.full(count, Graph.WHOLE), "name": np.full(count, self._place("CUDA graph"))}
        both = Columns({name: np.concatenate([values, graphs[name]]) for name, values in kernels.items()})
        return rows_of(both, np.argsort(both["start_ns"], kind="stable"))

    def _copies(self) -> Columns:
        """Copies with direction and memory on the host's side. Memory is told by its label, not its number."""
        columns, rows = self.columns["copies"], self._rows("ENUM_CUDA_MEM_KIND", "id", "label")
        if not rows and len(columns["bytes"]):
            self.notes.append("the report has no ENUM_CUDA_MEM_KIND: which copies are pageable can't be told")
        kinds = {number: MEMORIES.index(_LABELS.get(str(label).lower(), "unknown")) for number, label in rows}
        direction = _mapped(columns["copyKind"], _DIRECTION_OF, _OTHER)
        source, target = (_mapped(columns[side], kinds, _UNKNOWN) for side in ("srcKind", "dstKind"))
        memory = np.where(direction == DIRECTIONS.index("d2h"), target, source)
        for unknown, what in ((direction == _OTHER, "direction"), (memory == _UNKNOWN, "kind of memory")):
            if rows and unknown.any():
                self.notes.append(f"{unknown.sum()} of {len(unknown)} copies have an unknown {what}")
        return Columns(columns | {"direction": direction, "host_memory": memory})

    def _number_devices(self, on_gpu: Mapping[str, Columns]) -> set[int]:
        """Turn each process's own numbers of GPUs into the machine's; returns those that are used."""
        known = self._rows("TARGET_INFO_CUDA_DEVICE", "pid", "cudaId", "gpuId")
        used: set[int] = set()
        for table in on_gpu.values():
            own = table["device"]
            for pid, cuda_id, gpu_id in known:
                # A GPU without a number keeps its process's own.
                if cuda_id != gpu_id and all(type(n) is int and not n >> 31 for n in (pid, cuda_id, gpu_id)):
                    table["device"] = np.where((own == cuda_id) & (table["pid"] == pid), gpu_id, table["device"])
            used |= set(distinct(table["device"]).tolist())
        return used

    def _source(self, devices: set[int]) -> Source:
        """Recorded, on the GPUs that are used (all that there are, where none is), with driver and date."""
        gpus = self._rows("TARGET_INFO_GPU", "id", "name")
        names = [str(name) for number, name in gpus if number in devices] or [str(name) for _, name in gpus]
        settings = dict(self._rows("TARGET_INFO_SYSTEM_ENV", "name", "value"))
        started = self._rows("TARGET_INFO_SESSION_START_TIME", "utcEpochNs")
        seconds = started[0][0] / 1e9 if started and isinstance(started[0][0], int) else 0
        date = datetime.fromtimestamp(seconds, UTC).date().isoformat() if 0 < seconds < 1e11 else ""
        driver = str(settings.get("NvDriverVersion", ""))
        return Source(SourceKind.RECORDED, ", ".join(dict.fromkeys(names)) or "an unknown GPU", driver, date)


def _finished(table: str, read: Columns) -> Columns:
    """Rows of a table of a report as a trace has them, the names and kinds as they are; `fit` says which are good."""
    _, needed, optional = _TABLES[table]
    count = len(read["start"])
    fit = np.where(read["end"] >= read["start"], _SOUND, _DAMAGED).astype(np.int8)
    for name in needed:
        fit[read[name] <= NO_INTEGER] = _DAMAGED
    if "bytes" in read:
        fit[(read["bytes"] < 0) | (read["bytes"] > _MOST_BYTES)] = _DAMAGED
    if table == "ranges":  # one that has not ended, or something else than a range
        fit[(read["end"] == NULL) | ~np.isin(read.get("eventType", _RANGE_EVENTS[0]), _RANGE_EVENTS)] = _NONE
    for name, value in optional.items():
        found = read.get(name, np.full(count, NULL))
        read[name] = np.where(found > NO_INTEGER, found, value)
    columns = Columns(start_ns=read["start"], end_ns=read["end"], fit=fit)
    if "globalTid" in needed:
        columns |= {"pid": _pid(read["globalTid"]), "tid": (read["globalTid"] & 0xFFFFFF).astype(np.int32)}
    else:
        columns |= {"pid": _pid(read["globalPid"]), "graph": read.get("graphNodeId", np.zeros(count)) != 0}
        columns |= {"device": read["deviceId"].astype(np.int32), "stream": read["streamId"].astype(np.int32)}
    return Columns(
        columns | {_RENAMED.get(name, name): read[name] for name in (*needed, *optional) if name not in _USED}
    )


def _pid(number: np.ndarray) -> np.ndarray:
    """A global number is 8 bits of hardware, 8 of the virtual machine, 24 of the process and 24 of the thread."""
    pid: np.ndarray = number >> 24 & 0xFFFFFF
    return pid.astype(np.int32)


def _mapped(numbers: np.ndarray, codes: Mapping[int, int], default: int) -> np.ndarray:
    different, place_of = coded(numbers)
    return _labelled(place_of, [codes.get(number, default) for number in different.tolist()])


def _labelled(places: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    labelled: np.ndarray = np.array(labels, np.int32)[places]
    return labelled


def _without_nested(api: Columns, on_gpu: Mapping[str, Columns]) -> Columns:
    """The calls that lie in no other: no driver call (cuLaunchKernel) inside a runtime call (cudaLaunchKernel).

    What the GPU did for such a call gets, in place, the correlation of the call around it.
    """
    if in_turn(api["start_ns"], api["end_ns"]):
        return api
    kept = np.zeros(len(api["pid"]), bool)
    kept[outermost(api, np.arange(len(kept)))] = True
    if kept.all():
        return api
    around = np.full(len(kept), -1)
    for _, rows in each(packed(api)):
        around[rows] = np.maximum.accumulate(np.where(kept[rows], rows, -1))
    asked = calls_of(api)
    for table in on_gpu.values():
        outer = taken(around, asked(table))
        table["correlation"] = np.where(outer >= 0, api["correlation"][outer], table["correlation"])
    return rows_of(api, kept)


def _asked_twice(api: Columns, on_gpu: Mapping[str, Columns]) -> int:
    """How much GPU work has the correlation of several calls; in place, it gets one that no call has."""
    number = api["correlation"]
    if len(distinct(api["pid"])) < 2 and (number[1:] > number[:-1]).all():  # as in the trace of one thread
        return 0
    different, place_of = coded(packed(api, "correlation"))
    several, count = different[np.bincount(place_of) > 1], 0
    for table in on_gpu.values():
        odd = np.isin(packed(table, "correlation"), several)
        table["correlation"] = np.where(odd, -1, table["correlation"])
        count += int(odd.sum())
    return count
