"""A report without what it should not tell: the environment, command lines, paths, host, users, other processes.

nsys stores the whole environment of the traced program and of its own service (with every token in it), what the
program printed, and the names of all processes of the machine. Which tables hold such things changes with its version,
so nothing is searched for: what a trace is read from is kept, by name, and everything else goes.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from ..errors import ReportError

_NAMES = """
    StringIds NVTX_EVENTS NVTX_PAYLOAD_SCHEMAS PROFILER_OVERHEAD DIAGNOSTIC_EVENT META_DATA_EXPORT
    CUPTI_ACTIVITY_KIND_RUNTIME CUPTI_ACTIVITY_KIND_DRIVER CUPTI_ACTIVITY_KIND_MEMCPY CUPTI_ACTIVITY_KIND_MEMSET
    CUPTI_ACTIVITY_KIND_KERNEL CUPTI_ACTIVITY_KIND_GRAPH_TRACE CUPTI_ACTIVITY_KIND_SYNCHRONIZATION
    CUPTI_ACTIVITY_KIND_OVERHEAD ENUM_CUDA_MEM_KIND ENUM_CUDA_MEMCPY_OPER ENUM_CUPTI_SYNC_TYPE ENUM_NSYS_EVENT_TYPE
    TARGET_INFO_GPU TARGET_INFO_CUDA_DEVICE TARGET_INFO_SESSION_START_TIME TARGET_INFO_SYSTEM_ENV
"""
_TABLES = frozenset(_NAMES.split())
# Of tables whose rows say all kinds of things, those rows where a column says one of these.
_SYSTEM = "CpuCores CpuDescription CudaDriverVersion NvDriverVersion OsDescription"
_VERSIONS = "PRODUCT_NAME PRODUCT_VERSION SCHEMA_VERSION SCHEMA_VERSION_MAJOR SCHEMA_VERSION_MINOR SCHEMA_VERSION_MICRO"
_ROWS = {
    "TARGET_INFO_SYSTEM_ENV": (
        "name",
        _SYSTEM.split(),
    ),
    "META_DATA_EXPORT": ("name", [f"EXPORT_{name}" for name in _VERSIONS.split()]),
    "DIAGNOSTIC_EVENT": ("text", [f"Not all {kind} events might have been collected." for kind in ("NVTX", "CUDA")]),
}
# Names one machine or GPU among all others, and is read by nobody.
_EMPTIED = {"TARGET_INFO_GPU": ("uuid", "luid", "ctxswDevPath", "ctrlDevPath"), "NVTX_EVENTS": ("binaryData",)}
_NO_TEXT = "nameEnum"  # a number of nsys's own, which may be that of any string


def scrub(path: str | Path) -> None:
    """Take out of an exported report (.sqlite) what no trace is read from, in place; what is left is much smaller.

    Kept are API calls, GPU work, NVTX ranges and the strings that they use, the GPU's and the driver's names, versions
    and the session's begin. NVTX ranges hold what the program put there. ReportError where the file is no such report,
    or cannot be rewritten.

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
            report.execute(f"DELETE FROM {table} WHERE {column} IS NULL OR {column} NOT IN ({marks})", values)
        else:
            report.execute(f"DROP TABLE IF EXISTS {table}")
    for table, columns in _EMPTIED.items():
        for column in set(columns) & set(_columns(report, table)):
            report.execute(f"UPDATE {table} SET {column} = NULL")


def _keep_strings_in_use(report: sqlite3.Connection) -> None:
    """Strings are shared by all tables, so those of the dropped ones are still there: what the program printed too."""
    used = [
        f"SELECT {quoted(column)} AS id FROM {table}"
        for table in sorted(_TABLES - {"StringIds"})
        for column in _columns(report, table)
        if column != _NO_TEXT and ("name" in column.lower() or "text" in column.lower())
    ]
    in_use = " UNION ".join(used or ["SELECT NULL AS id"])
    report.execute(f"DELETE FROM StringIds WHERE id NOT IN (SELECT id FROM ({in_use}) WHERE id IS NOT NULL)")


def _columns(report: sqlite3.Connection, table: str) -> list[str]:
    """The columns of a table; none where it is absent."""
    return [row[1] for row in report.execute(f"PRAGMA table_info({quoted(table)})")]
