"""Recordings: a table of measurements with its source, machine and settings, kept as a Parquet file."""

from __future__ import annotations

import errno
import json
import os
import platform
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from .errors import RecordingError, SettingsError
from .files import check_output, limit_bytes, lock, read_file, too_large, write_file
from .packages import arrow_stream, arrow_table, shipped_file
from .types import HostMemory, Source, Stage

SCHEMA_VERSION = 1

FRAME_COLUMNS = ("frame", "due_ns", "start_ns", "done_ns", *(f"{stage}_ns" for stage in Stage), "warmup")
"""The columns of one frame, in the order of a row that `FrameRecorder.add` takes."""

BATCH_FRAMES = 1_024
"""A crash costs at most this many frames. To write a batch holds the loop for 0.1 ms."""

_SCHEMAS: dict[str, dict[str, str]] = {
    "frames": {name: "bool" if name == "warmup" else "int64" for name in FRAME_COLUMNS},
    "copies": {"direction": "str", "host_memory": "str"}
    | dict.fromkeys(("bytes", "backlog_ns", "call_ns", "sync_ns"), "int64"),
}
_WORDS = {"direction": {"h2d", "d2h"}, "host_memory": {str(memory) for memory in HostMemory}}
_ROW = np.dtype(list(_SCHEMAS["frames"].items()), align=True)
_pack = struct.Struct(f"={len(FRAME_COLUMNS) - 1}q?7x").pack  # as `_ROW` has it; a row of NumPy's takes longer to fill
METADATA_KEY = b"yolotrt_lab"
_METADATA: dict[str, type] = {
    **{"schema": int, "notes": list},
    **dict.fromkeys(("kind", "label", "command", "created"), str),
    **dict.fromkeys(("source", "machine", "settings"), dict),
}
_OTHER = "take another copy, or record again; the columns are those that `Recording` describes"
_FEATHER, _STREAM = b"ARROW1", b"\xff\xff\xff\xff"
ARROW_STARTS = (b"PAR1", _FEATHER, _STREAM)
"""How files start that `read_arrow` reads: Parquet, Arrow and an Arrow stream, which is an unfinished recording."""
_PACKAGES = (
    *("yolotrt-lab", "numpy", "matplotlib", "pyarrow", "opencv-python", "opencv-python-headless", "onnx"),
    "onnxruntime",
    *("onnxruntime-gpu", "cupy", "cupy-cuda12x", "cupy-cuda13x", "tensorrt", "tensorrt-rtx", "tensorrt-rtx-cu12"),
    *("tensorrt-rtx-cu13", "nvtx", "nvidia-ml-py"),
)


