"""What surrounds the network, on the GPU: the letterbox and the search for boxes, each in CUDA C and in NumPy."""

from __future__ import annotations

from .decode import KEPT, RESULT_WORDS, Decoder, unpack
from .letterbox import Letterboxer

__all__ = ["KEPT", "RESULT_WORDS", "Decoder", "Letterboxer", "unpack"]
