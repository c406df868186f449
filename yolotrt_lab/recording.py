"""The machine that a recording was made on."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import RecordingError
from .packages import load, shipped_file
from .types import HostMemory, Source, Stage

if TYPE_CHECKING:
    import pandas
    import polars
from concurrent.futures import Future, ThreadPoolExecutor

from .errors import SettingsError

_PACKAGES = (
    *("yolotrt-lab", "numpy", "scipy", "pyarrow", "opencv-python", "opencv-python-headless", "onnx", "onnxruntime"),
    *("onnxruntime-gpu", "cupy", "cupy-cuda12x", "cupy-cuda13x", "tensorrt", "tensorrt-rtx", "tensorrt-rtx-cu12"),
    *("tensorrt-rtx-cu13", "nvtx", "nvidia-ml-py"),
)


def machine_info() -> dict[str, str]:
    """Operating system, CPU, logical cores, Python and package versions; nothing that names a person or a host."""
    from importlib.metadata import PackageNotFoundError, version  # takes 20 ms to import

    info = {
        "os": f"{platform.system()} {platform.release()}",
        "cpu": _cpu_name(),
        "cpu_count": str(os.cpu_count()),
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            info[package] = version(package)
    return info


def _cpu_name() -> str:
    """The model's name where the system tells it, else the architecture."""
    if sys.platform == "win32":
        import winreg

        with (
            suppress(OSError),
            winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"HARDWARE\DESCRIPTION\System\CentralProcessor\0") as key,
        ):
            return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


# Columns and what belongs to them as a Parquet file, written at once or not at all.


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


# The table itself: which columns it has, what goes with it, and how it is saved and loaded.


SCHEMA_VERSION = 1

FRAME_COLUMNS = ("frame", "due_ns", "start_ns", "done_ns", *(f"{stage}_ns" for stage in Stage), "warmup")
"""The columns of one frame, in the order of a row that `FrameRecorder.add` takes."""

