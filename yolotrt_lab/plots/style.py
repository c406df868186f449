"""What all figures share: colours, line styles, and the stamp that says where the numbers come from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np

from ..packages import load
from ..recording import Recording
from ..types import Source, SourceKind, Stage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure


# A colour has one meaning in all figures. Nearly all are Okabe and Ito's, which colour-blind readers can tell apart.
STAGE_COLOURS: dict[str, str] = {
    Stage.WAIT: "#DDDDDD",
    Stage.PREPROCESS: "#E69F00",
    Stage.UPLOAD: "#56B4E9",
    Stage.INFER: "#66C2A5",
    Stage.DOWNLOAD: "#CC79A7",
    Stage.SYNCHRONIZE: "#9351B6",
    Stage.POSTPROCESS: "#F0E442",
}
MEMORY_COLOURS = {"pageable": "#D55E00", "pinned": "#0072B2", "registered": "#44AA99", "write_combined": "#AA7744"}
KERNEL_COLOUR = "#009E73"
# A recording is a broad pale line, so that the live or simulated curve shows on top of it.
LINES: dict[SourceKind, dict[str, Any]] = {
    SourceKind.RECORDED: {"linestyle": "-", "linewidth": 3.2, "alpha": 0.4},
    SourceKind.LIVE: {"linestyle": "-", "linewidth": 1.2},
    SourceKind.SIMULATED: {"linestyle": "--", "linewidth": 1.4},
}
TELEMETRY_LABELS = {
    "sm_clock_mhz": ("SM clock [MHz]", 1.0),
    "gpu_processes": ("other processes", 1.0),
    "temperature_c": ("temperature [°C]", 1.0),
    "host_memory_bytes": ("host memory [GB]", 1e9),
    "gpu_memory_used_bytes": ("GPU memory used [GB]", 1e9),
}
"""What a telemetry column is called on axes, and what to divide it by."""

_FEW_FRAMES = 8
_BETWEEN = "   |   "
_STAMP_SIZE = 7.5
_INCHES_A_LETTER = 0.6 * _STAMP_SIZE / 72


def figure(
    rows: int = 1, columns: int = 1, *, width: float = 10.0, height: float = 3.6, title: str = "", **keywords: Any
) -> Any:
    """A figure of the lab and its axes, as `plt.subplots` gives them; `height` in inches is for each row.

    `title` stands above all of it, and is to say what the figure shows. MissingPackageError without matplotlib.

    >>> drawn, (left, right) = figure(1, 2, title="left is faster")
    """
    drawn, axes = _pyplot().subplots(rows, columns, figsize=(width, height * rows), layout="constrained", **keywords)
    return _furnished(drawn, np.ravel(axes), title), axes


def panels(layout: list[list[str]], *, height: float = 2.4, title: str = "", **keywords: Any) -> Any:
    """A figure and its axes by name, laid out as `plt.subplot_mosaic` does; `height` and `title` as in `figure`.

    >>> drawn, axes = panels([["left", "right"], ["below", "below"]])
    >>> _ = axes["below"].plot([1, 2])
    """
    size = (10.0, height * len(layout))
    drawn, axes = _pyplot().subplot_mosaic(layout, figsize=size, layout="constrained", **keywords)
    return _furnished(drawn, axes.values(), title), axes


def _pyplot() -> Any:
    plt = load("matplotlib.pyplot", needed_for="plots")
    if "inline" in plt.get_backend():  # a notebook, which displays each figure at the end of its cell
        plt.uninstall_repl_displayhook()  # it draws each before that, for windows that stay open
    return plt


def _furnished(drawn: Figure, axes: Iterable[Axes], title: str) -> Figure:
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(True, color="#EEEEEE")
        ax.set_axisbelow(True)
    if title:
        drawn.suptitle(title, x=0.01, ha="left", size=13, gid="title")
    return drawn


def stamp(drawn: Figure, *sources: Source | str) -> None:
    """Write into the figure's lower corner where its numbers come from; several sources are listed once each.

    A string is a stamp as it is, for numbers that no `Source` describes.

    >>> stamp(figure()[0], "counted by hand")
    """
    stamps = [each.stamp if isinstance(each, Source) else each for each in sources]
    for text in [text for text in drawn.texts if text.get_gid() == "source"]:
        stamps = text.get_text().replace("\n", _BETWEEN).split(_BETWEEN) + stamps
        text.remove()
    stamps = list(dict.fromkeys(stamps))
    width, height = drawn.get_size_inches()
    fits = len(_BETWEEN.join(stamps)) * _INCHES_A_LETTER < width
    words = (_BETWEEN if fits else "\n").join(stamps)
    drawn.text(0.995, 0.004, words, ha="right", va="bottom", size=_STAMP_SIZE, color="#555555", gid="source")
    margin = (0.08 + 0.14 * (1 + words.count("\n"))) / height
    engine = drawn.get_layout_engine()
    if engine is not None:
        _, bottom, _, tall = engine.get()["rect"]
        engine.set(rect=(0, margin, 1, bottom + tall - margin))  # type: ignore[call-arg, unused-ignore]


def stamp_panel(ax: Axes, source: Source, note: str = "") -> None:
    """Write below axes where their numbers come from: at the right end of the line of their label, which goes left.

    `note` stands before it.
    """
    words = f"{note} {source.stamp}".strip()
    ax.set_xlabel(ax.get_xlabel(), loc="left")
    look: dict[str, Any] = {"ha": "right", "va": "top", "size": _STAMP_SIZE, "color": "#555555", "gid": "source"}
    text = ax.annotate(words, (1, 0), (0, -20), "axes fraction", "offset points", annotation_clip=False, **look)
    text.set_in_layout(False)


def finish(ax: Axes, recordings: Iterable[Recording] = (), **settings: Any) -> None:
    """Set the axes up as `ax.set` does, with plain numbers on logarithmic ones, and stamp what they show."""
    ax.set(**settings)
    for axis in (ax.xaxis, ax.yaxis):
        if axis.get_scale() == "log":
            plain_numbers(axis)
    if sources := [recording.source for recording in recordings]:
        stamp(figure_of(ax), *sources)


def legend_above(ax: Axes, handles: Sequence[Any] | None = None, ncols: int | None = None) -> None:
    """A small legend in a row at the right end above the axes, beside their title; without handles of all lines."""
    handles = ax.get_legend_handles_labels()[0] if handles is None else handles
    place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2, "borderpad": 0.1}
    look: dict[str, Any] = {"fontsize": 8, "handlelength": 1, "columnspacing": 1, "framealpha": 1, "edgecolor": "none"}
    ax.legend(handles=handles, ncols=ncols or max(len(handles), 1), facecolor="white", **place, **look)


def image(ax: Axes, pixels: np.ndarray, title: str) -> Any:
    """An image: uint8 BGR (height, width, 3), or a network input, float32 RGB (1, 3, height, width) from 0 to 1.

    >>> image(figure()[1], np.zeros((480, 640, 3), np.uint8), "a black frame").get_array().shape
    (480, 640, 3)
    """
    shown = pixels[0].transpose(1, 2, 0) if pixels.ndim == 4 else pixels[..., ::-1]
    ax.set_axis_off()
    ax.set_title(title, loc="left")
    return ax.imshow(shown)


def plain_numbers(axis: Axis) -> None:
    """Numbers such as 0.01 and 100 at the marks of a logarithmic axis, instead of powers of ten."""
    ticker = load("matplotlib.ticker", needed_for="plots")
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(ticker.LogFormatter(minor_thresholds=(1, 0.4)))


def mark_of(frames: int) -> dict[str, Any]:
    """How to mark each frame of a line where there are too few of them to make one."""
    return {"marker": "o", "markersize": 4} if frames <= _FEW_FRAMES else {}


def figure_of(ax: Axes) -> Figure:
    """The figure that holds these axes, also where they are in a part of it."""
    return ax.figure.figure


def as_svg(drawn: Figure) -> str:
    """The figure as the text of an `<svg>` element, for a page of HTML; the figure is closed.

    >>> as_svg(figure()[0])[:4]
    '<svg'
    """
    plt = load("matplotlib.pyplot", needed_for="plots")
    text = StringIO()
    drawn.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    plt.close(drawn)
    return text.getvalue()[text.getvalue().index("<svg") :]
