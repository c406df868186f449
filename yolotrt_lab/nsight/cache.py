"""What was read of a long report, kept as Parquet beside it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..packages import load
from ..types import Source
from .trace import SCHEMA, Trace

_FORMAT = 1
_MINIMAL_SIZE = 8_000_000
_METADATA_KEY = b"yolotrt_lab"

Key = Mapping[str, int]


def key_of(report: Path) -> Key | None:
    """What must not have changed for the copy to be used; None for a report so short that a copy gains nothing."""
    status = report.stat()
    if status.st_size < _MINIMAL_SIZE:
        return None
    return {"format": _FORMAT, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def read(report: Path, key: Key) -> Trace | None:
    """The trace that was kept; None where there is none, of this report as it is now, that can be read."""
    folder = folder_of(report)
    if not folder.is_dir():
        return None
    arrow = load("pyarrow", needed_for="Parquet files")
    try:
        tables, metadata = {}, {}
        for name in SCHEMA:
            tables[name], metadata[name] = _read_table(folder / f"{name}.parquet")
        first = metadata["api"]
        if any(other != first for other in metadata.values()) or first["key"] != key:
            return None
        return Trace(
            **tables, names=tuple(first["names"]), source=Source.from_dict(first["source"]), notes=tuple(first["notes"])
        )
    except (arrow.ArrowException, OSError, ValueError, KeyError, TypeError):
        return None


def write(report: Path, key: Key, trace: Trace) -> None:
    """Keep the trace, at once or not at all; nothing happens where that is not possible."""
    metadata = {"key": dict(key), "names": trace.names, "source": trace.source.as_dict(), "notes": trace.notes}
    encoded = json.dumps(metadata)
    folder = folder_of(report)
    with suppress(OSError), tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        for name in SCHEMA:
            _write_table(made / f"{name}.parquet", trace.table(name), encoded)
        if folder.exists():
            folder.replace(Path(temporary) / "old")
        made.replace(folder)


def folder_of(report: Path) -> Path:
    """Where the copy of a report lies."""
    return report.with_name(f"{report.name}.lab-parquet")


def _write_table(path: Path, columns: Mapping[str, np.ndarray], metadata: str) -> None:
    """Rows in groups that readers decode side by side; checksums, so that damage is found."""
    arrow, parquet = _arrow()
    table = arrow.table(dict(columns)).replace_schema_metadata({_METADATA_KEY: metadata})
    parquet.write_table(
        table, path, compression="lz4", use_dictionary=False, write_statistics=False, write_page_checksum=True
    )


def _read_table(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    _, parquet = _arrow()
    with parquet.ParquetFile(path, page_checksum_verification=True) as file:
        table = file.read()
    metadata = json.loads((table.schema.metadata or {})[_METADATA_KEY])
    return {name: table[name].to_numpy() for name in table.column_names}, metadata


def _arrow() -> tuple[Any, Any]:
    what = "Parquet files"
    return load("pyarrow", needed_for=what), load("pyarrow.parquet", needed_for=what)
