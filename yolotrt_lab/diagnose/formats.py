"""The one table of what the lab can read, and the function that reads it."""

from __future__ import annotations

import csv
import gzip
import io
import re
import stat
import sys
import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from ..errors import MeasurementsError, RecordingError, SettingsError
from ..files import read_file
from ..recording import ARROW_STARTS, METADATA_KEY, Recording, read_arrow
from .columns import EXPORT, Column, Reading, measured_of
from .measured import Kind, Measured
from .table_files import COMMENTS, DMON, find_table, names_a_time, objects_of, of_arrow, of_rows, read_json, read_table
from .words import PROGRESS, TIME_UNITS, UNITS_NS, byte_blocks, split_unit

_HEAD, _FEW = 1 << 16, 200
_SQLITE, _GZIP = b"SQLite format 3\0", b"\x1f\x8b"
_BINARY = (_SQLITE, *ARROW_STARTS)
_ESCAPES = rb"\x1b(?:\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|\[[0-?]*[ -/]*[@-~]|[@-Z\\^_])"
_CONTROLS = bytes(each for each in (*range(32), 127) if each not in (9, 10, 13))
_SUMMARY = {"latency": "Latency", "enqueue": "Enqueue Time", "h2d": "H2D Latency", "d2h": "D2H Latency"}
_SUMMARY |= {"gpu_compute": "GPU Compute(?: Time)?"}
_QUERY = {
    "latency": ("latencyMs",),
    "gpu_compute": ("computeMs",),
    "upload": ("h2dMs", "inMs"),  # the second as older versions of trtexec call it
    "download": ("d2hMs", "outMs"),
    "due": ("startEnqMs",),
    "infer": ("endEnqMs",),
    "start": ("startH2dMs", "startInMs", "startComputeMs"),
    "done": ("endD2hMs", "endOutMs", "endComputeMs"),
}
_OF_GPU = {"upload": "h2d", "infer": "enqueue", "download": "d2h"}
"""What trtexec measures of these stages: copies on the GPU, and the enqueue call."""
_TOOK = re.compile(r"Total ?Time|Duration|Kernel Dur|Time(?! ?\()")
_CSV_OF_CALLS = re.compile(
    rf'^"?(?:Time|Start|Type|API Start)\b[^\n,]*,(?:[^\n]*,)?"?(?:{_TOOK.pattern})[^\n]*$', re.MULTILINE
)
"""The header of a table of calls, and its column of times."""
_JETSON = {"GPU": "gpu_utilisation_percent", "Temp GPU": "temperature_c", "(?:Power TOT|power cur)": "power [mW]"}


@dataclass(frozen=True)
class Format:
    """A kind of text, known by a pattern in its first or last lines.

    `rows` finds a row: its groups are columns, such as 'infer_ms', or 'name' and 'time', which are added up by name.
    """

    name: str
    kind: Kind
    read: Callable[[str, Format, Reading], Measured | None] | None
    """None where it is read as a table is."""
    known_by: str = ""
    """'' for a row of it."""
    rows: str = ""
    export: str = EXPORT
    note: str = ""


def _columns(text: str, form: Format, reading: Reading) -> Measured | None:
    """The groups of the format's pattern, a row a match; None for fewer than two."""
    rows = _grouped(re.compile(form.rows, re.MULTILINE), text)
    if len(rows) < 2:
        return None
    reading.notes += [form.note] * bool(form.note)
    return of_rows(rows, reading)


def _pattern(text: str, pattern: str, reading: Reading) -> Measured:
    """The groups of the user's expression, one column a name."""
    try:
        compiled = re.compile(pattern, re.MULTILINE)
    except re.error as error:
        what = f"the pattern must be a regular expression, got {pattern!r}: {error}"
        fix = r"write a bracket of the log as \( or \[; a time is (?P<infer_ms>[0-9.]+)"
        raise SettingsError(what, fix=fix) from None
    if not compiled.groupindex:
        raise SettingsError(f"the pattern must have named groups, got {pattern!r}", fix="write (?P<infer_ms>[0-9.]+)")
    if not any(rows := _grouped(compiled, text)):
        raise reading.error(f"no line matches the pattern {pattern!r}", "try it on one line of the file")
    reading.form, reading.where, reading.of_times = f"the pattern {pattern}", lambda row: f"match {row + 1}", True
    return of_rows(rows, reading)


