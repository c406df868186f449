"""Peers, with packages in their place that record how they are called."""

from __future__ import annotations

import os
import sys
from types import ModuleType, SimpleNamespace

import cv2
import ladder_peers as peers
import numpy as np
import pytest

FRAME = np.zeros((8, 8, 3), np.uint8)
PREDICT, *TORCH, EXECUTE = (
    "ultralytics predict, frame to boxes",
    "torch fp16 forward, input ready",
    "torch fp16 CUDA graph, input ready",
    "trtutils execute, input ready",
)


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
    expected = dict.fromkeys([PREDICT, *TORCH], lacking) | {EXECUTE: "not installed: tensorrt, cuda"}
    assert peers.measure_peers([FRAME]) == expected


def test_without_a_gpu_no_peer_is_measured():
    assert peers.measure_peers(None) == {"all": "they need a GPU"}


def test_predict_gets_the_frame_at_the_ladders_size_in_half_precision(install):
    calls = []

    def yolo(name):
        return SimpleNamespace(predict=lambda image, **keywords: calls.append((name, image, keywords)))

    install(ultralytics={"YOLO": yolo}, torch={}, torchvision={})
    found = peers.measure_peers([FRAME])
    assert found[PREDICT] > 0
    assert len(calls) == 330
    name, image, keywords = calls[0]
    assert name == "yolov8n.yaml" and image is FRAME
    assert keywords == {"device": 0, "imgsz": 640, "rect": False, "quantize": 16, "verbose": False}
    assert found[TORCH[0]].startswith("failed: AttributeError: ")


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
        assert peers.measure_peers([FRAME])[PREDICT] == "failed: OSError: no such file"
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(threads)
    assert dict(os.environ) == environment
    assert during["YOLO_OFFLINE"] == "True" and during["YOLO_AUTOINSTALL"] == "False"
