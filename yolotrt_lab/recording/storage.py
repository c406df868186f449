"""Columns and what belongs to them as a Parquet file, written at once or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RecordingError
from ..packages import load

METADATA_KEY = b"yolotrt_lab"


def encode(columns: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> memoryview:
    """The bytes of the file. Its pages carry checksums, so that damage is found when they are read."""
    pyarrow, parquet = _pyarrow()
    table = pyarrow.table(dict(columns)).replace_schema_metadata({METADATA_KEY: json.dumps(dict(metadata))})
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return memoryview(sink.getvalue())


def write(path: Path, data: memoryview) -> None:
    """Replace the file once its bytes have reached the disk; RecordingError where they can't."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise RecordingError(
            f"{path} cannot be written: {error.strerror or error}. It needs {data.nbytes:,} bytes{_free_space(path)}.",
            fix="make room there or choose another place, and save again: the recording is still in memory",
        ) from error


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any] | None]:
    """The columns and the metadata (None where the file has none of the lab's); RecordingError for another file."""
    pyarrow, parquet = _pyarrow()
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        columns = {name: _as_numpy(table[name]) for name in table.column_names}
        text = (table.schema.metadata or {}).get(METADATA_KEY)
        return columns, None if text is None else json.loads(text)
    except (pyarrow.ArrowException, ValueError, KeyError, OSError) as error:
        raise RecordingError(
            f"{path} is no readable Parquet file: {str(error).splitlines()[0]}",
            fix="it is damaged, cut off or something else: take another copy, or record again",
        ) from error


def _as_numpy(column: Any) -> np.ndarray:
    """As NumPy has it; empty values become NaN or None, which no column of a schema may hold."""
    text = str(column.type) in ("string", "large_string", "string_view") and not column.null_count
    return np.array(column.to_pylist(), np.str_) if text else column.to_numpy()


def _free_space(path: Path) -> str:
    try:
        return f"; {shutil.disk_usage(path.parent).free:,} bytes are free there"
    except OSError:
        return ""


def _pyarrow() -> tuple[Any, Any]:
    what = "Parquet files"
    return load("pyarrow", needed_for=what), load("pyarrow.parquet", needed_for=what)
