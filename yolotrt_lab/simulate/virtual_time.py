"""Host threads of the simulation: one runs at a time, the one whose virtual clock is furthest behind.

Each is a real thread that waits for its baton. A thread hands the baton on only inside a call to the device, so what
a program does between two calls is never torn apart, and a run is the same every time.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, MutableSequence
from itertools import count
from typing import Any

from ..errors import DeviceError
from ..types import Span
from .timeline import COMPUTE_ENGINE, DOWNLOAD_ENGINE, NO_ENGINE, UPLOAD_ENGINE, StreamQueue, Work


class VirtualThread:
    """One host thread: its number, its clock (while it waits, and at its end for good), and who waits for its end."""

    def __init__(self, threads: VirtualThreads, clock: int, number: int = 0) -> None:
        self.number = number
        self.clock = clock
        self.baton = threading.Semaphore(0)
        self.ended = False
        self.stuck = False
        self.error: BaseException | None = None
        self.joining: list[VirtualThread] = []
        self._threads = threads

    def join(self) -> None:
        """Wait, in virtual time, for the thread's end; its exception is raised here."""
        self._threads.join(self)


class VirtualThreads:
    """The threads of one simulated host. `now` is the clock of the thread that runs."""

    def __init__(self) -> None:
        self.now = 0
        self.running = VirtualThread(self, 0)
        self._started = 0
        self.ready: list[VirtualThread] = []
        self._parked: list[VirtualThread] = []

    def start(self, function: Callable[..., None], *arguments: Any) -> VirtualThread:
        """A new thread whose clock starts at `now`; it runs when its turn comes."""
        self._started += 1
        thread = VirtualThread(self, self.now, self._started)
        threading.Thread(target=self._body, args=(thread, function, arguments), daemon=True).start()
        self.ready.append(thread)
        return thread

    def _body(self, thread: VirtualThread, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        thread.baton.acquire()
        try:
            function(*arguments)
        except BaseException as error:
            thread.error = error
        thread.ended, thread.clock = True, self.now
        for waiting in thread.joining:
            self.wake(waiting)
        if not self.ready and self._parked:
            self._parked[0].stuck = True
            self.wake(self._parked[0])
        if self.ready:
            self._hand_to(self._behind())

    def turn(self, until: int | None = None) -> bool:
        """Let threads run whose clock is behind `until` (behind `now`, if not given); True if one did."""
        horizon = self.now if until is None else until
        turned = False
        while self.ready and (behind := self._behind()).clock < horizon:
            me, clock = self.running, self.now
            me.clock = horizon
            self.ready.append(me)
            self._hand_to(behind)
            me.baton.acquire()
            self.now = clock
            turned = True
        return turned

    def park(self, waiting: MutableSequence[VirtualThread]) -> None:
        """Stop, listed in `waiting`, until another thread takes this one from there and calls `wake` for it.

        DeviceError when no thread is left that could.
        """
        me = self.running
        waiting.append(me)
        if self.ready:
            me.clock = self.now
            self._parked.append(me)
            self._hand_to(self._behind())
            me.baton.acquire()
        else:
            me.stuck = True
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

    def join(self, thread: VirtualThread) -> None:
        """Park until `thread` has ended; virtual time goes on from its end."""
        if not thread.ended:
            self.park(thread.joining)
        self.now = max(self.now, thread.clock)
        if thread.error is not None:
            raise thread.error

    def _behind(self) -> VirtualThread:
        return min(self.ready, key=lambda thread: thread.clock)

    def _hand_to(self, thread: VirtualThread) -> None:
        self.ready.remove(thread)
        self.running = thread
        self.now = thread.clock
        thread.baton.release()


class VirtualQueue:
    """First in, first out between virtual threads."""

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


# What happened when, as spans: the host's calls and ranges, and what the GPU did.


ROWS = {UPLOAD_ENGINE: "upload", COMPUTE_ENGINE: "kernel", DOWNLOAD_ENGINE: "download"}


class Trace:
    """Keeps `spans`, in the order in which they became known."""

    def __init__(self, threads: VirtualThreads) -> None:
        self.spans: list[Span] = []
        self._threads = threads
        self._numbers = count(1)
        self._call_of: dict[VirtualThread, int] = {}

    def begin_call(self) -> None:
        """From here on the running thread is in its next call."""
        self._call_of[self._threads.running] = next(self._numbers)

    def number_of_call(self) -> int:
        """The call that the running thread is in."""
        return self._call_of[self._threads.running]

    def keep_call(self, name: str, begin: int) -> None:
        """The running thread's call ends now."""
        self._keep("api", name, begin, self.number_of_call())

    def keep_range(self, name: str, begin: int) -> None:
        """A range of the running thread ends now."""
        self._keep("range", name, begin, 0)

    def _keep(self, row: str, name: str, begin: int, call: int) -> None:
        threads = self._threads
        self.spans.append(Span(row, name, begin, threads.now, 0, 0, call, threads.running.number))

    def keep_work(self, lane: StreamQueue, work: Work) -> None:
        """Work has been placed; marks and waits are none."""
        if work.engine != NO_ENGINE:
            row = ROWS[work.engine]
            self.spans.append(Span(row, work.name, work.start, work.end, lane.number, work.nbytes, work.correlation))
