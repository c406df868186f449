"""A timeline that zooms and pans, in JupyterLab and in HTML that needs no server and no network."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SettingsError
from ..nsight import Trace
from ..packages import load
from ..paths import install_command
from .lanes import KIND_COLOURS, NVTX_KINDS, Lane, lanes

_ROW_PIXELS, _MARGIN_PIXELS = 26, 120
_BAR_HEIGHT = 0.76


class InteractiveTimeline:
    """A trace from `begin_ns` to `end_ns`, or all of it: the wheel zooms, dragging pans, bars tell what they are.

    Drawn by Bokeh on a canvas, whose script (1.3 MB) goes along. JupyterLab shows it as a cell's value; `save` writes a
    page of its own. MissingPackageError without Bokeh, SettingsError where there is nothing to draw.
    """

    def __init__(
        self,
        trace: Trace,
        *,
        begin_ns: int | None = None,
        end_ns: int | None = None,
        depth: int = 3,
        width: int = 960,
    ) -> None:
        self._begin = trace.begin_ns if begin_ns is None else begin_ns
        end = trace.end_ns if end_ns is None else end_ns
        rows = lanes(trace.between(self._begin, end), depth)
        if not rows or end <= self._begin:
            raise SettingsError(
                "a trace without anything in that stretch",
                fix="choose a stretch between trace.begin_ns and trace.end_ns",
            )
        self.figure = _figure(rows, (end - self._begin) / 1e6, width)
        for ranges in (True, False):
            self._add_bars(rows, ranges)
        title = _bokeh("models").Title(
            text=trace.source.stamp, align="right", text_font_size="11px", text_font_style="normal"
        )
        self.figure.add_layout(title, "below")

    def _repr_html_(self) -> str:
        script, place = _bokeh("embed").components(self.figure)
        library = _bokeh("resources").INLINE.js_raw[0]
        return f"<script>if (!window.Bokeh) {{\n{library}\n}}</script>\n{place}\n{script}"

    def save(self, path: str | Path) -> Path:
        """Write a page that any browser opens, offline, and return its path."""
        path = Path(path)
        title = escape(path.stem)
        page = f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head><body>\n'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{page}{self._repr_html_()}\n</body></html>\n", encoding="utf-8")
        return path

    def _add_bars(self, rows: list[Lane], ranges: bool) -> None:
        """Ranges, which their rows name, or everything else, which the legend names."""
        chosen = [(row, lane) for row, lane in enumerate(rows) if (set(lane.kinds) <= NVTX_KINDS) is ranges]
        if not chosen:
            return
        kinds = [kind for _, lane in chosen for kind in lane.kinds]
        row = np.concatenate([np.full(len(lane.kinds), row, float) for row, lane in chosen])
        start, end = (
            np.concatenate([getattr(lane, name) - self._begin for _, lane in chosen]) / 1e6
            for name in ("start_ns", "end_ns")
        )
        columns = {
            **{"left": start, "right": end, "top": row - _BAR_HEIGHT / 2, "bottom": row + _BAR_HEIGHT / 2},
            **{"us": (end - start) * 1e3, "kind": kinds, "text": [text for _, lane in chosen for text in lane.texts]},
            "colour": [KIND_COLOURS[kind] for kind in kinds],
        }
        source = _bokeh("models").ColumnDataSource(columns)
        legend = {} if ranges else {"legend_group": "kind"}
        self.figure.quad("left", "right", "top", "bottom", color="colour", line_width=0.5, source=source, **legend)
        if not ranges:
            self.figure.legend.orientation = "horizontal"
            self.figure.add_layout(self.figure.legend[0], "above")


def _figure(rows: list[Lane], length_ms: float, width: int) -> Any:
    models = _bokeh("models")
    hover = models.HoverTool(tooltips="<b>@text</b><br>@kind<br>@us{0,0.0} us, from @left{0.0000} ms")
    zoom, pan = models.WheelZoomTool(dimensions="width"), models.PanTool(dimensions="width")
    drawn = _bokeh("plotting").figure(
        width=width,
        height=_ROW_PIXELS * len(rows) + _MARGIN_PIXELS,
        sizing_mode="scale_width",
        x_range=models.Range1d(0, length_ms, bounds=(0, length_ms)),
        y_range=models.Range1d(len(rows) - 0.5, -0.5),
        x_axis_label="time [ms]",
        tools=[pan, zoom, models.BoxZoomTool(dimensions="width"), models.ResetTool(), hover],
        active_drag=pan,
        active_scroll=zoom,
        toolbar_location="right",
    )
    drawn.toolbar.logo = None
    drawn.yaxis.ticker = list(range(len(rows)))
    drawn.yaxis.major_label_overrides = {row: lane.label for row, lane in enumerate(rows)}
    drawn.ygrid.visible = False
    return drawn


def _bokeh(module: str) -> Any:
    return load(f"bokeh.{module}", needed_for="timelines that zoom", install=install_command("notebooks"))
