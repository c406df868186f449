"""Host threads of the simulation, and the trace of what they and the GPU did.

One thread runs at a time: the one whose virtual clock is furthest behind. Each is a real thread that waits for its
baton, and hands it on only inside a call to the device. So nothing interrupts what a program does between two calls,
and every run is the same.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, MutableSequence
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from ..errors import DeviceError
from ..types import Span
from .timeline import COMPUTE_ENGINE, DOWNLOAD_ENGINE, DRIVER, NO_ENGINE, UPLOAD_ENGINE, Work

Line = tuple[str, int]
"""A line of the program: its file and number."""

_NOT_THE_PROGRAM = (f"{Path(__file__).parents[1]}{os.sep}", contextlib.__file__, weakref.__file__)


@cache
def _is_the_labs(file: str) -> bool:
    return file.startswith(_NOT_THE_PROGRAM)


def calling_line() -> Line | None:
    """The line of the program that is calling the lab; None where there is none."""
    frame = sys._getframe(1)
    while _is_the_labs(frame.f_code.co_filename):
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def _held() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(slots=True, eq=False)
class VirtualThread:
    """One host thread."""

    _threads: VirtualThreads
    clock: int
    """Its virtual time while it waits, and at its end for good."""
    number: int = 0
    call: int = 0
    """The number of the call that it is in, in the trace."""
    ranges: int = 0
    """How many ranges it is in."""
    baton: threading.Lock = field(default_factory=_held)
    """It runs once another thread has released this."""
    ended: bool = False
    stuck: bool = False
    error: BaseException | None = None
    joining: list[VirtualThread] = field(default_factory=list)
    """The threads that wait for its end."""
    ident: int = field(default_factory=threading.get_ident)
    """The Python thread that it is."""

    def join(self) -> None:
        """Wait in virtual time for the thread's end; its exception is raised here."""
        threads = self._threads
        if not self.ended:
            threads.park(self.joining)
        threads.now = max(threads.now, self.clock)
        if self.error is not None:
            raise self.error


class VirtualThreads:
    """The threads of one simulated host. `now` is the clock of the thread that runs."""

    def __init__(self) -> None:
        self.now = 0
        self.running = VirtualThread(self, 0)
        self.ready: list[VirtualThread] = []
        self._parked: list[VirtualThread] = []
        self._numbers = count(1)
        self._creator = self.running.ident

    def check_caller(self) -> None:
        """DeviceError in a Python thread that is not the running one: nothing here is safe between two.

        A device may change hands: from the thread that created it, and from one that has ended.
        """
        ident, mine = threading.get_ident(), self.running.ident
        if ident == mine:
            return
        alive = mine != self._creator and any(each.ident == mine for each in threading.enumerate())
        if self.running.number or alive:
            raise DeviceError(
                "a simulated device must be called by one Python thread at a time, got a call from another",
                fix="make all calls to the GPU in one thread, or join it before another one calls",
            )
        self.running.ident = ident

    def start(self, function: Callable[..., None], *arguments: Any) -> VirtualThread:
        """A new thread whose clock starts at `now`; it runs when its turn comes."""
        thread = VirtualThread(self, self.now, next(self._numbers))
        threading.Thread(target=self._body, args=(thread, [(function, arguments)]), daemon=True).start()
        self.ready.append(thread)
        return thread

    def _body(self, thread: VirtualThread, task: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
        thread.ident = threading.get_ident()
        thread.baton.acquire()
        function, arguments = task.pop()
        try:
            function(*arguments)
        except BaseException as error:
            thread.error = error
        del function, arguments  # what they hold is not freed while another thread runs
        thread.ended, thread.clock = True, self.now
        for waiting in thread.joining:
            self.wake(waiting)
        self._hand_on()

    def turn(self, until: int | None = None) -> bool:
        """Let threads run whose clock is behind `until` (behind `now` by default); True if one did."""
        self.check_caller()
        horizon = self.now if until is None else until
        turned = False
        while self.ready and self._behind().clock < horizon:
            me, clock = self.running, self.now
            me.clock = horizon
            self.ready.append(me)
            self._hand_on()
            me.baton.acquire()
            self.now = clock
            turned = True
        return turned

    def park(self, waiting: MutableSequence[VirtualThread]) -> None:
        """Stop, listed in `waiting`, until another thread takes this one from there and calls `wake` for it.

        DeviceError where no thread is left that could.
        """
        me = self.running
        me.clock = self.now
        waiting.append(me)
        self._parked.append(me)
        self._hand_on()
        me.baton.acquire()
        if me.stuck:
            me.stuck = False
            waiting.remove(me)
            raise DeviceError(
                "every host thread waits for another one: a deadlock", fix="put an item for each get, or join earlier"
            )

    def wake(self, thread: VirtualThread) -> None:
        """Make a parked thread ready; its clock goes on at `now` or later."""
        self._parked.remove(thread)
        thread.clock = max(thread.clock, self.now)
        self.ready.append(thread)

    def _behind(self) -> VirtualThread:
        return min(self.ready, key=lambda thread: thread.clock)

    def _hand_on(self) -> None:
        """Let the thread go on that is furthest behind; in a deadlock the one that has waited longest, which fails."""
        if not self.ready and self._parked:
            self._parked[0].stuck = True
            self.wake(self._parked[0])
        if self.ready:
            thread = self.running = self._behind()
            self.ready.remove(thread)
            self.now = thread.clock
            thread.baton.release()


class VirtualQueue:
    """A queue between virtual threads, first in, first out."""

    def __init__(self, threads: VirtualThreads) -> None:
        self._threads = threads
        self._items: deque[tuple[int, Any]] = deque()
        self._getters: deque[VirtualThread] = deque()

    def put(self, item: Any) -> None:
        """Append, and wake the thread that has waited longest."""
        self._threads.turn()
        self._items.append((self._threads.now, item))
        if self._getters:
            self._threads.wake(self._getters.popleft())

    def get(self) -> Any:
        """Remove the oldest item, waiting in virtual time until there is one."""
        self._threads.turn()
        while not self._items:
            self._threads.park(self._getters)
        put_at, item = self._items.popleft()
        self._threads.now = max(self._threads.now, put_at)
        return item


ROWS = {UPLOAD_ENGINE: "upload", DRIVER: "upload", COMPUTE_ENGINE: "kernel", DOWNLOAD_ENGINE: "download"}


class Trace:
    """Keeps `spans` (the host's calls and ranges, the GPU's work) in the order in which they became known, and `lines`,
    the line of the program that each call is on, by the number of the call.
    """

    def __init__(self, threads: VirtualThreads) -> None:
        self.spans: list[Span] = []
        self.lines: dict[int, Line | None] = {}
        self.before_call: Callable[[], None] = lambda: None
        """Called at the begin of each call: what the program did before it is over."""
        self._threads = threads
        self._numbers = count(1)

    def begin_call(self) -> None:
        """From here on the running thread is in its next call."""
        self.before_call()
        self._threads.running.call = number = next(self._numbers)
        self.lines[number] = calling_line()

    def keep(self, row: str, name: str, begin: int) -> None:
        """A call or a range (by its row) of the running thread ends now."""
        threads = self._threads
        call = threads.running.call if row == "api" else 0
        self.spans.append(Span(row, name, begin, threads.now, 0, 0, call, threads.running.number))

    def keep_work(self, work: Work) -> None:
        """Work was placed on an engine; marks and waits take none, and are not kept."""
        task = work.task
        if task.engine != NO_ENGINE:
            row, stream = ROWS[task.engine], work.lane.number
            self.spans.append(Span(row, task.name, work.start, work.end, stream, task.nbytes, work.correlation))
