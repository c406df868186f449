"""The host's time: what its calls and its own work cost it, on whichever of its threads they run."""

from __future__ import annotations

import random
from math import exp

from ...errors import CaptureError
from ..conditions import State
from ..host_threads import VirtualThread, VirtualThreads
from ..preset import Preset
from .trace import Trace


class Range:
    """A range of the program; leaving it costs what the preset measured between two stages."""

    def __init__(self, host: Host, name: str, cost_ns: int) -> None:
        self._host = host
        self._name = name
        self._cost_ns = cost_ns
        self.begins: dict[VirtualThread, int] = {}

    def __enter__(self) -> None:
        threads = self._host.threads
        self.begins[threads.running] = threads.now

    def __exit__(self, *_: object) -> None:
        threads, trace = self._host.threads, self._host.trace
        begin = self.begins.pop(threads.running)
        if trace is not None:
            trace.keep_range(self._name, begin)
        threads.now += self._cost_ns


class HostWork:
    """Work of the host's own, of megabytes; its cost is added when it is left."""

    def __init__(self, host: Host, duration_ns: int) -> None:
        self._host = host
        self._duration_ns = duration_ns

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        host, state = self._host, self._host.state
        host.advance(int(self._duration_ns * state.conditions.host_factor) if state else self._duration_ns)
        host.move_megabytes()


class Host:
    """One simulated host. `jitter` and `seed` are those of the device, `trace` is None where nothing is kept.

    `state` is where the conditions in use have brought the machine; None: it runs as its preset was measured.
    """

    def __init__(self, preset: Preset, *, jitter: float, seed: int, trace: bool) -> None:
        self.threads = VirtualThreads()
        self.trace = Trace(self.threads) if trace else None
        self.state: State | None = None
        self._preset = preset
        self._jitter = jitter
        self._random = random.Random(seed)
        self._moves = 0
        self._moves_at_call: dict[str, int] = {}
        self._ranges: dict[str, Range] = {}
        self._works: dict[str, HostWork] = {}
        self.capturing: set[VirtualThread] = set()
        """The threads with a capture under way."""

    def begin(self) -> int:
        """The begin of every call: threads that are behind go first, so that calls happen in order of virtual time."""
        threads = self.threads
        if threads.ready:
            threads.turn()
        if self.trace is not None:
            self.trace.begin_call()
        return threads.now

    def end(self, name: str, begin: int) -> None:
        """The end of a call that the trace shows."""
        if self.trace is not None:
            self.trace.keep_call(name, begin)

    def refuse_in_capture(self, name: str) -> None:
        """CaptureError inside a capture, where a GPU refuses to wait, to be asked, and to allocate."""
        if self.threads.running in self.capturing:
            raise CaptureError(f"{name} inside a capture", fix="wait and allocate before the capture, or after it")

    def spend(self, name: str, duration_ns: int) -> None:
        """A whole call that does nothing but take its time."""
        begin = self.begin()
        self.advance(duration_ns)
        self.end(name, begin)

    def advance(self, duration_ns: int) -> None:
        """Let that time pass for the running thread, give or take the jitter."""
        self.threads.now += self.spread(duration_ns)

    def advance_to(self, time_ns: int) -> None:
        """Let time pass for the running thread until then; none where that is past."""
        threads = self.threads
        if time_ns > threads.now:
            threads.now = time_ns

    def spread(self, duration_ns: int) -> int:
        """The duration, give or take the jitter."""
        return int(duration_ns * exp(self._random.gauss(0.0, self._jitter))) if self._jitter else duration_ns

    def move_megabytes(self) -> None:
        """The host has moved megabytes: every kind of call is cold once."""
        self._moves += 1

    def is_cold(self, call: str) -> bool:
        """True once for each kind of call after the host has moved megabytes."""
        cold = self._moves_at_call.get(call, 0) != self._moves
        self._moves_at_call[call] = self._moves
        return cold

    def range(self, name: str) -> Range:
        """The range of that name."""
        found = self._ranges.get(name)
        return found or self._ranges.setdefault(name, Range(self, name, self._preset.range_ns))

    def in_range(self) -> bool:
        """True while the running thread is in any range."""
        return any(self.threads.running in each.begins for each in self._ranges.values())

    def work(self, name: str) -> HostWork:
        """The host's own work of that name, at the preset's cost (0 if it has none)."""
        found = self._works.get(name)
        return found or self._works.setdefault(name, HostWork(self, self._preset.host_work_ns.get(name, 0)))
