"""Everything that the GPU did, in one table, joined to the calls that asked for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .intervals import distinct
from .trace import Trace

KERNEL, COPY = 0, 1
"""Kinds of work. Filling memory counts as a kernel but for the number of kernels."""


@dataclass(frozen=True, eq=False)
class Work:
    """Kernels, graphs, copies and memory fills, sorted by start; each column has shape (rows,).

    `kind` is KERNEL or COPY, `memset` true for memory fills, `row` the row in its own table, and `call` the row in
    `api` of the call that asked for it, -1 where that is not in the trace. `lane` numbers the streams: equal for equal
    pid, device and stream.
    """

    start: np.ndarray
    end: np.ndarray
    kind: np.ndarray
    memset: np.ndarray
    row: np.ndarray
    call: np.ndarray
    device: np.ndarray
    pid: np.ndarray
    lane: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    @classmethod
    def of(cls, trace: Trace) -> Work:
        """The work that a trace holds."""
        tables = (trace.kernels, trace.copies, trace.memsets)
        joined = {name: np.concatenate([table[name] for table in tables]) for name in trace.memsets if name != "bytes"}
        sizes = [len(table["start_ns"]) for table in tables]
        order = np.argsort(joined["start_ns"], kind="stable")
        table = np.repeat(np.arange(3, dtype=np.int8), sizes)[order]
        row = np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])[order]
        call = np.concatenate([_calls(trace, table["pid"], table["correlation"]) for table in tables])[order]
        joined = {name: values[order] for name, values in joined.items()}
        return cls(
            start=joined["start_ns"],
            end=joined["end_ns"],
            kind=np.where(table == 1, np.int8(COPY), np.int8(KERNEL)),
            memset=table == 2,
            row=row,
            call=call,
            device=joined["device"],
            pid=joined["pid"],
            lane=_lanes(joined["pid"], joined["device"], joined["stream"]),
        )


def _calls(trace: Trace, pid: np.ndarray, correlation: np.ndarray) -> np.ndarray:
    """Rows of `api`: correlations are counted from 1 in each process, so both must agree."""
    calls = np.full(len(pid), -1, np.int32)
    for process in distinct(pid):
        mine = pid == process
        rows = np.flatnonzero(trace.api["pid"] == process)
        calls[mine] = _look_up(trace.api["correlation"][rows], rows, correlation[mine])
    return calls


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value of each wanted key, -1 where there is none."""
    if not len(keys):
        return np.full(len(wanted), -1)
    low, high = int(keys.min()), int(keys.max())
    if high - low < 4 * len(keys) + 1_000:  # numbered almost without gaps: a table beats a search
        table = np.full(high - low + 1, -1, np.int32)
        table[keys - low] = values
        inside = (wanted >= low) & (wanted <= high)
        return np.where(inside, table[np.where(inside, wanted - low, 0)], -1)
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], values[order]
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], -1)


def _lanes(pid: np.ndarray, device: np.ndarray, stream: np.ndarray) -> np.ndarray:
    """A number for each stream of each process on each GPU, from 0."""
    lanes = np.zeros(len(pid), np.int64)
    for values in (pid, device, stream):
        different = distinct(values)
        if len(different) > 1:
            lanes = lanes * len(different) + np.searchsorted(different, values)
    different = distinct(lanes)
    return np.searchsorted(different, lanes) if len(different) > 1 else np.zeros(len(lanes), np.int64)
