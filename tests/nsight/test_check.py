"""The self-check after a capture: what is missing, and what helps."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_report import write_secret

from yolotrt_lab.errors import TraceError
from yolotrt_lab.nsight.capture import check_trace
from yolotrt_lab.nsight.reports import read_trace
from yolotrt_lab.nsight.trace import Graph


@pytest.fixture
def trace(tmp_path):
    """Three frames with an upload, a kernel, a download and a synchronize each."""
    return read_trace(write_secret(tmp_path / "report.sqlite", frames=3))


def without(trace, table, row):
    """The trace without one row of a table."""
    return trace.where(table, np.arange(trace.count(table)) != row)


def none_of(trace, table):
    return trace.where(table, np.zeros(trace.count(table), bool))


def test_a_whole_trace_passes(trace):
    check_trace(trace)
    check_trace(trace, frames=3)
    check_trace(trace, frames=2)  # what came before the recording does not count


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("ranges", r"(?s)holds no frames.*nvtx==0\.2\.10"),
        ("kernels", r"(?s)3 frames and no kernels.*CuptiUseRawGpuTimestamps=false.*nsys -z"),
        ("copies", "3 frames and no copies"),
        ("api", "3 frames and no synchronize call"),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(trace, table, message):
    with pytest.raises(TraceError, match=message):
        check_trace(none_of(trace, table))


def test_without_anything_from_the_gpu_both_are_named(trace):
    with pytest.raises(TraceError, match="no kernels and no copies"):
        check_trace(none_of(none_of(trace, "kernels"), "copies"))


@pytest.mark.parametrize(
    ("table", "row", "message"),
    [
        ("ranges", 0, "2 of 3 frames"),
        ("copies", 0, "3 frames must have an upload and a download each, got 2 and 3"),
        ("copies", 5, "3 frames must have an upload and a download each, got 3 and 2"),
        ("kernels", 1, "3 frames must have as many kernels each, got 2 in all"),
        ("api", 11, "3 frames must have a synchronize call each, got 2"),
    ],
)
def test_a_single_row_that_was_dropped_is_found(trace, table, row, message):
    with pytest.raises(TraceError, match=message):
        check_trace(without(trace, table, row), frames=3)


def test_batches_are_counted_where_frames_go_in_batches(trace):
    batched = trace
    for table, rows in (("copies", [2, 3]), ("kernels", [1])):  # the second of three frames fills no batch
        batched = batched.where(table, ~np.isin(np.arange(batched.count(table)), rows))
    check_trace(batched, frames=3, batches=2)
    with pytest.raises(TraceError, match="3 batches must have an upload and a download each, got 2 and 2"):
        check_trace(batched, frames=3, batches=3)
    with pytest.raises(TraceError, match="2 batches must have as many kernels each, got 1 in all"):
        check_trace(without(batched, "kernels", 0), frames=3, batches=2)


@pytest.mark.parametrize("left", [0, 2])
def test_copies_inside_a_graph_that_is_one_block_are_asked_for_node_by_node(trace, left):
    blocks = np.full(trace.count("kernels"), Graph.WHOLE)
    hidden = replace(trace, kernels={**trace.kernels, "graph": blocks})
    with pytest.raises(TraceError, match=r"(?s)Fix: .*graphs='node'"):
        check_trace(hidden.where("copies", np.arange(trace.count("copies")) < left), frames=3)
