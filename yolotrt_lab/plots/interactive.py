"""Figures of Bokeh, which need neither a kernel nor a network: a timeline that zooms, and the parts of sliders.

What a slider changes is computed ahead, or by a few lines of JavaScript.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from ..packages import install_command, load
from .timelines import BAR_HEIGHT, KIND_COLOURS, Drawable, Row, kinds_of, stretch_of

WIDE = {"sizing_mode": "stretch_width"}
_LEGEND_COLUMNS = 3  # as many as fit on a phone
_TEXT, _LINE = "#7b848e", "#8b949e"  # can be read on a light page and on a dark one


class Interactive:
    """Something that Bokeh draws from a `source`, with the scripts that it needs (1.3 MB, 0.4 MB more with `widgets`).

    JupyterLab shows it as a cell's value. A report keeps each script once.
    """

    def __init__(self, drawn: Any, source: str, *, title: str = "", widgets: bool = False) -> None:
        self._drawn, self._source, self._title = drawn, source, title
        self._parts = ("bokeh", "bokeh-widgets") if widgets else ("bokeh",)

    def _repr_html_(self) -> str:
        script, place = bokeh("embed").components(self._drawn)
        libraries = bokeh("resources").Resources(mode="inline", components=list(self._parts)).js_raw
        flags = ("Bokeh", "BokehWidgets")
        loaded = [
            f"<script>if (!window.{flag}) {{\n{code}\nwindow.{flag} ||= true;\n}}</script>"
            for flag, code, _ in zip(flags, libraries, self._parts, strict=False)
        ]
        caption = f"<figcaption>{escape(self._title)}</figcaption>" if self._title else ""
        source = f'<p class="source"><small>{escape(self._source)}</small></p>'
        figure = f'<figure style="margin: 1em 0">{caption}{place}{source}</figure>'
        return "\n".join([*loaded, figure, script])


class InteractiveTimeline(Interactive):
    """A trace from `begin_ns` to `end_ns`, or all of it: the wheel zooms, dragging pans, bars tell what they are.

    MissingPackageError without Bokeh, SettingsError where there is nothing to draw.

    >>> from yolotrt_lab import nsight
    >>> InteractiveTimeline(nsight.shipped_trace("graph-pinned")).figure.xaxis.axis_label
    'time [ms]'
    """

    def __init__(
        self, trace: Drawable, *, begin_ns: int | None = None, end_ns: int | None = None, title: str = ""
    ) -> None:
        rows, begin, end, source = stretch_of(trace, None, begin_ns, end_ns, 3)
        models = bokeh("models")
        self.figure = _empty_timeline(rows, (end - begin) / 1e6)
        kinds = [kind for row in rows for kind in row.kinds]
        start, stop = (np.concatenate([getattr(row, name) for row in rows]) for name in ("starts_ns", "ends_ns"))
        columns = {
            "left": (start - begin) / 1e6,
            "right": (stop - begin) / 1e6,
            "us": (stop - start) / 1e3,
            "row": np.repeat(np.arange(len(rows)), [len(row.kinds) for row in rows]),
            "kind": kinds,
            "text": [text for row in rows for text in row.texts],
            "colour": [KIND_COLOURS[kind] for kind in kinds],
        }
        data = models.ColumnDataSource(columns)
        bars = self.figure.hbar("row", BAR_HEIGHT, "right", "left", color="colour", line_width=0.5, source=data)
        items = [
            models.LegendItem(label=kind, renderers=[bars], index=kinds.index(kind)) for kind in kinds_of(rows, False)
        ]
        self.figure.add_layout(models.Legend(items=items, orientation="horizontal", ncols=_LEGEND_COLUMNS), "above")
        readable(self.figure)
        super().__init__(self.figure, source.stamp, title=title)


def _empty_timeline(rows: Sequence[Row], length_ms: float) -> Any:
    """An empty figure with the labels of its rows, which zooms and pans along time."""
    drawn = bokeh("plotting").figure(
        width=960,
        height=26 * len(rows) + 120,
        sizing_mode="stretch_width",
        min_width=320,
        x_range=bokeh("models").Range1d(0, length_ms, bounds=(0, length_ms)),
        y_range=(len(rows) - 0.5, -0.5),
        x_axis_label="time [ms]",
        tools="xpan,xwheel_zoom,xbox_zoom,reset",
        tooltips="<b>@text</b><br>@kind<br>@us{0,0.0} us, from @left{0.0000} ms",
        active_drag="xpan",
        active_scroll="xwheel_zoom",
    )
    drawn.yaxis.ticker = list(range(len(rows)))
    drawn.yaxis.major_label_overrides = {place: row.label for place, row in enumerate(rows)}
    drawn.ygrid.visible = False
    return drawn


def controls(
    code: str,
    names: Mapping[str, Any],
    sliders: Mapping[str, tuple[str, Sequence[object], object]],
    buttons: Mapping[str, Sequence[str]] | None = None,
) -> list[Any]:
    """Sliders (title, values, the first one shown) and rows of buttons, by the names that the JavaScript has for them.

    It runs whenever one is moved, and knows `names` too.
    """
    models = bokeh("models")
    widgets = {
        name: models.CategoricalSlider(title=title, categories=[*map(str, values)], value=str(first), **WIDE)
        for name, (title, values, first) in sliders.items()
    }
    groups = {name: models.RadioButtonGroup(labels=[*labels], active=0) for name, labels in (buttons or {}).items()}
    show = models.CustomJS(args={**names, **widgets, **groups}, code=code)
    for widget in widgets.values():
        widget.js_on_change("value", show)
    for group in groups.values():
        group.js_on_change("active", show)
    row = models.Row(children=[*groups.values()], styles={"flex-wrap": "wrap", "gap": "6px"}, **WIDE)
    return [*widgets.values(), *([row] if groups else [])]


def words(text: str) -> Any:
    """A line of HTML that the JavaScript may change."""
    return bokeh("models").Div(text=text, styles={"color": "inherit", "font-size": "14px"}, **WIDE)


def still_figure(height: int, **options: Any) -> Any:
    """An empty figure that sliders change, and nothing else."""
    options = {"tools": "", "toolbar_location": None, **options}
    return bokeh("plotting").figure(height=height, min_width=300, **WIDE, **options)


def bars_of(source: Any, rows: Sequence[str], height: int, **options: Any) -> Any:
    """Bars of the source's columns `row`, `left` (or from 0), `right`, `colour` and `alpha`, a row for each name."""
    drawn = still_figure(height, y_range=(len(rows) - 0.4, -0.6), **options)
    given = {name: name for name in ("left", "alpha") if name in source.column_names}
    drawn.hbar("row", 0.7, "right", color="colour", source=source, **given)
    drawn.yaxis.ticker = [*range(len(rows))]
    drawn.yaxis.major_label_overrides = dict(enumerate(rows))
    drawn.x_range.start = 0
    drawn.ygrid.visible = False
    readable(drawn)
    return drawn


def readable(drawn: Any) -> None:
    """Make a figure's text and lines such that they are seen on a light page and on a dark one."""
    drawn.toolbar.logo = None
    drawn.background_fill_color = drawn.border_fill_color = drawn.outline_line_color = None
    drawn.grid.grid_line_color, drawn.grid.grid_line_alpha = _LINE, 0.2
    for axis in drawn.axis:
        axis.axis_label_text_color = axis.major_label_text_color = _TEXT
        axis.axis_line_color = axis.major_tick_line_color = axis.minor_tick_line_color = _LINE
        axis.axis_label_text_font_style = "normal"
    for legend in drawn.legend:
        legend.background_fill_color = legend.border_line_color = None
        legend.label_text_color = _TEXT


def bokeh(module: str) -> Any:
    """A module of Bokeh; MissingPackageError without it."""
    return load(f"bokeh.{module}", needed_for="interactive figures", install=install_command("notebooks"))
