"""Figures on the report's page: an SVG made to suit it, and the four results on its top.

A result is a number and a small figure of the data that ships with the lab.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Collection
from dataclasses import dataclass
from html import escape
from typing import Any
from xml.etree import ElementTree

import numpy as np

from . import causes, nsight, plots
from .packages import load
from .plots.curves import WAIT_COLOURS
from .plots.style import MEMORY_COLOURS, STAGE_COLOURS, as_svg
from .recording import Recording
from .speed.ladder import Ladder
from .types import Stage

_SVG = "http://www.w3.org/2000/svg"
_INKS = {"#000000": "--ink", "#ffffff": "--page", "#eeeeee": "--grid", "#555555": "--soft"}
"""The colours of a figure that are not data, and what the page calls them."""
_FIGURE_STYLE = (
    "*{stroke-linejoin:round;stroke-linecap:butt}text{fill:var(--ink)}"
    "svg{--ink:#000;--page:#fff;--grid:#eee;--soft:#555}"
    "@media(prefers-color-scheme:dark){svg{--ink:#e6edf3;--page:#0f1318;--grid:#272e37;--soft:#9da7b1}}"
)
_ESCAPED = str.maketrans({letter: f"%{ord(letter):02X}" for letter in "%#\"<>&'`\\"})  # of a URL in an attribute
_TITLE_LINE, _STAMP_LINE = 7.0, 11.0  # points below the first's baseline, and above the second's
_LONG = 400  # letters of a path: a curve, and no mark
_BLOCK = 25  # frames of which the median is drawn


@dataclass(frozen=True, slots=True)
class _Image:
    """An image as the page shows it. The title and the sources of a figure of matplotlib are text beside it."""

    source: str
    """A data URL."""
    look: str = 'class="pixels"'
    """Attributes of its tag."""
    title: str = ""
    stamps: tuple[str, ...] = ()
    alt: str = ""


def figure_html(drawn: str, *, alt: str = "", label: str = "", identity: str = "") -> str:
    """A `<figure>` of the text of an SVG, or of another image by its URL; `alt` describes what can't say it itself."""
    image = _Image(escape(drawn)) if drawn.startswith("data:") else _of_svg(drawn)
    shown = f'<img {image.look} alt="{escape(image.alt or alt)}" src="{image.source}">'
    if label:
        permalink = f'<a class="permalink" href="#{escape(identity)}">{escape(label)}</a>'
        stamps = f'<p class="source">{escape(" · ".join(image.stamps))}</p>' if image.stamps else ""
        shown = f"""<figcaption>{permalink} {escape(image.title)}</figcaption>
<div class="scroll wide" tabindex="0">{shown}</div>{stamps}"""
    return f'<figure id="{escape(identity)}">{shown}</figure>' if identity else f"<figure>{shown}</figure>"


def _of_svg(text: str) -> _Image:
    """The SVG with the page's colours, without what stands beside it; as it is where it is none of matplotlib's."""
    if "figure_1" not in text[:4000]:
        return _Image(f"data:image/svg+xml;base64,{b64encode(text.encode()).decode()}")
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(text)
    top, width, bottom = (float(each) for each in root.attrib["viewBox"].split()[1:])
    figure = next(group for group in root if group.get("id") == "figure_1")
    title, baselines = _taken(figure, "title")
    top = baselines[-1] + _TITLE_LINE if title else top
    stamps, baselines = _taken(figure, "source")
    bottom = baselines[0] - _STAMP_LINE if stamps else bottom
    _strip(root, figure)
    ElementTree.SubElement(root, f"{{{_SVG}}}style").text = _FIGURE_STYLE
    height = bottom - top
    root.attrib |= {"viewBox": f"0 {top:.1f} {width:.1f} {height:.1f}"}
    root.attrib |= {"width": f"{width:.0f}pt", "height": f"{height:.0f}pt"}
    texts = ("".join(each.itertext()).strip() for each in root.iter(f"{{{_SVG}}}text"))
    written = [each for each in texts if re.search("[A-Za-z]{2}", each)]
    said = " ".join(title) or (written[0] if written else "")
    rest = ", ".join(dict.fromkeys(each for each in written if each != said))
    return _Image(
        "data:image/svg+xml;charset=utf-8," + _small(root).translate(_ESCAPED),
        f'width="{width * 4 / 3:.0f}" height="{height * 4 / 3:.0f}"',
        " ".join(title),
        tuple(stamps),
        f"{said}. Labels: {rest}" if rest else said,
    )


