"""The YOLOv8 detection network as an ONNX graph, with the tensors, names and output that Ultralytics exports.

Batch normalisation is folded into the convolutions, as in an export. Weights are drawn from a seed, so that a network
of the real size and cost needs no download; a trained model's weights go in by their PyTorch names.

The layers are those of `yolov8.yaml` of Ultralytics 8 (https://docs.ultralytics.com/models/yolov8/). A box is decoded
as in Li et al., "Generalized Focal Loss" (NeurIPS 2020): each side's distance is the expected value over 16 bins.
"""

from __future__ import annotations

from .build import build_model, parameter_count, read_weights, weight_shapes
from .info import ModelInfo, read_model_info

__all__ = ["ModelInfo", "build_model", "parameter_count", "read_model_info", "read_weights", "weight_shapes"]
