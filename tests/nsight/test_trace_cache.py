"""What is kept of a long report: the same trace, only as long as the report is the same, and never in the way."""

import os
import sys

import numpy as np
import pytest
from tiny_report import TinyReport, pageable_frame

from yolotrt_lab.nsight import cache, read_trace, sqlite
from yolotrt_lab.nsight.trace import SCHEMA


@pytest.fixture
def report(tmp_path, monkeypatch):
    """A report that counts as long."""
    monkeypatch.setattr(cache, "_MINIMAL_SIZE", 1)
    report = TinyReport()
    for frame in range(5):
        pageable_frame(report, frame * 1_000_000, 1 + 4 * frame)
    return report.write(tmp_path / "r.sqlite")


def same(one, other):
    for table in SCHEMA:
        for column in SCHEMA[table]:
            assert np.array_equal(one.table(table)[column], other.table(table)[column])
            assert one.table(table)[column].dtype == other.table(table)[column].dtype
    assert (one.names, one.source, one.notes) == (other.names, other.source, other.notes)
    return True


def unreadable(*_):
    raise AssertionError("the report itself was read")


def test_the_second_read_is_from_the_copy(report, monkeypatch):
    first = read_trace(report)
    assert cache.folder_of(report).is_dir()
    monkeypatch.setattr("yolotrt_lab.nsight.report._read_sqlite", unreadable)
    assert same(first, read_trace(report))
    assert {path.name for path in report.parent.iterdir()} == {"r.sqlite", "r.sqlite.lab-parquet"}


def test_a_changed_report_is_read_again_and_kept_anew(report):
    first = read_trace(report)
    changed = TinyReport()
    pageable_frame(changed, 0, 1)
    changed.write(report)
    second = read_trace(report)
    assert (first.count("kernels"), second.count("kernels")) == (5, 1)
    assert same(second, read_trace(report))
    os.utime(report, ns=(1, 1))
    assert cache.read(report, cache.key_of(report)) is None


@pytest.mark.parametrize("damage", [b"", b"PAR1 and no more", None])
def test_a_damaged_copy_is_not_used(report, damage):
    first = read_trace(report)
    kept = cache.folder_of(report) / "kernels.parquet"
    if damage is None:
        kept.unlink()
    else:
        kept.write_bytes(damage)
    assert cache.read(report, cache.key_of(report)) is None
    assert same(first, read_trace(report))
    assert cache.read(report, cache.key_of(report)) is not None


def test_parts_of_two_copies_are_not_mixed(report, tmp_path):
    read_trace(report)
    kept = (cache.folder_of(report) / "kernels.parquet").read_bytes()
    os.utime(report, ns=(1, 1))
    read_trace(report)
    (cache.folder_of(report) / "kernels.parquet").write_bytes(kept)
    assert cache.read(report, cache.key_of(report)) is None


def test_where_nothing_can_be_kept_nothing_is(report, monkeypatch):
    def full(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr(cache, "_write_table", full)
    assert read_trace(report).count("kernels") == 5
    assert [path.name for path in report.parent.iterdir()] == ["r.sqlite"]


def test_nothing_is_kept_unasked(report, tmp_path, monkeypatch):
    read_trace(report, use_cache=False)
    monkeypatch.undo()
    read_trace(report)
    assert not cache.folder_of(report).exists()


@pytest.mark.parametrize("driver", ["installed", "missing"])
def test_long_reports_read_the_same_by_either_library(report, monkeypatch, driver):
    first = read_trace(report, use_cache=False)
    monkeypatch.setattr(sqlite, "_SIZE_FOR_ADBC", 1)
    if driver == "missing":
        monkeypatch.setitem(sys.modules, "adbc_driver_sqlite", None)
    assert same(first, read_trace(report, use_cache=False))


def test_the_fast_library_leaves_damaged_rows_to_the_careful_one(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "_SIZE_FOR_ADBC", 1)
    report = TinyReport()
    report.kernel("k", 0, 10, 1)
    for start in (None, "soon", 2.5):
        report.kernel("k", start, 30, 3)
    trace = read_trace(report.write(tmp_path / "r.sqlite"))
    assert trace.kernels["correlation"].tolist() == [1]
    assert "3 rows of CUPTI_ACTIVITY_KIND_KERNEL are damaged and left out" in trace.notes
