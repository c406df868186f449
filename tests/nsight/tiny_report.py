"""Reports of a few rows, written by hand with the tables and columns that nsys exports."""

from __future__ import annotations

import sqlite3
from contextlib import closing

HARDWARE = 1 << 48  # the virtual machine, in every global number

_GPU_OLD = "start, end, deviceId, contextId, streamId, correlationId, globalPid"
_GPU_NEW = "start, end, deviceId, contextId, greenContextId, streamId, correlationId, globalPid"
_TEXT = "CREATE TABLE {} (name TEXT, value TEXT)"
OLD, NEW = "3.7", "3.20"


def _columns(schema: str) -> dict[str, str]:
    gpu = _GPU_OLD if schema == OLD else _GPU_NEW
    end = "" if schema == OLD else ", jsonTextId, jsonText, binaryData"
    return {
        "CUPTI_ACTIVITY_KIND_RUNTIME": "start, end, eventClass, globalTid, correlationId, nameId, returnValue",
        "CUPTI_ACTIVITY_KIND_KERNEL": f"{gpu}, demangledName, shortName, mangledName, gridX, graphNodeId",
        "CUPTI_ACTIVITY_KIND_MEMCPY": f"{gpu}, bytes, copyKind, srcKind, dstKind, graphNodeId, copyCount",
        "CUPTI_ACTIVITY_KIND_MEMSET": f"{gpu}, value, bytes, graphNodeId, memKind",
        "CUPTI_ACTIVITY_KIND_GRAPH_TRACE": f"{gpu}, graphId, graphExecId",
        "NVTX_EVENTS": f"start, end, eventType, rangeId, category, color, text, globalTid, endGlobalTid, textId{end}",
    }


_MEMORY = ("Pageable", "Pinned", "Device", "Array", "Managed", "Device Static", "Managed Static", "Unknown")
_COPY_KINDS = {"h2d": (1, 0, 2), "d2h": (2, 2, 0), "d2d": (8, 2, 2)}


