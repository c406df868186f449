"""Driver calls that are made inside a runtime call: one call, not two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

_Table = dict[str, np.ndarray]


def is_runtime(name: str) -> bool:
    """True for the CUDA runtime's calls, such as cudaMemcpyAsync."""
    return name.startswith("cuda")


def is_driver(name: str) -> bool:
    """True for the CUDA driver's calls, such as cuMemcpyHtoDAsync."""
    return name.startswith("cu") and name[2:3].isupper()


def without_nested(api: _Table, on_gpu: Mapping[str, _Table], names: Sequence[str]) -> _Table:
    """The calls without the driver calls inside runtime calls.

    What the GPU did for such a driver call gets, in place, the correlation of the runtime call around it.
    """
    runtime, driver = (np.array([test(name) for name in names], bool) for test in (is_runtime, is_driver))
    if not len(api["name"]) or not (runtime[api["name"]].any() and driver[api["name"]].any()):
        return api
    order = np.argsort(api["start_ns"], kind="stable")
    api = {name: values[order] for name, values in api.items()}
    around = _calls_around(api, runtime[api["name"]], driver[api["name"]])
    inner = np.flatnonzero(around >= 0)
    if not len(inner):
        return api
    for table in on_gpu.values():
        table["correlation"] = _of_call_around(table, api, inner, around[inner])
    return {name: np.delete(values, inner) for name, values in api.items()}


def _calls_around(api: _Table, runtime: np.ndarray, driver: np.ndarray) -> np.ndarray:
    """For each call, in order of their start, the runtime call of its thread that it lies in; -1 without one."""
    around = np.full(len(runtime), -1)
    threads = _keys(api["pid"], api["tid"])
    for thread in np.unique(threads):
        rows = np.flatnonzero(threads == thread)
        latest = np.maximum.accumulate(np.where(runtime[rows], np.arange(len(rows)), -1))
        candidates = rows[latest]
        inside = driver[rows] & (latest >= 0) & (api["end_ns"][rows] <= api["end_ns"][candidates])
        around[rows[inside]] = candidates[inside]
    return around


def _of_call_around(table: _Table, api: _Table, inner: np.ndarray, around: np.ndarray) -> np.ndarray:
    """The table's correlations, those of inner calls replaced by that of the call around them."""
    keys = _keys(api["pid"][inner], api["correlation"][inner])
    order = np.argsort(keys)
    keys, replacement = keys[order], api["correlation"][around[order]]
    wanted = _keys(table["pid"], table["correlation"])
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, replacement[places], table["correlation"])


def _keys(pid: np.ndarray, number: np.ndarray) -> np.ndarray:
    """One number for a process and a number of 32 bits in it."""
    return (pid.astype(np.int64) << 32) | number
