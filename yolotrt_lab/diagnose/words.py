"""What people write: the names of times and telemetry, units, numbers and time stamps, in English and Chinese."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import numpy as np

from ..types import TELEMETRY_COLUMNS, THROTTLE_REASONS, Stage
from .slope import median

RATE = "rate"
COPY = "copy"
"""A copy without a direction: the first of a frame is the upload, a second one the download."""
COPY_FROM_MAT = "copy_from_mat"
"""In triple-Mu/YOLOv8-TensorRT the function that letterboxes and then makes the upload call."""
CLOCK = "clock"
"""The time of a row, if it only goes up from about 0 or is called a stamp; else the time of a frame."""
STAMPS = ("wall", "wall_time", "timestamp", "ts", "t", "clock", "时间戳")
INSTANTS = ("due", "start", "done")
"""When a frame is due, starts and is done."""

_UNITS_OF_TIME = {
    1.0: "ns nanos nanosecond nanoseconds 纳秒",
    1e3: "us µs μs usec usecs micros microsecond microseconds micro-seconds 微秒",
    1e6: "ms msec msecs millis millisecond milliseconds milli-seconds 毫秒",
    1e9: "s sec secs second seconds 秒",
}
UNITS_NS = {unit: scale for scale, units in _UNITS_OF_TIME.items() for unit in units.split()}
"""Nanoseconds in each unit of time."""
_COUNTED = "it iter frame frames img imgs image images infer inferences samples"
RATES = ("fps", "qps", "hz", *(what + per for what in _COUNTED.split() for per in ("/sec", "/s", " per second")))
UNIT_OF_TIME = "|".join(sorted(map(re.escape, UNITS_NS), key=len, reverse=True))
TIME_UNITS = rf"{UNIT_OF_TIME}|(?:{'|'.join(RATES)})(?!\s*[=:\uff1a])"
"""An expression for the units of times and rates; a rate in front of ':' names the number behind it."""
BYTES = {"b": 1.0, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30, "kb": 1e3, "mb": 1e6, "gb": 1e9}
"""Bytes in each unit of memory."""
SCALES = BYTES | {"mw": 1e-3}
"""Units of telemetry that are no W, MHz or %, in those."""
OF_A_GPU = dict.fromkeys(BYTES, "gpu_mem") | {"mhz": "gpu_clock", "w": "power", "mw": "power"}
OF_A_GPU |= dict.fromkeys(("°c", "℃", "c"), "gpu_temp")
"""What a number behind 'GPU' is, by its unit."""
TELEMETRY_UNITS = "|".join([*list(BYTES)[1:], "mhz", "mw", "w", "°c", "℃", "c"])
"""An expression for the units by which a line of a log is known to hold telemetry."""

_TIMES = {
    "latency": "latency e2e end_to_end total_latency host_latency 延迟 时延 端到端",
    "frame": "frame total whole all loop iteration iterations cost duration dur"
    " 总 总共 总计 总体 每帧 一帧 帧 单帧 耗时 用时",
    "gpu_compute": "gpu_time gpu_latency gpu_compute compute cuda_time",
    CLOCK: f"{' '.join(STAMPS)} time elapsed 时间",
    RATE: "fps frame_rate framerate qps throughput 帧率",
    COPY_FROM_MAT: "copy_from_mat",
    COPY: "cuda_memcpy_async cuda_memcpy memcpy memcpy_async copy 拷贝",
    Stage.WAIT: "wait waiting 等待",
    Stage.PREPROCESS: "preprocess pre_processing pre prep letterbox 预处理 前处理",
    Stage.UPLOAD: "upload h2d htod host_to_device copy_to_device copy_input copy_in copy_input_to_device"
    " cpu_to_gpu 上传 拷贝到gpu",
    Stage.INFER: "infer inf inference inferencing predict predicted prediction enqueue enqueue_v2 enqueue_v3"
    " exec execute execute_v2 execute_v3 execute_async execute_async_v2 execute_async_v3 forward model network"
    " 推理 推断 前向 推理执行",
    Stage.DOWNLOAD: "download d2h dtoh device_to_host copy_to_host copy_output copy_out copy_output_to_host"
    " gpu_to_cpu 下载 拷贝到cpu 拷贝回",
    Stage.SYNCHRONIZE: "sync synchronize synchronise synchronization stream_sync stream_synchronize"
    " cuda_stream_synchronize device_synchronize cuda_device_synchronize cuda_event_synchronize 同步",
    Stage.POSTPROCESS: "postprocess post_processing post nms non_max_suppression non_maximum_suppression decode 后处理",
    "due": "due arrival arrived arrive captured",
    "start": "start started begin began offset 开始",
    "done": "done end ended finish finished stop stopped executed completed 结束",
}
_FILLERS = (
    *("time", "times", "latency", "cost", "costs", "took", "takes", "taken", "duration", "elapsed", "elasped", "is"),
    *("image", "boxes", "cpu", "call", "stage", "spent", "avg", "average", "total", "in", "take"),
    *("用时", "耗时", "时间", "花费", "为"),
)
_BEFORE = re.compile(
    r"\s*(?i:t|dt|times?|timings?|duration|elapsed|run|do|for|to|in)[_\s.:/-]+|(?:run|do)(?=[A-Z])"
    r"|第?\s*[单每]?帧(?![率号耗用时花]|$)"
    r"|(?i:(?:cuda)?memcpy(?:async)?)[\W_]*(?=(?i:upload|download|h2d|htod|host|d2h|dtoh|device|[cg]pu))"
)

_RUN_BY = re.compile(r"(?i:gpu|cpu|host|cuda|trt|tensorrt|onnx|yolo(?:v?\d+\w?)?|model|engine|net|network)[_\s.-]+")
"""What runs a stage, in front of its name."""

_TELEMETRY = {
    "sm_clock_mhz": "clocks.sm clocks.current.sm sm_clock gpu_clock pclk",
    "sm_clock_max_mhz": "clocks.max.sm clocks.max.graphics",
    "memory_clock_mhz": "clocks.mem clocks.current.memory memory_clock mem_clock mclk",
    "power_w": "power.draw power.draw.average power.draw.instant power pwr 功耗",
    "temperature_c": "temperature.gpu temperature temp gpu_temp gtemp 温度 gpu温度",
    "pcie_generation": "pcie.link.gen.current pcie.link.gen.gpucurrent",
    "pcie_width": "pcie.link.width.current",
    "gpu_utilisation_percent": "utilization.gpu gpu_utilization gpu_util gpu_util_percent sm",
    "host_memory_bytes": "rss host_memory process_memory memory.rss 内存 内存占用",
    "gpu_memory_used_bytes": "memory.used gpu_memory_used gpu_mem_used gpu_mem vram vram_used fb 显存 显存占用",
    "compute_processes": "compute_processes",
} | {
    f"throttle_{reason}": " ".join(f"{group}.{reason}" for group in ("clocks_throttle_reasons", "clocks_event_reasons"))
    for reason in THROTTLE_REASONS
}
_LONGEST_NAME = 200


def plain(text: str) -> str:
    """Letters and digits alone, in lower case: 'pre-process' is 'preprocess'."""
    return "".join(filter(str.isalnum, text.lower()))


_TIME_OF = {plain(word): str(name) for name, words in _TIMES.items() for word in words.split()}
_TELEMETRY_OF = {plain(word): name for name, words in _TELEMETRY.items() for word in words.split()} | {
    plain(name): name for name in TELEMETRY_COLUMNS
}


LEVELS = {*"diwe", "debug", "info", "warn", "warning", "error"}
"""What a logger writes in front of a line: no part of a name."""
_FRAME_NUMBERS = "frame frame_id frame_no frame_number frame_index frame_idx index idx 帧号 序号"
FRAME_NUMBERS = set(map(plain, _FRAME_NUMBERS.split()))
"""What numbers the frames."""


@lru_cache(maxsize=4_096)
def _known(text: str) -> str | None:
    """What a name stands for: words such as 'time' or '耗时' at its end add nothing, nor do 't_', 'time_' or 'run_'
    before it.
    """
    if plain(text) not in _TIME_OF:
        text = _BEFORE.sub("", text, count=1) if _BEFORE.match(text) else text
    name = plain(text)
    while name and name not in _TIME_OF:
        shorter = next((name.removesuffix(word) for word in _FILLERS if name.endswith(word)), "")
        if not shorter:
            return _stage_at_end(name)
        name = shorter
    return _TIME_OF.get(name)


def _stage_at_end(name: str) -> str | None:
    """The stage, or rate, that a Chinese name ends with: '模型推理' (of the model: inference)."""
    starts = re.match("[\u4e00-\u9fff]*", name)
    tails = (name[skip:] for skip in range(1, starts.end() + 1)) if starts and not re.search("[和与及]", name) else ()
    return next((_TIME_OF[tail] for tail in tails if _TIME_OF.get(tail) in {*Stage, RATE}), None)


def time_name(text: str) -> str | None:
    """What a name stands for: 'latency', 'frame', a stage, one of the words above, or None for nothing known."""
    name = _known(text)
    return None if name in INSTANTS else name


def stage_behind(text: str) -> str | None:
    """The stage that stands behind what runs it, as in 'GPU inference', or None."""
    runs = _RUN_BY.match(text)
    stage = time_name(text[runs.end() :]) if runs else None
    return stage if stage in set(Stage) else None


def telemetry_name(text: str) -> str | None:
    """The telemetry column that a name stands for, or None."""
    return _TELEMETRY_OF.get(plain(text))


@lru_cache(maxsize=4_096)
def end_of(text: str) -> tuple[str, str] | None:
    """The part of a frame that a name gives one end of, and which: ('infer', 'start') for 'inferStart', ('frame',
    'due') for 'arrival', else None.
    """
    if whole := _known(text):
        return ("frame", whole) if whole in INSTANTS else None
    found = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])|[\u4e00-\u9fff]+", text)
    for word, rest in ((found[-1], found[:-1]), (found[0], found[1:])) if len(found) > 1 else ():
        if (end := _known(word)) in ("start", "done"):
            return time_name(" ".join(rest)) or " ".join(rest), end
    return None


def is_named(text: str) -> bool:
    """True for words that make a known name, 'inference finished' among them."""
    end = end_of(text)
    return bool(time_name(text) or (end and end[0] in {*Stage, "frame"}))


def ending_name(words: list[str]) -> str | None:
    """The longest known name that the last words make."""
    return next(filter(None, (time_name("".join(words[skip:])) for skip in range(len(words)))), None)


_ASCII = {0xFF08: "(", 0xFF09: ")", 0x3010: "[", 0x3011: "]"}  # full-width brackets
_CAMEL = re.compile(r"(.*[a-z0-9])(Ms|Us|Ns|Secs?|Seconds|Millis|Micros|Nanos)")
_IN_BRACKETS = re.compile(r"(.*?)\s*[\[(]\s*([^\])]*?)\s*[\])]")
_A_SECOND = re.compile(r"(.*[a-z])\s*(?:/|[\s_](per)[\s_])\s*s(?:ec|econd)?", re.IGNORECASE)  # 'Inferences/Second'
_AT_END = re.compile(r"(.*?)[\s_/,.-]+([A-Za-zµμ]+|毫秒|微秒|纳秒|秒)")


@lru_cache(maxsize=4_096)
def split_unit(header: str) -> tuple[str, str | None]:
    """The name and the unit of a column: 'sync [ms]', 'sync(ms)', 'sync/ms', 'sync_ms', 'sync ms' and 'syncMs' are the
    same.
    """
    header = header.strip().strip("\"'").strip()
    if len(header) > _LONGEST_NAME:
        return header, None
    if header.lower() in UNITS_NS.keys() - {"s", "us"}:  # which vmstat prints for other things
        return "", header.lower()
    bracketed = _IN_BRACKETS.fullmatch(header.translate(_ASCII))
    if bracketed and (bracketed[2].lower() in (*UNITS_NS, *RATES) or telemetry_name(bracketed[1])):
        return bracketed[1], bracketed[2].lower()
    if (rate := _A_SECOND.fullmatch(header)) and (rate[2] or time_name(rate[1]) is None):
        return rate[1], "it/s"
    tail = _AT_END.fullmatch(header) or _CAMEL.fullmatch(header)
    known = tail and (tail[2].lower() in UNITS_NS or (tail[2].lower() in SCALES and telemetry_name(tail[1])))
    return (tail[1], tail[2].lower()) if tail and known else (header, None)


COMMENT = r"^\s*(?:#(?:[^0-9]|$)|//|%)"
"""A line of text that is a comment; '#12 infer: 8 ms' numbers a frame."""
NUMBER = r"(?:[0-9](?:[0-9,.'_]*[0-9])?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
DEVIATION = rf"(?:\s*(?:±|\+/-|\+-)\s*{NUMBER})?"
MISSING = ["", "-", "--", "n/a", "[n/a]", "na", "nan", "null", "none", "[not supported]", "not supported"]
MISSING += ["[unknown error]", "[gpu is lost]", "NaN", "N/A", "[N/A]", "NA", "None", "NULL", "[Not Supported]"]
_FLAGS = {"active": "1", "not active": "0", "true": "1", "false": "0", "yes": "1", "no": "0"}
_SPREAD = rf"(?:\s*(?:±|\+/-|\+-)\s*{NUMBER}\s*[mnuµμ]?s)?"
_CELL = rf"(?i)([-+]?{NUMBER}|[-+]?inf\b|\d+\.){DEVIATION}\s*([^\d\s±+].*?)?{_SPREAD}\s*"
_TIME = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_STAMPS: dict[str, tuple[str, str] | None] = {
    rf"^\D*(?P<s>\d{{4}}-\d\d-\d\d[ T]{_TIME})": None,
    rf"(?P<s>\d{{4}}-\d\d-\d\d[ T]{_TIME})": None,
    rf"(?P<s>\d{{4}}[-/]?\d\d[-/]?\d\d[ T_]+{_TIME})": (r"^(\d{4})[-/]?(\d\d)[-/]?(\d\d)[ T_]+(.*)$", r"\1-\2-\3 \4"),
    rf"(?P<s>\d\d[-/]\d\d[-/]\d{{4}}[- ]{_TIME})": (r"^(\d\d).(\d\d).(\d{4}).(.*)$", r"\3-\1-\2 \4"),
    rf"(?:^|[^\d:])(?P<s>{_TIME})(?:[^\d:]|$)": ("^", "1970-01-01 "),
}
"""Expressions that find a time stamp, and how to write it as Arrow reads it."""
PROGRESS: ContextVar[Callable[[float], None]] = ContextVar("PROGRESS", default=lambda share: None)
"""Is told the share of a long file that is read, from 0 to 1."""


class AmbiguousError(ValueError):
    """A comma that may be a decimal comma or separate thousands; holds the number."""


def text_array(texts: Sequence[str]) -> Any:
    """An Arrow array of text; pyarrow's own way from Python to it imports pandas, where there is one."""
    import pyarrow as pa

    data = [each.encode("utf-8", "replace") for each in texts]
    ends = np.cumsum([0, *map(len, data)], dtype=np.int64)
    return pa.LargeStringArray.from_buffers(len(data), pa.py_buffer(ends), pa.py_buffer(b"".join(data)))


