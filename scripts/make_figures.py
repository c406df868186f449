"""The pictures of the README, from the recordings and the simulated device: `make figures`."""

from __future__ import annotations

from pathlib import Path

from matplotlib import pyplot as plt

import yolotrt_lab as lab
from scripts.evaluation.held_out import HELD_OUT_SEED
from yolotrt_lab import nsight, plots, speed, vision
from yolotrt_lab.detector.scene import SyntheticScene
from yolotrt_lab.simulate.experiments import CopyProbe
from yolotrt_lab.speed.ladder import Ladder

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


if __name__ == "__main__":
    plt.switch_backend("Agg")
    report()
    latency()
    steps()
    trace()
    nsight_pair()
    ladder_bounds()
    detections()
