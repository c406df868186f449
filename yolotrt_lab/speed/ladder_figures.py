"""The ladder: which resource bounds each rung, as it is and under sliders, and what runs in each stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..device import open_device
from ..engine import open_engine
from ..plots.interactive import WIDE, Interactive, bars_of, bokeh, controls, words
from ..plots.style import KERNEL_COLOUR, STAGE_COLOURS, finish, legend_above
from ..plots.timelines import Row, draw_rows, name_kinds
from ..types import Source, Span, Stage
from .ladder import Ladder, checked_rungs

if TYPE_CHECKING:
    from matplotlib.axes import Axes


BOUND_COLOURS = {
    "engine": KERNEL_COLOUR,
    "upload": STAGE_COLOURS[Stage.UPLOAD],
    "download": STAGE_COLOURS[Stage.DOWNLOAD],
    "host": STAGE_COLOURS[Stage.PREPROCESS],
}

FASTER = (0.25, 0.5, 1, 2, 4, 8, 16)
"""A resource takes so many times as long as the recorded one."""

_SHORTEST_US = 20  # of a frame, so that there are enough of them
_TITLE = "What a frame of each rung asks of each resource, on a machine of your choice"
_JS = """
const rung = rungs.categories.indexOf(rungs.value), times = [engine, bus, bus, host].map((each) => Number(each.value));
const takes = NEEDS[rung].map((need, place) => need * times[place]), longest = Math.max(...takes);
bars.data = {...bars.data, right: takes, alpha: takes.map((each) => each == longest ? 1 : 0.4)};
const name = bars.data.name[takes.indexOf(longest)], number = Math.round(longest).toLocaleString("en");
told.text = `No frame of this rung can be shorter than <b>${number} us</b>: bound by the <b>${name}</b>`
    + (times.every((each) => each == 1) ? `. Measured: <b>${FRAMES[rung].toLocaleString("en")} us</b>` : "");
