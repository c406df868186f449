"""The simulated machine: the host, the GPU behind its launch queue, memory, and the watch over bytes in flight."""

from __future__ import annotations

import random
import weakref
from collections.abc import Callable
from functools import partial
from itertools import count
from math import exp, prod
from threading import get_ident
from typing import Any

import numpy as np

from ..device import HostBuffer, memory_errors
from ..errors import CaptureError, DeviceError, HazardError
from ..types import HostMemory
from .conditions import State
from .preset import Preset, Registration
from .races import READ, WRITE, Accesses, Order
from .timeline import DOWNLOAD_ENGINE, PENDING, UPLOAD_ENGINE, StreamQueue, Timeline, Work
from .virtual_time import Trace, VirtualThread, VirtualThreads


class Range:
    """A range of the program; leaving it costs what the preset measured between two stages."""

    def __init__(self, host: Host, name: str, cost_ns: int) -> None:
        self._host = host
        self._name = name
        self._cost_ns = cost_ns
        self.begins: dict[VirtualThread, int] = {}
        self.payload: int | None = None

    def __enter__(self) -> None:
        threads = self._host.threads
        self.begins[threads.running] = threads.now

    def __exit__(self, *_: object) -> None:
        threads, trace = self._host.threads, self._host.trace
        begin = self.begins.pop(threads.running)
        if trace is not None:
            trace.keep_range(self._name, begin)
        threads.now += self._cost_ns


class WorkTime:
    """Work of the host's own, of megabytes; its cost is added when it is left."""

    def __init__(self, host: Host, duration_ns: int) -> None:
        self._host = host
        self._duration_ns = duration_ns

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        host, state = self._host, self._host.state
        host.advance(state.host_work_ns(self._duration_ns) if state else self._duration_ns)
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
        self._works: dict[str, WorkTime] = {}
        self.capturing: set[VirtualThread] = set()
        """The threads with a capture under way."""

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

    def work(self, name: str) -> WorkTime:
        """The host's own work of that name, at the preset's cost (0 if it has none)."""
        found = self._works.get(name)
        return found or self._works.setdefault(name, WorkTime(self, self._preset.host_work_ns.get(name, 0)))


class Gpu:
    """The timeline of a GPU, tied to the clock of a host."""

    def __init__(self, host: Host, launch_queue_depth: int) -> None:
        self.timeline = Timeline(None if host.trace is None else host.trace.keep_work)
        self.order = Order(host.trace)
        self._host = host
        self._threads = host.threads
        self._launch_queue_depth = launch_queue_depth

    def submit(self, lane: StreamQueue, work: Work) -> None:
        """Append work to the lane; with the launch queue full the host waits for its oldest entry."""
        if self._host.trace is not None:
            work.correlation = self._host.trace.number_of_call()
        self.timeline.submit(lane, work)
        while lane.in_flight_entries > self._launch_queue_depth:
            oldest = lane.in_flight.popleft()
            lane.in_flight_entries -= oldest.entries
            self.hold_host(oldest)

    def hold_host(self, work: Work, tail_ns: int = 0) -> None:
        """Keep the running thread in its call until `tail_ns` before the end of `work`."""
        self.settle(work)
        self._host.advance_to(work.end - tail_ns)

    def settle(self, work: Work) -> None:
        """Let GPU time pass until the end of `work` is known; other host threads go first where they are behind.

        DeviceError where it never ends.
        """
        timeline, threads = self.timeline, self._threads
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
        timeline, now = self.timeline, self._threads.now
        while work.end == PENDING and (following := timeline.next_start()) and following[1] <= now:
            timeline.place(*following)
        return work.has_run(now)


class SimulatedBuffer:
    """Device memory. `data` holds its bytes where the device moves bytes at all."""

    _addresses = count(0x7F00_0000_0000, 1 << 32)

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.address = next(self._addresses)
        self.accesses = Accesses()
        self._data: np.ndarray | None = None

    @property
    def data(self) -> np.ndarray:
        """The bytes, uint8 (nbytes,)."""
        if self._data is None:
            self._data = np.zeros(self.nbytes, np.uint8)
        return self._data


Touch = tuple[SimulatedBuffer, str, int, int]
"""What work does to device memory: which, 'reads', 'writes' or 'uses', and from which byte to which."""


class WatchedBuffer(HostBuffer):
    """Host memory whose `array` can't be had while a download still writes it: a HazardError. `forget` makes it count
    as freed.
    """

    __slots__ = ("_hazards", "forget")

    forget: Callable[[], Any]

    def __init__(self, array: np.ndarray, memory: HostMemory, hazards: Hazards) -> None:
        super().__init__(array, memory)
        self._hazards = hazards

    @property
    def array(self) -> np.ndarray:
        """The memory, once no download writes it any more."""
        self._hazards.check_idle(self, "used", DOWNLOAD_ENGINE)
        return self._array


