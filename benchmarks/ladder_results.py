"""Whether what the ladder finds is right: the boxes of the naive loop, and each result its own frame's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from ladder_claims import Bench, attempted

from yolotrt_lab.detector.scene import SyntheticScene
from yolotrt_lab.detector.yolov8 import build_model, read_weights
from yolotrt_lab.frames import FrameSource
from yolotrt_lab.loop import FrameLoop, LoopSettings
from yolotrt_lab.model import read_model_info
from yolotrt_lab.packages import load, shipped_model
from yolotrt_lab.speed.ladder import RUNGS, Claim, Progress, open_engines
from yolotrt_lab.speed.limits import Limits, engine_us, frame_us
from yolotrt_lab.speed.overlap import OverlappedLoop
from yolotrt_lab.types import Detections
from yolotrt_lab.vision import Fill, overlaps

_IOU = 0.99


class _Rendered(Sequence[np.ndarray]):
    """The scene's frames by number, of which only the last one is kept."""

    def __init__(self, count: int) -> None:
        self._scene, self._count = SyntheticScene(), count
        self._last: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        if self._last is None or self._last[0] != index:
            self._last = (index, self._scene.render(index))
        return self._last[1]


def box_claims(bench: Bench, upload_us: float, frames: int = 500, progress: Progress = print) -> list[Claim]:
    """Rungs 6 to 8 find the boxes of rung 1 in the synthetic scene, in FP16 and in FP32.

    By the lab's detector: seeded weights give crowds of scores that mean nothing, and any threshold cuts through one.
    An engine for batches may have kernels of its own, which round differently in FP16; so what batches change there is
    also held against what FP16 itself changes, and the speed of rung 8 in FP32 against its own limit: the larger of
    `upload_us` and what its engine alone takes.
    """
    claims, naive = [], {}
    for precision in ("fp16", "fp32"):
        trained = _trained(bench, precision, progress)
        naive[precision] = _boxes(trained, 1, frames)
        claims += _same_boxes(trained, precision, naive[precision])
    apart = int((_agreements(naive["fp16"], naive["fp32"]) <= _IOU).sum())
    batched = claims[2].value
    name = "rung 8 in fp16: frames whose boxes are not rung 1's, against those whose fp16 boxes are not fp32's"
    claims.append(Claim(name, batched / max(apart, 1), 1.0, detail=f"{batched} and {apart} of {frames}"))
    took_us, rung = frame_us(trained.run(8, frames=10 * frames)), RUNGS[7]
    limit_us = max(upload_us, engine_us(bench.device, trained.engines[rung.batch], rung.settings.contexts))
    name = "rung 8 in fp32, us a frame, against the upload and its engine alone"
    claims.append(Claim(name, took_us / limit_us, 1.15, detail=f"{took_us:.1f} of {limit_us:.1f} us"))
    return claims


def _trained(bench: Bench, precision: str, progress: Progress) -> Bench:
    """The bench with the lab's detector."""
    content = shipped_model().read_bytes()
    info = read_model_info(content)
    weights, names = read_weights(content), info.names
    model = build_model(classes=info.classes, dynamic_batch=True, precision=precision, weights=weights, names=names)
    engines = open_engines(bench.device, progress, model, sorted({rung.batch for rung in RUNGS}))
    return replace(bench, engines=engines, confidence=LoopSettings().confidence)


def _boxes(bench: Bench, rung: int, frames: int) -> list[Detections]:
    """What a rung finds in the first frames of the synthetic scene."""
    found: list[Detections] = []
    settings, engine = bench.settings(rung, frames=frames, warmup=0), bench.engines[RUNGS[rung - 1].batch]

    def take(_: int, boxes: Detections) -> None:
        found.append(boxes)

    if settings.overlapped:
        settings = replace(settings, fill=Fill.IN_PLACE)
        OverlappedLoop(bench.device, engine, settings, SyntheticScene(), on_boxes=take).run()
    else:
        FrameLoop(bench.device, engine, settings, _Rendered(frames), on_boxes=take).run()
    return found


def _same_boxes(bench: Bench, precision: str, expected: Sequence[Detections]) -> list[Claim]:
    count, claims = np.mean([len(boxes) for boxes in expected]), []
    for rung in (6, 7, 8):
        agreement = _agreements(_boxes(bench, rung, len(expected)), expected)
        name = f"rung {rung} in {precision}: frames of {len(expected)} whose boxes are not rung 1's"
        detail = f"{count:.1f} boxes a frame, smallest IoU {agreement.min():.4f}"
        claims.append(Claim(name, int((agreement <= _IOU).sum()), 0, detail=detail))
    return claims


