"""What the bill says of loops made up to show one thing each: proven, possible, excluded, and by which number."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from samples import sampled
from series import STEADY, loop, only, ramp, start_and_end, step

from yolotrt_lab import diagnose
from yolotrt_lab.cli import main
from yolotrt_lab.diagnose import Measured, as_html, bill, compare, join
from yolotrt_lab.diagnose.accounts import Fix, Judged
from yolotrt_lab.diagnose.explanations import ALL_ALONG, EXPLANATIONS
from yolotrt_lab.diagnose.look import Look, ms
from yolotrt_lab.errors import MeasurementsError
from yolotrt_lab.packages import lab_path
from yolotrt_lab.types import Cause

SCHEMA = json.loads((Path(diagnose.__file__).parent / "schema.json").read_text(encoding="utf-8"))
PAGEABLE = {"input": "pageable", "output": "pinned"}
N = 1_000


def because(found, cause):
    return next(each.because for each in found.causes if each.cause == cause)


def fix(found, name):
    return next(each for each in found.fixes if each.fix == name)


def test_a_flat_loop_is_steady_and_no_all_clear():
    found = bill(loop(telemetry=STEADY))
    assert (found.steady, found.grew, found.proven) == (True, (), ())
    assert Cause.ALLOCATION in found.possible
    assert found.verdict("shared_gpu") == "excluded"


def test_two_loops_in_turns_are_not_steady():
    in_turns = np.where(np.arange(800) // 100 % 2, 0.006, 2.0)
    assert bill(only(loop(800, upload=in_turns), "upload", "infer", "synchronize")).steady is None


def test_what_rises_after_it_fell_rises_where_it_does():
    fell_first = np.repeat([9.0, 5.0, 9.5], [300, 200, 300])
    found = bill(only(loop(800, upload=fell_first), "upload"))
    (grew,) = found.grew
    assert (grew.shape, round(grew.from_ms), round(grew.to_ms, 1)) == ("wave", 5, 9.5)
    assert grew.since == pytest.approx(500, abs=15)
    assert "upload goes up and down, from" in str(found)


def test_where_a_frame_goes_adds_up():
    found = bill(loop(period_ms=1.6))
    late = {each.stage: each.late_ms for each in found.spent}
    stages = sum(late[name] for name in ("preprocess", "upload", "infer", "download", "synchronize"))
    assert late["frame"] == pytest.approx(stages + late["in no column"], rel=0.02)
    assert late["latency"] == pytest.approx(late["frame"] + late["beyond the stages"], rel=0.02)


def test_an_overload_is_proven_by_the_upload_being_longer_than_a_frame_is_too_long_by():
    found = bill(loop(period_ms=1.4, memory=PAGEABLE))  # a frame takes 1.512 ms, 0.3 of them in the upload call
    assert found.proven == (Cause.QUEUEING, Cause.PAGEABLE_OVERLOAD)
    assert "0.112 ms too long" in because(found, "queueing")
    assert found.at_most_ms("pinned_input") == pytest.approx(0.3, rel=0.02)
    assert fix(found, "pinned_input").because.endswith("it ends the queue")
    assert fix(found, "cuda_graph").because.endswith("it does not end the queue")


def test_a_fix_that_takes_less_off_a_frame_than_it_is_too_long_by_does_not_end_the_queue():
    stages = {"preprocess": 14.9, "upload": 0.3, "infer": 0.2, "synchronize": 0.3}
    found = bill(loop(period_ms=15.0, memory=PAGEABLE, **stages))  # 15.4 without the upload
    assert found.proven == (Cause.QUEUEING,)
    assert found.verdict("pageable_overload") == "possible"
    assert fix(found, "pinned_input").because.endswith("it does not end the queue")


def test_without_instants_latency_beyond_the_stages_may_be_a_queue_or_work_that_no_column_covers():
    names = ("latency", "preprocess", "upload", "infer", "download", "synchronize", "postprocess")
    queued = only(loop(period_ms=1.3), *names)
    slower = only(loop(), *names)
    slower = replace(slower, times_ns=slower.times_ns | {"latency": slower.times_ns["latency"] + ramp(N, 0, 3e8)})
    for measured in (queued, slower):
        found = bill(measured)
        assert found.proven == ()
        assert found.verdict("queueing") == found.verdict("pageable_overload") == "possible"
        assert because(found, "queueing").endswith("a queue, or work that no column covers")
        assert "clock:" not in str(found)
        assert not any("too long" in each.because for each in (*found.causes, *found.fixes) if "if" not in each.because)


def test_a_service_that_gets_slower_is_billed_where_it_is_slow():
    found = bill(loop(period_ms=10.0, preprocess=step(N, 6.0, 9.0, 0.3), synchronize=2.0, upload=0.0))
    assert found.proven == (Cause.QUEUEING,)
    assert "a frame is 1.0" in because(found, "queueing")
    assert "a frame every 11.0 ms or more" in fix(found, "fewer_frames").because


def test_overlap_takes_no_more_off_a_frame_than_the_frame_has():
    stages = {"preprocess": np.full(N, 4e6), "upload": np.full(N, 3e6), "synchronize": np.full(N, 5e6)}
    found = bill(Measured("frames", "a test", stages | {"frame": np.full(N, 6e6)}))
    assert found.at_most_ms("overlap") == pytest.approx(2.0)
    assert "add up to 12 ms, more than the frame of 6 ms" in fix(found, "overlap").because


def test_one_long_stall_of_a_stage_excludes_neither_it_nor_the_queue_behind_it():
    stalled = np.where(np.arange(N) == 400, 400.0, 3.0)
    found = bill(loop(period_ms=8.0, preprocess=stalled, synchronize=2.0))
    assert found.verdict("preprocess") == "possible"
    assert because(found, "preprocess").startswith("preprocess takes up to ")
    assert "in one frame" in because(found, "preprocess")
    assert because(found, "queueing").startswith("latency holds up to 3")


def test_a_longer_wait_without_telemetry_leaves_four_causes_and_the_command():
    found = bill(loop(synchronize=step(N, 0.06, 0.3)))
    assert found.proven == ()
    assert {Cause.SHARED_GPU, Cause.CLOCK_DROP, Cause.HEAT, Cause.LEAK} <= set(found.possible)
    assert any("--query-gpu=" in each for each in found.next)


def test_a_synchronize_of_microseconds_behind_a_long_download_is_a_moved_wait():
    found = bill(only(loop(download=20.0, synchronize=0.003, infer=1.5), "upload", "infer", "download", "synchronize"))
    assert found.proven == (Cause.MOVED_WAIT,)
    assert found.at_most_ms("pinned_output") is None
    assert "the network's" in fix(found, "pinned_output").because


def test_spikes_leave_causes_possible():
    spiked = np.where(np.random.default_rng(1).random(N) < 0.02, 12.0, 0.7)
    found = bill(loop(preprocess=spiked))
    assert found.proven == ()
    assert {Cause.ALLOCATION, Cause.HOST_CONTENTION} <= set(found.possible)
    assert found.steady is False
    frame = next(each for each in found.stalls if each.stage == "frame")
    assert frame.frames == pytest.approx(20, abs=8)
    assert frame.share > 0.1


def test_slow_first_frames_are_a_warm_up_and_a_late_step_down_is_none():
    slow = bill(loop(synchronize=np.where(np.arange(N) < 5, 40.0, 0.5)))
    assert slow.proven == (Cause.WARM_UP,)
    late = bill(loop(synchronize=step(N, 18.0, 0.06, 0.7)))
    assert late.verdict("warm_up") == "excluded"
    assert {each.stage for each in late.fell} == {"latency", "frame", "synchronize"}
    assert late.steady is False


def test_the_five_numbers_of_the_public_report_exclude_a_moved_wait_and_leave_clocks_and_contention():
    numbers = {"synchronize": (0.004, 24), "upload": (0.3, 1.4), "preprocess": (1.2, 1.2)}
    found = bill(start_and_end(**numbers))
    assert found.verdict("moved_wait") == "excluded"
    assert found.verdict("queueing") == "not_measured"
    assert found.verdict("pageable_overload") == "possible"
    assert {found.verdict(cause) for cause in ("clock_drop", "shared_gpu", "heat")} == {"possible"}
    assert found.at_most_ms("pinned_input") == pytest.approx(1.4)
    assert found.proven == ()
    assert {each.stage: each.to_ms for each in found.grew} == {"synchronize": 24, "upload": 1.4}


@pytest.mark.parametrize("waits", [(0.004, 24), (0.004, 12, 24), (0.004, 2.1, 9, 24, 24), np.linspace(0.004, 24, 20)])
def test_few_rows_that_climb_are_a_start_and_an_end_and_say_that_they_are_few(waits):
    n = len(waits)
    found = bill(only(loop(n, noise=0, synchronize=np.array(waits), preprocess=1.2), "preprocess", "synchronize"))
    [grew] = found.grew
    assert grew.stage == "synchronize"
    assert (found.verdict("moved_wait"), found.verdict("warm_up"), found.verdict("shared_gpu")) == (
        "excluded",
        "excluded",
        "possible",
    )
    assert because(found, "moved_wait") == f"synchronize itself waits {ms(grew.to_ms)}"
    assert str(found).startswith(f"{n} frames, too few rows to tell; synchronize grew most")
    assert found.proven == ()


@pytest.mark.parametrize("rows", sampled([3, 5, 8], [5]))
def test_few_rows_that_wander_hardly_ever_grow_or_fall(rows):
    wandering = (np.random.default_rng(seed).lognormal(1.6, 0.3, rows) for seed in range(50))
    bills = [bill(only(loop(rows, noise=0, synchronize=each), "synchronize")) for each in wandering]
    assert sum(bool(each.grew or each.fell) for each in bills) <= 3


def test_a_clock_that_falls_is_named_whether_or_not_the_wait_grows():
    for wait in (0.5, ramp(N, 0.1, 9)):
        found = bill(loop(synchronize=wait, telemetry={"sm_clock_mhz": ramp(N, 1980, 405)}))
        assert "the SM clock goes down to 405 of 1,980 MHz" in because(found, "clock_drop")


def test_stalls_of_synchronize_speak_for_a_gpu_that_others_use():
    found = bill(loop(synchronize=np.where(np.arange(N) % 100 == 50, 60.0, 1.8)))
    for cause in ("shared_gpu", "shared_stream", "clock_drop"):
        assert because(found, cause).startswith("synchronize takes up to 6")


def test_causes_of_which_the_same_is_said_stand_under_it():
    text = str(bill(only(loop(synchronize=ramp(N, 0.1, 9)), "upload", "infer", "synchronize")))
    [line] = [line for line in text.splitlines() if line.startswith("possible, any of these: ")]
    assert text.count(line.partition(": ")[2].rstrip(":")) == 1
    assert re.search(r"\n  shared_gpu +other processes use this GPU. Fix: ", text.partition(line)[2])


def test_a_graph_that_is_launched_already_is_no_fix():
    assert bill(replace(loop(), graph=True)).at_most_ms("cuda_graph") == 0
    assert bill(loop()).at_most_ms("cuda_graph") > 0


def test_the_share_of_stalls_is_of_the_work_and_not_of_latencies_that_overlap():
    late = bill(loop(period_ms=1.0, preprocess=np.where(np.isin(np.arange(N), (90, 333, 401, 870)), 8.0, 0.7)))
    [stalled] = [each for each in late.stalls if each.stage == "preprocess"]
    assert stalled.share == pytest.approx(4 * 7.3 / (N * 1.5), rel=0.1)


def test_slow_frames_that_come_more_often_are_told():
    rng = np.random.default_rng(11)
    slow = rng.random(N) < np.linspace(0.05, 0.25, N)
    found = bill(Measured("frames", "a test", {"infer": rng.normal(8, 0.1, N) * 1e6 + slow * 8e6}))
    first, second = (int(half.sum()) for half in np.array_split(slow, 2))
    assert (
        f"no level grew; infer stalled more often in the second half of the run ({second} frames, before {first})"
        in (" ".join(str(found).split()))
    )
    assert found.stalls[0].second_half == second


def test_slow_frames_that_come_by_chance_are_rarely_said_to_come_more_often():
    rng, times = np.random.default_rng(5), 0
    for _ in range(60):
        slow = rng.random(400) < 0.1
        found = bill(Measured("frames", "a test", {"frame": rng.normal(8, 0.1, 400) * 1e6 + slow * 8e6}))
        times += "more often in the second half" in str(found)
    assert times <= 1


def test_a_rule_says_what_lacks():
    assert because(bill(only(loop(), "preprocess", "infer")), "host_contention") == (
        "needs a call that waits for the GPU, such as synchronize"
    )
    short = bill(only(loop(9), "preprocess", "synchronize"))
    assert because(short, "preprocess") == because(short, "host_contention") == "needs a series of 24 frames or more"


def test_telemetry_needs_the_time_of_day_in_the_log_that_lacks_it():
    frames, gpu = loop(), Measured("telemetry", "", telemetry={"sm_clock_mhz": np.ones(9)}, clock_ns=np.arange(9))
    with pytest.raises(MeasurementsError) as error:
        join(replace(frames, origin="mine.log"), gpu)
    assert str(error.value).startswith("mine.log: rows must have time stamps")
    assert "in front of each frame" in str(error.value)
    grows = bill(replace(loop(synchronize=ramp(N, 0.1, 9)), telemetry={}))
    assert any(each.startswith("print the time of day in front of each frame") for each in grows.next)


def test_a_wait_that_grows_is_no_moved_wait_without_a_download_call():
    grows = bill(only(loop(synchronize=ramp(N, 0.004, 24)), "upload", "infer", "synchronize"))
    assert grows.verdict("moved_wait") == "excluded"
    never = bill(only(loop(synchronize=0.004), "upload", "infer", "synchronize"))
    assert never.verdict("moved_wait") == "possible"


LOOPS = {
    "nothing": loop(300),
    "overload": loop(300, period_ms=1.4, memory=PAGEABLE),
    "one column": only(loop(300, synchronize=ramp(300, 0.1, 0.5)), "synchronize"),
    "short": loop(9),
    "one frame": loop(1),
    "zeros": only(loop(300, synchronize=0.0), "synchronize"),
    "summary": Measured(
        "summary", "trtexec log", facts={"enqueue": 7.87, "gpu_compute": 7.14, "h2d": 0.01}, export="run"
    ),
    "telemetry": Measured("telemetry", "dmon", telemetry={"sm_clock_mhz": ramp(40, 1980, 990)}),
    "unknown names": Measured(
        "frames", "a test", {"tot": ramp(40, 5e7, 9e7), "net": ramp(40, 4e7, 8e7), "x": np.ones(40)}
    ),
}


@pytest.mark.parametrize("name", sampled(LOOPS, every=2))
def test_json_is_as_the_schema_says_and_all_parts_say_the_same(name):
    from jsonschema import Draft202012Validator

    found = bill(LOOPS[name])
    values = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    Draft202012Validator(SCHEMA).validate(values)
    text = " ".join(str(found).split())
    for each in (*found.causes, *found.fixes) if found.frames else ():
        assert each.because.removeprefix("not measured: ").removesuffix(f"; {ALL_ALONG}") in text
    assert all(
        command in str(found).splitlines() or f"  {command}" in str(found).splitlines() for command in found.next
    )


@pytest.mark.parametrize(("name", "drawn"), [("overload", 1), ("zeros", 0), ("summary", 0)])
def test_a_page_holds_what_it_shows(name, drawn):
    page = as_html(bill(LOOPS[name]), LOOPS[name])
    assert page.count("<svg") == page.count("</svg>") == drawn
    assert "<script" not in page
    assert not re.search(r"(src|href)=\"(?!#|data:)", page)


def test_the_schema_knows_every_cause_and_fix():
    causes = SCHEMA["properties"]["causes"]["items"]["properties"]["cause"]["enum"]
    assert causes == [str(each.cause) for each in EXPLANATIONS]
    assert set(causes) | {"none"} == set(Cause)
    fixes = SCHEMA["properties"]["fixes"]["items"]["properties"]["fix"]["enum"]
    assert fixes == [each.fix for each in bill(loop(40)).fixes]
    assert Judged.__slots__ == ("cause", "verdict", "because")
    assert Fix.__slots__ == ("fix", "at_most_ms", "because")


def test_times_are_finite():
    with pytest.raises(MeasurementsError, match="times must be finite, got 'infer' with nan"):
        Measured("frames", "a test", {"infer": np.array([1.0, np.nan])})


def test_what_is_no_series_of_frames_says_what_it_is():
    text = str(bill(LOOPS["summary"]))
    assert text.startswith("trtexec log: a summary")
    assert "enqueue takes 7.87 ms, the GPU 7.14 ms" in text
    found = bill(LOOPS["telemetry"])
    assert found.notes == ("sm_clock_mhz goes from 990 to 1,980",)
    assert {each.verdict for each in found.causes} == {"not_measured"}


def test_a_column_that_was_not_read_leaves_steady_open():
    measured = loop(300)
    assert bill(measured).steady is True
    unread = Measured("frames", "a test", measured.times_ns, unread=("gc_pause",))
    assert bill(unread).steady is None
    assert "gc_pause" in str(bill(unread))


def test_compare_says_what_a_fix_did_against_what_it_could():
    before, after = (bill(loop(300, upload=upload, infer=0.1)) for upload in (0.3, 0.02))
    lines = compare(before, after).splitlines()
    assert any("the frame goes from 1.6" in line and line.endswith(" less") for line in lines)
    [pinned] = [line for line in lines if line.startswith("  pinned input: at most ")]
    assert re.search(r"; upload takes 0.2[78]. ms less$", pinned)
    [graph] = [line for line in lines if line.startswith("  cuda graph: at most ")]
    assert graph.endswith("; infer takes as long as before")  # it was not made
    [overlap] = [line for line in compare(after, before).splitlines() if line.startswith("  overlap: at most")]
    assert re.search(r"; the frame takes 0.2[78]. ms more$", overlap)
    faster = compare(before, bill(loop(300, upload=0.02, preprocess=0.1, synchronize=0.1)))
    [overlap] = [line for line in faster.splitlines() if line.startswith("  overlap: at most")]
    assert overlap.endswith("less; this fix alone can't be the reason")
    queued, served = (bill(loop(300, period_ms=period)) for period in (1.4, 2.0))
    told = re.search(r"fewer frames: at most (3[0-9.]+) ms of latency, of which (3[0-9.]+) ms", compare(queued, served))
    assert float(told[2]) == pytest.approx(float(told[1]), rel=0.06)
    assert any(line.split()[:1] == ["upload"] for line in lines)


def _timed(frames=400, **ms):
    return {name: np.broadcast_to(np.asarray(each, float), frames) * 1e6 for name, each in ms.items()}


STEADY_LOOP = _timed(infer=0.5, synchronize=6)
GREW = ramp(400, 6, 12)
COMPARED = {
    "stages that overlap": (
        _timed(preprocess=4, synchronize=6, frame=10.5), _timed(preprocess=4, synchronize=6, frame=6.1),
        "the frame goes from 10.5 ms to 6.10 ms: 4.40 ms less",
    ),
    "all of what grew": (
        _timed(infer=0.5, synchronize=12 - 6 * np.exp(-np.arange(400) / 20)), STEADY_LOOP,
        r"gpu alone: at most 5\.\d+ ms; the frame takes 6.00 ms less",
    ),
    "less than all that a ramp adds": (
        _timed(infer=0.5, synchronize=GREW), STEADY_LOOP, r"gpu alone: at most 5\.[6-9]\d ms; the frame takes .* less"
    ),
    "stalls": (
        _timed(infer=0.5, synchronize=np.where(np.arange(400) % 20, 6.0, 60.0)), STEADY_LOOP,
        "the frame goes from 9.20 ms to 6.50 ms: 2.70 ms less",
    ),
    "a shorter run": (
        _timed(infer=0.5, synchronize=GREW), _timed(100, infer=0.5, synchronize=GREW[:100]),
        "the runs have 400 and 100 frames: in the shorter one less could grow",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPARED)
def test_compare_claims_no_more_than_the_numbers_show(name):
    before, after, says = COMPARED[name]
    told = compare(*(bill(Measured("frames", "a test", times)) for times in (before, after)))
    assert [line for line in told.splitlines() if re.fullmatch(f"  {says}", line)]


def test_compare_says_what_one_call_lost_and_another_takes():
    before, moved, saved = (
        bill(loop(300, upload=u, synchronize=s)) for u, s in ((0.3, 0.5), (0.02, 0.75), (0.02, 0.5))
    )
    [line] = [line for line in compare(before, moved).splitlines() if line.endswith("may only have moved")]
    assert re.fullmatch(r"  upload takes 0.2[78]. ms less, synchronize (0.2[45]. ms) more: up to \1 .*", line)
    assert "only have moved" not in compare(before, saved) + compare(saved, before)


def test_what_was_measured_is_not_asked_for_again():
    slower, smi = {"synchronize": step(N, 0.5, 1)}, "nvidia-smi --query-gpu=timestamp,"
    [command] = [each for each in bill(loop(**slower)).next if each.startswith(smi)]
    assert {"clocks.max.sm", "memory.used", "clocks_throttle_reasons.hw_slowdown"} <= set(command.split()[1].split(","))
    flags = [f"throttle_{each}" for each in ("gpu_idle", "applications_clocks_setting", "sw_power_cap")]
    flags += [f"throttle_{each}" for each in ("hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown")]
    known = STEADY | {"gpu_memory_used_bytes": 1e9, "memory_clock_mhz": 2619.0} | dict.fromkeys(flags, 0.0)
    assert not [each for each in bill(loop(telemetry=known | {"sm_clock_max_mhz": 2e3}, **slower)).next if smi in each]
    lacks = bill(loop(telemetry=known, **slower)).next
    assert [each for each in lacks if each.startswith(smi)] == [f"{smi}clocks.max.sm --format=csv -lms 100 -f gpu.csv"]


def test_what_to_measure_next_is_for_every_shell():
    for explained in EXPLANATIONS:
        assert not re.search(r"&&|[#>|$']", explained.next.replace("--", ""))


def test_a_mean_says_that_it_is_one():
    found = bill(loop(upload=np.where(np.arange(N) % 4, 0.006, 9.0)))
    assert fix(found, "pinned_input").because.startswith("the upload call takes 2.26 ms on average")


def test_names_of_columns_do_nothing_to_a_terminal():
    found = bill(Measured("frames", "a test", {"\x1b[2Jnet": np.full(40, 1e6), "x": np.full(40, 1e6)}))
    assert "\x1b" not in str(found) + compare(found, found)
    assert "?[2Jnet" in compare(found, found)


@pytest.mark.parametrize("width", [60, 72])
def test_a_narrow_terminal_gets_narrow_lines_and_whole_commands(width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["diagnose", str(lab_path("data", "recordings", "h200", "overload.parquet"))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if "--" not in line) == width
    assert "  yolotrt-lab trace capture --out mine -- python loop.py" in lines


@pytest.mark.parametrize(("beside", "rest_ms"), [(True, 0.5), (False, 8.5)])
def test_a_time_of_another_name_is_beside_the_stages_where_these_and_it_add_up(beside, rest_ms):
    rng = np.random.default_rng(3)
    upload, kernels = rng.normal(0.4, 0.02, 200), np.linspace(8, 14, 200) + rng.normal(0, 0.2, 200)
    total = upload + 0.5 + (kernels if beside else 8)
    times = {"frame": total * 1e6, "upload": upload * 1e6, "kernels": kernels * 1e6}
    found = bill(Measured("frames", "a test", times))
    assert next(each.early_ms for each in found.spent if each.stage == "beyond the stages") == pytest.approx(rest_ms)


SHAPES = {
    "flat": lambda level: np.full(400, level),
    "ramp": lambda level: ramp(400, level, 5 * level),
    "falls": lambda level: ramp(400, 5 * level, level),
    "step": lambda level: step(400, level, 3 * level),
    "stalls": lambda level: np.where(np.arange(400) % 61 == 5, 20 * level, level),
    "repeats": lambda level: level * (1 + np.arange(400) % 7),
    "first frames": lambda level: np.where(np.arange(400) < 5, 40 * level, level),
}
series_drawn = st.builds(
    lambda shape, level: SHAPES[shape](level), st.sampled_from(sorted(SHAPES)), st.floats(1e-3, 10)
)
STAGES_DRAWN = ("preprocess", "upload", "infer", "download", "synchronize", "postprocess")


@settings(max_examples=settings().max_examples // 2, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    stages=st.dictionaries(st.sampled_from(STAGES_DRAWN), series_drawn, min_size=1),
    measures=st.sets(st.sampled_from(("frame", "latency", *STAGES_DRAWN)), min_size=1),
    period=st.none() | st.floats(0.5, 20),
    memory=st.dictionaries(st.sampled_from(("input", "output")), st.sampled_from(("pageable", "pinned"))),
    telemetry=st.dictionaries(
        st.sampled_from(("sm_clock_mhz", "gpu_processes", "temperature_c", "throttle_sw_thermal_slowdown")),
        series_drawn,
    ),
    with_instants=st.booleans(),
)
def test_no_part_of_a_bill_contradicts_another(stages, measures, period, memory, telemetry, with_instants):
    measured = loop(400, period_ms=period, memory=memory, telemetry=telemetry, **stages)
    measured = measured if with_instants else replace(only(measured, *measures), memory=memory)
    found = bill(measured)
    verdicts = {each.cause: each.verdict for each in found.causes}
    changed, grew = {each.stage for each in (*found.grew, *found.fell)}, {each.stage for each in found.grew}
    assert not (found.steady and (changed or any(each.share > 0.05 for each in found.stalls)))
    assert not (Cause.WARM_UP in found.proven and {"latency", "frame"} & grew)
    excluded_stages = {"preprocess": "preprocess", "launch_queue": "infer"}
    for cause, stage in excluded_stages.items():
        if verdicts[cause] == "excluded" and "takes" in because(found, cause):
            assert stage not in changed
    look = Look(measured)
    for each in found.fixes:
        whole = "latency" if each.fix == "fewer_frames" else "frame"
        name = whole if whole in look.series else look.whole
        most = max(look[name].highest, look[name].late, look.series[name].max() if whole == "latency" else 0.0)
        assert each.at_most_ms is None or 0 <= each.at_most_ms <= most * 1.001
        assert each.at_most_ms or "it ends the queue" not in each.because
        assert not ("ends the queue" in each.because and verdicts["queueing"] not in ("proven", "possible"))
    bounds = {each.fix: each.at_most_ms for each in found.fixes}
    if verdicts["shared_gpu"] == "excluded":
        assert bounds["gpu_alone"] == 0
    for side, cause in (("input", "pageable_overload"), ("output", "moved_wait")):
        if memory.get(side) == "pinned":
            assert (verdicts[cause], bounds[f"pinned_{side}"]) == ("excluded", 0)
    if verdicts["queueing"] == "excluded":
        assert bounds["fewer_frames"] <= look.service_ms
    assert not (verdicts["moved_wait"] == "proven" and bounds["pinned_output"] is not None)
    late = [each.cause for each in found.causes if re.search(r"is [0-9.,]+ ms too long", each.because)]
    assert set(late) <= set(found.proven)


def test_a_trace_that_is_given_beside_other_frames_is_asked_too(capsys):
    from yolotrt_lab.nsight import shipped_trace

    trace = shipped_trace("plain-pageable")
    found = bill(loop(300), replace(trace, notes=("5 rows are left out",)))
    assert "the trace: 5 rows are left out" in found.notes
    assert found.at_most_ms("cuda_graph") == pytest.approx(0.871, rel=0.01)
    assert main(["compare", "none.csv", "none.csv"]) == 2
    assert "none.csv" in capsys.readouterr().err


def every(k, usual, slow, frames=1_000):
    """Slow in every k-th frame."""
    return np.where(np.arange(frames) % k == 0, slow, usual)


def test_values_of_two_kinds_in_no_order_do_not_grow():
    generator = np.random.default_rng(5)
    jumps = [np.where(generator.random(1_000) < 0.45, 9.0, 0.5) for _ in range(6)]
    assert sum(bool(bill(only(loop(preprocess=each), "preprocess", "infer")).grew) for each in jumps) <= 1


def test_a_spread_that_grows_is_not_steady():
    noise = np.exp(ramp(N, 0.02, 0.5) * np.random.default_rng(5).standard_normal(N))
    assert bill(loop(synchronize=3 * noise)).steady is None


def test_a_growth_too_small_to_be_shown_is_no_bound_of_a_fix():
    for high in (0.52, 0.53, 0.54):
        found = bill(loop(synchronize=ramp(N, 0.5, high)))
        assert bool(found.grew) == (found.at_most_ms("gpu_alone") is not None)


@pytest.mark.parametrize(
    ("late", "steady"),
    [(np.zeros(N), True), (np.where(np.arange(N) % 12 == 5, 22.0, 0) * (np.arange(N) >= 800), None)],
)
def test_a_tail_that_starts_late_is_not_steady(late, steady):
    frame = 8.0 + np.random.default_rng(3).normal(0, 0.05, N) + late
    found = bill(Measured("frames", "a test", {"frame": frame * 1e6}))
    assert found.steady is steady or found.steady is False
    assert (found.steady is True) == (steady is True)
    least = float(re.search(r"could not show a growth of frame by less than ([0-9.]+) ms", str(found))[1])
    means = [part.mean() for part in np.array_split(frame, 5)]
    assert least >= max(0.02 * 8, max(means) - min(means)) * 0.99


def test_frames_that_come_half_as_often_are_told():
    clock = np.cumsum(step(N, 30, 60)) * 1e6
    measured = Measured("frames", "a test", {"infer": np.full(N, 8e6)}, clock_ns=clock)
    found = bill(measured)
    assert [(each.stage, each.from_ms, each.to_ms) for each in found.grew] == [("interval", 30, 60)]
    assert found.steady is False


@pytest.mark.parametrize(("resolution", "at_most"), [(0, 0.3), (1, 1), (0.1, 0.3)])
def test_a_bound_is_no_finer_than_what_the_times_are_told_in(resolution, at_most):
    times = {"upload": 0.3, "synchronize": 8.2, "frame": 11.4}
    noise = np.random.default_rng(3).normal(0, 0.004, (3, 200))
    told = {name: each + some for (name, each), some in zip(times.items(), noise, strict=True)}
    if resolution:
        told = {name: np.floor(values / resolution + 1e-9) * resolution for name, values in told.items()}
    found = bill(Measured("frames", "a test", {name: values * 1e6 for name, values in told.items()}))
    assert at_most - 1e-9 <= found.at_most_ms("pinned_input") <= at_most + 0.11


def test_overlap_is_bounded_by_the_whole_frame_alone():
    stages = {"preprocess": 5.013, "infer": 1.017, "postprocess": 2.011, "synchronize": 4.019}
    times = {name: np.full(200, each * 1e6) for name, each in stages.items()}
    assert bill(Measured("frames", "a test", times)).at_most_ms("overlap") is None
    whole = bill(Measured("frames", "a test", times | {"frame": np.full(200, 20.013e6)}))
    assert whole.at_most_ms("overlap") == pytest.approx(15)


def test_a_queue_that_has_drained_is_in_the_bound_of_fewer_frames():
    slow = np.where((np.arange(N) >= 300) & (np.arange(N) < 420), 9.0, 0.5)
    measured = loop(period_ms=4.0, synchronize=slow)
    found = bill(measured)
    late = (measured.instants_ns["start"] - measured.instants_ns["due"]) / 1e6
    assert found.at_most_ms("fewer_frames") == pytest.approx(late.max())
    assert late[-1] < 1 < late.max()


def test_compare_adds_up_the_same_times_alone():
    names = ("preprocess", "upload", "infer")
    both = [bill(only(loop(300), *names, *more)) for more in (("synchronize",), ())]
    assert "the same times were not measured in both" in compare(*both)


def test_what_is_slow_in_every_fourth_frame_is_billed_by_its_mean():
    found = bill(loop(upload=np.where(np.arange(N) % 4, 0.006, 9.0)))
    assert found.period == 4
    assert found.at_most_ms("pinned_input") == pytest.approx(2.25, abs=0.1)
    assert "within 4 frames" in str(found)


def test_pinned_memory_is_no_fix_for_a_loop_whose_memory_is_pinned():
    found = bill(loop(period_ms=1.15, upload=0.045, memory={"input": "pinned", "output": "pinned"}))
    assert found.at_most_ms("pinned_input") == found.at_most_ms("pinned_output") == 0
    assert found.at_most_ms("fewer_frames") > 10


def test_the_numbers_of_a_verdict_are_those_of_the_loop():
    came = np.arange(N) // 250 * 3
    shared = bill(loop(synchronize=0.06 + came, telemetry=STEADY | {"gpu_processes": came}))
    assert shared.at_most_ms("gpu_alone") == pytest.approx(9, rel=0.02)
    assert "16,000 MB" in because(bill(loop(telemetry={"gpu_memory_used_bytes": ramp(N, 1e9, 1.7e10)})), "device_leak")
    grown = bill(start_and_end(preprocess=(1.2, 1.2), upload=(0.3, 1.4), synchronize=(0.004, 24.0)))
    assert because(grown, "preprocess") == "preprocess accounts for 0 ms of 25.1 ms of growth"
    assert because(grown, "host_contention").endswith("of 24 frames or more")
