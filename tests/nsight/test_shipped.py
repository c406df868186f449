"""The traces that ship with the lab: whole, scrubbed, small, and of one mind with the loops' own timers."""

import re
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from yolotrt_lab.errors import TraceError
from yolotrt_lab.nsight import attribute, check_trace, read_trace, rules, shipped_analysis, shipped_trace
from yolotrt_lab.nsight.findings import findings
from yolotrt_lab.paths import lab_path
from yolotrt_lab.recording import Recording
from yolotrt_lab.types import Stage

SHIPPED = sorted(lab_path("data", "traces").glob("*/*.sqlite"))
every_trace = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
staged_traces = pytest.mark.parametrize(  # the two threads of the shared stream mark no stages
    "path", [path for path in SHIPPED if path.stem != "shared-stream"], ids=lambda path: path.stem
)
NEEDED = {"graph-pageable", "graph-pinned", "moved-wait", "shared-gpu"}


def test_the_notebooks_traces_are_there():
    assert {path.stem for path in SHIPPED} >= NEEDED


@every_trace
def test_a_trace_holds_every_frame_of_the_recording_beside_it(path):
    check_trace(read_trace(path), frames=len(Recording.load(path.with_suffix(".parquet"))))


@staged_traces
def test_host_times_agree_with_the_loops_own_timers(path):
    """Medians within 5 % or 5 us."""
    recording = Recording.load(path.with_suffix(".parquet"))
    steady = ~recording.columns["warmup"]
    frames = attribute(read_trace(path)).frames
    for stage in (Stage.UPLOAD, Stage.INFER, Stage.DOWNLOAD, Stage.SYNCHRONIZE):
        timer = np.median(recording.stage_ns(stage)[steady])
        trace = np.median(frames[f"{stage}_ns"][-len(recording) :][steady])
        assert abs(trace - timer) < max(0.05 * timer, 5_000), stage


@every_trace
def test_a_trace_tells_nothing_of_the_machine_and_is_small(path):
    data = path.read_bytes()
    assert len(data) < 2_000_000
    assert re.findall(rb"/(?:home|root|tmp|opt|usr|work|etc)/|ENVIRONMENT|Hostname|LD_LIBRARY", data) == []
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as report:
        tables = {name for (name,) in report.execute("SELECT name FROM sqlite_master")}
    assert tables & {"META_DATA_CAPTURE", "PROCESSES", "ThreadNames", "ProcessStreams", "ANALYSIS_FILE"} == set()


@every_trace
def test_every_file_is_in_the_list_with_its_command(path):
    text = (path.parent / "README.md").read_text(encoding="utf-8")
    assert f"- `{path.stem}`: " in text
    assert f"--only {path.stem}`" in text


def test_pageable_copies_are_found_where_they_are_and_nowhere_else():
    found = {}
    for name in sorted(NEEDED):
        trace = shipped_trace(name)
        pageable = [each for each in findings(trace) if each.kind == "pageable_copies"]
        found[name] = (sum(len(each.rows) for each in pageable), trace.count("copies"))
    frames = {name: len(Recording.shipped(name, "traces")) for name in NEEDED}
    assert found == {
        "graph-pageable": (frames["graph-pageable"], 2 * frames["graph-pageable"]),
        "graph-pinned": (0, 2 * frames["graph-pinned"]),
        "moved-wait": (frames["moved-wait"], 2 * frames["moved-wait"]),
        "shared-gpu": (0, 2 * frames["shared-gpu"]),
    }


def test_what_nsys_itself_says_is_told_by_rule_and_without_paths():
    said = shipped_analysis("graph-pageable")
    assert "/opt/" not in said
    by_rule = dict(rules(said))
    assert {"cuda_memcpy_async", "cuda_memcpy_sync", "cuda_api_sync", "gpu_gaps", "gpu_time_util"} <= by_rule.keys()
    assert "Pageable" in by_rule["cuda_memcpy_async"]
    assert "cudaStreamSynchronize" not in by_rule["cuda_memcpy_async"]
    assert by_rule["cuda_memcpy_sync"].startswith(" ** CUDA Synchronous Memcpy")


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(TraceError, match=r"(?s)no nonsense\.sqlite.*graph-pinned"):
        shipped_trace("nonsense")
    with pytest.raises(TraceError, match=r"no moved-wait\.analyze\.txt"):
        shipped_analysis("moved-wait")
