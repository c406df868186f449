"""A report without what it should not tell: the environment, command lines, paths, host, users, other processes.

nsys stores the whole environment of the traced program and of its own service (with every token in it), what the
program printed, and the names of all processes of the machine. Which tables hold such things changes with its version,
so nothing is searched for: the tables, columns and rows that a trace is read from are kept, by name, and everything
else goes. Text is kept in three places, as it is: names of calls, kernels and ranges that the trace uses
(StringIds.value), names of ranges that the program marks (NVTX_EVENTS.text), and the GPU's name (TARGET_INFO_GPU.name).
All other text is a number, or one of the words below.
"""

from __future__ import annotations

import sqlite3
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
    path = Path(path)
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)) as report:
            tables = {name for (name,) in report.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not tables & _TABLES:
                raise ReportError(
                    f"{path} is no report of Nsight Systems", fix="name a .sqlite that `nsys export` wrote"
                )
            report.execute("PRAGMA journal_mode = MEMORY")
            report.execute("BEGIN")
            _drop(report, tables - _TABLES)
            _keep_rows(report)
            for table in tables & _TABLES:
                _keep_columns(report, table)
            if "StringIds" in tables:
                _keep_strings_in_use(report)
            report.execute("COMMIT")
            report.execute("VACUUM")  # rewrites the file: deleted rows stay in its free pages otherwise
    except sqlite3.Error as error:
        raise ReportError(f"{path} cannot be scrubbed: {error}", fix="export the report once more") from error


def quoted(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _drop(report: sqlite3.Connection, tables: set[str]) -> None:
    others = report.execute("SELECT type, name FROM sqlite_master WHERE type IN ('view', 'trigger')").fetchall()
    for kind, name in [*others, *(("table", table) for table in tables if not table.startswith("sqlite_"))]:
        report.execute(f"DROP {kind} {quoted(name)}")


def _keep_rows(report: sqlite3.Connection) -> None:
    for table, (column, values) in _ROWS.items():
        if column in _columns(report, table):
            marks = ", ".join("?" * len(values))
            report.execute(f"DELETE FROM {table} WHERE IFNULL({column}, '') COLLATE NOCASE NOT IN ({marks})", values)
            if "value" in _columns(report, table):  # of a version
                report.execute(f"DELETE FROM {table} WHERE IFNULL(value, 'none') GLOB '*[^0-9.]*'")
        else:
            report.execute(f"DROP TABLE IF EXISTS {table}")


def _keep_columns(report: sqlite3.Connection, table: str) -> None:
    """Write a table anew: so no column, no text in a column of numbers and no comment of its schema is left over."""
    numbers, text = ("INTEGER", "'integer', 'real'"), ("TEXT", "'text'")
    kinds = {
        quoted(name): text if name in _TEXTS.get(table, ()) else numbers
        for name in _columns(report, table)
        if name in _NUMBERS or name in _TEXTS.get(table, ())
    }
    if kinds:
        declared = ", ".join(f"{name} {kind}" for name, (kind, _) in kinds.items())
        values = ", ".join(f"IIF(typeof({name}) IN ({types}), {name}, NULL)" for name, (_, types) in kinds.items())
        report.execute(f"CREATE TABLE scrubbed ({declared})")
        report.execute(f"INSERT INTO scrubbed SELECT {values} FROM {table}")
    report.execute(f"DROP TABLE {table}")
    if kinds:
        report.execute(f"ALTER TABLE scrubbed RENAME TO {table}")


def _keep_strings_in_use(report: sqlite3.Connection) -> None:
    """Strings are shared by all tables, so those of the dropped ones are still there: what the program printed too."""
    used = [
        f"SELECT {column} AS id FROM {table}"
        for table in sorted(_TABLES - {"StringIds"})
        for column in _columns(report, table)
        if column in _STRINGS
    ]
    in_use = " UNION ".join(used or ["SELECT NULL AS id"])
    report.execute(f"DELETE FROM StringIds WHERE id NOT IN (SELECT id FROM ({in_use}) WHERE id IS NOT NULL)")


def _columns(report: sqlite3.Connection, table: str) -> list[str]:
    """The columns of a table; none where it is absent."""
    return [row[1] for row in report.execute(f"PRAGMA table_info({quoted(table)})")]
