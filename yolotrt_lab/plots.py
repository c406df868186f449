"""Recordings in, matplotlib axes out. Nothing is computed here but medians for bars.

Every function draws on axes given to it, returns what it drew, and writes where the numbers come from into the
figure's corner. Times are milliseconds or microseconds, as the axis says. Start with `figure`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import SettingsError
from .packages import load
from .recording import Recording
from .types import Source, SourceKind, Span, Stage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart.
STAGE_COLOURS = {
    Stage.WAIT: "#DDDDDD",
    Stage.PREPROCESS: "#E69F00",
    Stage.UPLOAD: "#D55E00",
    Stage.INFER: "#009E73",
    Stage.DOWNLOAD: "#CC79A7",
    Stage.SYNCHRONIZE: "#0072B2",
    Stage.POSTPROCESS: "#F0E442",
}
MEMORY_COLOURS = {"pageable": "#D55E00", "pinned": "#0072B2", "registered": "#56B4E9", "write_combined": "#CC79A7"}
_ROW_NAMES = {
    "range": "NVTX",
    "api": "CUDA calls",
    "upload": "copy in",
    "kernel": "kernels",
    "download": "copy out",
}
_GPU_COLOURS = {"upload": "#D55E00", "kernel": "#009E73", "download": "#CC79A7"}
_API_COLOURS = {"cudaMemcpyAsync": "#D55E00", "cudaStreamSynchronize": "#0072B2", "cudaEventSynchronize": "#0072B2"}
_OTHER_API_COLOUR = "#009E73"
# A recording is a broad pale line, so that the live or simulated curve shows on top of it.
_LINES: dict[SourceKind, dict[str, Any]] = {
    SourceKind.RECORDED: {"linestyle": "-", "linewidth": 3.2, "alpha": 0.4},
    SourceKind.LIVE: {"linestyle": "-", "linewidth": 1.2},
    SourceKind.SIMULATED: {"linestyle": "--", "linewidth": 1.4},
}


_BETWEEN = "   |   "
_STAMP_SIZE = 7.5
_INCHES_A_LETTER = 0.6 * _STAMP_SIZE / 72


def figure(rows: int = 1, columns: int = 1, *, width: float = 10.0, height: float = 3.6, **keywords: Any) -> Any:
    """A figure of the lab and its axes, as `plt.subplots` gives them; `height` in inches is for each row."""
    plt = load("matplotlib.pyplot", needed_for="plots")
    drawn, axes = plt.subplots(rows, columns, figsize=(width, height * rows), layout="constrained", **keywords)
    for ax in np.ravel(axes):
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(True, color="#EEEEEE")
        ax.set_axisbelow(True)
    return drawn, axes


def stamp(drawn: Figure, *sources: Source) -> None:
    """Write into the figure's lower corner where its numbers come from; several sources are listed once each."""
    texts = [text for text in drawn.texts if text.get_gid() == "source"]
    known = texts[0].get_text().replace("\n", _BETWEEN).split(_BETWEEN) if texts else []
    for text in texts:
        text.remove()
    stamps = list(dict.fromkeys([*known, *(source.stamp for source in sources)]))
    width, height = drawn.get_size_inches()
    fits = len(_BETWEEN.join(stamps)) * _INCHES_A_LETTER < width
    lines = 1 if fits else len(stamps)
    words = (_BETWEEN if fits else "\n").join(stamps)
    drawn.text(0.995, 0.004, words, ha="right", va="bottom", size=_STAMP_SIZE, color="#555555", gid="source")
    margin = (0.08 + 0.14 * lines) / height
    engine = drawn.get_layout_engine()
    if engine is not None:
        engine.set(rect=(0, margin, 1, 1 - margin))  # type: ignore[call-arg, unused-ignore]


def latency(ax: Axes, recordings: Mapping[str, Recording]) -> list[Any]:
    """Latency of every frame after the warm-up, by label. Simulated curves are dashed, recorded ones broad and pale."""
    return _over_frames(ax, recordings, lambda recording: recording.latency_ns, "latency [ms]")


