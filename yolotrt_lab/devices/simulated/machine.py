"""The simulated machine: what all calls of a program share."""

from __future__ import annotations

from ..preset import Preset
from ..timeline import Work
from .gpu import Gpu
from .hazards import Hazards
from .host import Host
from .memory import Memory


class Machine:
    """A host and a GPU of that preset, their memory, and the watch over it. With `moves_bytes` copies really copy."""

    def __init__(self, preset: Preset, host: Host, moves_bytes: bool) -> None:
        self.preset = preset
        self.host = host
        self.moves_bytes = moves_bytes
        self.gpu = Gpu(host, preset.launch_queue_depth)
        self.hazards = Hazards(self.gpu, host.threads)
        self.memory = Memory(host, preset, self.hazards.forget)

    def wait(self, name: str, work: Work | None) -> None:
        """A synchronize call: short where the work is done, else until the host has woken up after its end."""
        host, preset = self.host, self.preset
        host.refuse_in_capture(name)
        begin = host.begin()
        done_at = begin + host.spread(preset.synchronize_ns)
        if work is not None:
            self.gpu.settle(work)
            if work.end > begin:
                wake_up_ns = preset.wake_up_ns + self.memory.registered_wait_ns
                done_at = max(done_at, work.end + host.spread(wake_up_ns))
        host.advance_to(done_at)
        host.end(name, begin)
        self.hazards.check_uploads()
