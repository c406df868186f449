"""Timelines: every row of the trace is where Nsight has it, in its colour, in time from the begin of the stretch."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.patches import ConnectionPatch

from yolotrt_lab import plots
from yolotrt_lab.causes.running import run_scenario
from yolotrt_lab.device import open_device
from yolotrt_lab.engine import open_engine
from yolotrt_lab.errors import SettingsError
from yolotrt_lab.nsight.trace import DIRECTIONS, MEMORIES, SCHEMA, Graph, Trace, empty_table
from yolotrt_lab.plots.timelines import KIND_COLOURS, lanes
from yolotrt_lab.recording import Recording
from yolotrt_lab.types import Source, SourceKind, Span

SIMULATED = Source(SourceKind.SIMULATED, "NVIDIA H200", "580.159.04", "2026-01-01", "h200")
NAMES = ("frame", "upload", "a layer", "cudaMemcpyAsync", "cuStreamSynchronize", "cudaGraphLaunch", "cuEventRecord")
SPANS = (
    Span("range", "frame", 1_000, 105_000),
    Span("range", "upload", 2_000, 12_000),
    Span("api", "cudaMemcpyAsync", 3_000, 11_000),
    Span("upload", "pinned upload", 8_000, 30_000, nbytes=1_000),
    Span("api", "cudaStreamSynchronize", 20_000, 100_000),
    Span("kernel", "a kernel", 30_000, 90_000),
)


@pytest.fixture(autouse=True)
def own_figures():
    """Figures that nobody shows, and that are closed after the test."""
    matplotlib.use("Agg")
    yield
    plt.close("all")


def table(kind, /, **given):
    rows = len(given["start_ns"])
    return {column: np.asarray(given.get(column, np.zeros(rows)), dtype) for column, dtype in SCHEMA[kind].items()}


def a_trace(**tables):
    full = {name: table(name, **tables[name]) if name in tables else empty_table(name) for name in SCHEMA}
    return Trace(**full, names=NAMES, source=SIMULATED)


def rows_of(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def bars(collection):
    """The bars of a row as (left, right) on the axis, with their colours."""
    edges = [path.vertices[:2, 0].tolist() for path in collection.get_paths()]
    colours = [to_hex(colour).upper() for colour in collection.get_facecolors()]
    return list(zip([tuple(edge) for edge in edges], colours, strict=True))


@pytest.fixture(scope="module")
def run():
    """A loop on a clock that it can't keep, on the simulated device: its recording and its trace."""
    device = open_device("simulated", trace=True)
    recording = run_scenario("overload", device, open_engine(device), frames=20, period_us=710)
    return recording, Trace.from_spans(device.spans, device.source)


def test_a_timeline_has_nsights_rows_and_a_bar_for_each_span():
    _, ax = plots.figure()
    drawn = plots.timeline(ax, SPANS, SIMULATED)
    assert rows_of(ax) == ["NVTX", "", "CUDA calls", "copy in", "kernels"]  # and no row for what did not happen
    assert ax.yaxis_inverted()
    assert drawn == list(ax.collections)
    colours = KIND_COLOURS
    assert [bars(each) for each in drawn] == [
        [((0.0, 104.0), colours["frame"])],
        [((1.0, 11.0), colours["upload"])],
        [((2.0, 10.0), colours["copy call"]), ((19.0, 99.0), colours["synchronize call"])],
        [((7.0, 29.0), colours["pinned copy"])],
        [((29.0, 89.0), colours["kernel"])],
    ]
    assert ax.get_xlim() == (0, 104)
    assert ax.get_xlabel() == "time [us]"
    texts = {text.get_text(): text.get_position() for text in ax.texts}
    assert texts["Synchronize"] == (59.0, 2)
    assert texts["a kernel"] == (59.0, 4)
    assert "MemcpyAsync" not in texts  # no room in so short a bar