def in_slices(values: Any, rows: int = 1 << 17) -> Iterator[Any]:
    """Parts of an Arrow array, so that what is made of a long one stays small."""
    for first in range(0, max(len(values), 1), rows):
        PROGRESS.get()(first / max(len(values), 1))
        yield values[first : first + rows]


def byte_blocks(data: Any) -> Iterator[np.ndarray]:
    """The bytes of a long text as numbers, in blocks that a processor's cache holds."""
    codes = np.frombuffer(data, np.uint8)
    return (codes[first : first + (1 << 18)] for first in range(0, len(codes), 1 << 18))


def numbers_of(values: Any) -> np.ndarray:
    """An Arrow array of numbers, a mask or times, in one or several parts, as float64, times in ns; NaN where one is
    missing.
    """
    parts = [_numbers_in(part) for part in getattr(values, "chunks", [values])]
    return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.empty(0)])


def _numbers_in(part: Any) -> np.ndarray:
    """From its buffers: the methods of an array that would do import pyarrow.compute, which takes 75 ms."""
    from pyarrow import types

    if part.null_count == len(part):
        return np.full(len(part), np.nan)
    kind, rows, (valid, data) = part.type, slice(part.offset, part.offset + len(part)), part.buffers()
    if types.is_boolean(kind):
        numbers = _bits(data, rows)
    else:
        letter = "f" if types.is_floating(kind) else "u" if types.is_unsigned_integer(kind) else "i"
        numbers = np.frombuffer(data, f"{letter}{kind.bit_width // 8}")[rows]
    scale = UNITS_NS[getattr(kind, "unit", "ns")]
    numbers = numbers.astype(np.float64, copy=False) if scale == 1 else numbers * scale
    return np.where(_bits(valid, rows), numbers, np.nan) if part.null_count else numbers


