"""The timeline: what the GPU starts when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolotrt_lab.errors import HazardError
from yolotrt_lab.simulate.machine import Machine
from yolotrt_lab.simulate.preset import Preset
from yolotrt_lab.simulate.timeline import (
    COMPUTE_ENGINE,
    DOWNLOAD_ENGINE,
    NO_ENGINE,
    PENDING,
    UPLOAD_ENGINE,
    Task,
    Timeline,
)


def place_all(timeline):
    """The starts, in the order in which the works were placed."""
    starts = []
    while following := timeline.next_start():
        timeline.place(*following)
        starts.append(following[1])
    return starts


MACHINE = Machine(Preset.load("h200"), jitter=0, seed=0, trace=False, moves_bytes=False)


def submit(lane, engine, ready, duration=0, end_from=0, action=None, after=None, **keywords):
    lane.held += after is not None
    return MACHINE.submit(lane, Task(engine, after=after, **keywords), ready, duration, end_from, action)


def run(*works):
    """(start, end) of each work, given as its lane, the arguments of `submit` and, for some, its keywords.

    Lanes are a, b and c, and the urgent u. `after` is the place of an earlier work. What never starts is left PENDING.
    """
    timeline = Timeline()
    lanes = {name: timeline.lane(-1 if name == "u" else 0) for name in "aubc"}
    submitted = []
    for lane, *arguments in works:
        keywords = dict(arguments.pop()) if isinstance(arguments[-1], dict) else {}
        if "after" in keywords:
            keywords["after"] = submitted[keywords["after"]]
        submitted.append(submit(lanes[lane], *arguments, **keywords))
    place_all(timeline)
    return [(work.start, work.end) for work in submitted]


def test_nothing_is_placed_before_somebody_asks():
    timeline = Timeline()
    assert timeline.next_start() is None
    lane = timeline.lane()
    work = submit(lane, COMPUTE_ENGINE, ready=5, duration=10)
    assert work.end == PENDING
    assert timeline.next_start() == (lane, 5)
    assert lane.last is work
    assert place_all(timeline) == [5]
    assert (work.start, work.end, lane.tail) == (5, 15, 15)
    assert timeline.next_start() is None


def test_a_lane_is_in_order_even_across_engines():
    works = ("a", UPLOAD_ENGINE, 0, 100), ("a", COMPUTE_ENGINE, 10, 50), ("a", DOWNLOAD_ENGINE, 400, 20)
    assert run(*works) == [(0, 100), (100, 150), (400, 420)]


def test_lanes_share_an_engine_and_overlap_on_different_ones():
    works = ("a", COMPUTE_ENGINE, 0, 100), ("b", UPLOAD_ENGINE, 0, 30), ("b", COMPUTE_ENGINE, 0, 5)
    assert run(*works) == [(0, 100), (0, 30), (100, 105)]


def test_whatever_can_start_first_goes_first_and_not_what_was_submitted_first():
    assert run(("a", COMPUTE_ENGINE, 50, 10), ("b", COMPUTE_ENGINE, 20, 10)) == [(50, 60), (20, 30)]


def test_priority_decides_between_works_that_could_start_together():
    works = [(lane, COMPUTE_ENGINE, 0, 10) for lane in "aub"]
    assert run(*works) == [(10, 20), (0, 10), (20, 30)]


def test_the_work_that_has_waited_for_its_engine_longest_goes_first():
    works = [("a", UPLOAD_ENGINE, 0, 100), ("a", UPLOAD_ENGINE, 0, 10)]  # the second waits for its own lane until 100
    works += [("b", UPLOAD_ENGINE, 60, 10), ("c", UPLOAD_ENGINE, 50, 10)]
    assert run(*works) == [(0, 100), (120, 130), (110, 120), (100, 110)]


def test_running_work_is_not_interrupted_by_an_urgent_one():
    works = ("a", COMPUTE_ENGINE, 0, 100), ("a", COMPUTE_ENGINE, 0, 100), ("u", COMPUTE_ENGINE, 1, 10)
    assert run(*works) == [(0, 100), (110, 210), (100, 110)]


def test_work_behind_an_event_waits_for_it_and_leaves_the_engine_to_others():
    works = [("a", COMPUTE_ENGINE, 0, 100), ("a", NO_ENGINE, 0), ("b", NO_ENGINE, 0, {"after": 1})]
    works += [("b", UPLOAD_ENGINE, 0, 10), ("c", UPLOAD_ENGINE, 0, 10)]
    assert run(*works) == [(0, 100), (100, 100), (100, 100), (100, 110), (0, 10)]


def test_work_behind_an_event_that_is_over_waits_no_longer():
    assert run(("a", NO_ENGINE, 10), ("b", COMPUTE_ENGINE, 50, 1, {"after": 0})) == [(10, 10), (50, 51)]


def test_what_waits_for_work_that_nobody_submitted_never_starts():
    timeline = Timeline()
    never = submit(Timeline().lane(), NO_ENGINE, 0)
    submit(timeline.lane(), COMPUTE_ENGINE, ready=0, after=never)
    assert timeline.next_start() is None


def test_marks_take_no_engine_and_hold_nobody_up():
    assert run(("a", NO_ENGINE, 0, 100), ("b", NO_ENGINE, 0, 100)) == [(0, 100), (0, 100)]


def test_work_that_the_host_still_launches_keeps_its_engine_until_then():
    works = ("a", COMPUTE_ENGINE, 0, 10, {"end_from": 500}), ("b", COMPUTE_ENGINE, 1, 10, {"end_from": 20})
    assert run(*works) == [(0, 500), (500, 510)]


def test_actions_run_and_placed_work_is_told_in_order_of_their_starts():
    log = []
    timeline = Timeline(lambda work: log.append(("placed", work.lane.number, work.task.name, work.end)))
    first, second = timeline.lane(), timeline.lane()
    submit(first, COMPUTE_ENGINE, 30, 1, name="late", action=lambda: log.append("late runs"))
    submit(second, UPLOAD_ENGINE, 10, 1, name="early", action=lambda: log.append("early runs"))
    assert log == []
    place_all(timeline)
    assert log == ["early runs", ("placed", 1, "early", 11), "late runs", ("placed", 0, "late", 31)]


ENGINES = st.sampled_from([UPLOAD_ENGINE, COMPUTE_ENGINE, DOWNLOAD_ENGINE, NO_ENGINE])
SUBMISSIONS = st.lists(
    st.tuples(st.integers(0, 2), ENGINES, st.integers(0, 100), st.integers(0, 50), st.integers(0, 200), st.integers()),
    max_size=12,
)


@given(SUBMISSIONS, st.lists(st.integers(-1, 1), min_size=3, max_size=3))
def test_every_work_starts_as_soon_as_its_lane_its_engine_and_its_event_allow(submissions, priorities):
    placed = []
    timeline = Timeline(lambda work: placed.append((work.lane.number, work)))
    lanes = [timeline.lane(priority) for priority in priorities]
    submitted = []
    for number, engine, ready, duration, end_from, which in submissions:
        after = submitted[which % len(submitted)][1] if submitted and which % 2 else None
        work = submit(lanes[number], engine, ready, duration, end_from=end_from, after=after)
        submitted.append((number, work))
    starts = place_all(timeline)
    assert starts == sorted(starts)
    for number in range(3):
        assert [work for n, work in placed if n == number] == [work for n, work in submitted if n == number]
    lane_free, engine_free = [0] * 3, [0] * 4
    for number, work in placed:
        after, engine = work.task.after, work.task.engine
        assert work.start == max(work.ready, lane_free[number], engine_free[engine], after.end if after else 0)
        assert work.end == max(work.start + work.duration, work.end_from)
        lane_free[number] = work.end
        if engine != NO_ENGINE:
            engine_free[engine] = work.end


@given(SUBMISSIONS, st.sampled_from([(), (1.0, 1.5)]), st.integers(0, 11))
def test_a_lane_that_alone_has_work_is_placed_as_by_asking_what_starts_next(submissions, sharing, last):
    def place(alone):
        timeline = Timeline()
        lane, works = timeline.lane(), []
        for _, engine, ready, duration, end_from, _ in submissions:
            shares = sharing if engine == COMPUTE_ENGINE else ()
            works.append(submit(lane, engine, ready, duration, end_from, sharing=shares))
        if works and alone:
            timeline.place_alone(works[last % len(works)])
        place_all(timeline)
        return [(work.start, work.end) for work in works], lane.tail, lane.waiting

    assert place(True) == place(False)


# Kernels that share the GPU: three at once run at the rate of two

SHARED = {"sharing": (1.0, 1.5, 1.5)}


def shared(lane, ready, duration, **keywords):
    return lane, COMPUTE_ENGINE, ready, duration, SHARED | keywords


@pytest.mark.parametrize(
    ("works", "expected"),
    [
        pytest.param([shared("a", 10, 300)], [(10, 310)], id="alone"),
        pytest.param([shared("a", 0, 300), shared("b", 0, 300)], [(0, 400)] * 2, id="two get half of the rate of two"),
        # 100 alone, then both at 3/4: the first has 200 left, 267 later; the second has done 200, and goes on alone
        pytest.param([shared("a", 0, 300), shared("b", 100, 300)], [(0, 367), (100, 467)], id="one comes later"),
        pytest.param([shared(lane, 0, 300) for lane in "aubc"], [(0, 800)] * 4, id="more than have a rate"),
        pytest.param([shared("a", 0, 100), shared("a", 0, 100)], [(0, 100), (100, 200)], id="in a lane in order"),
        pytest.param(
            [shared("a", 0, 300), ("b", COMPUTE_ENGINE, 50, 100), shared("c", 350, 30)],
            [(0, 300), (300, 400), (400, 430)],
            id="one that shares nothing waits for those that do and they for it",
        ),
    ],
)
def test_shared_work_takes_its_share(works, expected):
    assert run(*works) == expected


def test_two_works_of_one_owner_at_once_are_a_hazard():
    context = object()
    with pytest.raises(HazardError, match="the same context still runs"):
        run(shared("a", 0, 300, owner=context), shared("b", 100, 300, owner=context))
    assert run(shared("a", 0, 300, owner=context), shared("b", 300, 300, owner=context))[1] == (300, 600)
