"""The rows of a drawn trace, as Nsight orders them: a host thread's ranges and calls, then a stream's GPU work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import SettingsError
from ..nsight.trace import DIRECTIONS, MEMORIES, Graph, Trace
from ..packages import load
from ..recording import Recording
from ..types import HostMemory, Source, Span, Stage
from .style import STAGE_COLOURS, figure_of, stamp

if TYPE_CHECKING:
    from matplotlib.axes import Axes
from html import escape
from pathlib import Path

from ..packages import install_command

KIND_COLOURS = {
    **{str(stage): colour for stage, colour in STAGE_COLOURS.items()},
    **{"frame": "#EEEEEE", "range": "#BBBBBB"},
    **{"copy call": "#CC79A7", "synchronize call": STAGE_COLOURS[Stage.SYNCHRONIZE], "launch": "#7FCDB5"},
    **{"other call": "#AAAAAA", "kernel": "#009E73", "CUDA graph": "#00664B", "memset": "#999999"},
    **{"pageable copy": "#D55E00", "pinned copy": "#56B4E9", "other copy": "#999933"},
}
"""What a bar can be, and its colour."""

NVTX_KINDS = frozenset({*map(str, Stage), "frame", "range"})
"""The kinds of ranges, which their rows name by themselves."""

_COPY_KINDS = {str(memory): "pinned copy" if memory.page_locked else "pageable copy" for memory in HostMemory}


@dataclass(frozen=True, slots=True)
class Lane:
    """One row: bars from `start_ns` to `end_ns`, int64 of shape (bars,), with a kind and a text for each."""

    label: str
    start_ns: np.ndarray
    end_ns: np.ndarray
    kinds: list[str]
    texts: list[str]


def lanes(trace: Trace, depth: int = 2) -> list[Lane]:
    """The rows that have something to show; ranges that lie deeper than `depth` in others are left out."""
    return [lane for lane in (*_host_lanes(trace, depth), *_gpu_lanes(trace)) if lane.kinds]


def _host_lanes(trace: Trace, depth: int) -> Iterator[Lane]:
    pairs = {
        (int(p), int(t)) for table in (trace.ranges, trace.api) for p, t in zip(table["pid"], table["tid"], strict=True)
    }
    for number, (pid, tid) in enumerate(sorted(pairs), start=1):
        before = f"thread {number} " if len(pairs) > 1 else ""
        for table, label, kind in ((trace.ranges, "NVTX", _range_kind), (trace.api, "CUDA calls", _call_kind)):
            rows = np.flatnonzero((table["pid"] == pid) & (table["tid"] == tid))
            levels = _nesting(table, rows) if table is trace.ranges else np.zeros(len(rows), np.int64)
            for level in range(min(depth, levels.max(initial=-1) + 1)):
                yield _named_lane(trace, table, rows[levels == level], f"{before}{label}", kind)


def _gpu_lanes(trace: Trace) -> Iterator[Lane]:
    tables = (trace.copies, trace.kernels, trace.memsets)
    lines = {(int(d), int(s)) for table in tables for d, s in zip(table["device"], table["stream"], strict=True)}
    devices = {device for device, _ in lines}
    for device, stream in sorted(lines):
        before = f"GPU {device} " if len(devices) > 1 else ""
        before += f"stream {stream} " if len(lines) > len(devices) else ""
        copies, kernels, memsets = (
            np.flatnonzero((table["device"] == device) & (table["stream"] == stream)) for table in tables
        )
        way = np.array(DIRECTIONS)[trace.copies["direction"][copies]]
        yield _copy_lane(trace, copies[way == "h2d"], f"{before}copy in")
        yield _kernel_lane(trace, kernels, f"{before}kernels")
        yield _copy_lane(trace, copies[way == "d2h"], f"{before}copy out")
        yield _copy_lane(trace, copies[(way != "h2d") & (way != "d2h")], f"{before}other copies")
        yield _lane(trace.memsets, memsets, f"{before}memset", ["memset"] * len(memsets), ["memset"] * len(memsets))


def _named_lane(trace: Trace, table: Any, rows: np.ndarray, label: str, kind: Callable[[str], str]) -> Lane:
    texts = [trace.names[code] for code in table["name"][rows]]
    return _lane(table, rows, label, [kind(text) for text in texts], [_short(text) for text in texts])


def _kernel_lane(trace: Trace, rows: np.ndarray, label: str) -> Lane:
    whole = trace.kernels["graph"][rows] == Graph.WHOLE
    texts = [trace.names[code] for code in trace.kernels["name"][rows]]
    return _lane(trace.kernels, rows, label, ["CUDA graph" if each else "kernel" for each in whole], texts)


def _copy_lane(trace: Trace, rows: np.ndarray, label: str) -> Lane:
    memories = [MEMORIES[code] for code in trace.copies["host_memory"][rows]]
    kinds = [_COPY_KINDS.get(memory, "other copy") for memory in memories]
    texts = [
        f"{memory}, {nbytes / 1e6:.1f} MB, {nbytes / max(int(end - start), 1):.1f} GB/s"
        for memory, nbytes, start, end in zip(
            memories, *(trace.copies[name][rows] for name in ("bytes", "start_ns", "end_ns")), strict=True
        )
    ]
    return _lane(trace.copies, rows, label, kinds, texts)


def _lane(table: Any, rows: np.ndarray, label: str, kinds: list[str], texts: list[str]) -> Lane:
    return Lane(label, table["start_ns"][rows], table["end_ns"][rows], kinds, texts)


def _nesting(ranges: Any, rows: np.ndarray) -> np.ndarray:
    """How many ranges of the thread each one lies in: int64 of shape (rows,), 0 for the outermost."""
    levels = np.zeros(len(rows), np.int64)
    starts, ends = ranges["start_ns"][rows].tolist(), ranges["end_ns"][rows].tolist()
    open_ends: list[int] = []
    for row in sorted(range(len(rows)), key=lambda row: (starts[row], -ends[row])):
        while open_ends and open_ends[-1] <= starts[row]:
            open_ends.pop()
        levels[row] = len(open_ends)
        open_ends.append(ends[row])
    return levels


def _range_kind(name: str) -> str:
    return name if name in NVTX_KINDS else "range"


def _call_kind(name: str) -> str:
    """The runtime's and the driver's names alike: `cudaMemcpyAsync_v3020`, `cuMemcpyHtoDAsync_v2`."""
    for word, kind in (("Synchronize", "synchronize call"), ("Memcpy", "copy call"), ("Launch", "launch")):
        if word in name:
            return kind
    return "other call"


def _short(name: str) -> str:
    """A call's name as a reader says it: without its library and its version."""
    bare = name.partition("_v")[0] if name.startswith("cu") else name
    return bare.removeprefix("cuda").removeprefix("cu").removeprefix("Stream") or name


