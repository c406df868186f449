"""How long the host's work takes: letterbox and decode, each next to the usual way, and the synthetic scene.

    python benchmarks/bench_vision.py [TURNS]

The two ways are timed in turns, so that other load on the machine affects both. Times are medians in milliseconds;
the ratio is the median of the ratios of one turn.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np

from yolotrt_lab.detector.scene import SyntheticScene
from yolotrt_lab.heads import decode
from yolotrt_lab.vision import Letterbox, naive_letterbox

TURNS = int(sys.argv[1]) if len(sys.argv) > 1 else 200


def milliseconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def compare(label: str, ours: Callable[[], object], usual: Callable[[], object]) -> None:
    """Time both in turns and print one row."""
    ours(), usual()
    times = np.array([(milliseconds(ours), milliseconds(usual)) for _ in range(TURNS)])
    (mine, other), ratio = np.median(times, axis=0), np.median(times[:, 0] / times[:, 1])
    print(f"  {label:<34} {mine:8.3f}   {other:8.3f}   {ratio:6.2f}")


def usual_decode(output: np.ndarray, confidence: float = 0.25, iou: float = 0.7) -> Sequence[int]:
    """The way most scripts do it: transpose, best class of every box, then OpenCV's suppression."""
    table = output[0].T
    classes, scores = table[:, 4:].argmax(axis=1), table[:, 4:].max(axis=1)
    chosen = scores > confidence
    boxes, scores, classes = table[chosen, :4].copy(), scores[chosen], classes[chosen]
    boxes[:, :2] -= boxes[:, 2:] / 2
    return cv2.dnn.NMSBoxesBatched(boxes.tolist(), scores.tolist(), classes.tolist(), confidence, iou)


def output_with(candidates: int, objects: int) -> np.ndarray:
    """A network output (1, 84, 8400) in which `candidates` boxes crowd around `objects` places."""
    generator = np.random.default_rng(candidates)
    output = generator.uniform(0, 0.05, (1, 84, 8400)).astype(np.float32)
    places, sizes = generator.uniform(30, 610, (2, objects)), generator.uniform(20, 90, (2, objects))
    kinds, place = generator.integers(0, 80, objects), generator.integers(0, objects, 8400)
    output[0, :2] = places[:, place] + generator.normal(0, 3, (2, 8400))
    output[0, 2:4] = sizes[:, place] * generator.uniform(0.9, 1.1, (2, 8400))
    chosen = generator.permutation(8400)[:candidates]
    output[0, 4 + kinds[place[chosen]], chosen] = generator.uniform(0.26, 0.95, candidates)
    return output


def bench_letterbox() -> None:
    """Into given memory, against resize, border, transpose and division with fresh arrays."""
    np.empty(30 << 20, np.uint8)  # glibc trims its heap after each call until so large a block was freed once
    print(f"\nletterbox to 640 x 640, ms ({cv2.getNumThreads()} OpenCV threads)")
    print(f"  {'':<34} {'in place':>8}   {'usual':>8}   {'ratio':>6}")
    letterbox, out, scene = Letterbox(), np.empty((1, 3, 640, 640), np.float32), SyntheticScene(0, (640, 480)).render(0)
    for width, height in ((1920, 1080), (1280, 720), (3840, 2160), (640, 480), (1600, 900)):
        frame = cv2.resize(scene, (width, height))
        compare(f"{width} x {height}", partial(letterbox, frame, out), partial(naive_letterbox, frame, (640, 640)))
    print(f"  {'':<34} {'float16':>8}   {'float32':>8}   {'ratio':>6}")
    half = np.empty(out.shape, np.float16)
    for width, height in ((1920, 1080), (1280, 720)):
        frame = cv2.resize(scene, (width, height))
        compare(f"{width} x {height}", partial(letterbox, frame, half), partial(letterbox, frame, out))


def bench_decode() -> None:
    """From the network output to the boxes that are kept."""
    print("\ndecode of 8,400 boxes and 80 classes, ms")
    print(f"  {'candidates around objects':<34} {'decode':>8}   {'usual':>8}   {'ratio':>6}")
    for candidates, objects in ((0, 1), (60, 8), (400, 40), (3000, 100), (8400, 100), (8400, 1000)):
        output = output_with(candidates, objects)
        compare(f"{candidates:,} around {objects:,}", partial(decode, output), partial(usual_decode, output))


def bench_scene() -> None:
    """Frames and truth of the synthetic scene, on one core."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        print("\nsynthetic scene, 1920 x 1080, one OpenCV thread")
        print(f"  construction  {np.median([milliseconds(SyntheticScene) for _ in range(3)]):8.0f} ms")
        scene, out = SyntheticScene(), np.empty((1080, 1920, 3), np.uint8)
        rendering = [milliseconds(partial(scene.render, index, out)) for index in range(3 * TURNS)]
        print(f"  frame         {np.median(rendering):8.2f} ms, {1000 / np.mean(rendering):.0f} frames/s")
        truths = [milliseconds(partial(scene.truth, index)) for index in range(TURNS)]
        print(f"  truth         {np.median(truths):8.2f} ms")
    finally:
        cv2.setNumThreads(threads)


if __name__ == "__main__":
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, OpenCV {cv2.__version__}")
    bench_letterbox()
    bench_decode()
    bench_scene()