def _bits(buffer: Any, rows: slice) -> np.ndarray:
    return np.unpackbits(np.frombuffer(buffer, np.uint8), count=rows.stop, bitorder="little")[rows.start :]


def middle(values: np.ndarray) -> float:
    """The median of the values that there are; 0 without any."""
    values = values[np.isfinite(values)]
    return float(median(values)) if len(values) else 0.0


def has(text: Any, pattern: str) -> bool:
    """True where an expression is found in one of the texts of an Arrow array."""
    import pyarrow.compute as pc

    return bool(pc.any(pc.match_substring_regex(text, pattern)).as_py())


def _different(text: Any) -> tuple[np.ndarray, list[str]]:
    """The texts that an Arrow array holds, and the place of each of its rows among them."""
    import pyarrow.compute as pc

    texts = pc.unique(text)
    return numbers_of(pc.index_in(text, texts)).astype(np.int64), [each or "" for each in texts.to_pylist()]


def _value(text: str, decimal_comma: bool) -> float:
    thousands, point = (".", ",") if decimal_comma else (",", ".")
    text = re.sub("['_]", "", text.rstrip(",.'_ "))
    if thousands in text:
        grouped = rf"[-+]?[1-9]\d{{0,2}}(?:\{thousands}\d{{3}})+(?:\{point}\d*)?(?:[eE][-+]?\d+)?"
        text = text.replace(thousands, "") if re.fullmatch(grouped, text) else ""
    with suppress(ValueError):
        return float(text.replace(point, "."))
    return np.nan


