"""The ladder with all that is claimed of it: `python benchmarks/ladder_claims.py [--peers] [--json FILE]`.

Claims are about speed (against the limits of the same run), steadiness (over many frames and on a clock) and results
(the boxes of the naive loop, each its own frame's). Results are only compared on a GPU: the simulated device computes
none. On a GPU it takes some minutes; `--device simulated --frames 100 --long 1000` takes seconds.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from ladder_peers import measure_peers
from onnx import numpy_helper

from yolotrt_lab import Fill, FrameLoop, LoopSettings, OverlappedLoop, SlotPool, Telemetry, read_images, slope
from yolotrt_lab.detector.scene import SyntheticScene
from yolotrt_lab.detector.yolov8 import build_model
from yolotrt_lab.device import Device, open_device
from yolotrt_lab.engine import Engine, LendingEngine
from yolotrt_lab.frames import FrameSource
from yolotrt_lab.onnxruntime import OnnxRuntimeEngine
from yolotrt_lab.packages import import_cv2, load, shipped_model
from yolotrt_lab.recording import Recording
from yolotrt_lab.speed.kernels import bgr_to_nv12
from yolotrt_lab.speed.ladder import RUNGS, Claim, Ladder, climb, open_engines
from yolotrt_lab.speed.limits import FRAME_BYTES, copy_us, engine_us, figures
from yolotrt_lab.speed.overlap import OverlapSettings
from yolotrt_lab.tensorrt import TensorRTEngine
from yolotrt_lab.types import Detections, Pixels, TensorSpec
from yolotrt_lab.vision import overlaps

_SETTLED = 1_000  # from this frame on neither latency nor memory may grow
_IOU = 0.99


@dataclass(frozen=True, slots=True)
class Bench:
    """What the claims are measured on."""

    device: Device
    engines: Mapping[int, Engine]
    images: Sequence[np.ndarray] | None
    """1080p frames; None for an engine that computes nothing."""
    confidence: float

    def settings(self, rung: int, **changes: Any) -> LoopSettings:
        """The settings of a rung with these changes."""
        return replace(RUNGS[rung - 1].settings, **{"confidence": self.confidence, **changes})

    def loop(self, rung: int, images: Any = None, on_boxes: Any = None, **changes: Any) -> FrameLoop | OverlappedLoop:
        """A rung's loop with these changes of its settings."""
        images = RUNGS[rung - 1].frames(self.images) if images is None else images
        settings, engine = self.settings(rung, **changes), self.engines[RUNGS[rung - 1].batch]
        return settings.loop(self.device, engine, images, on_boxes=on_boxes)

    def run(self, rung: int, **changes: Any) -> Recording:
        """A rung, run once with these changes of its settings."""
        return self.loop(rung, **changes).run()


def speed_claims(ladder: Ladder) -> Iterator[Claim]:
    """Rungs 6 to 9 against the limits of the same run, as far as they were measured."""
    limits, steps = ladder.limits, {step.rung.number: step.together for step in ladder.steps}
    against = {
        6: ("the engine alone", limits.engine_us, 1.06),
        7: ("the engine alone", limits.engine_us, 0.52),
        8: ("the larger of its upload and the engine at its best rate", limits.many_us, 1.15),
        9: ("the larger of its upload and the engine at its best rate", limits.many_nv12_us, 1.15),
    }
    for rung in sorted(against.keys() & steps.keys()):
        (what, limit_us, factor), found = against[rung], steps[rung]
        detail = f"{found.frame_us:.1f} of {limit_us:.1f} us, p99 latency {found.p99_us:,.0f} us"
        yield Claim(f"rung {rung}, us a frame, against {what}", found.frame_us / limit_us, factor, detail=detail)


