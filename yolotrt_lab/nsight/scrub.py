"""A report without what it should not tell: the environment, command lines, paths, host, users, other processes.

nsys stores the whole environment of the traced program and of its own service (with every token in it), what the
program printed, and the names of all processes of the machine. Which tables hold such things changes with its version,
so nothing is searched for: the tables, columns and rows that a trace is read from are copied, by name, and everything
else stays behind. Text is kept in three places, as it is: names of calls, kernels and ranges that the trace uses
(StringIds.value), names of ranges that the program marks (NVTX_EVENTS.text), and the GPU's name (TARGET_INFO_GPU.name).
All other text is a number, or one of the words below.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from ..errors import ReportError

_NAMES = """
    StringIds NVTX_EVENTS PROFILER_OVERHEAD DIAGNOSTIC_EVENT META_DATA_EXPORT
    CUPTI_ACTIVITY_KIND_RUNTIME CUPTI_ACTIVITY_KIND_DRIVER CUPTI_ACTIVITY_KIND_MEMCPY CUPTI_ACTIVITY_KIND_MEMSET
    CUPTI_ACTIVITY_KIND_KERNEL CUPTI_ACTIVITY_KIND_GRAPH_TRACE CUPTI_ACTIVITY_KIND_SYNCHRONIZATION
    CUPTI_ACTIVITY_KIND_OVERHEAD ENUM_CUDA_MEM_KIND TARGET_INFO_GPU TARGET_INFO_CUDA_DEVICE
    TARGET_INFO_SESSION_START_TIME TARGET_INFO_SYSTEM_ENV
"""
_TABLES = frozenset(_NAMES.split())
# Of tables whose rows say all kinds of things, those rows where a column says one of these.
_MEMORIES = ("Pageable", "Pinned", "Device", "Array", "Managed", "Device Static", "Managed Static", "Unknown")
_VERSIONS = "PRODUCT_VERSION SCHEMA_VERSION SCHEMA_VERSION_MAJOR SCHEMA_VERSION_MINOR SCHEMA_VERSION_MICRO"
_ROWS = {
    "TARGET_INFO_SYSTEM_ENV": ("name", ["CudaDriverVersion", "NvDriverVersion"]),
    "ENUM_CUDA_MEM_KIND": ("label", _MEMORIES),
    "META_DATA_EXPORT": ("name", [f"EXPORT_{name}" for name in _VERSIONS.split()]),
    "DIAGNOSTIC_EVENT": ("text", [f"Not all {kind} events might have been collected." for kind in ("NVTX", "CUDA")]),
}
# What is kept of a table: numbers in columns of these names, and text in these columns. All else goes, such as what a
# later nsys adds, payloads in JSON, and addresses; so does text in a column of numbers.
_NUMBER_NAMES = """
    id start end pid deviceId contextId greenContextId streamId correlationId globalPid globalTid endGlobalTid
    nameId textId shortName demangledName mangledName eventClass returnValue
    eventType rangeId category color domainId uint64Value int64Value doubleValue uint32Value int32Value floatValue
    bytes copyKind srcKind dstKind srcDeviceId dstDeviceId copyCount memKind graphId graphExecId graphNodeId
    gridX gridY gridZ blockX blockY blockZ registersPerThread staticSharedMemory dynamicSharedMemory launchType
    syncType eventId eventSyncId overheadKind timestamp timestampType source severity utcEpochNs gpuId cudaId
    totalMemory memoryBandwidth clockRate smCount computeMajor computeMinor asyncEngines
