"""`python -m scripts.evaluation`."""

import sys

from .run import main

sys.exit(main(sys.argv[1:]))