def single_frame(bench: Bench, ladder: Ladder, frames: int) -> Iterator[Claim]:
    """Latency of a frame that is submitted alone, from host memory to boxes in host memory."""
    p50_us = figures(bench.run(6, frames=frames, overlap=False, collect_after=0)).p50_us
    name = "latency of a frame alone, against the engine alone"
    yield Claim(name, p50_us / ladder.limits.engine_us, 1.45, detail=f"{p50_us:.1f} us")


def large_planes(bench: Bench, frames: int) -> Iterator[Claim]:
    """Rung 9 with frames of 2160p, by fours: against their bare upload."""
    frame = np.zeros(Pixels.NV12.shape((2160, 3840)), np.uint8)
    settings = bench.settings(9, frames=frames, warmup=16, confidence=1.0)
    took_us = figures(settings.loop(bench.device, bench.engines[4], [frame]).run()).frame_us
    bare_us = copy_us(bench.device, "upload", frame.nbytes)
    detail = f"{took_us:.1f} of {bare_us:.1f} us"
    yield Claim("2160p in NV12, us a frame, against its bare upload", took_us / bare_us, 1.1, detail=detail)


def pinned_upload(bench: Bench, copies: int) -> Iterator[Claim]:
    """Uploads from a pool's slots, with an event each, against bare copies from one pinned buffer."""
    device, stream = bench.device, bench.device.stream()
    pool = SlotPool(device, [TensorSpec("frames", (FRAME_BYTES,), np.dtype(np.uint8))], [], slots=3)
    target = device.empty_device(FRAME_BYTES)
    for slot in pool.slots:
        slot.input.array[:] = 0
    times = []
    for _ in range(5):
        start = device.now_ns()
        for _ in range(copies):
            slot = pool.lease()
            device.upload(slot.input, target, stream)
            slot.submitted(stream)
        stream.synchronize()
        times.append((device.now_ns() - start) / 1e3 / copies)
    ours, bare = float(np.median(times)), copy_us(device, "upload", copies=copies, rounds=5)
    name = "rate of uploads from the pool, against bare copies"
    yield Claim(name, bare / ours, 0.97, ">=", f"{ours:.1f} and {bare:.1f} us")