"""


def bounds(ax: Axes, climbed: Ladder) -> list[Any]:
    """For each rung what a frame takes, and what it asks of each resource, in microseconds, on a logarithmic axis.

    The frame is a mark. It takes as long as the dot farthest right, or longer. Returns the dots of each resource.

    >>> from yolotrt_lab import plots, speed
    >>> _, ax = plots.figure()
    >>> [dots.get_label() for dots in bounds(ax, speed.Ladder.shipped())]
    ['engine', 'upload', 'download', 'host']
    """
    rungs = {step.rung.label: (step.together.frame_us, step.bounds_us) for step in climbed.steps}
    names = [name for name in BOUND_COLOURS if any(name in asked for _, asked in rungs.values())]
    rows = np.arange(len(rungs))
    frames = [frame_us for frame_us, _ in rungs.values()]
    ax.hlines(rows, 1e-3, frames, color="#dddddd", linewidth=0.8)
    drawn = []
    for place, name in enumerate(names):
        asked_us = [asked.get(name) or np.nan for _, asked in rungs.values()]
        offset = 0.16 * (place - (len(names) - 1) / 2)  # where two are as large, both are seen
        drawn += ax.plot(asked_us, rows + offset, "o", color=BOUND_COLOURS[name], label=name)
    ax.vlines(frames, rows - 0.45, rows + 0.45, color="black", linewidth=1.6, label="the frame")
    for row, frame_us in enumerate(frames):
        ax.text(frame_us * 1.06, row, f"{frame_us:,.0f} us", va="center", size=9)
    shortest = min(us for _, asked in rungs.values() for us in asked.values() if us > 0)
    reach = (10 ** np.floor(np.log10(shortest)), max(frames) * 2)
    finish(ax, xscale="log", xlabel="asked of each resource, and taken, by a frame [us]", xlim=reach)
    ax.set_yticks(rows, list(rungs))
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    legend_above(ax)
    return drawn


def explore_bounds(climbed: Ladder) -> Interactive:
    """Bars of what a frame asks of the engine, the copies and the host, in us, with a slider for each and for the rung.

    The needs are those of `climbed`, multiplied: arithmetic, and no measurement. MissingPackageError without Bokeh.

    >>> figure = explore_bounds(Ladder.shipped())
    """
    models, names = bokeh("models"), [*BOUND_COLOURS]
    needs = [[step.bounds_us.get(name, 0.0) for name in names] for step in climbed.steps]
    columns = {"name": names, "row": [*range(len(names))], "right": needs[0], "colour": [*BOUND_COLOURS.values()]}
    bars = models.ColumnDataSource(columns | {"alpha": [1.0 if need == max(needs[0]) else 0.4 for need in needs[0]]})
    frames = [round(step.together.frame_us) for step in climbed.steps]
    told = words(f"Bound by the <b>{climbed.steps[0].bound}</b>. Measured: <b>{frames[0]:,} us</b>")
    labels = [f"{step.rung.number} {step.rung.name}" for step in climbed.steps]
    whose = {"engine": "the GPU takes", "bus": "copies take", "host": "the host takes"}
    sliders = controls(
        _JS,
        {"bars": bars, "told": told, "NEEDS": needs, "FRAMES": frames},
        {"rungs": ("rung", labels, labels[0])} | {name: (f"{text}, times", FASTER, 1) for name, text in whose.items()},
    )
    label, tooltips = "asked of each resource by a frame [us]", "@name: @right{0,0} us"
    drawn = bars_of(bars, names, 200, x_axis_label=label, tooltips=tooltips)
    whole = models.Column(children=[*sliders, told, drawn], **WIDE)
    return Interactive(
        whole, f"{climbed.source.stamp}; what a frame asks for, times the sliders", title=_TITLE, widgets=True
    )


def streams(ax: Axes, spans: Sequence[Span], source: Source) -> list[Any]:
    """A trace by stream: the stages of the host above, and below what runs in each stream, from its begin.

    Returns one collection of bars a row.

    >>> from yolotrt_lab import plots, speed
    >>> _, ax = plots.figure()
    >>> bars = streams(ax, *speed.trace_rung(4))
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['host', 'stream 1', 'stream 2', 'stream 3']
    """
    host = [span for span in spans if span.row == "range" and span.name in set(Stage)]
    gpu = [span for span in spans if span.row in ("upload", "kernel", "download")]
    rows = [Row.of("host", host, [span.name for span in host], outlined=True)]
    for place, stream in enumerate(sorted({span.stream for span in gpu}), start=1):
        here = [span for span in gpu if span.stream == stream]
        rows.append(Row.of(f"stream {place}", here, [span.row for span in here], outlined=True))
    begin_ns, end_ns = min(span.start_ns for span in spans), max(span.end_ns for span in spans)
    bars = draw_rows(ax, rows, begin_ns, end_ns, source)
    name_kinds(ax, rows, ranges=True)
    return bars


def trace_rung(number: int, *, preset: str | Path = "h200", window_us: float = 3_500) -> tuple[list[Span], Source]:
    """What the host and the GPU do in a rung, on the simulated device: its spans, and where they come from.

    The spans are those of so many microseconds of its steady state, cut where that window begins and ends: rungs can be
    compared on one time scale. SettingsError for a rung that there is not.

    >>> counts = [sum(span.row == "upload" for span in trace_rung(number)[0]) for number in (1, 6)]
    >>> counts[0] <= 2, counts[1] >= 8
    (True, True)
    """
    *_, rung = checked_rungs([number])
    settled = 12 * (rung.settings.collect_after + 1) * rung.batch
    device: Any = open_device("simulated", preset=preset, trace=True)
    settings = replace(rung.settings, frames=2 * settled + ceil(window_us / _SHORTEST_US), warmup=0)
    done = settings.loop(device, open_engine(device, batch=rung.batch)).run().columns["done_ns"]
    start = int(done[settled])
    end = start + round(window_us * 1e3)
    cut = [
        span._replace(start_ns=max(span.start_ns, start), end_ns=min(span.end_ns, end))
        for span in device.spans
        if span.end_ns > start and span.start_ns < end
    ]
    return cut, device.source
