"""A check's device and its memory, megabytes of it, are in cycles: they go before the next test makes its own."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def freed() -> Iterator[None]:
    yield
    gc.collect(1)
