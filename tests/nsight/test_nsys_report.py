"""What a report's tables become, and what is refused."""

import os
import sqlite3
import stat
import sys
from contextlib import closing

import numpy as np
import pytest
from tiny_report import TinyReport, pageable_frame

from yolotrt_lab.errors import NsysError, ReportError, TraceError
from yolotrt_lab.nsight.attribution import attribute
from yolotrt_lab.nsight.reports import read_trace
from yolotrt_lab.nsight.trace import DIRECTIONS, MEMORIES, Graph
from yolotrt_lab.nsight.trace_findings import findings
from yolotrt_lab.types import SourceKind


def names(trace, table):
    return [trace.names[code] for code in trace.table(table)["name"]]


def memories(trace):
    return [MEMORIES[code] for code in trace.copies["host_memory"]]


@pytest.mark.parametrize("driver", [False, True], ids=["runtime", "driver"])
def test_a_frame_is_read_whole(tmp_path, driver):
    report = TinyReport()
    pageable_frame(report, 0, 1, driver=driver)
    trace = read_trace(report.write(tmp_path / "r.sqlite"))
    assert names(trace, "ranges") == ["frame", "upload", "infer", "download", "synchronize"]
    expected = {
        False: ["cudaMemcpyAsync", "cudaLaunchKernel", "cudaMemcpyAsync", "cudaStreamSynchronize"],
        True: ["cuMemcpyHtoDAsync", "cuLaunchKernel", "cuMemcpyDtoHAsync", "cuStreamSynchronize"],
    }
    assert names(trace, "api") == expected[driver]
    assert names(trace, "kernels") == ["conv"]
    assert trace.kernels["start_ns"].tolist() == [330_000]
    assert [DIRECTIONS[code] for code in trace.copies["direction"]] == ["h2d", "d2h"]
    assert memories(trace) == ["pageable", "pinned"]
    assert trace.copies["bytes"].tolist() == [4_000_000, 2_000_000]
    assert set(trace.api["pid"].tolist()) == {10}
    assert set(trace.api["tid"].tolist()) == {11}
    assert trace.notes == ()


@pytest.mark.parametrize(
    ("drop", "expected"), [((), ["pinned", "pageable", "managed"]), (["ENUM_CUDA_MEM_KIND"], ["unknown"] * 3)]
)
def test_kinds_of_memory_are_found_by_their_label_alone(tmp_path, drop, expected):
    report = TinyReport(memory={"Pinned": 0, "Pageable": 1, "Managed": 5, "Device": 9})
    for number, memory in enumerate(("Pinned", "Pageable", "Managed")):
        report.copy("h2d", memory, number, number + 1, number)
    trace = read_trace(report.write(tmp_path / "r.sqlite", drop=drop))
    assert memories(trace) == expected
    note = "the report has no ENUM_CUDA_MEM_KIND: which copies are pageable can't be told"
    assert (note in trace.notes) == bool(drop)


def test_ranges_are_named_in_their_row_or_by_number_and_marks_and_open_ones_are_none(tmp_path):
    report = TinyReport()
    report.range("by number", 0, 10)
    report.range("in the row", 1, 9, text=True)
    report.range("started and ended", 2, 8, event=60)
    report.range("a mark", 3, None, event=34)
    report.range("still open", 4, None)
    report.range("a domain", 5, None, event=75, text=True)
    trace = read_trace(report.write(tmp_path / "r.sqlite"))
    assert names(trace, "ranges") == ["by number", "in the row", "started and ended"]


def test_each_process_numbers_its_gpus_and_the_report_tells_which_they_are(tmp_path):
    report = TinyReport()
    for number, (pid, device) in enumerate([(10, 0), (20, 0), (20, 1)]):
        report.kernel("k", number, number + 1, number, pid=pid, device=device)
    report.words["TARGET_INFO_CUDA_DEVICE gpuId cudaId pid"] = [(0, 0, 10), (3, 0, 20), (0, 1, 20)]
    report.words["TARGET_INFO_GPU id name"] = [(0, "GPU A"), (1, "GPU B"), (3, "GPU C")]
    trace = read_trace(report.write(tmp_path / "r.sqlite"))
    assert trace.kernels["device"].tolist() == [0, 3, 0]
    assert trace.source.gpu == "GPU A, GPU C"


