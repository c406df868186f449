"""The one table of what people call things: stages, whole frames, telemetry and units, in English and Chinese."""

from __future__ import annotations

import re
from functools import lru_cache

from ..types import TELEMETRY_COLUMNS, THROTTLE_REASONS, Stage

RATE = "rate"
COPY = "copy"
"""A copy without a direction: the first of a frame is the upload, a second one the download."""
COPY_FROM_MAT = "copy_from_mat"
"""In triple-Mu/YOLOv8-TensorRT the function that letterboxes and then makes the upload call."""
CLOCK = "clock"
"""The time of a row, if it only goes up from about 0 or is called a stamp; else the time of a frame."""
STAMPS = ("wall", "wall_time", "timestamp", "ts", "t", "clock", "时间戳")
INSTANTS = ("due", "start", "done")

UNITS_NS = {
    **dict.fromkeys(("ns", "nanos", "nanosecond", "nanoseconds", "纳秒"), 1.0),
    **dict.fromkeys(("us", "µs", "μs", "usec", "usecs", "micros", "microsecond", "microseconds", "微秒"), 1e3),
    **dict.fromkeys(("ms", "msec", "msecs", "millis", "millisecond", "milliseconds", "毫秒"), 1e6),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", "秒"), 1e9),
}
"""Nanoseconds in each unit of time."""
RATES = ("fps", "qps", "hz", "it/s", "frames/s", "img/s", "images/s")
BYTES = {"b": 1.0, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30, "kb": 1e3, "mb": 1e6, "gb": 1e9}
"""Bytes in each unit of memory."""
SCALES = BYTES | {"mw": 1e-3}
"""Units of telemetry that are no W, MHz or %, in those."""

_TIMES = {
    "latency": "latency e2e end_to_end total_latency host_latency 延迟 时延 端到端",
    "frame": "frame total whole all loop iteration cost duration 总 总共 总计 总体 每帧 一帧 帧 单帧 耗时 用时",
    "gpu_compute": "gpu_time gpu_latency gpu_compute compute cuda_time",
    CLOCK: f"{' '.join(STAMPS)} time elapsed 时间",
    RATE: "fps frame_rate framerate qps throughput 帧率",
    COPY_FROM_MAT: "copy_from_mat",
    COPY: "cuda_memcpy_async cuda_memcpy memcpy memcpy_async copy 拷贝",
    Stage.WAIT: "wait waiting 等待",
    Stage.PREPROCESS: "preprocess pre_processing pre prep letterbox 预处理 前处理",
    Stage.UPLOAD: "upload h2d htod host_to_device copy_to_device copy_input copy_input_to_device 上传",
    Stage.INFER: "infer inf inference inferencing predict prediction enqueue enqueue_v2 enqueue_v3 execute execute_v2"
    " execute_v3 execute_async execute_async_v2 execute_async_v3 forward model network 推理 推断 前向",
    Stage.DOWNLOAD: "download d2h dtoh device_to_host copy_to_host copy_output copy_output_to_host 下载",
    Stage.SYNCHRONIZE: "sync synchronize synchronise synchronization stream_sync stream_synchronize"
    " cuda_stream_synchronize device_synchronize cuda_device_synchronize cuda_event_synchronize 同步",
    Stage.POSTPROCESS: "postprocess post_processing post nms decode 后处理",
} | {name: name for name in INSTANTS}
_DIRECTIONS = {Stage.UPLOAD: ("h2d", "htod", "host_to_device"), Stage.DOWNLOAD: ("d2h", "dtoh", "device_to_host")}
_COPY_CALLS = ("cuda_memcpy_async", "cuda_memcpy", "memcpy", "memcpy_async")
_FILLERS = (
    *("time", "times", "latency", "cost", "costs", "took", "takes", "taken", "duration", "elapsed", "elasped", "is"),
    *("image", "boxes", "cpu", "call", "stage", "spent", "用时", "耗时", "时间", "花费"),
)
_BEFORE = re.compile(r"\s*(?i:t|dt|times?|timings?|duration|elapsed|run|do)[_\s.:/-]+|(?:run|do)(?=[A-Z])")

