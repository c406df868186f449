"""Why does `cudaStreamSynchronize` get slower as a YOLOv8-TensorRT loop runs, and what really fixes it?

The modules of this folder are the helper; the folders are its wings: `simulate`, `causes`, `nsight`, `diagnose`,
`speed`, `detector` and `gym`. Names load at first use: importing the lab needs NumPy alone.

>>> import yolotrt_lab as lab
>>> device = lab.open_device("simulated")  # without a name: the GPU if there is one; device.source says which
>>> engine = lab.open_engine(device)  # YOLOv8n, built on first use
>>> images = lab.read_images("synthetic", 8)
>>> loop = lab.LoopSettings(input_memory="pinned", fill="in_place", period_us=2_000, frames=100)
>>> recording = lab.run_loop(device, engine, loop, images)
>>> print(f"{recording.steady.latency_ns[-1] / 1e6:.1f} ms")
2.0 ms
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """At the first use of a name `lazy_loader` takes over; the command's help has no use for it."""
    import lazy_loader

    here = globals()
    here["__getattr__"], here["__dir__"], here["__all__"] = lazy_loader.attach_stub(__name__, __file__)
    return here["__all__"] if name == "__all__" else here["__getattr__"](name)


def __dir__() -> list[str]:
    return list(__getattr__("__all__"))
