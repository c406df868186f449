"""The simulated machine: the clock of its host, the GPU behind its launch queue, and memory at the preset's cost."""

from __future__ import annotations

import random
import weakref
from collections.abc import Sequence
from itertools import count
from math import cos, exp, log, prod, sin, sqrt, tau
from threading import get_ident
from typing import TYPE_CHECKING, Any

import numpy as np

from ..device import HostBuffer, memory_errors
from ..errors import CaptureError, DeviceError, HazardError
from ..types import HostMemory
from .conditions import State
from .hazards import READ, Accesses, Hazards, WatchedBuffer
from .preset import Preset, Registration
from .timeline import COMPUTE_ENGINE, PENDING, Clock, StreamQueue, Timeline, Work
from .virtual_time import Trace, VirtualThread, VirtualThreads

if TYPE_CHECKING:
    from .streams import SimulatedGraph

STREAM_SYNCHRONIZE = "cudaStreamSynchronize"


class SimulatedBuffer:
    """Device memory. `data` holds its bytes where the device moves bytes at all."""

    _addresses = count(0x7F00_0000_0000, 1 << 32)

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.address = next(self._addresses)
        self.accesses = Accesses("device memory")
        self.written: list[tuple[int, int]] = []
        """From where to where it has a value, in order."""
        self.whole = False
        """All of it has one."""
        self._data: np.ndarray | None = None

    @property
    def data(self) -> np.ndarray:
        """The bytes, uint8 (nbytes,)."""
        if self._data is None:
            self._data = np.zeros(self.nbytes, np.uint8)
        return self._data

    def write(self, begin: int, end: int) -> None:
        """These bytes have a value now."""
        merged: list[tuple[int, int]] = []
        for start, stop in sorted([*self.written, (begin, end)]):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
            else:
                merged.append((start, stop))
        self.written = merged
        self.whole = merged == [(0, self.nbytes)]

    def written_in_part(self, nbytes: int) -> int | None:
        """How many of the first bytes have a value, where it is some and not all; None otherwise."""
        written = sum(max(min(stop, nbytes) - start, 0) for start, stop in self.written)
        return written if 0 < written < nbytes else None


Touch = tuple[SimulatedBuffer, str, int, int]
"""What work does to device memory: which, 'reads', 'writes' or 'uses', and from which byte to which."""


class Range:
    """A range of the program; leaving it costs what the preset measured between two stages."""

    __slots__ = ("_cost_ns", "_name", "_start", "_threads", "_trace", "ns", "payload")

    def __init__(self, name: str, cost_ns: int, threads: VirtualThreads, trace: Trace | None) -> None:
        self._name, self._cost_ns, self._threads, self._trace = name, cost_ns, threads, trace
        self.payload: int | None = None
        self.ns = self._start = 0

    def __enter__(self) -> None:
        threads = self._threads
        threads.running.ranges += 1
        self._start = threads.now

    def __exit__(self, *_: object) -> None:
        threads, start = self._threads, self._start
        threads.running.ranges -= 1
        self.ns = threads.now - start
        if self._trace is not None:
            self._trace.keep_range(self._name, start)
        threads.now += self._cost_ns


