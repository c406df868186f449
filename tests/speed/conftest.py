"""Puts benchmarks/ on the path: what the ladder claims is measured by scripts there."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
