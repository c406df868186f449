"""Tables of cases of which `make test` runs a sample: the others are exhaustive, and `make test-all` runs them too."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def sampled(cases: Iterable[Any], sample: Collection[Any] = (), every: int = 0) -> list[Any]:
    """The cases for `parametrize`: those of the sample, or every so manieth from the first on; others are exhaustive.

    A tuple is the values of several arguments.
    """
    cases = list(cases)
    assert all(each in cases for each in sample), f"the sample must be cases, got {sample}"
    kept = sample or cases[::every]
    return [_parameter(each, () if each in kept else pytest.mark.exhaustive) for each in cases]


def _parameter(case: Any, marks: Any) -> Any:
    return pytest.param(*case, marks=marks) if isinstance(case, tuple) else pytest.param(case, marks=marks)
