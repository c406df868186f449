"""Integer columns of an SQLite file as NumPy arrays: fast where the file is sound, careful where it is not."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cached_property
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ReportError

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
