"""Export for Perfetto: every event obeys the published Trace Event Format, and says what the trace says.

The rules are those of the format's description ("Trace Event Format", Google, section "Event Descriptions"), for the
kinds of events that are used.
"""

import json
from collections import Counter

import pytest
from secret_report import PID, write

from yolotrt_lab.errors import TraceError
from yolotrt_lab.nsight.perfetto import write_perfetto
from yolotrt_lab.nsight.reports import read_trace
from yolotrt_lab.nsight.trace import Trace

COMMON = {"name": str, "ph": str, "pid": int, "tid": int}
NEEDED = {
    "X": COMMON | {"cat": str, "ts": (int, float), "dur": (int, float)},
    "M": COMMON | {"args": dict},
    "s": COMMON | {"cat": str, "ts": (int, float), "id": int},
    "f": COMMON | {"cat": str, "ts": (int, float), "id": int, "bp": str},
}
OPTIONAL = {"X": {"args": dict}}
METADATA = {"process_name": "name", "thread_name": "name", "thread_sort_index": "sort_index"}
TOP = {"traceEvents": list, "displayTimeUnit": str, "otherData": dict}


def faults(document):
    """What is wrong with a document, one line each."""
    for name, kind in TOP.items():
        if not isinstance(document.get(name), kind):
            yield f"{name} is no {kind.__name__}"
    if document["displayTimeUnit"] not in ("ms", "ns"):
        yield "displayTimeUnit is neither ms nor ns"
    for event in document["traceEvents"]:
        yield from event_faults(event)
    begins = Counter(event["id"] for event in document["traceEvents"] if event["ph"] == "s")
    ends = Counter(event["id"] for event in document["traceEvents"] if event["ph"] == "f")
    if begins != ends or set(begins.values()) - {1}:
        yield "a flow without exactly one begin and one end"


def event_faults(event):
    needed = NEEDED.get(event.get("ph"))
    if needed is None:
        yield f"phase {event.get('ph')!r}"
        return
    if missing := needed.keys() - event.keys():
        yield f"{event} lacks {missing}"
        return
    allowed = needed | OPTIONAL.get(event["ph"], {})
    for key, value in event.items():
        if key not in allowed or not isinstance(value, allowed[key]) or isinstance(value, bool):
            yield f"{key}={value!r} in {event}"
    if event.get("dur", 0) < 0 or event.get("ts", 0) < 0:
        yield f"a negative time in {event}"
    if event["ph"] == "M" and METADATA.get(event["name"]) not in event["args"]:
        yield f"metadata {event}"


def exported(trace, tmp_path):
    return json.loads(write_perfetto(trace, tmp_path / "new" / "trace.json").read_text(encoding="utf-8"))


@pytest.fixture
def document(tmp_path):
    return exported(read_trace(write(tmp_path / "report.sqlite")), tmp_path)


def bars(document, category):
    return [event for event in document["traceEvents"] if event["ph"] == "X" and event["cat"] == category]


def test_the_document_obeys_the_format(document):
    assert list(faults(document)) == []


@pytest.mark.parametrize(
    "event",
    [
        {"name": "a", "ph": "X", "pid": 1, "tid": 1, "cat": "x", "ts": 1.0},
        {"name": "a", "ph": "X", "pid": 1, "tid": 1, "cat": "x", "ts": 1.0, "dur": -1.0},
        {"name": "a", "ph": "X", "pid": 1, "tid": "main", "cat": "x", "ts": 1.0, "dur": 1.0},
        {"name": "thread_name", "ph": "M", "pid": 1, "tid": 1, "args": {}},
        {"name": "a", "ph": "s", "pid": 1, "tid": 1, "cat": "x", "ts": 1.0, "id": 7},
        {"name": "a", "ph": "Q", "pid": 1, "tid": 1},
    ],
)
def test_the_rules_tell_right_from_wrong(document, event):
    document["traceEvents"].append(event)
    assert len(list(faults(document))) == 1


def test_times_are_microseconds_from_the_begin_of_the_trace(document):
    assert [(e["name"], e["ts"], e["dur"]) for e in bars(document, "nvtx")] == [
        ("frame", 0.0, 900.0),
        ("upload", 1.0, 89.0),
        ("frame", 1000.0, 900.0),
        ("upload", 1001.0, 89.0),
    ]


def test_copies_tell_their_memory_their_size_and_their_rate(document):
    upload, download = bars(document, "copies")[:2]
    assert (upload["name"], upload["ts"], upload["dur"]) == ("pageable h2d", 40.0, 40.0)
    assert upload["args"] == {"bytes": 4_915_200, "memory": "pageable", "GB/s": 122.88}
    assert (download["name"], download["args"]["memory"]) == ("pinned d2h", "pinned")


def test_an_arrow_leads_from_each_call_to_what_the_gpu_did_for_it(document):
    events = document["traceEvents"]
    begins = {event["id"]: event for event in events if event["ph"] == "s"}
    ends = {event["id"]: event for event in events if event["ph"] == "f"}
    arrows = sorted((begins[number]["ts"], ends[number]["ts"]) for number in begins)
    assert arrows[:3] == [(1.0, 40.0), (100.0, 110.0), (110.0, 800.0)]
    assert len(arrows) == 6
    assert {event["pid"] for event in begins.values()} == {PID}
    starts = {(event["pid"], event["tid"], event["ts"]) for event in events if event["ph"] == "X"}
    assert {(end["pid"], end["tid"], end["ts"]) for end in ends.values()} <= starts


def test_every_track_has_a_name(document):
    events = document["traceEvents"]
    named = {(event["pid"], event["tid"]) for event in events if event["name"] in ("process_name", "thread_name")}
    gpu = {(event["pid"], event["tid"]) for event in events if event["ph"] == "X" and event["pid"] != PID}
    assert gpu <= named
    names = [event["args"]["name"] for event in events if event["name"] == "thread_name"]
    assert names == ["stream 7 copies", "stream 7 kernels"]


def test_the_file_says_where_its_numbers_come_from(document):
    assert document["otherData"]["source"].startswith("recorded on NVIDIA H200")


def test_a_simulated_trace_is_exported_alike(device, tmp_path):
    stream = device.stream()
    with device.range("frame"):
        device.spin(100_000, stream)
        stream.synchronize()
    document = exported(Trace.from_spans(device.spans, device.source), tmp_path)
    assert list(faults(document)) == []
    [kernel] = bars(document, "kernels")
    assert kernel["dur"] == 100.0
    assert document["otherData"]["source"].startswith("simulated")


def test_a_place_that_cannot_be_written_is_an_error_of_the_lab(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TraceError, match="cannot be written"):
        write_perfetto(read_trace(write(tmp_path / "report.sqlite")), tmp_path / "file" / "trace.json")
