"""The scenarios: what one is, and all of them by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..loop import LoopSettings, Preprocess
from ..recording import Recording
from ..types import Cause, Fill, HostMemory
from . import faults, shared_gpu, threads
from .faults import Run


@dataclass(frozen=True, slots=True)
class Scenario:
    """A loop that shows something."""

    name: str
    settings: LoopSettings
    cause: Cause = Cause.NONE
    """The truth about why it is slow, or grows."""
    cure: str = ""
    """The scenario that is the same without the fault."""
    prepare: Callable[[Run], None] | None = None
    """Makes the cause happen, by changing the run."""
    record: Callable[[Run], Recording] | None = None
    """Runs the loop, where it is not a `FrameLoop` that runs once."""
    trap: Callable[[Run], Preprocess] | None = None
    """Creates the preprocessing that has the fault."""
    other: LoopSettings | None = None
    """Frames come on a clock: half way between what a frame of this loop and one of the other takes."""


REPORT = LoopSettings()
"""The loop of the public report: a fresh pageable array each frame."""

IN_PLACE = LoopSettings(input_memory=HostMemory.PINNED, fill=Fill.IN_PLACE)
"""What fixes it: pinned memory, filled in place."""

PAGEABLE = LoopSettings(fill=Fill.READY, graph=True)
PINNED = replace(PAGEABLE, input_memory=HostMemory.PINNED)
"""With images that lie ready, and the engine in a graph, these two differ in the kind of memory alone."""

PAGEABLE_ALONE = replace(PAGEABLE, graph=False)
PINNED_ALONE = replace(PINNED, graph=False)
"""The same, with the engine enqueued call by call."""

REGISTERED_ALONE = replace(PINNED_ALONE, input_memory=HostMemory.REGISTERED)

_LATE = replace(PAGEABLE_ALONE, collect_after=8, period_us=1_150)

# What causes the growth, the scenario that is the same without it, and what makes it happen
_ALL = (
    Scenario(
        "report",
        replace(REPORT, frames=300),
        Cause.SHARED_GPU,
        "served-report",
        shared_gpu.prepare_report,
        shared_gpu.record_report,
    ),
    Scenario("cameras", replace(PAGEABLE, frames=300), record=threads.record_cameras),
    Scenario("clocked", REPORT, Cause.PAGEABLE_OVERLOAD, "clocked-fixed", other=IN_PLACE),
    Scenario("clocked-fixed", IN_PLACE, other=REPORT),
    Scenario("overload", PAGEABLE, Cause.PAGEABLE_OVERLOAD, "overload-pinned", other=PINNED),
    Scenario("overload-pinned", PINNED, other=PAGEABLE),
    Scenario("served-report", REPORT),
    Scenario("served-pageable", LoopSettings(fill=Fill.IN_PLACE)),
    Scenario("served-copied", replace(IN_PLACE, fill=Fill.COPY)),
    Scenario("served-pinned", IN_PLACE),
    Scenario("served-boxes", replace(IN_PLACE, postprocess=True)),
    Scenario("trap-allocate", IN_PLACE, Cause.ALLOCATION, "served-pinned", trap=faults.allocates),
    Scenario("trap-bypass", IN_PLACE, trap=faults.bypasses),
    Scenario("moved-wait", replace(PINNED, output_memory=HostMemory.PAGEABLE), Cause.MOVED_WAIT, "graph-pinned"),
    Scenario("graph-pageable", PAGEABLE),
    Scenario("graph-pinned", PINNED),
    Scenario("plain-pageable", PAGEABLE_ALONE),
    Scenario("plain-pinned", PINNED_ALONE),
    Scenario("late", _LATE, Cause.PAGEABLE_OVERLOAD, "late-pinned", faults.late),
    Scenario("late-pinned", replace(_LATE, input_memory=HostMemory.PINNED), prepare=faults.late),
    Scenario("shared-gpu", PAGEABLE_ALONE, Cause.SHARED_GPU, "plain-pageable", shared_gpu.prepare, shared_gpu.record),
    Scenario(
        "shared-gpu-pinned", PINNED_ALONE, Cause.SHARED_GPU, "plain-pinned", shared_gpu.prepare, shared_gpu.record
    ),
    Scenario(
        "shared-stream",
        PINNED_ALONE,
        Cause.SHARED_STREAM,
        "shared-stream-event",
        threads.prepare_one_stream,
        threads.with_stream,
    ),
    Scenario("shared-stream-event", PINNED_ALONE, prepare=threads.prepare_one_stream, record=threads.with_events),
    Scenario(
        "launch-queue",
        replace(PINNED_ALONE, collect_after=160),
        Cause.LAUNCH_QUEUE,
        "launch-queue-bounded",
        faults.launch_queue,
    ),
    Scenario("launch-queue-bounded", replace(PINNED_ALONE, collect_after=8), prepare=faults.launch_queue),
    Scenario(
        "clock-drop",
        replace(PINNED, frames=200, period_us=100_000),
        Cause.CLOCK_DROP,
        "clock-drop-busy",
        faults.clock_drop,
    ),
    Scenario("clock-drop-busy", replace(PINNED, frames=200), prepare=faults.clock_drop),
    Scenario("heat", PINNED_ALONE, Cause.HEAT, "heat-cooled", faults.heat),
    Scenario("heat-cooled", PINNED_ALONE, prepare=faults.cooled),
    Scenario(
        "leak",
        replace(REGISTERED_ALONE, fill=Fill.IN_PLACE),
        Cause.LEAK,
        "leak-released",
        faults.leak,
        trap=faults.leaks,
    ),
    Scenario("leak-released", REGISTERED_ALONE, prepare=faults.leak),
    Scenario("preprocess-grows", IN_PLACE, Cause.PREPROCESS, "served-pinned", faults.preprocess),
    Scenario("shape-change", PINNED_ALONE, Cause.SHAPE_CHANGE, "plain-pinned", faults.shape_change),
    Scenario("warm-up", replace(PINNED_ALONE, warmup=0), Cause.WARM_UP, "plain-pinned", faults.warm_up),
    Scenario("steady", PINNED),
)

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _ALL}

SHOWS = {
    "report": (
        "the public report's loop: other processes come one by one and synchronize climbs; then pinned; then alone"
    ),
    "cameras": (
        "1, 2, 4 and 8 threads with a stream each: the pageable upload call climbs with each, the pinned one does not"
    ),
    "clocked": "the public report's loop, put on a clock that it does not have: latency climbs",
    "clocked-fixed": "pinned memory filled in place, on the same clock",
    "overload": "images that lie ready in pageable memory, on a clock",
    "overload-pinned": "the same images in pinned memory, on the same clock",
    "served-report": "the public report's loop, as fast as served",
    "served-pageable": "the same pageable memory each frame, filled in place",
    "served-copied": "a fresh array copied into pinned memory",
    "served-pinned": "pinned memory, filled in place",
    "served-boxes": "the same, with boxes decoded from the output",
    "trap-allocate": "pinned memory made in the loop",
    "trap-bypass": "pinned memory filled, and the copy made from the caller's array",
    "moved-wait": "pageable output: synchronize reads a few microseconds, the download call has the wait",
    "graph-pageable": "pageable input, the engine as a CUDA graph",
    "graph-pinned": "pinned input, the engine as a CUDA graph",
    "plain-pageable": "pageable input, the engine enqueued call by call",
    "plain-pinned": "pinned input, the engine enqueued call by call",
    "late": "a 1 ms kernel, results collected 8 frames later: the pageable upload call climbs to a plateau",
    "late-pinned": "the same with pinned input: the upload call stays where it is",
    "shared-gpu": "other processes come to the GPU in steps: synchronize climbs with them, and stays",
    "shared-gpu-pinned": "the same with pinned input: the upload call is short, and synchronize climbs all the same",
    "shared-stream": (
        "one thread submits, another synchronizes on the same stream: it waits for frames that are not its own"
    ),
    "shared-stream-event": "the same, with an event behind each frame that the collecting thread waits for",
    "launch-queue": "no synchronize while frames are submitted: once the launch queue is full, launches block",
    "launch-queue-bounded": "the same with at most 8 frames in flight",
    "clock-drop": "a frame every 100 ms: the GPU idles between them, and lowers its clocks where it does that",
    "clock-drop-busy": "the same frames without gaps",
    "heat": "a heat sink that is too small (simulated): the GPU lowers its clocks once it is hot",
    "heat-cooled": "the same, cooled well (simulated)",
    "leak": "memory registered anew each frame and never released: synchronize climbs slowly, host memory with it",
    "leak-released": "the same with memory that is registered once",
    "preprocess-grows": (
        "frames that grow, smoothed before they are shrunk: preprocessing climbs, the GPU's stages stay"
    ),
    "shape-change": "another input shape every 60 frames (simulated): a spike at each change",
    "warm-up": "the first frames are not set apart: they are slow, and it falls",
    "steady": "nothing is wrong: pinned input, the engine as a CUDA graph",
}
"""What each of them shows, in a line."""