def long_run(bench: Bench, frames: int, rung: int = 7, **changes: Any) -> Iterator[Claim]:
    """Many frames: latency does not grow (its slope is not surely above zero), and memory does not."""
    memory, settled = [], min(_SETTLED, frames // 2)

    def look(frame: int, _: Detections) -> None:
        if frame in (settled, frames - 1):
            memory.append(_device_bytes(bench.device) + loop.lanes.pool.nbytes)

    loop = bench.loop(rung, on_boxes=look, frames=frames, **changes)
    steady = loop.run().steady
    found, made = slope(steady.latency_ns[settled:] / 1e3), figures(steady)
    interval = f"slope {found.low * 1e6:+.3f} to {found.high * 1e6:+.3f} us over a million frames"
    detail = f"{interval}, p50 {made.p50_us:,.0f} us, p99.9 / p50 {made.p999_us / made.p50_us:.2f}"
    yield Claim(f"{frames:,} frames of rung {rung}: latency grows", float(found.low > 0), 0, detail=detail)
    if memory:
        name = "bytes of pinned and device memory that came after frame 1,000"
        yield Claim(name, memory[-1] - memory[0], 0)


def _device_bytes(device: Device) -> int:
    """Device memory in use, by all of the GPU's processes; 0 where nothing is real."""
    if device.kind != "cuda":
        return 0
    free, total = load("cupy", needed_for="running on a GPU").cuda.runtime.memGetInfo()
    return int(total - free)


def instruments(bench: Bench, frames: int, turns: int = 4) -> Iterator[Claim]:
    """Rungs 7 and 8 with timers, ranges and telemetry against without, in turns."""
    for rung in (7, 8):
        times: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(turns):
            for timers, found in times.items():
                with Telemetry(bench.device) if timers else nullcontext():
                    found.append(figures(bench.run(rung, frames=frames, timers=timers)).frame_us)
        on, off = (float(np.median(times[timers])) for timers in (True, False))
        name = f"rung {rung} with timers and telemetry, against without"
        yield Claim(name, on / off, 1.02, detail=f"{on:.1f} and {off:.1f} us")


def on_a_clock(bench: Bench, ladder: Ladder, frames: int) -> Iterator[Claim]:
    """Frames on a clock at 95 % of what a rung sustains: latency ends where it began, by the medians of a fifth each.

    At 95 % a hiccup of the host takes twenty times its length to drain, so that a short run may end in one. A slope's
    interval would not do: one long hiccup widens it until it holds zero, whatever the end looks like.
    """
    steps = {step.rung.number: step.together for step in ladder.steps}
    for rung in sorted({6, 7, 8, 9} & set(steps)):
        recording = bench.run(rung, frames=frames, period_us=steps[rung].frame_us / 0.95).steady
        first, last = (np.median(part) / 1e3 for part in np.array_split(recording.latency_ns, 5)[::4])
        detail = f"{first:,.0f} us at first, {last:,.0f} us at last, p99.9 {figures(recording).p999_us:,.0f} us"
        name = f"rung {rung} at 95 % of its capacity: latency at last, against at first"
        yield Claim(name, float(last / first), 1.1, detail=detail)


class _Rendered(Sequence[np.ndarray]):
    """The scene's frames by number, of which only the last one is kept."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._render = lru_cache(1)(SyntheticScene().render)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        return self._render(index)


def box_claims(bench: Bench, upload_us: float, frames: int = 500) -> Iterator[Claim]:
    """Rungs 6 to 8 find the boxes of rung 1 in the synthetic scene, rung 9 in its planes those of its frames in BGR.

    By the lab's detector: seeded weights give crowds of scores that mean nothing, and any threshold cuts through one.
    An engine for batches may have kernels of its own, which round differently in FP16. So rung 9 is held against the
    same loop, and batches of sixteen against batches of four by themselves: in FP32 (without TF32) the boxes must be
    the same, in FP16 about as many frames may differ from FP32's. The speed of rung 8 in FP32 has its own limit: the
    larger of `upload_us` and what its engine alone takes.
    """
    naive, by_4, by_16 = {}, {}, {}
    for precision in ("fp16", "fp32"):
        trained = _trained(bench, precision)
        expected = naive[precision] = _boxes(trained, 1, frames)
        for rung in (6, 7, 8):
            claim = _same_boxes(f"rung {rung} in {precision}", "rung 1's", _boxes(trained, rung, frames), expected)
            yield claim
            if (rung, precision) == (8, "fp16"):
                differ = int(claim.value)
        planes = _boxes(trained, 9, frames, _Planes(Pixels.NV12))
        by_16[precision] = _boxes(trained, 9, frames, _Planes(Pixels.BGR), pixels=Pixels.BGR)
        by_4[precision] = _boxes(trained, 8, frames, _Planes(Pixels.BGR))
        yield _same_boxes(f"rung 9 in {precision}", "the same loop's in BGR", planes, by_16[precision])
    apart = _differing(naive["fp16"], naive["fp32"])
    name = "rung 8 in fp16: frames whose boxes are not rung 1's, against those whose are not fp32's"
    yield Claim(name, differ / max(apart, 1), 1.0, detail=f"{differ} and {apart} of {frames}")
    yield from _batch_claims(by_16, by_4, trained.confidence)
    took_us, last = figures(trained.run(8, frames=10 * frames)).frame_us, RUNGS[7]
    limit_us = max(upload_us, engine_us(bench.device, trained.engines[last.batch], last.settings.contexts))
    name = "rung 8 in fp32, us a frame, against the upload and its engine alone"
    yield Claim(name, took_us / limit_us, 1.15, detail=f"{took_us:.1f} of {limit_us:.1f} us")


_Found = Sequence[Detections]


def _batch_claims(by_16: Mapping[str, _Found], by_4: Mapping[str, _Found], confidence: float) -> Iterator[Claim]:
    """Batches of sixteen against batches of four, by precision: what each found in the same frames in BGR."""
    same = _same_boxes("batches of 16 in fp32", "those of batches of 4", by_16["fp32"], by_4["fp32"])
    yield replace(same, detail=_apart(by_16["fp32"], by_4["fp32"], confidence))
    wide, narrow = (_differing(found["fp16"], by_4["fp32"]) for found in (by_16, by_4))
    detail = f"{wide} and {narrow} of {len(by_4['fp16'])}, {_differing(by_16['fp16'], by_4['fp16'])} between the two: "
    detail += _apart(by_16["fp16"], by_4["fp16"], confidence)
    name = "batches of 16 in fp16: frames whose boxes are not fp32's, against those of batches of 4"
    yield Claim(name, wide / max(narrow, 1), 1.25, detail=detail)


def _same_boxes(what: str, whose: str, found: _Found, expected: _Found) -> Claim:
    """That no frame has other boxes."""
    agreement, count = _agreements(found, expected), np.mean([len(boxes) for boxes in expected])
    name = f"{what}: frames of {len(expected)} whose boxes are not {whose}"
    detail = f"{count:.1f} boxes a frame, smallest IoU {agreement.min():.4f}"
    return Claim(name, int((agreement <= _IOU).sum()), 0, detail=detail)


def _apart(found: _Found, expected: _Found, confidence: float) -> str:
    """How far the scores of boxes that both found are apart, and whether the other boxes lie at the threshold."""
    apart, alone = [0.0], []
    for one, other in zip(found, expected, strict=True):
        ones, others, overlap = _pairs(one, other)
        ones, others = ones[overlap > 0.5], others[overlap > 0.5]
        apart += abs(one.scores[ones] - other.scores[others]).tolist()
        alone += [*np.delete(one.scores, ones), *np.delete(other.scores, others)]
    near = sum(score <= confidence + max(apart) for score in alone)
    alike = f"scores differ by {max(apart):.2g} at most"
    return f"{alike}; {len(alone)} boxes have no partner, {near} of them with a score that near the threshold"


def _trained(bench: Bench, precision: str) -> Bench:
    """The bench with the lab's detector, whose float32 is not computed as TF32."""
    info = OnnxRuntimeEngine(shipped_model()).describe()
    tensors = onnx.load(shipped_model()).graph.initializer
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors}
    made = {"classes": info.classes, "names": info.names, "weights": weights}
    model = build_model(precision=precision, **made)
    engines = {}
    for batch in sorted({rung.batch for rung in RUNGS}):
        _say(f"opening the detector in {precision}, batch {batch}")
        engines[batch] = LendingEngine(TensorRTEngine.from_onnx(model, batch=batch, tf32=False))
    return replace(bench, engines=engines, confidence=LoopSettings().confidence)


