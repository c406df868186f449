"""The one table of what the lab can read, and the function that reads it."""

from __future__ import annotations

import gzip
import io
import json
import re
import stat
import sys
import tempfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from ..errors import MeasurementsError, RecordingError
from ..files import limit_bytes, read_file, too_large
from ..nsight.reports import read_trace
from ..recording import Recording, read_columns
from .measured import Kind, Measured, with_origin
from .names import UNITS_NS
from .numbers import PROGRESS, lines_of, stamps, text_array
from .read_columns import EXPORT, Column, measured_of, unit_in_ns
from .read_logs import read_log, read_pattern
from .read_tables import COMMENTS, find_table, objects_in, read_arrow, read_json, read_table

_HEAD, _FEW = 1 << 16, 200
_SQLITE, _FEATHER, _GZIP = b"SQLite format 3\0", b"ARROW1", b"\x1f\x8b"
_BINARY = (_SQLITE, _FEATHER, b"PAR1", b"\xff\xff\xff\xff")  # the last starts an Arrow stream, an unfinished recording
_DAY_NS = 86_400e9
_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_ESCAPES = re.compile(rb"\x1b(?:\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|\[[0-?]*[ -/]*[@-~]|[@-Z\\^_])")
_CONTROLS = bytes(each for each in (*range(32), 127) if each not in (9, 10, 13))

_MEDIANS = {"latency": "Latency", "enqueue": "Enqueue Time", "h2d": "H2D Latency", "d2h": "D2H Latency"}
_MEDIANS |= {"gpu_compute": "GPU Compute Time"}


@dataclass(frozen=True)
class Format:
    """A kind of text, known by a pattern in its first or last lines.

    `rows` finds a row: its groups are columns, such as 'infer__ms', or 'name' and 'time', which are added up by name.
    """

    name: str
    kind: Kind
    known_by: str
    read: Callable[[str, str, Format], Measured | None]
    rows: str = ""
    export: str = EXPORT
    note: str = ""


def _matches(text: str, pattern: str) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """A column for each group that finds anything, NaN where it does not, and the time stamps."""
    found = [each.groups() for each in re.finditer(pattern, text, re.MULTILINE)]
    cells = dict(zip(re.compile(pattern).groupindex, zip(*found, strict=True), strict=bool(found)))
    clock = _stamped([each or "" for each in cells.pop("when", ())])
    return {name: np.array([*map(_number, each)]) for name, each in cells.items() if any(each)}, clock


def _columns(text: str, file: str, form: Format) -> Measured | None:
    """The groups of the format's pattern, one row a match; None where there are fewer than two."""
    columns, clock = _matches(text, form.rows)
    if not columns or len(next(iter(columns.values()))) < 2:
        return None
    split = {name: name.split("__") for name in columns}
    named = [Column(split[name][0], values, split[name][1] or None) for name, values in columns.items()]
    return measured_of(named, form.name, file, notes=[form.note] if form.note else [], clock_ns=clock)


def _totals(text: str, file: str, form: Format) -> Measured:
    """What calls, layers or events took together by name, in ms."""
    facts: dict[str, float] = {}
    header = re.search(r"(?:Total ?Time|Duration) ?\((\w+)\)", text)
    rows = [each.groupdict() for each in re.finditer(form.rows, text, re.MULTILINE)]
    for found in rows:
        name = (found["name"] or found["last"]).strip()
        scale = UNITS_NS.get(found.get("unit") or (header[1] if header else "ns"), 1.0) / 1e6
        facts[name] = facts.get(name, 0.0) + _number(found["time"].replace(",", "")) * scale
    return _summed(facts, len(rows), file, form)


def _summed(facts: dict[str, float], rows: int, file: str, form: Format) -> Measured:
    kind: Kind = "summary" if form.kind == "frames" else form.kind
    return Measured(kind, form.name, rows_read=rows, origin=file, facts=facts, export=form.export)


