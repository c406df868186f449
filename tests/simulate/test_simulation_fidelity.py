"""The simulation held against measurements: the copy table of an H200, and the recordings that ship with the lab."""

from __future__ import annotations

import csv
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from samples import sampled

from yolotrt_lab.device import open_device
from yolotrt_lab.engine import open_engine
from yolotrt_lab.loop import LoopSettings, run_loop
from yolotrt_lab.packages import lab_path
from yolotrt_lab.recording import Recording
from yolotrt_lab.simulate.experiments import measure_copies
from yolotrt_lab.speed.ladder import RUNGS, Ladder, climb, open_engines
from yolotrt_lab.speed.limits import engine_us, figures
from yolotrt_lab.types import Stage

COPY_TABLE = Path(__file__).parents[1] / "data" / "copy-semantics.csv"
CALLS = (Stage.PREPROCESS, Stage.UPLOAD, Stage.INFER, Stage.DOWNLOAD, Stage.SYNCHRONIZE)


def test_copy_table_of_an_h200_is_reproduced():
    """96 rows: median error at most 15 %, and none off by more than 60 % and 30 us both."""
    with COPY_TABLE.open() as file:
        measured = {
            (row["direction"], row["host_memory"], int(row["bytes"]), round(float(row["backlog_ms"]) * 1e6)): row
            for row in csv.DictReader(file)
        }
    columns = measure_copies(open_device("simulated")).columns
    keys = list(
        zip(*(columns[name].tolist() for name in ("direction", "host_memory", "bytes", "backlog_ns")), strict=True)
    )
    assert len(measured) == len(keys) == 96
    for name in ("call", "sync"):
        truth_us = np.array([float(measured[key][f"{name}_us"]) for key in keys])
        off_us = abs(columns[f"{name}_ns"] / 1e3 - truth_us)
        error = off_us / truth_us
        assert np.median(error) <= 0.15
        assert not ((error > 0.6) & (off_us > 30)).any()


@pytest.mark.parametrize("name", ["overload", "overload-pinned", "clocked", "clocked-fixed"])
def test_recorded_loop_on_a_clock_is_reproduced(name):
    """At the recording's settings: latency at frame 1,000 within 15 %, each stage's median within 15 % or 15 us."""
    recorded = Recording.load(lab_path("data", "recordings", "h200", f"{name}.parquet"))
    device = open_device("simulated")
    known = {field.name for field in fields(LoopSettings)}
    settings = LoopSettings(**{key: value for key, value in recorded.settings.items() if key in known})
    simulated = run_loop(device, open_engine(device), settings)
    latency_ns = [int(each.steady.latency_ns[990:1010].mean()) for each in (simulated, recorded)]
    for stage in CALLS:
        ours, theirs = (float(np.median(each.steady.stage_ns(stage))) for each in (simulated, recorded))
        assert abs(ours - theirs) <= max(0.15 * theirs, 15_000), stage
    assert latency_ns[0] == pytest.approx(latency_ns[1], rel=0.15)


# Measured on one H200 with an independent program (2026-11-23): 1080p frames in pinned memory to boxes in pinned
# memory, one graph a frame, by contexts: microseconds a frame and milliseconds of latency. The engine alone: 388 us.
FRAMES_IN_FLIGHT = {1: (541, 0.54), 2: (313, 0.62), 3: (242, 0.72), 4: (210, 0.84), 6: (195, 1.17), 12: (196, 2.34)}


@pytest.mark.parametrize("contexts", sampled(FRAMES_IN_FLIGHT, [1, 4]))
def test_contexts_in_flight_gain_what_they_gained_on_an_h200(contexts):
    """A frame's time and its latency, each against the engine alone of the same run, within 20 %."""
    device = open_device("simulated")
    engine = open_engine(device)
    settings = replace(RUNGS[6].settings, contexts=contexts, collect_after=contexts - 1, frames=600)
    found, alone_us = figures(run_loop(device, engine, settings)), engine_us(device, engine)
    measured_us, measured_ms = FRAMES_IN_FLIGHT[contexts]
    ratios = [found.frame_us / alone_us * 388 / measured_us, found.p50_us / alone_us * 388 / measured_ms / 1e3]
    assert ratios == pytest.approx([1, 1], abs=0.2)


@pytest.mark.exhaustive
def test_each_rung_of_the_ladder_gains_what_it_gained_on_an_h200():
    """The gain of each rung over the one before it, within 20 %."""
    device = open_device("simulated")
    engines = open_engines(device, lambda _: None)
    simulated = climb(device, engines, None, frames=600, progress=lambda _: None).gains()
    recorded = Ladder.shipped().gains()
    assert recorded.keys() <= simulated.keys()
    for rung, gain in recorded.items():
        assert simulated[rung] == pytest.approx(gain, rel=0.2), rung
