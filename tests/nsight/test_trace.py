"""Traces: from spans, cut, checked and sorted."""

import numpy as np
import pytest

from yolotrt_lab.errors import TraceError
from yolotrt_lab.nsight.trace import DIRECTIONS, MEMORIES, SCHEMA, Trace, empty_table
from yolotrt_lab.simulate import spin
from yolotrt_lab.types import HostMemory, Source, SourceKind

SOURCE = Source(SourceKind.SIMULATED, preset="round")


def columns(table, **given):
    rows = len(given["start_ns"])
    return {name: np.asarray(given.get(name, np.zeros(rows)), dtype) for name, dtype in SCHEMA[table].items()}


def a_trace(**tables):
    """A trace whose tables are given by some of their columns; the rest is 0."""
    full = {name: columns(name, **tables[name]) if name in tables else empty_table(name) for name in SCHEMA}
    return Trace(**full, names=("frame", "cudaMemcpyAsync", "a_kernel"), source=SOURCE)


@pytest.fixture
def simulated(device):
    """One frame: a pinned upload, a kernel, and a pageable download, on the device of round numbers."""
    stream = device.stream()
    upload = device.empty_host((500_000,), np.uint8, HostMemory.PINNED)
    download = device.empty_host((2_000_000,), np.uint8, HostMemory.PAGEABLE)
    memory = device.empty_device(2_000_000)
    with device.range("frame"):
        device.upload(upload, memory, stream)
        spin(device, 40_000, stream)
        device.download(memory, download, stream)
        stream.synchronize()
    return device


def test_spans_of_the_simulated_device_make_the_same_tables(simulated):
    trace = Trace.from_spans(simulated.spans, simulated.source)
    words = ("MemcpyAsync", "LaunchKernel", "MemcpyAsync", "StreamSynchronize")
    assert [trace.names[name] for name in trace.api["name"]] == [f"cuda{word}" for word in words]
    assert [DIRECTIONS[code] for code in trace.copies["direction"]] == ["h2d", "d2h"]
    assert [MEMORIES[code] for code in trace.copies["host_memory"]] == ["pinned", "pageable"]
    assert trace.copies["bytes"].tolist() == [500_000, 2_000_000]
    assert (trace.kernels["end_ns"] - trace.kernels["start_ns"]).tolist() == [40_000]
    calls = trace.api["correlation"].tolist()
    assert len(set(calls)) == 4
    assert [*trace.copies["correlation"], *trace.kernels["correlation"]] == [calls[0], calls[2], calls[1]]
    assert trace.source is simulated.source
    assert trace.begin_ns == trace.ranges["start_ns"][0]
    assert trace.end_ns == trace.ranges["end_ns"][0]


def test_threads_of_the_simulated_device_are_told_apart(device):
    def work():
        stream = device.stream()
        with device.range("frame"):
            spin(device, 1_000, stream)
            stream.synchronize()

    threads = [device.start_thread(work) for _ in range(2)]
    for thread in threads:
        thread.join()
    trace = Trace.from_spans(device.spans, device.source)
    assert sorted(trace.ranges["tid"].tolist()) == [1, 2]
    by_call = dict(zip(trace.api["correlation"].tolist(), trace.api["tid"].tolist(), strict=True))
    launched_by = {by_call[call] for call in trace.kernels["correlation"].tolist()}
    assert launched_by == {1, 2}


def test_rows_are_sorted_by_their_start():
    trace = a_trace(kernels={"start_ns": [30, 10, 20], "end_ns": [31, 11, 21], "correlation": [3, 1, 2]})
    assert trace.kernels["start_ns"].tolist() == [10, 20, 30]
    assert trace.kernels["correlation"].tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="read-only"):
        trace.kernels["start_ns"][0] = 0


def test_between_keeps_what_overlaps_whole():
    trace = a_trace(
        api={"start_ns": [0, 10, 20, 30], "end_ns": [5, 25, 20, 40], "correlation": [1, 2, 3, 4]},
        ranges={"start_ns": [0], "end_ns": [100]},
    )
    cut = trace.between(20, 30)
    assert cut.api["correlation"].tolist() == [2, 3]
    assert cut.ranges["end_ns"].tolist() == [100]
    assert (cut.count("api"), cut.count("kernels")) == (2, 0)


def test_names_choose_rows():
    trace = a_trace(api={"start_ns": [0, 1, 2], "end_ns": [1, 2, 3], "name": [0, 1, 1]})
    copies = trace.named("api", lambda name: name.startswith("cudaMemcpy"))
    assert copies.tolist() == [False, True, True]
    assert trace.where("api", copies).count("api") == 2


def test_a_trace_without_rows_has_no_extent():
    trace = a_trace()
    assert (trace.begin_ns, trace.end_ns, trace.count("ranges")) == (0, 0, 0)
    assert trace.named("api", lambda _: True).tolist() == []


@pytest.mark.parametrize(
    ("api", "said"),
    [
        ({"start_ns": [0]}, "lacks end_ns, name, pid, tid, correlation"),
        (columns("api", start_ns=[0], name=[3]), "a name outside 0 to 2"),
        (columns("api", start_ns=[0]) | {"tid": [1, 2]}, "differ in length"),
    ],
)
def test_tables_that_do_not_fit_are_refused(api, said):
    rest = {name: empty_table(name) for name in SCHEMA if name != "api"}
    with pytest.raises(TraceError, match=said):
        Trace(api=api, **rest, names=("a", "b", "c"), source=SOURCE)