def _grouped(pattern: re.Pattern[str], text: str) -> list[dict[str, str]]:
    """Rows of what the groups hold, with the unit behind it; a row ends where a name comes again."""
    unit = re.compile(rf"\s*[(\[]?({TIME_UNITS})(?![A-Za-z])", re.IGNORECASE)
    rows: list[dict[str, str]] = [{}]
    for match in pattern.finditer(text):
        for name, value in match.groupdict().items():
            if value is not None:
                behind = split_unit(name)[1] is None and unit.match(text, match.end(name))
                if name in rows[-1]:
                    rows.append({})
                rows[-1][name] = f"{value} {behind[1]}" if behind else value
    return rows


def _totals(text: str, form: Format, reading: Reading) -> Measured:
    """What calls, layers or events took together by name, in lines or in JSON."""
    facts: dict[str, float] = {}
    for name, took in _named(text, form) if form.rows else _profiled(text, form, reading):
        facts[name] = facts.get(name, 0.0) + took
    if not facts:
        raise reading.error(f"it looks like {form.name}, and no row of it can be read", f"take a series: {form.export}")
    return _summary(facts, form, reading)


def _summary(facts: Mapping[str, float], form: Format, reading: Reading) -> Measured:
    kind = "summary" if form.kind == "frames" else form.kind
    return Measured(kind, form.name, notes=tuple(reading.notes), origin=reading.file, facts=facts, export=form.export)


def _named(text: str, form: Format) -> Iterator[tuple[str, float]]:
    """Names with times in ms, of lines or of CSV."""
    if header := _CSV_OF_CALLS.search(text):
        with suppress(csv.Error):
            yield from _named_in_csv(text[header.start() :].split("\n"))
        return
    rows, told = re.compile(form.rows, re.MULTILINE), re.search(r"(?:Time|Duration|time in) ?\(?(\w+)\)", text)
    key = next(each for each in rows.groupindex if each.startswith("time"))
    for found in map(re.Match.groupdict, rows.finditer(text)):
        unit = found.get("unit") or split_unit(key)[1] or (told[1] if told else "ns")
        name = re.sub(r" \[\d+\]$", "", " ".join((found["name"] or found["last"]).split()))  # nvprof's correlation
        with suppress(ValueError):  # '1.2.3'
            yield name, float(found[key].replace(",", "")) * UNITS_NS.get(unit, 1.0) / 1e6


def _named_in_csv(lines: Sequence[str]) -> Iterator[tuple[str, float]]:
    """The same of what nsys stats and nvprof write as CSV; nvprof has the units in a row of their own."""
    names, *rows = csv.reader(lines)
    took = next((place for place, name in enumerate(names) if _TOOK.match(name)), 0)
    called = names.index("Name") if "Name" in names else len(names) - 1
    unit = split_unit(names[took])[1] or ""
    for row in rows:
        if len(row) == len(names):
            unit = row[took] if row[took] in UNITS_NS else unit
            with suppress(ValueError):
                yield row[called], float(row[took]) * UNITS_NS.get(unit, 1.0) / 1e6


def _profiled(text: str, form: Format, reading: Reading) -> Iterator[tuple[str, float]]:
    """The same of a profile in JSON."""
    key, scale = ("dur", 1e-3) if form.kind == "events" else ("averageMs", 1.0)
    for each in _objects(text, form, reading):
        if isinstance(each.get(key), int | float):
            yield str(each.get("name")), each[key] * scale


def _objects(text: str, form: Format, reading: Reading) -> list[Mapping[str, Any]]:
    """The objects of a profile in JSON."""
    objects, note = objects_of(text)
    if not objects:
        raise reading.error(f"it looks like {form.name}, and its JSON breaks off or is damaged", "take it again")
    reading.notes += [note] * bool(note)
    return objects