@dataclass(frozen=True, eq=False)
class Recording:
    """A table of measurements and where it came from. RecordingError if the columns are not those of its kind.

    pandas, Polars, DuckDB and PyArrow take it as it is: `polars.DataFrame(recording)`, `pyarrow.table(recording)`,
    `pandas.DataFrame.from_arrow(recording)`.

    >>> recording = Recording.shipped("overload")
    >>> recording.source.gpu, recording.steady.latency_ns.shape
    ('NVIDIA H200', (1500,))
    """

    kind: str
    """"frames" with one row a frame, or "copies" with one row a measured copy."""
    columns: Mapping[str, np.ndarray]
    """Read-only copies of the arrays, of shape (rows,), int64 unless noted.

    Of frames: the number `frame`, `due_ns` when it was due, `start_ns` and `done_ns` when the loop took it up and had
    its result, `<stage>_ns` of host time for each `Stage`, `warmup` (bool). Of copies: `direction` (h2d or d2h),
    `host_memory`, `bytes`, `backlog_ns` of work in front of it, `call_ns` in the copy call, `sync_ns` in the
    synchronize after it. Further columns may follow, float64 too unless the name ends in `_ns`.
    """
    source: Source
    """The GPU or the simulation that was measured."""
    machine: Mapping[str, str] = field(default_factory=dict)
    """What `machine_info` said."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The settings of the loop, JSON values."""
    label: str = ""
    """The name in figures."""
    command: str = ""
    """The command that recorded it."""
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    """ISO 8601 in UTC."""
    notes: tuple[str, ...] = ()
    """What a reader should know of the table, such as that the run was interrupted."""

    def __post_init__(self) -> None:
        columns = {name: np.array(values) for name, values in self.columns.items()}
        for values in columns.values():
            values.flags.writeable = False
        _check_columns(self.kind, columns)
        object.__setattr__(self, "columns", MappingProxyType(columns))
        object.__setattr__(self, "machine", MappingProxyType(dict(self.machine)))
        object.__setattr__(self, "notes", tuple(self.notes))
        try:  # as the settings will be when they are read back
            settings = json.loads(json.dumps(dict(self.settings), allow_nan=False))
        except (TypeError, ValueError) as error:
            fix = "use text, numbers, lists and dicts"
            raise RecordingError(f"the settings must be JSON values: {error}", fix=fix) from error
        object.__setattr__(self, "settings", MappingProxyType(settings))

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return arrow_stream(self.columns, requested_schema)

    @property
    def latency_ns(self) -> np.ndarray:
        """From a frame's due time to its result, int64 of shape (frames,)."""
        latency: np.ndarray = self._column("done_ns") - self._column("due_ns")
        return latency

    def stage_ns(self, stage: Stage) -> np.ndarray:
        """The host's time in one stage of every frame, int64 of shape (frames,)."""
        return self._column(f"{stage}_ns")

    @property
    def steady(self) -> Recording:
        """The frames after the warm-up, to look at; save the whole recording."""
        keep = ~self._column("warmup")
        return replace(self, columns={name: values[keep] for name, values in self.columns.items()})

    def _column(self, name: str) -> np.ndarray:
        if (column := self.columns.get(name)) is None:
            raise RecordingError(f"the recording has no column {name!r}", fix=f"use one of {', '.join(self.columns)}")
        return column

    @property
    def metadata(self) -> dict[str, Any]:
        """What a file holds beside the columns, as JSON values."""
        held = {name: getattr(self, name) for name in ("kind", "label", "command", "created", "notes")}
        held |= {"source": self.source.as_dict(), "machine": dict(self.machine), "settings": dict(self.settings)}
        return held | {"schema": SCHEMA_VERSION}

    def save(self, path: str | Path) -> None:
        """Write the Parquet file whole or not at all: a failure leaves a file that was there before as it was.

        RecordingError if it cannot be written, such as on a full disk; the recording is still in memory. The pages
        carry checksums, by which `load` finds damage.
        """
        import pyarrow
        from pyarrow import parquet

        table, sink = _table(self.columns, self.metadata | {"rows": len(self)}), pyarrow.BufferOutputStream()
        parquet.write_table(table, sink, compression="zstd", write_page_checksum=True)
        write_file(path, memoryview(sink.getvalue()), RecordingError)

    @classmethod
    def load(cls, path: str | Path) -> Recording:
        """Read a recording; a live one becomes a recorded one. RecordingError for everything that is no recording.

        Without a file `path` this reads `<path>.partial`, which a crash leaves; `notes` say that it is unfinished.
        """
        try:
            found = Path(path) if Path(path).exists() else Path(f"{path}.partial")
            there = found.exists()
        except (OSError, ValueError) as error:  # no name of a file, such as one with a NUL in it
            raise RecordingError(f"{path} cannot be read: {error}", fix="name a file that exists") from error
        if not there:
            raise RecordingError(f"{path} does not exist", fix="name a file that exists")
        table = read_arrow(found)
        if METADATA_KEY not in (table.schema.metadata or {}):
            held = f"must have metadata {METADATA_KEY.decode()!r}, got only the columns {', '.join(table.column_names)}"
            raise RecordingError(f"{found} {held}", fix="load a file that Recording.save wrote")
        try:
            return _restored(table, _read_metadata(table.schema.metadata[METADATA_KEY]))
        except RecordingError as error:
            raise RecordingError(f"{found} is not a usable recording: {error.message}", fix=error.fix) from error

    @classmethod
    def shipped(cls, name: str, kind: str = "recordings") -> Recording:
        """The recording of a real GPU that ships with the lab under that name, such as 'overload'.

        Of kind "traces": the recording of the frames in the trace of that name. RecordingError lists the names.
        """
        return cls.load(shipped_file(kind, f"{name}.parquet", RecordingError))