def commas_are_decimal(numbers: Sequence[str], told: bool | None = None) -> bool:
    """True where the commas in the numbers are decimal ones, `told` where none of them tells; else AmbiguousError."""
    marked = [each for each in numbers if re.search(r",|\..*\.", each)]
    if not marked:
        return bool(told)
    if any(re.search(r",.*[.,]", each) for each in marked):
        return False
    if any(re.search(r"\..*[.,]|^[-+]?(0|\d{4,}),|,(\d{1,2}|\d{4,})(\D|$)", each) for each in marked):
        return True
    if told is None and len(marked) == len(numbers):
        raise AmbiguousError(marked[0])
    return bool(told)


def cells(text: Any, *, decimal_comma: bool | None = None) -> tuple[np.ndarray, str | None, np.ndarray]:
    """The values of an Arrow array of cells such as '7.9 ± 0.2 ms', their unit (in ns or bytes where cells differ), and
    which of them are neither a number nor say that there is none.

    `decimal_comma` says what a comma is where no number tells; where it is None, AmbiguousError is raised. ValueError
    for units that don't go together.
    """
    import pyarrow as pa

    with suppress(pa.ArrowInvalid):  # plain numbers, which is what most are
        if not decimal_comma:
            return numbers_of(text.cast(pa.float64())), None, np.zeros(len(text), np.bool_)
    place, texts = _different(text)
    said = [each.strip(' "') for each in texts]
    found = [re.fullmatch(_CELL, _FLAGS.get(each.lower(), each)) for each in said]
    decimal = commas_are_decimal([each[1] for each in found if each], decimal_comma)
    values = np.array([_value(each[1], decimal) if each else np.nan for each in found], np.float64)
    units = [(each[2] or "").lower() if each else "" for each in found]
    names = list(dict.fromkeys(unit for unit, value in zip(units, values, strict=True) if not np.isnan(value)))
    if len(names) > 1:
        scales = next((each for each in (UNITS_NS, BYTES) if all(name in each for name in names)), None)
        if scales is None:
            raise ValueError(f"units must go together, got {', '.join(repr(each[:20]) for each in names[:3])}")
        values *= [scales.get(unit, 1.0) for unit in units]
        names = ["ns" if scales is UNITS_NS else "b"]
    bad = np.isnan(values) & np.array([each.lower() not in MISSING for each in said], np.bool_)
    return values[place], (names or [""])[0] or None, bad[place]


def padded(text: Any) -> Any:
    """Cells such as '0 days 00:00:00.008' and '0:00:00.008' as '00:00:00.008'; others as they are."""
    import pyarrow.compute as pc

    form = r"^(?:\d+ days? )?0?(\d):(\d\d:\d\d[.,]?\d*)$"
    told = any(each and re.match(form, each) for each in text[:1].to_pylist())
    return pc.replace_substring_regex(text, form, r"0\1:\2") if told else text


def stamps(text: Any) -> np.ndarray | None:
    """Time stamps such as '2026-11-25 21:00:01,123' in ns since 1970, or midnight; None where some lack one."""
    import pyarrow as pa

    first = text[:20].to_pylist()
    form = next((form for form in _STAMPS if all(each and re.search(form, each) for each in first)), None)
    with suppress(pa.ArrowInvalid):
        return None if form is None else np.concatenate([_stamps_in(form, part) for part in in_slices(text)])
    return None


def _stamps_in(form: str, text: Any) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.replace_substring(pc.struct_field(pc.extract_regex(text, form), "s"), ",", ".")
    if (rewritten := _STAMPS[form]) is not None:
        found = pc.replace_substring_regex(found, *rewritten)
    return numbers_of(found.cast(pa.timestamp("ns")))