def _trtexec(text: str, form: Format, reading: Reading) -> Measured:
    """The averages of each ten runs, if the log has them, and the medians of its summary."""
    facts = {}
    for name, said, which in [*((*each, "median") for each in _SUMMARY.items()), ("latency_max", "Latency", "max")]:
        value = rf"(?:: .*{which} = |\n(?:.*\n){{0,4}}?.*\b{which}: )(\d+\.?\d*) ?(s|ms|us|ns)"
        if each := re.search(rf"^(?:.*\] )?(?:Host )?{said} ?{value}", text, re.MULTILINE):
            facts[name] = float(each[1]) * UNITS_NS[each[2]] / 1e6
    rate = re.search(r"[Tt]hroughput: (\d*[1-9][\d.]*) qps", text)
    told = [f"{rate[1]} queries a second"] if rate else []
    if (found := _columns(text, form, reading)) is None:
        reading.notes += told
        return _summary(facts, form, reading)
    if "(end to end" in text:
        told.append("'end to end' is not read: it is from one query's start to the result of the next")
    return replace(_of_gpu(found), facts=facts, notes=(*found.notes, *told))


def _of_gpu(found: Measured) -> Measured:
    """The times that trtexec measures under its names: copies on the GPU are no calls of the host."""
    return replace(found, times_ns={_OF_GPU.get(name, name): values for name, values in found.times_ns.items()})


def _export_times(text: str, form: Format, reading: Reading) -> Measured:
    """One query a row: when it was enqueued and the GPU worked on it, and how long each took."""
    rows = _objects(text, form, reading)
    keys = {name: next((key for key in keys if key in rows[0]), None) for name, keys in _QUERY.items()}
    try:
        read = {name: np.array([row[key] for row in rows], np.float64) for name, key in keys.items() if key}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise reading.error(f"a query of trtexec in it is damaged: {error!r}", "export it again") from None
    if {"infer", "due"} <= read.keys():
        read["infer"] = read["infer"] - read["due"]
    reading.where = lambda row: f"query {row + 1}"
    found = _of_gpu(measured_of([Column(name, values, "ms") for name, values in read.items()], reading))
    times = {name: found.times_ns[name] for name in (*_SUMMARY,) if name in found.times_ns}
    return replace(found, times_ns=times, facts={name: float(np.median(each)) / 1e6 for name, each in times.items()})


def _jetson_stats(text: str, form: Format, reading: Reading) -> Measured:
    """The table that the logger of jetson-stats (jtop) writes; its power is in mW."""
    names, _, rows = text.partition("\n")
    for name, telemetry in _JETSON.items():
        names = re.sub(rf"(?i)(?<![^,]){name}(?![^,])", telemetry, names)
    table = find_table([names, *rows.split("\n", _FEW)[:_FEW]])
    if table is None:
        raise reading.error("it names columns as jetson-stats does, and no row follows", "copy the rows too")
    return read_table(f"{names}\n{rows}".encode(), table, reading)


def _deepstream(text: str, form: Format, reading: Reading) -> Measured:
    """Frames a second of each source; the numbers in brackets are averages since the start."""
    lines = re.findall(r"\*\*PERF:(.*)", re.sub(r"\([^)\n]*\)|'[^'\n]*':|FPS \d+", " ", text))
    rows = [re.findall(r"(?<![\w.(])(\d+\.?\d*)(?![\w.)])", line) for line in lines]
    width = max(map(len, rows), default=0)
    if not width:
        raise reading.error("no line of PERF in it has a rate", "wait until the pipeline runs")
    names = ["frame [fps]", *(f"source {source} [fps]" for source in range(1, width))]
    return of_rows([dict(zip(names, row, strict=True)) for row in rows if len(row) == width], reading)


