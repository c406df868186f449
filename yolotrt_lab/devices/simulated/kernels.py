"""Kernels: the lab's own, those of an engine, and one that only spins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..base import DeviceBuffer, Kernel, Stream
from ..preset import EngineCost
from ..timeline import COMPUTE_ENGINE, Work
from .graphs import Captures
from .machine import Machine
from .memory import SimulatedBuffer
from .streams import SimulatedStream


class Kernels:
    """Submits kernels (`cudaLaunchKernel`), or adds them to the graph whose capture is under way."""

    def __init__(self, machine: Machine, captures: Captures) -> None:
        self._machine = machine
        self._host = machine.host
        self._gpu = machine.gpu
        self._preset = machine.preset
        self._captures = captures

    def launch(
        self, kernel: Kernel, grid: tuple[int, int, int], arguments: Sequence[DeviceBuffer | np.generic], stream: Stream
    ) -> None:
        """A kernel of the lab: the preset's time for each frame of its batch; it computes where bytes are moved."""
        assert isinstance(stream, SimulatedStream)
        preset, host = self._preset, self._host
        duration = preset.kernel_ns.get(kernel.name, 0) * grid[2]
        step: dict[str, Any] = {"engine": COMPUTE_ENGINE, "name": kernel.name, "sharing": preset.kernel_sharing}
        if self._machine.moves_bytes:
            step["action"] = lambda: kernel.reference(*map(_value_of, arguments))
        begin = host.begin()
        if (graph := self._captures.current()) is not None:
            graph.add(step, duration)
            graph.uses(*arguments)
            return
        host.advance(preset.launch_ns)
        ready = begin + preset.submit_ns
        self._gpu.submit(stream.lane, Work(ready=ready, duration=host.spread(duration), **step))
        host.end("cudaLaunchKernel", begin)

    def run(self, name: str, cost: EngineCost, stream: Stream, action: Callable[[], Any] | None, owner: object) -> None:
        """The kernels of an engine: the host launches for `enqueue_ns`, the GPU follows."""
        assert isinstance(stream, SimulatedStream)
        host = self._host
        step: dict[str, Any] = {"engine": COMPUTE_ENGINE, "name": name, "action": action}
        step |= {"sharing": cost.sharing, "owner": owner}
        begin = host.begin()
        if (graph := self._captures.current()) is not None:
            graph.add(step, cost.graph_gpu_ns)
            graph.launch_ns = (cost.graph_launch_ns, cost.cold_graph_launch_ns)
            graph.submit_ns = cost.graph_submit_ns
            return
        host.advance(cost.cold_enqueue_ns if host.is_cold(name) else cost.enqueue_ns)
        launched_at = host.threads.now if cost.tail_ns else 0
        work = Work(
            ready=begin + self._preset.submit_ns,
            duration=host.spread(cost.gpu_ns),
            end_from=launched_at + cost.tail_ns,
            entries=cost.kernels,
            **step,
        )
        self._gpu.submit(stream.lane, work)
        host.end("cudaLaunchKernel", begin)

    def spin(self, duration_ns: int, stream: Stream) -> None:
        """One kernel of that duration: an engine that a plain launch starts."""
        if (graph := self._captures.current()) is not None:
            graph.add({"engine": COMPUTE_ENGINE, "name": "spin"}, duration_ns)
            return
        launch_ns = self._preset.launch_ns
        cost = EngineCost(
            enqueue_ns=launch_ns,
            cold_enqueue_ns=launch_ns,
            gpu_ns=duration_ns,
            tail_ns=0,
            graph_launch_ns=launch_ns,
            graph_submit_ns=self._preset.submit_ns,
            cold_graph_launch_ns=launch_ns,
            graph_gpu_ns=duration_ns,
            kernels=1,
        )
        self.run("spin", cost, stream, None, None)


def _value_of(argument: DeviceBuffer | np.generic) -> Any:
    """What a kernel's reference gets for an argument."""
    return argument.data if isinstance(argument, SimulatedBuffer) else argument
