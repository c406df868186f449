"""Plots: what is drawn is what was recorded, and every figure says where its numbers come from."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex
from samples import sampled

from yolotrt_lab import diagnose, nsight, plots, speed
from yolotrt_lab.causes.running import run_scenario
from yolotrt_lab.device import open_device
from yolotrt_lab.diagnose import Measured, bill
from yolotrt_lab.engine import open_engine
from yolotrt_lab.errors import MissingPackageError
from yolotrt_lab.plots.style import finish
from yolotrt_lab.recording import Recording
from yolotrt_lab.simulate.experiments import measure_copies
from yolotrt_lab.types import SourceKind, Stage


@pytest.fixture(scope="module")
def device():
    return open_device("simulated")


@pytest.fixture(scope="module")
def frames(device):
    """One recording of each kind of source."""
    live = Recording.shipped("overload-pinned")
    return {
        "recorded": Recording.shipped("overload"),
        "simulated": run_scenario("overload-pinned", device, open_engine(device), frames=50),
        "live": replace(live, source=replace(live.source, kind=SourceKind.LIVE)),
    }


@pytest.fixture(scope="module")
def tables(device):
    return {"recorded": Recording.shipped("copies"), "simulated": measure_copies(device, repeats=1)}


@pytest.fixture(scope="module")
def cases(frames, tables):
    """Every function that draws on axes: how to call it, and what it shows."""
    trace = nsight.shipped_trace("graph-pinned")
    return {
        "latency": (lambda ax: plots.latency(ax, frames), frames.values()),
        "stage_bars": (lambda ax: plots.stage_bars(ax, frames), frames.values()),
        "stage_over_frames": (lambda ax: plots.stage_over_frames(ax, Stage.UPLOAD, frames), frames.values()),
        "copy_calls": (lambda ax: plots.copy_calls(ax, tables, "h2d", "call_ns", backlog_ms=5), tables.values()),
        "timeline": (lambda ax: plots.timeline(ax, trace, end_ns=trace.begin_ns + 2_000_000), [trace]),
    }


FUNCTIONS = ("latency", "stage_bars", "stage_over_frames", "copy_calls", "timeline")
every_function = pytest.mark.parametrize("name", FUNCTIONS)


def stamp_of(figure):
    """The text that says where the figure's numbers come from; there is one."""
    (text,) = [text for text in figure.texts if text.get_gid() == "source"]
    return text.get_text()


def legend_of(drawn):
    return [text.get_text() for text in drawn.get_legend().get_texts()]


def labels(artists):
    return [artist.get_label() for artist in artists]


@every_function
def test_draws_on_the_axes_given_with_units_a_legend_and_its_sources(cases, name):
    figure, (left, right) = plots.figure(1, 2)
    before = len(left.get_children())
    draw, shown = cases[name]
    artists = draw(right)
    assert artists
    assert all(part.axes is right for artist in artists for part in getattr(artist, "patches", [artist]))
    assert len(left.get_children()) == before
    if name in ("stage_bars", "timeline"):
        assert right.get_xlabel().endswith("[us]")
    else:
        assert right.get_ylabel().endswith("[ms]")
        assert right.get_xlabel() == ("size of the copy [MB]" if name == "copy_calls" else "frame")
    if name != "timeline":
        assert legend_of(right) == labels(artists)
        assert len(set(labels(artists))) == len(artists)
    draw(left)
    assert [stamp_of(figure).count(each.source.stamp) for each in shown] == [1] * len(shown)


def test_sources_of_several_axes_are_listed_together(frames):
    figure, (left, right) = plots.figure(1, 2)
    plots.latency(left, {"a": frames["recorded"]})
    plots.stage_over_frames(right, Stage.UPLOAD, {"b": frames["simulated"]})
    for name in ("recorded", "simulated"):
        assert stamp_of(figure).count(frames[name].source.stamp) == 1


