"""The pictures of README and the results on top of the report, of recordings and the simulation: `make figures`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib import rc_context

import yolotrt_lab as lab
from scripts.evaluation.held_out import HELD_OUT_SEED
from yolotrt_lab import causes, nsight, page, plots, speed, vision
from yolotrt_lab.detector.scene import SyntheticScene
from yolotrt_lab.files import write_file
from yolotrt_lab.plots.curves import WAIT_COLOURS
from yolotrt_lab.plots.style import MEMORY_COLOURS, STAGE_COLOURS
from yolotrt_lab.simulate.experiments import CopyProbe
from yolotrt_lab.speed.ladder import Ladder
from yolotrt_lab.types import Stage

FRAME_SHOWN = 40  # of each scene
DOCS = Path(__file__).resolve().parent.parent / "docs"
recorded = lab.Recording.shipped


def save(figure: plt.Figure, name: str) -> None:
    """As PNG, without the metadata that would differ from run to run."""
    DOCS.mkdir(exist_ok=True)
    figure.savefig(DOCS / name, dpi=110, metadata={"Software": None})
    plt.close(figure)


def report() -> None:
    """The public report's curve, a frame of each of its stages, and what synchronize waited for."""
    traces = {mark: nsight.shipped_trace(f"report-{mark.lower()}") for mark in "ABC"}
    seen = {mark: nsight.attribute(each) for mark, each in traces.items()}
    waits_ms = {
        mark: {wait: each.waits_ns(wait)[3:].mean() / 1e6 for wait in nsight.WAITS} for mark, each in seen.items()
    }
    save(plots.report_page(recorded("report"), traces, waits_ms), "report.png")


def latency() -> None:
    """The growth and its absence, recorded and simulated."""
    figure, (left, right) = plots.figure(1, 2, height=3.6)
    device = lab.open_device("simulated")
    engine = lab.open_engine(device)
    shown = {}
    for memory, name in (("pageable", "overload"), ("pinned", "overload-pinned")):
        shown[f"{memory}, recorded"] = recorded(name)
        period_us = recorded(name).settings["period_us"]
        shown[f"{memory}, simulated"] = lab.run_scenario(name, device, engine, period_us=period_us)
    plots.latency(left, shown)
    left.set_title("one loop, one clock, two kinds of memory", loc="left")
    plots.stage_bars(right, {"pageable": recorded("overload"), "pinned": recorded("overload-pinned")})
    save(figure, "latency.png")


def steps() -> None:
    """The four loops of notebook 03."""
    figure, ax = plots.figure(1, 1, height=2.6)
    names = {
        "fresh array, pageable": "served-report",
        "in place, pageable": "served-pageable",
        "fresh array, copied into pinned": "served-copied",
        "in place, pinned": "served-pinned",
    }
    plots.stage_bars(ax, {label: recorded(name) for label, name in names.items()})
    save(figure, "steps.png")


def trace() -> None:
    """One upload behind a kernel, pageable and pinned."""
    figure, axes = plots.figure(2, 1, height=1.9, sharex=True)
    for ax, memory in zip(axes, (lab.HostMemory.PAGEABLE, lab.HostMemory.PINNED), strict=True):
        device = lab.open_device("simulated", trace=True)
        CopyProbe(device, memory, 4_915_200).time("h2d", backlog_ns=1_000_000)
        plots.timeline(ax, device.spans, device.source)
        ax.set_title(f"{memory} upload of 4.9 MB behind a kernel of 1 ms", loc="left")
    axes[0].set(xlabel="", xlim=(0, 1_500))
    save(figure, "trace.png")


def nsight_pair() -> None:
    """Two frames of the pageable and of the pinned loop, as Nsight Systems saw them."""
    figure, axes = plots.figure(2, 1, height=2.4)
    pair = {memory: nsight.shipped_trace(f"graph-{memory}") for memory in ("pageable", "pinned")}
    seen = {memory: nsight.attribute(trace).frames for memory, trace in pair.items()}
    begins = {memory: int(frames["start_ns"][20]) for memory, frames in seen.items()}
    lengths = {memory: int(frames["end_ns"][21]) - begins[memory] for memory, frames in seen.items()}
    shown = round(1.02 * max(lengths.values()))
    for ax, (memory, trace) in zip(axes, pair.items(), strict=True):
        plots.timeline(ax, trace, begin_ns=begins[memory], end_ns=begins[memory] + shown, legend=ax is axes[0])
        ax.axvline(lengths[memory] / 1e3, color="black", linewidth=1)
        ax.set_title(memory if ax is axes[0] else f"{memory} (a black line: two frames are over)", loc="left")
        ax.label_outer()
    save(figure, "nsight.png")


