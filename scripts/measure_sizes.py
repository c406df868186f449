"""Add YOLOv8 s to x to a preset that is there: `python scripts/measure_sizes.py h200 s m l x`, on a GPU of its kind.

The simulated device times a model as the one that is nearest in size of those that its preset has. Each takes one to
two minutes, and the preset is saved after each. Batches are not measured: the simulation runs them frame by frame.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from yolotrt_lab.device import open_device
from yolotrt_lab.engine import open_engine
from yolotrt_lab.frames import read_images
from yolotrt_lab.simulate.calibration import calibrate
from yolotrt_lab.simulate.preset import Preset

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Measure and save."""
    name, *variants = sys.argv[1:]
    device, images = open_device("cuda"), read_images("synthetic", 8)
    for variant in variants:
        model, engine = f"yolov8{variant}-fp16", open_engine(device, variant=variant)
        measured = calibrate(device, model, engine, images, name=name, progress=print)
        source = f"one {measured.gpu}, {measured.cpu}, driver {measured.driver}, {engine.label}, {measured.date}"
        cost = replace(measured.engine(model), measured=source)
        print(f"{model}: GPU {cost.graph_gpu_ns / 1e3:.0f} us, enqueue {cost.enqueue_ns / 1e3:.0f} us", flush=True)
        preset = Preset.load(name)
        replace(preset, engines={**preset.engines, model: cost}).save(ROOT / "data" / "presets" / f"{name}.json")


if __name__ == "__main__":
    main()
