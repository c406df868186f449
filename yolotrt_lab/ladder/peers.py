"""Other ways to run the network on the same GPU, as their own documentation has them: those that are installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np

from ..packages import load

_WARMUP, _RUNS = 30, 300
ABSENT = "not installed"


def measure_peers(image: np.ndarray, model: bytes) -> dict[str, float | str]:
    """Microseconds a frame of each peer, medians of its calls; or why it took no part.

    `image` is a 1080p frame, uint8 BGR; `model` the ONNX file of the network. Ultralytics gets YOLOv8n without trained
    weights, whose cost is that of trained ones.
    """
    peers: dict[str, tuple[tuple[str, ...], Callable[[], Callable[[], Any]]]] = {
        "ultralytics predict, frame to boxes": (("ultralytics", "torch"), lambda: _ultralytics(image)),
        "torch fp16 forward, input ready": (("ultralytics", "torch"), _torch),
        "trtutils execute, input ready": (("trtutils", "tensorrt"), lambda: _trtutils(model)),
    }
    found: dict[str, float | str] = {}
    for name, (packages, make) in peers.items():
        missing = [package for package in packages if find_spec(package) is None]
        found[name] = f"{ABSENT}: {', '.join(missing)}" if missing else _timed(make)
    return found


def _timed(make: Callable[[], Callable[[], Any]]) -> float | str:
    """A peer that fails is no reason to lose the ladder: what it said takes the number's place."""
    try:
        call = make()
        for _ in range(_WARMUP):
            call()
        times = []
        for _ in range(_RUNS):
            begin = perf_counter()
            call()
            times.append(perf_counter() - begin)
    except Exception as error:
        return f"failed: {type(error).__name__}: {error}"
    return float(np.median(times)) * 1e6


def _ultralytics(image: np.ndarray) -> Callable[[], Any]:
    yolo = load("ultralytics", needed_for="a peer").YOLO("yolov8n.yaml")
    return lambda: yolo.predict(image, device=0, half=True, verbose=False)


def _torch() -> Callable[[], Any]:
    torch = load("torch", needed_for="a peer")
    model = load("ultralytics", needed_for="a peer").YOLO("yolov8n.yaml").model.fuse().half().cuda().eval()
    images = torch.zeros((1, 3, 640, 640), dtype=torch.float16, device="cuda")

    def forward() -> None:
        with torch.inference_mode():
            model(images)
        torch.cuda.synchronize()

    return forward


def _trtutils(model: bytes) -> Callable[[], Any]:
    from ..engines.tensorrt_build import build_plan

    with TemporaryDirectory() as folder:
        path = Path(folder) / "yolov8n.engine"
        path.write_bytes(build_plan(model, module="tensorrt"))
        engine = load("trtutils", needed_for="a peer").TRTEngine(path)
    images = [np.zeros((1, 3, 640, 640), np.float32)]
    return lambda: engine.execute(images)
