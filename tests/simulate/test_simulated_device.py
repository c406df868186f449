"""What the simulated device says it is."""

from __future__ import annotations

from dataclasses import replace

from yolotrt_lab.device import open_device
from yolotrt_lab.simulate.simulated import SimulatedDevice
from yolotrt_lab.types import SourceKind


def test_source_says_simulated_and_names_the_preset(device, preset):
    assert device.source.kind is SourceKind.SIMULATED
    assert device.source.stamp.startswith("simulated, preset round")
    other = SimulatedDevice(replace(preset, name="other"))
    assert "preset other" in other.source.stamp


def test_simulated_by_name_never_asks_for_a_gpu():
    assert open_device("simulated").kind == "simulated"
