"""The timeline: what the GPU starts when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolotrt_lab.errors import HazardError
from yolotrt_lab.simulate.timeline import (
    COMPUTE_ENGINE,
    DOWNLOAD_ENGINE,
    NO_ENGINE,
    PENDING,
    UPLOAD_ENGINE,
    Timeline,
    Work,
)


def place_all(timeline):
    """The starts, in the order in which the works were placed."""
    starts = []
    while following := timeline.next_start():
        timeline.place(*following)
        starts.append(following[1])
    return starts


def submit(timeline, lane, engine, ready, duration=0, **keywords):
    work = Work(engine, ready, duration, **keywords)
    timeline.submit(lane, work)
    return work


def when(*works):
    return [(work.start, work.end) for work in works]


def test_nothing_is_placed_before_somebody_asks():
    timeline = Timeline()
    assert timeline.next_start() is None
    lane = timeline.lane()
    work = submit(timeline, lane, COMPUTE_ENGINE, ready=5, duration=10)
    assert when(work) == [(PENDING, PENDING)]
    assert timeline.next_start() == (lane, 5)
    assert lane.last is work
    assert place_all(timeline) == [5]
    assert when(work) == [(5, 15)]
    assert timeline.next_start() is None


def test_a_lane_is_in_order_even_across_engines():
    timeline = Timeline()
    lane = timeline.lane()
    upload = submit(timeline, lane, UPLOAD_ENGINE, ready=0, duration=100)
    kernel = submit(timeline, lane, COMPUTE_ENGINE, ready=10, duration=50)
    download = submit(timeline, lane, DOWNLOAD_ENGINE, ready=400, duration=20)
    place_all(timeline)
    assert when(upload, kernel, download) == [(0, 100), (100, 150), (400, 420)]
    assert lane.tail == 420


def test_lanes_share_an_engine_and_overlap_on_different_ones():
    timeline = Timeline()
    first, second = timeline.lane(), timeline.lane()
    kernel = submit(timeline, first, COMPUTE_ENGINE, ready=0, duration=100)
    upload = submit(timeline, second, UPLOAD_ENGINE, ready=0, duration=30)
    behind = submit(timeline, second, COMPUTE_ENGINE, ready=0, duration=5)
    place_all(timeline)
    assert when(kernel, upload, behind) == [(0, 100), (0, 30), (100, 105)]


def test_whatever_can_start_first_goes_first_and_not_what_was_submitted_first():
    timeline = Timeline()
    first, second = timeline.lane(), timeline.lane()
    late = submit(timeline, first, COMPUTE_ENGINE, ready=50, duration=10)
    early = submit(timeline, second, COMPUTE_ENGINE, ready=20, duration=10)
    assert place_all(timeline) == [20, 50]
    assert when(early, late) == [(20, 30), (50, 60)]


def test_priority_decides_between_works_that_could_start_together():
    timeline = Timeline()
    ordinary, urgent, other = timeline.lane(), timeline.lane(priority=-1), timeline.lane()
    works = [submit(timeline, lane, COMPUTE_ENGINE, ready=0, duration=10) for lane in (ordinary, urgent, other)]
    place_all(timeline)
    assert [work.start for work in works] == [10, 0, 20]


def test_the_work_that_has_waited_for_its_engine_longest_goes_first():
    timeline = Timeline()
    first, second, third = timeline.lane(), timeline.lane(), timeline.lane()
    submit(timeline, first, UPLOAD_ENGINE, ready=0, duration=100)
    late = submit(timeline, first, UPLOAD_ENGINE, ready=0, duration=10)  # waits for its own lane until 100
    later = submit(timeline, second, UPLOAD_ENGINE, ready=60, duration=10)
    early = submit(timeline, third, UPLOAD_ENGINE, ready=50, duration=10)
    place_all(timeline)
    assert when(early, later, late) == [(100, 110), (110, 120), (120, 130)]


def test_running_work_is_not_interrupted_by_an_urgent_one():
    timeline = Timeline()
    ordinary, urgent = timeline.lane(), timeline.lane(priority=-1)
    running = submit(timeline, ordinary, COMPUTE_ENGINE, ready=0, duration=100)
    queued = submit(timeline, ordinary, COMPUTE_ENGINE, ready=0, duration=100)
    late = submit(timeline, urgent, COMPUTE_ENGINE, ready=1, duration=10)
    place_all(timeline)
    assert when(running, late, queued) == [(0, 100), (100, 110), (110, 210)]


def test_work_behind_an_event_waits_for_it_and_leaves_the_engine_to_others():
    timeline = Timeline()
    slow, waiting, other = (timeline.lane() for _ in range(3))
    kernel = submit(timeline, slow, COMPUTE_ENGINE, ready=0, duration=100)
    event = submit(timeline, slow, NO_ENGINE, ready=0)
    submit(timeline, waiting, NO_ENGINE, ready=0, after=event)
    held = submit(timeline, waiting, UPLOAD_ENGINE, ready=0, duration=10)
    free = submit(timeline, other, UPLOAD_ENGINE, ready=0, duration=10)
    place_all(timeline)
    assert when(kernel, held, free) == [(0, 100), (100, 110), (0, 10)]


def test_work_behind_an_event_that_is_over_waits_no_longer():
    timeline = Timeline()
    first, second = timeline.lane(), timeline.lane()
    event = submit(timeline, first, NO_ENGINE, ready=10)
    place_all(timeline)
    work = submit(timeline, second, COMPUTE_ENGINE, ready=50, duration=1, after=event)
    place_all(timeline)
    assert when(event, work) == [(10, 10), (50, 51)]


def test_what_waits_for_work_that_nobody_submitted_never_starts():
    timeline = Timeline()
    submit(timeline, timeline.lane(), COMPUTE_ENGINE, ready=0, after=Work(NO_ENGINE, 0))
    assert timeline.next_start() is None


def test_marks_take_no_engine_and_hold_nobody_up():
    timeline = Timeline()
    first, second = timeline.lane(), timeline.lane()
    marks = [submit(timeline, lane, NO_ENGINE, ready=0, duration=100) for lane in (first, second)]
    place_all(timeline)
    assert when(*marks) == [(0, 100), (0, 100)]


def test_work_that_the_host_still_launches_keeps_its_engine_until_then():
    timeline = Timeline()
    first, second = timeline.lane(), timeline.lane()
    launched = submit(timeline, first, COMPUTE_ENGINE, ready=0, duration=10, end_from=500)
    behind = submit(timeline, second, COMPUTE_ENGINE, ready=1, duration=10, end_from=20)
    place_all(timeline)
    assert when(launched, behind) == [(0, 500), (500, 510)]


def test_actions_run_and_placed_work_is_told_in_order_of_their_starts():
    log = []
    timeline = Timeline(lambda lane, work: log.append(("placed", lane.number, work.name, work.end)))
    first, second = timeline.lane(), timeline.lane()
    submit(timeline, first, COMPUTE_ENGINE, 30, 1, name="late", action=lambda: log.append("late runs"))
    submit(timeline, second, UPLOAD_ENGINE, 10, 1, name="early", action=lambda: log.append("early runs"))
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
    timeline = Timeline(lambda lane, work: placed.append((lane.number, work)))
    lanes = [timeline.lane(priority) for priority in priorities]
    submitted = []
    for number, engine, ready, duration, end_from, which in submissions:
        after = submitted[which % len(submitted)][1] if submitted and which % 2 else None
        work = submit(timeline, lanes[number], engine, ready, duration, end_from=end_from, after=after)
        submitted.append((number, work))
    starts = place_all(timeline)
    assert starts == sorted(starts)
    for number in range(3):
        assert [work for n, work in placed if n == number] == [work for n, work in submitted if n == number]
    lane_free, engine_free = [0] * 3, dict.fromkeys((UPLOAD_ENGINE, COMPUTE_ENGINE, DOWNLOAD_ENGINE, NO_ENGINE), 0)
    for number, work in placed:
        after_end = work.after.end if work.after else 0
        assert work.start == max(work.ready, lane_free[number], engine_free[work.engine], after_end)
        assert work.end == max(work.start + work.duration, work.end_from)
        lane_free[number] = work.end
        if work.engine != NO_ENGINE:
            engine_free[work.engine] = work.end


# Kernels that share the GPU

RATES = (1.0, 1.5, 1.5)  # of 1, 2, 3 at once


def shared(ready, duration, **keywords):
    return Work(COMPUTE_ENGINE, ready, duration, sharing=RATES, **keywords)


def ends(*works):
    """Each work in a lane of its own; its begin and end."""
    timeline = Timeline()
    for work in works:
        timeline.submit(timeline.lane(), work)
    while (following := timeline.next_start()) is not None:
        timeline.place(*following)
    return [(work.start, work.end) for work in works]


def test_alone_shared_work_takes_its_time():
    assert ends(shared(10, 300)) == [(10, 310)]


def test_two_at_once_each_get_half_of_the_rate_of_two():
    assert ends(shared(0, 300), shared(0, 300)) == [(0, 400), (0, 400)]


def test_work_that_comes_later_slows_what_runs_from_then_on():
    # 100 done alone; then both at 3/4: the first has 200 left, 267 later; the second has done 200, and goes on alone
    assert ends(shared(0, 300), shared(100, 300)) == [(0, 367), (100, 467)]


def test_more_than_the_table_knows_run_at_its_last_rate():
    assert ends(*(shared(0, 300) for _ in range(4))) == [(0, 800)] * 4


def test_work_that_shares_nothing_waits_for_those_that_do_and_they_for_it():
    alone = Work(COMPUTE_ENGINE, 50, 100)
    assert ends(shared(0, 300), alone, shared(350, 30)) == [(0, 300), (300, 400), (400, 430)]


def test_order_within_a_lane_holds_for_shared_work():
    timeline = Timeline()
    lane = timeline.lane()
    first, second = shared(0, 100), shared(0, 100)
    for work in (first, second):
        timeline.submit(lane, work)
    while (following := timeline.next_start()) is not None:
        timeline.place(*following)
    assert (first.end, second.start, second.end) == (100, 100, 200)


def test_two_works_of_one_owner_at_once_are_a_hazard():
    context = object()
    with pytest.raises(HazardError, match="the same context still runs"):
        ends(shared(0, 300, owner=context), shared(100, 300, owner=context))
    assert ends(shared(0, 300, owner=context), shared(300, 300, owner=context))[1] == (300, 600)
