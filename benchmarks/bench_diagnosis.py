"""What the bill says of simulated causes: `python benchmarks/bench_diagnosis.py [RUNS] [SEED]` prints the shares.

Each cause is simulated RUNS times (50), in a scenario of that cause, with a severity, a noise and a length that are
drawn at random, and billed with telemetry and by host timers alone. Pairs of causes are billed with telemetry. A bill
is wrong where it proves a cause that is not at work, and misses where it excludes one that is, or has no word for it.

An allocation in the loop, a changed shape and a busy host are never proven here: no timer and no telemetry shows the
call, the shape or the other program. A trace shows the first two.
`tests/diagnose/test_simulated.py` holds a sample of it to its limits.
"""

from __future__ import annotations

import math
import multiprocessing
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from yolotrt_lab.causes.catalogue import SCENARIOS, Scenario
from yolotrt_lab.causes.faults import Run
from yolotrt_lab.causes.running import period_between_us, run_scenario
from yolotrt_lab.diagnose.accounts import Bill, bill
from yolotrt_lab.diagnose.measured import Measured
from yolotrt_lab.engine import open_engine
from yolotrt_lab.recording import Recording
from yolotrt_lab.simulate.conditions import Conditions
from yolotrt_lab.simulate.preset import Preset
from yolotrt_lab.simulate.simulated import SimulatedDevice
from yolotrt_lab.tables import Table
from yolotrt_lab.telemetry import Telemetry
from yolotrt_lab.types import Cause, Fill, Stage


def _beside_a_busy_host(measured: Measured, severity: float) -> Measured:
    """Other programs come after half of the run. Host work slows down by `severity`, enqueues by 0.69 of it, as they do
    beside 20 processes on an H200: 1.99 and 1.68 times as long.
    """
    late = severity * (np.arange(len(measured)) >= len(measured) // 2)
    times = dict(measured.times_ns)
    more = {Stage.PREPROCESS: late * times[Stage.PREPROCESS], Stage.INFER: 0.69 * late * times[Stage.INFER]}
    added = sum(more.values())
    for name in (*more, "frame", "latency"):
        times[name] = times[name] + more.get(name, added)
    instants = {name: values + np.cumsum(added) for name, values in measured.instants_ns.items()}
    instants |= {name: instants[name] - added for name in ("due", "start")}
    return replace(measured, times_ns=times, instants_ns=instants)


def _kept_on_the_gpu(run: Run) -> None:
    """Each frame keeps up to 2 MB of the GPU's memory."""
    kept: list[object] = []
    run.before = lambda index: kept.append(run.device.empty_device(round(run.severity * 1e6)))


_COPIED = SCENARIOS["served-copied"].settings
OWN = {
    "busy-host": Scenario("busy-host", _COPIED, Cause.HOST_CONTENTION),
    "device-leak": Scenario("device-leak", _COPIED, Cause.DEVICE_LEAK, prepare=_kept_on_the_gpu),
}
"""Causes that no scenario of the lab makes happen."""
ALL = SCENARIOS | OWN

# Fed faster than its GPU serves, with nothing else the matter: whether its latency may grow is a question of words.
# Recordings of several loops one after the other are no one loop to judge.
_LEFT_OUT = {"shared-stream-event", "report", "cameras"}

PAIRS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("shared-gpu", "preprocess-grows", {"fill": Fill.IN_PLACE}),
    ("heat", "preprocess-grows", {"fill": Fill.IN_PLACE}),
    ("clock-drop", "preprocess-grows", {"fill": Fill.IN_PLACE, "graph": False}),
    ("moved-wait", "preprocess-grows", {"fill": Fill.IN_PLACE, "graph": False}),
    ("shape-change", "preprocess-grows", {"fill": Fill.IN_PLACE}),
    ("clocked", "preprocess-grows", {}),
    ("overload", "shared-gpu", {}),
    ("moved-wait", "shared-gpu", {}),
    ("shape-change", "shared-gpu", {}),
    ("heat", "shared-gpu", {}),
)
"""Two scenarios at once: the loop of the first, with these settings, and what makes both."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One run to judge: `scenarios` are one or two, `truth` their causes."""

    scenarios: tuple[str, ...]
    truth: tuple[Cause, ...]
    severity: float
    jitter: float
    frames: int
    seed: int


@dataclass(frozen=True, slots=True)
class Billed:
    """The bills of a run: with telemetry, and by host timers alone."""

    drawn: Drawn
    telemetry: Bill
    timers: Bill


def drawn_for(cause: Cause, runs: int, seed: int) -> list[Drawn]:
    """`runs` runs of a cause's scenarios."""
    names = [name for name, each in ALL.items() if each.cause is cause and name not in _LEFT_OUT]
    if not names:  # a cause that no scenario makes happen
        return []
    return [_draw((generator.choice(names),), generator) for generator in _generators(str(cause), runs, seed)]


def drawn_pairs(runs: int, seed: int) -> list[Drawn]:
    """`runs` runs of each pair."""
    return [
        _draw((first, second), generator)
        for first, second, _ in PAIRS
        for generator in _generators(f"{first}+{second}", runs, seed)
    ]


def _generators(what: str, runs: int, seed: int) -> Iterable[random.Random]:
    return (random.Random(f"{seed} {what} {run}") for run in range(runs))


def _draw(scenarios: tuple[str, ...], generator: random.Random) -> Drawn:
    """Severity 0.55 to 1.9, noise of 2 to 12 %, 500 to 5,000 frames; lengths and severities even in their logarithm."""
    return Drawn(
        scenarios,
        tuple(ALL[name].cause for name in scenarios),
        severity=math.exp(generator.uniform(math.log(0.55), math.log(1.9))),
        jitter=generator.uniform(0.02, 0.12),
        frames=round(math.exp(generator.uniform(math.log(500), math.log(5_000)))),
        seed=generator.randrange(1 << 30),
    )