def _trtexec(text: str, file: str, form: Format) -> Measured:
    """The averages of each ten runs, if the log has them, and the medians of its summary."""
    times = r"(?P<unit>s|ms|us|ns)"
    facts = {}
    for name, said in [*_MEDIANS.items(), ("latency_max", "Latency")]:
        which = "max" if name == "latency_max" else "median"
        if each := re.search(rf"^(?:.*\] )?{said}: .*{which} = (?P<time>[\d.]+) ?{times}", text, re.MULTILINE):
            facts[name] = _number(each["time"]) * UNITS_NS[each["unit"]] / 1e6
    if rate := re.search(r"Throughput: ([\d.]+) qps", text):
        facts["queries_per_second"] = _number(rate[1])
    columns, clock = _matches(text, form.rows)
    if not columns:
        return _summed(facts, len(facts), file, form)
    series = {name.split("__")[0]: values * 1e6 for name, values in columns.items() if not np.isnan(values).any()}
    notes = ["each row is an average of several runs"]
    if series.pop("end", None) is not None:
        notes.append("'end to end' is not read: it is from one query's start to the result of the next")
    rows = len(columns["gpu_compute__ms"])
    return Measured("frames", form.name, series, clock_ns=clock, rows_read=rows, notes=tuple(notes), facts=facts)


def _deepstream(text: str, file: str, form: Format) -> Measured:
    """Frames a second of each source; the numbers in brackets are averages since the start."""
    lines = re.findall(r"\*\*PERF:(.*)", re.sub(r"\([^)\n]*\)|'[^'\n]*':", " ", text))
    rows = [[*map(float, re.findall(r"(?<![\w.(])(\d+\.?\d*)(?![\w.)])", line))] for line in lines]
    width = max(map(len, rows), default=0)
    if not width:
        raise MeasurementsError(f"{file}: no line of PERF in it has a rate", fix="wait until the pipeline runs")
    names = ["frame", *(f"source {source}" for source in range(1, width))]
    rates = zip(*(row for row in rows if len(row) == width), strict=True)
    columns = [Column(name, np.array(values), "fps") for name, values in zip(names, rates, strict=True)]
    return measured_of(columns, form.name, file)


def _dmon(text: str, file: str, form: Format) -> Measured:
    """One row a sample; of several GPUs the first."""
    lines = [line.split() for line in text.replace("#", "# ", 1).split("\n") if line.strip()]
    header = next(line for line in lines if line[0] == "#" and "gpu" in line)[1:]
    rows = [line for line in lines if len(line) == len(header) and not line[0].startswith("#")]
    gpus = [row[header.index("gpu")] for row in rows]
    of_one = [row for row, gpu in zip(rows, gpus, strict=True) if gpu == gpus[0]]
    cells = dict(zip(header, zip(*of_one, strict=True), strict=True))
    when = [cells.pop(name) for name in ("Date", "Time") if name in cells]
    notes = [f"GPU {gpus[0]} of {len(set(gpus))}"] if len(set(gpus)) > 1 else []
    columns = [Column(name, np.array([*map(_number, each)])) for name, each in cells.items() if name != "gpu"]
    clock = _stamped([" ".join(each) for each in zip(*when, strict=True)])
    return measured_of(columns, form.name, file, notes=notes, clock_ns=clock)


def _objects(text: str, file: str, form: Format) -> list[Any]:
    """The objects of a profile in JSON; a profile that breaks off lacks its last bracket."""
    for ending in ("", "]", "]}"):
        with suppress(ValueError, RecursionError):
            return objects_in(json.loads(text.rstrip().rstrip(",") + ending if ending else text))
    what = f"{file}: it looks like {form.name}, and its JSON breaks off or is damaged"
    raise MeasurementsError(what, fix="take it again")


def _of_objects(text: str, file: str, form: Format) -> Measured:
    """Times of layers or events by name, of a profile in JSON."""
    key, scale = ("dur", 1e-3) if form.kind == "events" else ("averageMs", 1.0)
    facts: dict[str, float] = {}
    rows = [each for each in _objects(text, file, form) if isinstance(each.get(key), int | float)]
    for each in rows:
        facts[str(each.get("name"))] = facts.get(str(each.get("name")), 0.0) + each[key] * scale
    return _summed(facts, len(rows), file, form)


