"""Measurements as a table that says where it came from: columns, source, machine and settings, in one Parquet file.

A `Recording` never changes and warm-up frames stay in it, marked. A loop writes its frames into a `FrameRecorder`. Any
Parquet reader opens the files; what the columns don't hold lies as JSON in the schema's metadata, under `yolotrt_lab`.
"""

from __future__ import annotations

from .machine import machine_info
from .recorder import FrameRecorder
from .table import FRAME_COLUMNS, SCHEMA_VERSION, Recording, joined

__all__ = ["FRAME_COLUMNS", "SCHEMA_VERSION", "FrameRecorder", "Recording", "joined", "machine_info"]
