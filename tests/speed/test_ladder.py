"""The ladder on the simulated H200: what its rungs are, what is measured of them, and what is claimed."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import pairwise

import ladder_claims as claims
import numpy as np
import pytest
from ladder_claims import Bench
from toy_engine import ToySource, toy_engine, toy_frame

from yolotrt_lab.device import open_device
from yolotrt_lab.engine import open_engine
from yolotrt_lab.errors import SettingsError
from yolotrt_lab.loop import LoopSettings, run_loop
from yolotrt_lab.packages import shipped_file
from yolotrt_lab.speed.ladder import LINES, RUNGS, Claim, Ladder, climb, open_engines
from yolotrt_lab.speed.ladder_figures import trace_rung
from yolotrt_lab.speed.limits import confidence_for, copy_us, engine_us, figures
from yolotrt_lab.speed.overlap import OverlapSettings
from yolotrt_lab.types import Detections, Source, SourceKind


@pytest.fixture(scope="module")
def bench():
    device = open_device("simulated")
    return Bench(device, open_engines(device, lambda _: None), None, 0.25)


@pytest.fixture(scope="module")
def climbed(bench):
    return climb(bench.device, bench.engines, None, frames=400, progress=lambda _: None)


def test_each_rung_changes_few_settings_of_the_one_below():
    unset = asdict(OverlapSettings())
    settings = [unset | asdict(rung.settings) for rung in RUNGS]
    changed = [{name for name in unset if before[name] != after[name]} for before, after in pairwise(settings)]
    assert changed == [
        {"input_memory", "fill"},
        {"graph"},
        {"overlap", "collect_after"},
        {"gpu_letterbox", "fill"},
        {"gpu_decode"},
        {"contexts", "collect_after", "overlap"},
        {"contexts", "collect_after"},
        {"pixels", "deadline_us", "contexts", "collect_after"},
    ]
    assert [rung.number for rung in RUNGS] == list(range(1, 10))
    assert [rung.batch for rung in RUNGS] == [1] * 7 + [4, 16]


def test_rung_2_is_pinned_memory_alone_and_then_filled_in_place(climbed):
    naive, copied, in_place = (step for step in climbed.steps if step.rung.number < 3)
    assert [step.rung.number for step in climbed.steps] == [rung.number for rung in LINES] == [1, 2, *range(2, 10)]
    assert copied.rung.label == "2 pinned, copied"
    gains = climbed.gains()
    assert gains["2 pinned, copied"] == pytest.approx(naive.together.frame_us / copied.together.frame_us)
    assert gains["2 pinned, in place"] == pytest.approx(copied.together.frame_us / in_place.together.frame_us)
    assert gains["2 pinned, copied"] < 1.05 < 1.3 < gains["2 pinned, in place"]


def test_limits_are_those_of_the_preset(device):
    assert engine_us(device, open_engine(device)) == pytest.approx(400, rel=0.01)
    assert copy_us(device, "upload", 5_000_000) == pytest.approx(101, rel=0.01)
    assert copy_us(device, "download", 5_000_000) == pytest.approx(101, rel=0.01)


def test_every_rung_is_measured_and_none_beats_its_limit(climbed):
    took = {step.rung.number: step.together.frame_us for step in climbed.steps}
    assert took[1] > took[2] > took[3] > took[4] > took[5] > took[7] > took[8] > took[9]
    for step in climbed.steps:
        bounds = {name: us for name, us in step.bounds_us.items() if name != "host"}
        assert step.together.frame_us >= 0.99 * max(bounds.values()), step.rung.name
    bounds = {step.rung.number: step.bound for step in climbed.steps}
    assert [bounds[rung] for rung in (1, 6, 8, 9)] == ["host", "engine", "upload", "engine"]
    asked = {step.rung.number: step.bounds_us["upload"] for step in climbed.steps}
    assert asked[9] == climbed.limits.nv12_upload_us == pytest.approx(asked[8] / 2, rel=0.01)


def test_ladder_is_shown_in_tables(climbed):
    lines = str(climbed.table()).splitlines()
    assert lines[2].split()[:3] == ["1", "naive", f"{climbed.steps[0].together.frame_us:,.1f}"]
    assert lines[-1].startswith("simulated, preset h200")
    best = ["engine at its best rate", f"{climbed.limits.best_engine_us:,.1f}"]
    assert climbed.limits_table().rows[-1] == best
    step = climbed.steps[-1]
    limit = f"{step.limit_us:,.0f} us"
    assert str(step) == f"9 nv12: {step.together.frame_us:,.0f} us a frame, bound by the engine {limit}"


def test_a_rung_that_breaks_is_a_claim_that_fails_and_the_next_is_measured(bench):
    engines = {1: bench.engines[1]}
    found = climb(bench.device, engines, None, frames=20, rungs=[8, 1], progress=lambda _: None)
    assert [step.rung.number for step in found.steps] == [1]
    assert [(claim.name, claim.holds) for claim in found.claims] == [("rung 8 batches: measured to the end", False)]


def test_ladder_is_read_back_from_its_file(climbed, tmp_path):
    peers = {"other": 5.0, "another": "not installed"}
    ladder = replace(climbed, peers=peers, claims=(Claim("rate", 2.0, 1.0, ">=", "x"),))
    path = tmp_path / "ladder.json"
    ladder.save(path, command="measure it")
    assert Ladder.load(path) == ladder
    assert json.loads(path.read_text())["command"] == "measure it"
    replace(ladder, source=Source(SourceKind.LIVE, "a GPU")).save(path)
    assert Ladder.load(path).source == Source(SourceKind.RECORDED, "a GPU")
    with pytest.raises(SettingsError, match="cannot be written"):
        ladder.save(path / "below a file.json")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"limits": {"rates_us": 3}}', "a rung that was not measured"])
def test_file_that_holds_no_ladder_is_refused(climbed, tmp_path, content):
    path = tmp_path / "ladder.json"
    if content.startswith("a rung"):
        values = climbed.as_dict()
        values["rungs"][0]["together"] = None
        content = json.dumps(values)
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"ladder\.json holds no ladder"):
        Ladder.load(path)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"rungs": [1, 12]}, "a rung must be 1 to 9, got 12"), ({"frames": 9}, "must be 10 or more, got 9")],
)
def test_what_cannot_be_measured_is_refused_before_anything_is(device, options, words):
    with pytest.raises(SettingsError, match=words):
        climb(device, {}, None, **options)


def test_a_saved_ladder_has_the_keys_of_the_shipped_one(climbed, tmp_path):
    shipped, path = json.loads(shipped_file("ladders", "bench.json").read_text()), tmp_path / "ladder.json"
    replace(climbed, claims=Ladder.shipped().claims).save(path)
    ours = json.loads(path.read_text())
    assert ours["claims"] == shipped["claims"]
    for here, there in ((ours, shipped), (ours["rungs"][-1], shipped["rungs"][-1])):
        assert here.keys() == there.keys()
        nested = [name for name, value in there.items() if isinstance(value, dict) and name != "peers"]
        assert all(here[name].keys() >= there[name].keys() for name in nested)


def test_trace_of_a_rung_is_a_window_of_its_steady_state():
    spans, source = trace_rung(6, window_us=1_620)
    begin, end = min(span.start_ns for span in spans), max(span.end_ns for span in spans)
    rows = [span.row for span in spans if begin < span.start_ns and span.end_ns < end]
    assert rows.count("upload") >= 3
    assert source.kind is SourceKind.SIMULATED
    assert (end - begin) / 1e3 == pytest.approx(1_620, rel=0.001)


def recording_of(frame_ns):
    """Frames that are done so many nanoseconds after each other, each 7 us after it was due."""
    device, done = open_device("simulated"), np.cumsum(frame_ns)
    found = run_loop(device, open_engine(device), LoopSettings(frames=1, warmup=0))
    columns = {name: np.zeros(len(done), values.dtype) for name, values in found.columns.items()}
    return replace(found, columns={**columns, "due_ns": done - 7_000, "done_ns": done})


def test_figures_are_medians_over_blocks():
    found = figures(recording_of(np.where(np.arange(1_000) < 900, 2_000, 50_000)))
    assert (found.frame_us, found.p50_us, found.p999_us, found.frames) == (2.0, 7.0, 7.0, 1_000)
    assert found.frames_per_second == 500_000


@pytest.mark.parametrize("boxes", [3, 10])
def test_threshold_leaves_about_as_many_boxes_as_asked_for(device, boxes):
    frames = [toy_frame(number) for number in range(4)]
    threshold = confidence_for(device, toy_engine(), frames, boxes)
    count = 0
    for frame in frames:
        best = (frame.max(axis=2)[np.arange(16), np.arange(16)] / np.float32(255)).astype(np.float32)
        count += int((best > threshold).sum())
        assert abs(best - threshold).min() > 1e-4  # in a gap between scores
    assert boxes / 2 <= count / 4 <= 2 * boxes


@pytest.mark.exhaustive
def test_claims_of_speed_and_steadiness_hold_in_the_simulation(bench, climbed):
    claimed = list(claims.measure_claims(bench, climbed, frames=100, long=1_000))
    assert len(claimed) == 13  # none of results, without pixels
    assert [claim.name for claim in claimed if not claim.holds] == []


@pytest.mark.parametrize(
    ("value", "relation", "holds"), [(1.0, "<=", True), (1.01, "<=", False), (1.0, ">=", True), (0.99, ">=", False)]
)
def test_a_claim_compares_in_its_direction(value, relation, holds):
    assert Claim("speed", value, 1.0, relation).holds is holds


@pytest.mark.exhaustive
def test_a_loop_that_falls_behind_its_clock_fails_the_claim(bench, climbed):
    slow = [
        replace(step, together=replace(step.together, frame_us=step.together.frame_us * 0.9)) for step in climbed.steps
    ]
    found = claims.on_a_clock(bench, replace(climbed, steps=tuple(slow)), 600)
    assert [claim.holds for claim in found] == [False] * 4


@pytest.mark.parametrize(("growth_ns", "holds"), [(0, True), (5, False), (-5, True)])
def test_only_latency_that_grows_over_many_frames_fails_the_claim(bench, monkeypatch, growth_ns, holds):
    noise = np.random.default_rng(0).integers(0, 200, 3_000)
    latency = 900_000 + growth_ns * np.arange(3_000) + noise
    made = recording_of(np.full(3_000, 200_000))
    made = replace(made, columns={**made.columns, "due_ns": made.columns["done_ns"] - latency})
    monkeypatch.setattr(claims.OverlappedLoop, "run", lambda loop: made)
    assert next(claims.long_run(bench, 3_000)).holds is holds


@pytest.mark.exhaustive
def test_a_part_that_breaks_is_a_claim_that_fails_and_an_interrupt_keeps_what_was_measured(tmp_path, monkeypatch):
    def breaks(bench, copies):
        yield Claim("first", 1, 2)
        raise RuntimeError("gone")

    def interrupted(bench, frames):
        raise KeyboardInterrupt

    monkeypatch.setattr(claims, "pinned_upload", breaks)
    monkeypatch.setattr(claims, "instruments", interrupted)
    path = tmp_path / "ladder.json"
    with pytest.raises(KeyboardInterrupt):
        claims.main(["--device", "simulated", "--frames", "20", "--long", "200", "--json", str(path)])
    *_, first, broken, long = Ladder.load(path).claims
    assert (first.name, first.holds, long.name) == ("first", True, "200 frames of rung 7: latency grows")
    assert broken == Claim("pinned uploads: measured to the end", 0, 1, ">=", "RuntimeError: gone")


def detections(*boxes, kind=0):
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.ones(len(boxes)), np.full(len(boxes), kind))


BOX, HALF, OTHER, FLAT = (0, 0, 10, 10), (0, 0, 10, 5), (50, 50, 60, 60), (0, 5, 9, 5)


@pytest.mark.parametrize(
    ("found", "expected", "agreement"),
    [
        (detections(), detections(), 1.0),
        (detections(BOX), detections(), 0.0),
        (detections(BOX), detections(HALF), 0.5),
        (detections(BOX, kind=1), detections(BOX), 0.0),
        (detections(BOX, OTHER), detections(OTHER, BOX), 1.0),
        (detections(BOX, OTHER), detections(BOX, BOX), 0.0),
        (detections(FLAT, FLAT), detections(FLAT, FLAT), 1.0),
    ],
)
def test_agreement_is_the_smallest_overlap_of_pairs(found, expected, agreement):
    assert claims._agreement(found, expected) == pytest.approx(agreement)


@pytest.fixture
def toy_bench(device):
    side = 256  # room for the patch of the checked frames
    frames = [np.random.default_rng(number).integers(0, 256, (side, 320, 3), np.uint8) for number in range(2)]
    return Bench(device, {batch: toy_engine(batch) for batch in (1, 4, 16)}, frames, 0.5)


def test_results_that_are_their_frames_hold_and_mixed_up_ones_do_not(toy_bench, monkeypatch):
    (claim,) = claims.own_results(toy_bench, frames=60, kinds=8)
    assert claim.holds
    assert claim.detail == "8 of 8 kinds can be told apart"
    results = claims._results

    def swapped(*arguments, **changes):
        found = results(*arguments, **changes)
        return found if len(found) == 8 else [found[1], found[0], *found[2:]]

    monkeypatch.setattr(claims, "_results", swapped)
    assert next(claims.own_results(toy_bench, frames=60, kinds=8)).value == 2


class Frames(ToySource):
    """In place of the scene, which takes its time."""

    def __init__(self):
        super().__init__(1_000)
        self.render = toy_frame


@pytest.mark.exhaustive
def test_boxes_of_the_rungs_are_compared_with_the_naive_loops(toy_bench, monkeypatch):
    monkeypatch.setattr(claims, "SyntheticScene", Frames)
    monkeypatch.setattr(claims, "_trained", lambda bench, _: bench)
    found = list(claims.box_claims(toy_bench, 1e9, frames=6))
    assert [claim.value for claim in found] == [0] * 11 + [pytest.approx(5e-4, abs=5e-4)]
    assert "smallest IoU 1.0000" in found[0].detail
    names = [found[place].name for place in (7, 8, 9, 10)]
    assert names[0] == "rung 9 in fp32: frames of 6 whose boxes are not the same loop's in BGR"
    assert names[1].startswith("rung 8 in fp16: frames whose boxes are not rung 1's, against")
    assert names[2] == "batches of 16 in fp32: frames of 6 whose boxes are not those of batches of 4"
    assert names[3].startswith("batches of 16 in fp16: frames whose boxes are not fp32's, against those of batches")
    assert found[8].detail == "0 and 0 of 6"


def scored(*scores, box=BOX):
    """Boxes side by side with these scores."""
    boxes = np.array([box] * len(scores), np.float32) + 100 * np.arange(len(scores))[:, None]
    return Detections(boxes, np.array(scores, np.float32), np.zeros(len(scores), np.int64))


def test_batches_of_sixteen_may_be_as_far_from_fp32_as_batches_of_four():
    """Each loses a box at the threshold: sixteen in two of three frames, four in one, so twice as many."""
    both, weak = scored(0.8, 0.255), scored(0.79)
    by_16, by_4 = {"fp16": [both, weak, weak], "fp32": [both] * 3}, {"fp16": [weak, both, both], "fp32": [both] * 3}
    same, fp16 = claims._batch_claims(by_16, by_4, 0.25)
    assert (same.value, same.holds, fp16.value, fp16.holds) == (0, True, 2.0, False)
    assert (
        same.detail
        == "scores differ by 0 at most; 0 boxes have no partner, 0 of them with a score that near the threshold"
    )
    expected = "scores differ by 0.01 at most; 3 boxes have no partner, 3 of them with a score that near the threshold"
    assert fp16.detail == f"2 and 1 of 3, 3 between the two: {expected}"
    far, near = (
        {"fp16": [both] * 2, "fp32": [scored(0.8), both]},
        {"fp16": [both] * 2, "fp32": [scored(0.8, 0.3), both]},
    )
    lost, kept = claims._batch_claims(far, near, 0.25)
    assert (lost.value, lost.holds) == (1, False)
    assert lost.detail.endswith("1 boxes have no partner, 0 of them with a score that near the threshold")
    assert (kept.value, kept.holds) == (0.0, True)
