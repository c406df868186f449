"""A CUDA device in virtual time: it behaves as measured hardware does, on any machine, and the same every time.

What it models is what decides how long a call holds the host: streams in order, one copy engine a direction and one
compute engine, page-locked copies that the GPU makes by itself, pageable copies that the driver makes through staging
memory, and the launch queue. Its constants are a `Preset`, measured on a real GPU. What it shows is never a
measurement, and is stamped so.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
