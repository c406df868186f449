"""A trace as a file that ui.perfetto.dev opens: the JSON of Chrome's Trace Event Format.

Complete events (`ph` X) are the bars, in microseconds; metadata events (`ph` M) name the tracks; flow events (`ph` s
and f) draw an arrow from a CUDA call to what the GPU did for it. https://perfetto.dev/docs/getting-started/other-formats
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import TraceError
from .trace import DIRECTIONS, MEMORIES, Graph, Trace

_GPU_PID = 1 << 22  # Linux numbers its processes below this
_GPU_TRACKS = ("copies", "kernels", "memsets")


def write_perfetto(trace: Trace, path: str | Path) -> Path:
    """Write the trace and return its path; times count from the trace's begin. TraceError where it cannot be written.

    A process on the screen is a process of the host, with a track for each thread, or a GPU, with a track for each
    stream and kind of work.
    """
    document = {
        "traceEvents": list(events(trace)),
        "displayTimeUnit": "ns",
        "otherData": {"source": trace.source.stamp, **{f"note {n}": note for n, note in enumerate(trace.notes, 1)}},
    }
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, separators=(",", ":")), encoding="utf-8")
    except OSError as error:
        raise TraceError(
            f"{path} cannot be written: {error}", fix="make room there, or choose another place"
        ) from error
    return path


def events(trace: Trace) -> Iterator[dict[str, Any]]:
    """The events of the trace, in the words of the format."""
    yield from _host_events(trace, "ranges", "nvtx")
    yield from _host_events(trace, "api", "cuda")
    gpu_tracks: dict[tuple[int, int, str], int] = {}
    for table in _GPU_TRACKS:
        yield from _gpu_events(trace, table, gpu_tracks)
    yield from _flows(trace, gpu_tracks)
    yield from _track_names(trace, gpu_tracks)


def _host_events(trace: Trace, table: str, category: str) -> Iterator[dict[str, Any]]:
    columns = trace.table(table)
    for start, end, name, pid, tid in _rows(columns, "start_ns", "end_ns", "name", "pid", "tid"):
        yield _complete(trace, trace.names[name], category, start, end, pid, tid)


def _gpu_events(trace: Trace, table: str, tracks: dict[tuple[int, int, str], int]) -> Iterator[dict[str, Any]]:
    columns = trace.table(table)
    place = zip(*(columns[name].tolist() for name in ("device", "stream", "start_ns", "end_ns")), strict=True)
    for row, (device, stream, start, end) in enumerate(place):
        name, values = _described(trace, table, row)
        tid = tracks.setdefault((device, stream, table), len(tracks) + 1)
        yield _complete(trace, name, table, start, end, _GPU_PID + device, tid) | {"args": values}


def _described(trace: Trace, table: str, row: int) -> tuple[str, dict[str, Any]]:
    columns = trace.table(table)
    if table == "kernels":
        return trace.names[columns["name"][row]], {"graph": Graph(columns["graph"][row]).name}
    values: dict[str, Any] = {"bytes": int(columns["bytes"][row])}
    if table == "memsets":
        return "memset", values
    memory, way = MEMORIES[columns["host_memory"][row]], DIRECTIONS[columns["direction"][row]]
    ns = max(int(columns["end_ns"][row] - columns["start_ns"][row]), 1)
    return f"{memory} {way}", values | {"memory": memory, "GB/s": round(values["bytes"] / ns, 2)}


def _flows(trace: Trace, tracks: dict[tuple[int, int, str], int]) -> Iterator[dict[str, Any]]:
    """An arrow for each piece of GPU work whose call is in the trace."""
    api = trace.api
    calls = dict(zip(_pairs(api), range(trace.count("api")), strict=True))
    number = 0
    for table in _GPU_TRACKS:
        columns = trace.table(table)
        for row, pair in enumerate(_pairs(columns)):
            call = calls.get(pair)
            if call is None:
                continue
            number += 1
            flow = {"name": "submits", "cat": "flow", "id": number}
            key = (int(columns["device"][row]), int(columns["stream"][row]), table)
            yield flow | _at(trace, "s", api["start_ns"][call], int(api["pid"][call]), int(api["tid"][call]))
            end = _at(trace, "f", columns["start_ns"][row], _GPU_PID + key[0], tracks[key])
            yield flow | end | {"bp": "e"}


def _track_names(trace: Trace, tracks: dict[tuple[int, int, str], int]) -> Iterator[dict[str, Any]]:
    for pid in np.unique(np.concatenate([trace.api["pid"], trace.ranges["pid"]])).tolist():
        yield _metadata("process_name", pid, 0, {"name": f"host, process {pid}"})
    for device in sorted({device for device, _, _ in tracks}):
        yield _metadata("process_name", _GPU_PID + device, 0, {"name": f"GPU {device}"})
    for order, ((device, stream, table), tid) in enumerate(sorted(tracks.items())):
        yield _metadata("thread_name", _GPU_PID + device, tid, {"name": f"stream {stream} {table}"})
        yield _metadata("thread_sort_index", _GPU_PID + device, tid, {"sort_index": order})


def _complete(trace: Trace, name: str, category: str, start: int, end: int, pid: int, tid: int) -> dict[str, Any]:
    return {"name": name, "cat": category, "dur": (end - start) / 1e3} | _at(trace, "X", start, pid, tid)


def _at(trace: Trace, phase: str, ns: int, pid: int, tid: int) -> dict[str, Any]:
    return {"ph": phase, "ts": int(ns - trace.begin_ns) / 1e3, "pid": pid, "tid": tid}


def _metadata(name: str, pid: int, tid: int, values: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "ph": "M", "pid": pid, "tid": tid, "args": values}


def _rows(columns: Any, *names: str) -> Iterator[tuple[int, ...]]:
    return zip(*(columns[name].tolist() for name in names), strict=True)


def _pairs(columns: Any) -> list[tuple[int, ...]]:
    return list(_rows(columns, "pid", "correlation"))
