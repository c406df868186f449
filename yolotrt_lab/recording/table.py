"""The table itself: which columns it has, what goes with it, and how it is saved and loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RecordingError
from ..packages import load
from ..paths import shipped_file
from ..types import HostMemory, Source, Stage
from . import storage

if TYPE_CHECKING:
    import pandas
    import polars

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
        storage.write(Path(path), self.encode())

    def encode(self) -> memoryview:
        """The bytes of the Parquet file that `save` writes."""
        names = ("schema", "kind", "label", "command", "created", "notes")
        metadata = {name: getattr(self, name) for name in names} | {
            "rows": len(self),
            "source": self.source.as_dict(),
            "machine": dict(self.machine),
            "settings": dict(self.settings),
        }
        return storage.encode(self.columns, metadata)

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
    columns, metadata = storage.read(path)
    try:
        return _restored(columns, metadata)
    except RecordingError as error:
        raise RecordingError(f"{path} is not a usable recording: {error.message}", fix=error.fix) from error


def _restored(columns: dict[str, np.ndarray], metadata: dict[str, Any] | None) -> Recording:
    if metadata is None:
        missing = ", ".join(name for name in FRAME_COLUMNS if name not in columns)
        raise RecordingError(
            f"its schema has no metadata {storage.METADATA_KEY.decode()!r}; its columns are {', '.join(columns)}"
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
