"""Threads with a stream each: held against an H200 by the number of threads, pageable and pinned."""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from samples import sampled

from yolotrt_lab.causes.running import run_scenario
from yolotrt_lab.causes.threads import THREADS
from yolotrt_lab.engine import open_engine
from yolotrt_lab.recording import Recording
from yolotrt_lab.simulate import Preset, SimulatedDevice
from yolotrt_lab.types import Stage

FRAMES = 10
CONFIGURATIONS = [(threads, pinned) for threads in THREADS for pinned in (0, 1)]


def measured():
    """One H200, 2026-11-29, Python threads: by threads and pinned, medians in us and frames a second of all."""
    with (Path(__file__).parents[1] / "data" / "cameras.csv").open() as file:
        return {
            (int(row["threads"]), int(row["pinned"])): {name: float(value) for name, value in row.items()}
            for row in csv.DictReader(file)
        }


OTHER_MACHINE = measured()


def figures(recording):
    columns, found = recording.steady.columns, {}
    for threads, pinned in CONFIGURATIONS:
        chosen = (columns["threads"] == threads) & (columns["pinned"] == pinned)
        span_s = (columns["done_ns"][chosen].max() - columns["start_ns"][chosen].min()) / 1e9
        found[threads, pinned] = {
            **{
                f"{s}_us": float(np.median(columns[f"{s}_ns"][chosen])) / 1e3 for s in (Stage.UPLOAD, Stage.SYNCHRONIZE)
            },
            "frames_per_s": float(chosen.sum() / span_s),
        }
    return found


RECORDED = figures(Recording.shipped("cameras"))


def simulated(measured):
    """On a host whose pageable upload takes as long alone as on the one that was measured."""
    preset = Preset.load("h200")
    rate = 4_915_200 / (1e3 * measured[1, 0]["upload_us"])
    device = SimulatedDevice(replace(preset, pageable_upload=replace(preset.pageable_upload, rate=rate)))
    return run_scenario("cameras", device, open_engine(device), frames=FRAMES)


@pytest.fixture(scope="module")
def recording():
    return simulated(RECORDED)


@pytest.mark.parametrize("machine", sampled([RECORDED, OTHER_MACHINE], every=2), ids=["recorded", "other"])
def test_every_number_of_threads_on_two_h200s_is_reproduced(machine, recording):
    """Throughput, synchronize and the pageable upload call within 20 %; a pinned call takes 20 us at most."""
    found = figures(recording if machine is RECORDED else simulated(machine))
    for configuration in CONFIGURATIONS:
        ours, theirs = found[configuration], machine[configuration]
        assert ours["frames_per_s"] == pytest.approx(theirs["frames_per_s"], rel=0.2), configuration
        assert ours["synchronize_us"] == pytest.approx(theirs["synchronize_us"], rel=0.2), configuration
        if configuration[1]:
            assert max(ours["upload_us"], theirs["upload_us"]) <= 20
        else:
            assert ours["upload_us"] == pytest.approx(theirs["upload_us"], rel=0.2), configuration


def test_pageable_upload_grows_with_each_camera_and_pinned_memory_is_the_cure(recording):
    for found in (RECORDED, figures(recording)):
        assert found[8, 0]["upload_us"] >= 5 * found[1, 0]["upload_us"]
        assert found[8, 1]["upload_us"] <= 3 * found[1, 1]["upload_us"]
        assert found[8, 1]["frames_per_s"] >= 2 * found[8, 0]["frames_per_s"]


def test_one_recording_holds_every_camera_in_the_order_of_the_results(recording):
    columns = recording.columns
    assert (np.diff(columns["done_ns"]) >= 0).all()
    assert recording.settings["threads"] == list(THREADS)
    for threads, pinned in CONFIGURATIONS:
        chosen = (columns["threads"] == threads) & (columns["pinned"] == pinned)
        assert sorted(set(columns["camera"][chosen].tolist())) == list(range(threads))
        for camera in range(threads):
            frames = columns["frame"][chosen & (columns["camera"] == camera)]
            assert frames.tolist() == list(range(-50, FRAMES))


def test_an_error_in_a_thread_is_raised_and_the_switch_interval_set_back(device, monkeypatch):
    before = sys.getswitchinterval()
    monkeypatch.setattr(np, "full", lambda *_: (_ for _ in ()).throw(RuntimeError("no room")))
    with pytest.raises(RuntimeError, match="no room"):
        run_scenario("cameras", device, open_engine(device), frames=2)
    assert sys.getswitchinterval() == before