_EXPORT_TIMES = "trtexec --loadEngine=ENGINE --exportTimes=times.json"
_SQLITE_EXPORT = "nsys export --type sqlite --output report.sqlite REPORT.nsys-rep"
# fmt: off
FORMATS = (
    Format("trtexec log", "frames", _trtexec, export=_EXPORT_TIMES, note="each row is an average of several runs",
           known_by=r"Average on \d+ runs - GPU|=== Performance summary|(?:^|\] )Throughput: [\d.]+ qps",
           rows=r"^(?P<when>\S*\d\d:\d\d:\d\d\S*)?.*?Average on \d+ runs - GPU latency: (?P<gpu_compute_ms>[\d.]+) ms"
                r"(?: - Host latency: (?P<latency_ms>[\d.]+) ms)?"
                r"(?: \((?:end to end [\d.]+ ms, )?enqueue (?P<enqueue_ms>[\d.]+) ms\))?"),
    Format("trtexec --exportTimes", "frames", _export_times,
           known_by=r'\A\s*\[\s*\{[^{}]*"(?:latencyMs|startComputeMs)"'),
    Format("trtexec --exportProfile", "layers", _totals, export=_EXPORT_TIMES,
           known_by=r'\A\s*\[\s*\{ ?"count" ?: ?\d+|"averageMs" ?: '),
    Format("profile of ONNX Runtime", "events", _totals,
           known_by=r'"ph" ?: ?"X".*?"(?:op_name|model_run|session_initialization)"|"cat" ?: ?"Session"'),
    Format("Chrome trace", "events", _totals, known_by=r'"traceEvents"|"ph" ?: ?"[XB]"'),
    Format("nsys stats, a trace", "events", _totals, export=_SQLITE_EXPORT,
           known_by=r"^\s*\"?(?:Start ?\(\w+\)\"?[\s,]+\"?Duration|API Start ?\(\w+\),API Dur) ?\(\w+\)",
           rows=r"^\s*[\d.,]+\s+(?P<time>[\d.,]+)\s+(?:(?P<name>[A-Za-z_]\w*)\s|.* {2}(?P<last>\S.*)$)"),
    Format("nsys stats, a summary", "summary", _totals, export=_SQLITE_EXPORT,
           known_by=r"Time ?\(%\).{1,9}Total ?Time",
           rows=r"^\s*[\d.]+\s+(?P<time>[\d,]+)(?:\s+[\d.,]+){2,}\s+(?:PushPop\s+|StartEnd\s+)?(?P<name>\S.*)$"),
    Format("nvprof, a trace", "events", _totals, export=_SQLITE_EXPORT,
           known_by=r"^\s*\"?Start\"?[\s,]+\"?Duration\"?[\s,]",
           rows=r"^\s*[\d.]+m?s\s+(?P<time>[\d.]+)(?P<unit>ms|us|ns|s)(?=\s).* {2}(?P<name>\S.*)$"),
    Format("nvprof, a summary", "summary", _totals, export=_SQLITE_EXPORT,
           known_by=r"==\d+== (?:NVPROF|Profiling)|Time\(%\)\s+Time\s+Calls",
           rows=r"^.*?[\d.]+%\s+(?P<time>[\d.]+)(?P<unit>s|ms|us|ns)\s+\d+\s+\S+\s+\S+\s+\S+\s+(?P<name>\S.*)$"),
    Format("torch.profiler, a summary", "summary", _totals,
           known_by=r"Self C(?:PU|UDA) ?%|CPU time avg|^\S+(?: +[\d.]+% +[\d.]+[um]s){2} ",
           rows=r"^[\s|]*(?P<name>\S.*?)(?:\s{2}|\s\|)[\s|]*[\d.]+ ?%[\s|]+(?P<time>[\d.]+)(?P<unit>s|ms|us)\b.*$"),
    Format("MLPerf", "summary", _totals, known_by=r"^MLPerf Results Summary",
           rows=r"^(?P<name>[\w. ]*latency[\w ]*?) *\(ns\) *: (?P<time_ns>\d+)"),
    Format("cProfile", "summary", _totals, known_by=r"^\s*ncalls\s+tottime",
           rows=r"^\s*[\d/]+\s+[\d.]+\s+[\d.]+\s+(?P<time_s>[\d.]+)\s+[\d.]+\s+(?P<name>\S.*)$"),
    Format("line_profiler", "summary", _totals, known_by=r"^Line #\s+Hits\s+Time",
           rows=r"^Total time: (?P<time_s>[\d.e-]+) s\nFile: .*\nFunction: (?P<name>.*)$"),
    Format("Google Benchmark", "summary", _totals, known_by=r"^Benchmark\s+Time\s+CPU",
           rows=r"^(?P<name>\S+)\s+(?P<time>[\d.e+]+) (?P<unit>ns|us|ms|s)\s+[\d.e+]+ (?:ns|us|ms|s)\b"),
    Format("pytest-benchmark", "summary", _totals, known_by=r"^Name \(time in \w+\)",
           rows=r"^(?P<name>test\S*)(?:\s+[\d.,]+(?: \([\d.,>]+\))?){2}\s+(?P<time>[\d.,]+)"),
    Format("perf_analyzer", "summary", _totals,
           known_by=r"^\*\*\* Measurement Settings|^Inferences/Second vs|^(?:Request c|C)oncurrency: \d",
           rows=r"^(?P<name>[A-Z][\w ]*: [\d.]+), throughput: .*latency (?P<time>[\d.]+) (?P<unit>usec)"),
    Format("OpenVINO's benchmark_app", "summary", _totals, known_by=r"^(?:\[ INFO \] )?Count: +\d+ iterations",
           rows=r"^(?:\[ INFO \] )?\s*(?P<name>Duration|Latency|Median|Average|Min|Max): +(?P<time_ms>[\d.]+) ms"),
    Format("wrk", "summary", _totals, known_by=r"^\s*Thread Stats\s+Avg",
           rows=r"^\s*(?P<name>Latency|\d\d%)\s+(?P<time>[\d.]+)(?P<unit>us|ms|s)\b"),
    Format("hey", "summary", _totals, known_by=r"\ASummary:\s+Total:\s+[\d.]+ secs",
           rows=r"^\s*(?P<name>Total|Slowest|Fastest|Average):\s+(?P<time>[\d.]+) (?P<unit>secs)"),
    Format("perf stat", "summary", _totals, known_by=r"^\s*Performance counter stats for",
           rows=r"^\s*(?P<time>[\d,.]+) (?P<unit>msec|seconds) (?P<name>task-clock|time elapsed|user|sys)"),
    Format("DeepStream PERF", "rates", _deepstream, known_by=r"^\W*\*\*PERF:"),
    Format("GStreamer fpsdisplaysink", "rates", _columns,
           rows=r"rendered: \d+, dropped: \d+, current: (?P<fps>[\d.]+)"),
    Format("tegrastats", "telemetry", _columns, note="a Jetson's memory is one for the CPU and the GPU",
           known_by=r"\bRAM \d+/\d+MB.*(?:GR3D_FREQ|EMC_FREQ|CPU \[)",
           rows=r"^(?P<when>\d\d-\d\d-\d{4} \d\d:\d\d:\d\d)?(?=.*\bRAM (?P<gpu_memory_used_mib>\d+)/\d+MB)"
                r"(?:(?=.*GR3D_FREQ (?P<gpu_utilisation_percent>\d+)%))?"
                r"(?:(?=.*GR3D_FREQ (?:\d+%)?@\[?(?P<sm_clock_mhz>\d+)))?"
                r"(?:(?=.*EMC_FREQ \d+%@(?P<memory_clock_mhz>\d+)))?"
                r"(?:(?=.*\b[Gg][Pp][Uu]@(?P<temperature_c>[\d.]+)C))?"
                r"(?:(?=(?:.*(?:VDD_GPU_SOC|VDD_GPU|VDD_SYS_GPU|VDD_CPU_GPU_CV|POM_5V_GPU)|.*?(?:VDD_IN|POM_5V_IN)) "
                r"(?P<power_mw>\d+)(?:mW)?/))?"),
    Format("nvidia-smi dmon", "telemetry", None, known_by=DMON),
    Format("jetson-stats", "telemetry", _jetson_stats, known_by=r"\A(?=[^\n]*,RAM,)(?=[^\n]*,Temp )[^\n]*\buptime,"),
    Format("ultralytics lines", "frames", _columns,
           rows=r"Speed: (?P<preprocess_ms>[\d.]+) ?ms pre-?process, (?P<infer_ms>[\d.]+) ?ms inference, "
                r"(?:[\d.]+ ?ms loss, )?(?P<postprocess_ms>[\d.]+) ?ms (?:post-?process|NMS)"),
    Format("ultralytics lines", "frames", _columns, known_by=r"^.*?: ?\d+x\d+ .*[\d.]+ ?ms\)?\s*$",
           rows=r"^.*?\b\d+x\d+ .*?,? \(?(?P<frame_ms>[\d.]+) ?ms\)?\s*$",
           note="the frame is the inference: ultralytics prints nothing else on these lines"),
    Format("trtexec --dumpProfile", "layers", _totals, export=_EXPORT_TIMES, known_by=r"=== Profile \(",
           rows=r"^(?!.*\bTotal\b)(?:\[[^\]\n]*\] ?)* *(?:(?P<name>[^\s\d].*?) {2,})?"
                r"[\d.]+ +(?P<time_ms>[\d.]+)(?: +[\d.]+){1,2}(?: +(?P<last>\S.*))?$"),
    Format("layers of a network", "layers", _totals, export=_EXPORT_TIMES,
           rows=r"^Node Name: (?P<name>[^,]+),.*\bAvg\(ms\): (?P<time_ms>[\d.]+)"),
    Format("layers of a network", "layers", _totals, export=_EXPORT_TIMES,
           known_by=r"Unnamed Layer\*|Reformatting CopyNode|\bPWN\(|\bfeature_map: +\d"
                    r"|\[(?:Convolution|Activation|ElementWise|Pooling)\]|\] run \d+ average cost"
                    r"|\b(?:model\.\d+[./]|Conv_\d)[\w./+ ]*?(?::| {2}| kernel time) *\d+(?:\.\d+)? ?[mu]s\s*$",
           rows=r"^(?:\[[^\]]*\] \[\w\] |.*\bNode: )?\s*(?:layer )?(?P<name>\S.*?)[\s:|]+"
                r"(?:consuming |took |kernel time )?(?P<time>\d+(?:\.\d+)?) ?(?P<unit>ms|us)\b.*$"),
)
# fmt: on
"""What is known by a pattern in its first or last lines, in the order in which it is tried. Besides these: recordings
of the lab, Parquet, Arrow, reports of Nsight Systems, JSON and tables by their names, and log lines."""


