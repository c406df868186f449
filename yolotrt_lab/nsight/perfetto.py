"""A trace as a file that ui.perfetto.dev opens: the JSON of Chrome's Trace Event Format.

Complete events (`ph` X) are the bars, in microseconds; metadata events (`ph` M) name the tracks; flow events (`ph` s
and f) draw an arrow from a CUDA call to what the GPU did for it. https://perfetto.dev/docs/getting-started/other-formats
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import TraceError
from ..files import write_file
from ..types import Span
from .trace import Trace

_GPU_PID = 1 << 22  # Linux numbers its processes below this
_CATEGORIES = {
    **{"range": "nvtx", "api": "cuda", "kernel": "kernels", "graph": "kernels", "memset": "memsets"},
    **dict.fromkeys(("upload", "download", "copy"), "copies"),
}


def write_perfetto(trace: Trace, path: str | Path) -> Path:
    """Write the trace and return its path; times count from the trace's begin. TraceError where it cannot be written.

    A process on the screen is a process of the host, with a track for each thread, or a GPU, with a track for each
    stream and kind of work.

    >>> import tempfile
    >>> from yolotrt_lab import nsight
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_perfetto(nsight.shipped_trace("graph-pinned"), f"{folder}/trace.json").name
    'trace.json'
    """
    document = {
        "traceEvents": list(_events(trace)),
        "displayTimeUnit": "ns",
        "otherData": {"source": trace.source.stamp, **{f"note {n}": note for n, note in enumerate(trace.notes, 1)}},
    }
    return write_file(path, json.dumps(document, separators=(",", ":")), TraceError)


def _events(trace: Trace) -> Iterator[dict[str, Any]]:
    begin_ns, processes = trace.begin_ns, set[int]()
    tracks: dict[tuple[int, int, str], int] = {}
    calls: dict[tuple[int, int], dict[str, Any]] = {}
    for number, (gpu, span) in enumerate(trace.spans()):  # calls come first
        pid, tid = divmod(span.thread, 1 << 32)
        category = _CATEGORIES[span.row]
        call = calls.get((pid, span.correlation))
        if gpu >= 0:
            pid, tid = _GPU_PID + gpu, tracks.setdefault((gpu, span.stream, category), len(tracks) + 1)
        else:
            processes.add(pid)
        place = {"ts": (span.start_ns - begin_ns) / 1e3, "pid": pid, "tid": tid}
        bar = {"name": span.name, "ph": "X", "cat": category, "dur": (span.end_ns - span.start_ns) / 1e3} | place
        yield bar | _details(span) if span.nbytes else bar
        if span.row == "api":
            calls[pid, span.correlation] = place
        if gpu >= 0 and call:
            flow = {"name": "submits", "cat": "flow", "id": number}
            yield from ({"ph": "s"} | flow | call, {"ph": "f", "bp": "e"} | flow | place)
    for pid in sorted(processes):
        yield _metadata("process_name", pid, 0, {"name": f"host, process {pid}"})
    for gpu in sorted({gpu for gpu, _, _ in tracks}):
        yield _metadata("process_name", _GPU_PID + gpu, 0, {"name": f"GPU {gpu}"})
    for order, ((gpu, stream, category), tid) in enumerate(sorted(tracks.items())):
        yield _metadata("thread_name", _GPU_PID + gpu, tid, {"name": f"stream {stream} {category}"})
        yield _metadata("thread_sort_index", _GPU_PID + gpu, tid, {"sort_index": order})


def _details(span: Span) -> dict[str, Any]:
    details: dict[str, Any] = {"bytes": span.nbytes}
    if span.row != "memset":
        rate = span.nbytes / max(span.end_ns - span.start_ns, 1)
        details |= {"memory": span.name.partition(" ")[0], "GB/s": round(rate, 2)}
    return {"args": details}


def _metadata(name: str, pid: int, tid: int, values: dict[str, object]) -> dict[str, Any]:
    return {"name": name, "ph": "M", "pid": pid, "tid": tid, "args": values}
