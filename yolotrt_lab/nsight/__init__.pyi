from .attribution import WAITS, Attribution, attribute, moved_wait_ns
from .capture import Nsys, capture_trace, check_trace, find_nsys, profiled, rules, shipped_analysis
from .reports import read_trace, shipped_trace
from .scrub import scrub
from .trace import DIRECTIONS, MEMORIES, Graph, Trace, write_perfetto
from .trace_findings import FindingKind, TraceFinding, findings, trace_table

__all__ = [
    "DIRECTIONS",
    "MEMORIES",
    "WAITS",
    "Attribution",
    "FindingKind",
    "Graph",
    "Nsys",
    "Trace",
    "TraceFinding",
    "attribute",
    "capture_trace",
    "check_trace",
    "find_nsys",
    "findings",
    "moved_wait_ns",
    "profiled",
    "read_trace",
    "rules",
    "scrub",
    "shipped_analysis",
    "shipped_trace",
    "trace_table",
    "write_perfetto",
]
