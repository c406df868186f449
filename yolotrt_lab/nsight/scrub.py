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

_TABLES = (
    "StringIds",
    "NVTX_EVENTS",
    "NVTX_PAYLOAD_SCHEMAS",
    *(
        f"CUPTI_ACTIVITY_KIND_{kind}"
        for kind in ("RUNTIME", "DRIVER", "MEMCPY", "MEMSET", "KERNEL", "GRAPH_TRACE", "SYNCHRONIZATION", "OVERHEAD")
    ),
    "PROFILER_OVERHEAD",
    *("ENUM_CUDA_MEM_KIND", "ENUM_CUDA_MEMCPY_OPER", "ENUM_CUPTI_SYNC_TYPE", "ENUM_NSYS_EVENT_TYPE"),
    *(
        "TARGET_INFO_GPU",
        "TARGET_INFO_CUDA_DEVICE",
        "TARGET_INFO_SESSION_START_TIME",
        "TARGET_INFO_SYSTEM_ENV",
        "META_DATA_EXPORT",
        "DIAGNOSTIC_EVENT",
    ),
)
# Of tables whose rows say all kinds of things, those rows where a column says one of these.
_ROWS = {
    "TARGET_INFO_SYSTEM_ENV": (
        "name",
        ("CpuCores", "CpuDescription", "CudaDriverVersion", "NvDriverVersion", "OsDescription"),
    ),
    "META_DATA_EXPORT": (
        "name",
        (
            *("EXPORT_PRODUCT_NAME", "EXPORT_PRODUCT_VERSION", "EXPORT_SCHEMA_VERSION", "EXPORT_SCHEMA_VERSION_MAJOR"),
            *("EXPORT_SCHEMA_VERSION_MINOR", "EXPORT_SCHEMA_VERSION_MICRO"),
        ),
    ),
    "DIAGNOSTIC_EVENT": (
        "text",
        tuple(f"Not all {kind} events might have been collected." for kind in ("NVTX", "CUDA")),
    ),
}
# Names one machine or GPU among all others, and is read by nobody.
_EMPTIED = {"TARGET_INFO_GPU": ("uuid", "luid", "ctxswDevPath", "ctrlDevPath"), "NVTX_EVENTS": ("binaryData",)}
_WORDS_OF_TEXT_COLUMNS = ("name", "text")
_NO_TEXT = "nameEnum"  # a number of nsys's own, which may be that of any string


def scrub(path: str | Path) -> None:
    """Take out of an exported report (.sqlite) what no trace is read from, in place; what is left is much smaller.

    Kept are API calls, GPU work, NVTX ranges and the strings that they use, the GPU's and the driver's names, versions
    and the session's begin. NVTX ranges hold what the program put there. ReportError where the file is no such report,
    or cannot be rewritten.
    """
    path = Path(path)
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)) as report:
            tables = [name for (name,) in report.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            if not set(tables) & set(_TABLES):
                raise ReportError(
                    f"{path} is no report of Nsight Systems", fix="name a .sqlite that `nsys export` wrote"
                )
            report.execute("PRAGMA journal_mode = MEMORY")
            report.execute("BEGIN")
            _drop(report, tables)
            _keep_rows(report)
            _keep_strings_in_use(report)
            report.execute("COMMIT")
            report.execute("VACUUM")  # rewrites the file: deleted rows stay in its free pages otherwise
    except sqlite3.Error as error:
        raise ReportError(f"{path} cannot be scrubbed: {error}", fix="export the report once more") from error


def _drop(report: sqlite3.Connection, tables: list[str]) -> None:
    for name, kind in report.execute(
        "SELECT name, type FROM sqlite_master WHERE type IN ('view', 'trigger')"
    ).fetchall():
        report.execute(f"DROP {kind} {_quoted(name)}")
    for table in tables:
        if table not in _TABLES and not table.startswith("sqlite_"):
            report.execute(f"DROP TABLE {_quoted(table)}")


def _keep_rows(report: sqlite3.Connection) -> None:
    for table, (column, values) in _ROWS.items():
        if column in _columns(report, table):
            marks = ", ".join("?" * len(values))
            report.execute(f"DELETE FROM {table} WHERE {column} IS NULL OR {column} NOT IN ({marks})", values)
        elif _columns(report, table):
            report.execute(f"DROP TABLE {table}")
    for table, columns in _EMPTIED.items():
        for column in set(columns) & set(_columns(report, table)):
            report.execute(f"UPDATE {table} SET {column} = NULL WHERE {column} IS NOT NULL")


def _keep_strings_in_use(report: sqlite3.Connection) -> None:
    """Strings are shared by all tables, so those of the dropped ones are still there: what the program printed too."""
    if not _columns(report, "StringIds"):
        return
    columns = [
        (table, column)
        for table in _TABLES
        for column in _columns(report, table)
        if table != "StringIds" and column != _NO_TEXT
        if any(word in column.lower() for word in _WORDS_OF_TEXT_COLUMNS)
    ]
    in_use = " UNION ".join(f"SELECT {_quoted(column)} AS id FROM {table}" for table, column in columns)
    if in_use:
        report.execute(f"DELETE FROM StringIds WHERE id NOT IN (SELECT id FROM ({in_use}) WHERE id IS NOT NULL)")
    else:
        report.execute("DELETE FROM StringIds")


def _columns(report: sqlite3.Connection, table: str) -> list[str]:
    """The columns of a table; none where it is absent."""
    return [row[1] for row in report.execute(f"PRAGMA table_info({_quoted(table)})")]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
