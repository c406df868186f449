"""Medians of scenarios of several levels, and their tables."""

from __future__ import annotations

import numpy as np
import pytest

from yolotrt_lab.causes import camera_levels, camera_table, report_levels, report_table
from yolotrt_lab.recording import FRAME_COLUMNS, Recording
from yolotrt_lab.types import Source, SourceKind

MS = 1_000_000


def recording(rows, **columns):
    """Rows of (warm-up, ms of preprocess, upload, infer and synchronize), back to back, with these columns."""
    values = {name: np.zeros(len(rows), np.int64) for name in FRAME_COLUMNS}
    warmup, *times = zip(*rows, strict=True)
    stages = ("preprocess", "upload", "infer", "synchronize")
    values |= {f"{stage}_ns": np.array(each) * MS for stage, each in zip(stages, times, strict=True)}
    ends = np.cumsum(np.sum(times, axis=0) * MS)
    values |= {"warmup": np.array(warmup, bool), "frame": np.arange(len(rows)), "done_ns": ends}
    values["start_ns"] = np.concatenate([[0], ends[:-1]])
    values |= {name: np.array(each) for name, each in columns.items()}
    source = Source(SourceKind.SIMULATED, preset="round")
    return Recording("frames", values, source)


def test_levels_of_the_report_are_in_their_order_and_without_a_warm_up():
    rows = [(1, 9, 9, 9, 9), (0, 1, 2, 3, 4), (0, 3, 2, 3, 6), (0, 1, 1, 1, 40), (0, 1, 0, 1, 30)]
    levels = report_levels(recording(rows, processes=[0, 0, 0, 5, 5], pinned=[0, 0, 0, 0, 1]))
    assert list(levels) == [(0, False), (5, False), (5, True)]
    assert levels[0, False] == {
        "copy_from_Mat": 4,
        "cudaMemcpyAsync": 2,
        "enqueueV3": 3,
        "cudaStreamSynchronize": 5,
        "frame": 12,
    }
    assert levels[5, True]["cudaStreamSynchronize"] == 30


def test_table_of_the_report_has_a_row_for_each_level_of_any():
    one = recording([(0, 1, 2, 3, 4)], processes=[0], pinned=[0])
    other = recording([(0, 1, 1, 1, 20)], processes=[1], pinned=[1])
    table = report_table({"one": one, "other": other})
    assert [row[0] for row in table.rows] == ["0 processes", "1 process, pinned"]
    assert table.rows[0][1:] == ["3.000", "-", "2.000", "-", "4.000", "-"]
    assert table.rows[1][1:] == ["-", "2.000", "-", "1.000", "-", "20.0"]
    assert table.notes == [one.source.stamp]


def test_cameras_are_counted_together():
    rows = [(0, 0, 1, 0, 1), (0, 0, 3, 0, 1), (0, 0, 2, 0, 2), (0, 0, 0, 0, 2)]
    levels = camera_levels(recording(rows, threads=[1, 1, 2, 2], pinned=[0, 0, 1, 1]))
    assert levels[1, False]["upload"] == 2
    assert levels[1, False]["frames/s"] == pytest.approx(2 / 6e-3)
    assert levels[2, True] == {"upload": 1, "upload p99": 1.98, "synchronize": 2, "frames/s": pytest.approx(2 / 6e-3)}


def test_table_of_cameras_names_threads_memory_and_recording():
    table = camera_table({"here": recording([(0, 0, 1, 0, 1)], threads=[8], pinned=[1])})
    assert table.rows == [["8, pinned, here", "1.000", "1.000", "1.000", "500"]]
