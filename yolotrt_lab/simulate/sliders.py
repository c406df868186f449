"""The report's loop under sliders: the three calls over how slow the GPU is, and one frame of it, all computed ahead.

The figure needs no kernel: `explore` runs the simulated device for each setting, and a few lines of JavaScript show the
chosen one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from ..loop import FrameLoop, LoopSettings
from ..plots.curves import CALLS
from ..plots.interactive import WIDE, Interactive, bars_of, bokeh, controls, readable, still_figure, words
from ..plots.style import KERNEL_COLOUR, MEMORY_COLOURS, STAGE_COLOURS
from ..types import Fill, HostMemory, Span, Stage
from .conditions import Clocks, Conditions
from .preset import Preset
from .simulated import SimulatedDevice
from .timed_engine import open_timed_engine

SLOWER = (1, 2, 4, 8, 15, 25, 40, 60)
"""The GPU's part of the network takes so many times as long."""
OUTPUTS = {"0.03 MB (boxes)": 100, "2.8 MB (all cells)": 8_400}
PROCESSES = (0, 4, 12, 20)
INPUTS = (HostMemory.PAGEABLE, HostMemory.PINNED)
GAPS_MS = (0, 20, 100)

_STAGES = (Stage.PREPROCESS, Stage.UPLOAD, Stage.INFER, Stage.DOWNLOAD, Stage.SYNCHRONIZE)
_COLOURS = [colour for _, colour in CALLS.values()]
_GPU_ROWS = {"upload": "copy in", "kernel": "kernels", "download": "copy out"}
_FRAMES, _MODEL = 5, "yolov8n-fp16"
_ASSUMED = Clocks(down_s=0.2, up_s=0.1)  # the lab's governor, in less time: only where it ends is shown
_TITLE = "The report's loop, simulated: three calls over how slow the GPU is, and one frame"
_JS = """
const S = SLOWER.length, chosen = (slider) => slider.categories.indexOf(slider.value);
const setting = ((output.active * P + chosen(processes)) * I + input.active) * G + chosen(gaps);
const at = (slow) => (setting * S + slow) * 16;
const took = (slow, stage) => (bars[at(slow) + 2 * stage + 1] - bars[at(slow) + 2 * stage]) / 1000;
const slow = chosen(slower), all = [...Array(S).keys()], here = at(slow);
const times = [(k) => took(k, 0) + took(k, 1), (k) => took(k, 1), (k) => took(k, 4)];
times.forEach((time, call) => { curves.data["call" + call] = all.map(time); });
curves.change.emit();
dots.data = {...dots.data, x: times.map(() => SLOWER[slow]), y: times.map((time) => time(slow))};
const copy = COPIES[input.active];
frame.data = {...frame.data,
    left: all.slice(0, 8).map((bar) => bars[here + 2 * bar] / 1000),
    right: all.slice(0, 8).map((bar) => bars[here + 2 * bar + 1] / 1000),
    colour: frame.data.colour.map((colour, bar) => bar == 5 ? copy : colour)};
const text = (ms) => ms < 0.1 ? ms.toFixed(3) : ms < 10 ? ms.toFixed(2) : ms.toFixed(1);
const say = (name, ms, colour) => `<span style="white-space: nowrap; margin-right: 1em">`
    + `<span style="color: ${colour}">&#9632;</span> ${name} <b>${text(ms)} ms</b></span>`;
told.text = NAMES.map((name, call) => say(name, times[call](slow), dots.data.colour[call])).join(" ")
    + " " + say("frame", bars[here + 9] / 1000, "transparent");
"""