def joined(parts: Sequence[Recording], **settings: Any) -> Recording:
    """Runs of one loop after each other as one recording: that of the first run, with these settings changed.

    Frames after the warm-up are numbered on from run to run.
    """
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
    steady = ~columns["warmup"]
    columns["frame"][steady] = np.arange(steady.sum())
    return replace(parts[0], columns=columns, settings={**parts[0].settings, **settings})


_watching: list[FrameRecorder] | None = None


@contextmanager
def watched() -> Iterator[list[FrameRecorder]]:
    """Every recorder that is created inside, whoever creates it: after an error they hold what was recorded."""
    global _watching
    before, _watching = _watching, []
    try:
        yield _watching
    finally:
        _watching = before


class FrameRecorder:
    """Takes the rows of a loop, one `add` a frame, and turns them into a `Recording`.

    With `path`, every `BATCH_FRAMES` frames are also appended to `<path>.partial`, an Arrow IPC stream, so that they
    outlive a crash; `finish` replaces it by the Parquet file. All rows stay in memory, 96 bytes a frame. `fields` are
    those of a `Recording`: `source`, and `machine`, `settings`, `label` and `command` if they are known.

    RecordingError if `path` cannot be written, while another run records there, and without `overwrite` if a recording
    lies there, or the `.partial` of a run that ended early.
    """

    def __init__(self, path: str | Path | None = None, *, overwrite: bool = True, **fields: Any) -> None:
        self._batches, self._batch_bytes = [bytearray()], BATCH_FRAMES * _ROW.itemsize
        self._template = Recording("frames", _frame_columns(b""), **fields)
        self._path = None if path is None else Path(path)
        if self._path:
            self._open(self._path, overwrite)
        if _watching is not None:
            _watching.append(self)

    def __len__(self) -> int:
        return sum(map(len, self._batches)) // _ROW.itemsize

    def add(self, row: Sequence[int]) -> None:
        """Record one frame: the values of `FRAME_COLUMNS` in that order.

        RecordingError if a batch cannot be written (a full disk); all frames are still in memory.
        """
        batch = self._batches[-1]
        try:
            batch += _pack(*row)
        except struct.error as error:
            raise ValueError(f"a row must have {len(FRAME_COLUMNS)} fields, all whole numbers: {error}") from error
        if len(batch) == self._batch_bytes:
            self._batches.append(bytearray())
            if self._path:
                self._write(_table(_frame_columns(batch)).to_batches()[0].serialize())

    def recording(self) -> Recording:
        """The frames so far."""
        return replace(self._template, columns=_frame_columns(b"".join(self._batches)))

    def finish(self, *notes: str) -> Recording:
        """The whole recording with these notes, saved under `path` if there is one. Call it after an error too.

        A run without a frame saves nothing. RecordingError if it cannot be saved: then `<path>.partial` stays, and
        `recording` still has every frame.
        """
        recording = replace(self.recording(), notes=notes)
        if self._path:
            with closing(self._file):
                if len(recording):
                    recording.save(self._path)
                with suppress(PermissionError):  # Windows deletes no open file
                    self._partial.unlink(missing_ok=True)
            if sys.platform == "win32":
                self._partial.unlink(missing_ok=True)
        return recording

    def _open(self, path: Path, overwrite: bool) -> None:
        self._partial = Path(f"{path}.partial")
        # pyarrow is loaded here, since that takes too long between two frames
        header = _table(self._template.columns, self._template.metadata).schema.serialize()
        try:
            for place in (path, self._partial):
                check_output(place, place.suffix.lower())
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._partial.open("ab", buffering=0)
        except (OSError, SettingsError) as error:
            what = getattr(error, "message", f"{self._partial} cannot be created: {getattr(error, 'strerror', error)}")
            raise RecordingError(what, fix="record elsewhere") from error
        if not lock(self._file):
            self._file.close()
            raise RecordingError(f"another run records to {path}", fix="wait until it ends, or record elsewhere")
        if self._file.tell() and not overwrite:
            self._file.close()
            left = f"{self._partial} holds what a run recorded that a full disk, a crash or a kill ended"
            fix = "keep it under another name (diagnose reads it as it is), or overwrite it: --force"
            raise RecordingError(left, fix=fix)
        try:
            if path.exists() and not overwrite:  # by a run that ended since this one was asked for
                raise RecordingError(f"{path} exists already", fix="name another file, or overwrite it: --force")
            self._file.truncate(0)
            self._write(header)
        except RecordingError:
            self.finish()
            raise

    def _write(self, content: Any) -> None:
        try:
            if self._file.write(content) != content.size:  # a disk takes what it has room for, and says no more
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._file.close()
            fix = f"make room; Recording.load reads the frames there, all but the last {BATCH_FRAMES:,}"
            raise RecordingError(f"{self._partial} cannot be written: {error.strerror}", fix=fix) from error


