"""The four results on top of the report, each a number and a small figure from the data that ships with the lab."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from . import causes, nsight, plots
from .packages import load
from .plots.report import WAIT_COLOURS
from .plots.style import MEMORY_COLOURS, STAGE_COLOURS, as_svg
from .recording import Recording
from .speed.ladder import Ladder
from .types import Stage

_BLOCK = 25  # frames of which the median is drawn


@dataclass(frozen=True, slots=True)
class Result:
    """One result: what it is about, its number, what that means, and its figure."""

    topic: str
    notebook: str
    """The stem of the notebook that shows it."""
    number: Callable[[], str]
    text: Callable[[], str]
    figure: Callable[[Any], None]
    """Draws on axes."""

    def draw(self) -> str:
        """The figure as the text of an SVG."""
        drawn, ax = plots.figure(width=3.4, height=1.45)
        self.figure(ax)
        ax.tick_params(labelsize=8)
        ax.grid(False, axis="x")
        with load("matplotlib", needed_for="the report").rc_context({"svg.fonttype": "none"}):
            return as_svg(drawn)


@cache
def _levels() -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """The report's loop alone, beside twenty processes, and beside them with pinned input; medians in ms."""
    levels = causes.report_levels(Recording.shipped("report"))
    return levels[0, False], levels[20, False], levels[20, True]


@cache
def _waits_ms() -> dict[str, float]:
    seen = nsight.attribute(nsight.shipped_trace("report-b"))
    return {wait: float(np.median(seen.waits_ns(wait)[3:])) / 1e6 for wait in nsight.WAITS}


def _traced_synchronize_ms() -> float:
    return float(np.median(nsight.attribute(nsight.shipped_trace("report-b")).frames["synchronize_ns"][3:])) / 1e6


@cache
def _cameras() -> dict[tuple[int, bool], dict[str, float]]:
    return causes.camera_levels(Recording.shipped("cameras"))


@cache
def _ladder_us() -> dict[str, float]:
    return {each.rung.label.partition(" ")[0]: each.together.frame_us for each in Ladder.shipped().steps}


def _curve(ax: Any) -> None:
    steady = Recording.shipped("report").steady
    times = steady.stage_ns(Stage.SYNCHRONIZE)[: len(steady) // _BLOCK * _BLOCK].reshape(-1, _BLOCK) / 1e6
    frames = np.arange(len(times)) * _BLOCK
    ax.plot(frames, np.median(times, axis=1), color=STAGE_COLOURS[Stage.SYNCHRONIZE], linewidth=1.4)
    pinned = float(np.argmax(steady.columns["pinned"]))
    ax.axvspan(pinned, frames[-1], color=MEMORY_COLOURS["pinned"], alpha=0.12, linewidth=0)
    ax.text(pinned, 1, " pinned", transform=ax.get_xaxis_transform(), va="top", size=8)
    ax.set(ylim=(0, 36), xlim=(0, frames[-1]), xticks=[])
    ax.set_ylabel("ms", size=8)


def _wait(ax: Any) -> None:
    left = 0.0
    names = {"nothing": "nothing of this loop", "kernels": "its kernels"}
    for wait, value in sorted(_waits_ms().items(), key=lambda each: -each[1]):
        ax.barh([0], [value], left=left, color=WAIT_COLOURS[wait])
        if value > 1:
            ax.text(left + value / 2, 0, names.get(wait, wait), ha="center", va="center", size=8, color="#111111")
        left += value
    ax.set(yticks=[], xlim=(0, None), ylim=(-0.9, 0.9))
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("ms of one synchronize", size=8)


def _served(ax: Any) -> None:
    for pinned, memory in enumerate(("pageable", "pinned")):
        threads = [count for count, kind in _cameras() if kind == pinned]
        rates = [_cameras()[count, bool(pinned)]["frames/s"] for count in threads]
        ax.plot(threads, rates, "o-", color=MEMORY_COLOURS[memory], markersize=3)
        side, gap = (("top", -300), ("bottom", 300))[pinned]
        ax.text(threads[-1], rates[-1] + gap, memory, ha="right", va=side, size=8)
    ax.set(xticks=[1, 2, 4, 8], ylim=(0, 6_500))
    ax.set_xlabel("cameras", size=8)
    ax.set_ylabel("frames/s", size=8)


def _rungs(ax: Any) -> None:
    names, times = list(_ladder_us()), np.array(list(_ladder_us().values()))
    ax.bar(names, times, color=STAGE_COLOURS[Stage.WAIT])
    for place, time_us in enumerate(times):
        ax.text(place, time_us, f"{time_us:,.0f}", ha="center", va="bottom", size=7)
    ax.set_xlabel("rung, us a frame", size=8)
    ax.set(yticks=[])
    ax.spines["left"].set_visible(False)


def _times_as_fast() -> str:
    times = list(_ladder_us().values())
    return f"{times[0]:,.0f} → {times[-1]:,.0f} us"


RESULTS = (
    Result(
        "The report's curve",
        "01_reproduce",
        lambda: f"{_levels()[0]['cudaStreamSynchronize']:.3f} → {_levels()[1]['cudaStreamSynchronize']:.1f} ms",
        lambda: "Synchronize in the public report's loop, alone on an H200 and beside twenty other processes.",
        _curve,
    ),
    Result(
        "Where the wait goes",
        "04_nsight",
        lambda: f"{_waits_ms()['nothing']:.1f} of {_traced_synchronize_ms():.1f} ms",
        lambda: (
            "of that synchronize, under Nsight Systems: the GPU does nothing for this loop. Its kernels take "
            f"{_waits_ms()['kernels']:.2f} ms, as ever."
        ),
        _wait,
    ),
    Result(
        "What pinned memory buys",
        "03_pinned_fix",
        lambda: f"{_cameras()[8, True]['frames/s'] / _cameras()[8, False]['frames/s']:.1f} times the frames",
        lambda: (
            f"with eight cameras in one process. On the report's curve, {_levels()[1]['frame']:.1f} → "
            f"{_levels()[2]['frame']:.1f} ms a frame."
        ),
        _served,
    ),
    Result(
        "How fast it can be",
        "07_speed_of_light",
        _times_as_fast,
        lambda: f"a 1080p frame, in {len(_ladder_us())} steps, of which pinned memory is one.",
        _rungs,
    ),
)
"""In the order of the page."""
