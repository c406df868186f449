"""Host threads and queues in virtual time: who runs when, who waits for whom, and what if nobody can go on."""

from __future__ import annotations

import functools
import threading
import time
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolotrt_lab.errors import DeviceError
from yolotrt_lab.simulate.virtual_time import VirtualQueue, VirtualThreads

DELAYS = st.lists(st.integers(0, 50), max_size=6)


@pytest.fixture
def threads():
    return VirtualThreads()


@pytest.fixture
def queue(threads):
    return VirtualQueue(threads)


def spend(threads, duration_ns):
    """Let virtual time pass, and then whoever is behind: what `Device.wait_until_ns` does."""
    threads.now += duration_ns
    threads.turn()


def must_end(test):
    """Fail where the test hangs: what a lost baton would look like."""

    @functools.wraps(test)
    def guarded(*arguments, **keywords):
        errors = []

        def body():
            try:
                test(*arguments, **keywords)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive(), "the test hangs: a virtual thread waits for a baton that nobody hands on"
        if errors:
            raise errors[0]

    return guarded


def join_all(*started):
    for thread in started:
        thread.join()


# Turns


def test_thread_starts_at_its_starters_time_and_runs_when_the_starter_next_lets_time_pass(threads):
    log = []
    threads.now = 40
    threads.start(lambda: log.append(threads.now))
    threads.turn()
    assert log == []
    spend(threads, 1)
    assert (log, threads.now) == ([40], 41)


def test_at_equal_times_whoever_runs_goes_on_and_then_whoever_has_waited_longest(threads):
    log = []

    def body(name):
        log.append((name, threads.now))
        spend(threads, 10)
        log.append((name, threads.now))

    started = [threads.start(body, name) for name in "abc"]
    spend(threads, 10)
    log.append(("main", threads.now))
    join_all(*started)
    assert log == [("a", 0), ("b", 0), ("c", 0), ("c", 10), ("main", 10), ("a", 10), ("b", 10)]


def test_turn_until_lets_those_run_that_are_behind_and_leaves_the_callers_clock(threads):
    log = []

    def body():
        for _ in range(3):
            spend(threads, 30)
            log.append(threads.now)

    thread = threads.start(body)
    assert threads.turn(until=50)
    assert (log, threads.now) == ([30], 0)
    assert not threads.turn(until=50)  # its clock is at 60 by now
    assert threads.turn(until=61)
    assert (log, threads.now) == ([30, 60], 0)
    thread.join()
    assert (log, threads.now) == ([30, 60, 90], 90)


@given(st.lists(DELAYS, min_size=1, max_size=4))
def test_calls_happen_in_order_of_virtual_time_one_thread_at_a_time_and_the_same_in_every_run(delays):
    def run():
        threads, log = VirtualThreads(), []

        def body(name, steps):
            for step in steps:
                spend(threads, step)
                log.append((threads.now, name))
                time.sleep(0)  # lets another thread run, if it could
                assert log[-1] == (threads.now, name)

        join_all(*[threads.start(body, name, steps) for name, steps in enumerate(delays)])
        return log, threads.now

    log, end = run()
    times = [when for when, _ in log]
    assert times == sorted(times)
    for name, steps in enumerate(delays):
        assert [when for when, who in log if who == name] == [sum(steps[: n + 1]) for n in range(len(steps))]
    assert end == max(map(sum, delays))
    assert run() == (log, end)


# Joining


@pytest.mark.parametrize(("waited", "end"), [(0, 70), (10, 70), (100, 100)])
@pytest.mark.parametrize("calls", [True, False], ids=["it calls the device", "its last work is the host's"])
def test_join_goes_on_at_the_threads_end_or_at_once_where_that_is_past(threads, calls, waited, end):
    def body():
        threads.now += 70
        if calls:
            threads.turn()

    thread = threads.start(body)
    spend(threads, waited)
    thread.join()
    assert (thread.ended, threads.now) == (True, end)


def test_everybody_who_joins_a_thread_goes_on_at_its_end(threads):
    log = []
    slow = threads.start(lambda: spend(threads, 70))

    def wait(name):
        slow.join()
        log.append((name, threads.now))

    join_all(*[threads.start(wait, name) for name in "ab"])
    assert log == [("a", 70), ("b", 70)]


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt(), SystemExit(3)])
def test_every_join_raises_what_the_thread_raised(threads, error):
    def fail():
        spend(threads, 5)
        raise error

    thread = threads.start(fail)
    for _ in range(2):
        with pytest.raises(type(error)) as caught:
            thread.join()
        assert caught.value is error
    assert threads.now == 5


# Queues


def put_at(threads, queue, **items):
    for item, when in items.items():
        spend(threads, when - threads.now)
        queue.put(item)


