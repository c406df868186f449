"""Timelines: every row of the trace is where Nsight has it, in its colour, in time from the begin of the stretch."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
from bs4 import BeautifulSoup
from matplotlib.colors import to_hex

from yolotrt_lab import plots, speed
from yolotrt_lab.causes.running import run_scenario
from yolotrt_lab.device import open_device
from yolotrt_lab.engine import open_engine
from yolotrt_lab.errors import MissingPackageError, SettingsError
from yolotrt_lab.nsight.trace import DIRECTIONS, MEMORIES, SCHEMA, Graph, Trace, empty_table
from yolotrt_lab.plots.timelines import KIND_COLOURS
from yolotrt_lab.types import Source, SourceKind, Span

SIMULATED = Source(SourceKind.SIMULATED, "NVIDIA H200", "580.159.04", "2026-01-01", "h200")
NAMES = ("frame", "upload", "a layer", "cudaMemcpyAsync", "cuStreamSynchronize", "cudaGraphLaunch", "cuEventRecord")
SPANS = (
    Span("range", "frame", 1_000, 105_000),
    Span("range", "upload", 2_000, 12_000),
    Span("api", "cudaMemcpyAsync", 3_000, 11_000),
    Span("upload", "pinned upload", 8_000, 30_000, nbytes=440_000),
    Span("api", "cudaStreamSynchronize", 20_000, 100_000),
    Span("kernel", "<a kernel>", 30_000, 90_000),
)
TRACE = Trace.from_spans(SPANS, SIMULATED)


def a_trace(**tables):
    full = {name: empty_table(name) for name in SCHEMA}
    for name, given in tables.items():
        empty = np.zeros(len(given["start_ns"]))
        full[name] = {column: np.asarray(given.get(column, empty), dtype) for column, dtype in SCHEMA[name].items()}
    return Trace(**full, names=NAMES, source=SIMULATED)


def rows_of(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def bars(collection):
    """The bars of a row as (left, right) on the axis, with their colours."""
    edges = [(path.vertices[:, 0].min(), path.vertices[:, 0].max()) for path in collection.get_paths()]
    return list(zip(edges, [to_hex(colour).upper() for colour in collection.get_facecolors()], strict=True))


@pytest.fixture(scope="module")
def run():
    """A loop on a clock that it can't keep, on the simulated device: its recording and its trace."""
    device = open_device("simulated", trace=True)
    recording = run_scenario("overload", device, open_engine(device), frames=20, period_us=710)
    return recording, Trace.from_spans(device.spans, device.source)


@pytest.mark.parametrize("given", [(SPANS, SIMULATED), (TRACE,)], ids=["spans", "trace"])
def test_a_timeline_has_nsights_rows_and_a_bar_for_each_span(given):
    _, ax = plots.figure()
    drawn = plots.timeline(ax, *given)
    assert rows_of(ax) == [
        "NVTX",
        "NVTX, inside",
        "CUDA calls",
        "copy in",
        "kernels",
    ]  # and no row for what did not happen
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
    assert texts["<a kernel>"] == (59.0, 4)
    assert "MemcpyAsync" not in texts  # no room in so short a bar


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
    memsets = {"start_ns": [40], "end_ns": [50]}
    found = {row.label: row.kinds for row in a_trace(copies=copies, kernels=kernels, memsets=memsets).rows()}
    assert found == {
        "copy in": ["pageable copy", "pinned copy"],
        "kernels": ["CUDA graph", "kernel"],
        "copy out": ["pinned copy"],
        "other copies": ["other copy"],
        "memset": ["memset"],
    }
    assert len({KIND_COLOURS[kind] for kinds in found.values() for kind in kinds}) == 6


def test_calls_of_the_runtime_and_of_the_driver_are_of_the_same_kinds():
    api = {"start_ns": [0, 10, 20, 30], "end_ns": [5, 15, 25, 35], "name": [3, 4, 5, 6]}
    [row] = a_trace(api=api).rows()
    assert row.kinds == ["copy call", "synchronize call", "launch", "other call"]
    assert row.texts == ["MemcpyAsync", "Synchronize", "GraphLaunch", "EventRecord"]


def test_threads_streams_and_gpus_have_rows_of_their_own():
    api = {"start_ns": [0, 10], "end_ns": [5, 15], "name": [3, 3], "pid": [7, 7], "tid": [8, 7]}
    kernels = {"start_ns": [0, 10, 20, 30], "end_ns": [5, 15, 25, 35], "stream": [14, 13, 13, 14]}
    kernels["device"] = [0, 0, 1, 1]
    assert [row.label for row in a_trace(api=api, kernels=kernels).rows()] == [
        "thread 1 CUDA calls",
        "thread 2 CUDA calls",
        "GPU 0 stream 13 kernels",
        "GPU 0 stream 14 kernels",
        "GPU 1 stream 13 kernels",
        "GPU 1 stream 14 kernels",
    ]


