"""The scenarios of several levels in numbers: medians for each step of `report` and of `cameras`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..plots.report import CALLS, call_ns
from ..recording import Recording
from ..tables import Table
from ..types import Stage


def report_levels(recording: Recording) -> dict[tuple[int, bool], dict[str, float]]:
    """Medians in ms of a recording of the scenario 'report', for each (other processes, pinned) in their order.

    The names are those of the public program's calls, and 'frame'. 'copy_from_Mat' has the upload call in it.

    >>> levels = report_levels(Recording.shipped("report"))
    >>> [round(levels[count, False]["cudaStreamSynchronize"], 4) for count in (0, 20)]
    [0.0069, 22.8205]
    """
    return {
        (count, bool(pinned)): {name: float(np.median(times)) / 1e6 for name, times in _calls(part).items()}
        for (count, pinned), part in _parts(recording, "processes")
    }


def _calls(part: Recording) -> dict[str, np.ndarray]:
    frame_ns = part.columns["done_ns"] - part.columns["start_ns"]
    return {call: call_ns(part, call) for call in CALLS} | {"enqueueV3": part.stage_ns(Stage.INFER), "frame": frame_ns}


def report_table(recordings: Mapping[str, Recording]) -> Table:
    """A row for each level of 'report', the calls' medians in ms of each recording side by side, by label.

    >>> report_table({"recorded": Recording.shipped("report")}).rows[0]
    ['0 processes', '2.270', '0.374', '0.0069']
    """
    levels = {label: report_levels(recording) for label, recording in recordings.items()}
    header = ["ms", *(f"{call}, {label}" for call in CALLS for label in levels)]
    rows = [
        [
            _name(count, pinned),
            *(_ms(each.get((count, pinned), {}).get(call)) for call in CALLS for each in levels.values()),
        ]
        for count, pinned in dict.fromkeys(level for each in levels.values() for level in each)
    ]
    return Table(header, rows, *(recording.source for recording in recordings.values()))


def camera_levels(recording: Recording) -> dict[tuple[int, bool], dict[str, float]]:
    """Of a recording of the scenario 'cameras', for each (threads, pinned): medians of 'upload' and 'synchronize' and
    the 99th percentile 'upload p99' in ms, and 'frames/s' of all threads together.

    >>> levels = camera_levels(Recording.shipped("cameras"))
    >>> [f"{levels[8, pinned]['frames/s']:,.0f}" for pinned in (False, True)]
    ['2,189', '5,054']
    """
    return {
        (threads, bool(pinned)): {
            "upload": float(np.median(part.columns["upload_ns"])) / 1e6,
            "upload p99": float(np.percentile(part.columns["upload_ns"], 99)) / 1e6,
            "synchronize": float(np.median(part.columns["synchronize_ns"])) / 1e6,
            "frames/s": len(part)
            * 1e9
            / float(np.ptp([part.columns["start_ns"].min(), part.columns["done_ns"].max()])),
        }
        for (threads, pinned), part in _parts(recording, "threads")
    }


def camera_table(recordings: Mapping[str, Recording]) -> Table:
    """A row for each number of threads and kind of memory of each recording of 'cameras', by label.

    >>> print(camera_table({"recorded": Recording.shipped("cameras")}).header)
    ['cameras', 'upload call [ms]', 'its p99 [ms]', 'synchronize [ms]', 'frames/s, all']
    """
    rows = []
    for label, recording in recordings.items():
        for (threads, pinned), values in camera_levels(recording).items():
            *times, rate = values.values()
            name = f"{threads}, {'pinned' if pinned else 'pageable'}, {label}"
            rows.append([name, *map(_ms, times), f"{rate:,.0f}"])
    header = ["cameras", "upload call [ms]", "its p99 [ms]", "synchronize [ms]", "frames/s, all"]
    return Table(header, rows, *(recording.source for recording in recordings.values()))


def _parts(recording: Recording, column: str) -> list[tuple[tuple[int, int], Recording]]:
    """The frames after the warm-up by the values of a column and of 'pinned', in the order in which they occur."""
    columns = recording.steady.columns
    levels = dict.fromkeys(zip(columns[column].tolist(), columns["pinned"].tolist(), strict=True))
    chosen = {(value, pinned): (columns[column] == value) & (columns["pinned"] == pinned) for value, pinned in levels}
    return [
        (level, replace(recording, columns={name: values[mask] for name, values in columns.items()}))
        for level, mask in chosen.items()
    ]


def _name(count: int, pinned: bool) -> str:
    return f"{count} process{'' if count == 1 else 'es'}{', pinned' if pinned else ''}"


def _ms(value: float | None) -> str:
    """Three digits that tell, at most four decimals."""
    if value is None:
        return "-"
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 10 else f"{value:.1f}"
