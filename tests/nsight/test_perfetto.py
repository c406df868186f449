"""Export for Perfetto: every event obeys the published Trace Event Format, and says what the trace says.

The rules are those of the format's description ("Trace Event Format", Google, section "Event Descriptions"), for the
kinds of events that are used.
"""

import json
from collections import Counter

import pytest
from tiny_report import PID, write_secret

from yolotrt_lab.errors import TraceError
from yolotrt_lab.nsight.reports import read_trace
from yolotrt_lab.nsight.trace import Trace, write_perfetto
from yolotrt_lab.simulate import spin

TIME, WHOLE, TEXT = {"type": "number", "minimum": 0}, {"type": "integer"}, {"type": "string"}
METADATA = {"process_name": "name", "thread_name": "name", "thread_sort_index": "sort_index"}


def event(phase, optional=(), name=TEXT, **more):
    needed = {"name": name, "ph": {"const": phase}, "pid": WHOLE, "tid": WHOLE} | more
    required = [name for name in needed if name not in optional]
    return {"properties": needed, "required": required, "additionalProperties": False}


FORMAT = {
    "type": "object",
    "required": ["traceEvents", "displayTimeUnit", "otherData"],
    "properties": {
        "displayTimeUnit": {"enum": ["ms", "ns"]},
        "otherData": {"type": "object"},
        "traceEvents": {
            "items": {
                "oneOf": [
                    event("X", ["args"], cat=TEXT, ts=TIME, dur=TIME, args={"type": "object"}),
                    event("s", cat=TEXT, ts=TIME, id=WHOLE),
                    event("f", cat=TEXT, ts=TIME, id=WHOLE, bp={"const": "e"}),
                    *(event("M", name={"const": n}, args={"required": [of]}) for n, of in METADATA.items()),
                ]
            }
        },
    },
}


def exported(trace, tmp_path):
    from jsonschema import Draft202012Validator

    document = json.loads(write_perfetto(trace, tmp_path / "new" / "trace.json").read_text(encoding="utf-8"))
    assert [error.message for error in Draft202012Validator(FORMAT).iter_errors(document)] == []
    begins, ends = (Counter(e["id"] for e in document["traceEvents"] if e["ph"] == phase) for phase in "sf")
    assert begins == ends
    assert set(begins.values()) <= {1}
    return document


@pytest.fixture
def document(tmp_path):
    return exported(read_trace(write_secret(tmp_path / "report.sqlite")), tmp_path)


def bars(document, category):
    return [event for event in document["traceEvents"] if event["ph"] == "X" and event["cat"] == category]


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
    begins, ends = ({e["id"]: e for e in events if e["ph"] == phase} for phase in "sf")
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
        spin(device, 100_000, stream)
        stream.synchronize()
    document = exported(Trace.from_spans(device.spans, device.source), tmp_path)
    [kernel] = bars(document, "kernels")
    assert kernel["dur"] == 100.0
    assert document["otherData"]["source"].startswith("simulated")


def test_a_place_that_cannot_be_written_is_an_error_of_the_lab(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TraceError, match="cannot be written"):
        write_perfetto(read_trace(write_secret(tmp_path / "report.sqlite")), tmp_path / "file" / "trace.json")
