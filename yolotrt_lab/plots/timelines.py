"""Timelines: what the host and the GPU did as rows of bars. `interactive` has one that zooms."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import SettingsError
from ..packages import load
from ..types import HostMemory, Source, Span, Stage
from .style import KERNEL_COLOUR, MEMORY_COLOURS, STAGE_COLOURS, figure_of, legend_above, stamp, stamp_panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RANGE_COLOURS: dict[str, str] = {**STAGE_COLOURS, "frame": "#E4E4E4", "range": "#BBBBBB"}
KIND_COLOURS = _RANGE_COLOURS | {
    "copy call": "#A6D5F2",
    "synchronize call": STAGE_COLOURS[Stage.SYNCHRONIZE],
    "launch": STAGE_COLOURS[Stage.INFER],
    "other call": "#AAAAAA",
    "kernel": KERNEL_COLOUR,
    "CUDA graph": "#007A5A",
    "memset": "#888888",
    "pageable copy": MEMORY_COLOURS["pageable"],
    "pinned copy": MEMORY_COLOURS["pinned"],
    "other copy": "#B08D57",
}
"""What a bar can be, and its colour."""

_GPU_ROWS = {
    "upload": "copy in",
    "kernel": "kernels",
    "graph": "kernels",
    "download": "copy out",
    "copy": "other copies",
}
_NESTED = ("NVTX", "NVTX, inside", "NVTX, deeper")
_GPU_LABELS = [*dict.fromkeys(_GPU_ROWS.values()), "memset"]
_CALL_KINDS = {"Synchronize": "synchronize call", "Memcpy": "copy call", "Launch": "launch"}
_COPY_KINDS = {str(memory): "pinned copy" if memory.page_locked else "pageable copy" for memory in HostMemory}
BAR_HEIGHT = 0.76
_INCHES_A_LETTER = 0.066  # of the text in bars
_DARK = {"synchronize", "synchronize call", "kernel", "CUDA graph", "pageable copy", "pinned copy"}
_SHORT_NS = 3_000_000  # up to here an axis counts microseconds
_SHORTEST_STAGE = 1 / 500  # of the axis: narrower than a line


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One row of a timeline: bars, each with its kind and its text.

    >>> Row("kernels", ["kernel"], np.array([0]), np.array([400_000]), ["a kernel"]).label
    'kernels'
    """

    label: str
    """What stands left of it."""
    kinds: list[str]
    """A key of `KIND_COLOURS` for each bar."""
    starts_ns: np.ndarray
    ends_ns: np.ndarray
    """Both int64 of shape (bars,)."""
    texts: list[str]
    """Written into a bar that has room for it; an empty text is not."""
    outlined: bool = False
    """White lines stand between bars, which may touch; without them the shortest bar keeps a hair's breadth."""

    @classmethod
    def of(cls, label: str, spans: Sequence[Span], kinds: Sequence[str] = (), outlined: bool = False) -> Row:
        """The row of those spans, each with its own kind and text, or with these `kinds` and no text."""
        starts, ends = (np.array([span[place] for span in spans], np.int64) for place in (2, 3))
        texts = ["" if kinds else _text(span) for span in spans]
        return cls(label, list(kinds) or [_kind(span) for span in spans], starts, ends, texts, outlined)


class Drawable(Protocol):
    """What a timeline draws: anything that gives its rows, such as a `Trace` of the wing `nsight`."""

    @property
    def source(self) -> Source:
        """Where it is from."""

    def rows(self, begin_ns: int | None = None, end_ns: int | None = None, depth: int = 2) -> list[Row]:
        """The rows of a stretch, those that have something to show."""


class Traced(Drawable, Protocol):
    """What has a table of its ranges too, as a `Trace` has."""

    @property
    def ranges(self) -> Mapping[str, np.ndarray]:
        """Its columns, `start_ns` and `end_ns` among them, sorted by start."""

    def named(self, table: str, choose: Callable[[str], bool]) -> np.ndarray:
        """Which rows of a table have such a name."""


def span_rows(spans: Iterable[Span], depth: int = 2, *, gpu: str = "") -> list[Row]:
    """The rows of spans, as Nsight orders them; ranges that lie deeper than `depth` in others are left out.

    First for each host thread its ranges and its CUDA calls, then for each stream its copies in, its kernels and its
    copies out. A span's `row` can be 'graph', 'copy' (neither in nor out) and 'memset' as well. `gpu` stands before the
    labels of streams.
    """
    rows: dict[tuple[bool, int, int], list[Span]] = defaultdict(list)  # by GPU or host, stream or thread, and place
    open_ends: dict[int, list[int]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: (span.start_ns, -span.end_ns)):
        if span.row == "range":
            ends = open_ends[span.thread]
            while ends and ends[-1] <= span.start_ns:
                ends.pop()
            ends.append(span.end_ns)
            if len(ends) <= depth:
                rows[False, span.thread, len(ends)].append(span)
        elif span.row == "api":
            rows[False, span.thread, depth + 1].append(span)
        else:
            rows[True, span.stream, _GPU_LABELS.index(_GPU_ROWS.get(span.row, span.row))].append(span)
    threads, streams = (sorted({line for side, line, _ in rows if side is on_gpu}) for on_gpu in (False, True))
    drawn = []
    for (on_gpu, line, place), chosen in sorted(rows.items()):
        if on_gpu:
            label = gpu + f"stream {line} " * (len(streams) > 1) + _GPU_LABELS[place]
        else:
            label = f"thread {threads.index(line) + 1} " * (len(threads) > 1)
            label += "CUDA calls" if place > depth else _NESTED[min(place, len(_NESTED)) - 1]
        drawn.append(Row.of(label, chosen, outlined=not on_gpu and place <= depth))
    return drawn


