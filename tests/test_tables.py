"""Tables as text and as HTML, and the medians of the stage table and of a trace's table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bs4 import BeautifulSoup

from yolotrt_lab.engine import open_engine
from yolotrt_lab.loop import LoopSettings, run_loop
from yolotrt_lab.nsight import Trace, attribute, trace_table
from yolotrt_lab.recording import Recording
from yolotrt_lab.simulate import spin
from yolotrt_lab.tables import Table, stage_table
from yolotrt_lab.types import HostMemory, Source, SourceKind, Stage

LIVE = Source(SourceKind.LIVE, "GPU <1>", "580", "2026-01-01")
SIMULATED = Source(SourceKind.SIMULATED, preset="round")


@pytest.mark.parametrize(
    ("table", "lines"),
    [
        (
            Table(["us", "upload", "n"], [["pageable", "1,002.5", 7], ["pin", 3.25, "12,345"]], LIVE),
            [
                "us         upload       n",
                "--------  -------  ------",
                "pageable  1,002.5       7",
                "pin          3.25  12,345",
                "live on GPU <1>, driver 580, 2026-01-01",
            ],
        ),
        (
            Table(["case", "verdict", "slow"], [["a", "none", "0.9 ms"], ["b", "shared_gpu", "24 ms"]]),
            [
                "case  verdict       slow",
                "----  ----------  ------",
                "a     none        0.9 ms",
                "b     shared_gpu   24 ms",
            ],
        ),
        (Table(["a", "bcd"], []), ["a  bcd", "-  ---"]),
    ],
    ids=["numbers to the right", "words to the left", "no rows"],
)
def test_text_has_aligned_columns_a_rule_and_the_sources(table, lines):
    assert str(table).splitlines() == lines


def test_sources_are_noted_once_each_in_the_order_given():
    table = Table(["a"], [["b"]], SIMULATED, LIVE, SIMULATED, replace(SIMULATED))
    assert table.notes == ["simulated, preset round", "live on GPU <1>, driver 580, 2026-01-01"]
    assert str(table).splitlines()[-2:] == table.notes
    assert table._repr_html_().count("simulated, preset round") == 1


def test_html_has_every_cell_and_escapes_what_is_markup():
    page = Table(["name", "<b>"], [["<i> & b", '"x"'], [1, "<script>"]], LIVE)._repr_html_()
    cells = [("th", "name"), ("th", "<b>"), ("td", "<i> & b"), ("td", '"x"'), ("td", "1"), ("td", "<script>")]
    found = BeautifulSoup(page, "html.parser").find_all(["th", "td", "small", "b", "i", "script"])
    assert [(tag.name, tag.text) for tag in found] == [*cells, ("small", LIVE.stamp)]
    assert page.count("<tr>") == 3


def test_prose_wraps_and_stands_left_while_numbers_stay_right():
    rows = [["a/b_cdE", "1", "a sentence that is longer than a number", "none"], ["b", "2", "short", "no"]]
    page = Table(["name", "us", "why", "verdict"], rows)._repr_html_()
    prose, word = 'style="text-align: left; white-space: normal"', 'style="text-align: left"'
    assert f"<td {prose}>a sentence that is longer than a number</td><td {word}>none</td>" in page
    assert f"<td {word}>b</td><td>2</td><td {prose}>short</td>" in page
    assert ">a/<wbr>b_<wbr>cd<wbr>E</td>" in page


@pytest.fixture
def recordings(device):
    """A simulated run and a recorded one, which differ in the stages that they have."""
    boxes = LoopSettings(frames=30, warmup=5, postprocess=True)
    return {
        "with boxes": run_loop(device, open_engine(device), boxes),
        "recorded": Recording.shipped("graph-pinned"),
    }


def test_stage_table_has_medians_and_the_99th_percentile_of_steady_frames_in_us(recordings):
    table = stage_table(recordings)
    assert table.header[0] == "us"
    assert table.header[-2:] == ["frame", "frame p99"]
    assert [row[0] for row in table.rows] == ["with boxes", "recorded"]
    for row, recording in zip(table.rows, recordings.values(), strict=True):
        columns = {name: values[~recording.columns["warmup"]] for name, values in recording.columns.items()}
        frame_ns = columns["done_ns"] - columns["start_ns"]
        expected = {stage: np.median(columns[f"{stage}_ns"]) for stage in Stage}
        expected |= {"frame": np.median(frame_ns), "frame p99": np.percentile(frame_ns, 99)}
        for name, cell in zip(table.header[1:], row[1:], strict=True):
            assert float(cell.replace(",", "")) == pytest.approx(expected[name] / 1e3, abs=0.0501), name
    assert table.rows[0][table.header.index("preprocess")] == "300.0"
    assert table.notes == [recording.source.stamp for recording in recordings.values()]


def test_stage_table_leaves_out_stages_that_no_recording_has(recordings):
    assert {"preprocess", "postprocess"} <= set(stage_table(recordings).header)
    alone = stage_table({"recorded": recordings["recorded"]}).header
    assert "synchronize" in alone
    assert "postprocess" not in alone


def test_stage_table_does_not_count_the_warm_up(recordings):
    recording = recordings["with boxes"]
    slow = {name: values.copy() for name, values in recording.columns.items()}
    slow["done_ns"][slow["warmup"]] += 10**9
    assert stage_table({"a": replace(recording, columns=slow)}).rows == stage_table({"a": recording}).rows


def test_a_traces_table_has_the_medians_of_its_frames_from_the_host_and_the_gpu(device):
    """On the device of round numbers: a pinned upload of 5 MB (101 us), a kernel of 400 us, a download of 2.5 MB."""
    stream = device.stream()
    host = device.empty_host((5_000_000,), np.uint8, HostMemory.PINNED)
    memory = device.empty_device(5_000_000)
    for _ in range(5):
        with device.range("frame"):
            with device.range("upload"):
                device.upload(host, memory, stream)
            spin(device, 400_000, stream)
            with device.range("synchronize"):
                stream.synchronize()
    table = trace_table({"one": attribute(Trace.from_spans(device.spans, device.source))}, skip=1)
    cells = dict(table.rows)
    assert table.header == ["us", "one"]
    assert (cells["GPU: copies in"], cells["GPU: kernels"]) == ("101.0", "400.0")
    assert cells["host: upload"] == "5.0"
    frame, idle = (float(cells[name]) for name in ("frame", "GPU: idle"))
    assert idle == pytest.approx(frame - 501)
    assert "GPU: copies out" not in cells  # under 2 us in every trace
    waits = sum(float(value) for name, value in cells.items() if name.startswith("synchronize: "))
    assert waits == pytest.approx(float(cells["host: synchronize"]), abs=0.2)
    assert table.notes == [device.source.stamp]