def test_a_trace_and_the_spans_that_it_is_of_are_drawn_alike():
    _, (left, right) = plots.figure(1, 2)
    spans = [bars(each) for each in plots.timeline(left, SPANS, SIMULATED)]
    assert [bars(each) for each in plots.timeline(right, Trace.from_spans(SPANS, SIMULATED))] == spans


def test_spans_without_a_source_are_refused():
    _, ax = plots.figure()
    with pytest.raises(SettingsError, match="pass the device's source"):
        plots.timeline(ax, SPANS)


def test_pageable_and_pinned_copies_and_graphs_differ_in_colour():
    copies = {
        "start_ns": [0, 10, 20, 30],
        "end_ns": [5, 15, 25, 35],
        "direction": [DIRECTIONS.index(way) for way in ("h2d", "h2d", "d2h", "d2d")],
        "host_memory": [MEMORIES.index(kind) for kind in ("pageable", "pinned", "write_combined", "device")],
        "bytes": [5_000] * 4,
    }
    kernels = {"start_ns": [0, 10], "end_ns": [5, 15], "name": [2, 2], "graph": [Graph.WHOLE, Graph.NODE]}
    found = {lane.label: lane.kinds for lane in lanes(a_trace(copies=copies, kernels=kernels))}
    assert found == {
        "copy in": ["pageable copy", "pinned copy"],
        "kernels": ["CUDA graph", "kernel"],
        "copy out": ["pinned copy"],
        "other copies": ["other copy"],
    }
    assert len({KIND_COLOURS[kind] for kinds in found.values() for kind in kinds}) == 5


def test_calls_of_the_runtime_and_of_the_driver_are_of_the_same_kinds():
    api = {"start_ns": [0, 10, 20, 30], "end_ns": [5, 15, 25, 35], "name": [3, 4, 5, 6]}
    [lane] = lanes(a_trace(api=api))
    assert lane.kinds == ["copy call", "synchronize call", "launch", "other call"]
    assert lane.texts == ["MemcpyAsync", "Synchronize", "GraphLaunch", "EventRecord"]


def test_threads_and_streams_have_rows_of_their_own():
    api = {"start_ns": [0, 10], "end_ns": [5, 15], "name": [3, 3], "pid": [7, 7], "tid": [8, 7]}
    kernels = {"start_ns": [0, 10, 20], "end_ns": [5, 15, 25], "stream": [14, 13, 13], "device": [0, 0, 1]}
    found = [lane.label for lane in lanes(a_trace(api=api, kernels=kernels))]
    assert found == [
        "thread 1 CUDA calls",
        "thread 2 CUDA calls",
        "GPU 0 stream 13 kernels",
        "GPU 0 stream 14 kernels",
        "GPU 1 stream 13 kernels",
    ]


def test_ranges_are_nested_by_depth_and_too_deep_ones_left_out():
    ranges = {"start_ns": [0, 0, 2, 60, 100], "end_ns": [100, 50, 40, 90, 200], "name": [0, 1, 2, 1, 0]}
    trace = a_trace(ranges=ranges)
    assert [lane.texts for lane in lanes(trace)] == [["frame", "frame"], ["upload", "upload"]]
    assert [lane.texts for lane in lanes(trace, depth=3)][2] == ["a layer"]
    assert [lane.kinds for lane in lanes(trace, depth=3)][2] == ["range"]


def test_a_stretch_counts_from_its_begin_in_ms_where_it_is_long():
    _, ax = plots.figure()
    kernels = {"start_ns": [1_000_000, 5_000_000, 9_000_000], "end_ns": [2_000_000, 7_000_000, 9_500_000]}
    [drawn] = plots.timeline(ax, a_trace(kernels=kernels), begin_ns=4_000_000, end_ns=8_000_000)
    assert bars(drawn) == [((1.0, 3.0), KIND_COLOURS["kernel"])]
    assert (ax.get_xlim(), ax.get_xlabel()) == ((0, 4), "time [ms]")