class TinyReport:
    """Add rows, then `write`. Times are ns; names get their numbers by themselves.

    `memory_numbers` is the number of each label of memory: the lab must find it in the report.
    """

    def __init__(self, schema: str = NEW, memory_numbers: dict[str, int] | None = None) -> None:
        self.schema = schema
        self.rows: dict[str, list[dict[str, object]]] = {}
        self.strings: dict[str, int] = {}
        self.memory = memory_numbers or {label: number for number, label in enumerate(_MEMORY)}
        self.words: dict[str, list[tuple[object, ...]]] = {}

    def string(self, text: str) -> int:
        """The number of a text in StringIds."""
        return self.strings.setdefault(text, len(self.strings) + 1)

    def add(self, table: str, **columns: object) -> None:
        """One row; columns that are not given are NULL."""
        self.rows.setdefault(table, []).append(columns)

    def call(self, name: str, start: int, end: int, correlation: int, pid: int = 10, tid: int = 11) -> None:
        """A CUDA call."""
        self.add(
            "CUPTI_ACTIVITY_KIND_RUNTIME",
            start=start,
            end=end,
            eventClass=0 if name.startswith("cuda") else 1,
            globalTid=HARDWARE | pid << 24 | tid,
            correlationId=correlation,
            nameId=self.string(name),
            returnValue=0,
        )

    def _gpu(self, start: int, end: int, correlation: int, pid: int, stream: int, device: int) -> dict[str, object]:
        where = {"deviceId": device, "contextId": 1, "streamId": stream, "globalPid": HARDWARE | pid << 24}
        return {"start": start, "end": end, "correlationId": correlation, **where}

    def kernel(
        self,
        name: str,
        start: int,
        end: int,
        correlation: int,
        *,
        pid: int = 10,
        stream: int = 7,
        device: int = 0,
        node: int | None = None,
    ) -> None:
        """A kernel; `node` where it is one of a graph."""
        names = {"shortName": self.string(name), "demangledName": self.string(f"{name}()"), "graphNodeId": node}
        self.add("CUPTI_ACTIVITY_KIND_KERNEL", **self._gpu(start, end, correlation, pid, stream, device), **names)

    def copy(
        self,
        direction: str,
        memory: str,
        start: int,
        end: int,
        correlation: int,
        *,
        nbytes: int = 1_000,
        pid: int = 10,
        stream: int = 7,
        device: int = 0,
    ) -> None:
        """A copy between the GPU and a kind of host memory, by its label."""
        kind, source, target = _COPY_KINDS[direction]
        kinds = {"srcKind": self.memory["Device"], "dstKind": self.memory["Device"]}
        kinds |= {"srcKind": self.memory[memory]} if source == 0 else {}
        kinds |= {"dstKind": self.memory[memory]} if target == 0 else {}
        gpu = self._gpu(start, end, correlation, pid, stream, device)
        self.add("CUPTI_ACTIVITY_KIND_MEMCPY", **gpu, bytes=nbytes, copyKind=kind, **kinds)

    def graph(self, start: int, end: int, correlation: int, *, pid: int = 10, stream: int = 7) -> None:
        """A whole graph that is shown as one block."""
        self.add("CUPTI_ACTIVITY_KIND_GRAPH_TRACE", **self._gpu(start, end, correlation, pid, stream, 0), graphId=1)

    def range(
        self,
        name: str,
        start: int,
        end: int | None,
        *,
        pid: int = 10,
        tid: int = 11,
        text: bool = False,
        event: int = 59,
    ) -> None:
        """An NVTX range, whose name is in the row itself (`text`) or in StringIds."""
        named = {"text": name} if text else {"textId": self.string(name)}
        self.add("NVTX_EVENTS", start=start, end=end, eventType=event, globalTid=HARDWARE | pid << 24 | tid, **named)

    def write(self, path, drop=()):
        """Write the .sqlite and return its path; `drop` names tables, or columns as 'table.column', to leave out."""
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as database:
            columns = _columns(self.schema)
            for table, rows in self.rows.items():
                kept = [name for name in columns[table].split(", ") if f"{table}.{name}" not in drop]
                self._table(database, table, kept, [[row.get(name) for name in kept] for row in rows], drop)
            strings = [(number, text) for text, number in self.strings.items()]
            self._table(database, "StringIds", ["id", "value"], strings, drop)
            memory = [(number, f"CUDA_{label}", label) for label, number in self.memory.items()]
            self._table(database, "ENUM_CUDA_MEM_KIND", ["id", "name", "label"], memory, drop)
            for heading, rows in self.words.items():
                table, _, names = heading.partition(" ")
                self._table(database, table, names.split(), rows, drop)
            database.commit()
        return path

    def _table(self, database, table, names, rows, drop):
        if table in drop:
            return
        declared = ", ".join(f'"{name}"' for name in names)
        database.execute(f"CREATE TABLE {table} ({declared})")
        database.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(names))})", rows)


def pageable_frame(
    report: TinyReport, begin: int, first: int, *, pid: int = 10, tid: int = 11, driver: bool = False
) -> None:
    """One frame of 1,000 us from `begin`, in ns, with calls numbered from `first`.

    upload 10 to 310 us (pageable; on the GPU 40 to 320), infer 310 to 330 (a kernel on the GPU 330 to 830), download
    330 to 340 (pinned; on the GPU 830 to 880), synchronize 345 to 890.
    """
    names = ("cuMemcpyHtoDAsync_v2", "cuLaunchKernel", "cuMemcpyDtoHAsync_v2", "cuStreamSynchronize")
    if not driver:
        names = (
            "cudaMemcpyAsync_v3020",
            "cudaLaunchKernel_v7000",
            "cudaMemcpyAsync_v3020",
            "cudaStreamSynchronize_v3020",
        )

    def at(us: int) -> int:
        return begin + us * 1_000

    where = {"pid": pid, "tid": tid}
    report.range("frame", at(0), at(1_000), **where)
    for stage, start, end in (
        ("upload", 5, 312),
        ("infer", 312, 331),
        ("download", 331, 342),
        ("synchronize", 344, 892),
    ):
        report.range(stage, at(start), at(end), **where)
    for name, number, (start, end) in zip(
        names, range(4), ((10, 310), (315, 330), (332, 340), (345, 890)), strict=True
    ):
        report.call(name, at(start), at(end), first + number, **where)
    report.copy("h2d", "Pageable", at(40), at(320), first, nbytes=4_000_000, pid=pid)
    report.kernel("conv", at(330), at(830), first + 1, pid=pid)
    report.copy("d2h", "Pinned", at(830), at(880), first + 2, nbytes=2_000_000, pid=pid)
