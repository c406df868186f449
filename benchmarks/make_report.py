"""Write a synthetic report with the tables of Nsight Systems: `python benchmarks/make_report.py FILE [FRAMES]`.

A frame has 11 CUDA calls, 2 copies, 8 kernels and 2 NVTX ranges. 100,000 of them (the default) make a report of 1.1
million calls, as long as one of a loop that ran for two minutes. The numbers in it are made up; only their amount and
their order are meant to be like those of a real report.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np

KERNELS = 8
PID, TID = 4_242, 4_243
_PROCESS = (1 << 56) | (PID << 24)
_GPU = "deviceId, contextId, greenContextId, streamId, correlationId, globalPid"
_LAUNCH = "launchType, cacheConfig, registersPerThread, gridX, gridY, gridZ, blockX, blockY, blockZ"
_SHARED = (
    "staticSharedMemory, dynamicSharedMemory, localMemoryPerThread, localMemoryTotal, gridId, sharedMemoryExecuted"
)
_COLUMNS = {
    "CUPTI_ACTIVITY_KIND_RUNTIME": "start, end, eventClass, globalTid, correlationId, nameId, returnValue, callchainId",
    "CUPTI_ACTIVITY_KIND_MEMCPY": f"start, end, {_GPU}, bytes, copyKind, deprecatedSrcId, srcKind, dstKind,"
    " srcDeviceId, srcContextId, dstDeviceId, dstContextId, migrationCause, graphNodeId, virtualAddress, copyCount",
    "CUPTI_ACTIVITY_KIND_KERNEL": f"start, end, {_GPU}, demangledName, shortName, mangledName, {_LAUNCH}, {_SHARED},"
    " graphNodeId, sharedMemoryLimitConfig",
    "NVTX_EVENTS": "start, end, eventType, rangeId, category, color, text, globalTid, endGlobalTid, textId, domainId,"
    " uint64Value, int64Value, doubleValue, uint32Value, int32Value, floatValue, jsonTextId, jsonText, binaryData",
}
_STRINGS = ("frame", "infer", "cudaMemcpyAsync_v3020", "cudaLaunchKernel_v7000", "cudaStreamSynchronize_v3020")
_KERNEL_NAME = len(_STRINGS)
_MEMORY = (("PAGEABLE", "Pageable"), ("PINNED", "Pinned"), ("DEVICE", "Device"))


def write_report(path: Path, frames: int = 100_000, seed: int = 0) -> None:
    """Write the report of `frames` frames of some 1.2 ms each; a file that is there is replaced."""
    path.unlink(missing_ok=True)
    rng = np.random.default_rng(seed)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        for table, columns in _tables(frames, rng).items():
            names = _COLUMNS[table].split(", ")
            database.execute(f"CREATE TABLE {table} ({', '.join(f'{name} INTEGER' for name in names)})")
            marks = ", ".join("?" * len(columns))
            rows = zip(*(values.tolist() for values in columns.values()), strict=True)
            database.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)
        _write_words(database)
        database.commit()


def _tables(frames: int, rng: np.random.Generator) -> dict[str, dict[str, np.ndarray]]:
    """The rows of every table that has many, by column."""
    calls = 3 + KERNELS
    begin = np.cumsum(rng.integers(1_150_000, 1_250_000, frames))[:, None]
    upload = begin + 5_000
    launches = begin + 20_000 + 6_000 * np.arange(KERNELS)
    copied = upload + rng.integers(90_000, 110_000, (frames, 1))
    kernels = copied + 90_000 * np.arange(KERNELS) + rng.integers(0, 3_000, (frames, KERNELS))
    kernel_ends = kernels + rng.integers(80_000, 87_000, (frames, KERNELS))
    download = begin + 80_000
    downloaded = kernel_ends[:, -1:] + 2_000
    synchronize = begin + 90_000
    starts = np.hstack([upload, launches, download, synchronize])
    ends = np.hstack([upload + 5_000, launches + 4_000, download + 5_000, downloaded + 20_000])
    correlation = 1 + np.arange(frames * calls).reshape(frames, calls)
    names = np.array([2, *[3] * KERNELS, 2, 4])
    gpu = {"deviceId": 0, "contextId": 1, "streamId": 7, "globalPid": _PROCESS}
    thread = {"globalTid": _PROCESS | TID}
    copies = {"bytes": np.array([4_915_200, 2_822_400]), "copyKind": np.array([1, 2])}
    kinds = {"srcKind": np.array([0, 2]), "dstKind": np.array([2, 1])}
    frame_ends = ends[:, -1:] + 10_000
    return {
        "CUPTI_ACTIVITY_KIND_RUNTIME": _rows(
            starts, ends, correlationId=correlation, nameId=names, eventClass=0, **thread
        ),
        "CUPTI_ACTIVITY_KIND_MEMCPY": _rows(
            np.hstack([upload + 3_000, downloaded - 1_500]),
            np.hstack([copied - 2_000, downloaded]),
            correlationId=correlation[:, [0, -2]],
            **gpu,
            **copies,
            **kinds,
        ),
        "CUPTI_ACTIVITY_KIND_KERNEL": _rows(
            kernels,
            kernel_ends,
            correlationId=correlation[:, 1 : 1 + KERNELS],
            shortName=_KERNEL_NAME + np.arange(KERNELS),
            demangledName=_KERNEL_NAME + np.arange(KERNELS),
            **gpu,
            **dict.fromkeys(f"{_LAUNCH}, {_SHARED}".split(", "), 32),
        ),
        "NVTX_EVENTS": _rows(
            np.hstack([begin, launches[:, :1] - 500]),
            np.hstack([frame_ends, launches[:, -1:] + 4_500]),
            eventType=59,
            textId=np.array([0, 1]),
            domainId=0,
            **thread,
        ),
    }


def _rows(start: np.ndarray, end: np.ndarray, **columns: np.ndarray | int) -> dict[str, np.ndarray]:
    """Columns of one length, with neighbouring blocks of 4,096 rows exchanged: the order of rows is not promised."""
    shaped = {"start": start, "end": end} | {
        name: np.broadcast_to(values, start.shape) for name, values in columns.items()
    }
    blocks = np.arange(start.size) // 4_096
    order = np.argsort(blocks ^ 1, kind="stable")
    return {name: values.reshape(-1)[order] for name, values in shaped.items()}


def _write_words(database: sqlite3.Connection) -> None:
    """The tables of names, and where the report was taken."""
    strings = [*_STRINGS, *(f"a_kernel_of_layer_{layer}" for layer in range(KERNELS))]
    memory = [(number, f"CUDA_MEMOPR_MEMORY_KIND_{name}", label) for number, (name, label) in enumerate(_MEMORY)]
    words: Mapping[str, list[tuple[object, ...]]] = {
        "StringIds (id INTEGER PRIMARY KEY, value TEXT NOT NULL)": list(enumerate(strings)),
        "ENUM_CUDA_MEM_KIND (id INTEGER, name TEXT, label TEXT)": memory,
        "TARGET_INFO_GPU (id INTEGER, name TEXT)": [(0, "a GPU that is none")],
        "META_DATA_EXPORT (name TEXT, value TEXT)": [("EXPORT_SCHEMA_VERSION", "3.20.0")],
    }
    for table, rows in words.items():
        database.execute(f"CREATE TABLE {table}")
        marks = ", ".join("?" * len(rows[0]))
        database.executemany(f"INSERT INTO {table.partition(' ')[0]} VALUES ({marks})", rows)


if __name__ == "__main__":
    write_report(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 100_000)
