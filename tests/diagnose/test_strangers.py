"""Series that no cause of the lab made: nothing is named but what the numbers say of themselves."""

from __future__ import annotations

import numpy as np
import pytest
from series import STAGES, loop, only

from yolotrt_lab.diagnose.measurements import Measurements
from yolotrt_lab.diagnose.verdicts import judge
from yolotrt_lab.types import TELEMETRY_COLUMNS, Cause

N = 1_000
SHAPES = {
    "white noise": lambda rng: np.abs(rng.normal(10, 3, N)),
    "heavy tails": lambda rng: 5 + np.abs(rng.standard_t(1.5, N)),
    "random walk": lambda rng: 50 + np.abs(np.cumsum(rng.normal(0, 1, N))),
    "slow wave": lambda rng: 10 + 3 * np.sin(np.arange(N) / 150 + rng.uniform(0, 6)) + rng.normal(0, 0.5, N),
    "constant": lambda rng: np.full(N, 7.0),
    "zero": lambda rng: np.zeros(N),
}
CALM = {Cause.NONE, Cause.WARM_UP}


def measured(name, values, telemetry=None):
    return Measurements({name: values * 1e6}, telemetry=telemetry or {})


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["latency", "frame", "synchronize", "infer", "download"])
def test_one_column_that_no_cause_made_names_no_cause(shape, name):
    for seed in range(4):
        found = judge(measured(name, SHAPES[shape](np.random.default_rng(seed))))
        assert set(found.causes) <= CALM, seed


@pytest.mark.parametrize("shape", SHAPES)
def test_stages_that_wander_each_for_itself_name_no_fault_of_the_gpu(shape):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        found = judge(loop(N, **{name: SHAPES[shape](rng) for name in STAGES}))
        assert set(found.causes) <= CALM | {Cause.PREPROCESS, Cause.PAGEABLE_OVERLOAD}, seed


def test_telemetry_without_a_number_is_telemetry_that_is_missing():
    nothing = {name: np.full(N, np.nan) for name in TELEMETRY_COLUMNS}
    climbs = np.linspace(1, 3, N)
    with_nothing, without = (judge(measured("synchronize", climbs, telemetry)) for telemetry in (nothing, {}))
    assert with_nothing.as_dict() == without.as_dict()
    assert len(without.missing) == 4


def test_telemetry_with_gaps_is_read_where_it_is():
    clock = np.linspace(1980, 660, N)
    clock[::3] = np.nan
    found = judge(measured("synchronize", 0.5 * 1980 / np.linspace(1980, 660, N), {"sm_clock_mhz": clock}))
    assert found.causes == (Cause.CLOCK_DROP,)


def test_frames_without_a_value_do_not_hide_the_others():
    whole = loop(N, preprocess=np.linspace(0.7, 1.7, N))
    times = {name: values.copy() for name, values in whole.times_ns.items()}
    times["preprocess"][::10] = np.nan
    found = judge(only(Measurements(times), "preprocess", "synchronize"))
    assert found.causes == (Cause.PREPROCESS,)


@pytest.mark.parametrize("frames", [1, 2, 7, 31])
def test_few_frames_have_no_shape_and_no_verdict(frames):
    found = judge(loop(frames))
    assert found.verdict is None
    assert any("too few" in each for each in found.missing)
    assert found.slow_ms > 0
