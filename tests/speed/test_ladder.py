"""The ladder on the simulated H200: what its rungs are, what is measured of them, and what is claimed."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import pairwise

import ladder_results as results
import numpy as np
import pytest
from ladder_claims import Bench, attempted
from toy_engine import toy_engine, toy_frame

from yolotrt_lab.detector.scene import SyntheticScene
from yolotrt_lab.device import open_device
from yolotrt_lab.engine import open_engine
from yolotrt_lab.errors import SettingsError
from yolotrt_lab.loop import LoopSettings, make_loop
from yolotrt_lab.recording import Recording
from yolotrt_lab.simulate.simulated import SimulatedDevice
from yolotrt_lab.speed import ladder
from yolotrt_lab.speed.ladder import RUNGS, Claim
from yolotrt_lab.types import Detections, Source, SourceKind

QUIET = {"progress": lambda _: None}


@pytest.fixture(scope="module")
def climbed():
    device = open_device("simulated")
    engines = ladder.open_engines(device, lambda _: None)
    return device, engines, ladder.climb(device, engines, None, frames=400, **QUIET)


def test_each_rung_changes_few_settings_of_the_one_below():
    changed = []
    for below, rung in pairwise(RUNGS):
        before, after = asdict(below.settings), asdict(rung.settings)
        changed.append({name for name in before if before[name] != after[name]})
    assert changed == [
        {"input_memory", "fill"},
        {"graph"},
        {"overlap", "collect_after"},
        {"gpu_letterbox", "fill"},
        {"gpu_decode"},
        {"contexts", "collect_after", "overlap"},
        {"contexts", "collect_after"},
    ]
    assert [rung.number for rung in RUNGS] == list(range(1, 9))
    assert [rung.batch for rung in RUNGS] == [1] * 7 + [RUNGS[-1].batch]
    assert RUNGS[-1].batch > 1


def test_limits_are_those_of_the_preset(preset):
    device = SimulatedDevice(preset)
    assert ladder.engine_us(device, open_engine(device)) == pytest.approx(400, rel=0.01)
    assert ladder.copy_us(device, "upload", 5_000_000) == pytest.approx(101, rel=0.01)
    assert ladder.copy_us(device, "download", 5_000_000) == pytest.approx(101, rel=0.01)


def test_every_rung_is_measured_and_none_beats_its_limit(climbed):
    _, _, found = climbed
    assert [step.rung.number for step in found.steps] == list(range(1, 9))
    frame_us = [step.together.frame_us for step in found.steps]
    assert frame_us[0] > frame_us[1] > frame_us[2] > frame_us[3] > frame_us[4] > frame_us[6] > frame_us[7]
    for step in found.steps:
        bounds = {name: us for name, us in step.bounds_us.items() if name != "host"}
        assert step.together.frame_us >= 0.99 * max(bounds.values()), step.rung.name
    assert found.steps[0].bound == "host"
    assert found.steps[5].bound == "engine"


def test_ladder_goes_into_json_and_tables(climbed):
    _, _, found = climbed
    loaded = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert [rung["name"] for rung in loaded["rungs"]] == [rung.name for rung in RUNGS]
    assert loaded["source"]["kind"] == "simulated"
    lines = str(found.table()).splitlines()
    assert lines[2].split()[:3] == ["1", "naive", f"{found.steps[0].together.frame_us:,.1f}"]
    assert lines[-1].startswith("simulated, preset h200")
    assert "limit for many frames" in str(found.limits_table())


def test_claims_of_speed_and_steadiness_hold_in_the_simulation(climbed):
    device, engines, found = climbed
    bench = Bench(device, engines, None, found.confidence)
    claimed = list(ladder.measure_claims(bench, found, frames=400, long=3_000, **QUIET))
    assert len(claimed) == 11
    assert [claim.name for claim in claimed if not claim.holds] == []


def test_a_claim_compares_in_its_direction():
    assert Claim("at most", 1.0, 1.0).holds
    assert not Claim("at most", 1.01, 1.0).holds
    assert Claim("at least", 1.0, 1.0, at_least=True).holds
    assert not Claim("at least", 0.99, 1.0, at_least=True).holds


def test_a_loop_that_falls_behind_its_clock_fails_the_claim(climbed):
    device, engines, found = climbed
    slow = [
        replace(step, together=replace(step.together, frame_us=step.together.frame_us * 0.9)) for step in found.steps
    ]
    bench = Bench(device, engines, None, 0.25)
    claims = ladder.claims.on_a_clock(bench, replace(found, steps=tuple(slow)), 600)
    assert [claim.holds for claim in claims] == [False] * 3


def test_latency_that_grows_over_many_frames_fails_the_claim(climbed, monkeypatch):
    device, engines, found = climbed
    bench, settings = Bench(device, engines, None, 0.25), Bench.settings
    held = ladder.claims.long_run(bench, 3_000)[0]
    overfed_us = 0.99 * found.steps[6].together.frame_us
    monkeypatch.setattr(Bench, "settings", lambda *one, **more: settings(*one, **more, period_us=overfed_us))
    assert [held.holds, ladder.claims.long_run(bench, 3_000)[0].holds] == [True, False]


def test_figures_are_medians_over_blocks():
    found = ladder.figures(recording_of(np.where(np.arange(1_000) < 900, 2_000, 50_000)))
    assert (found.frame_us, found.p50_us, found.p999_us, found.frames) == (2.0, 7.0, 7.0, 1_000)
    assert found.frames_per_second == 500_000


def recording_of(frame_ns):
    """Frames that are done so many nanoseconds after each other, each 7 us after it was due."""
    done = np.cumsum(frame_ns)
    columns = {name: np.zeros(len(done), np.int64) for name in make_columns()}
    columns |= {"due_ns": done - 7_000, "done_ns": done, "warmup": np.zeros(len(done), bool)}
    return Recording("frames", columns, Source(SourceKind.LIVE))


def make_columns():
    device = open_device("simulated")
    return make_loop(device, open_engine(device), LoopSettings(frames=2, warmup=0)).run().columns


@pytest.mark.parametrize("boxes", [3, 10])
def test_threshold_leaves_about_as_many_boxes_as_asked_for(device, boxes):
    frames = [toy_frame(number) for number in range(4)]
    engine = toy_engine()
    threshold = ladder.confidence_for(device, engine, frames, boxes)
    count = 0
    for frame in frames:
        best = (frame.max(axis=2)[np.arange(16), np.arange(16)] / np.float32(255)).astype(np.float32)
        count += int((best > threshold).sum())
        assert abs(best - threshold).min() > 1e-4  # in a gap between scores
    assert boxes / 2 <= count / 4 <= 2 * boxes


def detections(*boxes, classes=None):
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.ones(len(boxes)), np.array(classes or [0] * len(boxes))
    )


@pytest.mark.parametrize(
    ("found", "expected", "agreement"),
    [
        (detections(), detections(), 1.0),
        (detections((0, 0, 10, 10)), detections(), 0.0),
        (detections((0, 0, 10, 10)), detections((0, 0, 10, 10)), 1.0),
        (detections((0, 0, 10, 10)), detections((0, 0, 10, 5)), 0.5),
        (detections((0, 0, 10, 10), classes=[1]), detections((0, 0, 10, 10)), 0.0),
        (detections((0, 0, 9, 9), (50, 50, 60, 60)), detections((50, 50, 60, 60), (0, 0, 9, 9)), 1.0),
        (detections((0, 0, 9, 9), (50, 50, 60, 60)), detections((0, 0, 9, 9), (0, 0, 9, 9)), 0.0),
        (detections((0, 5, 9, 5), (0, 5, 9, 5)), detections((0, 5, 9, 5), (0, 5, 9, 5)), 1.0),
    ],
)
def test_agreement_is_the_smallest_overlap_of_pairs(found, expected, agreement):
    assert results._agreement(found, expected) == pytest.approx(agreement)


def toy_bench(device):
    side = 256  # room for the patch of the checked frames
    frames = [np.random.default_rng(number).integers(0, 256, (side, 320, 3), np.uint8) for number in range(2)]
    return Bench(device, {1: toy_engine(), 4: toy_engine(4)}, frames, 0.5)


def test_results_that_are_their_frames_hold_and_mixed_up_ones_do_not(device, monkeypatch):
    bench = toy_bench(device)
    claim = results.own_results(bench, frames=60, kinds=8)
    assert claim.holds
    assert claim.detail == "8 of 8 kinds can be told apart"
    shuffled = results._results

    def swapped(*arguments):
        found = shuffled(*arguments)
        return found if len(found) == 8 else [found[1], found[0], *found[2:]]

    monkeypatch.setattr(results, "_results", swapped)
    assert results.own_results(bench, frames=60, kinds=8).value == 2


def test_boxes_of_the_rungs_are_compared_with_the_naive_loops(device, monkeypatch):
    monkeypatch.setattr(results, "SyntheticScene", lambda: SyntheticScene(size=(320, 256)))
    monkeypatch.setattr(results, "_trained", lambda bench, *_: bench)
    claims = results.box_claims(toy_bench(device), 1e9, frames=6, **QUIET)
    assert [claim.value for claim in claims[:7]] == [0] * 7
    assert 0 < claims[7].value < 1e-3
    assert "smallest IoU 1.0000" in claims[0].detail
    assert claims[6].detail == "0 and 0 of 6"


def test_what_batches_change_is_held_against_what_the_precision_changes(device, monkeypatch):
    """Four frames apart in rung 8, two between the precisions: twice as many. In fp32 no rung finds rung 1's."""
    one, other = detections((0, 0, 10, 10)), detections((0, 0, 10, 5))
    found = {("fp16", 1): [one] * 6, ("fp32", 1): [one] * 4 + [other] * 2, ("fp16", 8): [other] * 4 + [one] * 2}
    bench = toy_bench(device)
    monkeypatch.setattr(results, "_trained", lambda _, precision, __: replace(bench, images=precision))
    monkeypatch.setattr(results, "_boxes", lambda trained, rung, _: found.get((trained.images, rung)) or [one] * 6)
    monkeypatch.setattr(Bench, "run", lambda *_, **__: recording_of([2_000] * 1_000))
    monkeypatch.setattr(results, "engine_us", lambda *_: 4.0)
    claims = results.box_claims(bench, 3.0, frames=6, **QUIET)
    assert [claim.value for claim in claims] == [0, 0, 4, 2, 2, 2, 2.0, 0.5]
    assert [claim.holds for claim in claims] == [True, True, False, False, False, False, False, True]
    json.dumps([claim.as_dict() for claim in claims])