class Memory:
    """Hands out memory at the preset's cost. `host_bytes` and `device_bytes` are those not yet freed."""

    def __init__(self, host: Host, preset: Preset, hazards: Hazards) -> None:
        self.host_bytes = self.device_bytes = 0
        self._host = host
        self._hazards = hazards
        self._cost_ns = preset.host_work_ns
        self._registration = preset.registration or Registration(0, 0, "")
        self.registered = 0
        """Pieces of memory that are registered."""

    @property
    def registered_wait_ns(self) -> int:
        """How much longer every wait takes for the memory that stays registered."""
        return self._registration.kept_ns * self.registered

    def empty_host(self, shape: tuple[int, ...], dtype: Any, memory: HostMemory) -> HostBuffer:
        """NumPy memory that counts as `memory`."""
        memory = HostMemory(memory)
        nbytes = prod(shape) * np.dtype(dtype).itemsize
        host = self._host
        if memory.page_locked:
            host.refuse_in_capture(f"{memory} memory")
        begin = host.begin()
        host.advance(self._cost_ns.get(f"allocate_{memory}", 0))
        with memory_errors(f"{nbytes} bytes of {memory} memory"):
            raw = np.empty(nbytes, np.uint8)
        self.host_bytes += nbytes
        registered = memory is HostMemory.REGISTERED
        if registered:
            host.advance(self._registration.call_ns)
            self.registered += 1
        if memory.page_locked and host.in_range():  # what is made before the loop is not part of its trace
            host.end("cudaHostRegister" if registered else "cudaHostAlloc", begin)
        buffer = WatchedBuffer(raw.view(dtype).reshape(shape), memory, self._hazards)
        buffer.forget = freed = weakref.finalize(raw, self._host_freed, buffer.address, nbytes, registered)
        freed.atexit = False
        return buffer

    def _host_freed(self, address: int, nbytes: int, registered: bool) -> None:
        self.host_bytes -= nbytes
        self.registered -= registered
        self._hazards.forget(address)  # another buffer may get it

    def register(self) -> None:
        """`cudaHostRegister` of memory that the program has already."""
        self._host.refuse_in_capture("cudaHostRegister")
        self._host.spend("cudaHostRegister", self._registration.call_ns)
        self.registered += 1

    def unregister(self) -> None:
        """`cudaHostUnregister`; what it costs was not measured."""
        self.registered -= 1

    def empty_device(self, nbytes: int) -> SimulatedBuffer:
        """Device memory; its bytes exist once they are touched."""
        host = self._host
        host.refuse_in_capture("device memory")
        begin = host.begin()
        self.device_bytes += nbytes
        host.advance(self._cost_ns.get("allocate_device", 0))
        if host.in_range():
            host.end("cudaMalloc", begin)
        buffer = SimulatedBuffer(nbytes)
        weakref.finalize(buffer, self._device_freed, nbytes).atexit = False
        return buffer

    def _device_freed(self, nbytes: int) -> None:
        self.device_bytes -= nbytes


_FIX = "wait for the event that follows the copy, or use another slot"


def _when(now: int, line: tuple[str, int] | None) -> str:
    """The instant, where no line says where it was."""
    return "" if line else f" at {now / 1e6:.3f} ms"


