"""What a diagnosis looks at, taken from a recording."""

from __future__ import annotations

import numpy as np

from yolotrt_lab.diagnose.measurements import Measurements
from yolotrt_lab.recording import FRAME_COLUMNS, Recording
from yolotrt_lab.types import Source, SourceKind


def test_a_recording_gives_its_steady_frames_by_name():
    rows = {name: np.array([0, 0, 0], np.int64) for name in FRAME_COLUMNS}
    rows |= {"due_ns": np.array([0, 100, 200]), "start_ns": np.array([0, 110, 250]), "done_ns": np.array([9, 160, 330])}
    rows |= {"upload_ns": np.array([1, 2, 3]), "warmup": np.array([True, False, False])}
    rows |= {"power_w": np.array([70.0, np.nan, 90.0])}
    source = Source(SourceKind.LIVE, "a GPU", "1", "2026-01-01")
    found = Measurements.of(Recording("frames", rows, source, settings={"input_memory": "pinned"}))
    assert len(found) == 2
    assert found.times_ns["latency"].tolist() == [60, 130]
    assert found.times_ns["frame"].tolist() == [50, 80]
    assert found.times_ns["upload"].tolist() == [2, 3]
    assert found.instants_ns["due"].tolist() == [100, 200]
    assert np.isnan(found.telemetry["power_w"][0]) and found.telemetry["power_w"][1] == 90
    assert list(found.telemetry) == ["power_w"]
    assert found.memory == {"input": "pinned"}
    assert found.origin == "live on a GPU, driver 1, 2026-01-01"