_SCHEMAS: dict[str, dict[str, str]] = {
    "frames": {name: "bool" if name == "warmup" else "int64" for name in FRAME_COLUMNS},
    "copies": {"direction": "str", "host_memory": "str"}
    | dict.fromkeys(("bytes", "backlog_ns", "call_ns", "sync_ns"), "int64"),
}
_WORDS = {"direction": {"h2d", "d2h"}, "host_memory": {str(memory) for memory in HostMemory}}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, eq=False)
class Recording:
    """A table of measurements with where it came from. RecordingError where the columns are not those of its kind.

    Kind "frames" has one row a frame: `frame` its number, `due_ns` when it was due, `start_ns` and `done_ns` when the
    loop took it up and had its result, one `<stage>_ns` of host time for each `Stage`, and `warmup`. Kind "copies" has
    one row a measured copy: `direction` (h2d or d2h), `host_memory`, `bytes`, `backlog_ns` of work in front of it,
    `call_ns` in the copy call and `sync_ns` in the synchronize after it. All are int64 of shape (rows,), but for the
    bool `warmup` and the strings `direction` and `host_memory`. Further columns may follow: int64 where the name ends
    in `_ns`, int64 or float64 where it doesn't. The arrays are copies and read-only.

    `settings` holds JSON values; `created` is ISO 8601 in UTC; `notes` say what a reader should know of the table.
    """

    kind: str
    columns: Mapping[str, np.ndarray]
    source: Source
    machine: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    command: str = ""
    created: str = field(default_factory=_now)
    notes: tuple[str, ...] = ()
    schema: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        columns = {name: _read_only(values) for name, values in self.columns.items()}
        _check_columns(self.kind, columns)
        object.__setattr__(self, "columns", MappingProxyType(columns))
        object.__setattr__(self, "machine", MappingProxyType(dict(self.machine)))
        object.__setattr__(self, "settings", MappingProxyType(_as_json(self.settings)))
        object.__setattr__(self, "notes", tuple(self.notes))

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def latency_ns(self) -> np.ndarray:
        """From a frame's due time to its result, int64 of shape (frames,)."""
        return self._column("done_ns") - self._column("due_ns")

    def stage_ns(self, stage: Stage) -> np.ndarray:
        """The host's time in one stage of every frame, int64 of shape (frames,)."""
        return self._column(f"{stage}_ns")

    @property
    def steady(self) -> Recording:
        """The frames after the warm-up, to look at; save the whole recording."""
        keep = ~self._column("warmup")
        return replace(self, columns={name: values[keep] for name, values in self.columns.items()})

    def _column(self, name: str) -> np.ndarray:
        try:
            return self.columns[name]
        except KeyError:
            raise RecordingError(
                f"a recording of kind {self.kind!r} has no column {name!r}; it has {', '.join(self.columns)}"
            ) from None

    def to_pandas(self) -> pandas.DataFrame:
        """The columns as a pandas DataFrame."""
        return load("pandas", needed_for="a DataFrame").DataFrame(dict(self.columns))

    def to_polars(self) -> polars.DataFrame:
        """The columns as a Polars DataFrame."""
        return load("polars", needed_for="a DataFrame").DataFrame(dict(self.columns))

    def save(self, path: str | Path) -> None:
        """Write the Parquet file at once or not at all: a failure leaves a file that was there before as it was.

        RecordingError where it cannot be written, such as on a full disk; the recording is still in memory.
        """
        write(Path(path), self.encode())

    def encode(self) -> memoryview:
        """The bytes of the Parquet file that `save` writes."""
        names = ("schema", "kind", "label", "command", "created", "notes")
        metadata = {name: getattr(self, name) for name in names} | {
            "rows": len(self),
            "source": self.source.as_dict(),
            "machine": dict(self.machine),
            "settings": dict(self.settings),
        }
        return encode(self.columns, metadata)

    @classmethod
    def load(cls, path: str | Path) -> Recording:
        """Read a recording; a live one becomes a recorded one.

        A folder `<file>.partial`, which an interrupted run leaves, is read as what it has of the run; `notes` say so,
        and which segments could not be read. RecordingError for everything that is not a recording.
        """
        path = Path(path)
        return _load_segments(path) if path.is_dir() else _load_file(path)

    @classmethod
    def shipped(cls, name: str, kind: str = "recordings") -> Recording:
        """The recording of a real GPU that ships with the lab under that name, such as 'overload'.

        Of kind "traces": the one beside the trace of that name, of the same frames. RecordingError names those there
        are.
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


def _read_only(values: Any) -> np.ndarray:
    array = np.array(values)
    array.flags.writeable = False
    return array


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as they will be when they are read back."""
    try:
        return json.loads(json.dumps(dict(settings), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise RecordingError(f"the settings are no JSON: {error}", fix="use text, numbers, lists and dicts") from error


def _check_columns(kind: str, columns: Mapping[str, np.ndarray]) -> None:
    if kind not in _SCHEMAS:
        raise RecordingError(f"no recordings of kind {kind!r}", fix=f"use one of {', '.join(_SCHEMAS)}")
    schema = _SCHEMAS[kind]
    missing = [name for name in schema if name not in columns]
    if missing:
        raise RecordingError(f"a recording of kind {kind!r} needs the missing columns {', '.join(missing)}")
    for name, values in columns.items():
        allowed = schema.get(name) or ("int64" if name.endswith("_ns") else "int64 or float64")
        dtype = "str" if values.dtype.kind == "U" else values.dtype.name
        if values.ndim != 1 or dtype not in allowed.split(" or "):
            raise RecordingError(f"column {name} is {dtype} of shape {values.shape}, not {allowed} of shape (rows,)")
        unknown = set(values.tolist()) - _WORDS[name] if name in _WORDS and name in schema else set()
        if unknown:
            raise RecordingError(f"column {name} holds {sorted(unknown)}; it may hold {sorted(_WORDS[name])}")
    if len({len(values) for values in columns.values()}) > 1:
        lengths = ", ".join(f"{name} {len(values)}" for name, values in columns.items())
        raise RecordingError(f"the columns differ in length: {lengths}")


def partial_folder(path: Path) -> Path:
    """Where a run that records into `path` keeps its segments until it ends."""
    return path.with_name(f"{path.name}.partial")


def segments(folder: Path) -> list[Path]:
    """The segments in such a folder, in order."""
    return sorted(folder.glob("[0-9]*.parquet"))


def _load_file(path: Path) -> Recording:
    if not path.exists():
        partial = partial_folder(path)
        fix = f"an interrupted run left {partial}: load that" if segments(partial) else "name a file that exists"
        raise RecordingError(f"{path} does not exist", fix=fix)
    columns, metadata = read(path)
    try:
        return _restored(columns, metadata)
    except RecordingError as error:
        raise RecordingError(f"{path} is not a usable recording: {error.message}", fix=error.fix) from error


def _restored(columns: dict[str, np.ndarray], metadata: dict[str, Any] | None) -> Recording:
    if metadata is None:
        missing = ", ".join(name for name in FRAME_COLUMNS if name not in columns)
        raise RecordingError(
            f"its schema has no metadata {METADATA_KEY.decode()!r}; its columns are {', '.join(columns)}"
            + (f"; of those of a frame it lacks {missing}" if missing else ""),
            fix="load a file that Recording.save wrote: other programs drop the metadata",
        )
    try:
        if metadata["schema"] > SCHEMA_VERSION:
            raise RecordingError(
                f"it has schema version {metadata['schema']}, and this lab reads up to {SCHEMA_VERSION}",
                fix="update the lab",
            )
        source = Source.read_back(metadata["source"])
        rows = metadata.pop("rows")
        recording = Recording(**{**metadata, "source": source, "columns": columns})
    except (ValueError, TypeError, KeyError) as error:
        raise RecordingError(
            f"its metadata are damaged: {error!r}", fix="take another copy, or record again"
        ) from error
    if len(recording) != rows:
        raise RecordingError(
            f"it has {len(recording)} of its {rows} rows", fix="take another copy: a recording keeps all its rows"
        )
    return recording


def _load_segments(folder: Path) -> Recording:
    """What an interrupted run left: the segments that can be read, with notes on those that can't."""
    parts: list[Recording] = []
    notes: list[str] = []
    for path in segments(folder):
        try:
            part = _load_file(path)
        except RecordingError as error:
            notes.append(f"skipped {error.message}")
            continue
        if parts and (part.created, part.columns.keys()) != (parts[0].created, parts[0].columns.keys()):
            notes.append(f"skipped {path}, which is of another recording")
            continue
        parts.append(part)
    if not parts:
        raise RecordingError(
            " ".join([f"{folder} is a folder without a readable segment.", *notes]), fix="name a recording's file"
        )
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
    notes.insert(0, f"unfinished: {len(parts)} segments of an interrupted run")
    return replace(parts[0], columns=columns, notes=(*parts[0].notes, *notes))


# What a loop writes its frames into.


class FrameRecorder:
    """Takes the rows of a loop, one `add` a frame, and makes a `Recording` of them.

    With `path`, every `segment_frames` frames are also saved as a segment in the folder `<path>.partial`, by a thread
    that works while the loop goes on, so that they outlive a crash; `finish` replaces them by the one file. The frame
    at a segment's end takes some 0.1 ms longer, and now and then one after it a few ms, while that thread has the
    interpreter. All rows stay in memory, 96 bytes a frame. One thread at a time may call `add`.

    RecordingError where `path` cannot be written or an earlier run's segments lie there, SettingsError where
    `segment_frames` is not positive.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        source: Source,
        machine: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
        label: str = "",
        command: str = "",
        segment_frames: int = 8_192,
    ) -> None:
        if segment_frames < 1:
            raise SettingsError(f"segments of {segment_frames} frames", fix="use one frame or more")
        self._segment_frames = segment_frames
        self._block = self._empty_block()
        self._blocks = [self._block]
        self._count = self._start = 0
        self._template = Recording(
            "frames", _frame_columns(self._block[:0]), source, machine or {}, settings or {}, label, command
        )
        self._path = Path(path) if path is not None else None
        self._pending: Future[None] | None = None
        if self._path is not None:
            self._partial = partial_folder(self._path)
            self._writer = ThreadPoolExecutor(1, "recording")
            self._open_partial(self._path)

    def add(self, row: Sequence[int]) -> None:
        """Record one frame: the values of `FRAME_COLUMNS` in that order.

        RecordingError where the segment before could not be written (a full disk); the frames are still in memory.
        """
        self._block[self._count - self._start] = row
        self._count += 1
        if self._count - self._start == self._segment_frames:
            self._next_block()

    def recording(self) -> Recording:
        """The frames so far."""
        rows = np.concatenate(self._blocks)[: self._count]
        return replace(self._template, columns=_frame_columns(rows))

    def finish(self) -> Recording:
        """The whole recording, saved under `path` if there is one; a run without a frame saves nothing.

        Call it in a `finally`. RecordingError where it cannot be saved: then the segments stay, and `recording` still
        has every frame.
        """
        recording = self.recording()
        if self._path is not None:
            self._writer.shutdown()
            if len(recording):
                recording.save(self._path)
            with suppress(OSError):
                for segment in segments(self._partial):
                    segment.unlink()
                self._partial.rmdir()
        return recording

    def _empty_block(self) -> np.ndarray:
        return np.empty((self._segment_frames, len(FRAME_COLUMNS)), np.int64)

    def _next_block(self) -> None:
        """Go on in a fresh block (nothing is copied while frames are timed) and save the full one."""
        full, number = self._block, len(self._blocks) - 1
        self._block = self._empty_block()
        self._blocks.append(self._block)
        self._start = self._count
        if self._path is None:
            return
        previous = self._pending
        self._pending = self._writer.submit(self._save_segment, full, number)
        if previous is not None:
            previous.result()

    def _save_segment(self, rows: np.ndarray, number: int) -> None:
        replace(self._template, columns=_frame_columns(rows)).save(self._partial / f"{number:05}.parquet")

    def _open_partial(self, path: Path) -> None:
        if path.is_dir():
            raise RecordingError(f"{path} is a folder", fix="name a file to record into")
        if segments(self._partial):
            raise RecordingError(
                f"an unfinished recording lies in {self._partial}",
                fix=f"Recording.load({str(self._partial)!r}) reads it; save or delete it, or record elsewhere",
            )
        self._template.encode()  # the first use loads pyarrow, which must not happen between two frames
        try:
            self._partial.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordingError(f"{self._partial} cannot be made: {error}", fix="record elsewhere") from error


def _frame_columns(rows: np.ndarray) -> dict[str, np.ndarray]:
    columns = {name: rows[:, index] for index, name in enumerate(FRAME_COLUMNS)}
    return columns | {"warmup": columns["warmup"].astype(np.bool_)}
