"""The timeline that zooms: what it holds, and that it needs nothing from elsewhere."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
from bs4 import BeautifulSoup

from yolotrt_lab import plots
from yolotrt_lab.errors import MissingPackageError, SettingsError
from yolotrt_lab.nsight.trace import Trace
from yolotrt_lab.plots.timelines import KIND_COLOURS
from yolotrt_lab.types import Source, SourceKind, Span

SIMULATED = Source(SourceKind.SIMULATED, "NVIDIA H200", "580.159.04", "2026-01-01", "h200")
SPANS = (
    Span("range", "frame", 1_000_000, 3_000_000),
    Span("range", "upload", 1_000_000, 1_500_000),
    Span("api", "cudaMemcpyAsync", 1_100_000, 1_400_000),
    Span("upload", "pageable upload", 1_200_000, 1_450_000, nbytes=4_915_200),
    Span("api", "cudaStreamSynchronize", 1_600_000, 2_900_000),
    Span("kernel", "<a kernel>", 1_500_000, 2_800_000),
)


@pytest.fixture
def trace():
    return Trace.from_spans(SPANS, SIMULATED)


def sources(timeline):
    """The columns of the bars: ranges first, then what the legend names."""
    return [renderer.data_source.data for renderer in timeline.figure.renderers]


def test_every_bar_is_there_in_its_row_its_colour_and_ms(trace):
    timeline = plots.InteractiveTimeline(trace)
    ranges, others = sources(timeline)
    assert ranges["text"] == ["frame", "upload"]
    assert others["text"] == ["MemcpyAsync", "Synchronize", "pageable, 4.9 MB, 19.7 GB/s", "<a kernel>"]
    assert others["kind"] == ["copy call", "synchronize call", "pageable copy", "kernel"]
    assert others["colour"] == [KIND_COLOURS[kind] for kind in others["kind"]]
    assert np.allclose(others["left"], [0.1, 0.6, 0.2, 0.5])
    assert np.allclose(others["right"], [0.4, 1.9, 0.45, 1.8])
    assert np.allclose(others["us"], [300, 1300, 250, 1300])
    assert np.allclose(np.add(others["top"], others["bottom"]) / 2, [2, 2, 3, 4])
    labels = timeline.figure.yaxis[0].major_label_overrides
    assert labels == {0: "NVTX", 1: "NVTX", 2: "CUDA calls", 3: "copy in", 4: "kernels"}


def test_it_zooms_and_pans_along_time_only(trace):
    toolbar = plots.InteractiveTimeline(trace).figure.toolbar
    assert (toolbar.active_scroll.dimensions, toolbar.active_drag.dimensions) == ("width", "width")


def test_a_stretch_begins_at_its_begin(trace):
    timeline = plots.InteractiveTimeline(trace, begin_ns=1_550_000, end_ns=2_550_000)
    assert (timeline.figure.x_range.start, timeline.figure.x_range.end) == (0, 1.0)
    assert np.allclose(sources(timeline)[1]["left"], [0.05, -0.05])


def test_the_html_needs_no_network_and_says_where_its_numbers_come_from(trace, tmp_path):
    page = plots.InteractiveTimeline(trace).save(tmp_path / "new" / "trace.html").read_text(encoding="utf-8")
    soup = BeautifulSoup(page, "html.parser")
    assert soup.find_all(["link", "iframe", "img"]) == []
    assert soup.find_all("script", src=True) == []
    assert len(page.encode()) < 1_500_000
    [place] = soup.find_all("div", id=True)
    library, drawing = (script.get_text() for script in soup.find_all("script"))
    assert library.startswith("if (!window.Bokeh) {")
    assert place["id"] in drawing
    assert SIMULATED.stamp in drawing
    assert not re.search(r"https?://", drawing)


def test_nothing_to_draw_is_refused(trace):
    with pytest.raises(SettingsError, match="without anything in that stretch"):
        plots.InteractiveTimeline(trace, begin_ns=5_000_000, end_ns=6_000_000)


def test_without_bokeh_the_message_says_what_to_install(trace, monkeypatch):
    for name in [name for name in sys.modules if name == "bokeh" or name.startswith("bokeh.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "bokeh", None)
    with pytest.raises(MissingPackageError, match=r"(?s)bokeh is not installed.*\[notebooks\]"):
        plots.InteractiveTimeline(trace)