"""
_NUMBERS = frozenset(_NUMBER_NAMES.split())
_TEXTS = {
    "StringIds": ("value",),
    "NVTX_EVENTS": ("text",),
    "DIAGNOSTIC_EVENT": ("text",),
    "TARGET_INFO_GPU": ("name",),
    **dict.fromkeys(("TARGET_INFO_SYSTEM_ENV", "META_DATA_EXPORT"), ("name", "value")),
    "ENUM_CUDA_MEM_KIND": ("label",),
}
_STRING_IDS = "StringIds"
_STRINGS = ("nameId", "textId", "shortName", "demangledName", "mangledName")


def scrub(path: str | Path) -> None:
    """Take out of an exported report (.sqlite) what no trace is read from, in place; what is left is much smaller.

    Kept are API calls, GPU work, NVTX ranges and the strings that they use, the GPU's name, versions of the driver and
    of nsys, and the session's start. Names of kernels and ranges are as the program has them: what it puts there stays
    there. ReportError where the file is no such report, or cannot be rewritten.

    >>> import shutil, tempfile
    >>> import yolotrt_lab as lab
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     copy = shutil.copy(lab.lab_path("data", "traces", "h200", "graph-pinned.sqlite"), folder)
    ...     scrub(copy)
    ...     lab.nsight.read_trace(copy).count("copies")
    126
    """
    path = Path(path).resolve()
    new = path.with_name(f".{path.name}.scrubbed")
    new.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, isolation_level=None)) as report:
            tables = {
                name for (name,) in report.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            } & _TABLES
            if not tables:
                raise ReportError(
                    f"{path} is no report of Nsight Systems", fix="name a .sqlite that `nsys export` wrote"
                )
            report.execute("ATTACH ? AS new", [str(new)])
            report.execute("PRAGMA new.journal_mode = OFF")  # after an error the file goes
            report.execute("BEGIN")
            copied = [
                table for table in sorted(tables - {_STRING_IDS}) if _copy(report, table, *_rows_of(report, table))
            ]
            if _STRING_IDS in tables:
                _copy(report, _STRING_IDS, f"id IN ({_used_strings(report, copied)})")
            report.execute("COMMIT")
        new.replace(path)
    except sqlite3.Error as error:
        raise ReportError(f"{path} cannot be scrubbed: {error}", fix="export the report once more") from error
    finally:
        new.unlink(missing_ok=True)


def quoted(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _rows_of(report: sqlite3.Connection, table: str) -> tuple[str, Sequence[str]]:
    """Which rows of a table are kept, as a condition with its parameters."""
    column, values = _ROWS.get(table, ("", ()))
    if not column:
        return "TRUE", ()
    if column not in _columns(report, table):
        return "FALSE", ()
    condition = f"{column} COLLATE NOCASE IN ({', '.join('?' * len(values))})"
    if "value" in _columns(report, table):  # of a version
        condition += " AND value NOT GLOB '*[^0-9.]*'"
    return condition, values


def _copy(report: sqlite3.Connection, table: str, condition: str, values: Sequence[str] = ()) -> bool:
    """Copy the columns of a table that are kept, each with values of its own type; False where there are none."""
    kept = {name: name in _TEXTS.get(table, ()) for name in _columns(report, table)}
    kept = {quoted(name): is_text for name, is_text in kept.items() if is_text or name in _NUMBERS}
    if kept:
        declared = ", ".join(f"{name} {'TEXT' if is_text else 'INTEGER'}" for name, is_text in kept.items())
        types = {True: "'text'", False: "'integer', 'real'"}
        cells = ", ".join(f"IIF(typeof({name}) IN ({types[is_text]}), {name}, NULL)" for name, is_text in kept.items())
        report.execute(f"CREATE TABLE new.{table} ({declared})")
        report.execute(f"INSERT INTO new.{table} SELECT {cells} FROM main.{table} WHERE {condition}", values)
    return bool(kept)


def _used_strings(report: sqlite3.Connection, tables: Sequence[str]) -> str:
    """The query of the strings that what was copied names: those of the program's own output are not among them."""
    used = [
        f"SELECT {column} FROM new.{table}"
        for table in tables
        for column in _columns(report, table)
        if column in _STRINGS
    ]
    return " UNION ".join(used or ["SELECT NULL"])


def _columns(report: sqlite3.Connection, table: str) -> list[str]:
    """The columns of a table of the report."""
    return [row[1] for row in report.execute(f"PRAGMA main.table_info({quoted(table)})")]
