"""Loops of PyTorch on an H200, one thing wrong in each (`scripts/torch_loops.py`): no bill is wrong and sure."""

from __future__ import annotations

from pathlib import Path

import pytest
from samples import sampled

from yolotrt_lab.diagnose import bill, join, read
from yolotrt_lab.types import Cause

LOGS = Path(__file__).parents[1] / "data" / "cases" / "torch"
LOOPS = {
    "steady.log": (Cause.NONE, ""),
    "pinned.csv": (Cause.NONE, ""),
    "more_boxes.log": (Cause.PREPROCESS, "postprocess"),
    "tracking.log": (Cause.PREPROCESS, "postprocess"),
    "written.log": (Cause.PREPROCESS, ""),
    "busy_cores.log": (Cause.HOST_CONTENTION, "preprocess infer frame"),
    "held_interpreter.log": (Cause.HOST_CONTENTION, "infer"),
    "collected.csv": (Cause.LEAK, "preprocess"),
    "kept_on_gpu.csv": (Cause.DEVICE_LEAK, ""),
    "kept_graph.log": (Cause.DEVICE_LEAK, ""),
    "freed_each_frame.log": (Cause.ALLOCATION, ""),
    "no_synchronize.log": (Cause.MOVED_WAIT, ""),
    "other_thread.log": (Cause.SHARED_STREAM, "infer"),
    "other_process.csv": (Cause.SHARED_GPU, "synchronize"),
    "new_sizes.csv": (Cause.SHAPE_CHANGE, ""),
    "larger.log": (Cause.SHAPE_CHANGE, "preprocess upload frame"),
    "overload.log": (Cause.QUEUEING, "latency"),
}
"""What is wrong, and the stages that are seen to grow. The host's own speed went up and down by half meanwhile."""
PERIODS = {"new_sizes.csv": 10, "written.log": 30}


# Each cause once that no recording of the lab has
SAMPLE = (
    *("more_boxes.log", "busy_cores.log", "kept_on_gpu.csv", "freed_each_frame.log", "no_synchronize.log"),
    *("other_thread.log", "new_sizes.csv", "overload.log", "pinned.csv"),
)


@pytest.mark.parametrize("beside", sampled([False, True], every=2))
@pytest.mark.parametrize("name", sampled(LOOPS, SAMPLE))
def test_what_is_wrong_is_possible_and_nothing_else_is_proven(name, beside):
    measured, (cause, grew) = read(LOGS / f"{name}.gz"), LOOPS[name]
    telemetry = LOGS / f"{name.partition('.')[0]}.smi.csv.gz"
    if beside:
        if not telemetry.exists():
            pytest.skip("its lines have no time of day")
        measured = join(measured, read(telemetry))
    found = bill(measured)
    assert set(found.proven) <= {cause}
    assert cause is Cause.NONE or found.verdict(cause) in ("proven", "possible")
    assert set(grew.split()) <= {each.stage for each in found.grew}
    assert found.steady is not True
    if name in PERIODS:
        assert found.period == PERIODS[name]


def test_a_leak_that_telemetry_shows_is_told_with_its_size():
    found = bill(join(read(LOGS / "kept_on_gpu.csv.gz"), read(LOGS / "kept_on_gpu.smi.csv.gz")))
    because = next(each.because for each in found.causes if each.cause == Cause.DEVICE_LEAK)
    assert because.startswith("memory of the GPU grows by 1,820 MB in 600 frames")
