"""What NV12 buys, by batch and contexts: `python benchmarks/bench_planes.py [FRAMES]`, on a GPU.

The letterbox kernels alone, then the loop of rung 9 with other batches and contexts, each beside the larger of its two
limits: the bare upload, and the engine at that batch and those contexts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from yolotrt_lab import open_device, read_images
from yolotrt_lab.device import Device
from yolotrt_lab.speed.kernels import Letterboxer
from yolotrt_lab.speed.ladder import RUNGS, open_engines
from yolotrt_lab.speed.limits import NV12_BYTES, confidence_for, copy_us, engine_us, figures, median_us
from yolotrt_lab.types import Pixels, TensorSpec

# batch, contexts, slots, and whether uploads have a stream of their own
CHOICES = ((4, 4, 4, False), (8, 3, 3, False), (8, 4, 4, False), (16, 2, 2, False), (16, 2, 4, True))
CHOICES += ((16, 3, 3, False), (16, 3, 6, True), (16, 4, 4, False))
TIMES = 100


def kernel_us(device: Device, dtype: str, frame_shape: tuple[int, int], pixels: Pixels) -> float:
    """The letterbox of one frame, by a graph of many."""
    spec, stream = TensorSpec("images", (1, 3, 640, 640), np.dtype(dtype)), device.stream()
    letterboxer = Letterboxer(device, spec, frame_shape, pixels)
    frames, images = device.empty_device(letterboxer.frames.nbytes), device.empty_device(spec.nbytes)
    launch: Callable[[], None] = partial(letterboxer.launch, frames, images, stream)
    launch()
    stream.synchronize()
    graph = device.capture(lambda: [launch() for _ in range(TIMES)] and None, stream)
    return median_us(device, partial(graph.launch, stream), 9) / TIMES


def main(frames: int = 8_000) -> None:
    """Print two tables."""
    device = open_device()
    for dtype in ("float32", "float16"):
        for shape in ((1080, 1920), (2160, 3840), (720, 1280)):
            took = [f"{pixels} {kernel_us(device, dtype, shape, pixels):.2f} us" for pixels in Pixels]
            print(f"letterbox of {shape[1]} x {shape[0]} to {dtype}: {', '.join(took)}", flush=True)
    engines = open_engines(device, lambda _: None, batches=sorted({1, *(batch for batch, *_ in CHOICES)}))
    images = read_images("synthetic", 8) if device.kind == "cuda" else None
    confidence = 0.25 if images is None else confidence_for(device, engines[1], images)
    upload_us = copy_us(device, "upload", NV12_BYTES)
    print(f"bare upload of 1080p in NV12: {upload_us:.1f} us")
    for batch, contexts, slots, overlap in CHOICES:
        alone_us = engine_us(device, engines[batch], contexts)
        changes = {"contexts": contexts, "collect_after": slots - 1, "overlap": overlap, "confidence": confidence}
        settings = replace(RUNGS[8].settings, frames=frames, **changes)
        found = figures(settings.loop(device, engines[batch], RUNGS[8].frames(images)).run())
        print(
            f"batch {batch:2}, contexts {contexts}, slots {slots}{', uploads apart' if overlap else ''}: "
            f"{found.frame_us:.1f} us a frame, {found.frame_us / max(alone_us, upload_us):.3f} of {alone_us:.1f}, "
            f"latency p50 {found.p50_us:,.0f}, p99 {found.p99_us:,.0f} us",
            flush=True,
        )
    print(device.source.stamp)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
