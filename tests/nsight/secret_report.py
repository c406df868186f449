"""A report of Nsight Systems with a few rows, and secrets wherever nsys keeps such things."""

import sqlite3
from contextlib import closing

SECRETS = (
    *("TOKEN-in-environment", "TOKEN-in-service-environment", "TOKEN-printed-by-the-program", "TOKEN-in-future-table"),
    *(
        "someone",
        "their-host",
        "/home/someone/secret/loop.py",
        "ssh-agent-of-someone",
        "GPU-uuid-1234",
        "TOKEN-in-view",
    ),
)
_TABLES = {
    "StringIds": "id INTEGER PRIMARY KEY, value TEXT NOT NULL",
    "CUPTI_ACTIVITY_KIND_RUNTIME": "start INTEGER, end INTEGER, eventClass INTEGER, globalTid INTEGER, "
    "correlationId INTEGER, nameId INTEGER, returnValue INTEGER",
    "CUPTI_ACTIVITY_KIND_MEMCPY": "start INTEGER, end INTEGER, deviceId INTEGER, contextId INTEGER, streamId INTEGER, "
    "correlationId INTEGER, globalPid INTEGER, bytes INTEGER, copyKind INTEGER, srcKind INTEGER, dstKind INTEGER",
    "CUPTI_ACTIVITY_KIND_KERNEL": "start INTEGER, end INTEGER, deviceId INTEGER, contextId INTEGER, streamId INTEGER, "
    "correlationId INTEGER, globalPid INTEGER, demangledName INTEGER, shortName INTEGER",
    "NVTX_EVENTS": "start INTEGER, end INTEGER, eventType INTEGER, text TEXT, globalTid INTEGER, textId INTEGER",
    "ENUM_CUDA_MEM_KIND": "id INTEGER PRIMARY KEY, name TEXT, label TEXT",
    "TARGET_INFO_GPU": "id INTEGER, name TEXT, uuid TEXT",
    "TARGET_INFO_SESSION_START_TIME": "utcEpochNs INTEGER",
    "TARGET_INFO_SYSTEM_ENV": "globalVid INTEGER, devStateName TEXT, name TEXT, nameEnum INTEGER, value TEXT",
    "META_DATA_CAPTURE": "name TEXT, value TEXT",
    "META_DATA_EXPORT": "name TEXT, value TEXT",
    "PROCESSES": "globalPid INTEGER, pid INTEGER, name TEXT",
    "ThreadNames": "nameId INTEGER, priority INTEGER, globalTid INTEGER",
    "ProcessStreams": "globalPid INTEGER, filenameId INTEGER, contentId INTEGER",
    "DIAGNOSTIC_EVENT": "timestamp INTEGER, text TEXT",
    "A_TABLE_OF_2030": "text TEXT",
}
_STRINGS = {
    1: "cudaMemcpyAsync_v3020",
    2: "cudaStreamSynchronize_v3020",
    3: "cudaLaunchKernel_v7000",
    4: "a kernel",
    5: "upload",
    6: "TOKEN-printed-by-the-program",
    7: "/home/someone/secret/loop.py",
    8: "ssh-agent-of-someone",
}
PID = 4711
WARNING = "Not all CUDA events might have been collected."


def write(path, frames=2, kernels=True, marked=True):
    """Write the report: each frame is 1 ms long, with an upload, a kernel, a download and a synchronize."""
    rows = {name: [] for name in _TABLES}
    rows["StringIds"] = list(_STRINGS.items())
    rows["ENUM_CUDA_MEM_KIND"] = [(0, "PAGEABLE", "Pageable"), (1, "PINNED", "Pinned"), (2, "DEVICE", "Device")]
    rows["TARGET_INFO_GPU"] = [(0, "NVIDIA H200", "GPU-uuid-1234")]
    rows["TARGET_INFO_SESSION_START_TIME"] = [(1_795_641_886_699_064_249,)]
    environment = [("NvDriverVersion", "580.159.04"), ("Hostname", "their-host")]
    environment.append(("DeviceEnvironment", "TOKEN=TOKEN-in-service-environment;USER=someone"))
    rows["TARGET_INFO_SYSTEM_ENV"] = [(0, "Local (CLI)", name, 7, value) for name, value in environment]
    rows["META_DATA_CAPTURE"] = [("PROCESS_0:ENVIRONMENT_VARIABLE", 'TOKEN="TOKEN-in-environment"')]
    rows["META_DATA_EXPORT"] = [("EXPORT_SCHEMA_VERSION", "3.20.3"), ("EXPORT_USER", "someone"), ("EXPORT_HOST", "x")]
    rows["PROCESSES"] = [(PID << 24, PID, "/home/someone/secret/loop.py")]
    rows["ThreadNames"] = [(8, 20, PID << 24)]
    rows["ProcessStreams"] = [(PID << 24, 7, 6)]
    rows["DIAGNOSTIC_EVENT"] = [(0, "launched /home/someone/secret/loop.py"), (1, WARNING)]
    rows["A_TABLE_OF_2030"] = [("TOKEN-in-future-table",)]
    for frame in range(frames):
        _add_frame(rows, frame * 1_000_000, frame * 10, kernels, marked)
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as report, report:
        for name, columns in _TABLES.items():
            report.execute(f"CREATE TABLE {name} ({columns})")
            marks = ", ".join("?" * (columns.count(",") + 1))
            report.executemany(f"INSERT INTO {name} VALUES ({marks})", rows[name])
        report.execute("CREATE VIEW told AS SELECT 'TOKEN-in-view' AS text")
    return path


def _add_frame(rows, begin, first, kernels, marked):
    tid, pid = PID << 24 | PID, PID << 24
    if marked:
        rows["NVTX_EVENTS"] += [
            (begin, begin + 900_000, 59, "frame", tid, None),
            (begin + 1_000, begin + 90_000, 59, None, tid, 5),
        ]
    calls = ((1, 0, 1_000, 90_000), (3, 1, 100_000, 105_000), (1, 2, 110_000, 115_000), (2, 3, 120_000, 880_000))
    rows["CUPTI_ACTIVITY_KIND_RUNTIME"] += [
        (begin + start, begin + end, 0, tid, first + number, name, 0) for name, number, start, end in calls
    ]
    copies = ((0, 40_000, 80_000, 4_915_200, 1, 0, 2), (2, 800_000, 850_000, 2_822_400, 2, 2, 1))
    rows["CUPTI_ACTIVITY_KIND_MEMCPY"] += [
        (begin + start, begin + end, 0, 1, 7, first + number, pid, nbytes, kind, source, target)
        for number, start, end, nbytes, kind, source, target in copies
    ]
    if kernels:
        rows["CUPTI_ACTIVITY_KIND_KERNEL"].append((begin + 110_000, begin + 790_000, 0, 1, 7, first + 1, pid, 4, 4))
