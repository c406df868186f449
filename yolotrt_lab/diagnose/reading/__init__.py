"""Measurements from whatever holds them: the lab's recordings, Parquet and CSV of other programs, and pasted logs."""

from __future__ import annotations

from .files import read_measurements

__all__ = ["read_measurements"]
