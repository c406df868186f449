"""The rows of a drawn trace, as Nsight orders them: a host thread's ranges and calls, then a stream's GPU work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..nsight import DIRECTIONS, MEMORIES, Graph, Trace
from ..types import HostMemory, Stage
from .style import STAGE_COLOURS

KIND_COLOURS = {
    **{str(stage): colour for stage, colour in STAGE_COLOURS.items()},
    **{"frame": "#EEEEEE", "range": "#BBBBBB"},
    **{"copy call": "#CC79A7", "synchronize call": STAGE_COLOURS[Stage.SYNCHRONIZE], "launch": "#7FCDB5"},
    **{"other call": "#AAAAAA", "kernel": "#009E73", "CUDA graph": "#00664B", "memset": "#999999"},
    **{"pageable copy": "#D55E00", "pinned copy": "#56B4E9", "other copy": "#999933"},
}
"""What a bar can be, and its colour."""

NVTX_KINDS = frozenset({*map(str, Stage), "frame", "range"})
"""The kinds of ranges, which their rows name by themselves."""

_COPY_KINDS = {str(memory): "pinned copy" if memory.page_locked else "pageable copy" for memory in HostMemory}


@dataclass(frozen=True, slots=True)
class Lane:
    """One row: bars from `start_ns` to `end_ns`, int64 of shape (bars,), with a kind and a text for each."""

    label: str
    start_ns: np.ndarray
    end_ns: np.ndarray
    kinds: list[str]
    texts: list[str]


def lanes(trace: Trace, depth: int = 2) -> list[Lane]:
    """The rows that have something to show; ranges that lie deeper than `depth` in others are left out."""
    return [lane for lane in (*_host_lanes(trace, depth), *_gpu_lanes(trace)) if lane.kinds]


def _host_lanes(trace: Trace, depth: int) -> Iterator[Lane]:
    pairs = {
        (int(p), int(t)) for table in (trace.ranges, trace.api) for p, t in zip(table["pid"], table["tid"], strict=True)
    }
    for number, (pid, tid) in enumerate(sorted(pairs), start=1):
        before = f"thread {number} " if len(pairs) > 1 else ""
        for table, label, kind in ((trace.ranges, "NVTX", _range_kind), (trace.api, "CUDA calls", _call_kind)):
            rows = np.flatnonzero((table["pid"] == pid) & (table["tid"] == tid))
            levels = _nesting(table, rows) if table is trace.ranges else np.zeros(len(rows), np.int64)
            for level in range(min(depth, levels.max(initial=-1) + 1)):
                yield _named_lane(trace, table, rows[levels == level], f"{before}{label}", kind)


def _gpu_lanes(trace: Trace) -> Iterator[Lane]:
    tables = (trace.copies, trace.kernels, trace.memsets)
    lines = {(int(d), int(s)) for table in tables for d, s in zip(table["device"], table["stream"], strict=True)}
    devices = {device for device, _ in lines}
    for device, stream in sorted(lines):
        before = f"GPU {device} " if len(devices) > 1 else ""
        before += f"stream {stream} " if len(lines) > len(devices) else ""
        copies, kernels, memsets = (
            np.flatnonzero((table["device"] == device) & (table["stream"] == stream)) for table in tables
        )
        way = np.array(DIRECTIONS)[trace.copies["direction"][copies]]
        yield _copy_lane(trace, copies[way == "h2d"], f"{before}copy in")
        yield _kernel_lane(trace, kernels, f"{before}kernels")
        yield _copy_lane(trace, copies[way == "d2h"], f"{before}copy out")
        yield _copy_lane(trace, copies[(way != "h2d") & (way != "d2h")], f"{before}other copies")
        yield _lane(trace.memsets, memsets, f"{before}memset", ["memset"] * len(memsets), ["memset"] * len(memsets))


def _named_lane(trace: Trace, table: Any, rows: np.ndarray, label: str, kind: Callable[[str], str]) -> Lane:
    texts = [trace.names[code] for code in table["name"][rows]]
    return _lane(table, rows, label, [kind(text) for text in texts], [_short(text) for text in texts])


def _kernel_lane(trace: Trace, rows: np.ndarray, label: str) -> Lane:
    whole = trace.kernels["graph"][rows] == Graph.WHOLE
    texts = [trace.names[code] for code in trace.kernels["name"][rows]]
    return _lane(trace.kernels, rows, label, ["CUDA graph" if each else "kernel" for each in whole], texts)


def _copy_lane(trace: Trace, rows: np.ndarray, label: str) -> Lane:
    memories = [MEMORIES[code] for code in trace.copies["host_memory"][rows]]
    kinds = [_COPY_KINDS.get(memory, "other copy") for memory in memories]
    texts = [
        f"{memory}, {nbytes / 1e6:.1f} MB, {nbytes / max(int(end - start), 1):.1f} GB/s"
        for memory, nbytes, start, end in zip(
            memories, *(trace.copies[name][rows] for name in ("bytes", "start_ns", "end_ns")), strict=True
        )
    ]
    return _lane(trace.copies, rows, label, kinds, texts)


def _lane(table: Any, rows: np.ndarray, label: str, kinds: list[str], texts: list[str]) -> Lane:
    return Lane(label, table["start_ns"][rows], table["end_ns"][rows], kinds, texts)


def _nesting(ranges: Any, rows: np.ndarray) -> np.ndarray:
    """How many ranges of the thread each one lies in: int64 of shape (rows,), 0 for the outermost."""
    levels = np.zeros(len(rows), np.int64)
    starts, ends = ranges["start_ns"][rows].tolist(), ranges["end_ns"][rows].tolist()
    open_ends: list[int] = []
    for row in sorted(range(len(rows)), key=lambda row: (starts[row], -ends[row])):
        while open_ends and open_ends[-1] <= starts[row]:
            open_ends.pop()
        levels[row] = len(open_ends)
        open_ends.append(ends[row])
    return levels


def _range_kind(name: str) -> str:
    return name if name in NVTX_KINDS else "range"


def _call_kind(name: str) -> str:
    """The runtime's and the driver's names alike: `cudaMemcpyAsync_v3020`, `cuMemcpyHtoDAsync_v2`."""
    for word, kind in (("Synchronize", "synchronize call"), ("Memcpy", "copy call"), ("Launch", "launch")):
        if word in name:
            return kind
    return "other call"


def _short(name: str) -> str:
    """A call's name as a reader says it: without its library and its version."""
    bare = name.partition("_v")[0] if name.startswith("cu") else name
    return bare.removeprefix("cuda").removeprefix("cu").removeprefix("Stream") or name
