"""The simulated machine: the clock of its host, the GPU behind its launch queue, and memory at the preset's cost."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import cached_property
from itertools import chain, count
from math import floor, prod, tau
from operator import index
from random import Random
from threading import get_ident
from typing import TYPE_CHECKING, Any

import numpy as np

from ..device import HostBuffer, memory_errors
from ..errors import CaptureError, DeviceError, HazardError
from ..types import HostMemory
from .conditions import State
from .hazards import Hazards, Region, WatchedBuffer
from .preset import Preset, Registration
from .timeline import PENDING, StreamQueue, Task, Timeline, Work
from .virtual_time import Trace, VirtualThread, VirtualThreads

if TYPE_CHECKING:
    from .streams import SimulatedEvent, SimulatedGraph

STREAM_SYNCHRONIZE = "cudaStreamSynchronize"


class SimulatedBuffer:
    """Device memory. `data` holds its bytes where the device moves bytes at all."""

    _addresses = count(0x7F00_0000_0000, 1 << 32)

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.address = next(self._addresses)
        self.region = Region("device memory", self)

    @cached_property
    def data(self) -> np.ndarray:
        """The bytes, uint8 (nbytes,)."""
        return np.zeros(self.nbytes, np.uint8)


class Range:
    """A range of the program; leaving it costs what the preset measured between two stages."""

    __slots__ = ("_start", "_threads", "cost_ns", "ns", "payload")

    def __init__(self, threads: VirtualThreads, cost_ns: int) -> None:
        self._threads, self.cost_ns = threads, cost_ns
        self.payload: int | None = None
        self.ns = self._start = 0

    def __enter__(self) -> None:
        self._start = self._threads.now

    def __exit__(self, kind: object = None, error: object = None, trace: object = None) -> None:
        threads = self._threads
        now = threads.now
        self.ns = now - self._start
        threads.now = now + self.cost_ns


class TracedRange(Range):
    """A range that a trace keeps."""

    __slots__ = ("_name", "_trace")

    def __init__(self, threads: VirtualThreads, cost_ns: int, trace: Trace, name: str) -> None:
        super().__init__(threads, cost_ns)
        self._trace, self._name = trace, name

    def __enter__(self) -> None:
        self._threads.running.ranges += 1
        super().__enter__()

    def __exit__(self, kind: object = None, error: object = None, trace: object = None) -> None:
        self._threads.running.ranges -= 1
        self._trace.keep("range", self._name, self._start)
        super().__exit__()


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
        self.spread: Callable[[int], int] = _jittered(jitter, seed) if jitter else index
        """The duration, give or take the jitter."""
        self.warm: set[str] | None = None
        """The kinds of calls since the host has moved megabytes: each is cold once after it. None: it never has."""
        self._queue_depth = preset.launch_queue_depth
        self._kept_ns = preset.registration.kept_ns if preset.registration else 0

    # The host's time

    def begin(self) -> int:
        """The begin of every call: threads that are behind go first, so that calls happen in order of virtual time."""
        threads = self.threads
        if threads.ready:
            threads.turn()
        if self.trace is not None:
            threads.check_caller()
            self.trace.begin_call()
        return threads.now

    def spend(self, name: str, duration_ns: int) -> None:
        """A whole call that does nothing but take its time."""
        begin = self.begin()
        self.threads.now = begin + self.spread(duration_ns)
        if self.trace is not None:
            self.trace.keep("api", name, begin)

    def keep_in_range(self, name: str, begin: int) -> None:
        """The end of a call that the trace keeps in a range alone: what prepares a loop is not part of its trace."""
        if self.trace is not None and self.threads.running.ranges:
            self.trace.keep("api", name, begin)

    def advance(self, duration_ns: int) -> None:
        """Let that time pass for the running thread, give or take the jitter."""
        self.threads.now += self.spread(duration_ns)

    def is_cold(self, call: str) -> bool:
        """True once for each kind of call after the host has moved megabytes."""
        if self.warm is None or call in self.warm:
            return False
        self.warm.add(call)
        return True

    # Captures

    def refuse_in_capture(self, name: str) -> None:
        """CaptureError inside a capture, where a GPU refuses to wait, to be asked, and to allocate."""
        if self.threads.running in self.captures:
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
        self,
        lane: StreamQueue,
        task: Task,
        ready: int,
        duration: int = 0,
        end_from: int = 0,
        action: Callable[[], Any] | None = None,
        host: HostBuffer | None = None,
        event: SimulatedEvent | None = None,
    ) -> Work:
        """Append work to the lane, which the event marks; with the launch queue full the host waits for its oldest.

        `host` is the page-locked memory that a copy reads or writes by itself. HazardError where the work races for
        memory, or reads what was written in part alone.
        """
        work = Work()
        work.task = task
        work.lane = lane
        work.place = lane.count = lane.count + 1
        work.clock = lane.clock
        work.ready = ready
        work.duration = duration
        work.end_from = end_from
        work.action = action
        work.end = PENDING
        if task.touches:
            self.hazards.check(work)
        if self.moves_bytes and host is not None:
            self.hazards.compare(host, work)
        if self.trace is not None:
            work.correlation = self.threads.running.call
        if event is not None:
            event.work = work
        lane.waiting.append(work)
        lane.queue.append(work)
        lane.entries += task.entries
        lane.last = work
        if lane.entries > self._queue_depth:
            self._make_room(lane)
        return work

    def _make_room(self, lane: StreamQueue) -> None:
        queue, now = lane.queue, self.threads.now
        self.hazards.thin_out(lane)
        if not self.threads.ready:  # others may be at an earlier time, where it has not run
            while queue and 0 <= queue[0].end <= now:
                lane.entries -= queue.popleft().task.entries
        while lane.entries > self._queue_depth:
            oldest = queue.popleft()
            lane.entries -= oldest.task.entries
            self.hold_host(oldest)

    def hold_host(self, work: Work, tail_ns: int = 0) -> None:
        """Keep the running thread in its call until `tail_ns` before the end of `work`."""
        if work.end == PENDING:
            self.settle(work)
        if work.end - tail_ns > self.threads.now:
            self.threads.now = work.end - tail_ns

    def settle(self, work: Work) -> None:
        """Let GPU time pass until the end of `work` is known; other host threads go first where they are behind.

        DeviceError where it never ends.
        """
        timeline, threads = self.timeline, self.threads
        if not threads.ready:
            timeline.place_alone(work)
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

    def query(self, name: str, work: Work | None) -> bool:
        """A call that asks whether `work` has run."""
        self.refuse_in_capture(name)
        self.spend(name, self.preset.query_ns)
        done = work is None or self.is_done(work)
        self.hazards.learn(work if done else None)
        return done

    def wait(self, name: str, work: Work | None) -> None:
        """A synchronize call: short where the work is done, else until the host has woken up after its end."""
        if self.captures:
            self.refuse_in_capture(name)
        threads, preset = self.threads, self.preset
        if get_ident() != threads.running.ident:
            threads.check_caller()
        begin, call_ns = self.begin(), preset.synchronize_ns
        # Only the call of a stream was measured cold.
        if preset.cold_synchronize_ns is not None and name is STREAM_SYNCHRONIZE and self.is_cold(name):
            call_ns = preset.cold_synchronize_ns
        done_at = begin + self.spread(call_ns)
        if work is not None:
            if work.end == PENDING:
                self.settle(work)
            if work.end > begin:
                wake_up_ns = preset.wake_up_ns + self._kept_ns * self.memory.registered
                awake_at = work.end + self.spread(wake_up_ns)
                if awake_at > done_at:
                    done_at = awake_at
            lane = work.lane
            if work is lane.last and not threads.ready:  # the lane's launch queue is empty
                lane.queue.clear()
                lane.entries = 0
        threads.now = done_at
        if self.trace is not None:
            self.trace.keep("api", name, begin)
        self.hazards.learn(work)


def _jittered(deviation: float, seed: int) -> Callable[[float], int]:
    """What gives a duration times a log-normal factor: `Random.gauss`, in pairs (Box and Muller, 1958)."""
    *words, place = Random(seed).getstate()[1]
    generator = np.random.RandomState()
    generator.set_state(("MT19937", np.array(words, np.uint32), place, 0, 0.0))  # draws the numbers of that `Random`

    def block() -> list[float]:
        uniform = generator.random_sample((500, 2))
        angle, radius = uniform[:, 0] * tau, np.sqrt(-2.0 * np.log(1.0 - uniform[:, 1]))
        pairs = np.stack((np.cos(angle) * radius, np.sin(angle) * radius), axis=1)
        factors: list[float] = np.exp(pairs * deviation).ravel().tolist()
        return factors

    factors = chain.from_iterable(iter(block, None))
    return lambda duration_ns: floor(duration_ns * next(factors))


class Memory:
    """Hands out memory at the preset's cost. `host_bytes` and `device_bytes` are those not yet freed, `registered` how
    many pieces of memory are registered.
    """

    def __init__(self, machine: Machine) -> None:
        self.host_bytes = self.device_bytes = self.registered = 0
        self._machine = machine
        self._registration = machine.preset.registration or Registration(0, 0, "")

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
        if memory.page_locked:
            machine.keep_in_range("cudaHostRegister" if registered else "cudaHostAlloc", begin)
        buffer = WatchedBuffer(raw.view(dtype).reshape(shape), memory, machine.hazards)
        buffer.forget = freed = weakref.finalize(raw, _freed, weakref.ref(self), nbytes, 0, registered)
        freed.atexit = False
        return buffer

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
        machine.keep_in_range("cudaMalloc", begin)
        buffer = SimulatedBuffer(nbytes)
        weakref.finalize(buffer, _freed, weakref.ref(self), 0, nbytes).atexit = False
        return buffer


def _freed(memory: weakref.ref[Memory], host_bytes: int, device_bytes: int, registered: int = 0) -> None:
    """Count it off. What waits for memory to be freed must not hold its device, which may hold that memory itself."""
    if (kept := memory()) is not None:
        kept.host_bytes -= host_bytes
        kept.device_bytes -= device_bytes
        kept.registered -= registered