def _export_times(text: str, file: str, form: Format) -> Measured:
    """One query a row: its latency, the enqueue call on the host, and what the GPU took for copies and compute."""
    rows = _objects(text, file, form)
    known = {"latencyMs": "latency", "computeMs": "gpu_compute", "h2dMs": "h2d", "d2hMs": "d2h"}
    try:
        series = {name: np.array([row[key] for row in rows]) for key, name in known.items() if key in rows[0]}
        if {"startEnqMs", "endEnqMs"} <= rows[0].keys():
            series["enqueue"] = np.array([row["endEnqMs"] - row["startEnqMs"] for row in rows])
        series = {name: values.astype(np.float64) * 1e6 for name, values in series.items()}
        if bad := [name for name, values in series.items() if not (values >= 0).all()]:
            raise ValueError(f"{bad[0]} below 0 in query {int((~(series[bad[0]] >= 0)).argmax()) + 1}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{file}: a query of trtexec in it is damaged: {error!r}"
        raise MeasurementsError(what, fix="export it again") from None
    return Measured("frames", form.name, series, rows_read=len(rows), origin=file)


_NAMED = r"\"?(?P<name>[A-Za-z_\[(<].*?)\"?\s*$"
_NSYS_ROW = rf"^\s*[\d.]+[,\s]+(?P<time>\d{{1,3}}(?:,\d{{3}})+(?=\s)|\d+)(?:[,\s]+[\d.,]*?\d){{2,}}[,\s]+{_NAMED}"
_TRACE_ROW = (
    r"^\s*[\d.]+[,\s]+(?P<time>[\d.]+)"
    r"(?:,(?P<name>[A-Za-z][^,]*),|[,\s].*[,\s]{2}?\"?(?P<last>[A-Za-z_\[(<][^,]*?)\"?\s*$)"
)
_NVPROF_ROW = r"^.*?[\d.]+%\s+(?P<time>[\d.]+)(?P<unit>s|ms|us|ns)\s+\d+\s+\S+\s+\S+\s+\S+\s+(?P<name>\S.*)$"
_NVPROF_TRACE = r"^\s*[\d.]+m?s\s+(?P<time>[\d.]+)(?P<unit>ms|us|ns|s)\s.*?(?P<name>[A-Za-z_\[][^\d\s].*)$"
_TORCH_ROW = r"^\s*(?P<name>\S.*?)\s{2,}[\d.]+ ?%\s+(?P<time>[\d.]+)(?P<unit>s|ms|us)\b.*$"
_LAYER_ROW = (
    r"^(?:\[[^\]]*\] \[\w\] )?\s*(?:layer )?(?P<name>\S.*?)[\s:|]+(?:consuming |took )?"
    r"(?P<time>\d+\.\d+) ?(?P<unit>ms|us)\b.*$"
)
_LAYER = (
    r"Unnamed Layer\*|=== Profile \(|Reformatting CopyNode|\bPWN\(|\[(?:Convolution|Activation|ElementWise|Pooling)\]"
)
_ORT = r'"ph" ?: ?"X".*?"(?:op_name|model_run|session_initialization)"|"cat" ?: ?"Session"'
_EXPORT_TIMES = "trtexec --loadEngine=ENGINE --exportTimes=times.json"
_SQLITE_EXPORT = "nsys export --type sqlite --output report.sqlite REPORT.nsys-rep"
_TRTEXEC = r"Average on \d+ runs - GPU|=== Performance summary|Throughput: [\d.]+ qps"
_QUERIES = r'\A\s*\[\s*\{[^{}]*"(?:latencyMs|startComputeMs)"'
_PROFILE = r'\A\s*\[\s*\{ ?"count" ?: ?\d+|"averageMs" ?: '
_NSYS_TRACE = r"^\s*\"?Start ?\(\w+\)\"?[\s,]+\"?Duration ?\(\w+\)"
_NVPROF_START = r"^\s*\"?Start\"?[\s,]+\"?Duration\"?[\s,]"
_NVPROF = r"==\d+== (?:NVPROF|Profiling)|Time\(%\)\s+Time\s+Calls"
_TEGRASTATS = r"\bRAM \d+/\d+MB.*(?:GR3D_FREQ|EMC_FREQ|CPU \[)"
_TEGRASTATS_ROW = (
    r"^(?P<when>\d\d-\d\d-\d{4} \d\d:\d\d:\d\d)?(?=.*\bRAM (?P<gpu_memory_used_bytes__mib>\d+)/\d+MB)"
    r"(?:(?=.*GR3D_FREQ (?P<gpu_utilisation_percent__>\d+)%))?(?:(?=.*GR3D_FREQ \d+%@\[?(?P<sm_clock_mhz__>\d+)))?"
    r"(?:(?=.*EMC_FREQ \d+%@(?P<memory_clock_mhz__>\d+)))?(?:(?=.*\b[Gg][Pp][Uu]@(?P<temperature_c__>[\d.]+)C))?"
    r"(?:(?=(?:.*(?:VDD_GPU_SOC|VDD_GPU|VDD_CPU_GPU_CV|POM_5V_GPU)|.*?(?:VDD_IN|POM_5V_IN)) "
    r"(?P<power_w__mw>\d+)(?:mW)?/))?"
)
_SPEED = r"Speed: [\d.]+ ?ms pre-?process"
_SPEED_ROW = (
    r"Speed: (?P<preprocess__ms>[\d.]+) ?ms pre-?process, (?P<infer__ms>[\d.]+) ?ms inference, (?:[\d.]+ ?ms loss, )?"
    r"(?P<postprocess__ms>[\d.]+) ?ms (?:postprocess|NMS)"
)
_SIZED = r"^.*?: ?\d+x\d+ .*[\d.]+ ?ms\)?\s*$"
_SIZED_ROW = r"^.*?\b\d+x\d+ .*?,? \(?(?P<frame__ms>[\d.]+) ?ms\)?\s*$"
_SIZED_NOTE = "the frame is the inference: ultralytics prints nothing else on these lines"
_AVERAGE_ROW = (
    r"^(?P<when>.*)Average on \d+ runs - GPU latency: (?P<gpu_compute__ms>[\d.]+) ms"
    r"(?: - Host latency: (?P<latency__ms>[\d.]+) ms)?"
    r"(?: \((?:end to end (?P<end__ms>[\d.]+) ms, )?enqueue (?P<enqueue__ms>[\d.]+) ms\))?"
)
_SINK = r"rendered: \d+, dropped: \d+, current: "
_SINK_ROW = _SINK + r"(?P<frame__fps>[\d.]+)"
_DMON = r"^# ?(?:Date\s+)?(?:Time\s+)?gpu\b"
_JETSON = "a Jetson's memory is one for the CPU and the GPU"
# fmt: off
FORMATS = (
    Format("trtexec log", "frames", _TRTEXEC, _trtexec, _AVERAGE_ROW, _EXPORT_TIMES),
    Format("trtexec --exportTimes", "frames", _QUERIES, _export_times),
    Format("trtexec --exportProfile", "layers", _PROFILE, _of_objects, export=_EXPORT_TIMES),
    Format("profile of ONNX Runtime", "events", _ORT, _of_objects),
    Format("Chrome trace", "events", r'"traceEvents"|"ph" ?: ?"[XB]"', _of_objects),
    Format("nsys stats, a trace", "events", _NSYS_TRACE, _totals, _TRACE_ROW, _SQLITE_EXPORT),
    Format("nsys stats, a summary", "summary", r"Time ?\(%\).{1,9}Total ?Time", _totals, _NSYS_ROW, _SQLITE_EXPORT),
    Format("nvprof, a trace", "events", _NVPROF_START, _totals, _NVPROF_TRACE, _SQLITE_EXPORT),
    Format("nvprof, a summary", "summary", _NVPROF, _totals, _NVPROF_ROW, _SQLITE_EXPORT),
    Format("torch.profiler, a summary", "summary", r"Self C(?:PU|UDA) ?%|CPU time avg", _totals, _TORCH_ROW),
    Format("DeepStream PERF", "rates", r"^\W*\*\*PERF:", _deepstream),
    Format("GStreamer fpsdisplaysink", "rates", _SINK, _columns, _SINK_ROW),
    Format("tegrastats", "telemetry", _TEGRASTATS, _columns, _TEGRASTATS_ROW, note=_JETSON),
    Format("nvidia-smi dmon", "telemetry", _DMON, _dmon),
    Format("ultralytics lines", "frames", _SPEED, _columns, _SPEED_ROW),
    Format("ultralytics lines", "frames", _SIZED, _columns, _SIZED_ROW, note=_SIZED_NOTE),
    Format("layers of a network", "layers", _LAYER, _totals, _LAYER_ROW, _EXPORT_TIMES),
)
# fmt: on
"""What is known by a pattern in its first or last lines, in the order in which it is tried. Besides these: recordings
of the lab, Parquet, Arrow, reports of Nsight Systems, JSON and tables by their names, and log lines."""


def read(
    source: str | Path, unit: str | None = None, pattern: str | None = None,
    progress: Callable[[float], None] | None = None,
) -> Measured:  # fmt: skip
    """What a file holds, whoever wrote it; `source` is its path, or '-' for what comes by a pipe.

    `unit` ('ms', 'us', 'ns', 's') is that of times for which the file names none. `pattern` is a regular expression
    whose named groups are the columns, such as r"net=(?P<infer_ms>[0-9.]+)". `kind` says whether it is frames at all.
    `progress` is told the share of what is done, which starts from 0 again with each turn over the file.

    MeasurementsError, with the place, for what can't be read; TraceError for a damaged report; SettingsError for
    another unit or pattern.

    >>> import yolotrt_lab as lab
    >>> read(lab.lab_path("data", "recordings", "h200", "overload.parquet")).format
    'recording of the lab'
    """
    PROGRESS.set(progress or (lambda share: None))
    if unit is not None:
        unit_in_ns(unit)
    path = None if str(source) == "-" else Path(source)
    file = path.name if path else "standard input"
    if path and (path.suffix in (".nsys-rep", ".qdrep") or _starts(path, _SQLITE)):
        return _of_trace(path, file)
    data = _bytes(path, file)
    if not data.startswith(_BINARY):
        return read_text(data, file, unit, pattern)
    with tempfile.TemporaryDirectory() as folder:  # what came by a pipe or was compressed
        if path is None or not path.is_file() or path.suffix == ".gz":
            path = Path(folder) / "piped"
            path.write_bytes(data)
        return _of_trace(path, file) if data.startswith(_SQLITE) else _of_parquet(path, file, unit)


def read_text(data: bytes, file: str = "text", unit: str | None = None, pattern: str | None = None) -> Measured:
    """The same for the bytes of a text."""
    data = _clean(_utf8(data, file))
    first = next((line.strip() for line in data[:_HEAD].decode("utf-8", "replace").split("\n") if line.strip()), "")
    if not first:
        raise MeasurementsError(f"{file}: it must have lines, got none", fix="name another file")
    told = first.startswith(COMMENTS) and not re.match(r"#\s*(?:Date\s+)?(?:Time\s+)?gpu\b", first)
    comment = first.lstrip("#/% ").strip()[:100] if told else ""
    found = _read_clean(data, file, unit, pattern)
    return replace(found, origin="; ".join(filter(None, [file, comment])))


def _read_clean(data: bytes, file: str, unit: str | None, pattern: str | None) -> Measured:
    import pyarrow.compute as pc

    if pattern is not None:
        return read_pattern(data.decode(), pattern, file, unit)
    ends = (data[:_HEAD] + b"\n" + data[-_HEAD:]).decode("utf-8", "replace")
    for form in FORMATS:
        if re.search(form.known_by, ends, re.MULTILINE) and (found := form.read(data.decode(), file, form)) is not None:
            return found
    head = data[:_HEAD].decode("utf-8", "replace").split("\n")
    head = head if len(data) <= _HEAD else head[:-1]
    if head[0].lstrip()[:1] in ("{", "[") and (found := read_json(data.decode(), file, unit)):
        return found
    if table := find_table(head[:_FEW]):
        return read_table(data, table, file, unit)
    lines = lines_of(data)
    if any(line.lstrip().startswith(COMMENTS) for line in head):
        lines = lines.filter(pc.invert(pc.match_substring_regex(lines, r"^\s*(#|//|%)")))
    return read_log(lines, file, unit)


def _starts(path: Path, mark: bytes) -> bool:
    """True for a file that begins so: SQLite reads its own files, of any size."""
    with suppress(OSError, ValueError):
        if stat.S_ISREG(path.stat().st_mode):
            with path.open("rb") as file:
                return file.read(len(mark)) == mark
    return False


def _bytes(path: Path | None, file: str) -> bytes:
    """All of it, within the limit of `read_file`; what is compressed, decompressed."""
    try:
        data = read_file(path or sys.stdin.buffer, file, MeasurementsError)
        if data.startswith(_GZIP):
            with gzip.open(io.BytesIO(data)) as opened:
                return read_file(cast(BinaryIO, opened), file, MeasurementsError)
        return data
    except (OSError, EOFError, zlib.error) as error:
        what = f"{file} cannot be read: {getattr(error, 'strerror', None) or error}"
        damaged = isinstance(error, (EOFError, zlib.error, gzip.BadGzipFile))
        there = f"check its name; it was looked for in {Path.cwd()}"
        raise MeasurementsError(what, fix="copy it again: it is damaged or cut off" if damaged else there) from error
    except ValueError as error:  # a name with a NUL in it
        raise MeasurementsError(f"{str(path)!r} is no name of a file: {error}", fix="name another file") from error


def _utf8(data: bytes, file: str) -> bytes:
    """The text as UTF-8, by its byte order mark, else from UTF-16 where every other byte is 0, or from GBK."""
    encoding = next((name for mark, name in _BOMS if data.startswith(mark)), None)
    if encoding:
        data = data[3 if encoding == "utf-8" else 2 :]
    head = data[:1_000]
    for start, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        if (
            not encoding
            and len(head) > 3
            and head[start::2].count(0) > 0.2 * len(head)
            and not head[1 - start :: 2].count(0)
        ):
            encoding = name
    for name in (encoding,) if encoding else ("utf-8", "gb18030"):
        with suppress(UnicodeDecodeError):
            text = data.decode(name)
            if "\0" not in text:
                return data if name == "utf-8" else text.encode()
    text = data.decode("utf-8", "replace")
    line = text[: min(each for each in (text.find("\0"), text.find("\ufffd"), len(text)) if each >= 0)].count("\n") + 1
    what = (
        f"{file}: line {line}: it must be text in UTF-8, UTF-16 or GBK, or Parquet, Arrow or a report of Nsight Systems"
    )
    raise MeasurementsError(what, fix="write it as CSV or as lines of text in UTF-8")


def _clean(data: bytes) -> bytes:
    """The text without colours and other control characters, its lines ended by newlines alone."""
    if b"\x1b" in data:
        data = _ESCAPES.sub(b"", data)
    data = data.translate(None, _CONTROLS)
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def _of_parquet(path: Path, file: str, unit: str | None) -> Measured:
    """A recording of the lab where the file carries its metadata, else the columns whose names are known."""
    import pyarrow as pa
    from pyarrow import ipc

    try:
        with path.open("rb") as opened:
            if opened.read(len(_FEATHER)) == _FEATHER:
                return read_arrow(_arrow(ipc.open_file(opened), file), file, unit)
        columns, metadata = read_columns(path)
        if metadata is not None:
            return with_origin(Measured.of(Recording.load(path)), file)
        return read_arrow(pa.table(columns), file, unit)
    except MeasurementsError as error:
        raise MeasurementsError(f"{file}: {error.message.removeprefix(f'{file}: ')}", fix=error.fix) from None
    except (RecordingError, pa.ArrowException, OSError, ValueError, TypeError) as error:
        why = str(getattr(error, "message", error)).splitlines()[0][:200]
        what = f"{file} is no readable Parquet or Arrow file: {why}"
        fix = getattr(error, "fix", "") or "it is damaged or cut off: take another copy, or record again"
        raise MeasurementsError(what, fix=fix) from error


def _arrow(reader: Any, file: str) -> Any:
    """The table in an Arrow file; a compressed one is larger than its file."""
    import pyarrow as pa

    batches, nbytes = [], 0
    for number in range(reader.num_record_batches):
        batches.append(reader.get_batch(number))
        if (nbytes := nbytes + batches[-1].nbytes) > limit_bytes():
            raise too_large(f"{file}: the table", nbytes, MeasurementsError)
    return pa.Table.from_batches(batches, reader.schema)


def _of_trace(path: Path, file: str) -> Measured:
    """A report of Nsight Systems; whether it has frames, the bill finds out."""
    try:
        trace = read_trace(path)
    except (TypeError, ValueError, OverflowError, KeyError, IndexError) as error:  # values that no report has
        fix = "export it again with nsys export --type sqlite"
        raise MeasurementsError(
            f"{file} must be a whole report of Nsight Systems, got a damaged one: {error}", fix=fix
        ) from error
    rows = sum(trace.count(table) for table in ("kernels", "copies", "api"))
    return Measured(
        "events", "report of Nsight Systems", rows_read=rows, origin=f"{file}; {trace.source.stamp}", trace=trace
    )


def join(measured: Measured, telemetry: Measured) -> Measured:
    """The frames with the latest sample of the telemetry at each, by the time stamps of both.

    MeasurementsError where one has no time stamps, or where they don't overlap.

    >>> frames = read_text(b"21:00:02.500 infer: 7.9 ms\\n21:00:03.500 infer: 9.1 ms\\n")
    >>> clock = read_text(b"timestamp, clocks.sm [MHz]\\n21:00:02.000, 1980\\n21:00:03.000, 1410\\n")
    >>> join(frames, clock).telemetry["sm_clock_mhz"].tolist()
    [1980.0, 1410.0]
    """
    for each in (measured, telemetry):
        if each.clock_ns is None:
            what = f"{each.origin}: rows must have time stamps to be joined, got none"
            raise MeasurementsError(
                what, fix="print the time of day in each row: nvidia-smi dmon -o DT, or --query-gpu=timestamp"
            )
    at, samples = np.asarray(measured.clock_ns), np.asarray(telemetry.clock_ns)
    if min(at[0], samples[0]) < _DAY_NS:  # one of them has no dates
        at, samples = at % _DAY_NS, samples % _DAY_NS
    last = np.searchsorted(samples, at, side="right") - 1
    held = (last >= 0) & (at <= samples[-1] + 2 * float(np.median(np.diff(samples))) if len(samples) > 1 else last >= 0)
    if not held.any():
        begun, ended = (
            np.datetime_as_string(np.array([each[0], each[-1]]).astype("datetime64[ns]"), "s") for each in (at, samples)
        )
        what = f"the telemetry must be of the time of the frames, {' to '.join(begun)}, got {' to '.join(ended)}"
        raise MeasurementsError(what, fix="take both on the same clock, at the same time")
    columns = {name: np.where(held, values[last], np.nan) for name, values in telemetry.telemetry.items()}
    lost = int((~held).sum())
    notes = (*measured.notes, f"telemetry of {telemetry.origin}" + (f", which {lost:,} frames lack" if lost else ""))
    return replace(measured, telemetry={**measured.telemetry, **columns}, notes=notes)


def _stamped(texts: Sequence[str]) -> np.ndarray | None:
    return stamps(text_array(texts)) if texts else None


def _number(cell: str | None) -> float:
    try:
        return float(cell or "nan")
    except ValueError:
        return np.nan