def _taken(figure: Any, name: str) -> tuple[list[str], list[float]]:
    """The lines of the figure's own texts of that gid, which are taken out of it, and their baselines."""
    lines, baselines = [], []
    for group in [each for each in figure if each.get("id") == name]:
        for text in group.iter(f"{{{_SVG}}}text"):
            lines += [line.strip() for line in "".join(text.itertext()).split("   |   ")]
            moved = re.search(r"translate\(\S+ (\S+?)\)", text.get("transform", ""))
            baselines.append(float(moved[1] if moved else text.get("y", 0)))
        figure.remove(group)
    return lines, baselines


def _strip(root: Any, figure: Any) -> None:
    """Take out metadata, matplotlib's style sheet, and the backgrounds, so that the page's shades are seen."""
    for extra in [each for each in root if each.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}defs")]:
        if extra.tag.endswith("metadata") or extra.find(f"{{{_SVG}}}style") is not None:
            root.remove(extra)
    for group in [figure, *(each for each in figure if each.get("id", "").startswith("axes"))]:
        if len(group) and "fill: #ffffff" in ElementTree.tostring(group[0], encoding="unicode")[:2000]:
            group.remove(group[0])


def _small(root: Any) -> str:
    """The SVG in few letters: one line, coordinates to a tenth of a point, and the page's names for what is no data."""
    for each in root.iter():
        for name in ("d", "x", "y", "transform"):
            if value := each.get(name):
                each.set(name, re.sub(r"(\.\d)\d+" if len(value) > _LONG else r"(\.\d\d)\d+", r"\1", value))
        if "style" in each.attrib:
            style = re.sub(r"'DejaVu Sans'[^;]*sans-serif", "DejaVu Sans, Verdana, sans-serif", each.attrib["style"])
            for colour, ink in _INKS.items():
                style = style.replace(f": {colour}", f": var({ink})")
            each.set("style", style)
    return re.sub(r"\s+", " ", ElementTree.tostring(root, encoding="unicode"))


@dataclass(frozen=True, slots=True)
class Result:
    """One result: what it is about, its number, what that means, and its figure."""

    topic: str
    notebook: str
    """The stem of the notebook that shows it."""
    number: str
    text: str
    figure: str
    """A `<figure>`."""


def results(notebooks: Collection[str]) -> list[Result]:
    """Those that these notebooks show, in the order of the page."""
    return [_result(*each) for each in _RESULTS if each[1] in notebooks]


def _result(topic: str, notebook: str, draw: Callable[[Any], tuple[str, str]]) -> Result:
    drawn, ax = plots.figure(width=3.4, height=1.45)
    number, text = draw(ax)
    ax.tick_params(labelsize=8)
    ax.grid(False, axis="x")
    with load("matplotlib", needed_for="the report").rc_context({"svg.fonttype": "none"}):
        return Result(topic, notebook, number, text, figure_html(as_svg(drawn)))