def test_without_pixels_there_are_no_results_to_claim():
    assert list(ladder.result_claims(Bench(None, {}, None, 0.25), None, **QUIET)) == []


@pytest.mark.parametrize("rungs", [[0], [9], [1, 12]])
def test_rung_that_there_is_not_is_refused(rungs):
    with pytest.raises(SettingsError, match=f"no rung {rungs[-1]}"):
        ladder.checked_rungs(rungs)


def test_frames_that_are_no_steady_state_are_refused_before_anything_is_measured(preset):
    with pytest.raises(SettingsError, match="9 frames a rung"):
        ladder.climb(SimulatedDevice(preset), {}, None, frames=9, **QUIET)


def test_trace_of_a_rung_is_a_window_of_its_steady_state():
    spans, source = ladder.trace_rung(6, frames=4)
    begin, end = min(span.start_ns for span in spans), max(span.end_ns for span in spans)
    rows = [span.row for span in spans if begin < span.start_ns and span.end_ns < end]
    assert rows.count("upload") >= 3
    assert source.kind is SourceKind.SIMULATED
    assert (end - begin) / 4e3 == pytest.approx(424, rel=0.02)
    with pytest.raises(SettingsError, match="no rung 12"):
        ladder.trace_rung(12)


def test_part_that_breaks_is_a_claim_that_fails_and_the_next_is_measured():
    def breaks():
        yield ladder.Claim("first", 1, 2)
        raise RuntimeError("gone")

    found = list(attempted("a part", breaks))
    assert [(claim.name, claim.holds) for claim in found] == [("first", True), ("a part: measured to the end", False)]
    assert found[1].detail == "RuntimeError: gone"


