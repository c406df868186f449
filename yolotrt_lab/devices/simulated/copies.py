"""Copies between host and device: by the GPU alone from page-locked memory, by the driver from pageable memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import CaptureError, DeviceError
from ...types import HostMemory
from ..base import DeviceBuffer, HostBuffer, Stream
from ..preset import PageableCopy, PinnedCopy
from ..timeline import DOWNLOAD_ENGINE, UPLOAD_ENGINE, Lane, Work
from .graphs import Captures
from .machine import Machine
from .memory import SimulatedBuffer, bytes_of
from .streams import SimulatedStream
from .trace import ROWS


class Copies:
    """`cudaMemcpyAsync` in one direction, that of `engine`."""

    def __init__(
        self, machine: Machine, captures: Captures, engine: int, pinned: PinnedCopy, pageable: PageableCopy
    ) -> None:
        self._machine = machine
        self._host = machine.host
        self._gpu = machine.gpu
        self._captures = captures
        self._engine = engine
        self._pinned = pinned
        self._pageable = pageable
        self._names = {memory: f"{memory} {ROWS[engine]}" for memory in HostMemory}

    def __call__(self, buffer: HostBuffer, device: DeviceBuffer, stream: Stream) -> None:
        """Copy all of the host's `buffer` from or to the begin of `device`."""
        assert isinstance(stream, SimulatedStream) and isinstance(device, SimulatedBuffer)
        nbytes, page_locked = buffer.nbytes, buffer.memory.page_locked
        if nbytes > device.nbytes:
            raise DeviceError(f"a copy of {nbytes} bytes does not fit device memory of {device.nbytes}")
        step: dict[str, Any] = {"engine": self._engine, "name": self._names[buffer.memory], "nbytes": nbytes}
        if self._machine.moves_bytes:
            step["action"] = self._mover(buffer, device)
        host = self._host
        begin = host.begin()
        dma_ns = self._pinned.fixed_ns + int(nbytes / self._pinned.rate)
        if (graph := self._captures.current()) is not None:
            if not page_locked:
                raise CaptureError("a pageable copy cannot be captured into a graph", fix="use pinned memory")
            graph.add(step, dma_ns, host=buffer)
            graph.uses(device)
            return
        if page_locked:
            ready = begin + self._machine.preset.submit_ns
            work = Work(ready=ready, duration=host.spread(dma_ns), **step)
            self._by_dma(stream.lane, work)
            self._machine.hazards.watch(buffer, work, compare=self._machine.moves_bytes)
        elif nbytes <= self._pageable.staging_bytes:
            host.advance(self._pageable.staged_call_ns + int(nbytes / self._pageable.staged_rate))
            self._gpu.submit(stream.lane, Work(ready=host.threads.now, duration=host.spread(dma_ns), **step))
        else:
            self._by_driver(stream.lane, nbytes, step)
        host.end("cudaMemcpyAsync", begin)

    def _by_dma(self, lane: Lane, work: Work) -> None:
        """The GPU makes the copy by itself: the call only submits it."""
        host, cost = self._host, self._pinned
        busy = host.is_cold(work.name) or (lane.last is not None and not self._gpu.is_done(lane.last))
        host.advance((cost.busy_call_ns if busy else cost.call_ns) + (host.state.call_ns() if host.state else 0))
        self._gpu.submit(lane, work)

    def _by_driver(self, lane: Lane, nbytes: int, step: dict[str, Any]) -> None:
        """The driver makes the copy through its staging memory, once the stream is empty: the call takes all of it."""
        host, cost = self._host, self._pageable
        if lane.last is not None:
            self._gpu.hold_host(lane.last)
        hold_ns = host.spread(cost.call_ns + int(nbytes / cost.rate))
        work = Work(ready=host.threads.now, duration=hold_ns + cost.tail_ns, **step)
        self._gpu.submit(lane, work)
        self._gpu.hold_host(work, cost.tail_ns)
        host.move_megabytes()

    def _mover(self, buffer: HostBuffer, device: SimulatedBuffer) -> Callable[[], None]:
        """What moves the bytes when the copy runs; a pageable upload's are taken now, into staging memory."""
        raw = bytes_of(buffer)
        if self._engine == DOWNLOAD_ENGINE:
            return lambda: np.copyto(raw, device.data[: raw.size])
        source = raw if buffer.memory.page_locked else raw.copy()
        return lambda: np.copyto(device.data[: raw.size], source)


def uploads(machine: Machine, captures: Captures) -> Copies:
    """Copies to the device, as the preset's hardware makes them."""
    preset = machine.preset
    return Copies(machine, captures, UPLOAD_ENGINE, preset.pinned_upload, preset.pageable_upload)


def downloads(machine: Machine, captures: Captures) -> Copies:
    """Copies from the device, as the preset's hardware makes them."""
    preset = machine.preset
    return Copies(machine, captures, DOWNLOAD_ENGINE, preset.pinned_download, preset.pageable_download)
