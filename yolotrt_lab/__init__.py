"""Why does `cudaStreamSynchronize` get slower as a YOLOv8-TensorRT loop runs, and what really fixes it?"""

from __future__ import annotations

__version__ = "0.1.0"
