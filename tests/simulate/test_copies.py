"""The copy table on the simulated device of round numbers: which calls wait for the backlog, and which do not."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from yolotrt_lab.errors import SettingsError
from yolotrt_lab.simulate.copy_probe import BACKLOGS_NS, DIRECTIONS, MEMORIES, SIZES, CopyProbe, measure_copies
from yolotrt_lab.simulate.simulated import SimulatedDevice
from yolotrt_lab.types import HostMemory, SourceKind

STAGING_BYTES = 1_000_000  # of the preset of round numbers
IDLE_NS, *BUSY_NS = BACKLOGS_NS
# From the launch of the backlog to its begin 5 us pass; its launch call has taken 4 us of them.
BEGIN_NS = 1_000


@pytest.fixture
def recording(device):
    return measure_copies(device, repeats=1, label="mine", command="a command")


@pytest.fixture
def times(recording):
    """(call_ns, sync_ns) by direction, memory, bytes and backlog."""
    names = ("direction", "host_memory", "bytes", "backlog_ns", "call_ns", "sync_ns")
    rows = zip(*(recording.columns[name].tolist() for name in names), strict=True)
    return {row[:4]: row[4:] for row in rows}


def test_table_has_every_combination_once_and_says_what_it_is(recording, times):
    assert len(recording) == len(times) == 96
    assert set(times) == set(product(DIRECTIONS, MEMORIES, SIZES, BACKLOGS_NS))
    assert (recording.kind, recording.label, recording.command) == ("copies", "mine", "a command")
    assert recording.source.kind is SourceKind.SIMULATED
    assert recording.settings == {"repeats": 1}


def test_pageable_upload_over_the_staging_size_waits_for_the_backlog_in_the_call(times):
    for nbytes in (size for size in SIZES if size > STAGING_BYTES):
        call_ns = 10_000 + nbytes // 10
        assert times["h2d", "pageable", nbytes, IDLE_NS] == (call_ns, 8_000 + 3_000)
        for backlog_ns in BUSY_NS:
            assert times["h2d", "pageable", nbytes, backlog_ns] == (BEGIN_NS + backlog_ns + call_ns, 8_000 + 3_000)


def test_pageable_upload_that_fits_the_staging_memory_never_waits_in_the_call(times):
    for nbytes in (size for size in SIZES if size <= STAGING_BYTES):
        call_ns, dma_ns = 2_000 + int(nbytes / 20), 1_000 + int(nbytes / 50)
        assert times["h2d", "pageable", nbytes, IDLE_NS] == (call_ns, dma_ns + 3_000)
        for backlog_ns in BUSY_NS:
            sync_ns = BEGIN_NS + backlog_ns + dma_ns + 3_000 - call_ns
            assert times["h2d", "pageable", nbytes, backlog_ns] == (call_ns, sync_ns)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_pinned_copy_of_any_size_never_waits_in_the_call_and_always_in_the_synchronize(times, direction):
    for nbytes in SIZES:
        dma_ns = 1_000 + int(nbytes / 50)
        assert times[direction, "pinned", nbytes, IDLE_NS] == (5_000, dma_ns + 3_000)
        for backlog_ns in BUSY_NS:
            sync_ns = BEGIN_NS + backlog_ns + dma_ns + 3_000 - 6_000
            assert times[direction, "pinned", nbytes, backlog_ns] == (6_000, sync_ns)


def test_pageable_download_of_any_size_waits_in_the_call_and_leaves_nothing_to_the_synchronize(times):
    for nbytes in SIZES:
        call_ns = 10_000 + int(nbytes / 10)
        assert times["d2h", "pageable", nbytes, IDLE_NS] == (call_ns, 2_000)
        for backlog_ns in BUSY_NS:
            assert times["d2h", "pageable", nbytes, backlog_ns] == (BEGIN_NS + backlog_ns + call_ns, 2_000)


def test_sizes_backlogs_and_repeats_can_be_chosen_and_what_warms_up_is_left_out(preset):
    device = SimulatedDevice(preset, jitter=0.2, seed=1, trace=True)
    table = measure_copies(device, sizes=[8_192], backlogs_ns=[0, 50_000], repeats=5)
    assert table.columns["bytes"].tolist() == [8_192] * 8
    assert table.columns["backlog_ns"].tolist() == [0, 50_000] * 4
    assert table.settings == {"repeats": 5}
    calls = [span for span in device.spans if span.name == "cudaMemcpyAsync"]
    assert len(calls) == 8 * (2 + 5)
    assert table.columns["call_ns"][0] == int(np.median([call.end_ns - call.start_ns for call in calls[2:7]]))


@pytest.mark.parametrize("arguments", [{"repeats": 0}, {"sizes": []}, {"backlogs_ns": []}])
def test_table_without_a_row_is_refused(device, arguments):
    with pytest.raises(SettingsError, match="must be 1 or more, got 0"):
        measure_copies(device, **arguments)


def test_a_probe_of_no_bytes_is_an_error(device):
    with pytest.raises(SettingsError, match="bytes of a copy must be 1 or more, got -5000"):
        CopyProbe(device, HostMemory.PINNED, -5_000)
