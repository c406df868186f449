"""Each cause of growing latency, made to happen on any device, and labelled with the truth.

A scenario is a loop with settings. Those on a clock get frames at a period that one loop can serve and another cannot,
which is measured on the spot.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
