"""The figure of the public report: what is drawn is what was recorded, and each panel says where it is from."""

from __future__ import annotations

import numpy as np
import pytest

from yolotrt_lab import nsight, plots
from yolotrt_lab.errors import SettingsError
from yolotrt_lab.recording import Recording
from yolotrt_lab.types import Stage


@pytest.fixture(scope="module")
def recording():
    return Recording.shipped("report")


@pytest.fixture(scope="module")
def traces():
    return {mark: nsight.shipped_trace(f"report-{mark.lower()}") for mark in "ABC"}


@pytest.fixture(scope="module")
def waits_ms(traces):
    seen = {mark: nsight.attribute(trace) for mark, trace in traces.items()}
    return {mark: {wait: each.waits_ns(wait)[20] / 1e6 for wait in nsight.WAITS} for mark, each in seen.items()}


def stamps(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts if text.get_gid() == "source"]


def test_curves_are_the_recorded_calls_on_linear_axes(recording):
    _, (left, right) = plots.figure(1, 2)
    lines = plots.report_calls(left, right, recording)
    steady = recording.steady
    pinned = steady.columns["pinned"] == 1
    copy = (steady.stage_ns(Stage.PREPROCESS) + steady.stage_ns(Stage.UPLOAD)) / 1e6
    np.testing.assert_array_equal(lines[0].get_ydata(), copy[~pinned])
    np.testing.assert_array_equal(lines[5].get_ydata(), steady.stage_ns(Stage.SYNCHRONIZE)[pinned] / 1e6)
    np.testing.assert_array_equal(lines[5].get_xdata(), steady.columns["frame"][pinned])
    assert (left.get_yscale(), left.get_ylim()) == ("linear", right.get_ylim())
    assert left.get_ylim()[1] > max(line.get_ydata().max() for line in lines)


def test_steps_have_the_number_of_processes_and_three_are_marked(recording):
    _, (left, right) = plots.figure(1, 2)
    plots.report_calls(left, right, recording)
    words = [[text.get_text() for text in ax.texts if text.get_gid() != "source"] for ax in (left, right)]
    numbers = ["0", "1", "2", "4", "6", "8", "10", "12", "16", "20"]
    assert [[word for word in each if word.isdigit()] for each in words] == [numbers, ["20", "0"]]
    assert [[word for word in each if word.isalpha()] for each in words] == [["A", "B"], ["C"]]


def test_frames_begin_at_zero_on_one_scale(traces):
    _, ax = plots.figure()
    two = {mark: traces[mark] for mark in "AC"}
    plots.frames_on_one_scale(ax, two, 20)
    seen = {mark: nsight.attribute(trace).frames for mark, trace in two.items()}
    longest_ms = max(each["end_ns"][20] - each["start_ns"][20] for each in seen.values()) / 1e6
    assert ax.get_xlim() == (0, pytest.approx(1.02 * longest_ms))
    rows = [label.get_text() for label in ax.get_yticklabels()]
    assert rows == ["A host", "A GPU", "C host", "C GPU"]
    left_ms = [min(path.vertices[:, 0].min() for path in bars.get_paths()) for bars in ax.collections]
    assert max(left_ms[::2]) < 0.1  # each frame's first stage; what the GPU does begins later
    assert min(left_ms[1::2]) > 0.1


def test_a_frame_that_the_trace_does_not_hold_is_refused(traces):
    with pytest.raises(SettingsError, match=r"frame must be from 0 to \d+, got 99999"):
        plots.frames_on_one_scale(plots.figure()[1], {"A": traces["A"]}, 99_999)


def test_waits_add_up_to_the_text_at_the_bar(traces, waits_ms):
    _, ax = plots.figure()
    plots.wait_bars(ax, waits_ms, traces["A"].source)
    totals = [text.get_text() for text in ax.texts if text.get_gid() != "source"]
    assert totals == [f" {sum(each.values()):.3g} ms" for each in waits_ms.values()]


def test_each_panel_of_the_page_is_stamped_once(recording, traces, waits_ms):
    figure = plots.report_page(recording, traces, waits_ms, title="a title")
    stamp = recording.source.stamp
    assert stamps(figure) == [stamp, f"Nsight Systems, which lengthens host times; {stamp}", stamp]
    assert [text.get_gid() for text in figure.texts].count("source") == 0
    assert figure.get_suptitle() == "a title"