def _kind(span: Span) -> str:
    if span.row == "range":
        return span.name if span.name in _RANGE_COLOURS else "range"
    if span.row == "api":  # the runtime's and the driver's names alike: cudaMemcpyAsync_v3020, cuMemcpyHtoDAsync_v2
        return next((kind for word, kind in _CALL_KINDS.items() if word in span.name), "other call")
    if span.row in ("upload", "download", "copy"):
        return _COPY_KINDS.get(span.name.partition(" ")[0], "other copy")
    return "CUDA graph" if span.row == "graph" else span.row


def _text(span: Span) -> str:
    if span.row in ("range", "api"):  # a call without its library and its version
        bare = span.name.partition("_v")[0] if span.name.startswith("cu") else span.name
        return bare.removeprefix("cuda").removeprefix("cu").removeprefix("Stream") or span.name
    if span.row in ("upload", "download", "copy"):
        rate = span.nbytes / max(span.end_ns - span.start_ns, 1)
        return f"{span.name.partition(' ')[0]}, {span.nbytes / 1e6:.1f} MB, {rate:.1f} GB/s"
    return span.name


def timeline(
    ax: Axes,
    trace: Drawable | Sequence[Span],
    source: Source | None = None,
    *,
    begin_ns: int | None = None,
    end_ns: int | None = None,
    legend: bool = False,
) -> list[Any]:
    """Draw a trace from `begin_ns` to `end_ns`, all of it without them, and return one collection of bars a row.

    Above what the host does, for each thread: its NVTX ranges, those in others in a row below, and its CUDA calls.
    Below what the GPU does, for each stream: copies in, kernels, copies out. The axis counts ms, or us where the
    stretch is short, from `begin_ns`. Spans of a simulated device (`device.spans`) need their `source`. SettingsError
    where there is nothing to draw.

    >>> from yolotrt_lab import nsight, plots
    >>> len(timeline(plots.figure()[1], nsight.shipped_trace("graph-pinned"), legend=True))
    6
    """
    rows, begin, end, source = stretch_of(trace, source, begin_ns, end_ns, 2)
    bars = draw_rows(ax, rows, begin, end, source)
    if legend:
        name_kinds(ax, rows)
    return bars


def stretch_of(
    trace: Drawable | Sequence[Span], source: Source | None, begin_ns: int | None, end_ns: int | None, depth: int
) -> tuple[list[Row], int, int, Source]:
    """The rows to draw, from when to when, and where they are from."""
    if isinstance(trace, Sequence):
        begin, end = begin_ns or 0, math.inf if end_ns is None else end_ns
        rows = span_rows([span for span in trace if span.start_ns < end and span.end_ns >= begin], depth)
    else:
        rows, source = trace.rows(begin_ns, end_ns, depth), trace.source
    if source is None:
        raise SettingsError("spans must come with their source, got none", fix="pass the device's source too")
    if begin_ns is None:
        begin_ns = min((int(row.starts_ns.min()) for row in rows), default=0)
    if end_ns is None:
        end_ns = max((int(row.ends_ns.max()) for row in rows), default=0)
    if not rows or end_ns <= begin_ns:
        raise SettingsError(
            f"the stretch from {begin_ns} to {end_ns} ns must hold something to draw, got nothing",
            fix="choose another stretch; the simulated device keeps spans with open_device('simulated', trace=True)",
        )
    return rows, begin_ns, end_ns, source


def draw_rows(ax: Axes, rows: Sequence[Row], begin_ns: int, end_ns: int, source: Source | None) -> list[Any]:
    """Draw rows from `begin_ns` to `end_ns`, in ms, or us where that is short; return one collection of bars a row.

    Without a source the figure gets no stamp: the caller stamps the axes.
    """
    unit_ns, unit = (1e3, "us") if end_ns - begin_ns <= _SHORT_NS else (1e6, "ms")
    bars = []
    for place, row in enumerate(rows):
        spans = np.stack([row.starts_ns - begin_ns, row.ends_ns - row.starts_ns], axis=1) / unit_ns
        colours, edges = [KIND_COLOURS[kind] for kind in row.kinds], "white" if row.outlined else "face"
        where = (place - BAR_HEIGHT / 2, BAR_HEIGHT)
        bars.append(ax.broken_barh(spans.tolist(), where, facecolors=colours, edgecolors=edges, linewidths=0.4))
    ax.set(xlim=(0, (end_ns - begin_ns) / unit_ns), ylim=(len(rows) - 0.5, -0.5), xlabel=f"time [{unit}]")
    ax.set_yticks(range(len(rows)), [row.label for row in rows])
    _write_texts(ax, rows, begin_ns, end_ns, unit_ns)
    if source is not None:
        stamp(figure_of(ax), source)
    return bars