# A trace, drawn as Nsight Systems draws it.


_BAR_HEIGHT = 0.76
_INCHES_A_LETTER = 0.066  # of the text in bars
_TEXT_SIZE = 7.5
_MOST_TEXTS = 400
_DARK = {"synchronize", "synchronize call", "kernel", "CUDA graph", "infer"}
_SHORT_NS = 3_000_000  # up to here an axis counts microseconds
_LINK_COLOUR = "#888888"


def timeline(
    ax: Axes,
    trace: Trace | Sequence[Span],
    source: Source | None = None,
    *,
    begin_ns: int | None = None,
    end_ns: int | None = None,
    depth: int = 2,
    legend: bool = False,
) -> list[Any]:
    """Draw a trace from `begin_ns` to `end_ns`, all of it without them, and return one collection of bars a row.

    Above what the host does: its NVTX ranges, those in others in rows below up to `depth` rows, and its CUDA calls; a
    pair of rows for each thread. Below what the GPU does, for each stream: copies in, kernels, copies out. The axis
    counts ms, or us where the stretch is short, from `begin_ns`. Spans of a simulated device (`device.spans`) need
    their `source`. SettingsError where there is nothing to draw.
    """
    trace = _as_trace(trace, source)
    begin = trace.begin_ns if begin_ns is None else begin_ns
    end = trace.end_ns if end_ns is None else end_ns
    bars, kinds = _draw(ax, trace, begin, end, depth)
    if legend:
        _legend(ax, kinds)
    return bars