def stage_over_frames(ax: Axes, stage: Stage, recordings: Mapping[str, Recording]) -> list[Any]:
    """The host's time in one stage, frame by frame, by label; lines as in `latency`."""
    return _over_frames(ax, recordings, lambda recording: recording.stage_ns(stage), f"host time in {stage} [ms]")


def _over_frames(
    ax: Axes, recordings: Mapping[str, Recording], values_ns: Callable[[Recording], np.ndarray], ylabel: str
) -> list[Any]:
    lines = []
    for label, recording in recordings.items():
        colour = MEMORY_COLOURS.get(str(recording.settings.get("input_memory", "")))
        steady = recording.steady
        frame, values_ms = steady.columns["frame"], values_ns(steady) / 1e6
        lines += ax.plot(frame, values_ms, color=colour, label=label, **_LINES[recording.source.kind])
    ax.set(xlabel="frame", ylabel=ylabel, ylim=(0, None))
    ax.legend(frameon=False)
    stamp(_figure(ax), *(recording.source for recording in recordings.values()))
    return lines


def stages(ax: Axes, recording: Recording, which: Sequence[Stage] = tuple(Stage)) -> list[Any]:
    """The host's time in each stage, frame by frame, after the warm-up.

    On a logarithmic axis, so that a rare slow frame is seen and does not press the others flat.
    """
    shown = recording.steady
    lines = [
        ax.plot(
            shown.columns["frame"],
            shown.stage_ns(stage) / 1e6,
            _LINES[recording.source.kind]["linestyle"],
            color=STAGE_COLOURS[stage],
            linewidth=0.9,
            label=f"{stage}",
        )[0]
        for stage in which
    ]
    ax.set(yscale="log", xlabel="frame", ylabel="host time [ms]")
    legend = ax.legend(frameon=False, ncols=len(lines), loc="upper left", fontsize=8, columnspacing=1.2, handlelength=1)
    for handle in legend.get_lines():
        handle.set_linewidth(3)
    tallest = max(np.max(line.get_ydata()) for each in _same_scale(ax) for line in each.get_lines())
    ax.set_ylim(top=2.5 * tallest)  # room for the legend
    stamp(_figure(ax), recording.source)
    return lines


