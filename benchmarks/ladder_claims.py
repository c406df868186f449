"""What the ladder claims, each claim measured: its speed, and that it stays so over many frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np

from yolotrt_lab.device import Device
from yolotrt_lab.diagnose.growth.slope import slope
from yolotrt_lab.engine import Engine
from yolotrt_lab.loop import LoopSettings, make_loop
from yolotrt_lab.memory import SlotPool
from yolotrt_lab.packages import load
from yolotrt_lab.recording import Recording
from yolotrt_lab.speed.ladder import RUNGS, Claim, Ladder, Progress
from yolotrt_lab.speed.limits import FRAME_BYTES, copy_us, figures, frame_us
from yolotrt_lab.speed.overlap import OverlappedLoop
from yolotrt_lab.telemetry import Telemetry
from yolotrt_lab.types import Detections, TensorSpec

_SETTLED = 1_000  # from this frame on neither latency nor memory may grow


@dataclass(frozen=True, slots=True)
class Bench:
    """What the claims are measured on. `images` are 1080p frames, or None for an engine that computes nothing."""

    device: Device
    engines: Mapping[int, Engine]
    images: Sequence[np.ndarray] | None
    confidence: float

    def settings(self, rung: int, **changes: object) -> LoopSettings:
        """The settings of a rung with these changes."""
        return replace(RUNGS[rung - 1].settings, confidence=self.confidence, **changes)  # type: ignore[arg-type]

    def run(self, rung: int, **changes: object) -> Recording:
        """A rung, run once with these changes of its settings."""
        engine = self.engines[RUNGS[rung - 1].batch]
        return make_loop(self.device, engine, self.settings(rung, **changes), self.images).run()


def speed_claims(ladder: Ladder) -> list[Claim]:
    """Rungs 6 to 8 against the limits of the same run, as far as they were measured."""
    limits, steps = ladder.limits, {step.rung.number: step.together for step in ladder.steps}
    against = {
        6: ("the engine alone", limits.engine_us, 1.06),
        7: ("the engine alone", limits.engine_us, 0.52),
        8: ("the limit for many frames", limits.many_us, 1.15),
    }
    return [
        Claim(
            f"rung {rung}, us a frame, against {what}",
            steps[rung].frame_us / limit_us,
            factor,
            detail=f"{steps[rung].frame_us:.1f} of {limit_us:.1f} us, p99 latency {steps[rung].p99_us:,.0f} us",
        )
        for rung, (what, limit_us, factor) in against.items()
        if rung in steps
    ]


def single_frame(bench: Bench, ladder: Ladder, frames: int) -> Claim:
    """Latency of a frame that is submitted alone, from host memory to boxes in host memory."""
    recording = bench.run(6, frames=frames, overlap=False, collect_after=0)
    p50_us = figures(recording).p50_us
    return Claim(
        "latency of a frame alone, against the engine alone",
        p50_us / ladder.limits.engine_us,
        1.45,
        detail=f"{p50_us:.1f} us",
    )


def pinned_upload(bench: Bench, copies: int = 1_000) -> Claim:
    """Uploads from a pool's slots, with an event each, against bare copies from one pinned buffer."""
    device, stream = bench.device, bench.device.stream()
    pool = SlotPool(device, [TensorSpec("frames", (FRAME_BYTES,), np.dtype(np.uint8))], [], slots=3)
    target = device.empty_device(FRAME_BYTES)
    for slot in pool.slots:
        slot.inputs["frames"].array[:] = 0
    times = []
    for _ in range(5):
        begin = device.now_ns()
        for _ in range(copies):
            slot = pool.lease()
            device.upload(slot.inputs["frames"], target, stream)
            slot.submitted(stream)
        stream.synchronize()
        times.append((device.now_ns() - begin) / 1e3 / copies)
    ours, bare = float(np.median(times)), copy_us(device, "upload", copies=copies, rounds=5)
    return Claim(
        "rate of uploads from the pool, against bare copies", bare / ours, 0.97, True, f"{ours:.1f} and {bare:.1f} us"
    )


