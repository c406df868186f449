"""How many frames the simulated device runs in a second of CPU time: `python benchmarks/bench_simulation.py`."""

from __future__ import annotations

import statistics
import time

from yolotrt_lab.device import open_device
from yolotrt_lab.engine import open_engine
from yolotrt_lab.loop import FrameLoop, LoopSettings
from yolotrt_lab.types import Fill, HostMemory

FRAMES = 20_000
SETTINGS = {
    "pageable, fresh array": LoopSettings(frames=FRAMES),
    "pinned, in place": LoopSettings(frames=FRAMES, input_memory=HostMemory.PINNED, fill=Fill.IN_PLACE),
    "pinned, graph, 3 late": LoopSettings(
        frames=FRAMES, input_memory=HostMemory.PINNED, fill=Fill.IN_PLACE, graph=True, collect_after=3
    ),
}


def main() -> None:
    """Print the median rate of five runs for each loop, with and without jitter."""
    for jitter in (0.0, 0.05):
        for label, settings in SETTINGS.items():
            rates = []
            for seed in range(5):
                device = open_device("simulated", jitter=jitter, seed=seed)
                loop = FrameLoop(device, open_engine(device), settings)
                begin = time.process_time()
                loop.run()
                rates.append(FRAMES / (time.process_time() - begin))
            print(f"{label:24} jitter {jitter:<5} {statistics.median(rates):8,.0f} frames/s")


if __name__ == "__main__":
    main()
