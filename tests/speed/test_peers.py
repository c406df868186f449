"""Peers, with packages in their place that record how they are called."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from types import ModuleType, SimpleNamespace

import cv2
import ladder_peers as peers
import numpy as np
import pytest

from yolotrt_lab import plans as tensorrt_build
from yolotrt_lab.speed import ladder

FRAME = np.zeros((8, 8, 3), np.uint8)
PREDICT = "ultralytics predict, frame to boxes"
FORWARD = "torch fp16 forward, input ready"
GRAPH = "torch fp16 CUDA graph, input ready"
EXECUTE = "trtutils execute, input ready"


@pytest.fixture
def install(monkeypatch):
    """Puts modules of these names in place; packages not named are absent."""
    there: dict[str, dict] = {}
    monkeypatch.setattr(peers, "find_spec", lambda name: there.get(name))

    def put(**modules):
        for name, names in modules.items():
            there[name] = names
            module = ModuleType(name)
            vars(module).update(names)
            monkeypatch.setitem(sys.modules, name, module)

    return put


def test_absent_packages_are_named(install):
    install(torch={}, trtutils={})
    lacking = "not installed: ultralytics, torchvision"
    expected = {PREDICT: lacking, FORWARD: lacking, GRAPH: lacking, EXECUTE: "not installed: tensorrt, cuda"}
    assert ladder.measure_peers(FRAME, b"") == expected


def test_predict_gets_the_frame_at_the_ladders_size_in_half_precision(install):
    calls = []

    def yolo(name):
        return SimpleNamespace(predict=lambda image, **keywords: calls.append((name, image, keywords)))

    install(ultralytics={"YOLO": yolo}, torch={}, torchvision={})
    found = ladder.measure_peers(FRAME, b"")
    assert found[PREDICT] > 0
    assert len(calls) == 330
    name, image, keywords = calls[0]
    assert name == "yolov8n.yaml" and image is FRAME
    assert keywords == {"device": 0, "imgsz": 640, "rect": False, "quantize": 16, "verbose": False}
    assert found[FORWARD].startswith("failed: AttributeError: ")


class Network:
    """Logs what is done to it; each step gives itself."""

    def __init__(self, log):
        self.log = log

    def fuse(self, *, verbose):
        return self.step(f"fuse {verbose}")

    def half(self):
        return self.step("half")

    def cuda(self):
        return self.step("cuda")

    def eval(self):
        return self.step("eval")

    def step(self, name):
        self.log.append(name)
        return self

    def __call__(self, images):
        self.log.append(f"forward {images}")


def torch_like(log):
    stream = SimpleNamespace(wait_stream=lambda other: log.append("wait"))
    cuda = SimpleNamespace(
        synchronize=lambda: log.append("synchronize"),
        CUDAGraph=lambda: SimpleNamespace(replay=lambda: log.append("replay")),
        Stream=lambda: stream,
        current_stream=lambda: stream,
        stream=lambda of: nullcontext(),
        graph=lambda of: nullcontext(log.append("capture")),
    )
    zeros = lambda shape, dtype, device: f"{shape} {dtype} {device}"  # noqa: E731
    return {"cuda": cuda, "float16": "half", "zeros": zeros, "inference_mode": nullcontext}


@pytest.mark.parametrize(
    ("peer", "after"),
    [
        (peers._torch, ["forward", "synchronize"]),
        (peers._torch_graph, ["wait", *["forward"] * 3, "wait", "capture", "forward", "replay", "synchronize"]),
    ],
)
def test_torch_runs_the_fused_network_in_half_precision_and_waits_for_it(install, peer, after):
    log = []
    yolo = lambda name: SimpleNamespace(model=Network(log))  # noqa: E731
    install(ultralytics={"YOLO": yolo}, torch=torch_like(log))
    peer()()
    assert log[:4] == ["fuse False", "half", "cuda", "eval"]
    assert [entry.partition(" ")[0] for entry in log[4:]] == after
    assert {entry for entry in log if entry.startswith("forward")} == {"forward (1, 3, 640, 640) half cuda"}


def test_trtutils_gets_a_plan_and_arrays_as_its_engine_wants_them(install, monkeypatch):
    seen = []

    def engine(path):
        seen.append(path.read_bytes())
        return SimpleNamespace(input_spec=[([1, 3, 4, 4], np.dtype(np.float16))], execute=seen.append)

    monkeypatch.setattr(tensorrt_build, "build_plan", lambda model, module: f"{module} plan of {model}".encode())
    install(trtutils={"TRTEngine": engine}, tensorrt={}, cuda={})
    assert ladder.measure_peers(FRAME, b"onnx")[EXECUTE] > 0
    assert seen[0] == b"tensorrt plan of b'onnx'"
    assert [(each.shape, each.dtype) for each in seen[1]] == [((1, 3, 4, 4), np.float16)]


def test_what_a_peer_sets_for_the_whole_process_is_undone(install):
    during = {}

    def yolo(name):
        during.update(os.environ)
        os.environ["OMP_NUM_THREADS"] = "1"
        cv2.setNumThreads(1)
        raise OSError("no such file")

    threads, environment = cv2.getNumThreads(), dict(os.environ)
    cv2.setNumThreads(2)
    try:
        install(ultralytics={"YOLO": yolo}, torch={}, torchvision={})
        assert ladder.measure_peers(FRAME, b"")[PREDICT] == "failed: OSError: no such file"
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(threads)
    assert dict(os.environ) == environment
    assert during["YOLO_OFFLINE"] == "True" and during["YOLO_AUTOINSTALL"] == "False"