def test_the_legend_names_what_is_drawn_and_nothing_else():
    _, ax = plots.figure()
    plots.timeline(ax, SPANS, SIMULATED, legend=True)
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["copy call", "synchronize call", "kernel", "pinned copy"]


def test_two_traces_share_one_scale_and_begin_with_their_frame(run):
    recording, trace = run
    _, axes = plots.figure(2, 1)
    plots.timelines(axes, {"all": trace, "from frame 10 on": trace}, frames=(60, 61))
    frames = trace.where("ranges", trace.named("ranges", "frame".__eq__)).ranges
    length_us = (frames["end_ns"][61] - frames["start_ns"][60]) / 1e3
    for ax in axes:
        assert ax.get_xlim() == pytest.approx((0, 1.02 * length_us))
        assert bars(ax.collections[0])[0][0][0] == 0.0
        [mark] = ax.get_lines()
        assert mark.get_xdata()[0] == pytest.approx(length_us)
    assert axes[0].get_legend() is not None and axes[1].get_legend() is None
    assert [ax.get_title("left") for ax in axes] == ["all", "from frame 10 on"]
    assert len(recording) == 70


@pytest.mark.parametrize("frames", [(0, 70), (-1, 0), (5, 4)])
def test_frames_that_the_trace_does_not_hold_are_refused(run, frames):
    _, axes = plots.figure(2, 1)
    with pytest.raises(SettingsError, match="in a trace of 70"):
        plots.timelines(axes, {"a": run[1], "b": run[1]}, frames=frames)


def test_a_curve_and_its_trace_show_the_same_frames_and_are_linked(run):
    recording, trace = run
    figure, (curve, below) = plots.figure(2, 1)
    plots.latency(curve, {"here": recording})
    drawn = plots.linked(curve, below, recording, trace, (7, 9))
    frame_row = bars(drawn[0])
    assert len(frame_row) == 3
    starts = trace.ranges["start_ns"][trace.named("ranges", "frame".__eq__)]
    row = int(np.flatnonzero(recording.columns["frame"] == 7)[0])
    assert recording.columns["start_ns"][row] - starts[row] < 10_000  # the loop's own clock, and the trace's
    ends_us = [right for (_, right), _ in frame_row]
    assert below.get_xlim()[1] == pytest.approx(ends_us[-1])
    [mark] = curve.patches
    assert (mark.get_x(), mark.get_x() + mark.get_width()) == (6.5, 9.5)
    links = [artist for artist in figure.get_children() if isinstance(artist, ConnectionPatch)]
    assert [(link.xy1, link.xy2) for link in links] == [((6.5, 0), (0.0, 1)), ((9.5, 0), (1.0, 1))]
    figure.canvas.draw()


def test_a_recording_pairs_with_the_last_frames_of_its_trace(run):
    recording, trace = run
    _, (curve, below) = plots.figure(2, 1)
    steady = recording.steady
    drawn = plots.linked(curve, below, steady, trace, (7, 9))
    _, (curve, again) = plots.figure(2, 1)
    assert [bars(each) for each in plots.linked(curve, again, recording, trace, (7, 9))] == [bars(b) for b in drawn]


def test_frames_outside_the_recording_and_foreign_traces_are_refused(run):
    recording, trace = run
    _, (curve, below) = plots.figure(2, 1)
    with pytest.raises(SettingsError, match=r"(?s)no frames 19 to 20.*choose from -50 to 19"):
        plots.linked(curve, below, recording, trace, (19, 20))
    with pytest.raises(SettingsError, match=r"the trace holds 1500 frames|the trace holds 70 frames, the recording 15"):
        plots.linked(curve, below, Recording.shipped("overload"), trace, (0, 1))


def test_nothing_to_draw_says_how_to_get_a_trace():
    _, ax = plots.figure()
    for trace in ([], SPANS):
        with pytest.raises(SettingsError, match="trace=True"):
            plots.timeline(ax, trace, SIMULATED, begin_ns=200_000, end_ns=300_000)
