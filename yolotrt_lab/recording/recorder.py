"""What a loop writes its frames into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RecordingError, SettingsError
from ..types import Source
from .table import FRAME_COLUMNS, Recording, partial_folder, segments


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