def _boxes(bench: Bench, rung: int, frames: int, images: FrameSource | None = None, **changes: Any) -> list[Detections]:
    """What a rung finds in the first frames of the synthetic scene, or of `images`."""
    found: list[Detections] = []
    source: Any = _Rendered(frames)
    if isinstance(bench.settings(rung), OverlapSettings):
        source, changes = images or SyntheticScene(), {"fill": Fill.IN_PLACE, **changes}
    bench.loop(rung, source, lambda _, boxes: found.append(boxes), frames=frames, warmup=0, **changes).run()
    return found


class _Planes(FrameSource):
    """The scene in NV12, with the colours of BT.601, or as OpenCV converts that back to BGR."""

    def __init__(self, pixels: Pixels) -> None:
        self.pixels, self._scene = pixels, SyntheticScene()
        self.size = self._scene.size

    def read(self) -> np.ndarray:
        """The next frame."""
        planes, cv2 = bgr_to_nv12(self._scene.read()), import_cv2()
        return planes if self.pixels.planar else np.asarray(cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_NV12))


def _differing(found: _Found, expected: _Found) -> int:
    """How many frames have other boxes."""
    return int((_agreements(found, expected) <= _IOU).sum())


def _agreements(found: _Found, expected: _Found) -> np.ndarray:
    """`_agreement`, frame by frame."""
    return np.array([_agreement(one, other) for one, other in zip(found, expected, strict=True)])