def explore(preset: str = "h200") -> Interactive:
    """The figure with its sliders: how slow the GPU is, other processes, the gap between frames, output, input.

    The gap lets an assumed governor lower the clock to a fifth. MissingPackageError without Bokeh.

    >>> len(explore()._repr_html_()) < 2_000_000
    True
    """
    models, loaded = bokeh("models"), Preset.load(preset)
    settings = product(OUTPUTS.values(), PROCESSES, INPUTS, GAPS_MS)
    bars = np.array([list(_bars(loaded, *setting)) for setting in settings])  # (settings, slower, 8 bars, 2)
    first = (bars[0, :, :5, 1] - bars[0, :, :5, 0]) / 1e3
    calls = [first[:, 0] + first[:, 1], first[:, 1], first[:, 4]]
    curves = models.ColumnDataSource({"slower": SLOWER, **{f"call{k}": times for k, times in enumerate(calls)}})
    dots = models.ColumnDataSource({"x": [1] * 3, "y": [times[0] for times in calls], "colour": _COLOURS})
    looks = [*(STAGE_COLOURS[stage] for stage in _STAGES), *MEMORY_COLOURS.values()][:6]
    frame = models.ColumnDataSource(
        {
            "row": [0] * len(_STAGES) + [1, 2, 3],
            "name": [*map(str, _STAGES), *_GPU_ROWS.values()],
            "colour": [*looks, KERNEL_COLOUR, MEMORY_COLOURS["pinned"]],
            "left": bars[0, 0, :, 0] / 1e3,
            "right": bars[0, 0, :, 1] / 1e3,
        }
    )
    says = '<span style="color: {}">&#9632;</span> {} <b>{:.3g} ms</b>'
    texts = [says.format(colour, call, times[0]) for call, colour, times in zip(CALLS, _COLOURS, calls, strict=True)]
    told = words(" &nbsp; ".join(texts))
    names = {"curves": curves, "dots": dots, "frame": frame, "told": told, "bars": bars.ravel().tolist()}
    names |= {"P": len(PROCESSES), "I": len(INPUTS), "G": len(GAPS_MS), "SLOWER": SLOWER, "NAMES": [*CALLS]}
    names |= {"COPIES": [MEMORY_COLOURS[each] for each in INPUTS]}
    sliders = {
        "slower": ("the GPU is slower, times", SLOWER, SLOWER[0]),
        "processes": ("other processes on the GPU", PROCESSES, PROCESSES[0]),
        "gaps": ("gap between frames [ms]", GAPS_MS, GAPS_MS[0]),
    }
    buttons = {"input": [f"{each} input" for each in INPUTS], "output": [f"output {each}" for each in OUTPUTS]}
    rows, tooltips = ["host", *(f"GPU {row}" for row in _GPU_ROWS.values())], "@name: @left{0.000} to @right{0.000} ms"
    typical = bars_of(frame, rows, 210, x_axis_label="one frame of it: time [ms]", tooltips=tooltips)
    children = [*controls(_JS, names, sliders, buttons), told, _drawn_calls(curves, dots), typical]
    whole = models.Column(children=children, **WIDE)
    return Interactive(whole, SimulatedDevice(loaded).source.stamp, title=_TITLE, widgets=True)


def _drawn_calls(curves: Any, dots: Any) -> Any:
    drawn = still_figure(260, y_axis_label="host time in the call [ms]")
    drawn.xaxis.axis_label = "the GPU is so many times slower"
    for place, colour in enumerate(_COLOURS):
        drawn.line("slower", f"call{place}", source=curves, color=colour, line_width=2)
    drawn.scatter("x", "y", source=dots, color="colour", size=9)
    drawn.y_range.start = 0
    readable(drawn)
    return drawn


def _bars(
    preset: Preset, boxes: int, processes: int, memory: HostMemory, gap_ms: float
) -> Iterator[list[tuple[int, int]]]:
    """For each of `SLOWER`: begin and end, in us from the frame's begin, of five stages and three rows of the GPU."""
    settings = LoopSettings(
        frames=_FRAMES + (round(400 / gap_ms) if gap_ms else 0),  # the clock falls meanwhile
        warmup=1,
        input_memory=memory,
        fill=Fill.IN_PLACE if memory.page_locked else Fill.FRESH,
    )
    for slower in SLOWER:
        engines = {name: replace(cost, gpu_ns=cost.gpu_ns * slower) for name, cost in preset.engines.items()}
        device = SimulatedDevice(replace(preset, engines=engines), trace=True)
        device.use(Conditions(other_processes=processes, clocks=_ASSUMED if gap_ms else None))
        engine = open_timed_engine(device, _MODEL, None, 1, boxes)
        if gap_ms:
            steady = FrameLoop(device, engine, replace(settings, frames=3)).run().steady.columns
            frame_us = float(np.median(steady["done_ns"] - steady["start_ns"])) / 1e3
            settings = replace(settings, period_us=gap_ms * 1e3 + frame_us)
        FrameLoop(device, engine, settings).run()
        yield _typical(device.spans)


def _typical(spans: Sequence[Span]) -> list[tuple[int, int]]:
    """The bars of the frame of median length among the last."""
    frames = [span for span in spans if span.row == "range" and span.name == "frame"][-_FRAMES:]
    frame = sorted(frames, key=lambda span: span.end_ns - span.start_ns)[_FRAMES // 2]
    inside = [span for span in spans if frame.start_ns <= span.start_ns < frame.end_ns]
    ranges = {span.name: span for span in inside if span.row == "range"}
    rows = {span.row: span for span in inside}
    chosen = [*(ranges[stage] for stage in _STAGES), *(rows[row] for row in _GPU_ROWS)]
    return [
        (round((span.start_ns - frame.start_ns) / 1e3), round((span.end_ns - frame.start_ns) / 1e3)) for span in chosen
    ]