def _frame_columns(rows: bytes | bytearray) -> dict[str, np.ndarray]:
    columns = np.frombuffer(rows, _ROW)
    return {name: columns[name] for name in FRAME_COLUMNS}


def _check_columns(kind: str, columns: Mapping[str, np.ndarray]) -> None:
    schema = _SCHEMAS.get(kind)
    if schema is None:
        raise RecordingError(f"the kind of a recording must be one of {', '.join(_SCHEMAS)}, got {kind!r}", fix=_OTHER)
    if missing := [name for name in schema if name not in columns]:
        raise RecordingError(f"a recording of kind {kind!r} needs the missing columns {', '.join(missing)}", fix=_OTHER)
    for name, values in columns.items():
        allowed = schema.get(name) or ("int64" if name.endswith("_ns") else "int64 or float64")
        dtype = "str" if values.dtype.kind == "U" else values.dtype.name
        if values.ndim != 1 or dtype not in allowed.split(" or "):
            raise RecordingError(
                f"column {name} must be {allowed} of shape (rows,), got {dtype} of {values.shape}", fix=_OTHER
            )
        if dtype == "str" and (unknown := set(values.tolist()) - _WORDS[name]):
            raise RecordingError(f"column {name} must hold {sorted(_WORDS[name])}, got {sorted(unknown)}", fix=_OTHER)
    if len({len(values) for values in columns.values()}) > 1:
        lengths = ", ".join(f"{name} {len(values)}" for name, values in columns.items())
        raise RecordingError(f"the columns differ in length: {lengths}", fix=_OTHER)


