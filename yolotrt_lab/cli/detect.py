"""`yolotrt-lab detect`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .common import add_command, add_engine, progress_line

_EXAMPLES = """examples:
  yolotrt-lab detect synthetic --limit 20 --out boxes          the lab's own detector on its own scene
  yolotrt-lab detect clip.mp4 --model yolov8n.onnx --out boxes a model exported by Ultralytics on a video
  yolotrt-lab detect photos --model mine.onnx --out boxes      the images of a folder
  yolotrt-lab detect 0 --model yolov8n.onnx --out boxes        100 frames of the first camera
"""


def add(commands: Any) -> None:
    """Register the subcommand."""
    summary = "draw a detector's boxes in images, a video or a camera's frames, and write them as JSON"
    parser = add_command(commands, "detect", _detect, summary, _EXAMPLES)
    parser.add_argument(
        "source", metavar="SOURCE", help='a video, an image, a folder of images, a camera\'s number, or "synthetic"'
    )
    parser.add_argument("--model", type=Path, metavar="FILE", help="a YOLOv8 detector in ONNX (default: the lab's own)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="drawn images and boxes.json go here")
    parser.add_argument(
        "--limit", type=int, metavar="N", help="at most N frames (default: all; 100 of an endless source)"
    )
    parser.add_argument("--confidence", type=float, default=0.25, help="boxes below it are left out (default: 0.25)")
    parser.add_argument(
        "--iou", type=float, default=0.7, help="of boxes that overlap by more, the best stays (default: 0.7)"
    )
    add_engine(parser)


def _detect(arguments: argparse.Namespace) -> int:
    from ..annotate import annotate
    from ..detector import open_detector
    from ..frames import open_frames
    from ..paths import shipped_model

    with open_frames(arguments.source) as source:
        model = arguments.model or shipped_model()
        about = {"source": arguments.source, "model": model.name}
        detector = open_detector(model, engine=arguments.engine, confidence=arguments.confidence, iou=arguments.iou)
        with progress_line("frames done") as progress:
            frames = annotate(source, detector, arguments.out, limit=arguments.limit, about=about, progress=progress)
    count = sum(len(frame["boxes"]) for frame in frames)
    print(f"{count} boxes in {len(frames)} frames by {detector.engine.label}: {arguments.out}")
    return 0
