"""Reports of a few rows, written by hand with the tables and columns that nsys exports."""

from __future__ import annotations

import sqlite3
from contextlib import closing

HARDWARE = 1 << 48  # the virtual machine, in every global number
SECRETS = (
    *("TOKEN-in-environment", "TOKEN-in-service-environment", "TOKEN-printed-by-the-program", "TOKEN-in-future-table"),
    *("someone", "their-host", "/home/someone/secret/loop.py", "ssh-agent-of-someone", "GPU-uuid-1234"),
    "TOKEN-in-view",
)
WARNING = "Not all CUDA events might have been collected."
PID = 4711

_GPU = "start end deviceId contextId greenContextId streamId correlationId globalPid"
_COLUMNS = {
    "CUPTI_ACTIVITY_KIND_RUNTIME": "start end eventClass globalTid correlationId nameId returnValue",
    "CUPTI_ACTIVITY_KIND_KERNEL": f"{_GPU} demangledName shortName mangledName gridX graphNodeId",
    "CUPTI_ACTIVITY_KIND_MEMCPY": f"{_GPU} bytes copyKind srcKind dstKind graphNodeId copyCount",
    "CUPTI_ACTIVITY_KIND_MEMSET": f"{_GPU} value bytes graphNodeId memKind",
    "CUPTI_ACTIVITY_KIND_GRAPH_TRACE": f"{_GPU} graphId graphExecId",
    "NVTX_EVENTS": "start end eventType rangeId color text globalTid endGlobalTid textId jsonText binaryData",
}
_MEMORY = ("Pageable", "Pinned", "Device", "Array", "Managed", "Device Static", "Managed Static", "Unknown")
_COPY_KINDS = {"h2d": 1, "d2h": 2}


class TinyReport:
    """Add rows, then `write`. Times are ns; names get their numbers by themselves.

    `memory` is the number of each label of memory, which the lab must find in the report. `words` holds the rows of
    further tables, by "TABLE column column".
    """

    def __init__(self, memory: dict[str, int] | None = None) -> None:
        self.rows: dict[str, list[dict[str, object]]] = {}
        self.strings: dict[str, int] = {}
        self.memory = memory or {label: number for number, label in enumerate(_MEMORY)}
        self.words: dict[str, list[tuple[object, ...]]] = {}

    def string(self, text: str) -> int:
        """The number of a text in StringIds."""
        return self.strings.setdefault(text, len(self.strings) + 1)

    def add(self, table: str, **columns: object) -> None:
        """One row; columns that are not given are NULL."""
        self.rows.setdefault(table, []).append(columns)

    def call(self, name: str, start: int, end: int, correlation: int, pid: int = 10, tid: int = 11) -> None:
        """A CUDA call."""
        where = {"start": start, "end": end, "globalTid": HARDWARE | pid << 24 | tid}
        self.add("CUPTI_ACTIVITY_KIND_RUNTIME", **where, correlationId=correlation, nameId=self.string(name))

    def gpu(self, table, start, end, correlation, *, pid=10, stream=7, device=0, **columns):
        """What the GPU did."""
        where = {
            "deviceId": device,
            "streamId": stream,
            "correlationId": correlation,
            "globalPid": HARDWARE | pid << 24,
        }
        self.add(f"CUPTI_ACTIVITY_KIND_{table}", start=start, end=end, **where, **columns)

    def kernel(self, name, start, end, correlation, node=None, **where):
        """A kernel; `node` where it is one of a graph."""
        self.gpu("KERNEL", start, end, correlation, shortName=self.string(name), graphNodeId=node, **where)

    def copy(self, direction, memory, start, end, correlation, *, nbytes=1_000, **where):
        """A copy between the GPU and a kind of host memory, by its label."""
        kinds = [self.memory.get(label, 2) for label in (memory, "Device")]
        kinds = dict(zip(("srcKind", "dstKind"), kinds if direction == "h2d" else kinds[::-1], strict=True))
        self.gpu("MEMCPY", start, end, correlation, bytes=nbytes, copyKind=_COPY_KINDS[direction], **kinds, **where)

    def graph(self, start: int, end: int, correlation: int) -> None:
        """A whole graph that is shown as one block."""
        self.gpu("GRAPH_TRACE", start, end, correlation)

    def range(self, name, start, end, *, pid=10, tid=11, text=False, event=59):
        """An NVTX range, whose name is in the row itself (`text`) or in StringIds."""
        named = {"text": name} if text else {"textId": self.string(name)}
        self.add("NVTX_EVENTS", start=start, end=end, eventType=event, globalTid=HARDWARE | pid << 24 | tid, **named)

    def write(self, path, drop=()):
        """Write the .sqlite and return its path; `drop` names tables, or columns as 'table.column', to leave out."""
        words = dict(self.words)
        for table, rows in self.rows.items():
            kept = [name for name in _COLUMNS[table].split() if f"{table}.{name}" not in drop]
            words[f"{table} {' '.join(kept)}"] = [tuple(row.get(name) for name in kept) for row in rows]
        words["StringIds id value"] = [(number, text) for text, number in self.strings.items()]
        words["ENUM_CUDA_MEM_KIND id label"] = [(number, label) for label, number in self.memory.items()]
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as database, database:
            for heading, rows in words.items():
                table, *names = heading.split()
                if table not in drop:
                    declared = ", ".join(f'"{name}"' for name in names)
                    database.execute(f"CREATE TABLE {table} ({declared})")
                    database.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(names))})", rows)
        return path


