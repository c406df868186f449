"""What happened when, as spans: the host's calls and ranges, and what the GPU did."""

from __future__ import annotations

from itertools import count

from ...types import Span
from ..host_threads import VirtualThread, VirtualThreads
from ..timeline import COMPUTE_ENGINE, DOWNLOAD_ENGINE, NO_ENGINE, UPLOAD_ENGINE, Lane, Work

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

    def keep_work(self, lane: Lane, work: Work) -> None:
        """Work has been placed; marks and waits are none."""
        if work.engine != NO_ENGINE:
            row = ROWS[work.engine]
            self.spans.append(Span(row, work.name, work.start, work.end, lane.number, work.nbytes, work.correlation))