@pytest.mark.parametrize("name", sampled(FUNCTIONS, ["latency", "timeline"]))
def test_nothing_reaches_over_the_edge_of_the_figure_and_the_source_covers_no_axes(cases, name):
    figure, ax = plots.figure(width=7.0)
    cases[name][0](ax)
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    box = figure.get_tightbbox(renderer)
    assert box.x0 >= 0 and box.x1 <= 7.0
    assert box.y0 >= 0 and box.y1 <= figure.get_figheight()
    (text,) = [text for text in figure.texts if text.get_gid() == "source"]
    assert text.get_window_extent(renderer).y1 <= ax.get_tightbbox(renderer).y0


def test_simulated_lines_are_dashed_where_dashes_can_be_seen(cases, frames):
    simulated = frames["simulated"]
    frame = np.arange(len(simulated))
    climbs, jitters = (
        replace(simulated, columns={**simulated.columns, "upload_ns": values * 1_000}) for values in (frame, frame % 2)
    )
    recorded = replace(jitters, source=frames["recorded"].source)
    shown = {"climbs": climbs, "jitters": jitters, "recorded": recorded}
    styles = [line.get_linestyle() for line in plots.stage_over_frames(plots.figure()[1], Stage.UPLOAD, shown)]
    assert styles == ["--", "-", "-"]
    tables = cases["copy_calls"][0](plots.figure()[1])
    assert {line.get_label().split(", ")[1]: line.get_linestyle() for line in tables} == {
        "recorded": "-",
        "simulated": "--",
    }
    widths = {line.get_label(): line.get_linewidth() for line in plots.latency(plots.figure()[1], frames)}
    assert max(widths, key=widths.get) == "recorded"  # so that another line shows on top of it


def test_latency_is_that_of_every_steady_frame_in_ms(frames):
    _, ax = plots.figure()
    lines = plots.latency(ax, frames)
    assert labels(lines) == list(frames)
    for line, recording in zip(lines, frames.values(), strict=True):
        steady = ~recording.columns["warmup"]
        latency_ns = recording.columns["done_ns"] - recording.columns["due_ns"]
        assert np.array_equal(line.get_xdata(), recording.columns["frame"][steady])
        assert np.array_equal(line.get_ydata(), latency_ns[steady] / 1e6)
    assert ax.get_ylim()[0] == 0
    pageable, pinned, also_pinned = (to_hex(line.get_color()) for line in lines)
    assert pageable != pinned == also_pinned


def test_one_stage_over_frames_is_that_stage(frames):
    _, ax = plots.figure()
    lines = plots.stage_over_frames(ax, Stage.SYNCHRONIZE, frames)
    for line, recording in zip(lines, frames.values(), strict=True):
        assert np.array_equal(line.get_ydata(), recording.steady.columns["synchronize_ns"] / 1e6)
    assert ax.get_ylabel() == "host time in synchronize [ms]"


def test_bars_are_medians_stacked_to_their_sum(frames):
    _, ax = plots.figure()
    bars = plots.stage_bars(ax, frames)
    medians = {
        stage: [float(np.median(each.steady.stage_ns(stage))) / 1e3 for each in frames.values()]
        for stage in Stage
        if stage is not Stage.WAIT
    }
    drawn = [stage for stage, widths in medians.items() if max(widths) >= 1]
    assert labels(bars) == drawn
    assert "postprocess" not in drawn  # this loop has none
    left = np.zeros(len(frames))
    for stage, container in zip(drawn, bars, strict=True):
        assert [bar.get_width() for bar in container] == pytest.approx(medians[stage])
        assert [bar.get_x() for bar in container] == pytest.approx(left)
        left += medians[stage]
    assert [text.get_text().strip() for text in ax.texts] == [f"{total:,.0f} us" for total in left]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == list(frames)
    assert ax.yaxis_inverted()  # the first recording is on top
    assert ax.get_xlim()[1] > left.max()
    _, ax = plots.figure()
    plots.stage_bars(ax, frames, legend=False)
    assert ax.get_legend() is None


