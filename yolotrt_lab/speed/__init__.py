"""How fast a loop can be: overlapped loops, kernels of the lab's own, and the ladder to the limits of the hardware."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
