"""Scrubbing: nothing of what nsys notes of the machine survives in the file, and nothing of the trace is lost."""

import sqlite3
from contextlib import closing

import pytest
from tiny_report import SECRETS, WARNING, write_secret

from yolotrt_lab.errors import ReportError
from yolotrt_lab.nsight.scrub import scrub

KEPT = ("CUPTI_ACTIVITY_KIND_RUNTIME", "CUPTI_ACTIVITY_KIND_MEMCPY", "CUPTI_ACTIVITY_KIND_KERNEL", "NVTX_EVENTS")


def rows(path, table):
    with closing(sqlite3.connect(path)) as report:
        return report.execute(f"SELECT * FROM {table}").fetchall()


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
    assert rows(path, "TARGET_INFO_GPU") == [(0, "NVIDIA H200", None)]
    assert rows(path, "TARGET_INFO_SYSTEM_ENV") == [("NvDriverVersion", 7, "580.159.04")]
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
