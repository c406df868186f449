"""Which resource bounds a rung of the ladder, under sliders: what a frame asks of each, with a machine of your own."""

from __future__ import annotations

from typing import Any

from ..plots.interactive import Interactive, bokeh, readable
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
    wide = {"sizing_mode": "stretch_width"}
    labels = [f"{step.rung.number} {step.rung.name}" for step in climbed.steps]
    sliders = {"rungs": models.CategoricalSlider(title="rung", categories=labels, value=labels[0], **wide)}
    for name, text in (("engine", "the GPU takes"), ("bus", "copies take"), ("host", "the host takes")):
        times = {"categories": [f"{each:g}" for each in FASTER], "value": "1"}
        sliders[name] = models.CategoricalSlider(title=f"{text}, times", **times, **wide)
    told = models.Div(styles={"color": "inherit", "font-size": "14px"}, **wide)
    frames = [round(step.together.frame_us) for step in climbed.steps]
    told.text = f"Bound by the <b>{climbed.steps[0].bound}</b>. Measured: <b>{frames[0]:,} us</b>"
    show = models.CustomJS(args={**sliders, "bars": bars, "told": told, "NEEDS": needs, "FRAMES": frames}, code=_JS)
    for slider in sliders.values():
        slider.js_on_change("value", show)
    whole = models.Column(children=[*sliders.values(), told, _drawn(bars, names)], **wide)
    return Interactive(whole, f"{climbed.source.stamp}; needs times the sliders", title=_TITLE, widgets=True)


def _drawn(bars: Any, names: list[str]) -> Any:
    drawn = bokeh("plotting").figure(
        height=200,
        min_width=300,
        sizing_mode="stretch_width",
        tools="",
        toolbar_location=None,
        tooltips="@name: @right{0,0} us",
        y_range=(len(names) - 0.4, -0.6),
        x_axis_label="asked of each resource by a frame [us]",
    )
    drawn.hbar("row", 0.7, "right", color="colour", alpha="alpha", source=bars)
    drawn.yaxis.ticker = [*range(len(names))]
    drawn.yaxis.major_label_overrides = dict(enumerate(names))
    drawn.x_range.start = 0
    drawn.ygrid.visible = False
    readable(drawn)
    return drawn
