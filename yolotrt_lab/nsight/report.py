"""Reports of Nsight Systems as traces: the .sqlite that `nsys export` writes, or the .nsys-rep itself."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..errors import NsysError, ReportError
from . import cache
from .nsys import export_sqlite
from .schema import trace_of
from .sqlite import Database
from .trace import Trace

_RAW = (".nsys-rep", ".qdrep")


def read_trace(path: str | Path, *, use_cache: bool = True) -> Trace:
    """Read a report: `.sqlite`, or `.nsys-rep` where a .sqlite lies beside it or an nsys is here that can export it.

    Tables and columns that the report lacks are treated as empty, and `notes` say so. Driver calls that are made
    inside a runtime call are part of that call. `device` is the GPU's number on its machine, where the report tells.

    What was read of a long report (8 MB and more) is kept as Parquet in a folder beside it, `<report>.lab-parquet`, and
    read from there the next time, as long as size and time of the report have not changed. Where that folder can't be
    written, or with `use_cache=False`, nothing is kept.

    ReportError where the file does not exist, is no report, or is damaged; NsysError where a .nsys-rep needs an nsys
    that is not here or too old.
    """
    path = Path(path)
    if not path.is_file():
        raise ReportError(f"{path} does not exist, or is a folder", fix="name a .sqlite or .nsys-rep file")
    key = cache.key_of(path) if use_cache else None
    trace = cache.read(path, key) if key else None
    if trace is None:
        trace = _read_raw(path) if path.suffix in _RAW else _read_sqlite(path)
        if key:
            cache.write(path, key, trace)
    return trace


def _read_raw(path: Path) -> Trace:
    """A .nsys-rep: by the .sqlite beside it unless that is older, and by an older one where there is no nsys."""
    beside = path.with_suffix(".sqlite")
    if beside.is_file() and beside.stat().st_mtime >= path.stat().st_mtime:
        return _read_sqlite(beside)
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "report.sqlite"
        try:
            export_sqlite(path, exported)
        except NsysError:
            if beside.is_file():
                return _read_sqlite(beside, f"read from {beside.name}, which is older than {path.name}")
            raise
        return _read_sqlite(exported)


def _read_sqlite(path: Path, *notes: str) -> Trace:
    return trace_of(Database(path), notes)
