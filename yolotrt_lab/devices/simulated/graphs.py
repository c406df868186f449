"""Graphs: work that is captured once and submitted again by each launch."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from ...errors import HazardError
from ..base import HostBuffer, Stream
from ..host_threads import VirtualThread
from ..timeline import Work
from .machine import Machine
from .memory import SimulatedBuffer
from .streams import SimulatedStream


class SimulatedGraph:
    """Captured work. `launch_ns` is what a launch costs the host, warm and cold; the first work starts `submit_ns`
    after its begin.

    Like a real one it knows device memory by address alone, so it keeps `submit`, and with that the memory.
    """

    def __init__(self, machine: Machine, submit: Callable[[], None]) -> None:
        self.launch_ns = (machine.preset.launch_ns, machine.preset.launch_ns)
        self.submit_ns = machine.preset.submit_ns
        self._machine = machine
        self._submit = submit
        self._memory: list[weakref.ref[SimulatedBuffer]] = []
        self._steps: list[tuple[dict[str, Any], HostBuffer | None]] = []

    def add(self, step: dict[str, Any], duration: int, *, host: HostBuffer | None = None) -> None:
        """One more piece of work: the arguments of its `Work`, and for a copy the host's side of it."""
        self._steps.append(({**step, "duration": duration}, host))

    def uses(self, *values: object) -> None:
        """Note the device memory among `values`."""
        self._memory += [weakref.ref(value) for value in values if isinstance(value, SimulatedBuffer)]

    def launch(self, stream: Stream) -> None:
        """Submit all of it by one call; HazardError where memory of the capture was freed."""
        assert isinstance(stream, SimulatedStream)
        if any(buffer() is None for buffer in self._memory):
            raise HazardError("a graph is launched on device memory that was freed", fix="keep it as long as the graph")
        machine, host = self._machine, self._machine.host
        begin = host.begin()
        host.advance(self.launch_ns[host.is_cold("cudaGraphLaunch")])
        for step, buffer in self._steps:
            work = Work(ready=begin + self.submit_ns, **step)
            machine.gpu.submit(stream.lane, work)
            if buffer is not None:
                machine.hazards.watch(buffer, work, compare=machine.moves_bytes)
        host.end("cudaGraphLaunch", begin)


class Captures:
    """The captures under way: each takes the work of its own host thread alone."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._graphs: dict[VirtualThread, SimulatedGraph] = {}

    def capture(self, submit: Callable[[], None]) -> SimulatedGraph:
        """Collect what `submit` submits."""
        thread = self._machine.host.threads.running
        graph = self._graphs[thread] = SimulatedGraph(self._machine, submit)
        self._machine.host.capturing.add(thread)
        try:
            submit()
        finally:
            self._machine.host.capturing.remove(thread)
            del self._graphs[thread]
        return graph

    def current(self) -> SimulatedGraph | None:
        """The graph that takes what the running thread submits; None outside a capture."""
        return self._graphs.get(self._machine.host.threads.running)
