"""Traces of what the host and the GPU did: taken with and read from Nsight Systems, attributed to frames, explained."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Modules load at first use: doctor asks this package for nsys where NumPy may be missing.
_HOMES = {
    "Attribution": "attribution",
    "DIRECTIONS": "trace",
    "FindingKind": "findings",
    "Graph": "trace",
    "MEMORIES": "trace",
    "Nsys": "capture",
    "Trace": "trace",
    "TraceFinding": "findings",
    "WAITS": "waits",
    "attribute": "attribution",
    "capture_trace": "capture",
    "check_trace": "check",
    "find_nsys": "nsys",
    "minimal_environment": "capture",
    "profiled": "capture",
    "read_trace": "report",
    "rules": "shipped",
    "scrub": "privacy",
    "shipped_analysis": "shipped",
    "shipped_trace": "shipped",
    "write_perfetto": "perfetto",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Load what is asked for (PEP 562)."""
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