def test_ladder_is_read_back_from_json(climbed, tmp_path):
    _, _, found = climbed
    found = replace(
        found, peers={"other": 5.0, "another": "not installed"}, claims=(Claim("rate", 2.0, 1.0, True, "x"),)
    )
    path = tmp_path / "ladder.json"
    path.write_text(json.dumps(found.as_dict()), encoding="utf-8")
    assert ladder.Ladder.load(path).as_dict() == found.as_dict()
    live = found.as_dict() | {"source": Source(SourceKind.LIVE, "a GPU").as_dict()}
    path.write_text(json.dumps(live), encoding="utf-8")
    assert ladder.Ladder.load(path).source == Source(SourceKind.RECORDED, "a GPU")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"limits": {"rates_us": 3}}'])
def test_file_that_holds_no_ladder_is_refused(tmp_path, content):
    path = tmp_path / "ladder.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"ladder\.json holds no ladder"):
        ladder.Ladder.load(path)


def test_ladder_with_a_rung_that_was_not_measured_is_refused(climbed, tmp_path):
    _, _, found = climbed
    values, path = found.as_dict(), tmp_path / "ladder.json"
    values["rungs"][0]["together"] = None
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(SettingsError, match=r"ladder\.json holds no ladder"):
        ladder.Ladder.load(path)