def stage_bars(ax: Axes, recordings: Mapping[str, Recording], *, legend: bool = True) -> list[Any]:
    """Medians of the stages but `wait`, one bar a recording, stacked; their sum stands at its end."""
    chosen = [stage for stage in Stage if stage is not Stage.WAIT]
    left = np.zeros(len(recordings))
    bars = []
    for stage in chosen:
        widths = np.array([np.median(each.steady.stage_ns(stage)) / 1e3 for each in recordings.values()])
        if widths.max() < 1:  # under a microsecond in every recording: no stage of this loop
            continue
        bars.append(ax.barh(list(recordings), widths, left=left, color=STAGE_COLOURS[stage], label=f"{stage}"))
        left += widths
    for row, total in enumerate(left):
        ax.text(total, row, f" {total:,.0f} us", va="center", size=9)
    ax.set(xlabel="host time, medians of the stages [us]", xlim=(0, max(*left, ax.get_xlim()[1] / 1.14) * 1.14))
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    if legend:
        ax.legend(frameon=False, ncols=5, loc="lower right", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    stamp(_figure(ax), *(recording.source for recording in recordings.values()))
    return bars


def copy_calls(ax: Axes, tables: Mapping[str, Recording], direction: str, call: str, *, backlog_ms: float) -> list[Any]:
    """Host time over the size of the copy, behind one backlog: `call` is 'call_ns' (the copy) or 'sync_ns'.

    `direction` is 'h2d' or 'd2h'. Simulated tables are dashed, with hollow marks.
    """
    lines = []
    for (label, table), memory in product(tables.items(), ("pageable", "pinned")):
        columns = table.columns
        chosen = (columns["direction"] == direction) & (columns["host_memory"] == memory)
        chosen &= columns["backlog_ns"] == round(backlog_ms * 1e6)
        simulated = table.source.kind is SourceKind.SIMULATED
        lines += ax.plot(
            columns["bytes"][chosen] / 1e6,
            columns[call][chosen] / 1e6,
            marker="o",
            color=MEMORY_COLOURS[memory],
            markerfacecolor="white" if simulated else MEMORY_COLOURS[memory],
            label=f"{memory}, {label}",
            **_LINES[table.source.kind],
        )
    if backlog_ms:
        ax.axhline(backlog_ms, color="#999999", linewidth=0.8)
        ax.annotate("the backlog", (0.02, backlog_ms), (0, -11), ("axes fraction", "data"), "offset points", size=8)
    what = {"h2d": "upload", "d2h": "download"}[direction]
    title = {"call_ns": f"{what}: the copy call", "sync_ns": f"{what}: synchronize after it"}[call]
    ax.set(xscale="log", yscale="log", xlabel="size of the copy [MB]", ylabel="host time [ms]")
    ax.set_title(title, loc="left")
    ax.legend(frameon=False, fontsize=8)
    stamp(_figure(ax), *(table.source for table in tables.values()))
    return lines


def image(ax: Axes, pixels: np.ndarray, title: str) -> Any:
    """An image: uint8 BGR (height, width, 3), or a network input, float32 RGB (1, 3, height, width) from 0 to 1."""
    shown = pixels[0].transpose(1, 2, 0) if pixels.ndim == 4 else pixels[..., ::-1]
    ax.set_axis_off()
    ax.set_title(title, loc="left")
    return ax.imshow(shown)


def timeline(ax: Axes, spans: Sequence[Span], source: Source) -> list[Any]:
    """A trace as Nsight draws it: the host's ranges and CUDA calls above, what the GPU did below; us from its begin.

    SettingsError without a span: make the device with `trace=True`.
    """
    if not spans:
        raise SettingsError("a trace without a span", fix="open_device('simulated', trace=True) keeps them")
    rows = [row for row in _ROW_NAMES if any(span.row == row for span in spans)]
    begin_ns, end_ns = min(span.start_ns for span in spans), max(span.end_ns for span in spans)
    bars: list[Any] = []
    for span in spans:
        if span.name == "frame":
            continue
        row, colour = rows.index(span.row), _colour(span)
        left, width = (span.start_ns - begin_ns) / 1e3, (span.end_ns - span.start_ns) / 1e3
        bars += ax.barh(row, width, left=left, height=0.7, color=colour, edgecolor="white")
        if width > 0.1 * (end_ns - begin_ns) / 1e3:
            ink = "white" if colour == STAGE_COLOURS[Stage.SYNCHRONIZE] else "black"
            middle = left + width / 2
            ax.text(middle, row, _short(span), ha="center", va="center", size=7.5, color=ink, clip_on=True)
    ax.set(xlim=(0, (end_ns - begin_ns) / 1e3), xlabel="time [us]")
    ax.set_yticks(range(len(rows)), [_ROW_NAMES[row] for row in rows])
    ax.invert_yaxis()
    stamp(_figure(ax), source)
    return bars


def _colour(span: Span) -> str:
    if span.row == "range":
        return STAGE_COLOURS.get(Stage(span.name), "#BBBBBB") if span.name in set(Stage) else "#BBBBBB"
    if span.row == "api":
        return _API_COLOURS.get(span.name, _OTHER_API_COLOUR)
    return _GPU_COLOURS[span.row]


def _short(span: Span) -> str:
    return span.name.removeprefix("cuda").removeprefix("Stream")


def _same_scale(ax: Axes) -> Sequence[Axes]:
    """The axes that share a y-axis with these, and these."""
    return ax.get_shared_y_axes().get_siblings(ax)  # type: ignore[no-any-return, unused-ignore]


def _figure(ax: Axes) -> Figure:
    drawn = ax.get_figure(root=True)
    assert drawn is not None
    return drawn
