"""Scrubbing: nothing of what nsys notes of the machine survives in the file, and nothing of the trace is lost."""

import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from tiny_report import SECRETS, WARNING, write_secret

from yolotrt_lab.errors import ReportError
from yolotrt_lab.nsight import read_trace
from yolotrt_lab.nsight.scrub import _ROWS, _TEXTS, quoted, scrub
from yolotrt_lab.packages import lab_path

GONE = ("jsonText", "binaryData", "uuid", "nameEnum")
KEPT = ("CUPTI_ACTIVITY_KIND_RUNTIME", "CUPTI_ACTIVITY_KIND_MEMCPY", "CUPTI_ACTIVITY_KIND_KERNEL", "NVTX_EVENTS")


def rows(path, table):
    """Those of the columns that are kept."""
    with closing(sqlite3.connect(path)) as report:
        kept = [name for _, name, *_ in report.execute(f"PRAGMA table_info({table})") if name not in GONE]
        return report.execute(f"SELECT {', '.join(map(quoted, kept))} FROM {table}").fetchall()


def survivors(path):
    data = path.read_bytes()
    return [secret for secret in SECRETS if secret.encode() in data or secret.encode("utf-16-le") in data]


def test_no_secret_survives_in_the_bytes_of_the_file_or_of_rows_deleted_before(tmp_path):
    path = write_secret(tmp_path / "report.sqlite")
    with closing(sqlite3.connect(path)) as report, report:
        report.execute("PRAGMA secure_delete = OFF")
        report.execute("DELETE FROM META_DATA_CAPTURE")
    assert survivors(path) == list(SECRETS)
    scrub(path)
    assert survivors(path) == []
    assert [each.name for each in tmp_path.iterdir()] == ["report.sqlite"]
    once = path.read_bytes()
    scrub(path)
    assert len(path.read_bytes()) == len(once)


def test_every_row_of_the_trace_and_every_string_it_uses_stays(tmp_path):
    path = write_secret(tmp_path / "report.sqlite")
    before = {table: rows(path, table) for table in KEPT}
    scrub(path)
    assert {table: rows(path, table) for table in KEPT} == before
    assert [number for number, _ in rows(path, "StringIds")] == [1, 2, 3, 4, 5]
    assert rows(path, "TARGET_INFO_GPU") == [(0, "NVIDIA H200")]
    assert rows(path, "TARGET_INFO_SYSTEM_ENV") == [("NvDriverVersion", "580.159.04")]
    assert rows(path, "DIAGNOSTIC_EVENT") == [(1, WARNING)]
    assert rows(path, "META_DATA_EXPORT") == [("EXPORT_SCHEMA_VERSION", "3.20.3")]


def test_strings_without_a_table_that_uses_them_go(tmp_path):
    path = tmp_path / "report.sqlite"
    with closing(sqlite3.connect(path)) as report, report:
        report.execute("CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT)")
        report.execute("INSERT INTO StringIds VALUES (1, 'TOKEN-in-environment')")
    scrub(path)
    assert survivors(path) == []


def test_what_is_no_report_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE customers (name TEXT)")
    for content in (b"", b"not a database at all, but text" * 100, path.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ReportError, match=r"Fix: (name|export)"):
            scrub(path)
        assert path.read_bytes() == content


SHIPPED = lab_path("data", "traces", "h200", "graph-pinned.sqlite")


