"""A CUDA device in virtual time: it behaves as measured hardware does, on any machine, and the same every time.

What it models is what decides how long a call holds the host: streams in order, one copy engine a direction and one
compute engine, page-locked copies that the GPU makes by itself, pageable copies that the driver makes through staging
memory, and the launch queue. Its constants are a `Preset`, measured on a real GPU. What it shows is never a
measurement, and is stamped so.

`device` is what a loop sees. Behind it is a `machine`: a `host` whose threads spend virtual time, a `gpu` that takes
work through the launch queue, `memory`, and the watch over `hazards`. `copies`, `kernels`, `streams` and `graphs` are
the calls that put work on it, and `trace` keeps what happened.
"""

from .device import SimulatedDevice
from .graphs import SimulatedGraph
from .memory import SimulatedBuffer
from .streams import SimulatedEvent, SimulatedStream

__all__ = ["SimulatedBuffer", "SimulatedDevice", "SimulatedEvent", "SimulatedGraph", "SimulatedStream"]
