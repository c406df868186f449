"""What the host and the GPU do in a rung, as the simulated device has it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..devices import open_device
from ..devices.simulated import SimulatedDevice
from ..engines import open_engine
from ..loops import make_loop
from ..types import Source, Span
from .rungs import checked_rungs


def trace_rung(number: int, *, preset: str | Path = "h200", frames: int = 4) -> tuple[list[Span], Source]:
    """The spans of `frames` frames in steady state, cut where the window begins and ends, and where they come from.

    SettingsError for a rung that there is not.
    """
    (rung,) = checked_rungs([number])
    device = open_device("simulated", preset=preset, trace=True)
    assert isinstance(device, SimulatedDevice)
    in_flight = (rung.settings.collect_after + 1) * rung.batch
    settled = 12 * in_flight
    engine = open_engine(device, batch=rung.batch)
    settings = replace(rung.settings, frames=settled + frames + 3 * in_flight, warmup=0)
    done = make_loop(device, engine, settings).run().columns["done_ns"]
    begin, end = int(done[settled]), int(done[settled + frames])
    cut = [
        span._replace(start_ns=max(span.start_ns, begin), end_ns=min(span.end_ns, end))
        for span in device.spans
        if span.end_ns > begin and span.start_ns < end
    ]
    return cut, device.source
