"""Traces of what the host and the GPU did: read from Nsight Systems, attributed to frames, and what they show."""

from __future__ import annotations

from .trace import DIRECTIONS, MEMORIES, Graph, Trace

__all__ = ["DIRECTIONS", "MEMORIES", "Graph", "Trace"]