def _write_texts(ax: Axes, rows: Sequence[Row], begin: int, end: int, unit_ns: float) -> None:
    """The texts of bars that have room for them."""
    letters_a_ns = ax.get_window_extent().width / figure_of(ax).dpi / _INCHES_A_LETTER / (end - begin)
    for place, row in enumerate(rows):
        left, right = np.maximum(row.starts_ns, begin), np.minimum(row.ends_ns, end)
        letters = (right - left) * letters_a_ns
        for bar in np.flatnonzero(letters > 3):
            text = row.texts[bar]
            if text and letters[bar] > len(text) + 1:
                middle = ((left[bar] + right[bar]) / 2 - begin) / unit_ns
                ink = "#fefefe" if row.kinds[bar] in _DARK else "#111111"  # on a dark page too
                ax.text(middle, place, text, ha="center", va="center", size=7.5, color=ink, clip_on=True)


def name_kinds(ax: Axes, rows: Sequence[Row], *, ranges: bool = False) -> None:
    """A legend above the axes: a patch for each colour, named by the kinds that have it; `ranges` too if asked."""
    patch = load("matplotlib.patches", needed_for="plots").Patch
    alike: dict[str, list[str]] = defaultdict(list)
    for kind in kinds_of(rows, ranges):
        alike[KIND_COLOURS[kind]].append(kind)
    legend_above(ax, [patch(color=colour, label=", ".join(kinds)) for colour, kinds in alike.items()])


def kinds_of(rows: Sequence[Row], ranges: bool) -> list[str]:
    """What is drawn, in the order of `KIND_COLOURS`; without `ranges`, which their rows name."""
    drawn = {kind for row in rows for kind in row.kinds}
    return [kind for kind in KIND_COLOURS if kind in drawn and (ranges or kind not in _RANGE_COLOURS)]


def frames_on_one_scale(ax: Axes, traces: Mapping[str, Traced], frame: int) -> list[Any]:
    """A frame of each trace, one below the other from its own begin: the host's stages, and all that the GPU did.

    >>> from yolotrt_lab import nsight, plots
    >>> pair = {mark: nsight.shipped_trace(f"report-{mark.lower()}") for mark in "BC"}
    >>> len(plots.frames_on_one_scale(plots.figure()[1], pair, 20))
    4
    """
    stretches = {label: _stretch(trace, frame) for label, trace in traces.items()}
    longest = max(end - begin for begin, end in stretches.values())
    rows = [row for label, trace in traces.items() for row in _host_and_gpu(label, trace, *stretches[label], longest)]
    source = next(iter(traces.values())).source
    bars = draw_rows(ax, rows, 0, round(1.02 * longest), None)
    name_kinds(ax, rows, ranges=True)
    stamp_panel(ax, source, "Nsight Systems, which lengthens host times;")
    return bars


def _stretch(trace: Traced, frame: int) -> tuple[int, int]:
    """When a range named 'frame' begins and ends; they count from 0."""
    frames = np.flatnonzero(trace.named("ranges", "frame".__eq__))
    if not 0 <= frame < len(frames):
        fix = "choose a frame of the trace"
        raise SettingsError(f"frame must be from 0 to {len(frames) - 1}, got {frame}", fix=fix)
    return int(trace.ranges["start_ns"][frames[frame]]), int(trace.ranges["end_ns"][frames[frame]])


def _host_and_gpu(label: str, trace: Drawable, begin_ns: int, end_ns: int, longest_ns: int) -> list[Row]:
    """Two rows of a frame that begins at 0: its stages but for the shortest, and the GPU's work on all streams."""
    rows = trace.rows(begin_ns, end_ns)
    stages = [row for row in rows if "NVTX" in row.label and "frame" not in row.kinds]
    gpu = [row for row in rows if not ("NVTX" in row.label or row.label.endswith("CUDA calls"))]
    at_least_ns = longest_ns * _SHORTEST_STAGE
    return [_merged(f"{label} host", stages, begin_ns, at_least_ns), _merged(f"{label} GPU", gpu, begin_ns)]


def _merged(label: str, rows: list[Row], begin_ns: int, at_least_ns: float = 0) -> Row:
    bars = [
        bar
        for row in rows
        for bar in zip(row.kinds, row.starts_ns.tolist(), row.ends_ns.tolist(), row.texts, strict=True)
        if bar[2] - bar[1] >= at_least_ns
    ]
    kinds, starts, ends, texts = (list(each) for each in zip(*bars, strict=True))
    return Row(label, kinds, np.array(starts) - begin_ns, np.array(ends) - begin_ns, texts)