def long_run(bench: Bench, frames: int, rung: int = 7) -> list[Claim]:
    """Many frames: no slope of latency that can be told from zero, and no memory that grows."""
    memory: list[int] = []

    def look(frame: int, _: Detections) -> None:
        if frame in (min(_SETTLED, frames // 2), frames - 1):
            memory.append(_memory_bytes(bench.device) + loop.lanes.pool.nbytes)

    engine, settings = bench.engines[RUNGS[rung - 1].batch], bench.settings(rung, frames=frames)
    loop = OverlappedLoop(bench.device, engine, settings, bench.images, on_boxes=look)
    steady = loop.run().steady
    settled = steady.latency_ns[min(_SETTLED, frames // 2) :]
    found, made = slope(settled / 1e3), figures(steady)
    interval = f"slope {found.low * 1e6:+.3f} to {found.high * 1e6:+.3f} us over a million frames"
    tail = f"p50 {made.p50_us:,.0f} us, p99.9 / p50 {made.p999_us / made.p50_us:.2f}"
    name = f"{frames:,} frames of rung {rung}: latency has a slope"
    claims = [Claim(name, float(found.distinguishable), 0, detail=f"{interval}, {tail}")]
    if len(memory) == 2:
        grown = memory[1] - memory[0]
        claims.append(Claim("bytes of pinned and device memory that came after frame 1,000", grown, 0))
    return claims


def _memory_bytes(device: Device) -> int:
    """Device memory in use, by all of the GPU's processes; 0 where nothing is real."""
    if device.kind != "cuda":
        return 0
    free, total = load("cupy", needed_for="running on a GPU").cuda.runtime.memGetInfo()
    return int(total - free)


def instruments(bench: Bench, frames: int, turns: int = 4) -> list[Claim]:
    """Rungs 7 and 8 with timers, ranges and telemetry against without, in turns."""
    claims = []
    for rung in (7, 8):
        times: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(turns):
            for timers, found in times.items():
                with Telemetry(bench.device) if timers else nullcontext():  # type: ignore[arg-type]
                    found.append(frame_us(bench.run(rung, frames=frames, timers=timers)))
        on, off = (float(np.median(times[timers])) for timers in (True, False))
        claims.append(
            Claim(
                f"rung {rung} with timers and telemetry, against without",
                on / off,
                1.02,
                detail=f"{on:.1f} and {off:.1f} us",
            )
        )
    return claims


def on_a_clock(bench: Bench, ladder: Ladder, frames: int) -> list[Claim]:
    """Frames on a clock at 95 % of what a rung sustains: latency ends where it began, by the medians of a fifth each.

    At 95 % a hiccup of the host takes twenty times its length to drain, so that a short run may end in one. A slope's
    interval would not do: one long hiccup widens it until it holds zero, whatever the end looks like.
    """
    claims = []
    steps = {step.rung.number: step.together for step in ladder.steps}
    for rung in sorted({6, 7, 8} & set(steps)):
        recording = bench.run(rung, frames=frames, period_us=steps[rung].frame_us / 0.95).steady
        first, last = (np.median(part) / 1e3 for part in np.array_split(recording.latency_ns, 5)[::4])
        detail = f"{first:,.0f} us at first, {last:,.0f} us at last, p99.9 {figures(recording).p999_us:,.0f} us"
        name = f"rung {rung} at 95 % of its capacity: latency at last, against at first"
        claims.append(Claim(name, float(last / first), 1.1, detail=detail))
    return claims


def measure_claims(
    bench: Bench, ladder: Ladder, *, frames: int = 5_000, long: int = 100_000, progress: Progress = print
) -> Iterator[Claim]:
    """The claims about speed and steadiness, each as soon as it is measured; those about results are `results.py`'s."""
    yield from speed_claims(ladder)
    parts: dict[str, Callable[[], list[Claim]]] = {
        "a frame alone": lambda: [single_frame(bench, ladder, frames)],
        "pinned uploads": lambda: [pinned_upload(bench)],
        f"{long:,} frames": lambda: long_run(bench, long),
        "the cost of looking": lambda: instruments(bench, frames),
        "frames on a clock": lambda: on_a_clock(bench, ladder, 4 * frames),
    }
    for what, measure in parts.items():
        progress(f"measuring {what}")
        yield from attempted(what, measure)


def attempted(what: str, measure: Callable[[], Iterable[Claim]]) -> Iterator[Claim]:
    """The claims that `measure` makes; where it breaks, one that fails and says how: the others are measured still."""
    try:
        yield from measure()
    except Exception as error:
        yield Claim(f"{what}: measured to the end", 0, 1, True, detail=f"{type(error).__name__}: {error}")
