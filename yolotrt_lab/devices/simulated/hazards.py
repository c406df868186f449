"""The watch over host memory that a copy by the GPU still uses, which nothing may touch until the copy has run."""

from __future__ import annotations

from collections import deque

import numpy as np

from ...errors import HazardError
from ..base import HostBuffer
from ..host_threads import VirtualThreads
from ..timeline import PENDING, UPLOAD_ENGINE, Work
from .gpu import Gpu
from .memory import bytes_of

_FIX = "wait for the event that follows the copy, or use another slot"


class Hazards:
    """Remembers the copies that the GPU makes by itself, and what they read."""

    def __init__(self, gpu: Gpu, threads: VirtualThreads) -> None:
        self._gpu = gpu
        self._threads = threads
        self._copies: dict[int, Work] = {}
        self._uploads: deque[tuple[Work, np.ndarray, np.ndarray]] = deque()

    def watch(self, host: HostBuffer, work: Work, *, compare: bool) -> None:
        """Keep an eye on the host's side of a copy; with `compare` on the bytes of an upload too."""
        self._copies[host.address] = work
        if compare and work.engine == UPLOAD_ENGINE:
            raw = bytes_of(host)
            self._uploads.append((work, raw, raw.copy()))

    def forget(self, address: int) -> None:
        """That memory was freed."""
        self._copies.pop(address, None)

    def check_idle(self, buffer: HostBuffer, verb: str) -> None:
        """HazardError if a copy still uses these bytes, which are to be 'read' or 'written'."""
        work = self._copies.get(buffer.address)
        if work is None:
            return
        if not self._gpu.is_done(work):
            raise HazardError(
                f"{buffer.nbytes} bytes of {buffer.memory} memory are {verb} at {self._threads.now} ns while a copy "
                f"({work.name}) still uses them",
                fix=_FIX,
            )
        del self._copies[buffer.address]

    def check_uploads(self) -> None:
        """HazardError where the bytes of an upload that has run by now are no longer those that were submitted."""
        while self._uploads and PENDING != self._uploads[0][0].end <= self._threads.now:
            work, raw, submitted = self._uploads.popleft()
            if not np.array_equal(raw, submitted):
                raise HazardError(f"{raw.size} bytes were written while they were in flight ({work.name})", fix=_FIX)
