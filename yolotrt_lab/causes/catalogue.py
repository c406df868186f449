"""The scenarios by name."""

from __future__ import annotations

from dataclasses import replace

from ..loop import LoopSettings
from ..types import Cause, Fill, HostMemory
from . import cameras, faults, report_loop, shared_gpu, shared_stream
from .scenario import Scenario

REPORT = LoopSettings()
"""The loop of the public report: a fresh pageable array each frame."""

IN_PLACE = LoopSettings(input_memory=HostMemory.PINNED, fill=Fill.IN_PLACE)
"""What fixes it: pinned memory, filled in place."""

PAGEABLE = LoopSettings(fill=Fill.READY, graph=True)
PINNED = replace(PAGEABLE, input_memory=HostMemory.PINNED)
"""With images that lie ready, and the engine in a graph, these two differ in the kind of memory alone."""

PINNED_ALONE = replace(PINNED, graph=False)
"""Pinned, and the engine enqueued call by call."""

# A pinned upload and the kernel fit into this period one after the other, a pageable upload and the kernel do not.
_LATE = replace(PAGEABLE, graph=False, collect_after=8, period_us=1_150)


_ALL = (
    Scenario(
        "report",
        "the public report's loop: other processes come one by one and synchronize climbs; then pinned; then alone",
        Cause.SHARED_GPU,
        replace(REPORT, frames=300),
        cure="served-report",
        prepare=report_loop.prepare,
        record=report_loop.record,
    ),
    Scenario(
        "cameras",
        "1, 2, 4 and 8 threads with a stream each: the pageable upload call climbs with each, the pinned one does not",
        Cause.NONE,
        replace(PAGEABLE, frames=300),
        record=cameras.record,
    ),
    Scenario(
        "clocked",
        "the public report's loop, put on a clock that it does not have: latency climbs",
        Cause.PAGEABLE_OVERLOAD,
        REPORT,
        IN_PLACE,
        cure="clocked-fixed",
    ),
    Scenario("clocked-fixed", "pinned memory filled in place, on the same clock", Cause.NONE, IN_PLACE, REPORT),
    Scenario(
        "overload",
        "images that lie ready in pageable memory, on a clock",
        Cause.PAGEABLE_OVERLOAD,
        PAGEABLE,
        PINNED,
        cure="overload-pinned",
    ),
    Scenario("overload-pinned", "the same images in pinned memory, on the same clock", Cause.NONE, PINNED, PAGEABLE),
    Scenario("served-report", "the public report's loop, as fast as served", Cause.NONE, REPORT),
    Scenario(
        "served-pageable",
        "the same pageable memory each frame, filled in place",
        Cause.NONE,
        LoopSettings(fill=Fill.IN_PLACE),
    ),
    Scenario("served-copied", "a fresh array copied into pinned memory", Cause.NONE, replace(IN_PLACE, fill=Fill.COPY)),
    Scenario("served-pinned", "pinned memory, filled in place", Cause.NONE, IN_PLACE),
    Scenario(
        "served-boxes",
        "the same, with boxes decoded from the output",
        Cause.NONE,
        replace(IN_PLACE, postprocess=True),
    ),
    Scenario(
        "trap-allocate",
        "pinned memory made in the loop",
        Cause.ALLOCATION,
        IN_PLACE,
        trap=faults.allocates,
        cure="served-pinned",
    ),
    Scenario(
        "trap-bypass",
        "pinned memory filled, and the copy made from the caller's array",
        Cause.NONE,
        IN_PLACE,
        trap=faults.bypasses,
    ),
    Scenario(
        "moved-wait",
        "pageable output: synchronize reads a few microseconds, the download call has the wait",
        Cause.MOVED_WAIT,
        replace(PINNED, output_memory=HostMemory.PAGEABLE),
        cure="graph-pinned",
    ),
    Scenario("graph-pageable", "pageable input, the engine as a CUDA graph", Cause.NONE, PAGEABLE),
    Scenario("graph-pinned", "pinned input, the engine as a CUDA graph", Cause.NONE, PINNED),
    Scenario(
        "plain-pageable", "pageable input, the engine enqueued call by call", Cause.NONE, replace(PAGEABLE, graph=False)
    ),
    Scenario(
        "plain-pinned", "pinned input, the engine enqueued call by call", Cause.NONE, replace(PINNED, graph=False)
    ),
    Scenario(
        "late",
        "a 1 ms kernel, results collected 8 frames later: the pageable upload call climbs to a plateau",
        Cause.PAGEABLE_OVERLOAD,
        _LATE,
        spin_us=1_000,
        cure="late-pinned",
        prepare=faults.late,
    ),
    Scenario(
        "late-pinned",
        "the same with pinned input: the upload call stays where it is",
        Cause.NONE,
        replace(_LATE, input_memory=HostMemory.PINNED),
        spin_us=1_000,
        prepare=faults.late,
    ),
    Scenario(
        "shared-gpu",
        "other processes come to the GPU in steps: synchronize climbs with them, and stays",
        Cause.SHARED_GPU,
        replace(PAGEABLE, graph=False),
        cure="plain-pageable",
        prepare=shared_gpu.prepare,
        record=shared_gpu.record,
    ),
    Scenario(
        "shared-gpu-pinned",
        "the same with pinned input: the upload call is short, and synchronize climbs all the same",
        Cause.SHARED_GPU,
        replace(PINNED, graph=False),
        cure="plain-pinned",
        prepare=shared_gpu.prepare,
        record=shared_gpu.record,
    ),
    Scenario(
        "shared-stream",
        "one thread submits, another synchronizes on the same stream: it waits for frames that are not its own",
        Cause.SHARED_STREAM,
        PINNED_ALONE,
        cure="shared-stream-event",
        prepare=shared_stream.prepare,
        record=shared_stream.record_with_stream,
    ),
    Scenario(
        "shared-stream-event",
        "the same, with an event behind each frame that the collecting thread waits for",
        Cause.NONE,
        PINNED_ALONE,
        prepare=shared_stream.prepare,
        record=shared_stream.record_with_events,
    ),
    Scenario(
        "launch-queue",
        "no synchronize while frames are submitted: once the launch queue is full, launches block",
        Cause.LAUNCH_QUEUE,
        replace(PINNED_ALONE, collect_after=160),
        cure="launch-queue-bounded",
        prepare=faults.launch_queue,
    ),
    Scenario(
        "launch-queue-bounded",
        "the same with at most 8 frames in flight",
        Cause.NONE,
        replace(PINNED_ALONE, collect_after=8),
        prepare=faults.launch_queue,
    ),
    Scenario(
        "clock-drop",
        "a frame every 100 ms: the GPU idles between them, and lowers its clocks where it does that",
        Cause.CLOCK_DROP,
        replace(PINNED, frames=200, period_us=100_000),
        cure="clock-drop-busy",
        prepare=faults.clock_drop,
    ),
    Scenario(
        "clock-drop-busy",
        "the same frames without gaps",
        Cause.NONE,
        replace(PINNED, frames=200),
        prepare=faults.clock_drop,
    ),
    Scenario(
        "heat",
        "a heat sink that is too small (simulated): the GPU lowers its clocks once it is hot",
        Cause.HEAT,
        PINNED_ALONE,
        cure="heat-cooled",
        prepare=faults.heat,
    ),
    Scenario("heat-cooled", "the same, cooled well (simulated)", Cause.NONE, PINNED_ALONE, prepare=faults.cooled),
    Scenario(
        "leak",
        "memory registered anew each frame and never released: synchronize climbs slowly, host memory with it",
        Cause.LEAK,
        replace(PINNED_ALONE, input_memory=HostMemory.REGISTERED, fill=Fill.IN_PLACE),
        trap=faults.leaks,
        cure="leak-released",
        prepare=faults.leak,
    ),
    Scenario(
        "leak-released",
        "the same with memory that is registered once",
        Cause.NONE,
        replace(PINNED_ALONE, input_memory=HostMemory.REGISTERED),
        prepare=faults.leak,
    ),
    Scenario(
        "preprocess-grows",
        "frames that grow, smoothed before they are shrunk: preprocessing climbs, the GPU's stages stay",
        Cause.PREPROCESS,
        IN_PLACE,
        cure="served-pinned",
        prepare=faults.preprocess,
    ),
    Scenario(
        "shape-change",
        "another input shape every 60 frames (simulated): a spike at each change",
        Cause.SHAPE_CHANGE,
        PINNED_ALONE,
        cure="plain-pinned",
        prepare=faults.shape_change,
    ),
    Scenario(
        "warm-up",
        "the first frames are not set apart: they are slow, and it falls",
        Cause.WARM_UP,
        replace(PINNED_ALONE, warmup=0),
        cure="plain-pinned",
        prepare=faults.warm_up,
    ),
    Scenario("steady", "nothing is wrong: pinned input, the engine as a CUDA graph", Cause.NONE, PINNED),
)

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _ALL}