def read(
    source: str | Path,
    unit: str | None = None,
    pattern: str | None = None,
    progress: Callable[[float], None] | None = None,
    columns: str = "",
) -> Measured:
    """What a file holds, whoever wrote it; `source` is its path, or '-' for what comes by a pipe.

    `unit` ('ms', 'us', 'ns', 's') is that of times for which the file names none. `pattern` is a regular expression
    whose named groups are the columns, such as r"net=(?P<infer_ms>[0-9.]+)". `kind` says whether it is frames at all.
    `columns` names those of a table without a header, with commas between.
    `progress` is told the share of what is done, which starts from 0 again with each turn over the file.

    MeasurementsError, with the place, for what can't be read; TraceError for a damaged report; SettingsError for
    another unit or pattern.

    >>> import yolotrt_lab as lab
    >>> read(lab.lab_path("data", "recordings", "h200", "overload.parquet")).format
    'recording of the lab'
    """
    PROGRESS.set(progress or (lambda share: None))
    if unit is not None and (unit := unit.strip().lower()) not in UNITS_NS:
        raise SettingsError(f"the unit must be one of time, got {unit!r}", fix="use ms, us, ns or s")
    path = None if str(source) == "-" else Path(source)
    file = path.name if path else "standard input"
    if path and (path.suffix in (".nsys-rep", ".qdrep") or _starts(path, _SQLITE)):
        return _of_trace(path, file)
    data = _bytes(path, file)
    if not data.startswith(_BINARY):
        return read_text(data, file, unit, pattern, columns)
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:  # what came by a pipe or was compressed
        if path is None or not path.is_file() or path.suffix == ".gz":
            path = Path(folder) / "piped"
            path.write_bytes(data)
        return _of_trace(path, file) if data.startswith(_SQLITE) else _of_arrow(path, file, unit)


