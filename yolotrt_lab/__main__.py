"""`python -m yolotrt_lab` is the command `yolotrt-lab`."""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