def _curve(ax: Any) -> tuple[str, str]:
    """Draw a result on axes; returns its number and what that means."""
    recording = Recording.shipped("report")
    steady = recording.steady
    times = steady.stage_ns(Stage.SYNCHRONIZE)[: len(steady) // _BLOCK * _BLOCK].reshape(-1, _BLOCK) / 1e6
    frames = np.arange(len(times)) * _BLOCK
    ax.plot(frames, np.median(times, axis=1), color=STAGE_COLOURS[Stage.SYNCHRONIZE], linewidth=1.4)
    pinned = float(np.argmax(steady.columns["pinned"]))
    ax.axvspan(pinned, frames[-1], color=MEMORY_COLOURS["pinned"], alpha=0.12, linewidth=0)
    ax.text(pinned, 1, " pinned", transform=ax.get_xaxis_transform(), va="top", size=8)
    ax.set(ylim=(0, 36), xlim=(0, frames[-1]), xticks=[])
    ax.set_ylabel("ms", size=8)
    alone, beside = (causes.report_levels(recording)[others, False]["cudaStreamSynchronize"] for others in (0, 20))
    text = "Synchronize in the public report's loop, alone on an H200 and beside twenty other processes."
    return f"{alone:.3f} → {beside:.1f} ms", text


def _wait(ax: Any) -> tuple[str, str]:
    seen = nsight.attribute(nsight.shipped_trace("report-b"))
    waits = {wait: float(np.median(seen.waits_ns(wait)[3:])) / 1e6 for wait in nsight.WAITS}
    left = 0.0
    names = {"nothing": "nothing of this loop", "kernels": "its kernels"}
    for wait, value in sorted(waits.items(), key=lambda each: -each[1]):
        ax.barh([0], [value], left=left, color=WAIT_COLOURS[wait])
        if value > 1:
            ax.text(left + value / 2, 0, names.get(wait, wait), ha="center", va="center", size=8, color="#111111")
        left += value
    ax.set(yticks=[], xlim=(0, None), ylim=(-0.9, 0.9))
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("ms of one synchronize", size=8)
    whole = float(np.median(seen.frames["synchronize_ns"][3:])) / 1e6
    text = "of a synchronize beside twenty, traced: the GPU does nothing for this loop. Its kernels take "
    return f"{waits['nothing']:.1f} of {whole:.1f} ms", f"{text}{waits['kernels']:.2f} ms, as ever."


def _served(ax: Any) -> tuple[str, str]:
    levels = causes.camera_levels(Recording.shipped("cameras"))
    for pinned, memory in enumerate(("pageable", "pinned")):
        threads = [count for count, kind in levels if kind == pinned]
        rates = [levels[count, bool(pinned)]["frames/s"] for count in threads]
        ax.plot(threads, rates, "o-", color=MEMORY_COLOURS[memory], markersize=3)
        side, gap = (("top", -300), ("bottom", 300))[pinned]
        ax.text(threads[-1], rates[-1] + gap, memory, ha="right", va=side, size=8)
    ax.set(xticks=[1, 2, 4, 8], ylim=(0, 6_500))
    ax.set_xlabel("cameras", size=8)
    ax.set_ylabel("frames/s", size=8)
    curve = causes.report_levels(Recording.shipped("report"))
    text = f"On the report's curve, {curve[20, False]['frame']:.1f} → {curve[20, True]['frame']:.1f} ms a frame."
    gain = levels[8, True]["frames/s"] / levels[8, False]["frames/s"]
    return f"{gain:.1f} times the frames", f"with eight cameras in one process. {text}"


def _rungs(ax: Any) -> tuple[str, str]:
    frame_us = {each.rung.label.partition(" ")[0]: each.together.frame_us for each in Ladder.shipped().steps}
    times = list(frame_us.values())
    ax.bar(list(frame_us), times, color=STAGE_COLOURS[Stage.WAIT])
    for place, time_us in enumerate(times):
        ax.text(place, time_us, f"{time_us:,.0f}", ha="center", va="bottom", size=7)
    ax.set_xlabel("rung, us a frame", size=8)
    ax.set(yticks=[])
    ax.spines["left"].set_visible(False)
    text = f"a 1080p frame, on {len(frame_us)} rungs, of which pinned memory is one."
    return f"{times[0]:,.0f} → {times[-1]:,.0f} us", text


_RESULTS = (
    ("The report's curve", "01_reproduce", _curve),
    ("Where the wait goes", "04_nsight", _wait),
    ("What pinned memory buys", "03_pinned_fix", _served),
    ("How fast it can be", "07_speed_of_light", _rungs),
)
