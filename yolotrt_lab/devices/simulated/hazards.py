"""The watch over host memory that a copy by the GPU still uses, which nothing may touch until the copy has run."""

from __future__ import annotations

import numpy as np

from ...errors import HazardError
from ..base import HostBuffer
from ..host_threads import VirtualThreads
from ..timeline import UPLOAD_ENGINE, Work
from .gpu import Gpu
from .memory import bytes_of

_FIX = "wait for the event that follows the copy, or use another slot"


class Hazards:
    """Remembers the copies that the GPU makes by itself, and what they read."""

    def __init__(self, gpu: Gpu, threads: VirtualThreads) -> None:
        self._gpu = gpu
        self._threads = threads
        self._copies: dict[int, list[Work]] = {}
        self._uploads: list[tuple[Work, np.ndarray, np.ndarray]] = []

    def watch(self, host: HostBuffer, work: Work, *, compare: bool) -> None:
        """Keep an eye on the host's side of a copy; with `compare` on the bytes of an upload too."""
        now, earlier = self._threads.now, self._copies.get(host.address, ())
        self._copies[host.address] = [*(each for each in earlier if not each.has_run(now)), work]
        if compare and work.engine == UPLOAD_ENGINE:
            raw = bytes_of(host)
            self._uploads.append((work, raw, raw.copy()))

    def forget(self, address: int) -> None:
        """That memory was freed."""
        self._copies.pop(address, None)

    def check_idle(self, buffer: HostBuffer, verb: str) -> None:
        """HazardError if a copy still uses these bytes, which are to be 'read' or 'written'."""
        for work in self._copies.get(buffer.address, ()):
            if not self._gpu.is_done(work):
                raise HazardError(
                    f"{buffer.nbytes} bytes of {buffer.memory} memory are {verb} at {self._threads.now} ns while a "
                    f"copy ({work.name}) still uses them",
                    fix=_FIX,
                )
        self._copies.pop(buffer.address, None)

    def check_uploads(self) -> None:
        """HazardError where the bytes of an upload that has run by now are no longer those that were submitted."""
        if not self._uploads:
            return
        now, under_way, ended = self._threads.now, [], []
        for upload in self._uploads:
            (ended if upload[0].has_run(now) else under_way).append(upload)
        self._uploads = under_way
        for work, raw, submitted in ended:
            if not np.array_equal(raw, submitted):
                raise HazardError(f"{raw.size} bytes were written while they were in flight ({work.name})", fix=_FIX)