def _agreement(found: Detections, expected: Detections) -> float:
    """The smallest IoU of pairs of boxes of one class, paired as well as can be; 0 where numbers differ."""
    if len(found) != len(expected) or sorted(found.classes) != sorted(expected.classes):
        return 0.0
    return float(_pairs(found, expected)[2].min(initial=1.0))


def _pairs(found: Detections, expected: Detections) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes paired as well as can be: which of `found`, which of `expected`, and the IoU, 0 where classes differ."""
    same = (found.boxes[:, None] == expected.boxes).all(axis=2)  # of no area, where a box was clipped to the edge
    close = np.where(same, 1.0, overlaps(found.boxes, expected.boxes))
    close[found.classes[:, None] != expected.classes] = 0.0
    ones, others = load("scipy.optimize", needed_for="pairs of boxes").linear_sum_assignment(close, maximize=True)
    return ones, others, close[ones, others]


class _Patches(FrameSource):
    """One frame with another patch in its middle each time; `order` says which.

    Only the patch is written, once the frame is in the memory that it gets: the host must not be the bottleneck.
    """

    def __init__(self, frame: np.ndarray, patches: np.ndarray, order: np.ndarray) -> None:
        self.size = (frame.shape[1], frame.shape[0])
        self._frame, self._patches, self._order = frame, patches, iter(order.tolist())
        self._filled: set[int] = set()
        top, left = (frame.shape[0] - patches.shape[1]) // 2, (frame.shape[1] - patches.shape[2]) // 2
        self._place = (slice(top, top + patches.shape[1]), slice(left, left + patches.shape[2]))

    def read(self) -> np.ndarray | None:
        """A frame of its own."""
        out = np.empty_like(self._frame)
        return out if self.read_into(out) else None

    def read_into(self, out: np.ndarray) -> bool:
        """Write the next patch."""
        kind, address = next(self._order, None), out.__array_interface__["data"][0]
        if kind is None:
            return False
        if address not in self._filled:
            out[:] = self._frame
            self._filled.add(address)
        out[self._place] = self._patches[kind]
        return True


def own_results(bench: Bench, frames: int = 20_000, slots: int = 4, kinds: int = 64) -> Iterator[Claim]:
    """Frames of `kinds` kinds in random order through `slots` slots and contexts: each result is that of its kind."""
    generator = np.random.default_rng(1)
    patches = generator.integers(0, 256, (kinds, 240, 320, 3), np.uint8)
    order = generator.integers(0, kinds, frames)
    expected = _results(bench, patches, np.arange(kinds), contexts=1, collect_after=0)
    found = _results(bench, patches, order, contexts=slots, collect_after=slots - 1)
    wrong = sum(each != expected[kind] for each, kind in zip(found, order, strict=False)) + frames - len(found)
    name = f"results of {frames:,} frames through {slots} slots that are not their frame's"
    yield Claim(name, wrong, 0, detail=f"{len(set(expected))} of {kinds} kinds can be told apart")


def _results(bench: Bench, patches: np.ndarray, order: np.ndarray, **changes: Any) -> list[bytes]:
    assert bench.images is not None
    results: list[bytes] = []

    def take(_: int, boxes: Detections) -> None:
        results.append(boxes.boxes.tobytes() + boxes.scores.tobytes())

    lower = replace(bench, confidence=bench.confidence * 0.98)  # more boxes, so that more of the image is in a result
    source = _Patches(bench.images[0], patches, order)
    lower.loop(7, source, take, frames=len(order), warmup=0, fill=Fill.IN_PLACE, **changes).run()
    return results


def measure_claims(
    bench: Bench, ladder: Ladder, *, frames: int = 5_000, long: int = 100_000, checked: int = 20_000, only: str = ""
) -> Iterator[Claim]:
    """All claims, each as soon as it is measured, or those of the parts whose names match the regular expression
    `only`. Where a part breaks, a claim that fails says how.
    """
    parts: dict[str, Callable[[], Iterator[Claim]]] = {
        "the speed": partial(speed_claims, ladder),
        "a frame alone": partial(single_frame, bench, ladder, frames),
        "pinned uploads": partial(pinned_upload, bench, frames // 5),
        f"{long:,} frames": partial(long_run, bench, long),
        "the cost of looking": partial(instruments, bench, frames),
        "frames on a clock": partial(on_a_clock, bench, ladder, 4 * frames),
    }
    if bench.images is not None:
        parts["planes of 2160p"] = partial(large_planes, bench, frames // 2)
        parts["boxes"] = partial(box_claims, bench, ladder.limits.upload_us)
        parts[f"whose results {checked:,} frames get"] = partial(own_results, bench, checked)
    for what, measure in parts.items():
        if not re.search(only, what):
            continue
        _say(f"measuring {what}")
        try:
            yield from measure()
        except Exception as error:
            yield Claim(f"{what}: measured to the end", 0, 1, ">=", f"{type(error).__name__}: {error}")


def _say(step: str) -> None:
    print(f"... {step}", file=sys.stderr, flush=True)


def save(ladder: Ladder, arguments: argparse.Namespace) -> None:
    """Write the figures so far, where a file is named for them."""
    if arguments.json:
        ladder.save(arguments.json, command=shlex.join(["python", *sys.argv]))


def main(argv: Sequence[str] | None = None) -> int:
    """Climb, measure the claims (what was measured is kept whatever comes), print. 1 where a claim fails."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", choices=["auto", "cuda", "simulated"], default="auto")
    options.add_argument("--preset", default="h200", help="of the simulated device")
    options.add_argument("--frames", type=int, default=5_000, help="of each rung (default: 5000)")
    options.add_argument("--rungs", type=int, nargs="+", default=[rung.number for rung in RUNGS], help="which rungs")
    options.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options.add_argument("--long", type=int, default=100_000, help="frames of the long run (default: 100000)")
    options.add_argument("--only", default="", metavar="RE", help="claims of these parts, such as 'speed|boxes'")
    options.add_argument("--peers", action="store_true", help="measure other packages too")
    arguments = options.parse_args(argv)
    device = open_device(arguments.device, preset=arguments.preset)
    engines = open_engines(device, _say)
    images = read_images("synthetic", 8) if device.kind == "cuda" else None
    ladder = climb(device, engines, images, frames=arguments.frames, rungs=arguments.rungs, progress=_say)
    print(ladder.table(), flush=True)
    bench = Bench(device, engines, images, ladder.confidence)
    sizes = {"frames": arguments.frames, "long": arguments.long, "only": arguments.only}
    for claim in measure_claims(bench, ladder, **sizes):
        ladder = replace(ladder, claims=(*ladder.claims, claim))
        save(ladder, arguments)
    print(ladder.claims_table(), flush=True)
    if arguments.peers:  # last: what they import must not burden what is measured of the ladder
        ladder = replace(ladder, peers=measure_peers(images))
        save(ladder, arguments)
    print(ladder.limits_table())
    for name, why in ladder.peers.items():
        if isinstance(why, str):
            print(f"{name}: {why}")
    return 0 if all(claim.holds for claim in ladder.claims) else 1


if __name__ == "__main__":
    sys.exit(main())