@pytest.mark.parametrize(
    ("direction", "call", "backlog_ms"), [("h2d", "call_ns", 5), ("d2h", "call_ns", 0), ("d2h", "sync_ns", 5)]
)
def test_copy_calls_draws_the_rows_asked_for(tables, direction, call, backlog_ms):
    _, ax = plots.figure()
    lines = plots.copy_calls(ax, tables, direction, call, backlog_ms=backlog_ms)
    assert labels(lines) == [f"{memory}, {table}" for table in tables for memory in ("pageable", "pinned")]
    for line in lines:
        memory, table = line.get_label().split(", ")
        columns = tables[table].columns
        rows = (columns["direction"] == direction) & (columns["host_memory"] == memory)
        rows &= columns["backlog_ns"] == backlog_ms * 1_000_000
        assert rows.sum() == 6
        assert np.array_equal(line.get_xdata(), columns["bytes"][rows] / 1e6)
        assert np.array_equal(line.get_ydata(), columns[call][rows] / 1e6)
        assert line.get_color() == plots.MEMORY_COLOURS[memory]
        assert (line.get_markerfacecolor() == "white") == (table == "simulated")
    words = {"h2d": "upload", "d2h": "download", "call_ns": "the copy call", "sync_ns": "synchronize after it"}
    assert ax.get_title("left") == f"{words[direction]}: {words[call]}"
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    marks = [set(line.get_ydata()) for line in ax.get_lines() if line not in lines]
    assert marks == ([{backlog_ms}] if backlog_ms else [])


def test_image_shows_frames_and_network_inputs_in_their_colours():
    _, (left, right) = plots.figure(1, 2)
    blue_bgr = np.zeros((4, 6, 3), np.uint8)
    blue_bgr[..., 0] = 255
    shown = plots.image(left, blue_bgr, "a frame")
    assert shown.axes is left
    assert shown.get_array()[0, 0].tolist() == [0, 0, 255]
    assert left.get_title("left") == "a frame"
    blue_rgb = np.zeros((1, 3, 4, 6), np.float32)
    blue_rgb[:, 2] = 1
    shown = plots.image(right, blue_rgb, "an input")
    assert shown.get_array().shape == (4, 6, 3)
    assert shown.get_array()[0, 0].tolist() == [0, 0, 1]


def test_figures_have_the_axes_and_the_title_asked_for():
    figure, axes = plots.figure(2, 3, width=9, height=2.0, sharex=True, title="it climbs")
    assert axes.shape == (2, 3)
    assert figure.get_size_inches().tolist() == [9, 4]
    assert axes[0, 0].get_shared_x_axes().joined(axes[0, 0], axes[1, 2])
    assert figure.get_suptitle() == "it climbs"
    for ax in axes.flat:
        assert not ax.spines["top"].get_visible()
        assert ax.get_axisbelow()
    figure, axes = plots.panels([["left", "right"], ["below", "below"]], title="left is faster")
    assert figure.get_suptitle() == "left is faster"
    assert set(axes) == {"left", "right", "below"}
    assert axes["below"].get_position().width > 1.8 * axes["left"].get_position().width


def test_missing_matplotlib_says_what_to_install(monkeypatch):
    for name in ("matplotlib", "matplotlib.pyplot"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError, match="pip install") as caught:
        plots.figure()
    assert "matplotlib" in caught.value.package


def test_bounds_draw_what_a_frame_asks_of_each_resource():
    _, ax = plots.figure()
    climbed = speed.Ladder.shipped()
    drawn = speed.bounds(ax, climbed)
    assert [dots.get_label() for dots in drawn] == list(speed.BOUND_COLOURS)
    for dots in drawn:
        name = dots.get_label()
        assert dots.get_xdata().tolist() == [step.bounds_us[name] for step in climbed.steps]
        assert dots.get_color() == speed.BOUND_COLOURS[name]
    assert [label.get_text() for label in ax.get_yticklabels()] == [step.rung.label for step in climbed.steps]
    assert [text.get_text() for text in ax.texts] == [f"{step.together.frame_us:,.0f} us" for step in climbed.steps]
    assert ax.get_xscale() == "log"


