"""Other ways to run the network on the same GPU, beside the ladder: `python benchmarks/ladder_claims.py --peers`.

Each peer is called as its own documentation has it. Measured are those that are installed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np

from yolotrt_lab.detector.yolov8 import build_model
from yolotrt_lab.model import OnnxModel
from yolotrt_lab.packages import import_cv2, load
from yolotrt_lab.plans import build_plan

_WARMUP, _RUNS = 30, 300


def measure_peers(images: Sequence[np.ndarray] | None) -> dict[str, float | str]:
    """Microseconds a frame of each peer, medians of its calls; or why it took no part.

    `images` are 1080p frames, uint8 BGR, of which the first is used; None without a GPU. Ultralytics and PyTorch get
    YOLOv8n without trained weights: the network costs what a trained one does, but no score reaches the threshold, so
    `predict` suppresses no boxes, and what it takes is a lower bound.
    """
    if images is None:
        return {"all": "they need a GPU"}
    image = images[0]
    torch = ("ultralytics", "torch", "torchvision")
    peers: dict[str, tuple[tuple[str, ...], Callable[[], Callable[[], Any]]]] = {
        "ultralytics predict, frame to boxes": (torch, lambda: _ultralytics(image)),
        "torch fp16 forward, input ready": (torch, _torch),
        "torch fp16 CUDA graph, input ready": (torch, _torch_graph),
        "trtutils execute, input ready": (("trtutils", "tensorrt", "cuda"), _trtutils),
    }
    found: dict[str, float | str] = {}
    with _settings_kept():
        for name, (packages, make) in peers.items():
            missing = [package for package in packages if find_spec(package) is None]
            found[name] = f"not installed: {', '.join(missing)}" if missing else _timed(make)
    return found


@contextmanager
def _settings_kept() -> Iterator[None]:
    """Peers look up no host, install nothing and leave no settings behind.

    Importing ultralytics takes OpenCV's threads away and sets variables of the environment, for the whole process.
    """
    cv2, environment = import_cv2(), dict(os.environ)
    threads = cv2.getNumThreads()
    with TemporaryDirectory() as folder:
        os.environ |= {"YOLO_OFFLINE": "True", "YOLO_AUTOINSTALL": "False", "YOLO_CONFIG_DIR": folder}
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(environment)
            cv2.setNumThreads(threads)


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
    """Letterboxed to the ladder's 640x640: by default `predict` pads a 1080p frame to 640x384 only."""
    yolo = load("ultralytics", needed_for="a peer").YOLO("yolov8n.yaml")
    return lambda: yolo.predict(image, device=0, imgsz=640, rect=False, quantize=16, verbose=False)


def _network() -> tuple[Any, Any, Any]:
    torch = load("torch", needed_for="a peer")
    model = load("ultralytics", needed_for="a peer").YOLO("yolov8n.yaml").model.fuse(verbose=False)
    images = torch.zeros((1, 3, 640, 640), dtype=torch.float16, device="cuda")
    return torch, model.half().cuda().eval(), images


def _torch() -> Callable[[], Any]:
    torch, model, images = _network()

    def forward() -> None:
        with torch.inference_mode():
            model(images)
        torch.cuda.synchronize()

    return forward


def _torch_graph() -> Callable[[], Any]:
    """As PyTorch's notes on CUDA graphs have it: warmed up on a stream beside the current one, then captured."""
    torch, model, images = _network()
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode():
        with torch.cuda.stream(stream):
            for _ in range(3):
                model(images)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            output = model(images)  # held by the closure: the graph writes to its memory

    def replay() -> Any:
        graph.replay()
        torch.cuda.synchronize()
        return output

    return replay


def _trtutils() -> Callable[[], Any]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "yolov8n.engine"
        path.write_bytes(build_plan(OnnxModel.read(build_model("n", precision="fp16")).content, module="tensorrt"))
        engine = load("trtutils", needed_for="a peer").TRTEngine(path)
    images = [np.zeros(shape, dtype) for shape, dtype in engine.input_spec]
    return lambda: engine.execute(images)