def timelines(axes: Iterable[Axes], traces: Mapping[str, Trace], frames: tuple[int, int] = (0, 0)) -> list[list[Any]]:
    """Traces one above the other on one scale: in each, the frames from the first to the last, counted from 0.

    Time counts from the begin of the first of these frames, so that what takes longer reaches further to the right.
    """
    stretches = {label: _stretch(trace, frames) for label, trace in traces.items()}
    longest = max(end - begin for begin, end in stretches.values())
    unit_ns, _ = _unit(longest)
    axes = list(axes)
    drawn, used = [], set[str]()
    for ax, (label, trace) in zip(axes, traces.items(), strict=True):
        begin, end = stretches[label]
        bars, kinds = _draw(ax, trace, begin, begin + round(1.02 * longest), 2)
        ax.axvline((end - begin) / unit_ns, color="black", linewidth=1)
        ax.set_title(label, loc="left")
        ax.label_outer()
        drawn.append(bars)
        used |= kinds
    _legend(axes[0], used)
    return drawn


def linked(
    curve: Axes, below: Axes, recording: Recording, trace: Trace, frames: tuple[int, int], **keywords: Any
) -> list[Any]:
    """Mark frames on axes that show `recording` frame by frame, draw their trace below, and link the two.

    `frames` are the first and the last as `recording` numbers them; its rows are the last frames of the trace.
    """
    numbers = recording.columns["frame"]
    if not numbers[0] <= frames[0] <= frames[1] <= numbers[-1]:
        raise SettingsError(f"no frames {frames[0]} to {frames[1]}", fix=f"choose from {numbers[0]} to {numbers[-1]}")
    starts, _ = _frame_times(trace)
    skipped = len(starts) - len(recording)
    if skipped < 0:
        raise SettingsError(
            f"the trace holds {len(starts)} frames, the recording {len(recording)}", fix="pair those of one run"
        )
    first, last = (int(np.flatnonzero(numbers == frame)[0]) + skipped for frame in frames)
    begin, end = _stretch(trace, (first, last))
    bars = timeline(below, trace, begin_ns=begin, end_ns=end, **keywords)
    left, right = frames[0] - 0.5, frames[1] + 0.5
    curve.axvspan(left, right, color=_LINK_COLOUR, alpha=0.25, linewidth=0)
    patch = load("matplotlib.patches", needed_for="plots").ConnectionPatch
    for x_curve, x_trace in ((left, 0.0), (right, 1.0)):
        figure_of(curve).add_artist(
            patch(
                xyA=(x_curve, 0),
                coordsA=curve.get_xaxis_transform(),
                xyB=(x_trace, 1),
                coordsB=below.transAxes,
                color=_LINK_COLOUR,
                linewidth=0.8,
                zorder=-1,  # behind the axes and what they write around them
            )
        )
    return bars


def _draw(ax: Axes, trace: Trace, begin: int, end: int, depth: int) -> tuple[list[Any], set[str]]:
    """The bars of a stretch, one collection a row, and the kinds that they are of."""
    rows = lanes(trace.between(begin, end), depth)
    if not rows or end <= begin:
        raise SettingsError(
            "a trace without anything in that stretch",
            fix="choose a stretch between trace.begin_ns and trace.end_ns; the simulated device keeps spans with "
            "open_device('simulated', trace=True)",
        )
    unit_ns, unit = _unit(end - begin)
    ax.set(xlim=(0, (end - begin) / unit_ns), ylim=(len(rows) - 0.5, -0.5), xlabel=f"time [{unit}]")
    ax.set_yticks(range(len(rows)), _labels(rows))
    bars = [ax.add_collection(_bars(lane, row, begin, unit_ns), autolim=False) for row, lane in enumerate(rows)]
    _write_names(ax, rows, begin, end, unit_ns)
    stamp(figure_of(ax), trace.source)
    return bars, {kind for lane in rows for kind in lane.kinds}


