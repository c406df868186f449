"""Why does this loop get slower? A log, recording or trace in, ranked findings with their evidence out."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