def test_get_takes_what_lies_there_and_waits_for_what_is_put_later(threads, queue):
    log = []

    def consume():
        spend(threads, 50)
        for _ in range(3):
            log.append((queue.get(), threads.now))

    thread = threads.start(consume)
    put_at(threads, queue, a=10, b=20, c=80)
    thread.join()
    assert log == [("a", 50), ("b", 50), ("c", 80)]


def test_whoever_has_waited_longest_gets_the_first_item(threads, queue):
    log = []

    def consume(name, begin):
        spend(threads, begin)
        log.append((name, queue.get(), threads.now))

    started = [threads.start(consume, "late", 10), threads.start(consume, "early", 5)]
    put_at(threads, queue, first=20, second=30)
    join_all(*started)
    assert log == [("early", "first", 20), ("late", "second", 30)]


def test_item_taken_by_a_thread_that_did_not_wait_leaves_the_waiting_one_waiting(threads, queue):
    """As in a real queue: the woken thread finds nothing and waits on."""
    log = []
    waiting = threads.start(lambda: log.append((queue.get(), threads.now)))
    put_at(threads, queue, taken=20)
    assert queue.get() == "taken"
    put_at(threads, queue, left=30)
    waiting.join()
    assert log == [("left", 30)]


@given(st.lists(DELAYS, min_size=1, max_size=3), st.lists(st.integers(0, 50), min_size=1, max_size=6))
def test_items_arrive_in_order_of_their_puts_and_never_before_them(producers, pauses):
    threads = VirtualThreads()
    queue, received = VirtualQueue(threads), []

    def produce(steps):
        for step in steps:
            spend(threads, step)
            queue.put(threads.now)

    def consume(count):
        for index in range(count):
            received.append((queue.get(), threads.now))
            spend(threads, pauses[index % len(pauses)])

    count = sum(map(len, producers))
    join_all(*[threads.start(produce, steps) for steps in producers], threads.start(consume, count))
    puts = [put for put, _ in received]
    assert puts == sorted(sum(steps[: n + 1]) for steps in producers for n in range(len(steps)))
    free = 0
    for index, (put, got) in enumerate(received):
        assert got == max(put, free)
        free = got + pauses[index % len(pauses)]


# Deadlocks


def wait_for_two_that_wait_for_each_other(threads, queue):
    other = VirtualQueue(threads)
    join_all(threads.start(lambda: other.put(queue.get())), threads.start(lambda: queue.put(other.get())))


def wait_for_a_thread_that_waits_for_itself(threads, queue):
    mine = []
    mine.append(threads.start(lambda: mine[0].join()))
    mine[0].join()


PROGRAMS = {
    "for nobody": lambda threads, queue: queue.get(),
    "while the last other thread ends": lambda threads, queue: (threads.start(spend, threads, 50), queue.get()),
    "for a thread that waits": lambda threads, queue: threads.start(queue.get).join(),
    "beside a thread that waits": lambda threads, queue: (threads.start(queue.get), spend(threads, 1), queue.get()),
    "for two that wait for each other": wait_for_two_that_wait_for_each_other,
    "for a thread that waits for itself": wait_for_a_thread_that_waits_for_itself,
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
@must_end
def test_deadlock_is_an_error_and_the_program_can_go_on_after_it(threads, queue, program):
    with pytest.raises(DeviceError, match="a deadlock") as caught:
        program(threads, queue)
    assert "put an item for each get" in caught.value.fix
    fresh = VirtualQueue(threads)
    begin = threads.now
    thread = threads.start(lambda: (spend(threads, 30), fresh.put("item")))
    assert fresh.get() == "item"
    assert threads.now == begin + 30
    thread.join()


@must_end
def test_queue_that_a_deadlock_was_found_at_still_works(threads, queue):
    with pytest.raises(DeviceError, match="a deadlock"):
        queue.get()
    queue.put("item")
    assert queue.get() == "item"


@must_end
def test_thread_that_outlived_a_deadlock_gets_its_item_and_can_be_joined(threads, queue):
    """Main joins `waiting`, `short` ends, nobody is left: main is told, and saves the day."""
    log = []
    waiting = threads.start(lambda: (spend(threads, 5), log.append(queue.get())))
    threads.start(spend, threads, 50)
    with pytest.raises(DeviceError, match="a deadlock"):
        waiting.join()
    queue.put("item")
    waiting.join()
    assert log == ["item"]


def test_what_a_thread_holds_is_gone_when_another_one_goes_on(threads):
    class Held:
        pass

    class Dies:
        """A lock whose release lets the other thread go first."""

        def __init__(self, lock):
            self.acquire, self._release = lock.acquire, lock.release

        def release(self):
            self._release()
            time.sleep(0.01)

    threads.running.baton = Dies(threads.running.baton)
    for _ in range(3):
        held = Held()
        gone = weakref.ref(held)
        thread = threads.start(lambda _: None, held)
        del held
        thread.join()
        assert gone() is None
