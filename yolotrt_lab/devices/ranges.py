"""NVTX ranges cheap enough for a frame loop: made once by name, pushed and popped in a domain of the lab."""

from __future__ import annotations

import importlib.util
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any

DOMAIN = "yolotrt_lab"


class NvtxRange:
    """A reusable range. Its attributes belong to one thread: pushing changes them."""

    __slots__ = ("_attributes", "_pop", "_push")

    def __init__(self, domain: Any, name: str) -> None:
        self._attributes = domain.get_event_attributes(message=name)
        self._push = domain.push_range
        self._pop = domain.pop_range

    def __enter__(self) -> None:
        self._push(self._attributes)

    def __exit__(self, *_: object) -> None:
        self._pop()


class NvtxRanges:
    """The ranges of a program, by thread and name. Without the nvtx package they do nothing."""

    def __init__(self) -> None:
        self._domain = None
        if importlib.util.find_spec("nvtx") is not None:
            import nvtx

            self._domain = nvtx.get_domain(DOMAIN)
        self._by_thread = threading.local()

    def __call__(self, name: str) -> AbstractContextManager[None]:
        """The range of that name for the calling thread."""
        if self._domain is None:
            return nullcontext()
        ranges: dict[str, NvtxRange] = self._by_thread.__dict__
        if name not in ranges:
            ranges[name] = NvtxRange(self._domain, name)
        return ranges[name]
