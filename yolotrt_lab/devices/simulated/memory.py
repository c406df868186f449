"""Memory of the device and of the host, and how much of it the program holds."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from itertools import count
from math import prod
from typing import Any

import numpy as np

from ...types import HostMemory
from ..base import HostBuffer, memory_errors
from ..preset import Preset, Registration
from .host import Host


class SimulatedBuffer:
    """Device memory. `data` holds its bytes where the device moves bytes at all."""

    _addresses = count(0x7F00_0000_0000, 1 << 32)

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.address = next(self._addresses)
        self._data: np.ndarray | None = None

    @property
    def data(self) -> np.ndarray:
        """The bytes, uint8 (nbytes,)."""
        if self._data is None:
            self._data = np.zeros(self.nbytes, np.uint8)
        return self._data


class Memory:
    """Hands out memory at the preset's cost. `host_bytes` and `device_bytes` are those not yet freed.

    `on_free` is told the address of host memory that is freed: another buffer may get it.
    """

    def __init__(self, host: Host, preset: Preset, on_free: Callable[[int], None]) -> None:
        self.host_bytes = self.device_bytes = 0
        self._host = host
        self._on_free = on_free
        self._cost_ns = preset.host_work_ns
        self._registration = preset.registration or Registration(0, 0, "")
        self._registered = 0

    @property
    def registered_wait_ns(self) -> int:
        """How much longer every wait takes for the memory that stays registered."""
        return self._registration.kept_ns * self._registered

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
            self._registered += 1
        if memory.page_locked and host.in_range():  # what is made before the loop is not part of its trace
            host.end("cudaHostRegister" if registered else "cudaHostAlloc", begin)
        buffer = HostBuffer.over(raw.view(dtype).reshape(shape), memory)
        weakref.finalize(raw, self._host_freed, buffer.address, nbytes, registered).atexit = False
        return buffer

    def _host_freed(self, address: int, nbytes: int, registered: bool) -> None:
        self.host_bytes -= nbytes
        self._registered -= registered
        self._on_free(address)

    def empty_device(self, nbytes: int) -> SimulatedBuffer:
        """Device memory; its bytes exist once they are touched."""
        self._host.refuse_in_capture("device memory")
        self.device_bytes += nbytes
        self._host.advance(self._cost_ns.get("allocate_device", 0))
        buffer = SimulatedBuffer(nbytes)
        weakref.finalize(buffer, self._device_freed, nbytes).atexit = False
        return buffer

    def _device_freed(self, nbytes: int) -> None:
        self.device_bytes -= nbytes


def bytes_of(host: HostBuffer) -> np.ndarray:
    """The buffer's bytes, uint8: floats would not do, since NaN is not equal to itself."""
    return host.array.reshape(-1).view(np.uint8)
