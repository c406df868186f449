"""Shipped traces, damaged: a row that cannot be is left out and the figures stay; or a note says what is in doubt."""

import sqlite3
from contextlib import closing
from shutil import copyfile

import pytest

from yolotrt_lab.nsight.attribution import attribute
from yolotrt_lab.nsight.reports import read_trace
from yolotrt_lab.nsight.trace_findings import trace_table
from yolotrt_lab.packages import lab_path

CALLS, KERNELS, COPIES, GRAPHS, RANGES = (
    *(f"CUPTI_ACTIVITY_KIND_{kind}" for kind in ("RUNTIME", "KERNEL", "MEMCPY", "GRAPH_TRACE")),
    "NVTX_EVENTS",
)
MIDDLE = "WHERE rowid = (SELECT max(rowid) / 2 FROM {0})"
LATER = 'UPDATE {0} SET "end" = "end" + 10000000 ' + MIDDLE
LATEST = f'UPDATE {{0}} SET "end" = {2**63 - 1} ' + MIDDLE
EARLIER = "UPDATE {0} SET start = start - 3600000000000 " + MIDDLE
SECOND_HALF = " WHERE rowid > (SELECT max(rowid) / 2 FROM {0})"


@pytest.fixture
def table(tmp_path):
    """What `trace show` says of a shipped trace after this SQL, as rows and notes."""

    def read(name, *script):
        path = tmp_path / "damaged.sqlite"
        copyfile(lab_path("data", "traces", "h200", f"{name}.sqlite"), path)
        with closing(sqlite3.connect(path)) as database, database:
            for line in script:
                database.execute(line)
        seen = attribute(read_trace(path))
        return {row[0]: float(row[1].replace(",", "")) for row in trace_table({"us": seen}).rows}, seen.notes

    return read


@pytest.mark.parametrize(
    ("name", "damaged", "script", "note"),
    [
        ("plain-pageable", CALLS, LATEST, "end long after everything else, the first from "),
        ("plain-pageable", CALLS, LATER, "hold other calls, which they do not make, the first from "),
        ("plain-pageable", CALLS, EARLIER, "hold other calls, which they do not make, the first from "),
        ("plain-pageable", KERNELS, LATEST, "end long after everything else, the first from "),
        ("plain-pageable", KERNELS, LATER, "still run when two later launches on their stream start, the first from "),
        (
            "plain-pageable",
            KERNELS,
            EARLIER,
            "still run when two later launches on their stream start, the first from ",
        ),
        ("plain-pageable", KERNELS, "INSERT INTO {0} SELECT * FROM {0}", "stand there twice, the first from "),
        ("overlap", KERNELS, LATER, "still run when two later launches on their stream start, the first from "),
        ("graph-pinned", GRAPHS, LATER, "still run when two later launches on their stream start, the first from "),
        ("graph-pinned", COPIES, "UPDATE {0} SET bytes = -5 " + MIDDLE, "impossible number: they are left out"),
        ("graph-pinned", RANGES, LATEST, "end long after everything else, the first from "),
    ],
)
def test_rows_that_cannot_be_are_left_out_and_the_figures_stay(table, name, damaged, script, note):
    clean, _ = table(name)
    found, notes = table(name, script.format(damaged))
    [said] = [said for said in notes if note in said]
    assert damaged in said and said.endswith("they are left out")
    assert found.keys() == clean.keys()
    assert all(found[row] == pytest.approx(clean[row], rel=0.03, abs=3) for row in clean), (found, clean)


@pytest.mark.parametrize(
    ("name", "damaged", "script", "note"),
    [
        (
            "graph-pinned",
            GRAPHS,
            "UPDATE {0} SET start = start - 5000000, end = end - 5000000",
            "before they are asked",
        ),
        (
            "plain-pageable",
            KERNELS,
            "UPDATE {0} SET start = start + 1000000000, end = end + 1000000000",
            "the last call",
        ),
        ("plain-pageable", KERNELS, "DELETE FROM {0}" + SECOND_HALF, "launches show no work on the GPU"),
        ("plain-pageable", KERNELS, "UPDATE {0} SET end = start", "takes any time"),
        ("plain-pageable", COPIES, "UPDATE {0} SET copyKind = 99", "66 of 66 copies have an unknown direction"),
        ("plain-pageable", COPIES, "UPDATE {0} SET srcKind = 99, dstKind = 99", "have an unknown kind of memory"),
        (
            "shared-stream",
            RANGES,
            "UPDATE {0} SET start = start + 1000000000, end = end + 1000000000",
            "no CUDA call is",
        ),
        ("shared-stream", RANGES, "UPDATE {0} SET globalTid = globalTid + 1" + SECOND_HALF, "are in none"),
        ("plain-pageable", RANGES, "UPDATE {0} SET start = start + 300000, end = end + 300000", "and end after it"),
        ("plain-pageable", RANGES, "UPDATE {0} SET globalTid = globalTid + (1 << 24)" + SECOND_HALF, "2 processes"),
    ],
)
def test_what_puts_the_figures_in_doubt_is_said(table, name, damaged, script, note):
    _, clean = table(name)
    _, notes = table(name, script.format(damaged))
    assert not any(note in said for said in clean)
    assert any(note in said for said in notes), notes


def test_only_a_wait_for_every_stream_is_one_for_the_work(table):
    late = f'UPDATE {GRAPHS} SET start = start + 5000000, "end" = "end" + 5000000'
    device = "UPDATE StringIds SET value = 'cudaDeviceSynchronize' WHERE value LIKE 'cudaStreamSynchronize%'"
    of_stream, of_device = (table("graph-pinned", *script)[1] for script in ((late,), (late, device)))
    assert not any("63 of 63" in said and "that waits for them has" in said for said in of_stream)
    assert any("63 of 63" in said and "that waits for them has" in said for said in of_device)