def read_text(
    data: bytes, file: str = "text", unit: str | None = None, pattern: str | None = None, columns: str = ""
) -> Measured:
    """The same for the bytes of a text."""
    data = _clean(_utf8(data, file))
    first = next((line.strip() for line in data[:_HEAD].decode("utf-8", "replace").split("\n") if line.strip()), "")
    if not first:
        raise MeasurementsError(f"{file}: it must have lines, got none", fix="name another file")
    told = first.startswith(COMMENTS) and not re.match(rf"{DMON}|#\d", first)
    found = _read_clean(
        data, Reading(file, unit, tuple(re.split(r"\s*,\s*", columns.strip())) if columns else ()), pattern
    )
    return replace(found, origin="; ".join(filter(None, [file, first.lstrip("#/% ").strip()[:100] if told else ""])))


def _read_clean(data: bytes, reading: Reading, pattern: str | None) -> Measured:
    if pattern is not None:
        return _pattern(data.decode(), pattern, reading)
    ends = (data[:_HEAD] + b"\n" + data[-_HEAD:]).decode("utf-8", "replace")
    for form in FORMATS:
        if re.search(form.known_by or form.rows, ends, re.MULTILINE):
            reading.form = form.name
            if form.read is None:
                break
            if (found := form.read(data.decode(), form, reading)) is not None:
                return found
            reading.form = ""
    head = data[:_HEAD].decode("utf-8", "replace").split("\n")
    head = head if len(data) <= _HEAD else head[:-1]
    if data[:_HEAD].lstrip()[:1] in (b"{", b"[") and (read := read_json(data.decode(), reading)):
        return read
    table = find_table(head[:_FEW])
    if table and (not table.named or any(map(names_a_time, table.header))):
        return read_table(data, table, reading)
    from .logs import read_log

    if table:  # 'time,level,message' may hold a log
        with suppress(MeasurementsError):
            return read_log(data, replace(reading, notes=[]))
        return read_table(data, table, reading)
    return read_log(data, reading)


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
    """The text as UTF-8, by its byte order mark, else from GBK where it is none."""
    if data.isascii() and b"\0" not in data:
        return data
    for name in ("utf-16",) if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else ("utf-8-sig", "gb18030"):
        with suppress(UnicodeDecodeError):
            text = data.decode(name)
            if "\0" not in text:
                return data.removeprefix(BOM_UTF8) if name == "utf-8-sig" else text.encode()
    text = data.decode("utf-8", "replace")
    line = text[: min(each for each in (text.find("\0"), text.find("\ufffd"), len(text)) if each >= 0)].count("\n") + 1
    formats = "UTF-8, UTF-16 or GBK, or Parquet, Arrow or a report of Nsight Systems"
    what = f"{file}: line {line}: it must be text in {formats}"
    raise MeasurementsError(what, fix="write it as CSV or as lines of text in UTF-8")