def pageable_frame(report, begin, first, *, pid=10, tid=11, driver=False):
    """One frame of 1,000 us from `begin`, in ns, with calls numbered from `first`.

    upload 10 to 310 us (pageable; on the GPU 40 to 320), infer 310 to 330 (a kernel on the GPU 330 to 830), download
    330 to 340 (pinned; on the GPU 830 to 880), synchronize 345 to 890.
    """
    names = ("cuMemcpyHtoDAsync_v2", "cuLaunchKernel", "cuMemcpyDtoHAsync_v2", "cuStreamSynchronize")
    if not driver:
        words = ("MemcpyAsync_v3020", "LaunchKernel_v7000", "MemcpyAsync_v3020", "StreamSynchronize_v3020")
        names = [f"cuda{word}" for word in words]

    def at(us: int) -> int:
        return begin + us * 1_000

    where = {"pid": pid, "tid": tid}
    stages = {"upload": (5, 312), "infer": (312, 331), "download": (331, 342), "synchronize": (344, 892)}
    for name, (start, end) in ({"frame": (0, 1_000)} | stages).items():
        report.range(name, at(start), at(end), **where)
    for number, (start, end) in enumerate(((10, 310), (315, 330), (332, 340), (345, 890))):
        report.call(names[number], at(start), at(end), first + number, **where)
    report.copy("h2d", "Pageable", at(40), at(320), first, nbytes=4_000_000, pid=pid)
    report.kernel("conv", at(330), at(830), first + 1, pid=pid)
    report.copy("d2h", "Pinned", at(830), at(880), first + 2, nbytes=2_000_000, pid=pid)


def write_secret(path, frames=2, marked=True):
    """A report with secrets wherever nsys keeps such things.

    Each frame is 1 ms long, with an upload, a kernel, a download and a synchronize.
    """
    report = TinyReport()
    where = {"pid": PID, "tid": PID}
    for frame in range(frames):
        begin, first = frame * 1_000_000, frame * 10
        if marked:
            report.range("frame", begin, begin + 900_000, text=True, **where)
            report.range("upload", begin + 1_000, begin + 90_000, **where)
        report.call("cudaMemcpyAsync_v3020", begin + 1_000, begin + 90_000, first, **where)
        report.call("cudaLaunchKernel_v7000", begin + 100_000, begin + 105_000, first + 1, **where)
        report.call("cudaMemcpyAsync_v3020", begin + 110_000, begin + 115_000, first + 2, **where)
        report.call("cudaStreamSynchronize_v3020", begin + 120_000, begin + 880_000, first + 3, **where)
        report.copy("h2d", "Pageable", begin + 40_000, begin + 80_000, first, nbytes=4_915_200, pid=PID)
        report.kernel("a kernel", begin + 110_000, begin + 790_000, first + 1, pid=PID)
        report.copy("d2h", "Pinned", begin + 800_000, begin + 850_000, first + 2, nbytes=2_822_400, pid=PID)
    printed, script, agent = map(report.string, (SECRETS[2], SECRETS[6], SECRETS[7]))
    service = "TOKEN=TOKEN-in-service-environment;USER=someone"
    settings = {"NvDriverVersion": "580.159.04", "Hostname": "their-host", "DeviceEnvironment": service}
    report.words = {
        "TARGET_INFO_GPU id name uuid": [(0, "NVIDIA H200", "GPU-uuid-1234")],
        "TARGET_INFO_SESSION_START_TIME utcEpochNs": [(1_795_641_886_699_064_249,)],
        # nameEnum is a number of nsys's own, here that of a string which nothing else uses
        "TARGET_INFO_SYSTEM_ENV name nameEnum value": [(name, script, value) for name, value in settings.items()],
        "META_DATA_CAPTURE name value": [("PROCESS_0:ENVIRONMENT_VARIABLE", 'TOKEN="TOKEN-in-environment"')],
        "META_DATA_EXPORT name value": [("EXPORT_SCHEMA_VERSION", "3.20.3"), ("EXPORT_USER", "someone")],
        "PROCESSES globalPid pid name": [(PID << 24, PID, "/home/someone/secret/loop.py")],
        "ThreadNames nameId priority globalTid": [(agent, 20, PID << 24)],
        "ProcessStreams globalPid filenameId contentId": [(PID << 24, script, printed)],
        "DIAGNOSTIC_EVENT timestamp text": [(0, "launched /home/someone/secret/loop.py"), (1, WARNING)],
        "A_TABLE_OF_2030 text": [("TOKEN-in-future-table",)],
    }
    report.write(path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE VIEW told AS SELECT 'TOKEN-in-view' AS text")
    return path