@pytest.fixture(scope="module")
def pairs(device):
    """A cause and its cure, recorded and simulated."""
    names = ("clock-drop", "clock-drop-busy")
    run = (run_scenario(name, device, open_engine(device), frames=40) for name in names)
    return [tuple(map(Recording.shipped, names)), tuple(run)]


@pytest.mark.parametrize(
    ("quantity", "column", "unit", "title"),
    [
        (Stage.SYNCHRONIZE, "synchronize_ns", 1e6, "host time in synchronize [ms]"),
        ("sm_clock_mhz", "sm_clock_mhz", 1, "SM clock [MHz]"),
        ("host_memory_bytes", "host_memory_bytes", 1e9, "host memory [GB]"),
        ("latency", "latency", 1e6, "latency [ms]"),
    ],
)
def test_cause_and_cure_show_one_quantity_of_every_source(pairs, quantity, column, unit, title):
    drawn, ax = plots.figure()
    lines = plots.cause_and_cure(ax, quantity, *pairs)
    four = [each for pair in pairs for each in pair]
    for line, each in zip(lines, four, strict=True):
        steady = each.steady.columns
        values = steady["done_ns"] - steady["due_ns"] if column == "latency" else steady[column]
        np.testing.assert_array_equal(line.get_ydata(), values / unit)
        np.testing.assert_array_equal(line.get_xdata(), steady["frame"])
    assert labels(lines) == ["cause, recorded", "cure, recorded", "cause, simulated", "cure, simulated"]
    assert [line.get_color() for line in lines] == 2 * ["#000000", "#999933"]
    assert [line.get_alpha() for line in lines] == [0.4, 0.4, None, None]  # recorded ones are pale
    assert ax.get_title(loc="left") == title
    assert plots.cause_and_cure(ax, quantity, *pairs)
    (legend,) = drawn.legends
    assert [text.get_text() for text in legend.get_texts()] == labels(lines)
    assert all(each.source.stamp in stamp_of(drawn) for each in four)


@pytest.mark.parametrize(
    ("gb", "shown", "title"),
    [((1.8375, 1.8376), (1.745672, 1.929428), "No cause is proven"), ((1, 3), (0.9, 3.1), "Proven: leak")],
)
def test_telemetry_that_hardly_changes_is_drawn_as_a_flat_line(gb, shown, title):
    memory = np.linspace(*gb, 100) * 1e9
    measured = Measured("frames", "", {"frame": np.full(100, 1e6)}, telemetry={"host_memory_bytes": memory})
    drawn = diagnose.drawn(measured, bill(measured))
    assert drawn.axes[-1].get_ylim() == pytest.approx(shown, abs=1e-6)
    assert drawn.get_suptitle() == title


def test_a_latency_beside_which_the_calls_would_lie_on_the_axis_stands_apart():
    calls, queued = np.full(100, 1e6), np.linspace(1e6, 90e6, 100)
    for latency, labels in ((queued, [["infer"], ["latency"]]), (queued / 10, [["infer", "latency"]])):
        measured = Measured("frames", "", {"infer": calls, "latency": latency})
        axes = diagnose.drawn(measured, bill(measured)).axes
        assert [[line.get_label() for line in ax.lines if line.get_label()[0] != "_"] for ax in axes] == labels


def test_few_frames_are_marked_and_many_are_lines(frames):
    one = Measured("frames", "", {"infer": np.array([2e6])}, origin="one frame")
    for measured, marker in ((one, "o"), (Measured.of(frames["recorded"]), "None")):
        times = diagnose.drawn(measured, bill(measured)).axes[0]
        assert {line.get_marker() for line in times.lines if not line.get_label().startswith("_")} == {marker}


def test_logarithmic_axes_say_plain_numbers():
    drawn, ax = plots.figure()
    ax.plot([0.002, 20])
    finish(ax, yscale="log")
    drawn.canvas.draw()
    words = [label.get_text() for label in ax.get_yticklabels()]
    assert {"0.01", "0.1", "1"} <= set(words)
    assert not any("$" in word for word in words)
