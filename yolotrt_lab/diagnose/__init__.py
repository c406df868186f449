"""Where does this loop's time go, what grew, and what explains it? A log, recording or trace in, a bill out."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
