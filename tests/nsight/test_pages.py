"""Integers decoded from the pages of an SQLite file: the same as SQLite says, or left to it."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import sampled

from yolotrt_lab.nsight import pages
from yolotrt_lab.nsight.pages import NO_INTEGER, NULL, OddFileError
from yolotrt_lab.packages import lab_path

VALUE = st.one_of(
    st.none(),
    st.integers(-(2**63) + 2, 2**63 - 1),
    st.sampled_from([0, 1, 2, -1, 127, 128, -128, 32_768, 2**31, 2**47, -(2**47) - 1]),
    st.floats(allow_nan=False),
    st.text(max_size=80),
    st.binary(max_size=80),
)


def write(path, rows, page=512, schema="a INT, b INT, c INT", **more):
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as database:
        for name, value in {"page_size": page, **more}.items():
            database.execute(f"PRAGMA {name} = {value}")
        database.execute(f"CREATE TABLE t ({schema})")
        database.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
        database.commit()
        return root(database, "t")


def integer_columns(path, start, places, rows):
    """The numbers of rows, and the columns, as they are."""
    return list(pages.integer_columns(path, start, rows, places, lambda values: dict(enumerate(values))).values())


def root(database, table):
    return database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]


def as_sqlite_says(path, table, columns):
    cells = [f"CASE typeof({c}) WHEN 'integer' THEN {c} WHEN 'null' THEN {NULL} ELSE {NO_INTEGER} END" for c in columns]
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute(f"SELECT rowid, {', '.join(cells)} FROM {table} ORDER BY rowid").fetchall()
    return np.array(rows, np.int64).reshape(-1, 1 + len(columns)).T.tolist()


@pytest.mark.parametrize("at_a_time", [1, 1 << 22], ids=["page by page", "at once"])
@given(
    st.lists(st.tuples(VALUE, VALUE, st.sampled_from([1, 1, 1, 2])), min_size=1, max_size=60),
    st.sampled_from([512, 1_024, 65_536]),
)
@settings(max_examples=2 * settings().max_examples, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_values_of_every_kind_are_what_sqlite_says(tmp_path, monkeypatch, at_a_time, rows, page):
    monkeypatch.setattr(pages, "_AT_A_TIME", at_a_time)
    path = tmp_path / "t.sqlite"
    start = write(path, rows, page)
    found = integer_columns(path, start, [0, 2], len(rows))
    assert [values.tolist() for values in found] == as_sqlite_says(path, "t", ["a", "c"])


def test_a_tree_of_several_levels_keeps_its_order(tmp_path):
    rows = [(number, number**2 % 1_009, -number) for number in range(20_000)]
    start = write(tmp_path / "t.sqlite", rows)
    numbers, first, last = integer_columns(tmp_path / "t.sqlite", start, [0, 2], len(rows))
    assert (numbers == np.arange(1, 20_001)).all()
    assert (first == np.arange(20_000)).all() and (last == -first).all()


@pytest.mark.parametrize(
    "path", sampled(sorted(lab_path("data", "traces", "h200").glob("*.sqlite")), every=4), ids=lambda path: path.stem
)
def test_shipped_traces_are_read_without_sqlite(path):
    with closing(sqlite3.connect(path)) as database:
        start = root(database, "CUPTI_ACTIVITY_KIND_RUNTIME")
        names = [row[1] for row in database.execute("PRAGMA table_info(CUPTI_ACTIVITY_KIND_RUNTIME)")]
    expected = as_sqlite_says(path, "CUPTI_ACTIVITY_KIND_RUNTIME", [f'"{name}"' for name in names])
    found = integer_columns(path, start, range(len(names)), len(expected[0]))
    assert [values.tolist() for values in found] == expected


ROWS = [(1, 2, 3), (4, 5, 6)]


def with_a_new_column(path, start):
    with closing(sqlite3.connect(path)) as database:
        database.execute("ALTER TABLE t ADD COLUMN d INT DEFAULT 7")


def with_a_new_column_that_half_the_rows_have(path, start):
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("ALTER TABLE t ADD COLUMN d INT")
        database.execute("UPDATE t SET d = 7 WHERE a = 4")


def without_a_row(path, start):
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DELETE FROM t WHERE a = 1")


def with_a_tree_that_leads_back_to_itself(path, start):
    content = bytearray(path.read_bytes())
    content[512 * (start - 1) : 512 * (start - 1) + 12] = bytes([5, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, start])
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("rows", "change", "places", "said"),
    [
        ([(1, "x" * 600, 2)], None, [0], "other pages"),
        (ROWS, with_a_new_column, [3], "shorter"),
        (ROWS, with_a_new_column_that_half_the_rows_have, [3], "shorter"),
        (ROWS, without_a_row, [0], "not numbered one by one"),
        (ROWS, with_a_tree_that_leads_back_to_itself, [0], "broken"),
        (ROWS, lambda path, _: Path(f"{path}-wal").touch(), [0], "beside"),
        ([], None, [0], "broken"),
    ],
)
def test_what_is_out_of_the_ordinary_is_left_to_sqlite(tmp_path, rows, change, places, said):
    path = tmp_path / "t.sqlite"
    start = write(path, rows)
    if change is not None:
        change(path, start)
    with pytest.raises(OddFileError, match=said):
        integer_columns(path, start, places, len(rows))


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_left_to_sqlite_or_read_as_other_numbers(tmp_path, data):
    path = tmp_path / "t.sqlite"
    start = write(path, [(number, number * 1_000, "text") for number in range(300)])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(100, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(600, len(content)))])
    try:
        columns = integer_columns(path, start, [0, 1], 300)
    except OddFileError:
        return
    assert len({len(values) for values in columns}) == 1
