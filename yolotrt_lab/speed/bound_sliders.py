"""Which resource bounds a rung of the ladder, under sliders: what a frame asks of each, with a machine of your own."""

from __future__ import annotations

from ..plots.interactive import WIDE, Interactive, bars_of, bokeh, controls, words
from .ladder import Ladder
from .ladder_figures import BOUND_COLOURS

FASTER = (0.25, 0.5, 1, 2, 4, 8, 16)
"""A resource takes so many times as long as the recorded one."""

_TITLE = "What a frame of each rung asks of each resource, on a machine of your choice"
_JS = """
const rung = rungs.categories.indexOf(rungs.value), times = [engine, bus, bus, host].map((each) => Number(each.value));
const takes = NEEDS[rung].map((need, place) => need * times[place]), longest = Math.max(...takes);
bars.data = {...bars.data, right: takes, alpha: takes.map((each) => each == longest ? 1 : 0.4)};
const name = bars.data.name[takes.indexOf(longest)], number = Math.round(longest).toLocaleString("en");
told.text = `No frame of this rung can be shorter than <b>${number} us</b>: bound by the <b>${name}</b>`
    + (times.every((each) => each == 1) ? `. Measured: <b>${FRAMES[rung].toLocaleString("en")} us</b>` : "");
"""


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