class Machine:
    """A host and a GPU of that preset, their memory, and the watch over it.

    `jitter` and `seed` are those of the device, `trace` is None where nothing is kept. With `moves_bytes` copies really
    copy. `state` is where the conditions in use have brought the machine; None: it runs as its preset was measured.
    """

    def __init__(self, preset: Preset, *, jitter: float, seed: int, trace: bool, moves_bytes: bool) -> None:
        self.preset = preset
        self.moves_bytes = moves_bytes
        self.state: State | None = None
        self.threads = VirtualThreads()
        self.trace = Trace(self.threads) if trace else None
        self.timeline = Timeline(self.trace.keep_work if self.trace else None)
        self.hazards = Hazards(self.threads, self.trace, self.is_done)
        self.memory = Memory(self)
        self.captures: dict[VirtualThread, SimulatedGraph] = {}
        """The captures under way: each takes the work of its own host thread alone."""
        self._jitter = jitter
        self._random = random.Random(seed)
        self._factors: list[float] = []
        self._moves = 0
        self._moves_at_call: dict[str, int] = {}
        self._queue_depth = preset.launch_queue_depth

    # The host's time

    def begin(self) -> int:
        """The begin of every call: threads that are behind go first, so that calls happen in order of virtual time."""
        threads = self.threads
        if get_ident() != threads.running.ident:
            threads.check_caller()
        if threads.ready:
            threads.turn()
        if self.trace is not None:
            self.trace.begin_call()
        return threads.now

    def end(self, name: str, begin: int) -> None:
        """The end of a call that the trace shows."""
        if self.trace is not None:
            self.trace.keep_call(name, begin)

    def spend(self, name: str, duration_ns: int) -> None:
        """A whole call that does nothing but take its time."""
        begin = self.begin()
        self.advance(duration_ns)
        self.end(name, begin)

    def advance(self, duration_ns: int) -> None:
        """Let that time pass for the running thread, give or take the jitter."""
        if self._jitter:
            duration_ns = int(duration_ns * (self._factors or self._draw()).pop())
        self.threads.now += duration_ns

    def advance_to(self, time_ns: int) -> None:
        """Let time pass for the running thread until then; none where that is past."""
        if time_ns > self.threads.now:
            self.threads.now = time_ns

    def spread(self, duration_ns: int) -> int:
        """The duration, give or take the jitter."""
        if not self._jitter:
            return duration_ns
        return int(duration_ns * (self._factors or self._draw()).pop())

    def _draw(self) -> list[float]:
        """A thousand factors, the first one at the end: `Random.gauss`, in pairs (Box and Muller, 1958)."""
        uniform, jitter, found = self._random.random, self._jitter, self._factors
        for _ in range(500):
            angle = uniform() * tau
            radius = sqrt(-2.0 * log(1.0 - uniform()))
            found += exp(cos(angle) * radius * jitter), exp(sin(angle) * radius * jitter)
        found.reverse()
        return found

    def move_megabytes(self) -> None:
        """The host has moved megabytes: every kind of call is cold once."""
        self._moves += 1

    def is_cold(self, call: str) -> bool:
        """True once for each kind of call after the host has moved megabytes."""
        cold = self._moves_at_call.get(call, 0) != self._moves
        self._moves_at_call[call] = self._moves
        return cold

    # Captures

    def refuse_in_capture(self, name: str) -> None:
        """CaptureError inside a capture, where a GPU refuses to wait, to be asked, and to allocate."""
        if self.captures and self.threads.running in self.captures:
            raise CaptureError(f"{name} inside a capture", fix="wait and allocate before the capture, or after it")

    def capture_of(self, lane: StreamQueue) -> SimulatedGraph | None:
        """The graph that takes what the running thread submits to that lane; None outside a capture.

        HazardError for another lane than the captured one: a GPU runs that work at once, and the graph lacks it.
        """
        if not self.captures or (graph := self.captures.get(self.threads.running)) is None:
            return None
        if lane is not graph.lane:
            raise HazardError(
                "work goes to another stream than the one under capture, and the graph will lack it",
                fix="submit to the captured stream",
                lines=(self.hazards.line_now(),),
            )
        return graph

    # The GPU

    def submit(
        self, lane: StreamQueue, work: Work, touches: Sequence[Touch] = (), host: tuple[str, HostBuffer] | None = None
    ) -> None:
        """Append work to the lane; with the launch queue full the host waits for its oldest entry.

        `host` is the page-locked memory that a copy reads or writes by itself. HazardError where the work races for
        memory, or reads what was written in part alone.
        """
        for buffer, kind, begin, end in touches:
            self.hazards.check(buffer.accesses, lane, kind, begin, end, work)
            if buffer.whole:
                continue
            if kind != READ:
                buffer.write(begin, end)
            elif work.engine == COMPUTE_ENGINE and (written := buffer.written_in_part(end)) is not None:
                raise HazardError(
                    f"the input of {work.name} must be written whole, got {written:,} of {end:,} bytes",
                    fix="upload an array of the input's dtype and shape, all of it to its place",
                    lines=(self.hazards.line_now(),),
                )
        if host is not None:
            self.hazards.watch(*host, lane, work, compare=self.moves_bytes)
        if self.trace is not None:
            work.correlation = self.threads.running.call
        self.timeline.submit(lane, work)
        while lane.in_flight_entries > self._queue_depth:
            oldest = lane.in_flight.popleft()
            lane.in_flight_entries -= oldest.entries
            if not 0 <= oldest.end <= self.threads.now:
                self.hold_host(oldest)

    def hold_host(self, work: Work, tail_ns: int = 0) -> None:
        """Keep the running thread in its call until `tail_ns` before the end of `work`."""
        if work.end == PENDING:
            self.settle(work)
        self.advance_to(work.end - tail_ns)

    def settle(self, work: Work) -> None:
        """Let GPU time pass until the end of `work` is known; other host threads go first where they are behind.

        DeviceError where it never ends.
        """
        timeline, threads = self.timeline, self.threads
        while work.end == PENDING:
            following = timeline.next_start()
            if following is None:
                raise DeviceError(
                    "the host waits for work that waits for an event nobody records", fix="record it before the wait"
                )
            lane, start = following
            if threads.ready and threads.turn(until=start):
                continue
            timeline.place(lane, start)

    def is_done(self, work: Work) -> bool:
        """Whether `work` has run by now."""
        timeline, now = self.timeline, self.threads.now
        while work.end == PENDING and (following := timeline.next_start()) and following[1] <= now:
            timeline.place(*following)
        return work.has_run(now)

    def query(self, name: str, work: Work | None, clock: Clock | None = None) -> bool:
        """A call that asks whether `work` has run; see `wait` of the clock."""
        self.refuse_in_capture(name)
        self.spend(name, self.preset.query_ns)
        done = work is None or self.is_done(work)
        if done:
            self._learn(work, clock)
        self.hazards.check_copies()
        return done

    def wait(self, name: str, work: Work | None, clock: Clock | None = None) -> None:
        """A synchronize call: short where the work is done, else until the host has woken up after its end. The host
        knows all of the `clock` then, by default that of the work.
        """
        self.refuse_in_capture(name)
        begin = self.begin()
        done_at = begin + self.spread(self._synchronize_ns(name))
        if work is not None:
            self.settle(work)
            if work.end > begin:
                wake_up_ns = self.preset.wake_up_ns + self.memory.registered_wait_ns
                done_at = max(done_at, work.end + self.spread(wake_up_ns))
        self.advance_to(done_at)
        self.end(name, begin)
        self._learn(work, clock)
        self.hazards.check_copies()

    def _learn(self, work: Work | None, clock: Clock | None) -> None:
        self.hazards.learn(work.clock if clock is None and work is not None else clock)

    def _synchronize_ns(self, name: str) -> int:
        """What the call itself takes. Only that of a stream was measured cold."""
        cold_ns = self.preset.cold_synchronize_ns
        if cold_ns is not None and name == STREAM_SYNCHRONIZE and self.is_cold(name):
            return cold_ns
        return self.preset.synchronize_ns


