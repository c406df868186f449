"""Damaged files of every kind, and words that nobody types: each ends in an answer, or in an error with its fix."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing, suppress

import numpy as np
import pytest
from samples import sampled
from tiny_detector import detector_model

from benchmarks.bench_reading import damaged
from yolotrt_lab import cli
from yolotrt_lab.diagnose import bill, read
from yolotrt_lab.errors import LabError, plain
from yolotrt_lab.frames import open_frames
from yolotrt_lab.notebooks import declared_parameters
from yolotrt_lab.nsight import attribute, read_trace
from yolotrt_lab.onnxruntime import OnnxRuntimeEngine
from yolotrt_lab.packages import import_cv2, lab_path
from yolotrt_lab.plans import read_header, read_plan
from yolotrt_lab.recording import Recording
from yolotrt_lab.simulate.preset import Preset
from yolotrt_lab.speed.ladder import Ladder

VALUES = [None, 0, -1, 1.5, 2**40, 10**30, float("nan"), float("inf"), "", "x", "\x1b[31m", "\ud800", [], {}, [1], True]
CELLS = [None, 0, -1, 2**31, 2**63 - 1, -(2**63), 1.5, float("inf"), "text", "\x1b[2J", b"\xff\0", ""]
PLAN = b"ftrt" + bytes(20) + bytes([10, 13, 3, 9]) + bytes(100)
METADATA = json.dumps({"task": "detect", "names": {"0": "a"}}).encode()


def changed(value, rng):
    """JSON with one value somewhere in it changed or left out, in place."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key = rng.choice(keys)
    if isinstance(value[key], dict | list) and value[key] and rng.random() < 0.7:
        changed(value[key], rng)
    elif rng.random() < 0.3:
        del value[key]
    else:
        value[key] = rng.choice(VALUES)


def damaged_file(path, original, rng):
    """The bytes damaged; of JSON and SQLite also values changed, columns and tables gone or doubled."""
    path.write_bytes(original)
    if path.suffix == ".sqlite" and rng.random() < 0.7:
        with closing(sqlite3.connect(path)) as report, report:
            tables = [name for (name,) in report.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for _ in range(rng.randint(1, 4)):
                table = rng.choice(tables)
                if columns := [row[1] for row in report.execute(f"PRAGMA table_info({table})")]:
                    column, where = rng.choice(columns), rng.choice(["", " WHERE rowid % 3 = 0"])
                    changes = [f"UPDATE {table} SET {column} = ?{where}", f"DELETE FROM {table}{where}"]
                    changes += [f"DROP TABLE {table}", f"ALTER TABLE {table} DROP COLUMN {column}"]
                    changes += [f"INSERT INTO {table} SELECT * FROM {table}"]
                    change = rng.choice(changes)
                    with suppress(sqlite3.Error):
                        report.execute(change, (rng.choice(CELLS),) * change.count("?"))
    elif path.suffix in (".json", ".ipynb") and rng.random() < 0.7:
        values = json.loads(original)
        for _ in range(rng.randint(1, 3)):
            changed(values, rng)
        path.write_text(json.dumps(values))
    else:
        path.write_bytes(damaged(original, rng))


def of_lab(*names):
    return lab_path(*names).read_bytes()


def png():
    return import_cv2().imencode(".png", np.zeros((32, 48, 3), np.uint8))[1].tobytes()


def engine_and_plan(path):
    with suppress(LabError):
        OnnxRuntimeEngine(path).describe()
    return read_header(read_plan(path))


READERS = {
    "recording.parquet": (lambda: of_lab("data", "recordings", "h200", "copies.parquet"), Recording.load),
    "table.parquet": (lambda: of_lab("data", "traces", "h200", "graph-pinned.parquet"), lambda path: bill(read(path))),
    "trace.sqlite": (
        lambda: of_lab("data", "traces", "h200", "graph-pinned.sqlite"),
        lambda p: attribute(read_trace(p)),
    ),
    "preset.json": (lambda: of_lab("data", "presets", "h200.json"), Preset.load),
    "ladder.json": (lambda: of_lab("data", "ladders", "h200", "bench.json"), Ladder.load),
    "notebook.ipynb": (lambda: of_lab("notebooks", "08_final_exam.ipynb"), declared_parameters),
    "model.onnx": (detector_model, lambda path: OnnxRuntimeEngine(path).describe()),
    "plan.engine": (lambda: len(METADATA).to_bytes(4, "little") + METADATA + PLAN, engine_and_plan),
    "image.png": (png, open_frames),
}


@pytest.mark.parametrize("seeds", sampled([range(10), range(10, 100)], every=2), ids=str)
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_read_or_an_error_names_it_and_the_fix(name, seeds, tmp_path):
    make, reader = READERS[name]
    original, refused = make(), 0
    for seed in seeds:
        path = tmp_path / str(seed) / name
        path.parent.mkdir()
        damaged_file(path, original, random.Random(f"{name}{seed}"))
        try:
            reader(path)
        except LabError as error:
            assert error.message and error.fix and str(error) == plain(str(error)), seed
            refused += 1
    assert refused


WORDS = (
    "",
    "nan",
    "-1",
    "9" * 5_000,
    "x" * 3_000,
    "\x1b[31m",
    "\udc80",
    "(?P<a",
    "(?P<infer_ms>",
    ",,",
    "²",
    "/dev/null",
)
COMMANDS = """\
diagnose WORD
diagnose CALLS --pattern=WORD
diagnose CALLS --columns=WORD
diagnose CALLS --telemetry=WORD
diagnose CALLS --unit=WORD
diagnose CALLS --html=WORD
trace show TRACE --range=WORD
trace show WORD.nsys-rep
trace show WORD.qdstrm
trace export TRACE --perfetto=WORD
run WORD
run 00 -p WORD WORD
record WORD --out=WORD
record steady --out=WORD --frames=5
record steady --out=a.parquet --frames=WORD
record steady --out=a.parquet --severity=WORD
record steady --out=a.parquet --preset=WORD
detect WORD --out=o
detect synthetic --limit=1 --out=o --classes WORD
""".splitlines()


@pytest.mark.parametrize("first", sampled([0, 1, 2, 3], [0]))
@pytest.mark.parametrize("command", sampled(COMMANDS, [each for each in COMMANDS if "synthetic" not in each]))
def test_words_that_nobody_types_are_refused_with_a_fix(command, first, tmp_path, monkeypatch, capsys):
    """Every fourth word with one command, from the next word on with the next."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("YOLOTRT_LAB_DEBUG", raising=False)
    files = {
        "CALLS": lab_path("data", "logs", "calls.h200.csv"),
        "TRACE": lab_path("data", "traces", "h200", "graph-pinned.sqlite"),
    }
    for word in WORDS[(COMMANDS.index(command) + first) % 4 :: 4]:
        typed = [str(files.get(each, each)).replace("WORD", word) for each in command.split()]
        try:
            status = cli.main(typed)
        except SystemExit as usage:
            status = usage.code
        said = capsys.readouterr()
        assert status in (0, 2), word
        assert said.err == plain(said.err) and said.out == plain(said.out), word
        assert status == 0 or "\nFix: " in said.err or "usage: " in said.err, word
