"""An engine that hands its contexts out again: making one takes seconds where the runtime compiles kernels for it."""

from __future__ import annotations

import weakref

from ..devices.base import Device, Stream
from .base import Context, Engine


class LendingEngine(Engine):
    """`engine`, with contexts that come back once nobody holds them any more, and are then handed out again.

    For many loops after each other in one thread, on one device. A loop has to be over (and synchronized) before the
    last reference to it goes.
    """

    def __init__(self, engine: Engine) -> None:
        self.label, self.computes = engine.label, engine.computes
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self._engine = engine
        self._free: list[Context] = []

    def context(self, device: Device) -> Context:
        """One that came back, or a new one."""
        context = self._free.pop() if self._free else self._engine.context(device)
        lent = _Lent(context)
        weakref.finalize(lent, self._free.append, context).atexit = False
        return lent


class _Lent(Context):
    def __init__(self, context: Context, first: _Lent | None = None) -> None:
        self.buffers = context.buffers
        self._context, self._enqueue = context, context.enqueue
        self._first = first  # comes back after its siblings

    def enqueue(self, stream: Stream) -> None:
        """Submit one inference."""
        self._enqueue(stream)

    def sibling(self, device: Device) -> _Lent:
        """A sibling of the context that was lent, which goes when nobody holds it."""
        return _Lent(self._context.sibling(device), self._first or self)
