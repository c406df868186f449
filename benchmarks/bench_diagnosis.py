"""How often the diagnosis is right: `python benchmarks/bench_diagnosis.py [RUNS] [SEED]` prints its confusion matrix.

Each cause is simulated RUNS times (50), in a scenario of that cause, with a severity, a noise and a length that are
drawn at random. Every run is judged three times: by its host timers alone, with telemetry, and, where that leaves it
open, with a trace of the same scenario's first frames, as `next_experiment` asks for. Pairs of causes are judged with
telemetry. `tests/diagnose/test_confusion.py` holds the figures to their limits.
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

from yolotrt_lab.causes.catalogue import SCENARIOS
from yolotrt_lab.causes.running import period_between_us, run_scenario
from yolotrt_lab.causes.scenario import Run
from yolotrt_lab.diagnose.findings import Diagnosis
from yolotrt_lab.diagnose.measurements import Measurements
from yolotrt_lab.diagnose.verdicts import judge
from yolotrt_lab.engine import open_engine
from yolotrt_lab.nsight.trace import Trace
from yolotrt_lab.recording import Recording
from yolotrt_lab.simulate.conditions import Conditions
from yolotrt_lab.simulate.preset import Preset
from yolotrt_lab.simulate.simulated import SimulatedDevice
from yolotrt_lab.tables import Table
from yolotrt_lab.telemetry import Telemetry
from yolotrt_lab.types import Cause, Fill

TRACED_FRAMES = 60
OPEN = "open"

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
class Judged:
    """The causes that were named and those left open: by host timers, with telemetry, and with a trace besides."""

    drawn: Drawn
    timers: Diagnosis | None
    telemetry: Diagnosis
    traced: Diagnosis


def drawn_for(cause: Cause, runs: int, seed: int) -> list[Drawn]:
    """`runs` runs of a cause's scenarios."""
    names = [name for name, each in SCENARIOS.items() if each.cause is cause and name not in _LEFT_OUT]
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
        tuple(SCENARIOS[name].cause for name in scenarios),
        severity=math.exp(generator.uniform(math.log(0.55), math.log(1.9))),
        jitter=generator.uniform(0.02, 0.12),
        frames=round(math.exp(generator.uniform(math.log(500), math.log(5_000)))),
        seed=generator.randrange(1 << 30),
    )


def judged(drawn: Drawn) -> Judged:
    """Simulate it and diagnose what was recorded."""
    if len(drawn.scenarios) == 2:
        found = judge(Measurements.of(_recorded_pair(drawn)))
        return Judged(drawn, None, _sent(found), _sent(found))
    recording = _recorded(drawn, _device(drawn))
    measurements = Measurements.of(recording)
    found = judge(measurements)
    traced = found if found.verdict is not None else judge(measurements, _trace(drawn))
    timers = judge(replace(measurements, telemetry={}))
    return Judged(drawn, _sent(timers), _sent(found), _sent(traced))


def _sent(found: Diagnosis) -> Diagnosis:
    """Without the series, which need not travel between processes."""
    return replace(found, growth={})


def _device(drawn: Drawn, **settings: bool) -> SimulatedDevice:
    return SimulatedDevice(Preset.load("h200"), jitter=drawn.jitter, seed=drawn.seed, **settings)


def _recorded(drawn: Drawn, device: SimulatedDevice) -> Recording:
    [name] = drawn.scenarios
    return run_scenario(name, device, open_engine(device), frames=drawn.frames, severity=drawn.severity)


def _trace(drawn: Drawn) -> Trace:
    device = _device(drawn, trace=True)
    _recorded(replace(drawn, frames=TRACED_FRAMES), device)
    return Trace.from_spans(device.spans, device.source)


def _recorded_pair(drawn: Drawn) -> Recording:
    """What a scenario's `prepare` puts into a run is collected from both and put together."""
    first, second = (SCENARIOS[name] for name in drawn.scenarios)
    [changes] = [changes for *names, changes in PAIRS if tuple(names) == drawn.scenarios]
    device = _device(drawn)
    settings = replace(first.settings, frames=drawn.frames, **changes)  # type: ignore[arg-type]
    run = Run(device, open_engine(device), settings, None, drawn.severity)
    if first.other is not None:
        share = drawn.severity / 2
        period = period_between_us(device, run.engine, None, settings, first.other, share=share)
        run.settings = replace(settings, period_us=period)
    hooks: list[Callable[[int], None]] = []
    conditions = Conditions()
    for scenario in (first, second):  # the second's conditions are used: what it does to them later must be seen
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
    record = first.record or second.record
    with run.stack as stack:
        sampled = stack.enter_context(Telemetry(device))
        recording = record(run) if record else run.loop().run()
    return replace(recording, columns=dict(recording.columns) | sampled.columns(recording.columns["done_ns"]))


def _call_all(hooks: Sequence[Callable[[int], None]], index: int) -> None:
    for hook in hooks:
        hook(index)


def judge_all(drawn: Sequence[Drawn], processes: int = 2) -> list[Judged]:
    """Judge the runs in processes of their own, in order."""
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(judged, drawn, chunksize=8))


def named(found: Diagnosis) -> str:
    """The causes that were named, as one word."""
    return " + ".join(sorted(found.causes)) or OPEN


def right(judged: Judged, found: Diagnosis) -> bool:
    """True where all causes at work were named and no other."""
    return set(found.causes) == set(judged.drawn.truth)


def wrong(judged: Judged, found: Diagnosis) -> bool:
    """True where a cause was named that is not at work."""
    return not set(found.causes) <= set(judged.drawn.truth)


def matrix(judged: Sequence[Judged], look: Callable[[Judged], Diagnosis]) -> Table:
    """Rows are what was true, columns what was named."""
    counts: dict[str, Counter[str]] = {}
    for each in judged:
        counts.setdefault(" + ".join(sorted(each.drawn.truth)), Counter())[named(look(each))] += 1
    names = dict.fromkeys([*counts, *(key for row in counts.values() for key in row)])
    columns = [name for name in names if any(row[name] for row in counts.values())]
    return Table(
        ["truth", *columns], [[truth, *(row[name] or "" for name in columns)] for truth, row in counts.items()]
    )


def main(runs: int = 50, seed: int = 20_261_125) -> None:
    """Print the matrices and what they add up to."""
    judged = judge_all([drawn for cause in Cause for drawn in drawn_for(cause, runs, seed)])
    looks: dict[str, Callable[[Judged], Diagnosis]] = {
        "host timers alone": lambda each: each.timers or each.telemetry,
        "with telemetry": lambda each: each.telemetry,
        "with telemetry, and a trace where that leaves it open": lambda each: each.traced,
    }
    for title, look in looks.items():
        print(f"\n{title}\n{matrix(judged, look)}")
        shares = [sum(test(each, look(each)) for each in judged) / len(judged) for test in (right, wrong)]
        print(f"right {shares[0]:.1%}, wrong {shares[1]:.1%}, left open {1 - sum(shares):.1%} of {len(judged)} runs")
    pairs = judge_all(drawn_pairs(max(1, runs // 5), seed))
    both = sum(set(each.drawn.truth) <= set(each.telemetry.causes) for each in pairs)
    print(f"\ntwo causes at once, with telemetry\n{matrix(pairs, lambda each: each.telemetry)}")
    print(f"both named in {both / len(pairs):.1%} of {len(pairs)} runs")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