def test_the_source_is_where_it_was_recorded(tmp_path):
    report = TinyReport()
    report.kernel("k", 0, 1, 1)
    report.words["TARGET_INFO_GPU id name"] = [(0, "NVIDIA H200")]
    report.words["TARGET_INFO_SYSTEM_ENV name value"] = [("CpuCores", "16"), ("NvDriverVersion", "580.159.04")]
    report.words["TARGET_INFO_SESSION_START_TIME utcEpochNs"] = [(1_795_641_886_699_064_249,)]
    source = read_trace(report.write(tmp_path / "r.sqlite")).source
    assert source.kind is SourceKind.RECORDED
    assert source.stamp == "recorded on NVIDIA H200, driver 580.159.04, 2026-11-25"


def test_graphs_are_blocks_or_nodes(tmp_path):
    report = TinyReport()
    report.graph(2, 9, 3)
    notes = read_trace(report.write(tmp_path / "r.sqlite")).notes
    assert not any("CUPTI_ACTIVITY_KIND_KERNEL" in note for note in notes)
    report.kernel("plain", 0, 1, 1)
    report.kernel("in a graph", 1, 2, 2, node=5)
    trace = read_trace(report.write(tmp_path / "r.sqlite"))
    assert names(trace, "kernels") == ["plain", "in a graph", "CUDA graph"]
    assert trace.kernels["graph"].tolist() == [Graph.NO, Graph.NODE, Graph.WHOLE]
    assert any("shown as one block" in note for note in trace.notes)


def test_a_driver_call_inside_a_runtime_call_is_part_of_it(tmp_path):
    report = TinyReport()
    report.call("cudaLaunchKernel_v7000", 100, 200, 1)
    report.call("cuLaunchKernel", 110, 190, 2)
    report.call("cuLaunchKernel", 300, 400, 3)
    report.call("cuLaunchKernel", 120, 130, 4, tid=12)
    report.call("cuLaunchKernel", 120, 130, 2, pid=20)
    for number, pid in ((2, 10), (3, 10), (4, 10), (2, 20)):
        report.kernel("k", 200 + 10 * number + pid, 205 + 10 * number + pid, number, pid=pid)
    trace = read_trace(report.write(tmp_path / "r.sqlite"))
    calls = sorted(zip(trace.api["pid"].tolist(), trace.api["correlation"].tolist(), strict=True))
    assert calls == [(10, 1), (10, 3), (10, 4), (20, 2)]
    assert trace.kernels["correlation"].tolist() == [1, 3, 2, 4]
    assert trace.kernels["pid"].tolist() == [10, 10, 20, 10]


def test_rows_that_hold_no_numbers_are_left_out_and_counted(tmp_path):
    report = TinyReport()
    report.kernel("k", 0, 10, 1)
    report.kernel("k", 20, 10, 2)
    for start in (None, "soon", 2.5):
        report.kernel("k", start, 30, 3)
    report.kernel("k", 40, 50, 4, node="none")
    trace = read_trace(report.write(tmp_path / "r.sqlite"))
    assert trace.kernels["correlation"].tolist() == [1, 4]
    assert trace.kernels["graph"].tolist() == [0, 0]
    what = "4 of 6 rows of CUPTI_ACTIVITY_KIND_KERNEL end before they start, or have an impossible number"
    assert f"{what}: they are left out" in trace.notes


def test_what_is_absent_is_noted_and_so_are_warnings_of_nsys(tmp_path):
    report = TinyReport()
    report.call("cudaLaunchKernel_v7000", 0, 5, 1)
    report.words["DIAGNOSTIC_EVENT timestamp severity text"] = [(0, 1, "started"), (1, 2, "events were lost")]
    trace = read_trace(report.write(tmp_path / "r.sqlite"))
    assert trace.notes == (
        "the report has no CUPTI_ACTIVITY_KIND_KERNEL",
        "the report has no CUPTI_ACTIVITY_KIND_MEMCPY",
        "the report has no NVTX_EVENTS",
        "nsys warned: events were lost",
    )