class Memory:
    """Hands out memory at the preset's cost. `host_bytes` and `device_bytes` are those not yet freed, `registered` how
    many pieces of memory are registered.
    """

    def __init__(self, machine: Machine) -> None:
        self.host_bytes = self.device_bytes = self.registered = 0
        self._machine = machine
        self._registration = machine.preset.registration or Registration(0, 0, "")

    @property
    def registered_wait_ns(self) -> int:
        """How much longer every wait takes for the memory that stays registered."""
        return self._registration.kept_ns * self.registered

    def empty_host(self, shape: tuple[int, ...], dtype: Any, memory: HostMemory) -> WatchedBuffer:
        """NumPy memory that counts as `memory`."""
        memory = HostMemory(memory)
        nbytes = prod(shape) * np.dtype(dtype).itemsize
        machine = self._machine
        if memory.page_locked:
            machine.refuse_in_capture(f"{memory} memory")
        begin = machine.begin()
        allocation = machine.preset.pinned_allocation if memory is HostMemory.PINNED else None
        machine.advance(allocation.ns(nbytes) if allocation else 0)
        with memory_errors(f"{nbytes} bytes of {memory} memory"):
            raw = np.empty(nbytes, np.uint8)
        self.host_bytes += nbytes
        registered = memory is HostMemory.REGISTERED
        if registered:
            machine.advance(self._registration.call_ns)
            self.registered += 1
        if (
            memory.page_locked and machine.threads.running.ranges
        ):  # what is made before the loop is not part of its trace
            machine.end("cudaHostRegister" if registered else "cudaHostAlloc", begin)
        buffer = WatchedBuffer(raw.view(dtype).reshape(shape), memory, machine.hazards)
        buffer.forget = freed = weakref.finalize(raw, self._host_freed, nbytes, registered)
        freed.atexit = False
        return buffer

    def _host_freed(self, nbytes: int, registered: bool) -> None:
        self.host_bytes -= nbytes
        self.registered -= registered

    def register(self) -> None:
        """`cudaHostRegister` of memory that the program has already."""
        self._machine.refuse_in_capture("cudaHostRegister")
        self._machine.spend("cudaHostRegister", self._registration.call_ns)
        self.registered += 1

    def empty_device(self, nbytes: int) -> SimulatedBuffer:
        """Device memory; its bytes exist once they are touched."""
        machine = self._machine
        machine.refuse_in_capture("device memory")
        begin = machine.begin()
        self.device_bytes += nbytes
        machine.advance(0)
        if machine.threads.running.ranges:
            machine.end("cudaMalloc", begin)
        buffer = SimulatedBuffer(nbytes)
        weakref.finalize(buffer, self._device_freed, nbytes).atexit = False
        return buffer

    def _device_freed(self, nbytes: int) -> None:
        self.device_bytes -= nbytes