def billed(drawn: Drawn) -> Billed:
    """Simulate it and bill what was recorded."""
    recording = _recorded(drawn)
    measured = Measured.of(recording)
    if drawn.scenarios == ("busy-host",):
        measured = _beside_a_busy_host(measured, drawn.severity)
    truth = tuple(cause for cause in drawn.truth if cause is not Cause.HEAT or _gets_hot(measured))
    return Billed(replace(drawn, truth=truth), bill(measured), bill(replace(measured, telemetry={})))


def _gets_hot(measured: Measured) -> bool:
    """Whether the simulated GPU slows down for heat at all: beside long preprocessing it may stay below its limit."""
    return bool(measured.telemetry["throttle_sw_thermal_slowdown"].any())


def _device(drawn: Drawn) -> SimulatedDevice:
    return SimulatedDevice(Preset.load("h200"), jitter=drawn.jitter, seed=drawn.seed)


def _recorded(drawn: Drawn) -> Recording:
    """What a scenario's `prepare` puts into a run is collected from both of a pair and put together."""
    device = SimulatedDevice(Preset.load("h200"), jitter=drawn.jitter, seed=drawn.seed)
    if len(drawn.scenarios) == 1 and drawn.scenarios[0] in SCENARIOS:
        [name] = drawn.scenarios
        return run_scenario(name, device, open_engine(device), frames=drawn.frames, severity=drawn.severity)
    scenarios = [ALL[name] for name in drawn.scenarios]
    first = scenarios[0]
    changes = next((changes for *names, changes in PAIRS if tuple(names) == drawn.scenarios), {})
    settings = replace(first.settings, frames=drawn.frames, **changes)  # type: ignore[arg-type]
    run = Run(device, open_engine(device), settings, None, drawn.severity)
    if first.other is not None:
        share = drawn.severity / 2
        period = period_between_us(device, run.engine, None, settings, first.other, share=share)
        run.settings = replace(settings, period_us=period)
    hooks: list[Callable[[int], None]] = []
    conditions = Conditions()
    for scenario in scenarios:  # the second's conditions are used: what it does to them later must be seen
        if scenario.prepare is not None:
            run.before, run.conditions = None, None
            scenario.prepare(run)
            hooks += [run.before] if run.before else []
            if run.conditions is not None:
                clocks, heat = conditions.clocks, conditions.heat
                conditions = run.conditions
                conditions.clocks, conditions.heat = conditions.clocks or clocks, conditions.heat or heat
    run.before, run.conditions = (partial(_call_all, hooks) if hooks else None), conditions
    device.use(conditions)
    record = next((each.record for each in scenarios if each.record), None)
    with run.stack as stack:
        sampled = stack.enter_context(Telemetry(device))
        recording = record(run) if record else run.loop().run()
    return replace(recording, columns=dict(recording.columns) | sampled.columns(recording.columns["done_ns"]))


def _call_all(hooks: Sequence[Callable[[int], None]], index: int) -> None:
    for hook in hooks:
        hook(index)


def bill_all(drawn: Sequence[Drawn], processes: int = 2) -> list[Billed]:
    """Bill the runs in processes of their own, in order."""
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(billed, drawn, chunksize=4))


ALSO = {cause: {Cause.QUEUEING} for cause in (Cause.PAGEABLE_OVERLOAD, Cause.SHARED_STREAM, Cause.NONE)}
"""What may be at work too: frames arrive faster than they are served. With enough noise the clock of `late-pinned`,
which has no fault, is too fast for its kernel."""


def wrong(drawn: Drawn, found: Bill) -> set[Cause]:
    """The causes that are proven and not at work."""
    return set(found.proven).difference(drawn.truth, *(ALSO.get(cause, ()) for cause in drawn.truth))


def missed(drawn: Drawn, found: Bill) -> set[Cause]:
    """The causes at work that are neither proven nor possible."""
    return {Cause(each) for each in drawn.truth} - {Cause.NONE, *found.proven, *found.possible}


def table(runs: Sequence[Billed], look: Callable[[Billed], Bill]) -> Table:
    """By true cause: how often it was proven and possible, and what was proven though it is not at work."""
    rows = []
    for truth in dict.fromkeys(each.drawn.truth for each in runs):
        mine = [each for each in runs if each.drawn.truth == truth]
        words = [[look(each).verdict(cause) for cause in truth if cause is not Cause.NONE] for each in mine]
        counts = [
            sum(word in ("proven",) for each in words for word in each),
            sum("possible" in each for each in words),
        ]
        faults = Counter(str(cause) for each in mine for cause in wrong(each.drawn, look(each)))
        misses = sum(bool(missed(each.drawn, look(each))) for each in mine)
        rows.append([" + ".join(truth), len(mine), *counts, misses, ", ".join(f"{k} {n}" for k, n in faults.items())])
    return Table(["truth", "runs", "proven", "possible", "missed", "wrongly proven"], rows)


def main(runs: int = 50, seed: int = 20_261_125) -> None:
    """Print the tables."""
    single = bill_all([drawn for cause in Cause for drawn in drawn_for(cause, runs, seed)])
    for title, look in (
        ("with telemetry", lambda each: each.telemetry),
        ("host timers alone", lambda each: each.timers),
    ):
        print(f"\n{title}\n{table(single, look)}")
    pairs = bill_all(drawn_pairs(max(1, runs // 5), seed))
    print(f"\ntwo causes at once, with telemetry\n{table(pairs, lambda each: each.telemetry)}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
