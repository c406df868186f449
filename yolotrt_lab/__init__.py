"""Why does `cudaStreamSynchronize` get slower as a YOLOv8-TensorRT loop runs, and what really fixes it?

import yolotrt_lab as lab

device = lab.open_device()                 # the GPU if there is one, else the simulation; says which by .source
engine = lab.open_engine(device)           # YOLOv8n, built on first use
images = lab.read_images("synthetic", 8)
loop = lab.LoopSettings(input_memory="pinned", fill="in_place", period_us=2_000)
recording = lab.run_loop(device, engine, loop, images)
print(lab.slope(recording.steady.latency_ns))
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
