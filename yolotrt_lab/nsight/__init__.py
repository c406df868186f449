"""Nsight Systems: take a trace, read it, split each wait into what it waited for, explain it, export it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