def _clean(data: bytes) -> bytes:
    """The text without colours and other control characters, its lines ended by newlines alone."""
    if b"\x1b" in data:
        data = re.sub(_ESCAPES, b"", data)
    data = data.translate(None, _CONTROLS) if _has_controls(data) else data  # a long text stands in memory once
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def _has_controls(data: bytes) -> bool:
    """True where a control character other than a tab or the end of a line is in it: counted, in blocks."""
    for block in byte_blocks(data):
        usual = sum(np.count_nonzero(block == each) for each in b"\t\n\r")
        if np.count_nonzero(block < 32) > usual or (block == 127).any():
            return True
    return False


def _of_arrow(path: Path, file: str, unit: str | None) -> Measured:
    """A recording of the lab where the file carries its metadata, else the columns whose names are known."""
    try:
        table = read_arrow(path)
        if METADATA_KEY in (table.schema.metadata or {}):
            found = Measured.of(Recording.load(path))
            return replace(found, origin=f"{file}; {found.origin}")
        named = ((name, table[name].combine_chunks()) for name in table.column_names)
        return of_arrow(named, Reading(file, unit, form="Parquet or Arrow by column names"))
    except (MeasurementsError, RecordingError) as error:
        what = error.message.replace(str(path), file)
        raise MeasurementsError(what if what.startswith(file) else f"{file}: {what}", fix=error.fix) from error


def _of_trace(path: Path, file: str) -> Measured:
    """A report of Nsight Systems; whether it has frames, the bill finds out."""
    from ..nsight.reports import read_trace

    try:
        trace = read_trace(path)
    except (TypeError, ValueError, OverflowError, KeyError, IndexError) as error:  # values that no report has
        fix = "export it again with nsys export --type sqlite"
        raise MeasurementsError(
            f"{file} must be a whole report of Nsight Systems, got a damaged one: {error}", fix=fix
        ) from error
    return Measured("events", "report of Nsight Systems", origin=f"{file}; {trace.source.stamp}", trace=trace)