_TELEMETRY = {
    "sm_clock_mhz": "clocks.sm clocks.current.sm sm_clock pclk",
    "memory_clock_mhz": "clocks.mem clocks.current.memory memory_clock mem_clock mclk",
    "power_w": "power.draw power.draw.average power.draw.instant power pwr",
    "temperature_c": "temperature.gpu temperature temp gtemp",
    "pcie_generation": "pcie.link.gen.current pcie.link.gen.gpucurrent",
    "pcie_width": "pcie.link.width.current",
    "gpu_utilisation_percent": "utilization.gpu gpu_utilization gpu_util gpu_util_percent sm",
    "host_memory_bytes": "rss host_memory process_memory memory.rss",
    "gpu_memory_used_bytes": "memory.used gpu_memory_used gpu_mem_used gpu_mem vram vram_used fb",
    "gpu_processes": "compute_processes",
} | {
    f"throttle_{reason}": " ".join(f"{group}.{reason}" for group in ("clocks_throttle_reasons", "clocks_event_reasons"))
    for reason in THROTTLE_REASONS
}
_LONGEST_NAME = 200


def plain(text: str) -> str:
    """Letters, digits and Chinese characters alone, in lower case: 'pre-process' is 'preprocess'."""
    return re.sub(r"[^a-z0-9\u4e00-\u9fff]", "", text.lower())


_TIME_OF = {plain(word): str(name) for name, words in _TIMES.items() for word in words.split()} | {
    plain(call + direction): str(stage)
    for stage, directions in _DIRECTIONS.items()
    for call in _COPY_CALLS
    for direction in directions
}
_TELEMETRY_OF = {plain(word): name for name, words in _TELEMETRY.items() for word in words.split()} | {
    plain(name): name for name in TELEMETRY_COLUMNS
}


@lru_cache(maxsize=4_096)
def time_name(text: str) -> str | None:
    """What a name stands for: 'latency', 'frame', a stage, one of the words above, or None for nothing known.

    Words such as 'time' or '耗时' at its end add nothing, nor do 't_', 'time_' or 'run_' before it.
    """
    if plain(text) not in _TIME_OF:
        text = _BEFORE.sub("", text, count=1) if _BEFORE.match(text) else text
    name = plain(text)
    while name and name not in _TIME_OF:
        shorter = next((name.removesuffix(word) for word in _FILLERS if name.endswith(word)), "")
        if not shorter:
            return None
        name = shorter
    return _TIME_OF.get(name)


def telemetry_name(text: str) -> str | None:
    """The telemetry column that a name stands for, or None."""
    return _TELEMETRY_OF.get(plain(text))


def ending_name(words: list[str]) -> str | None:
    """The longest known name that the last words make."""
    known = (time_name("".join(words[skip:])) for skip in range(len(words)))
    return next((name for name in known if name and name not in INSTANTS), None)  # 'Done. (3 ms)' is no instant


_ASCII = {0xFF08: "(", 0xFF09: ")", 0x3010: "[", 0x3011: "]"}  # full-width brackets
_CAMEL = re.compile(r"(.*[a-z0-9])(Ms|Us|Ns|Secs?|Seconds|Millis|Micros|Nanos)")
_IN_BRACKETS = re.compile(r"(.*?)\s*[\[(]\s*([^\])]*?)\s*[\])]")
_AT_END = re.compile(r"(.*?)[\s_/,.-]+([A-Za-zµμ]+|毫秒|微秒|纳秒|秒)")


@lru_cache(maxsize=4_096)
def split_unit(header: str) -> tuple[str, str | None]:
    """The name and the unit of a column: 'sync [ms]', 'sync(ms)', 'sync/ms', 'sync_ms', 'sync ms' and 'syncMs' are the
    same.
    """
    header = header.strip().strip("\"'").strip()
    if len(header) > _LONGEST_NAME:
        return header, None
    bracketed = _IN_BRACKETS.fullmatch(header.translate(_ASCII))
    if bracketed and (bracketed[2].lower() in (*UNITS_NS, *RATES) or telemetry_name(bracketed[1])):
        return bracketed[1], bracketed[2].lower()
    tail = _AT_END.fullmatch(header) or _CAMEL.fullmatch(header)
    known = tail and (tail[2].lower() in UNITS_NS or (tail[2].lower() in BYTES and telemetry_name(tail[1])))
    return (tail[1], tail[2].lower()) if tail and known else (header, None)