def planted(path):
    """Secrets in a text column of every table of a real report, in columns and tables that nsys may add, in numbers'
    columns, in the schema and its comments: each secret with the column where it may stay, else "".
    """
    shutil.copy(SHIPPED, path)
    secrets = {}

    def secret(kept=""):
        word = f"SECRET{len(secrets):04}"
        secrets[word] = kept
        return word

    with closing(sqlite3.connect(path)) as report, report:
        report.execute("PRAGMA writable_schema = ON")
        tables = dict(report.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall())
        for table, sql in tables.items():
            commented = sql.replace("(", f"( -- {secret()}\n /* {secret()} */", 1)
            report.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (commented, table))
        report.execute("PRAGMA writable_schema = OFF")
    with closing(sqlite3.connect(path)) as report, report:
        for table in tables:
            for column in ("note", "hostName", "jsonText2"):
                report.execute(f"ALTER TABLE {table} ADD COLUMN {column} TEXT DEFAULT '{secret()}'")
                report.execute(f"UPDATE {table} SET {column} = '{secret()}'")
            for _, column, *_, key in report.execute(f"PRAGMA table_info({table})").fetchall():
                if key or table == "META_DATA_EXPORT" or (table, column) == ("DIAGNOSTIC_EVENT", "text"):
                    continue
                kept = column in _TEXTS.get(table, ()) and table not in _ROWS
                first = f"rowid = (SELECT MAX(rowid) FROM {table})"
                word = secret(f"{table}.{column}" if kept else "")
                report.execute(f'UPDATE {table} SET "{column}" = ? WHERE {first}', (word,))
        for table, name in (
            ("TARGET_INFO_SYSTEM_ENV", "NvDriverVersion"),
            ("META_DATA_EXPORT", "EXPORT_PRODUCT_VERSION"),
        ):
            report.execute(f"UPDATE {table} SET value = ? WHERE name = ?", (secret(), name))
        for name, column in (("META_DATA_CAPTURE", "value"), ("ANALYSIS_FILE", "content"), ("t 'x\"y", 'a b"c')):
            report.execute(f"CREATE TABLE {quoted(name)} ({quoted(column)} TEXT DEFAULT '{secret()}')")
            report.execute(f"INSERT INTO {quoted(name)} VALUES ('{secret()}')")
        report.execute(f"CREATE VIEW seen AS SELECT '{secret()}'")
        report.execute(f"CREATE INDEX {secret()} ON StringIds (value)")
        report.execute(f"CREATE TRIGGER {secret()} INSERT ON StringIds BEGIN SELECT '{secret()}'; END")
        for string in range(3):
            report.execute("INSERT INTO StringIds (id, value) VALUES (?, ?)", (10**6 + string, secret()))
        report.execute("INSERT INTO META_DATA_EXPORT (name, value) VALUES (?, ?)", (secret(), secret()))
        report.execute("INSERT INTO DIAGNOSTIC_EVENT SELECT * FROM DIAGNOSTIC_EVENT")
    return secrets


def test_a_secret_planted_anywhere_is_gone_unless_it_stands_in_text_of_the_trace_itself(tmp_path):
    path = tmp_path / "report.sqlite"
    secrets = planted(path)
    assert len(secrets) > 200
    before = path.read_bytes()
    assert sum(word.encode() in before for word in secrets) > 0.95 * len(secrets)
    scrub(path)
    after = path.read_bytes()
    alive = {word for word in secrets if word.encode() in after or word.encode("utf-16-le") in after}
    assert {secrets[word] for word in alive} == {"StringIds.value", "NVTX_EVENTS.text", "TARGET_INFO_GPU.name"}
    assert len(alive) == 3
    with closing(sqlite3.connect(path)) as report:
        schema = [sql for (sql,) in report.execute("SELECT sql FROM sqlite_master")]
    assert not any("--" in sql or "/*" in sql or "DEFAULT" in sql for sql in schema)


def test_a_report_that_is_scrubbed_once_more_reads_as_before(tmp_path):
    path = tmp_path / "report.sqlite"
    for shipped in sorted(SHIPPED.parent.glob("*.sqlite"))[:4]:
        shutil.copy(shipped, path)
        scrub(path)
        before, after = read_trace(shipped), read_trace(path)
        assert (after.names, after.source, after.notes) == (before.names, before.source, before.notes)
        for table in ("api", "kernels", "copies", "ranges", "memsets"):
            for name, values in before.table(table).items():
                assert np.array_equal(after.table(table)[name], values), (table, name)
