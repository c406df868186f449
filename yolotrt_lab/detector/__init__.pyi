from .detect import Detector, annotate, open_detector
from .scene import SyntheticScene
from .yolov8 import build_model, weight_shapes

__all__ = [
    "Detector",
    "SyntheticScene",
    "annotate",
    "build_model",
    "open_detector",
    "weight_shapes",
]