def a_database(path):
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE songs (title)")
    return path.read_bytes()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no report of Nsight Systems"),
        (b"These are words, and no report at all.\n" * 50, "cannot be read as SQLite"),
        (b"SQLite format 3\0" + b"\xff" * 500, "cannot be read as SQLite"),
        (
            b"PAR1" + b"\0" * 500,
            "is a Parquet file, as a recording is, and no report of Nsight Systems\nFix: yolotrt-lab diag",
        ),
        (a_database, "none of the tables of CUDA and NVTX"),
        (None, "there is no file"),
    ],
)
def test_files_of_something_else_are_refused(tmp_path, content, said):
    path = tmp_path / "r.sqlite"
    if content is not None:
        path.write_bytes(content(tmp_path / "other.sqlite") if callable(content) else content)
    with pytest.raises(ReportError, match=said):
        read_trace(path)


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """A .nsys-rep, on a machine without nsys."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr("yolotrt_lab.nsight.capture.find_nsys", lambda: "")
    path = tmp_path / "r.nsys-rep"
    path.write_bytes(b"raw")
    return path


def test_a_raw_report_needs_nsys_or_its_export(raw):
    with pytest.raises(NsysError, match="needs nsys to be read"):
        read_trace(raw)
    report = TinyReport()
    report.kernel("k", 0, 1, 1)
    exported = report.write(raw.with_suffix(".sqlite"))
    assert read_trace(raw).count("kernels") == 1
    os.utime(exported, ns=(0, 0))
    assert "read from r.sqlite, which is older than r.nsys-rep" in read_trace(raw).notes


@pytest.mark.skipif(sys.platform == "win32", reason="makes a shell script")
def test_nsys_exports_a_raw_report(raw, tmp_path, monkeypatch):
    report = TinyReport()
    report.kernel("k", 0, 1, 1)
    export = report.write(tmp_path / "made.sqlite")
    program = tmp_path / "nsys"
    program.write_text(f'#!/bin/sh\n[ "$8" = "{raw}" ] && /bin/cp "{export}" "$7" || exit 3\n', encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr("yolotrt_lab.nsight.capture.find_nsys", lambda: str(program))
    assert read_trace(raw).count("kernels") == 1
    program.write_text("#!/bin/sh\necho 'made by a newer version' >&2\nexit 1\n", encoding="utf-8")
    with pytest.raises(NsysError, match=r"(?s)made by a newer version.*Fix: .*export it there"):
        read_trace(raw)


@pytest.mark.parametrize("odd", ["GPU-uuid", b"\xff", 1.5, None, 2**40, -1], ids=repr)
@pytest.mark.parametrize("place", range(3))
def test_a_gpu_whose_numbers_are_none_keeps_that_of_its_process(tmp_path, odd, place):
    report, numbers = TinyReport(), [7, 0, 10]
    report.kernel("k", 0, 1, 1)
    numbers[place] = odd
    report.words["TARGET_INFO_CUDA_DEVICE gpuId cudaId pid"] = [tuple(numbers)]
    assert read_trace(report.write(tmp_path / "r.sqlite")).kernels["device"].tolist() == [0]


def test_a_column_that_hides_the_numbers_of_rows_is_told(tmp_path):
    report = TinyReport()
    report.range("frame", 0, 9, text=True)
    path = report.write(tmp_path / "r.sqlite")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("ALTER TABLE NVTX_EVENTS RENAME COLUMN color TO rowid")
    assert any("1 of 1 rows of NVTX_EVENTS" in note for note in read_trace(path).notes)


def damaged(report, path, seed):
    """The report with one thing broken: a table or column gone, rows shuffled, or the file cut off."""
    rng, kind = np.random.default_rng(seed), seed % 4
    if kind == 0:
        return report.write(path, drop=[str(rng.choice([*report.rows, "StringIds", "ENUM_CUDA_MEM_KIND"]))])
    if kind == 1:
        table = str(rng.choice(list(report.rows)))
        return report.write(path, drop=[f"{table}.{rng.choice(sorted(report.rows[table][0]))}"])
    if kind == 2:
        for rows in report.rows.values():
            rng.shuffle(rows)
        return report.write(path)
    data = report.write(path).read_bytes()
    path.write_bytes(data[: int(rng.integers(1, len(data)))])
    return path


@pytest.mark.parametrize("seed", range(12))
def test_damaged_reports_give_an_error_of_the_lab_or_what_is_left(tmp_path, seed):
    report = TinyReport()
    for frame in range(10):
        pageable_frame(report, frame * 1_000_000, 1 + 4 * frame)
    try:
        trace = read_trace(damaged(report, tmp_path / "r.sqlite", seed))
        attribution = attribute(trace)
        findings(trace)
    except TraceError:
        return
    assert trace.notes or (trace.count("api"), trace.count("kernels"), trace.count("copies")) == (40, 10, 20)
    if trace.count("api") and trace.count("kernels") and trace.count("copies") and trace.names:
        assert set(attribution.frames["gpu_ns"].tolist()) == {830_000}