class Hazards:
    """Remembers the copies that the GPU makes by itself, and the host memory that they use."""

    def __init__(self, gpu: Gpu, threads: VirtualThreads) -> None:
        self._gpu = gpu
        self._order = gpu.order
        self._threads = threads
        self._copies: dict[int, list[Work]] = {}
        self._compared: list[tuple[Work, np.ndarray, np.ndarray]] = []
        self._freed: list[tuple[Work, int, str, tuple[str, int] | None]] = []
        self._host = Accesses()
        self.landed: Callable[[np.ndarray], None] = lambda raw: None
        """Called with the host's bytes that a download has written."""

    def check_order(self, buffer: HostBuffer, lane: StreamQueue, work: Work) -> None:
        """HazardError where a copy of another stream may use these bytes at the same time, and one of them writes."""
        kind = READ if work.engine == UPLOAD_ENGINE else WRITE
        begin, what = buffer.address, f"{buffer.memory} memory"
        self._order.check(self._host, lane, kind, begin, begin + buffer.nbytes, work, what)

    def watch(self, host: HostBuffer, work: Work, *, compare: bool) -> None:
        """Keep an eye on the host's side of a copy; with `compare` on its bytes too."""
        now, earlier = self._threads.now, self._copies.get(host.address, ())
        self._copies[host.address] = [*(each for each in earlier if not each.has_run(now)), work]
        if compare:
            raw = host.raw
            self._compared.append((work, raw, raw.copy()))
            if work.engine == DOWNLOAD_ENGINE and work.action is not None:
                work.action = partial(self._land, work, work.action)

    def _land(self, work: Work, action: Callable[[], None]) -> None:
        """A download writes its bytes: what it is compared with from here on is what it wrote."""
        found = next((each for each in self._compared if each[0] is work), None)
        untouched = found is not None and np.array_equal(found[1], found[2])
        action()
        if found is not None:
            self.landed(found[1])
            if untouched:
                np.copyto(found[2], found[1])

    def forget(self, address: int) -> None:
        """That memory was freed."""
        self._copies.pop(address, None)
        if self._host.latest:
            self._host.latest = [each for each in self._host.latest if each[3] != address]

    def freed(self, buffer: HostBuffer) -> None:
        """That memory is given up; the next wait raises a HazardError if a copy turns out to have used it then.

        It may be called by the garbage collector, at any moment: it lets no GPU time pass.
        """
        now, end = self._threads.now, buffer.address + buffer.nbytes
        for address in list(self._copies):
            if buffer.address <= address < end:
                line = self._order.line_now()
                what = f"{buffer.nbytes} bytes of {buffer.memory} memory are freed{_when(now, line)}"
                self._freed += [(work, now, what, line) for work in self._copies.pop(address) if not work.has_run(now)]
        self._host.latest = [each for each in self._host.latest if not buffer.address <= each[3] < end]

    def check_idle(self, buffer: HostBuffer, verb: str, engine: int | None = None) -> None:
        """HazardError if a copy (on that engine, on any without it) still uses these bytes, which are to be 'read',
        'written' or 'used'.
        """
        for work in self._copies.get(buffer.address, ()):
            if engine in (None, work.engine) and not self._gpu.is_done(work):
                line = self._order.line_now()
                raise HazardError(
                    f"{buffer.nbytes} bytes of {buffer.memory} memory are {verb}{_when(self._threads.now, line)} while "
                    f"a copy ({work.name}) still uses them",
                    fix=_FIX,
                    lines=(line, self._order.line(work)),
                )

    def check_known(self, begin: int, end: int, kind: str) -> None:
        """HazardError where the host reads or writes (`kind`) these bytes, and nothing that it waited for says that the
        copies of them are over: even if this time they are.
        """
        for access in self._host.latest:
            _, _, how, first, last, work = access
            if first < end and begin < last and WRITE in (kind, how) and not self._order.is_known(access):
                raise HazardError(
                    f"the host {kind} memory that a copy ({work.name}) {how}, and no wait says that the copy is over",
                    fix=_FIX,
                    lines=(self._order.line_now(), self._order.line(work)),
                )

    def check_copies(self) -> None:
        """HazardError where the bytes of a copy that has run by now are not those that were submitted or downloaded,
        and where memory was freed while a copy still used it.
        """
        if not (self._compared or self._freed):
            return
        now = self._threads.now
        ended = [each for each in self._compared if each[0].has_run(now)]
        self._compared = [each for each in self._compared if not each[0].has_run(now)]
        freed, self._freed = self._freed, [each for each in self._freed if each[0].end == PENDING]
        for work, freed_ns, what, line in freed:
            if work.end > freed_ns:
                raise HazardError(
                    f"{what} while a copy ({work.name}) still uses them",
                    fix="hold the memory until the copy is done",
                    lines=(line, self._order.line(work)),
                )
        for work, raw, submitted in ended:
            if not np.array_equal(raw, submitted):
                raise HazardError(
                    f"{raw.size} bytes were written while they were in flight ({work.name})",
                    fix=_FIX,
                    lines=(self._order.line(work),),
                )


STREAM_SYNCHRONIZE = "cudaStreamSynchronize"


class Machine:
    """A host and a GPU of that preset, their memory, and the watch over it. With `moves_bytes` copies really copy."""

    def __init__(self, preset: Preset, host: Host, moves_bytes: bool) -> None:
        self.preset = preset
        self.host = host
        self.moves_bytes = moves_bytes
        self.gpu = Gpu(host, preset.launch_queue_depth)
        self.hazards = Hazards(self.gpu, host.threads)
        self.memory = Memory(host, preset, self.hazards)

    def wait(self, name: str, work: Work | None, clock: dict[int, int] | None) -> None:
        """A synchronize call: short where the work is done, else until the host has woken up after its end. The host
        knows all of the `clock` then.
        """
        host, preset = self.host, self.preset
        host.refuse_in_capture(name)
        begin = host.begin()
        done_at = begin + host.spread(self._synchronize_ns(name))
        if work is not None:
            self.gpu.settle(work)
            if work.end > begin:
                wake_up_ns = preset.wake_up_ns + self.memory.registered_wait_ns
                done_at = max(done_at, work.end + host.spread(wake_up_ns))
        host.advance_to(done_at)
        host.end(name, begin)
        self.gpu.order.learn(clock)
        self.hazards.check_copies()

    def _synchronize_ns(self, name: str) -> int:
        """What the call itself takes. Only that of a stream was measured cold."""
        cold_ns = self.preset.cold_synchronize_ns
        if cold_ns is not None and name == STREAM_SYNCHRONIZE and self.host.is_cold(name):
            return cold_ns
        return self.preset.synchronize_ns
