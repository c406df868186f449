"""Why does this loop get slower? Measurements in, ranked findings with their evidence out."""

from __future__ import annotations

from .diagnose import diagnose
from .file import diagnose_file
from .findings import Diagnosis, Evidence, Finding
from .measurements import Measurements
from .page import as_html
from .reading import read_measurements
from .traced import measurements_of

__all__ = [
    "Diagnosis",
    "Evidence",
    "Finding",
    "Measurements",
    "as_html",
    "diagnose",
    "diagnose_file",
    "measurements_of",
    "read_measurements",
]
