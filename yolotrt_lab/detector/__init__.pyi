from .detect import Detector, annotate, open_detector
from .scene import SyntheticScene
from .yolov8 import build_model, parameter_count, read_weights, weight_shapes

__all__ = [
    "Detector",
    "SyntheticScene",
    "annotate",
    "build_model",
    "open_detector",
    "parameter_count",
    "read_weights",
    "weight_shapes",
]