def test_ranges_are_nested_by_depth_and_too_deep_ones_left_out():
    ranges = {"start_ns": [0, 0, 2, 60, 100], "end_ns": [100, 50, 40, 90, 200], "name": [0, 1, 2, 1, 0]}
    trace = a_trace(ranges=ranges)
    assert [row.texts for row in trace.rows()] == [["frame", "frame"], ["upload", "upload"]]
    assert [row.texts for row in trace.rows(depth=3)][2] == ["a layer"]
    assert [row.kinds for row in trace.rows(depth=3)][2] == ["range"]


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


def test_nothing_to_draw_says_how_to_get_a_trace():
    _, ax = plots.figure()
    for trace in ([], SPANS):
        with pytest.raises(SettingsError, match="trace=True"):
            plots.timeline(ax, trace, SIMULATED, begin_ns=200_000, end_ns=300_000)
    with pytest.raises(SettingsError, match="must hold something to draw"):
        plots.InteractiveTimeline(TRACE, begin_ns=200_000, end_ns=300_000)


def test_streams_draw_the_host_and_each_stream_of_the_gpu():
    _, ax = plots.figure()
    spans = (
        Span("range", "upload", 0, 10_000),
        Span("range", "frame", 0, 60_000),
        Span("api", "cudaMemcpyAsync", 0, 9_000),
        Span("upload", "pinned upload", 5_000, 20_000, stream=7),
        Span("kernel", "a kernel", 20_000, 50_000, stream=3),
        Span("range", "infer", 10_000, 12_000),
    )
    drawn = speed.streams(ax, spans, SIMULATED)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["upload", "infer", "kernel"]
    upload, infer, kernel = (KIND_COLOURS[kind] for kind in ("upload", "infer", "kernel"))
    assert [bars(each) for each in drawn] == [
        [((0, 10), upload), ((10, 12), infer)],
        [((20, 50), kernel)],
        [((5, 20), upload)],
    ]
    assert rows_of(ax) == ["host", "stream 1", "stream 2"]


def test_a_timeline_that_zooms_has_every_bar_in_its_row_its_colour_and_ms():
    timeline = plots.InteractiveTimeline(TRACE)
    [renderer] = timeline.figure.renderers
    bars = renderer.data_source.data
    pinned = "pinned, 0.4 MB, 20.0 GB/s"
    assert bars["text"] == ["frame", "upload", "MemcpyAsync", "Synchronize", pinned, "<a kernel>"]
    assert bars["kind"] == ["frame", "upload", "copy call", "synchronize call", "pinned copy", "kernel"]
    assert bars["colour"] == [KIND_COLOURS[kind] for kind in bars["kind"]]
    assert np.allclose(bars["left"], [0, 0.001, 0.002, 0.019, 0.007, 0.029])
    assert np.allclose(bars["right"], [0.104, 0.011, 0.01, 0.099, 0.029, 0.089])
    assert np.allclose(bars["us"], [104, 10, 8, 80, 22, 60])
    assert bars["row"].tolist() == [0, 1, 2, 2, 3, 4]
    labels = timeline.figure.yaxis[0].major_label_overrides
    assert labels == {0: "NVTX", 1: "NVTX, inside", 2: "CUDA calls", 3: "copy in", 4: "kernels"}
    named = [item.label.value for item in timeline.figure.legend[0].items]
    assert named == ["copy call", "synchronize call", "kernel", "pinned copy"]
    toolbar = timeline.figure.toolbar
    assert (toolbar.active_scroll.dimensions, toolbar.active_drag.dimensions) == ("width", "width")


def test_a_stretch_that_zooms_begins_at_its_begin():
    timeline = plots.InteractiveTimeline(TRACE, begin_ns=25_000, end_ns=50_000)
    assert (timeline.figure.x_range.start, timeline.figure.x_range.end) == (0, 0.025)
    assert np.allclose(timeline.figure.renderers[0].data_source.data["left"], [-0.024, -0.005, -0.017, 0.005])


def test_the_html_needs_no_network_and_says_where_its_numbers_come_from():
    page = plots.InteractiveTimeline(TRACE)._repr_html_()
    soup = BeautifulSoup(page, "html.parser")
    assert soup.find_all(["link", "iframe", "img"]) == []
    assert soup.find_all("script", src=True) == []
    assert len(page.encode()) < 1_500_000
    [place] = soup.find_all("div", id=True)
    library, drawing = (script.get_text() for script in soup.find_all("script"))
    assert library.startswith("if (!window.Bokeh) {")
    assert place["id"] in drawing
    assert soup.select_one(".source").get_text() == SIMULATED.stamp
    assert not re.search(r"https?://", drawing)


def test_without_bokeh_the_message_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name == "bokeh" or name.startswith("bokeh.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "bokeh", None)
    with pytest.raises(MissingPackageError, match=r"(?s)bokeh is not installed.*\[notebooks\]"):
        plots.InteractiveTimeline(TRACE)
