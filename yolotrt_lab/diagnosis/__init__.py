"""Why does this loop get slower? Measurements in, ranked findings with their evidence out."""

from __future__ import annotations

from .measurements import Measurements

__all__ = ["Measurements"]