def ladder_bounds() -> None:
    """What a frame of each rung asks of each resource, on the H200."""
    climbed = Ladder.shipped()
    figure, ax = plots.figure(1, 1, height=4.6)
    speed.bounds(ax, climbed)
    plots.stamp(figure, climbed.source)
    save(figure, "ladder.png")


def detections() -> None:
    """What the lab's own detector finds in four held-out scenes."""
    detector = lab.open_detector(engine="onnxruntime", confidence=0.4)
    figure, axes = plots.figure(2, 2, width=11, height=3.3)
    for place, ax in enumerate(axes.flat):
        scene = SyntheticScene(HELD_OUT_SEED + place)
        frame = scene.render(FRAME_SHOWN)
        found = detector(frame)
        shown = vision.draw(frame, found, detector.names)
        plots.image(ax, shown, f"scene {HELD_OUT_SEED + place}, frame {FRAME_SHOWN}: {len(found)} boxes")
    figure.supxlabel(
        f"{lab.shipped_model().name} by {detector.engine.label}", size=7.5, color="#555555", x=1, ha="right"
    )
    save(figure, "detections.png")


BLOCK = 25  # frames of which the median is drawn


def results() -> list[dict[str, str]]:
    """The results on the top of the report's page: each a number, what it means, and a small figure."""
    found = []
    for topic, notebook, draw in RESULTS:
        drawn, ax = plots.figure(width=3.4, height=1.45)
        number, text = draw(ax)
        ax.tick_params(labelsize=8)
        ax.grid(False, axis="x")
        with rc_context({"svg.fonttype": "none", "svg.hashsalt": topic}):
            figure = page.figure_html(plots.as_svg(drawn))
        found.append({"topic": topic, "notebook": notebook, "number": number, "text": text, "figure": figure})
    return found


def _curve(ax: Any) -> tuple[str, str]:
    """Draw a result on axes; returns its number and what that means."""
    recording = recorded("report")
    steady = recording.steady
    times = steady.stage_ns(Stage.SYNCHRONIZE)[: len(steady) // BLOCK * BLOCK].reshape(-1, BLOCK) / 1e6
    frames = np.arange(len(times)) * BLOCK
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
    return f"{waits['nothing']:.1f} of {whole:.1f} ms", f"{text}{waits['kernels']:.2f} ms, no more than alone."


def _served(ax: Any) -> tuple[str, str]:
    levels = causes.camera_levels(recorded("cameras"))
    for pinned, memory in enumerate(("pageable", "pinned")):
        threads = [count for count, kind in levels if kind == pinned]
        rates = [levels[count, bool(pinned)]["frames/s"] for count in threads]
        ax.plot(threads, rates, "o-", color=MEMORY_COLOURS[memory], markersize=3)
        side, gap = (("top", -300), ("bottom", 300))[pinned]
        ax.text(threads[-1], rates[-1] + gap, memory, ha="right", va=side, size=8)
    ax.set(xticks=[1, 2, 4, 8], ylim=(0, 6_500))
    ax.set_xlabel("cameras", size=8)
    ax.set_ylabel("frames/s", size=8)
    curve = causes.report_levels(recorded("report"))
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


RESULTS = (
    ("The report's curve", "01_reproduce", _curve),
    ("Where the wait goes", "04_nsight", _wait),
    ("What pinned memory buys", "03_pinned_fix", _served),
    ("How fast it can be", "07_speed_of_light", _rungs),
)


if __name__ == "__main__":
    plt.switch_backend("Agg")
    report()
    latency()
    steps()
    trace()
    nsight_pair()
    ladder_bounds()
    detections()
    write_file(page.RESULTS, json.dumps(results(), indent=1, ensure_ascii=False) + "\n")
