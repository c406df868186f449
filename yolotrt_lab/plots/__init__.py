"""Tables in, matplotlib axes out: nothing is computed here but medians for bars.

Every function draws on axes given to it, returns what it drew, and writes where the numbers come from into the
figure's corner. Times are milliseconds or microseconds, as the axis says. Start with `figure`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
