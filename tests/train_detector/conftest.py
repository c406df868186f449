"""Puts the repository's root on the path, from where scripts/train_detector is imported."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
