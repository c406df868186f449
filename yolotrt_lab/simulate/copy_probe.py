"""How long one copy blocks the host: `cudaMemcpyAsync` behind a backlog, and the synchronize after it.

The experiment behind most of what the lab says. A kernel keeps the stream busy for the backlog, the copy is submitted
behind it, and the host synchronizes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np

from ..device import Device
from ..errors import whole
from ..recording import Recording, machine_info
from ..types import HostMemory
from .timed_engine import spin

SIZES = (4_096, 65_536, 262_144, 1_228_800, 4_915_200, 24_883_200)
"""Bytes: a page, small tensors, a 640 x 640 uint8 and float32 image, a 1080p float32 frame."""

BACKLOGS_NS = (0, 1_000_000, 5_000_000, 20_000_000)
MEMORIES = (HostMemory.PAGEABLE, HostMemory.PINNED)
DIRECTIONS = ("h2d", "d2h")


class CopyProbe:
    """One host buffer, one device buffer and a stream, to time copies of `nbytes` between them.

    SettingsError for less than a byte.

    >>> from yolotrt_lab import HostMemory, open_device
    >>> CopyProbe(open_device("simulated"), HostMemory.PINNED, 4_915_200).time("h2d", backlog_ns=1_000_000)[0]
    7100
    """

    def __init__(self, device: Device, memory: HostMemory, nbytes: int) -> None:
        whole("the bytes of a copy", nbytes, 1)
        self._device = device
        self._stream = device.stream()
        self._host = device.empty_host((nbytes,), np.uint8, memory)
        self._buffer = device.empty_device(nbytes)
        self._host.array[:] = 1

    def time(self, direction: str, backlog_ns: int) -> tuple[int, int]:
        """How long the copy call and the synchronize after it block the host, in ns; 'h2d' uploads, 'd2h' downloads."""
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
    sizes: Sequence[int] = SIZES,
    backlogs_ns: Sequence[int] = BACKLOGS_NS,
    repeats: int = 6,
    command: str = "",
    keep: Callable[[Recording], str] | None = None,
) -> Recording:
    """The copy table: a row for each direction, kind of host memory, size and backlog, medians of `repeats` copies.

    Its columns are `direction`, `host_memory`, `bytes`, `backlog_ns`, `call_ns` and `sync_ns`. About 4 seconds on a GPU
    with the default arguments. SettingsError where there is no size, no backlog or no repeat. After an error or Ctrl-C
    `keep` gets the rows so far, with a note, and says where they lie: the error says it then.

    >>> from yolotrt_lab import open_device
    >>> len(measure_copies(open_device("simulated"), sizes=[4_096], backlogs_ns=[0], repeats=1))
    4
    """
    for name, number in (
        ("the number of sizes", len(sizes)),
        ("the number of backlogs", len(backlogs_ns)),
        ("repeats", repeats),
    ):
        whole(name, number, 1)
    rows: list[tuple[Any, ...]] = []

    def table(*notes: str) -> Recording:
        names = ("direction", "host_memory", "bytes", "backlog_ns", "call_ns", "sync_ns")
        columns = {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
        about: dict[str, Any] = {"machine": machine_info(), "settings": {"repeats": repeats}, "command": command}
        return Recording("copies", columns, device.source, label="copies", notes=notes, **about)

    try:
        for nbytes, memory in product(sizes, MEMORIES):
            probe = CopyProbe(device, memory, nbytes)
            for direction, backlog_ns in product(DIRECTIONS, backlogs_ns):
                median_ns = probe.median(direction, backlog_ns, repeats=repeats)
                rows.append((direction, str(memory), nbytes, backlog_ns, *median_ns))
    except BaseException as error:
        if keep is not None and rows:
            error.add_note(keep(table(f"unfinished: {type(error).__name__} ended the run after {len(rows)} rows")))
        raise
    return table()