def _read_metadata(text: bytes) -> dict[str, Any]:
    """The metadata of a file: what it must have, of the types that it must have."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise RecordingError("its metadata must be a JSON object, and are none", fix=_OTHER)
    if isinstance(version := fields.get("schema"), int) and version > SCHEMA_VERSION:
        newest = f"this lab reads up to {SCHEMA_VERSION}"
        raise RecordingError(f"it has schema version {version}, and {newest}", fix="update the lab")
    if odd := sorted(fields.keys() - {"rows"} ^ _METADATA.keys()):
        known = ", ".join(_METADATA)
        raise RecordingError(f"its metadata must be {known}, and {odd[0]!r} is missing or not one of them", fix=_OTHER)
    for name, kind in _METADATA.items():
        if not isinstance(fields[name], kind):
            got = json.dumps(fields[name])[:40]
            raise RecordingError(f"{name!r} in its metadata must be of type {kind.__name__}, got {got}", fix=_OTHER)
    texts = [*fields["notes"], *fields["machine"].values(), *fields["source"].values()]
    if odd := [each for each in texts if not isinstance(each, str)]:
        raise RecordingError(f"notes, machine and source in its metadata must be text, got {odd[0]!r}", fix=_OTHER)
    return fields


def _restored(table: Any, fields: dict[str, Any]) -> Recording:
    del fields["schema"]
    rows = fields.pop("rows", None)
    try:
        source = Source.read_back(fields.pop("source"))
    except (ValueError, TypeError, KeyError) as error:
        raise RecordingError("'source' in its metadata does not say what was measured", fix=_OTHER) from error
    columns = {name: _as_numpy(table[name]) for name in table.column_names}
    recording = Recording(columns=columns, source=source, **fields)
    if gaps := _gaps(recording):
        recording = replace(recording, notes=(*recording.notes, gaps))
    if rows is None:  # in an Arrow stream, which does not know how many will follow
        note = f"unfinished: {len(recording)} frames of a run that was interrupted"
        return replace(recording, notes=(*recording.notes, note))
    if len(recording) != rows:
        raise RecordingError(f"it has {len(recording)} of its {rows} rows", fix=_OTHER)
    return recording


def _gaps(recording: Recording) -> str:
    """Which frames of the run are in no row, in words; '' where none is missing."""
    if recording.kind != "frames" or not len(recording):
        return ""
    there = np.unique(recording.columns["frame"])
    before = np.flatnonzero(np.diff(there) > 1)
    gaps = [f"{there[each] + 1:,} to {there[each + 1] - 1:,}" for each in before[:3]]
    more = f" and {len(before) - 3:,} further gaps" if len(before) > 3 else ""
    return f"frames are missing: {', '.join(gaps)}{more}" if gaps else ""


def _table(columns: Mapping[str, np.ndarray], metadata: Any = None) -> Any:
    return arrow_table(columns, {METADATA_KEY: json.dumps(metadata)})


def read_arrow(path: Path) -> Any:
    """The PyArrow table of a Parquet or Arrow file, or of an unfinished recording.

    RecordingError for another file, and where two columns have one name.
    """
    import pyarrow
    from pyarrow import ipc, parquet

    try:
        data = read_file(path, error=RecordingError)
        if not data.startswith((_STREAM, _FEATHER)):
            file = parquet.ParquetFile(pyarrow.BufferReader(data), page_checksum_verification=True)
            _check_size(path, 8 * file.metadata.num_rows * file.metadata.num_columns)
            return _checked_table(path, file.read())
        is_stream, batches, nbytes = data.startswith(_STREAM), [], 0
        reader = ipc.open_stream(data) if is_stream else ipc.open_file(data)
        with suppress(pyarrow.ArrowException, OSError):  # a crash or a full disk cuts the last batch off
            for batch in reader if is_stream else map(reader.get_batch, range(reader.num_record_batches)):
                batches.append(batch)
                nbytes += batch.nbytes
                _check_size(path, nbytes)
        return _checked_table(path, pyarrow.Table.from_batches(batches, reader.schema))
    except (pyarrow.ArrowException, ValueError, KeyError, OSError) as error:
        fix = "it is damaged, cut off or something else: take another copy, or record again"
        what = f"{path} is no readable Parquet or Arrow file: {str(error).splitlines()[0]}"
        raise RecordingError(what, fix=fix) from error


def _checked_table(path: Path, table: Any) -> Any:
    table.validate(full=True)  # text whose ends are damaged could end the process where it is read
    names = table.column_names
    if twice := [name for name in names if names.count(name) > 1]:
        raise RecordingError(f"{path} must have one column of a name, got two called {twice[0]}", fix=_OTHER)
    return table


def _check_size(path: Path, nbytes: int) -> None:
    """RecordingError for a table beyond the limit: a few bytes can say a million zeros."""
    if nbytes > limit_bytes():
        raise too_large(f"{path}: the table", nbytes, RecordingError)


def _as_numpy(column: Any) -> np.ndarray:
    """As NumPy has it; empty values become NaN or None, which no column of a schema may hold."""
    import pyarrow
    from pyarrow import types

    kind, whole = column.type, not column.null_count
    if whole and types.is_string(kind):
        return np.array(column.to_pylist(), np.str_)
    if whole and types.is_boolean(kind):  # `to_numpy` would import pandas, where it is there
        return np.from_dlpack(column.cast(pyarrow.uint8()).combine_chunks()).astype(np.bool_)
    if whole and (types.is_integer(kind) or types.is_floating(kind)):
        return np.from_dlpack(column.combine_chunks())
    return np.array(column.to_numpy())


def machine_info() -> dict[str, str]:
    """Operating system, CPU, logical cores, Python and package versions; nothing that names a person or a host."""
    system = {
        "os": f"{platform.system()} {platform.release()}",
        "cpu": _cpu_name(),
        "cpu_count": str(os.cpu_count()),
        "python": platform.python_version(),
    }
    return system | _package_versions()


@cache  # each look-up reads a file, and each loop asks
def _package_versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version  # takes 20 ms to import

    found = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


@cache
def _cpu_name() -> str:
    """The model's name if the system tells it, else the architecture."""
    with suppress(OSError):
        if sys.platform == "win32":
            import winreg

            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"HARDWARE\DESCRIPTION\System\CentralProcessor\0") as key:
                return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
