"""The simulated device's frames are all alike: a clock is found from a few of them."""

from __future__ import annotations

import pytest

from yolotrt_lab.causes.running import period_between_us


@pytest.fixture(autouse=True)
def clock_of_few_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scenario that measures its period runs 20 frames of each loop instead of 300."""
    monkeypatch.setitem(period_between_us.__kwdefaults__, "frames", 20)