def _agreements(found: Sequence[Detections], expected: Sequence[Detections]) -> np.ndarray:
    """`_agreement`, frame by frame."""
    return np.array([_agreement(one, other) for one, other in zip(found, expected, strict=True)])


def _agreement(found: Detections, expected: Detections) -> float:
    """The smallest IoU of pairs of boxes of one class, paired as well as can be; 0 where numbers differ."""
    if len(found) != len(expected) or sorted(found.classes) != sorted(expected.classes):
        return 0.0
    if not len(found):
        return 1.0
    same = (found.boxes[:, None] == expected.boxes).all(axis=2)  # of no area, where a box was clipped to the edge
    close = np.where(same, 1.0, overlaps(found.boxes, expected.boxes))
    close[found.classes[:, None] != expected.classes] = 0.0
    assign = load("scipy.optimize", needed_for="pairs of boxes").linear_sum_assignment
    return float(close[assign(close, maximize=True)].min())


class _Patches(FrameSource):
    """The same frame with another patch in its middle each time, which is all that is written; `order` says which."""

    def __init__(self, patches: np.ndarray, order: np.ndarray, size: tuple[int, int]) -> None:
        self.size = size
        self._patches, self._order, self._next = patches, order.tolist(), 0
        top, left = (size[1] - patches.shape[1]) // 2, (size[0] - patches.shape[2]) // 2
        self._place = (slice(top, top + patches.shape[1]), slice(left, left + patches.shape[2]))

    def read(self) -> np.ndarray | None:
        """A frame of its own, grey around the patch."""
        out = np.full((self.size[1], self.size[0], 3), 114, np.uint8)
        return out if self.read_into(out) else None

    def read_into(self, out: np.ndarray) -> bool:
        """Write the patch alone: the rest of `out` stays as it is."""
        if self._next == len(self._order):
            return False
        out[self._place] = self._patches[self._order[self._next]]
        self._next += 1
        return True


def own_results(bench: Bench, frames: int = 20_000, slots: int = 4, kinds: int = 64) -> Claim:
    """Frames of `kinds` kinds in random order through `slots` slots and contexts: each result is that of its kind."""
    generator = np.random.default_rng(1)
    patches = generator.integers(0, 256, (kinds, 240, 320, 3), np.uint8)
    order = generator.integers(0, kinds, frames)
    lanes = bench.settings(7, fill=Fill.IN_PLACE, warmup=0, contexts=slots, collect_after=slots - 1)
    lanes = replace(lanes, confidence=_lower(bench.confidence))
    alone = replace(lanes, contexts=1, collect_after=0)
    expected = _results(bench, replace(alone, frames=kinds), patches, np.arange(kinds))
    found = _results(bench, replace(lanes, frames=frames), patches, order)
    wrong = sum(each != expected[kind] for each, kind in zip(found, order, strict=True))
    return Claim(
        f"results of {frames:,} frames through {slots} slots that are not their frame's",
        wrong + frames - len(found),
        0,
        detail=f"{len(set(expected))} of {kinds} kinds can be told apart",
    )


def _lower(confidence: float) -> float:
    """A threshold with more boxes above it, so that more of the image is in a result."""
    return confidence * 0.98


def _results(bench: Bench, settings: LoopSettings, patches: np.ndarray, order: np.ndarray) -> list[bytes]:
    assert bench.images is not None
    frame = bench.images[0]
    results: list[bytes] = []
    source = _Patches(patches, order, (frame.shape[1], frame.shape[0]))
    loop = OverlappedLoop(
        bench.device,
        bench.engines[1],
        settings,
        source,
        on_boxes=lambda _, found: results.append(found.boxes.tobytes() + found.scores.tobytes()),
    )
    for slot in loop.lanes.pool.slots:
        loop.lanes.input_of(slot)[:] = frame
    loop.run()
    return results


def result_claims(
    bench: Bench, limits: Limits, *, frames: int = 500, checked: int = 20_000, progress: Progress = print
) -> Iterator[Claim]:
    """The claims about results, each as soon as it is measured; none where nothing is computed."""
    if bench.images is None:
        return
    progress(f"comparing the boxes of {frames} frames")
    yield from attempted("boxes", lambda: box_claims(bench, limits.upload_us, frames, progress))
    progress(f"looking whose results {checked:,} frames get")
    yield from attempted("results", lambda: [own_results(bench, checked)])