def _unit(length_ns: int) -> tuple[float, str]:
    return (1e3, "us") if length_ns <= _SHORT_NS else (1e6, "ms")


def _as_trace(trace: Trace | Sequence[Span], source: Source | None) -> Trace:
    if isinstance(trace, Trace):
        return trace
    if source is None:
        raise SettingsError("spans do not say where they are from", fix="pass the device's source too")
    return Trace.from_spans(trace, source)


def _frame_times(trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    frames = trace.where("ranges", trace.named("ranges", "frame".__eq__)).ranges
    return frames["start_ns"], frames["end_ns"]


def _stretch(trace: Trace, frames: tuple[int, int]) -> tuple[int, int]:
    """From the begin of the first of these frames to the end of the last."""
    starts, ends = _frame_times(trace)
    first, last = frames
    if not 0 <= first <= last < len(starts):
        raise SettingsError(f"no frames {first} to {last} in a trace of {len(starts)}", fix="count them from 0")
    return int(starts[first]), int(ends[last])


def _labels(rows: Sequence[Lane]) -> list[str]:
    """Each row's label, but once where rows of one kind follow each other."""
    return ["" if row and rows[row - 1].label == lane.label else lane.label for row, lane in enumerate(rows)]


def _bars(lane: Lane, row: int, begin: int, unit_ns: float) -> Any:
    """All bars of a row as one collection; a bar too short to be seen keeps a hair's breadth."""
    left, right = (lane.start_ns - begin) / unit_ns, (lane.end_ns - begin) / unit_ns
    top, bottom = np.full_like(left, row - _BAR_HEIGHT / 2), np.full_like(left, row + _BAR_HEIGHT / 2)
    corners = [np.stack([x, y], axis=-1) for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))]
    collections = load("matplotlib.collections", needed_for="plots")
    colours = load("matplotlib.colors", needed_for="plots")
    rgba = {kind: colours.to_rgba(KIND_COLOURS[kind]) for kind in set(lane.kinds)}  # once a kind, not once a bar
    edges = "white" if set(lane.kinds) <= NVTX_KINDS else "face"
    return collections.PolyCollection(
        np.stack(corners, axis=1),
        facecolors=np.array([rgba[kind] for kind in lane.kinds]),
        edgecolors=edges,
        linewidths=0.4,
        label=lane.label,
    )


def _write_names(ax: Axes, rows: Sequence[Lane], begin: int, end: int, unit_ns: float) -> None:
    """The names of bars that have room for them."""
    inches = ax.get_window_extent().width / figure_of(ax).dpi
    written = 0
    for row, lane in enumerate(rows):
        left, right = np.maximum(lane.start_ns, begin), np.minimum(lane.end_ns, end)
        letters = (right - left) / (end - begin) * inches / _INCHES_A_LETTER
        for bar in np.flatnonzero(letters > 3):
            if letters[bar] > len(lane.texts[bar]) + 1 and written < _MOST_TEXTS:
                written += 1
                middle = ((left[bar] + right[bar]) / 2 - begin) / unit_ns
                ink = "white" if lane.kinds[bar] in _DARK else "black"
                ax.text(
                    middle, row, lane.texts[bar], ha="center", va="center", size=_TEXT_SIZE, color=ink, clip_on=True
                )


def _legend(ax: Axes, kinds: set[str]) -> None:
    """A patch for each kind that is drawn, but for ranges, which their row names."""
    patch = load("matplotlib.patches", needed_for="plots").Patch
    shown = [kind for kind in KIND_COLOURS if kind in kinds - NVTX_KINDS]
    ax.legend(
        handles=[patch(color=KIND_COLOURS[kind], label=kind) for kind in shown],
        fontsize=8,
        ncols=max(len(shown), 1),
        loc="lower right",
        bbox_to_anchor=(1, 1),
        borderaxespad=0.2,
        borderpad=0.1,
        handlelength=1,
        columnspacing=1,
        facecolor="white",
        framealpha=1,
        edgecolor="none",
    )


# A timeline that zooms and pans, in JupyterLab and in HTML that needs no server and no network.


_ROW_PIXELS, _MARGIN_PIXELS = 26, 120


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
