"""How long one copy holds the host: `cudaMemcpyAsync` behind a backlog, and the synchronize after it.

The experiment behind most of what the lab says. A kernel keeps the stream busy for `backlog`; the copy is submitted
behind it; then the host synchronizes. `call_ns` is the host's time in the copy call, `sync_ns` in the synchronize.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

import numpy as np

from ..device import Device, DeviceBuffer, HostBuffer, Stream
from ..errors import SettingsError
from ..recording import Recording, machine_info
from ..types import HostMemory
from .timed_engine import spin

SIZES = (4_096, 65_536, 262_144, 1_228_800, 4_915_200, 24_883_200)
"""Bytes: a page, small tensors, a 640 x 640 uint8 and float32 image, a 1080p float32 frame."""

BACKLOGS_NS = (0, 1_000_000, 5_000_000, 20_000_000)
MEMORIES = (HostMemory.PAGEABLE, HostMemory.PINNED)
DIRECTIONS = ("h2d", "d2h")


class CopyProbe:
    """One host buffer, one device buffer and a stream, to time copies between them; SettingsError for no bytes."""

    def __init__(self, device: Device, memory: HostMemory, nbytes: int) -> None:
        if nbytes < 1:
            raise SettingsError(f"a copy of {nbytes:,} bytes", fix="copy at least one byte")
        self._device = device
        self._stream: Stream = device.stream()
        self._host: HostBuffer = device.empty_host((nbytes,), np.uint8, memory)
        self._buffer: DeviceBuffer = device.empty_device(nbytes)
        self._host.array[:] = 1

    def time(self, direction: str, backlog_ns: int) -> tuple[int, int]:
        """Nanoseconds in the copy call and in the synchronize after it."""
        device, stream = self._device, self._stream
        if backlog_ns:
            spin(device, backlog_ns, stream)
        begin = device.now_ns()
        if direction == "h2d":
            device.upload(self._host, self._buffer, stream)
        else:
            device.download(self._buffer, self._host, stream)
        returned = device.now_ns()
        stream.synchronize()
        return returned - begin, device.now_ns() - returned

    def median(self, direction: str, backlog_ns: int, *, repeats: int, discard: int = 2) -> tuple[int, int]:
        """Medians over `repeats` copies after `discard` that warm up."""
        times = [self.time(direction, backlog_ns) for _ in range(discard + repeats)][discard:]
        call_ns, sync_ns = np.median(times, axis=0)
        return int(call_ns), int(sync_ns)


def measure_copies(
    device: Device,
    *,
    sizes: Iterable[int] = SIZES,
    backlogs_ns: Iterable[int] = BACKLOGS_NS,
    repeats: int = 6,
    label: str = "copies",
    command: str = "",
) -> Recording:
    """The copy table: every direction, kind of host memory, size and backlog; one row each, medians of `repeats`.

    About 4 seconds on a GPU with the default arguments. SettingsError where that is no row, or no copy.
    """
    sizes, backlogs_ns = tuple(sizes), tuple(backlogs_ns)
    if not sizes or not backlogs_ns or repeats < 1:
        raise SettingsError(
            f"{len(sizes)} sizes, {len(backlogs_ns)} backlogs, repeats={repeats}", fix="use one of each or more"
        )
    rows = list(_rows(device, sizes, backlogs_ns, repeats))
    names = ("direction", "host_memory", "bytes", "backlog_ns", "call_ns", "sync_ns")
    return Recording(
        kind="copies",
        columns={name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)},
        source=device.source,
        machine=machine_info(),
        settings={"repeats": repeats},
        label=label,
        command=command,
    )


def _rows(
    device: Device, sizes: tuple[int, ...], backlogs_ns: tuple[int, ...], repeats: int
) -> Iterator[tuple[str, str, int, int, int, int]]:
    for nbytes, memory in product(sizes, MEMORIES):
        probe = CopyProbe(device, memory, nbytes)
        for direction, backlog_ns in product(DIRECTIONS, backlogs_ns):
            call_ns, sync_ns = probe.median(direction, backlog_ns, repeats=repeats)
            yield direction, str(memory), nbytes, backlog_ns, call_ns, sync_ns
