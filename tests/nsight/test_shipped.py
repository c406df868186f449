"""The traces that ship with the lab: whole, scrubbed, small, and of one mind with the loops' own timers."""

import re
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from samples import sampled

from yolotrt_lab.errors import TraceError
from yolotrt_lab.nsight.attribution import attribute
from yolotrt_lab.nsight.capture import check_trace, rules, shipped_analysis
from yolotrt_lab.nsight.reports import read_trace, shipped_trace
from yolotrt_lab.nsight.trace_findings import findings
from yolotrt_lab.packages import lab_path
from yolotrt_lab.recording import Recording
from yolotrt_lab.types import Stage

SHIPPED = sorted(lab_path("data", "traces").glob("*/*.sqlite"))
every_trace = pytest.mark.parametrize("path", sampled(SHIPPED, every=3), ids=lambda path: path.stem)
OVERLAPPED = {"overlap", "contexts"}
NEEDED = {"graph-pageable", "graph-pinned", "moved-wait", "shared-gpu"}


def test_the_notebooks_traces_are_there():
    assert {path.stem for path in SHIPPED} >= NEEDED


@every_trace
def test_a_trace_holds_every_frame_of_the_recording_beside_it(path):
    check_trace(read_trace(path), frames=len(Recording.load(path.with_suffix(".parquet"))))


@every_trace
def test_host_times_agree_with_the_loops_own_timers(path):
    """Medians within 5 % or 5 us. A frame may be collected in a later frame's range, in none, or in another thread."""
    recording, trace = Recording.load(path.with_suffix(".parquet")), read_trace(path)
    steady, seen = ~recording.columns["warmup"], attribute(trace)
    waits = trace.named("ranges", Stage.SYNCHRONIZE.__eq__)
    traced = {stage: seen.frames[f"{stage}_ns"] for stage in (Stage.UPLOAD, Stage.INFER, Stage.DOWNLOAD)}
    traced[Stage.SYNCHRONIZE] = (trace.ranges["end_ns"] - trace.ranges["start_ns"])[waits]
    for stage, values in traced.items():
        timer = np.median(recording.stage_ns(stage)[steady])
        assert abs(np.median(values[-len(recording) :][steady]) - timer) < max(0.05 * timer, 5_000), stage


@pytest.mark.parametrize("path", [path for path in SHIPPED if path.stem in OVERLAPPED], ids=lambda path: path.stem)
def test_uploads_of_the_overlapped_loops_lie_under_kernels(path):
    assert attribute(read_trace(path)).overlap_share("h2d") > 0.5


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
    assert re.search(rf"- `{path.stem}`: .*--only [a-z -]*`", text)


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
