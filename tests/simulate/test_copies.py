"""The copy table on the simulated device of round numbers: which calls wait for the backlog, and which do not."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from yolotrt_lab.errors import SettingsError
from yolotrt_lab.simulate.experiments import BACKLOGS_NS, DIRECTIONS, MEMORIES, SIZES, CopyProbe, measure_copies
from yolotrt_lab.simulate.simulated import SimulatedDevice
from yolotrt_lab.types import HostMemory, SourceKind

STAGING_BYTES = 1_000_000  # of the preset of round numbers
BEGIN_NS = 1_000  # from the launch of the backlog to its begin 5 us pass, of which the launch call takes 4


def expected_ns(direction, memory, nbytes, backlog_ns):
    """What the call and the synchronize of one row take, by the constants of the preset."""
    wait_ns = BEGIN_NS + backlog_ns if backlog_ns else 0
    copy_ns, wake_up_ns = 1_000 + int(nbytes / 50), 3_000
    if memory == HostMemory.PINNED:  # never waits in the call, and always in the synchronize
        call_ns, hidden_ns = (6_000, 6_000) if backlog_ns else (5_000, 0)
    elif direction == "d2h":  # waits in the call, and leaves nothing to the synchronize
        return wait_ns + 10_000 + int(nbytes / 10), 2_000
    elif nbytes > STAGING_BYTES:  # waits in the call
        return wait_ns + 10_000 + int(nbytes / 10), 8_000 + wake_up_ns
    else:  # fits the staging memory: never waits in the call
        call_ns = 2_000 + int(nbytes / 20)
        hidden_ns = call_ns if backlog_ns else 0
    return call_ns, wait_ns + copy_ns + wake_up_ns - hidden_ns


def test_table_has_every_combination_at_the_presets_cost_and_says_what_it_is(device):
    recording = measure_copies(device, repeats=1, command="a command")
    names = ("direction", "host_memory", "bytes", "backlog_ns", "call_ns", "sync_ns")
    rows = list(zip(*(recording.columns[name].tolist() for name in names), strict=True))
    combinations = list(product(DIRECTIONS, MEMORIES, SIZES, BACKLOGS_NS))
    assert len(recording) == len(rows) == 96
    assert {row[:4]: row[4:] for row in rows} == {each: expected_ns(*each) for each in combinations}
    assert (recording.kind, recording.label, recording.command) == ("copies", "copies", "a command")
    assert recording.source.kind is SourceKind.SIMULATED
    assert recording.settings == {"repeats": 1}


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
