"""The lab's own YOLOv8n, the synthetic scene that it knows, and boxes drawn into any source of frames."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
